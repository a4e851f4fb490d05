"""What is active: whether `current` leads to a generation, whether all of its files are there, and what lies about.

* Names and sizes only: nothing is hashed. `bundle install BUNDLE --recheck` hashes.
* A small file may have been rewritten by a client, as install allows; it must be there.
"""

import os
import shlex
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from manifests.digest import Digest
from manifests.errors import CorruptStoreError, listing
from manifests.finding import Finding, Subject
from manifests.locks import try_lock
from runtime import generations, kits
from runtime.doctor import access
from runtime.layouts.base import Entry, Generated, Pointer
from runtime.lines import Line
from runtime.root import Root

SUBJECT: Final = Subject("generation")
_MOST: Final = 3


@dataclass(slots=True)
class _Files:
    """What was seen of the files of a generation."""

    lost: list[str] = field(default_factory=list)
    """Missing, or of another length."""
    closed: set[Path] = field(default_factory=set)
    """What keeps this user from reading some."""
    copied: list[int] = field(default_factory=list)
    """Bytes of each large file that is no link to its blob."""


def look(root: Root, option: str) -> Iterator[Finding]:
    """Whether what is active is whole. `option` is what names the root in a command, or nothing."""
    again = f"bundle install BUNDLE --recheck{option}"
    if shut := access.closed(root.generations):
        yield access.unreadable(root.path, [shut])
        return
    try:
        number = root.current()
    except CorruptStoreError as error:
        yield SUBJECT.problem("current-broken", error.message, fix=f"{error.hint}: {again}")
        return
    if number is None:
        yield _nothing_active(root, option)
        return
    if shut := _closed_line(root.generation(number) / "lines"):
        yield access.unreadable(root.path, [shut])
        return
    try:
        lines = generations.read(root, number)
    except CorruptStoreError as error:
        yield SUBJECT.problem("generation-unreadable", error.message, fix=again)
        return
    yield from _judge(root, number, lines, again)
    for kit in kits.of_lines(root.generation(number), lines):  # whose files are files of the generation
        yield SUBJECT.fine("kit", f"{kit.line} brought the program itself, as the kit {kit.id}: {kit.directory}")
    yield from _blobs(root, lines, again)


def look_at_leftovers(root: Root) -> Iterator[Finding]:
    """What was set aside, and what killed installs left."""
    if os.access(root.quarantine, os.R_OK | os.X_OK) and (kept := sorted(root.quarantine.iterdir())):
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


def _nothing_active(root: Root, option: str) -> Finding:
    installs = len(list(root.ledger.glob("[0-9]*.json")))
    left = listing([str(number) for number in root.numbers()], most=_MOST) or "none"
    if installs:
        what = f"nothing is active, and the ledger knows of installs here, {installs} in all; generations left: {left}"
        return SUBJECT.problem("current-lost", what, fix=f"bundle install BUNDLE --recheck{option}")
    return SUBJECT.note("nothing-installed", "nothing is installed yet", fix=f"bundle install BUNDLE{option}")


def _judge(root: Root, number: int, lines: dict[str, Line], again: str) -> Iterator[Finding]:
    folder, entries = root.generation(number), list(generations.entries(lines))
    found = _observe(root, folder, entries)
    found.closed.update(filter(None, (access.closed(root.blob(digest)) for digest in _sizes(lines))))
    if found.closed:
        yield access.unreadable(root.path, found.closed)
    if found.lost:
        what = f"{len(found.lost)} files of generation {number} are missing or have another length: "
        yield SUBJECT.problem("generation-damaged", what + listing(found.lost, most=_MOST), fix=again)
    elif not found.closed and not _is_made_of(folder, entries):
        what = f"generation {number} was made of other lines than those that are left: {listing(lines) or 'none'}"
        yield SUBJECT.problem("lines-lost", what, fix=f"{again}, for each line that was here")
    elif not found.closed:
        models = sum(len(line.content.models) for line in lines.values())
        yield SUBJECT.fine("generation", f"generation {number} is active and whole: models {models}, by name and size")
    if found.copied:
        what = f"{len(found.copied)} large files are no links to their blobs: {sum(found.copied):,} bytes taken twice"
        yield SUBJECT.note("copied-files", what, fix="to copy a root with its links: `cp -a` or `rsync -aH`")


def _closed_line(folder: Path) -> Path | None:
    """What keeps this user from reading the lines: a folder that is closed would be taken for an empty one."""
    found = access.closed(folder)
    return found or next(filter(None, map(access.closed, sorted(folder.glob("*.json")))), None)


def _is_made_of(folder: Path, entries: list[Entry]) -> bool:
    """Whether the generation says that it was made of the lines that these entries follow from."""
    for entry in entries:
        if isinstance(entry, Generated) and entry.path == "generation.json":
            with (folder / entry.path).open("rb") as stream:
                return stream.read(len(entry.content) + 1) == entry.content
    return False


def _observe(root: Root, folder: Path, entries: list[Entry]) -> _Files:
    found = _Files()
    for entry in entries:
        path = folder / entry.path
        if (shut := access.closed(path)) is not None:
            found.closed.add(shut)
            continue
        linked = entry.instead if isinstance(entry, Pointer) else entry
        try:
            status = path.stat()
        except (FileNotFoundError, NotADirectoryError):
            found.lost.append(entry.path)
            continue
        if isinstance(linked, Generated) or linked.size <= generations.SMALL or linked.copied:
            continue
        if status.st_size != linked.size:
            found.lost.append(entry.path)
        elif not path.is_symlink() and _is_copy(status, root.blob(linked.digest)):
            found.copied.append(linked.size)
    return found


def _is_copy(status: os.stat_result, blob: Path) -> bool:
    """Whether a file is another one than its blob, where it could be the same."""
    try:
        other = blob.stat()
    except OSError:  # `blobs-missing`
        return False
    return status.st_dev == other.st_dev and status.st_ino != other.st_ino


def _blobs(root: Root, lines: dict[str, Line], again: str) -> Iterator[Finding]:
    missing, damaged = [], []
    for digest, size in _sizes(lines).items():
        try:
            status = root.blob(digest).stat()
        except (FileNotFoundError, NotADirectoryError):
            missing.append(digest.hex)
            continue
        except PermissionError:  # `root-unreadable`
            continue
        if status.st_size != size or not stat.S_ISREG(status.st_mode):
            damaged.append(digest.hex)
    if damaged:
        what = f"{len(damaged)} blobs have another length than they had: {listing(damaged, most=_MOST)}"
        yield SUBJECT.problem("blobs-damaged", what, fix=again)
    if missing:
        what = f"{len(missing)} blobs are missing: what is active works, the next install may not"
        yield SUBJECT.warning("blobs-missing", what, fix=again)


def _sizes(lines: dict[str, Line]) -> dict[Digest, int]:
    """The length of every blob that the lines name."""
    return {file.digest: file.size for line in lines.values() for file in line.content.files()}


def _leftovers(root: Root) -> Iterator[Path]:
    for folder in (root.path, root.ledger, root.generations, *_shards(root)):
        yield from folder.glob(".*.partial")


def _shards(root: Root) -> Iterator[Path]:
    yield from root.blobs.glob("??")
    yield from root.recipes.glob("??")


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
