"""What was announced, what is at work and what is done, in numbers: what every way of showing progress counts by.

* Announced work ends when as many files have ended as were announced; only while it lasts do bytes count for the total.
* Work that begins again takes its bytes, and itself, back out of the total.
* Not safe for threads: who shares a tally guards it.
"""

from collections import deque
from dataclasses import dataclass, field
from typing import Final

_MEMORY: Final = 30.0
"""Seconds that a rate looks back."""


@dataclass(slots=True)
class Work:
    """One piece of work: `total` bytes, if that is known, of which `done` are. `since` is the time of its beginning."""

    name: str
    total: int | None
    since: float
    done: int = 0
    counted: bool = False
    """Whether its bytes are part of what was announced."""


@dataclass(slots=True)
class Tally:
    """Files and bytes: announced (`size` is None if not all sizes are known) and done; and what is at work now."""

    files: int = 0
    size: int | None = 0
    done_files: int = 0
    done: int = 0
    since: float = 0.0
    """The time of the announcement."""
    works: dict[str, Work] = field(default_factory=dict)
    _ended: dict[str, int] = field(default_factory=dict)

    @property
    def announced(self) -> bool:
        """Whether work that was announced is still to end."""
        return self.done_files < self.files

    @property
    def total(self) -> int | None:
        """The announced bytes; never less than are done."""
        return None if self.size is None else max(self.size, self.done)

    def expected(self, files: int, size: int | None, now: float) -> None:
        """More is to come; after all that came before has ended, counting begins anew."""
        if not self.announced:
            self.files, self.size, self.done_files, self.done, self.since = 0, 0, 0, 0, now
            self._ended.clear()
        self.files += files
        self.size = None if self.size is None or size is None else self.size + size

    def started(self, name: str, total: int | None, now: float) -> Work:
        """Work begins, perhaps not for the first time."""
        if (earlier := self.works.get(name)) is not None:
            self.done -= earlier.done if earlier.counted else 0
            earlier.done, earlier.total = 0, total
            return earlier
        if (bytes_before := self._ended.pop(name, None)) is not None:
            self.done -= bytes_before
            self.done_files -= 1
        work = Work(name, total, now, counted=self.announced)
        self.works[name] = work
        return work

    def advanced(self, name: str, size: int) -> Work | None:
        """More bytes are done; None for work that never began."""
        work = self.works.get(name)
        if work is not None:
            work.done += size
            if work.counted:
                self.done += size
        return work

    def finished(self, name: str) -> Work | None:
        """Work ends; announced work that never began, because it was there already, counts as a file as well."""
        work = self.works.pop(name, None)
        counted = self.announced and name not in self._ended if work is None else work.counted
        if counted:
            self._ended[name] = work.done if work else 0
            self.done_files += 1
        return work


class Rate:
    """Bytes a second over the last half a minute."""

    def __init__(self, done: int, now: float) -> None:
        self._seen: deque[tuple[float, int]] = deque([(now, done)])

    def at(self, done: int, now: float) -> float:
        """The rate, now that `done` bytes are done; 0 while nobody knows."""
        while len(self._seen) > 1 and now - self._seen[0][0] > _MEMORY:
            self._seen.popleft()
        then, before = self._seen[0]
        self._seen.append((now, done))
        return max(done - before, 0) / (now - then) if now > then else 0.0
