"""Whether what lies in a store is what was put there: every chunk is read, every blob hashed, every record parsed.

* Nothing is written, nothing removed: `remove` does that, and looks at each file once more before it does.
* A few chunks are in memory at once, whatever the size of the store.
* Chunks of another encoder are read when they are encoded anew, not here; a blob that has only those is no damage.
"""

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Final, TypeAlias

from bundler.housekeeping import checking
from bundler.housekeeping.known import known, owners
from bundler.housekeeping.shelf import Entry, Profile, Shelf
from bundler.together import ahead, workers
from manifests.digest import ChunkAlgorithm
from manifests.errors import CorruptStoreError
from manifests.progress import Reporter
from manifests.publish import sync_folder, translated
from manifests.recipe import Recipe, RecipeChunk
from manifests.store import chunk_path, looking, read_recipe

_WORK: Final = "verify the store"
_ChunkKey: TypeAlias = tuple[ChunkAlgorithm, bytes]


class Kind(StrEnum):
    """What is damaged."""

    CHUNK = "chunk"
    BLOB = "blob"
    """Its recipe, or a chunk of it that is damaged or missing."""
    MEMBER = "member"
    INDEX = "index"
    LOCK = "lock"


@dataclass(frozen=True, slots=True)
class Damage:
    """A file of the store that is not what it was. `name` is what the blob of a recipe is called in a lock, if known.

    `whole` is False where the file is as it was written, and what it names is lost.
    """

    kind: Kind
    path: Path
    reason: str
    name: str = ""
    whole: bool = False


@dataclass(frozen=True, slots=True)
class Verified:
    """What was looked at. `read` is in bytes, as they lie here with `quick`, else raw.

    `orphans` are chunks of no blob; blobs that are `outdated` were encoded by another libzstd.
    """

    path: Path
    quick: bool
    blobs: int
    chunks: int
    read: int
    orphans: int
    outdated: int
    records: int
    damaged: tuple[Damage, ...]
    foreign: tuple[Path, ...]


def verify(path: Path, reporter: Reporter, *, quick: bool = False) -> Verified:
    """Look at the whole store at `path`; with `quick`, encoded bytes are compared with their digests and no more.

    Errors: those of `looking`; `StorageError`.
    """
    with looking(path):
        try:
            return _Look(Shelf(path), reporter, quick).verify()
        finally:
            reporter.finished(_WORK)


def remove(found: Verified) -> tuple[Path, ...]:
    """Remove what is damaged, so that the next build fetches it again; what is good by now stays.

    It may run beside a build, which does the same with what it finds damaged. Errors: those of `looking`;
    `StorageError`.
    """
    ordered = sorted(found.damaged, key=lambda each: (each.kind is not Kind.CHUNK, each.path))
    with looking(found.path):
        gone = tuple(damage.path for damage in ordered if _is_still(damage) and _removed(damage.path))
        for folder in sorted({path.parent for path in gone}):
            sync_folder(folder)
    return gone


def _removed(path: Path) -> bool:
    with translated(path):
        if path.is_dir() and not path.is_symlink():
            with suppress(OSError):  # with somebody's files in it: not ours to remove
                path.rmdir()
        else:
            path.unlink(missing_ok=True)
    return not os.path.lexists(path)


def _is_still(damage: Damage) -> bool:
    """Whether it is damaged now: a build may have mended it since, and its source may be gone by now."""
    if not os.path.lexists(damage.path):
        return False
    if damage.path.is_dir():
        return True
    if damage.kind is Kind.MEMBER:
        return bool(checking.wrong_member(damage.path))
    if damage.kind is Kind.INDEX:
        return bool(checking.wrong_index(damage.path))
    if damage.kind is Kind.LOCK:
        return bool(checking.wrong_lock(damage.path))
    if damage.kind is Kind.BLOB:
        return _is_still_lost(damage.path)
    algorithm = ChunkAlgorithm(damage.path.parent.parent.name.rpartition("-")[2])
    return bool(_reason(damage.path, algorithm, bytes.fromhex(damage.path.name)))


def _is_still_lost(path: Path) -> bool:
    """Whether a blob cannot be had out of the store; its damaged chunks have been removed before."""
    hasher, store = hashlib.sha256(), path.parents[3]
    try:
        recipe = read_recipe(path)
        for chunk in recipe.chunks:
            place = chunk_path(store, recipe.algorithm, chunk.digest)
            hasher.update(checking.read_chunk(place, recipe.algorithm, chunk.digest))
    except (CorruptStoreError, OSError):
        return True
    return recipe.digest.hex != path.name or hasher.hexdigest() != path.name


def _reason(path: Path, algorithm: ChunkAlgorithm, digest: bytes) -> str:
    try:
        checking.read_chunk(path, algorithm, digest)
    except CorruptStoreError as error:
        return error.message
    return ""


@dataclass(frozen=True, slots=True)
class _Piece:
    """A chunk of a blob, or the end of it, once its last chunk came."""

    entry: Entry
    recipe: Recipe
    chunk: RecipeChunk | None


@dataclass(slots=True)
class _Look:
    """One run."""

    shelf: Shelf
    reporter: Reporter
    quick: bool
    damaged: list[Damage] = field(default_factory=list)
    broken: dict[_ChunkKey, str] = field(default_factory=dict)
    """Chunks that are damaged, or missing, and why."""
    outdated: set[_ChunkKey] = field(default_factory=set)
    """Chunks that only another encoder's folder has."""
    read: int = 0

    def verify(self) -> Verified:
        """All of it."""
        self.shelf.look_around()
        profiles = list(self.shelf.profiles())
        recipes, named, size = self._recipes()  # before the chunks: what a build adds meanwhile is not missed
        here = self._chunks(folder for folder in profiles if folder.live)
        orphans = {key: entry for key, entry in here.items() if key not in named}
        alone = here if self.quick else orphans
        self.reporter.started(_WORK, sum(entry.size for entry in alone.values()) + (0 if self.quick else size))
        self._find_missing(named - here.keys(), profiles)
        with workers() as pool:
            self._check_chunks(pool, alone)
            if not self.quick:
                self._check_blobs(pool, recipes)
        outdated = self._lost(recipes)
        self._chunk_damage(here)
        records = self._records()
        list(self.shelf.downloads())  # they check themselves: only what does not belong there is noticed
        names = owners(known(self.shelf))
        return Verified(
            path=self.shelf.path,
            quick=self.quick,
            blobs=len(recipes),
            chunks=len(here),
            read=self.read,
            orphans=len(orphans),
            outdated=outdated,
            records=records,
            damaged=tuple(sorted((_named(each, names) for each in self.damaged), key=lambda each: each.path)),
            foreign=tuple(sorted(self.shelf.foreign)),
        )

    def _chunks(self, profiles: Iterable[Profile]) -> dict[_ChunkKey, Entry]:
        return {
            (folder.algorithm, bytes.fromhex(entry.name)): entry
            for folder in profiles
            for entry in self.shelf.chunks(folder)
        }

    def _recipes(self) -> tuple[list[Entry], set[_ChunkKey], int]:
        """The recipes that can be read, the chunks that they name, and the raw bytes of all."""
        good: list[Entry] = []
        named: set[_ChunkKey] = set()
        size = 0
        for entry in self.shelf.recipes():
            try:
                recipe = checking.read_whole_recipe(entry)
            except CorruptStoreError as error:
                if entry.path.exists():
                    self.damaged.append(Damage(Kind.BLOB, entry.path, f"its recipe is damaged: {error.message}"))
                continue
            good.append(entry)
            named.update((recipe.algorithm, chunk.digest) for chunk in recipe.chunks)
            size += recipe.size
        return good, named, size

    def _find_missing(self, missing: set[_ChunkKey], profiles: Iterable[Profile]) -> None:
        if missing:
            others = self._chunks(folder for folder in profiles if not folder.live)
            self.outdated = {key for key in missing if key in others}
            self.broken.update((key, "missing") for key in missing)

    def _check_chunks(self, pool: ThreadPoolExecutor, chunks: dict[_ChunkKey, Entry]) -> None:
        jobs = (partial(self._check_alone, key, entry) for key, entry in chunks.items())
        for key, size, reason in ahead(pool, jobs):
            if reason:
                self.broken[key] = reason
            self._advance(size)

    def _check_alone(self, key: _ChunkKey, entry: Entry) -> tuple[_ChunkKey, int, str]:
        try:
            if self.quick:
                checking.check_encoded(entry.path, key[0])
            else:
                checking.read_chunk(entry.path, *key)
        except CorruptStoreError as error:
            return key, entry.size, error.message
        return key, entry.size, ""

    def _check_blobs(self, pool: ThreadPoolExecutor, recipes: list[Entry]) -> None:
        """Hash every blob out of its chunks, which other threads read and check ahead."""
        whole, hasher = True, hashlib.sha256()
        for piece, raw, reason in ahead(pool, map(self._job, _pieces(recipes))):
            if piece.chunk is None:
                if whole and hasher.digest() != piece.recipe.digest.raw:
                    why = "its chunks are whole, and make another file than its name says"
                    self.damaged.append(Damage(Kind.BLOB, piece.entry.path, why))
                whole, hasher = True, hashlib.sha256()
                continue
            if reason:
                self.broken[piece.recipe.algorithm, piece.chunk.digest] = reason
                whole = False
            hasher.update(raw)
            self._advance(piece.chunk.length)

    def _job(self, piece: _Piece) -> Callable[[], tuple[_Piece, bytes, str]]:
        return partial(self._check_piece, piece)

    def _check_piece(self, piece: _Piece) -> tuple[_Piece, bytes, str]:
        chunk, algorithm = piece.chunk, piece.recipe.algorithm
        if chunk is None:
            return piece, b"", ""
        if reason := self.broken.get((algorithm, chunk.digest), ""):
            return piece, b"", reason
        path = chunk_path(self.shelf.path, algorithm, chunk.digest)
        try:
            return piece, checking.read_chunk(path, algorithm, chunk.digest), ""
        except CorruptStoreError as error:
            return piece, b"", error.message

    def _lost(self, recipes: Iterable[Entry]) -> int:
        """Note the blobs that have a broken chunk; how many of them are only outdated."""
        outdated = 0
        for entry in recipes if self.broken else ():
            with suppress(CorruptStoreError):
                recipe = checking.read_whole_recipe(entry)
                bad = {key for chunk in recipe.chunks if (key := (recipe.algorithm, chunk.digest)) in self.broken}
                if bad and bad <= self.outdated:
                    outdated += 1
                elif bad:
                    why = f"{len(bad)} of its {len(recipe.chunks)} chunks are damaged or missing"
                    self.damaged.append(Damage(Kind.BLOB, entry.path, why, whole=True))
        return outdated

    def _chunk_damage(self, here: dict[_ChunkKey, Entry]) -> None:
        for key, reason in self.broken.items():
            if key in here:
                self.damaged.append(Damage(Kind.CHUNK, here[key].path, reason))

    def _records(self) -> int:
        """Parse the records of members, the indexes and the records of locks; how many there are."""
        members = (entry.path for _, records in self.shelf.members() for entry in records)
        kinds: list[tuple[Kind, Iterator[Path], Callable[[Path], str]]] = [
            (Kind.MEMBER, members, checking.wrong_member),
            (Kind.INDEX, (entry.path for entry in self.shelf.indexes()), checking.wrong_index),
            (Kind.LOCK, (entry.path for entry in self.shelf.locks()), checking.wrong_lock),
        ]
        count = 0
        for kind, paths, wrong in kinds:
            for path in paths:
                count += 1
                if reason := wrong(path):
                    self.damaged.append(Damage(kind, path, reason))
        return count

    def _advance(self, size: int) -> None:
        self.read += size
        self.reporter.advanced(_WORK, size)


def _pieces(recipes: Iterable[Entry]) -> Iterator[_Piece]:
    for entry in recipes:
        with suppress(CorruptStoreError):  # removed at this moment, by a build that found it damaged
            recipe = checking.read_whole_recipe(entry)
            yield from (_Piece(entry, recipe, chunk) for chunk in recipe.chunks)
            yield _Piece(entry, recipe, None)


def _named(damage: Damage, names: dict[str, str]) -> Damage:
    if damage.kind is not Kind.BLOB:
        return damage
    return Damage(damage.kind, damage.path, damage.reason, names.get(damage.path.name, ""), damage.whole)
