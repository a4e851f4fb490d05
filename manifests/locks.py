"""Locks between processes, gone with the process that held them: on a file that stays, or on a folder itself."""

import os
import sys
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from manifests.errors import BusyError, StorageError

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

_WAIT: Final = "wait until it has finished, then run this again"


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
            raise BusyError(self._busy, hint=_WAIT)

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


def lock_folder(folder: Path, *, busy: str) -> int | None:
    """A descriptor that holds the exclusive lock of `folder` until it is closed; `BusyError` if another process does.

    None where there is nothing to hold: on Windows, on a file system without locks, and for what is no folder, or one
    that may not be read. A link is not followed, and a pipe is not opened: that would wait for its writer.
    """
    if sys.platform == "win32":
        return None
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        is_ours = try_lock(descriptor, exclusive=True) and is_at(descriptor, folder)
    except OSError:
        os.close(descriptor)
        return None
    if not is_ours:
        os.close(descriptor)
        raise BusyError(busy, hint=_WAIT)
    return descriptor


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
