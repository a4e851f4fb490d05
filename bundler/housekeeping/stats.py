"""How much lies in a store, and what was saved: counted from recipes and the sizes of files; no chunk is read."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from bundler.housekeeping import known
from bundler.housekeeping.known import Known
from bundler.housekeeping.shelf import Entry, Profile, Shelf
from manifests.chunk_file import HEAD_SIZE
from manifests.digest import ChunkAlgorithm
from manifests.errors import CorruptStoreError
from manifests.publish import translated
from manifests.recipe import Recipe
from manifests.store import is_lost, looking, read_recipe


@dataclass(frozen=True, slots=True)
class Amount:
    """Files and their bytes."""

    files: int = 0
    size: int = 0

    @classmethod
    def of(cls, sizes: Iterable[int]) -> "Amount":
        """Of the files that have these sizes."""
        every = list(sizes)
        return cls(len(every), sum(every))


@dataclass(frozen=True, slots=True)
class LockStats:
    """What the store has of a lock: `missing` of its `files` are to be fetched; `size` is raw."""

    lock: Known
    files: int
    missing: int
    size: int


@dataclass(frozen=True, slots=True)
class ProfileStats:
    """The chunks of one encoder."""

    name: str
    live: bool
    chunks: Amount


@dataclass(frozen=True, slots=True)
class Stats:
    """Sizes in bytes: `raw` of all blobs, `distinct` of their chunks each once, `stored` of these as they lie here.

    `incomplete` blobs have lost a chunk; those that are `outdated` are whole once what another libzstd encoded is
    encoded anew; `orphans` are chunks of no blob.
    """

    path: Path
    blobs: int
    incomplete: int
    outdated: int
    damaged: int
    chunks: int
    raw: int
    distinct: int
    stored: int
    orphans: Amount
    profiles: tuple[ProfileStats, ...]
    downloads: Amount
    members: int
    indexes: Amount
    leftovers: Amount
    locks: tuple[LockStats, ...]
    foreign: tuple[Path, ...]


def stats(path: Path, *, locks: Iterable[Path] = ()) -> Stats:
    """What lies in the store at `path`; nothing is written. `locks` are looked at beside those that it knows.

    Errors: those of `looking`; `ManifestError` for a lock that cannot be read; `StorageError`.
    """
    shelf = Shelf(path)
    with looking(path):
        return _stats(shelf, [*known.known(shelf), *known.given(locks)])


def lengths(shelf: Shelf, profiles: Iterable[Profile], *, live: bool = True) -> dict[ChunkAlgorithm, dict[bytes, int]]:
    """The chunks that this program carries, by the digest of their raw bytes: the sizes of their files.

    With `live=False`, instead those that other encoders made.
    """
    found: dict[ChunkAlgorithm, dict[bytes, int]] = {algorithm: {} for algorithm in ChunkAlgorithm}
    for folder in profiles:
        if folder.live is live:
            found[folder.algorithm].update((bytes.fromhex(entry.name), entry.size) for entry in shelf.chunks(folder))
    return found


def recipes(entries: Iterable[Entry]) -> Iterator[tuple[str, Path, Recipe | None]]:
    """Every recipe by its blob's SHA-256 in hex; None for one that is damaged, or another than its name says.

    Errors: `StorageError` for one that may well be whole, and cannot be read now.
    """
    for entry in entries:
        try:
            found = read_recipe(entry.path)
        except FileNotFoundError:
            continue
        except (CorruptStoreError, OSError) as error:
            if isinstance(error, OSError) and not is_lost(error):
                with translated(entry.path):
                    raise
            yield entry.name, entry.path, None
            continue
        yield entry.name, entry.path, found if found.digest.hex == entry.name else None


def is_whole(recipe: Recipe, *here: dict[ChunkAlgorithm, dict[bytes, int]]) -> bool:
    """Whether every chunk file of a blob is in one of these, as `Store.find` sees it."""
    places = [found[recipe.algorithm] for found in here]
    return all(any(place.get(chunk.digest, 0) > HEAD_SIZE for place in places) for chunk in recipe.chunks)


def _stats(shelf: Shelf, locks: list[Known]) -> Stats:
    shelf.look_around()
    entries = list(shelf.recipes())  # before the chunks: what a build adds meanwhile is not missed
    profiles = list(shelf.profiles())
    here, others = lengths(shelf, profiles), lengths(shelf, profiles, live=False)
    named: dict[ChunkAlgorithm, dict[bytes, int]] = {algorithm: {} for algorithm in ChunkAlgorithm}
    sizes: dict[str, int] = {}
    incomplete = outdated = damaged = 0
    older: dict[str, int] = {}
    for digest, _, recipe in recipes(entries):
        if recipe is None:
            damaged += 1
            continue
        named[recipe.algorithm].update((chunk.digest, chunk.length) for chunk in recipe.chunks)
        if is_whole(recipe, here):
            sizes[digest] = recipe.size
        elif is_whole(recipe, here, others):
            outdated += 1
            older[digest] = recipe.size
        else:
            incomplete += 1
    orphans = [size for kind, found in here.items() for digest, size in found.items() if digest not in named[kind]]
    present = [(kind, digest) for kind, found in here.items() for digest in found if digest in named[kind]]
    return Stats(
        path=shelf.path,
        blobs=len(sizes),
        incomplete=incomplete,
        outdated=outdated,
        damaged=damaged,
        chunks=len(present),
        raw=sum(sizes.values()),
        distinct=sum(named[kind][digest] for kind, digest in present),
        stored=sum(here[kind][digest] for kind, digest in present),
        orphans=Amount.of(orphans),
        profiles=tuple(_profile_stats(shelf, each, here) for each in profiles),
        downloads=Amount.of(size for _, files in shelf.downloads() if (size := sum(each.size for each in files))),
        members=sum(len(records) for _, records in shelf.members()),
        indexes=Amount.of(entry.size for entry in shelf.indexes()),
        leftovers=Amount.of(shelf.leftovers.values()),
        locks=tuple(_lock_stats(each, sizes | older) for each in locks),
        foreign=tuple(sorted(shelf.foreign)),
    )


def _profile_stats(shelf: Shelf, folder: Profile, here: dict[ChunkAlgorithm, dict[bytes, int]]) -> ProfileStats:
    sizes = here[folder.algorithm].values() if folder.live else (entry.size for entry in shelf.chunks(folder))
    return ProfileStats(folder.name, folder.live, Amount.of(sizes))


def _lock_stats(lock: Known, sizes: dict[str, int]) -> LockStats:
    held = [sizes[digest] for digest in lock.files if digest in sizes]
    return LockStats(lock, len(lock.files), len(lock.files) - len(held), sum(held))
