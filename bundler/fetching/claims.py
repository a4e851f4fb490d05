"""Who may write a download: one process at a time, by a lock beside it that goes with the process that held it."""

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Self

from manifests.errors import BusyError
from manifests.locks import is_at, try_lock
from manifests.publish import translated


class Claim:
    """One process's right to a download: a lock beside it, which may be removed because each holder looks again."""

    def __init__(self, path: Path, descriptor: int, forget: Callable[[], None]) -> None:
        self._path = path
        self._descriptor = descriptor
        self._forget = forget

    @classmethod
    def take(cls, path: Path, forget: Callable[[], None], *, subject: str) -> Self:
        """The claim whose lock is `path`; `forget` removes what it is a claim on.

        Errors: `BusyError` while another process has it; `StorageError`.
        """
        while True:
            with translated(path):
                descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o644)
                try:
                    taken = try_lock(descriptor, exclusive=True)
                    current = taken and is_at(descriptor, path)
                except BaseException:
                    os.close(descriptor)
                    raise
            if current:
                return cls(path, descriptor, forget)
            os.close(descriptor)
            if not taken:
                raise BusyError(
                    f"another process is downloading {subject}", hint="wait until it has finished, then run this again"
                )

    def release(self) -> None:
        """Keep what is there for a later run."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def discard(self) -> None:
        """Remove what is there, and the lock with it."""
        try:
            if self._descriptor >= 0:
                self._forget()
                with suppress(OSError):  # Windows keeps a file that is open
                    self._path.unlink()
        finally:
            self.release()
