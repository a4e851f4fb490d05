"""Work that many threads ask for and one does."""

from collections.abc import Callable, Hashable
from threading import Lock
from typing import Generic, TypeVar

from manifests.errors import SourceError

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class Once(Generic[Key, Value]):
    """Each key's value is made by whoever asks first; the others wait. A `SourceError` is everybody's answer, too."""

    def __init__(self) -> None:
        self._guard = Lock()
        self._locks: dict[Key, Lock] = {}
        self._values: dict[Key, Value] = {}
        self._errors: dict[Key, SourceError] = {}

    def get(self, key: Key, make: Callable[[], Value]) -> Value:
        """The value of `key`, made by `make` if nobody made it yet."""
        with self._guard:
            lock = self._locks.setdefault(key, Lock())
        with lock:
            if key in self._errors:
                raise self._errors[key]
            if key not in self._values:
                try:
                    self._values[key] = make()
                except SourceError as error:
                    self._errors[key] = error
                    raise
            return self._values[key]

    def values(self) -> list[Value]:
        """All that was made so far."""
        with self._guard:
            return list(self._values.values())
