"""Reading a file while it is downloaded: a reader in a thread of its own sees each byte once all before it are here.

* A reader gets a stream and the number of its bytes. It may be called anew, from the first byte on: when the file
  changed at its source, or when what was resumed turned out to be wrong. One that fails leaves nothing behind.
* The bytes come back out of the system's page cache: memory stays flat, and a slow reader never holds up the network.
"""

import hashlib
import io
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Condition
from typing import TYPE_CHECKING, BinaryIO, Final, Generic, Protocol, TypeAlias, TypeVar

from bundler.fetching.spans import Span, Spans
from manifests.digest import Digest
from manifests.errors import DigestMismatchError, StorageError
from manifests.publish import translated

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_LEAST: Final = 1 << 20
"""A smaller file is read when it is whole: a thread would cost more than it gains."""
_BUFFER: Final = 256 << 10
_HASHED: Final = 2 << 20
"""Bytes that are hashed at once: beyond `_BUFFER` they are read without another copy."""


class Read(Protocol):
    """What a reader gives."""

    @property
    def digest(self) -> Digest:
        """Of all that it read."""


R = TypeVar("R", bound=Read)
Reader: TypeAlias = Callable[[BinaryIO, int], R]


@dataclass(frozen=True, slots=True)
class Hashed:
    """Only the digest."""

    digest: Digest


def hashed(stream: BinaryIO, size: int) -> Hashed:
    """The reader that keeps nothing."""
    hasher, buffer = hashlib.sha256(), memoryview(bytearray(min(size, _HASHED) or 1))
    while count := stream.readinto(buffer):  # type: ignore[attr-defined]  # every binary stream of Python has it
        hasher.update(buffer[:count])
    return Hashed(Digest(hasher.digest()))


class _AbandonedError(Exception):
    """The reader's work is not wanted any more. Never leaves `Follower`."""


class Follower(Generic[R]):
    """The reader of one download, and how far it may read."""

    def __init__(self, target: Path, reader: Reader[R], check: Callable[[], None]) -> None:
        self._target = target
        self._reader = reader
        self._check = check
        self._arrivals: _Arrivals | None = None
        self._future: Future[R] | None = None

    def begin(self, spans: Spans, size: int) -> None:
        """The file has `size` bytes, and these of them are here; nothing happens if that was said before."""
        if self._arrivals is None:
            self._arrivals = _Arrivals(spans, size)
            if size >= _LEAST:
                pool = ThreadPoolExecutor(1, thread_name_prefix="reader")
                self._future = pool.submit(self._follow, self._arrivals, size)
                pool.shutdown(wait=False)

    def add(self, span: Span) -> None:
        """These bytes are here now. Errors: the reader's own, as soon as it failed."""
        if self._arrivals is not None:
            self._raise_failure()
            self._arrivals.add(span)

    def end(self, size: int) -> R:
        """What the reader gives, now that all `size` bytes are here. Errors: the reader's."""
        if self._future is None:
            return self._follow(_Arrivals(Spans([Span(0, size)]), size), size)
        return self._future.result()

    def abandon(self) -> None:
        """Return when nobody reads any more; what the reader did so far does not count."""
        if self._arrivals is not None:
            self._arrivals.abandon()
        if self._future is not None:
            with suppress(BaseException):
                self._future.result()
        self._arrivals = self._future = None

    def _raise_failure(self) -> None:
        """A wrong digest waits for `end`: only there is it known whether a fresh download may help."""
        error = self._future.exception() if self._future is not None and self._future.done() else None
        if error is not None and not isinstance(error, DigestMismatchError):
            raise error

    def _follow(self, arrivals: "_Arrivals", size: int) -> R:
        with translated(self._target), self._target.open("rb", buffering=0) as file:
            stream = io.BufferedReader(_Stream(file, arrivals, self._check), _BUFFER)
            return self._reader(stream, size)


class _Arrivals:
    """Which bytes are here; whoever reads waits for the next."""

    def __init__(self, spans: Spans, size: int) -> None:
        self._spans = Spans(spans)
        self._size = size
        self._changed = Condition()
        self._wanted = 0
        self._is_abandoned = False

    def add(self, span: Span) -> None:
        with self._changed:
            self._spans.add(span)
            if self._spans.reach >= self._wanted:
                self._changed.notify_all()

    def abandon(self) -> None:
        with self._changed:
            self._is_abandoned = True
            self._changed.notify_all()

    def beyond(self, at: int, most: int) -> int:
        """How far can be read once `most` bytes from `at` on are here, or all that there are: waking often is dear."""
        with self._changed:
            self._wanted = min(at + most, self._size)
            while not self._is_abandoned and self._spans.reach < self._wanted:
                self._changed.wait()
            if self._is_abandoned:
                raise _AbandonedError
            return self._spans.reach


class _Stream(io.RawIOBase):
    """The file as far as it is here."""

    def __init__(self, file: io.FileIO, arrivals: _Arrivals, check: Callable[[], None]) -> None:
        self._file = file
        self._arrivals = arrivals
        self._check = check
        self._at = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        view = memoryview(buffer)
        reach = self._arrivals.beyond(self._at, len(view))
        self._check()
        count = self._file.readinto(view[: reach - self._at])
        if count == 0 and reach > self._at:
            raise StorageError("a download became shorter while it was read")
        self._at += count
        return count
