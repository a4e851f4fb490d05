"""Whether the root's file system makes links: tried in a folder that is made in `state/` and removed again.

* Tried only where this user may write and an install has been; nothing stays behind.
* One at a time: the folder `state/` itself is locked meanwhile, so that what a killed trial left can be told and swept.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from manifests.errors import BusyError, listing
from manifests.finding import Finding, Subject
from manifests.locks import lock_folder
from runtime.links import Placer, Way
from runtime.root import Root

SUBJECT: Final = Subject("links")
_PREFIX: Final = ".doctor."


@dataclass(frozen=True, slots=True)
class Links:
    """What worked."""

    hard: bool
    symbolic: bool
    reflink: bool


def look(root: Root, option: str) -> Iterator[Finding]:
    """Try, and judge. `option` is what names the root in a command, or nothing."""
    if not os.path.lexists(root.state):
        yield SUBJECT.note("links-not-tried", f"links were not tried: no install has made {root.state} yet")
    elif not os.path.isdir(root.state):  # noqa: PTH112 - False for a folder that may not be looked into
        yield SUBJECT.note("links-not-tried", f"links were not tried: {root.state} is not a folder")
    elif not os.access(root.state, os.W_OK | os.X_OK):
        yield SUBJECT.note("links-not-tried", f"links were not tried: this user cannot write to {root.state}")
    else:
        yield from _try(root.state, option)
    blobs = root.blobs.parent
    if blobs.is_dir() and root.generations.is_dir() and blobs.stat().st_dev != root.generations.stat().st_dev:
        yield SUBJECT.warning(
            "split-root",
            "blobs/ and generations/ are on two file systems: every large file takes its space twice",
            fix="mount one volume over the whole root",
        )


def attempt(folder: Path) -> Links:
    """What can be made in `folder`. Errors: `OSError`, `StorageError`; nothing stays behind."""
    with TemporaryDirectory(prefix=_PREFIX, suffix=".partial", dir=folder) as made:
        place, placer = Path(made), Placer()
        (place / "file").write_bytes(b"x" * 4096)
        placer.link(place / "file", place / "hard")
        hard = placer.ways[Way.HARD_LINK] == 1
        placer.copy(place / "file", place / "copy")
        return Links(hard=hard, symbolic=_symbolic(place), reflink=placer.ways[Way.REFLINK] > 0)


def _try(state: Path, option: str) -> Iterator[Finding]:
    with _alone(state) as is_alone:
        if is_alone is False:
            yield SUBJECT.note(
                "links-not-tried", "links were not tried: another `bundle doctor` does so at this moment"
            )
            return
        if is_alone and (left := sorted(state.glob(f"{_PREFIX}*"))):
            for folder in left:
                shutil.rmtree(folder, ignore_errors=True)
            what = f"a `bundle doctor` that was killed left {listing(path.name for path in left)}, removed now"
            yield SUBJECT.note("doctor-leftovers", what)
        yield from judge(attempt(state), option)


@contextmanager
def _alone(folder: Path) -> Iterator[bool | None]:
    """Whether this process has `folder` for itself meanwhile; None where a folder cannot be locked."""
    try:
        descriptor = lock_folder(Path(os.path.realpath(folder)), busy="")
    except BusyError:
        yield False
        return
    try:
        yield None if descriptor is None else True
    finally:
        if descriptor is not None:
            os.close(descriptor)


def judge(found: Links, option: str = "") -> Iterator[Finding]:
    """What it means that these do or do not work."""
    if not found.hard:
        how = "cloned" if found.reflink else "copied: models take their space twice"
        say = SUBJECT.note if found.reflink else _costly
        yield say("no-hard-links", f"there are no hard links here; large files are {how}")
    if not found.symbolic:
        yield SUBJECT.note(
            "no-symbolic-links",
            "there are no symbolic links here: `current` is a file, and clients' variables name one generation",
            fix=f'after each install: eval "$(bundle env{option})"',
        )
    if found.hard and found.symbolic:
        yield SUBJECT.fine("links", f"hard and symbolic links work{', reflinks too' if found.reflink else ''}")


def _costly(code: str, what: str) -> Finding:
    return SUBJECT.warning(code, what, fix="plan for twice the disk, or use a root on ext4 or xfs")


def _symbolic(place: Path) -> bool:
    try:
        (place / "symbolic").symlink_to("file")
    except (NotImplementedError, OSError):
        return False
    return True
