"""Locks between processes: shared or exclusive, on a file that stays; gone with the process that held them."""

import os
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

from manifests.errors import BusyError, StorageError

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl


class FileLock:
    """A lock on `path`, taken at once or refused with a `BusyError` that says `busy`."""

    def __init__(self, path: Path, *, exclusive: bool, busy: str) -> None:
        self._path = path
        self._exclusive = exclusive
        self._busy = busy
        self._descriptor = -1

    def acquire(self) -> None:
        """Take the lock; `BusyError` when another process holds it the other way."""
        try:
            self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o644)
        except OSError as error:
            raise StorageError(f"{self._path}: {error.strerror}") from error
        try:
            taken = try_lock(self._descriptor, exclusive=self._exclusive)
        except OSError as error:
            self.release()
            raise StorageError(f"{self._path} cannot be locked: {error.strerror}") from error
        if not taken:
            self.release()
            raise BusyError(self._busy, hint="wait until it has finished, then run this again")

    def release(self) -> None:
        """Give the lock back; closing the descriptor does it."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def is_at(descriptor: int, path: Path) -> bool:
    """Whether the open file is still the one under its name: who held it before may have removed it."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def try_lock(descriptor: int, *, exclusive: bool) -> bool:
    """Lock an open file until it is closed; False when another process holds it the other way.

    `OSError` where the file system has no locks.
    """
    try:
        if sys.platform == "win32":  # msvcrt knows only exclusive locks: a shared one excludes there as well
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(descriptor, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):  # what POSIX and Windows say of a lock that another process holds
        return False
    return True
