"""What of a store may go, and its going: `gc`.

* Kept is what the given locks need, or those that the store knows: their blobs, and the chunks of these, also those
  that only another libzstd's folder has, and those of a blob that has lost others: its disk may not be mounted.
* What cannot be judged (a record that is damaged, or a newer program's) stops it; a lock that is gone counts for a
  while.
* Recipes go before chunks: killed anywhere, what is left is a whole store with some chunks that nobody names.
* It is alone in the store while it decides and while it removes: no build loses what it has just fetched.
* What is foreign stays, and is named.
"""

import os
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Final

from bundler.housekeeping.known import Known, State, check, given, owners, remembered, told, touch
from bundler.housekeeping.shelf import Entry, Shelf
from bundler.housekeeping.stats import Amount, is_whole, lengths, recipes
from bundler.sources.wheel import METADATA
from manifests import index, member_record
from manifests.chunk_file import HEAD_SIZE
from manifests.digest import ChunkAlgorithm
from manifests.errors import CorruptStoreError, FormatError, ManifestError, UnsupportedFormatError, listing
from manifests.locks import try_lock
from manifests.progress import Reporter
from manifests.publish import sync_folder, translated
from manifests.store import cleaning, is_lost, looking, read_file

_DAY: Final = 86_400
_WORK: Final = "clean the store"
_THREADS: Final = 8
"""That remove files: a disk takes several at once, and is waited for most of the time."""
_AT_ONCE: Final = 1024
"""Files that are given to the threads before it is looked how they fared."""
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
    """What was written in so many days stays, if it is an unfinished download, an index, or a blob of no known lock; so
    does what a lock needs that is gone, and was used or seen in so many days."""


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
    outdated_chunks: Amount = field(default_factory=Amount)
    """Kept, and of another libzstd: the next build encodes them anew."""
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

    Errors: `ManifestError` if nothing would be kept, or a given lock cannot be read; `CorruptStoreError`,
    `UnsupportedFormatError` if it is not known of a lock what it needs; those of `looking`; `StorageError`.
    """
    with looking(order.store):
        return _plan(order)


def collect(order: Order, agreed: Plan, reporter: Reporter) -> Plan:
    """Remove what may go and was `agreed` to, and say what that was.

    Errors: as `plan`; `BusyError` while anything uses the store.
    """
    shown = {entry.path for entries in agreed.going.values() for entry in entries}
    with cleaning(order.store):
        made = _plan(order, shown)
        made.going = {part: [each for each in going if each.path in shown] for part, going in made.going.items()}
        for each in made.kept_locks:
            if each.record and each.state is State.THERE:
                touch(each.record)
        reporter.started(_WORK, made.total.size)
        try:
            for part in Part:
                _remove(order.store, made.going[part], reporter)
        finally:
            reporter.finished(_WORK)
        return made


def _plan(order: Order, shown: Collection[Path] | None = None) -> Plan:
    """What may go. Of the recipes only those that were `shown`, if any were: what they name stays with the others."""
    shelf = Shelf(order.store)
    shelf.look_around()
    used, unread = remembered(shelf)
    if unread and not (order.everything or order.locks):
        _refuse(unread)
    kept = _kept(order, used)
    paths = {os.path.realpath(each.path) for each in kept}
    made = Plan(kept, tuple(each for each in used if os.path.realpath(each.path) not in paths))
    wanted: set[str] = set().union(*(each.needed for each in kept))
    names = owners([*used, *kept])
    entries = list(shelf.recipes())
    young = set() if order.everything else {each.name for each in entries if each.modified > _limit(order)}
    young = young.difference(names, wanted)
    wanted |= young
    if shown is not None:
        wanted |= {each.name for each in entries if each.path not in shown}
    _plan_members(shelf, made, wanted)
    _plan_blobs(shelf, made, entries, wanted, names)
    made.young_blobs = len(young)
    _plan_indexes(shelf, made, order, {each.line for each in kept})
    _plan_locks(shelf, made, order, used)
    _plan_downloads(shelf, made, order, is_alone=shown is not None)
    made.going[Part.LEFTOVERS] = [Entry(path.name, path, size, 0) for path, size in sorted(shelf.leftovers.items())]
    made.foreign = tuple(sorted(shelf.foreign))
    return made


def _kept(order: Order, used: Sequence[Known]) -> tuple[Known, ...]:
    """The locks that count. Errors: `ManifestError` if there are none, and nobody said that this is meant."""
    if order.everything:
        return ()
    if order.locks:
        named = {os.path.realpath(each.path): each for each in (*_below(order, used), *given(order.locks))}
        return tuple(named.values())
    kept = tuple(each for each in used if _counts(each, order))
    if not kept:
        gone = f"the locks that it was used for are gone ({told(used)})" if used else "it knows no lock"
        hint = "name the locks to keep, or folders of them; --all removes everything"
        raise ManifestError(f"nothing of the store {order.store} would be kept: {gone}", hint=hint)
    return kept


def _counts(known: Known, order: Order) -> bool:
    """Whether a lock protects anything: one that is gone does for a while, as it may have been moved."""
    return known.state is not State.GONE or known.seen > _limit(order)


def _below(order: Order, used: Sequence[Known]) -> Iterator[Known]:
    """The known locks in the folders that were given: they may be called otherwise than locks are."""
    folders = [Path(os.path.realpath(path)) for path in order.locks if path.is_dir()]
    yield from (each for each in used if any(map(each.path.is_relative_to, folders)) and _counts(each, order))


def _refuse(unread: Sequence[Path]) -> None:
    what = f"not known what locks need: {listing(str(path) for path in unread)} cannot be read"
    for path in unread:
        try:
            check(path)
        except UnsupportedFormatError as error:
            hint = "use the newer program, or name the locks to keep, or folders of them"
            raise UnsupportedFormatError(f"{what}; it is a newer program's", hint=hint) from error
        except (FormatError, OSError):
            continue
    hint = "name the locks to keep, or `bundle store verify --remove`, then lock or build anew what is to be kept"
    raise CorruptStoreError(what, hint=hint)


def _plan_members(shelf: Shelf, made: Plan, wanted: set[str]) -> None:
    """Records of what is kept stay; with them a wheel's METADATA, or it would be fetched whole again for that alone."""
    metadata = member_record.name_of(METADATA)
    for _, records in shelf.members():
        blobs = {entry.path: _member_blob(entry.path) for entry in records}
        if any(blob in wanted for blob in blobs.values()):
            wanted.update(blob for path, blob in blobs.items() if path.name == metadata and blob)
        made.going[Part.MEMBERS] += (entry for entry in records if blobs[entry.path] not in wanted)


def _member_blob(path: Path) -> str:
    """The blob of a record in hex; empty for a damaged one."""
    try:
        return member_record.decode(read_file(path, limit=member_record.MAXIMUM_SIZE), subject=str(path))[1].hex
    except (OSError, FormatError):
        return ""


def _plan_blobs(shelf: Shelf, made: Plan, entries: list[Entry], wanted: set[str], names: dict[str, str]) -> None:
    profiles = list(shelf.profiles())
    here = lengths(shelf, profiles)
    needed: dict[ChunkAlgorithm, set[bytes]] = {algorithm: set() for algorithm in ChunkAlgorithm}
    readable: set[str] = set()
    for digest, _, recipe in recipes(entry for entry in entries if entry.name in wanted):
        if recipe is not None:
            readable.add(digest)
            needed[recipe.algorithm].update(chunk.digest for chunk in recipe.chunks)
            made.kept_blobs += is_whole(recipe, here)
    if not readable and entries and wanted:
        what = f"nothing of the store {shelf.path} would be kept: it has nothing of what the locks need"
        raise ManifestError(what, hint="is this the store that they were built with? --all removes everything")
    going = [entry for entry in entries if entry.name not in readable]
    made.going[Part.RECIPES] = going
    made.blobs.update(_group(names.get(entry.name)) for entry in going)
    kept: list[int] = []
    outdated: list[int] = []
    for folder in profiles:
        live, wants = here.get(folder.algorithm, {}), needed[folder.algorithm]
        for entry in shelf.chunks(folder):
            chunk = bytes.fromhex(entry.name)
            if folder.live and chunk in wants:
                kept.append(entry.size)
            elif not folder.live and chunk in wants and live.get(chunk, 0) <= HEAD_SIZE:
                outdated.append(entry.size)
            else:
                made.going[Part.CHUNKS if folder.live else Part.PROFILES].append(entry)
    made.kept_chunks, made.outdated_chunks = Amount.of(kept), Amount.of(outdated)


def _group(name: str | None) -> str:
    """The line and the item of a file: `LINE: ITEM PACKAGE PATH` without its end."""
    return " ".join(name.split(" ")[:2]) if name else _UNKNOWN


def _plan_indexes(shelf: Shelf, made: Plan, order: Order, lines: set[str]) -> None:
    """An index stays as long as its line: whoever has that bundle may still be sent what changed since."""
    for entry in shelf.indexes():
        if not order.everything and (entry.modified > _limit(order) or not _is_of_other_line(entry.path, lines)):
            continue
        made.going[Part.INDEXES].append(entry)


def _is_of_other_line(path: Path, lines: set[str]) -> bool:
    """Whether an index is of none of these lines, or damaged; one that a newer program wrote is not ours to judge."""
    try:
        return index.decode(read_file(path, limit=index.MAXIMUM_SIZE)).content.line not in lines
    except UnsupportedFormatError:
        return False
    except FormatError:
        return True
    except OSError as error:
        return is_lost(error)


def _plan_locks(shelf: Shelf, made: Plan, order: Order, used: Sequence[Known]) -> None:
    gone = {each.record for each in used if not _counts(each, order)}
    made.going[Part.LOCKS] = [entry for entry in shelf.locks() if entry.path in gone]


def _plan_downloads(shelf: Shelf, made: Plan, order: Order, *, is_alone: bool) -> None:
    """A download that somebody may yet go on with, or is at, stays with all its files.

    To ask whether somebody is at it takes its lock for a moment: nobody does that beside a build, which would fail.
    """
    kept: list[int] = []
    for _, files in shelf.downloads():
        size = sum(entry.size for entry in files)
        touched = max(entry.modified for entry in files)
        is_young = size > 0 and not order.everything and touched > _limit(order)
        if is_young or (is_alone and any(_is_claimed(entry.path) for entry in files)):
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
    folders = {entry.path.parent for entry in entries}
    with ThreadPoolExecutor(_THREADS) as pool:
        for start in range(0, len(entries), _AT_ONCE):
            some = entries[start : start + _AT_ONCE]
            for entry, _ in zip(some, pool.map(_unlink, some), strict=True):
                reporter.advanced(_WORK, entry.size)
    for folder in sorted(folders):
        sync_folder(folder)
    for folder in sorted(folders, reverse=True):
        _remove_empty(store, folder)


def _unlink(entry: Entry) -> None:
    with translated(entry.path):
        if entry.path.is_symlink() or not entry.path.is_dir():  # only the name of a folder is ours: not what lies in it
            entry.path.unlink(missing_ok=True)


def _remove_empty(store: Path, folder: Path) -> None:
    """Remove a folder that holds nothing any more, and those above it, but for the store's own."""
    with suppress(OSError):  # something is in it
        while store not in {folder, folder.parent}:
            folder.rmdir()
            folder = folder.parent
