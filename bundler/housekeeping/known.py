"""The locks that a store was used for: remembered by where they lie, so that gc knows what is still needed.

* What a lock says now counts, and what it was last built from here: another branch may be checked out for an hour.
* One that cannot be read, or whose disk is not mounted, protects what it was built from.
* One that is gone may have been moved: gc asks how long ago it was last used, or seen by gc.
* A record that cannot be read may be of any lock: gc guesses nothing.
* A path says much of a machine: it stays in the store, and is never in a bundle.
"""

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Final

import msgspec

from bundler.housekeeping.shelf import Entry, Shelf
from manifests import canonical, lock
from manifests.errors import BundleError, FormatError, ManifestError, UnsupportedFormatError, listing
from manifests.lock import SUFFIX, Lock
from manifests.publish import publish, translated
from manifests.store import read_file

FORMAT: Final = 1
_MAXIMUM_SIZE: Final = 2 * lock.MAXIMUM_SIZE
_MAXIMUM_FOLDERS: Final = 20_000
"""Folders in and below one that is given, in which locks are looked for."""
_MAXIMUM_BEFORE: Final = 4096
"""Files that a lock had before and has no more, whose names are remembered: to say what it is that goes."""


class State(StrEnum):
    """Of a lock that was used here."""

    THERE = "there"
    GONE = "gone"
    AWAY = "on a disk that is not mounted"
    UNREADABLE = "unreadable"


class Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is remembered. `path` is that of the lock in hex, as a path need not be text; names by SHA-256 in hex.

    `mount` is where the disk of the lock was mounted, in hex as well. The file's time says when the lock was last seen.
    """

    before: dict[str, str]
    files: dict[str, str]
    format: int
    line: str
    path: str
    mount: str = ""


@dataclass(frozen=True, slots=True)
class Known:
    """A lock that counts, or did: `files` are the names of its files by SHA-256 in hex; no `record` if it was given.

    `built` are those that it had when it was last used here, `seen` when it last was, in seconds.
    """

    path: Path
    line: str
    state: State
    files: Mapping[str, str]
    before: Mapping[str, str]
    record: Path | None = None
    sequence: int | None = None
    reason: str = ""
    built: Mapping[str, str] = field(default_factory=dict)
    seen: float = 0

    @property
    def needed(self) -> set[str]:
        """The blobs that it protects."""
        return {*self.files, *self.built}


def register(store: Path, path: Path, locked: Lock) -> None:
    """Remember in the store at `store` that the lock in the file `path` is resolved or built here, now.

    The store is open meanwhile: between what was fetched and its record no gc comes.
    """
    place = os.fsencode(os.path.realpath(path))
    target = store / "locks" / hashlib.sha256(place).hexdigest()
    files = _names(locked)
    try:
        old = _read(target)
        before = {digest: name for digest, name in {**old.before, **old.files}.items() if digest not in files}
    except (OSError, FormatError):
        before = {}
    kept = dict(sorted(before.items())[:_MAXIMUM_BEFORE])
    content = canonical.encode(Record(kept, files, FORMAT, locked.line, place.hex(), _mount(place).hex()))
    try:
        unchanged = read_file(target, limit=len(content)) == content
    except OSError:
        unchanged = False
    if unchanged:
        touch(target)
    else:
        publish(target, content)


def touch(record: Path) -> None:
    """Note that the lock of a record was seen now. That of another user is left as it is."""
    with suppress(OSError):
        os.utime(record)


def known(shelf: Shelf) -> tuple[Known, ...]:
    """Every lock that was registered, as it is now; a record that cannot be read is passed over."""
    return remembered(shelf)[0]


def remembered(shelf: Shelf) -> tuple[tuple[Known, ...], tuple[Path, ...]]:
    """Every lock that was registered, as it is now, and the records that cannot be read."""
    found: list[Known] = []
    unread: list[Path] = []
    for entry in shelf.locks():
        try:
            found.append(_as_it_is(entry, check(entry.path)))
        except FileNotFoundError:  # removed at this moment
            continue
        except (OSError, FormatError):
            unread.append(entry.path)
    return tuple(sorted(found, key=lambda each: each.path)), tuple(unread)


def check(path: Path) -> Record:
    """The record in a file of the store. Errors: `FormatError`, `OSError`."""
    record = _read(path)
    _hex(record.mount, path)
    if hashlib.sha256(_hex(record.path, path)).hexdigest() != path.name:
        raise FormatError(f"{path}: the record of another lock than its name says")
    return record


def given(paths: Iterable[Path]) -> tuple[Known, ...]:
    """The locks in these files, and in these folders. Errors: `ManifestError` for one that cannot be read, or none."""
    found: dict[Path, Known] = {}
    for path in paths:
        with translated(path):
            is_folder = path.is_dir()
        named = [_given(Path(os.path.realpath(each)), searched=is_folder) for each in _candidates(path)]
        locks = [each for each in named if each is not None]
        if not locks:
            raise ManifestError(f"no *{SUFFIX} in {path}", hint="name the locks that are to be kept")
        found.update((each.path, each) for each in locks)
    return tuple(found.values())


def owners(locks: Iterable[Known]) -> dict[str, str]:
    """What each blob is, by its SHA-256 in hex: `LINE: ITEM PACKAGE PATH`. What is locked now goes before what was."""
    every = list(locks)
    names: dict[str, str] = {}
    for of in ([each.before for each in every], [each.files for each in every]):
        for each, files in zip(every, of, strict=True):
            names |= {digest: f"{each.line}: {name}" for digest, name in files.items()}
    return names


def _names(locked: Lock) -> dict[str, str]:
    names: dict[str, str] = {}
    for name, file in locked.files():
        names.setdefault(file.sha256, name)
    return names


def _read(path: Path) -> Record:
    content = read_file(path, limit=_MAXIMUM_SIZE)
    record = canonical.decode_as(content, Record, limit=_MAXIMUM_SIZE, subject=str(path))
    if record.format != FORMAT:
        raise UnsupportedFormatError(f"{path}: format {record.format}; this program reads {FORMAT}")
    return record


def _hex(text: str, subject: Path) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError as error:
        raise FormatError(f"{subject}: a path is in hex") from error


def _as_it_is(source: Entry, record: Record) -> Known:
    path = Path(os.fsdecode(bytes.fromhex(record.path)))
    was = Known(
        path,
        record.line,
        State.THERE,
        record.files,
        record.before,
        source.path,
        built=record.files,
        seen=source.modified,
    )
    try:
        now = _lock(path)
    except (FileNotFoundError, NotADirectoryError):
        return replace(was, state=State.AWAY if _is_away(record) else State.GONE)
    except (BundleError, OSError) as error:
        return replace(was, state=State.UNREADABLE, reason=str(error))
    before = {**record.before, **record.files}
    return replace(was, line=now.line, files=_names(now), before=before, sequence=now.sequence)


def _mount(path: bytes) -> bytes:
    """Where the disk is mounted on which a file lies: the root, if nowhere else."""
    folder = os.path.dirname(path)  # noqa: PTH120 - a path need not be text
    while folder != (above := os.path.dirname(folder)) and not os.path.ismount(folder):  # noqa: PTH120
        folder = above
    return folder


def _is_away(record: Record) -> bool:
    return bool(record.mount) and not os.path.ismount(bytes.fromhex(record.mount))


def _lock(path: Path) -> Lock:
    return lock.decode(_content(path), subject=str(path))


def _content(path: Path) -> bytes:
    if path.exists() and not path.is_file():  # a pipe would be waited for
        raise FormatError(f"{path} is not a file")
    return read_file(path, limit=lock.MAXIMUM_SIZE)


def _given(path: Path, *, searched: bool) -> Known | None:
    """A lock; None for a file of a folder that only has the name of one."""
    try:
        content = _content(path)
    except FormatError as error:
        raise ManifestError(error.message) from error
    except OSError as error:
        raise ManifestError(f"{path}: {error.strerror}") from error
    try:
        locked = lock.decode(content, subject=str(path))
    except (ManifestError, FormatError) as error:
        if searched and _is_foreign(content, path):
            return None
        hint = "mend it, or name each lock to keep" if searched else "a lock is what `bundle lock` writes"
        raise ManifestError(error.message, hint=hint) from error
    return Known(path, locked.line, State.THERE, _names(locked), {}, sequence=locked.sequence)


def _is_foreign(content: bytes, path: Path) -> bool:
    """Whether a file is whole JSON of another kind: other tools have locks too."""
    try:
        value = canonical.decode_any_spelling(content, limit=lock.MAXIMUM_SIZE, subject=str(path))
    except FormatError:
        return False
    return not (isinstance(value, dict) and {"format", "line", "sequence"} & value.keys())


def _candidates(path: Path) -> Iterator[Path]:
    """The file itself, or what is named as a lock in a folder and below it, wherever links lead."""
    if not path.is_dir():
        yield path
        return
    seen: set[tuple[int, int]] = set()
    for here, names, files in os.walk(path, onerror=_refuse, followlinks=True):
        with translated(Path(here)):
            status = Path(here).stat()
        if (status.st_dev, status.st_ino) in seen:
            names.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        if len(seen) > _MAXIMUM_FOLDERS:
            raise ManifestError(f"{path} has more than {_MAXIMUM_FOLDERS} folders", hint="name the locks themselves")
        names.sort()
        yield from (Path(here, name) for name in sorted(files) if name.lower().endswith(SUFFIX))


def _refuse(error: OSError) -> None:
    with translated(Path(error.filename)):
        raise error


def told(locks: Iterable[Known]) -> str:
    """Their paths, for a message."""
    return listing(str(each.path) for each in locks)
