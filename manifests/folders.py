"""A folder that is replaced whole: the old one has the name until the new one does.

* What is being written is called `.NAME.partial`, what is set aside `.NAME.replaced`; both are gone afterwards.
* One writer of a name at a time: it holds a lock on the folder that it writes, which goes when its process does.
* Nothing is written through a link that somebody planted under those names.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from manifests.errors import BusyError, StorageError
from manifests.locks import lock_folder
from manifests.publish import make_folder, sync_folder, translated

_MODE: Final = 0o755


@contextmanager
def replacing_folder(folder: Path) -> Iterator[Path]:
    """A new, empty folder beside `folder` for the block to fill; it takes the place of `folder` at the end.

    Whoever calls this has looked at what is there now; a link stays, and what it leads to is replaced. Killed anywhere,
    the old folder or the new one has the name, or the next call gives it back to the old one.
    Errors: `BusyError` while another process writes the same folder; `StorageError`.
    """
    target = Path(os.path.realpath(folder))
    if not folder.name or target.is_mount():
        raise StorageError(f"{folder} cannot be replaced as a whole", hint="name a new folder in it")
    fresh, old = (target.with_name(f".{target.name}.{state}") for state in ("partial", "replaced"))
    with translated(folder):
        make_folder(target.parent)
        with _claimed(fresh, folder):
            _give_back(old, target)  # killed between the two renames below
            try:
                yield fresh
                if target.exists():
                    _clear(old)
                    target.rename(old)
                fresh.chmod(_MODE)
                fresh.rename(target)
                sync_folder(target.parent)
                _clear(old)
            finally:
                _clear(fresh)
                _give_back(old, target)


@contextmanager
def _claimed(fresh: Path, folder: Path) -> Iterator[None]:
    """`fresh` is a new folder, locked by this process; what a killed one left there is gone."""
    busy = f"another process is writing {folder}"
    before = lock_folder(fresh, busy=busy)
    try:
        _clear(fresh)
        try:
            fresh.mkdir()
        except FileExistsError as error:
            raise BusyError(busy, hint="wait until it has finished, then run this again") from error
        mine = lock_folder(fresh, busy=busy)
    finally:
        _close(before)
    try:
        yield
    finally:
        _close(mine)


def _close(descriptor: int | None) -> None:
    if descriptor is not None:
        os.close(descriptor)


def _give_back(old: Path, target: Path) -> None:
    if old.is_dir() and not old.is_symlink() and not os.path.lexists(target):
        old.rename(target)


def _clear(leftover: Path) -> None:
    """Remove what a killed process left under this name; a link that somebody planted there is not followed."""
    if leftover.is_symlink() or leftover.is_file():
        leftover.unlink()
    elif leftover.exists():
        shutil.rmtree(leftover)
