"""The locks that a store was used for: remembered by where they lie, so that gc knows what is still needed.

* What a lock says now counts, not what it said when it was built. One that is gone protects nothing.
* One that is there and cannot be read protects what it was built from: nothing is lost to a merge that is under way.
* A path says much of a machine: it stays in the store, and is never in a bundle.
"""

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

import msgspec

from bundler.housekeeping.shelf import Shelf
from manifests import canonical, lock
from manifests.errors import BundleError, FormatError, ManifestError, UnsupportedFormatError, listing
from manifests.lock import Lock
from manifests.publish import publish, translated
from manifests.store import read_file

FORMAT: Final = 1
SUFFIX: Final = ".lock.json"
_MAXIMUM_SIZE: Final = 2 * lock.MAXIMUM_SIZE
_MAXIMUM_DEPTH: Final = 8
"""Folders below one that is given, in which locks are looked for."""
_MAXIMUM_FOLDERS: Final = 20_000
_MAXIMUM_BEFORE: Final = 4096
"""Files that a lock had before and has no more, whose names are remembered: to say what it is that goes."""


class State(StrEnum):
    """Of a lock that was used here."""

    THERE = "there"
    GONE = "gone"
    UNREADABLE = "unreadable"


class Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is remembered. `path` is that of the lock in hex, as a path need not be text; names by SHA-256 in hex."""

    before: dict[str, str]
    files: dict[str, str]
    format: int
    line: str
    path: str


@dataclass(frozen=True, slots=True)
class Known:
    """A lock that counts, or did: `files` are the names of its files by SHA-256 in hex; no `record` if it was given."""

    path: Path
    line: str
    state: State
    files: Mapping[str, str]
    before: Mapping[str, str]
    record: Path | None = None
    sequence: int | None = None
    reason: str = ""


def register(store: Path, path: Path, locked: Lock) -> None:
    """Remember in the store at `store` that the lock in the file `path` was resolved or built here."""
    place = os.fsencode(os.path.realpath(path))
    target = store / "locks" / hashlib.sha256(place).hexdigest()
    files = _names(locked)
    try:
        old = _read(target)
        before = {digest: name for digest, name in {**old.before, **old.files}.items() if digest not in files}
    except (OSError, FormatError):
        before = {}
    kept = dict(sorted(before.items())[:_MAXIMUM_BEFORE])
    content = canonical.encode(Record(kept, files, FORMAT, locked.line, place.hex()))
    try:
        unchanged = read_file(target, limit=len(content)) == content
    except OSError:
        unchanged = False
    if not unchanged:
        publish(target, content)


def known(shelf: Shelf) -> tuple[Known, ...]:
    """Every lock that was registered, as it is now; a record that cannot be read names nothing, and is passed over."""
    found: list[Known] = []
    for entry in shelf.locks():
        with suppress(OSError, FormatError):
            found.append(_as_it_is(entry.path, check(entry.path)))
    return tuple(sorted(found, key=lambda each: each.path))


def check(path: Path) -> Record:
    """The record in a file of the store. Errors: `FormatError`, `OSError`."""
    record = _read(path)
    if hashlib.sha256(_place(record, path)).hexdigest() != path.name:
        raise FormatError(f"{path}: the record of another lock than its name says")
    return record


def given(paths: Iterable[Path]) -> tuple[Known, ...]:
    """The locks in these files, and in these folders. Errors: `ManifestError` for one that cannot be read, or none."""
    found: dict[Path, Known] = {}
    for path in paths:
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


def _place(record: Record, subject: Path) -> bytes:
    try:
        return bytes.fromhex(record.path)
    except ValueError as error:
        raise FormatError(f"{subject}: a path is in hex") from error


def _as_it_is(source: Path, record: Record) -> Known:
    path = Path(os.fsdecode(_place(record, source)))
    try:
        now = _lock(path)
    except (FileNotFoundError, NotADirectoryError):
        return Known(path, record.line, State.GONE, {}, {**record.before, **record.files}, source)
    except (BundleError, OSError) as error:
        return Known(path, record.line, State.UNREADABLE, record.files, record.before, source, reason=str(error))
    return Known(path, now.line, State.THERE, _names(now), {**record.before, **record.files}, source, now.sequence)


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
    return not (isinstance(value, dict) and {"line", "sequence"} & value.keys())


def _candidates(path: Path) -> Iterator[Path]:
    """The file itself, or what is named as a lock in a folder and below it; links to folders are not followed."""
    if not path.is_dir():
        yield path
        return
    for number, (here, names, files) in enumerate(os.walk(path, onerror=_refuse)):
        if number >= _MAXIMUM_FOLDERS:
            raise ManifestError(f"{path} has more than {_MAXIMUM_FOLDERS} folders", hint="name the locks themselves")
        names[:] = sorted(names) if len(Path(here).relative_to(path).parts) < _MAXIMUM_DEPTH else []
        yield from (Path(here, name) for name in sorted(files) if name.endswith(SUFFIX))


def _refuse(error: OSError) -> None:
    with translated(Path(error.filename)):
        raise error


def told(locks: Iterable[Known]) -> str:
    """Their paths, for a message."""
    return listing(str(each.path) for each in locks)
