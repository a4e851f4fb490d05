"""What is active: whether `current` leads to a generation, whether all of its files are there, and what lies about.

* Names and sizes only: nothing is hashed. `bundle install BUNDLE --recheck` hashes.
* A small file may have been rewritten by a client, as install allows; it must be there.
"""

import os
import shlex
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from manifests.errors import CorruptStoreError, listing
from manifests.finding import Finding, Subject
from manifests.locks import try_lock
from runtime import generations
from runtime.layouts.base import Entry, Generated, Pointer
from runtime.lines import Line
from runtime.root import Root

SUBJECT: Final = Subject("generation")
_MOST: Final = 3
_AGAIN: Final = "bundle install BUNDLE --recheck"


def look(root: Root) -> Iterator[Finding]:
    """Whether what is active is whole."""
    try:
        number = root.current()
    except CorruptStoreError as error:
        yield SUBJECT.problem("current-broken", error.message, fix=error.hint)
        return
    if number is None:
        yield SUBJECT.note("nothing-installed", "nothing is installed yet", fix="bundle install BUNDLE")
        return
    try:
        lines = generations.read(root, number)
    except CorruptStoreError as error:
        yield SUBJECT.problem("generation-unreadable", error.message, fix=error.hint or _AGAIN)
        return
    lost = [path for entry in generations.entries(lines) for path in _lost(root.generation(number), entry)]
    if lost:
        what = f"{len(lost)} files of generation {number} are missing or have another length: "
        yield SUBJECT.problem("generation-damaged", what + listing(lost, most=_MOST), fix=_AGAIN)
    else:
        models = sum(len(line.content.models) for line in lines.values())
        yield SUBJECT.fine("generation", f"generation {number} is active and whole: models {models}, by name and size")
    yield from _blobs(root, lines)


def look_at_leftovers(root: Root) -> Iterator[Finding]:
    """What was set aside, and what killed installs left."""
    if root.quarantine.is_dir() and (kept := sorted(root.quarantine.iterdir())):
        yield SUBJECT.warning(
            "quarantine",
            f"{len(kept)} damaged files were set aside: a disk that does so once may do so again",
            fix=f"look at the disk's health; then rm -r {shlex.quote(str(root.quarantine))}",
        )
    if _is_busy(root.state / "lock"):
        yield SUBJECT.note("busy", "another command is changing this root at this moment")
        return
    if left := sorted(path.name for path in _leftovers(root)):
        yield SUBJECT.note(
            "leftovers",
            f"a killed install left {len(left)} unfinished files or folders: {listing(left, most=_MOST)}",
            fix="the next `bundle install` removes them",
        )


def _lost(folder: Path, entry: Entry) -> Iterator[str]:
    """The path of `entry` if it is not there, or has not the length that it must have."""
    linked = entry.instead if isinstance(entry, Pointer) else entry
    try:
        length = (folder / entry.path).stat().st_size
    except (FileNotFoundError, NotADirectoryError):
        yield entry.path
        return
    if not isinstance(linked, Generated) and linked.size > generations.SMALL and length != linked.size:
        yield entry.path


def _blobs(root: Root, lines: dict[str, Line]) -> Iterator[Finding]:
    sizes = {file.digest: file.size for line in lines.values() for file in line.content.files()}
    missing, damaged = [], []
    for digest, size in sizes.items():
        try:
            status = root.blob(digest).stat()
        except FileNotFoundError:
            missing.append(digest.hex)
            continue
        if status.st_size != size or not stat.S_ISREG(status.st_mode):
            damaged.append(digest.hex)
    if damaged:
        what = f"{len(damaged)} blobs have another length than they had: {listing(damaged, most=_MOST)}"
        yield SUBJECT.problem("blobs-damaged", what, fix=_AGAIN)
    if missing:
        what = f"{len(missing)} blobs are missing: what is active works, the next install may not"
        yield SUBJECT.warning("blobs-missing", what, fix=_AGAIN)


def _leftovers(root: Root) -> Iterator[Path]:
    for folder in (root.path, root.ledger, root.generations, *_shards(root)):
        yield from folder.glob(".*.partial")


def _shards(root: Root) -> Iterator[Path]:
    yield from (root.path / "blobs" / "sha256").glob("??")
    yield from (root.path / "recipes").glob("??")


def _is_busy(lock: Path) -> bool:
    """Whether another process holds the lock; it is not made if it is not there."""
    try:
        descriptor = os.open(lock, os.O_RDONLY)
    except OSError:
        return False
    try:
        return not try_lock(descriptor, exclusive=False)
    finally:
        os.close(descriptor)
