"""What of a store may go, and its going: `gc`.

* Kept is what the given locks need, or those that the store knows: their blobs, and the chunks of these.
* Recipes go before chunks: killed anywhere, what is left is a whole store with some chunks that nobody names.
* It is alone in the store while it decides and while it removes: no build loses what it has just fetched.
* What is foreign stays, and is named.
"""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Final

from bundler.housekeeping.known import Known, State, given, known, owners, told
from bundler.housekeeping.shelf import Entry, Profile, Shelf
from bundler.housekeeping.stats import Amount, is_whole, lengths, recipes
from bundler.sources.wheel import METADATA
from manifests import index
from manifests.digest import ChunkAlgorithm
from manifests.errors import FormatError, ManifestError, UnsupportedFormatError
from manifests.locks import try_lock
from manifests.progress import Reporter
from manifests.publish import sync_folder, translated
from manifests.store import MEMBER_LIMIT, cleaning, decode_member, looking, member_name, read_file

_DAY: Final = 86_400
_WORK: Final = "clean the store"
_UNKNOWN: Final = "of no lock that is known here"


class Part(StrEnum):
    """What can go, in the order in which it goes."""

    RECIPES = "recipes"
    MEMBERS = "records of archives' members"
    INDEXES = "indexes"
    LOCKS = "records of locks that are gone"
    DOWNLOADS = "unfinished downloads"
    CHUNKS = "chunks"
    PROFILES = "chunks of another libzstd"
    LEFTOVERS = "leftovers of killed writers"


@dataclass(frozen=True, slots=True)
class Order:
    """What is asked for. `locks` are files and folders; with `everything`, no lock counts; `now` in seconds."""

    store: Path
    now: float
    locks: tuple[Path, ...] = ()
    everything: bool = False
    keep_days: int = 7
    """What was written in so many days stays, if it is an unfinished download, or a blob of no known lock."""


@dataclass(slots=True)
class Plan:
    """What goes and what stays. Amounts are files and bytes on the disk."""

    kept_locks: tuple[Known, ...] = ()
    other_locks: tuple[Known, ...] = ()
    """Known, and not counted: gone, or not given."""
    going: dict[Part, list[Entry]] = field(default_factory=lambda: {part: [] for part in Part})
    blobs: Counter[str] = field(default_factory=Counter)
    """How many blobs go, by `LINE: ITEM`."""
    kept_blobs: int = 0
    young_blobs: int = 0
    """Of no known lock, and kept because they are new: made by `kit`, or in a folder that is gone again."""
    kept_chunks: Amount = field(default_factory=Amount)
    kept_downloads: Amount = field(default_factory=Amount)
    foreign: tuple[Path, ...] = ()

    def amount(self, part: Part) -> Amount:
        """Of one part, what goes."""
        return Amount.of(entry.size for entry in self.going[part])

    @property
    def total(self) -> Amount:
        """All that goes."""
        return Amount.of(entry.size for entries in self.going.values() for entry in entries)


def plan(order: Order) -> Plan:
    """What would go now; nothing is changed, and builds may run.

    Errors: `ManifestError` if nothing would be kept, or a given lock cannot be read; those of `looking`;
    `StorageError`.
    """
    with looking(order.store):
        return _plan(order)


def collect(order: Order, agreed: Plan, reporter: Reporter) -> Plan:
    """Remove what may go and was `agreed` to, and say what that was.

    Errors: as `plan`; `BusyError` while anything uses the store.
    """
    shown = {entry.path for entries in agreed.going.values() for entry in entries}
    with cleaning(order.store):
        made = _plan(order)
        made.going = {part: [each for each in going if each.path in shown] for part, going in made.going.items()}
        reporter.started(_WORK, made.total.size)
        try:
            for part in Part:
                _remove(order.store, made.going[part], reporter)
        finally:
            reporter.finished(_WORK)
        return made


def _plan(order: Order) -> Plan:
    shelf = Shelf(order.store)
    shelf.look_around()
    used = list(known(shelf))
    kept = _kept(order, used)
    paths = {os.path.realpath(each.path) for each in kept}
    made = Plan(kept, tuple(each for each in used if os.path.realpath(each.path) not in paths))
    wanted = {digest for each in kept for digest in each.files}
    names = owners([*used, *kept])
    entries = list(shelf.recipes())
    young = set() if order.everything else {each.name for each in entries if each.modified > _limit(order)}
    young = young.difference(names, wanted)
    wanted |= young
    _plan_members(shelf, made, wanted)
    _plan_blobs(shelf, made, entries, wanted, names)
    made.young_blobs = len(young)
    _plan_indexes(shelf, made, {each.line for each in kept})
    _plan_locks(shelf, made, used)
    _plan_downloads(shelf, made, order)
    made.going[Part.LEFTOVERS] = [Entry(path.name, path, size, 0) for path, size in sorted(shelf.leftovers.items())]
    made.foreign = tuple(sorted(shelf.foreign))
    return made


def _kept(order: Order, used: Sequence[Known]) -> tuple[Known, ...]:
    """The locks that count. Errors: `ManifestError` if there are none, and nobody said that this is meant."""
    if order.everything:
        return ()
    if order.locks:
        return given(order.locks)
    kept = tuple(each for each in used if each.state is not State.GONE)
    if not kept:
        gone = f"the locks that it was used for are gone ({told(used)})" if used else "it knows no lock"
        hint = "name the locks to keep, or folders of them; --all removes everything"
        raise ManifestError(f"nothing of the store {order.store} would be kept: {gone}", hint=hint)
    return kept


def _plan_members(shelf: Shelf, made: Plan, wanted: set[str]) -> None:
    """Records of what is kept stay; with them a wheel's METADATA, or it would be fetched whole again for that alone."""
    metadata = member_name(METADATA)
    for _, records in shelf.members():
        blobs = {entry.path: _member_blob(entry.path) for entry in records}
        if any(blob in wanted for blob in blobs.values()):
            wanted.update(blob for path, blob in blobs.items() if path.name == metadata and blob)
        made.going[Part.MEMBERS] += (entry for entry in records if blobs[entry.path] not in wanted)


def _member_blob(path: Path) -> str:
    """The blob of a record in hex; empty for a damaged one."""
    try:
        return decode_member(read_file(path, limit=MEMBER_LIMIT), subject=str(path))[1].hex
    except (OSError, FormatError):
        return ""


def _plan_blobs(shelf: Shelf, made: Plan, entries: list[Entry], wanted: set[str], names: dict[str, str]) -> None:
    profiles = list(shelf.profiles())
    here = lengths(shelf, profiles)
    needed: dict[ChunkAlgorithm, set[bytes]] = {algorithm: set() for algorithm in ChunkAlgorithm}
    whole: set[str] = set()
    for digest, _, recipe in recipes(entry for entry in entries if entry.name in wanted):
        if recipe is not None and is_whole(recipe, here):  # what is not whole is fetched again as a whole
            whole.add(digest)
            needed[recipe.algorithm].update(chunk.digest for chunk in recipe.chunks)
    going = [entry for entry in entries if entry.name not in whole]
    made.going[Part.RECIPES] = going
    made.kept_blobs = len(whole)
    made.blobs.update(_group(names.get(entry.name)) for entry in going)
    kept: list[int] = []
    for folder, entry in _chunks(shelf, profiles):
        if not folder.live:
            made.going[Part.PROFILES].append(entry)
        elif bytes.fromhex(entry.name) in needed[folder.algorithm]:
            kept.append(entry.size)
        else:
            made.going[Part.CHUNKS].append(entry)
    made.kept_chunks = Amount.of(kept)


def _chunks(shelf: Shelf, profiles: Iterable[Profile]) -> Iterator[tuple[Profile, Entry]]:
    for folder in profiles:
        for entry in shelf.chunks(folder):
            yield folder, entry


def _group(name: str | None) -> str:
    """The line and the item of a file: `LINE: ITEM PACKAGE PATH` without its end."""
    return " ".join(name.split(" ")[:2]) if name else _UNKNOWN


def _plan_indexes(shelf: Shelf, made: Plan, lines: set[str]) -> None:
    """An index stays as long as its line: whoever has that bundle may still be sent what changed since."""
    for entry in shelf.indexes():
        try:
            line = index.decode(read_file(entry.path, limit=index.MAXIMUM_SIZE)).content.line
        except UnsupportedFormatError:  # a newer program's: not ours to judge
            continue
        except (OSError, FormatError):
            line = None
        if line not in lines:
            made.going[Part.INDEXES].append(entry)


def _plan_locks(shelf: Shelf, made: Plan, used: Sequence[Known]) -> None:
    gone = {each.record for each in used if each.state is State.GONE}
    made.going[Part.LOCKS] = [entry for entry in shelf.locks() if entry.path in gone]


def _plan_downloads(shelf: Shelf, made: Plan, order: Order) -> None:
    """A download that somebody may yet go on with, or is at, stays with all its files."""
    kept: list[int] = []
    for _, files in shelf.downloads():
        size = sum(entry.size for entry in files)
        touched = max(entry.modified for entry in files)
        is_young = size > 0 and not order.everything and touched > _limit(order)
        if is_young or any(_is_claimed(entry.path) for entry in files):
            kept.append(size)
        else:
            made.going[Part.DOWNLOADS] += files
    made.kept_downloads = Amount.of(kept)


def _limit(order: Order) -> float:
    """What was written since is young."""
    return order.now - order.keep_days * _DAY


def _is_claimed(path: Path) -> bool:
    """Whether a process holds the lock of a download, which lies beside it."""
    if path.suffix != ".lock":
        return False
    try:
        with path.open("rb") as stream:
            return not try_lock(stream.fileno(), exclusive=True)
    except OSError:
        return False


def _remove(store: Path, entries: Sequence[Entry], reporter: Reporter) -> None:
    """Remove, and return when it is on the disk: what comes after relies on it."""
    folders: set[Path] = set()
    for entry in entries:
        with translated(entry.path):
            if entry.path.is_dir() and not entry.path.is_symlink():
                continue  # only its name is one of ours: whatever lies in it is not
            entry.path.unlink(missing_ok=True)
        folders.add(entry.path.parent)
        reporter.advanced(_WORK, entry.size)
    for folder in sorted(folders):
        sync_folder(folder)
    for folder in sorted(folders, reverse=True):
        _remove_empty(store, folder)


def _remove_empty(store: Path, folder: Path) -> None:
    """Remove a folder that holds nothing any more, and those above it, but for the store's own."""
    with suppress(OSError):  # something is in it
        while store not in {folder, folder.parent}:
            folder.rmdir()
            folder = folder.parent
