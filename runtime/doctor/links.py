"""Whether the root's file system makes links: tried in a folder that is made in `state/` and removed again.

* Tried only where this user may write and an install has been; nothing stays behind.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from manifests.finding import Finding, Subject
from runtime.links import Placer, Way
from runtime.root import Root

SUBJECT: Final = Subject("links")


@dataclass(frozen=True, slots=True)
class Links:
    """What worked."""

    hard: bool
    symbolic: bool
    reflink: bool


def look(root: Root) -> Iterator[Finding]:
    """Try, and judge."""
    if not root.state.is_dir() or not os.access(root.state, os.W_OK | os.X_OK):
        yield SUBJECT.note("links-not-tried", f"links were not tried: this user cannot write to {root.state}")
    else:
        yield from judge(attempt(root.state))
    blobs = root.path / "blobs"
    if blobs.is_dir() and root.generations.is_dir() and blobs.stat().st_dev != root.generations.stat().st_dev:
        yield SUBJECT.warning(
            "split-root",
            "blobs/ and generations/ are on two file systems: every large file takes its space twice",
            fix="mount one volume over the whole root",
        )


def attempt(folder: Path) -> Links:
    """What can be made in `folder`. Errors: `OSError`, `StorageError`; nothing stays behind."""
    with TemporaryDirectory(prefix=".doctor.", dir=folder) as made:
        place, placer = Path(made), Placer()
        (place / "file").write_bytes(b"x" * 4096)
        placer.link(place / "file", place / "hard")
        hard = placer.ways[Way.HARD_LINK] == 1
        placer.copy(place / "file", place / "copy")
        return Links(hard=hard, symbolic=_symbolic(place), reflink=placer.ways[Way.REFLINK] > 0)


def judge(found: Links) -> Iterator[Finding]:
    """What it means that these do or do not work."""
    if not found.hard:
        how = "cloned" if found.reflink else "copied: models take their space twice"
        say = SUBJECT.note if found.reflink else _costly
        yield say("no-hard-links", f"there are no hard links here; large files are {how}")
    if not found.symbolic:
        yield SUBJECT.note(
            "no-symbolic-links",
            "there are no symbolic links here: `current` is a file, and clients' variables name one generation",
            fix='eval "$(bundle env)" again after each install',
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
