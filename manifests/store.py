"""The builder's store: every distinct chunk once, encoded, and for each blob the recipe that names its chunks.

    store.json                             the format of this store
    lock                                   shared by builds, exclusive for gc
    chunks/<profile>/<ab>/<raw digest>     encoded chunks; the profile names everything that their bytes depend on
    blobs/sha256/<ab>/<hex>                recipes: a blob is in the store when its recipe is
    members/<ab>/<container>/<hex>         which blob a member of an archive was, so that nobody fetches it again
    indexes/<content digest>               the index of every bundle that was built from here
    partial/                               downloads under way
    locks/<digest of its path>             the locks that were resolved or built here: what gc keeps

* Chunks check themselves: a chunk file carries the digest of its encoded bytes. A torn one is a missing one.
* A recipe is published after its chunks are on the disk.
* Whatever lies here can be made again: what cannot be read is as good as missing. An error that may pass (no rights, no
  descriptors) says nothing of a file, and nothing is removed for it.
* Chunks of another libzstd are never carried as they are: they are encoded anew, which needs no network.
"""

import errno
import hashlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from manifests import canonical, chunk_file, codecs, member_record, recipe
from manifests.chunk_file import ChunkHead
from manifests.chunking import Chunker, FixedChunker
from manifests.codecs import Encoded
from manifests.digest import ChunkAlgorithm, Digest
from manifests.errors import BusyError, CorruptStoreError, FormatError, StorageError, UnsupportedFormatError
from manifests.locks import FileLock, try_lock
from manifests.publish import Batch, make_folder, publish, publishing, sweep, translated
from manifests.recipe import Recipe, RecipeChunk

FORMAT: Final = 1
MARKER: Final = "store.json"
_MARKER_LIMIT: Final = 4096
"""Bytes of a record of an archive's member."""
PARTIAL: Final = "partial"
_LOCK: Final = "lock"
_PATIENCE: Final = 10.0
"""Seconds that a build waits for gc, which rarely takes longer."""
_SHORT_PATIENCE: Final = 1.0
"""Seconds that gc waits for whoever opens the store at this moment, and looks whether it is alone."""
_PAUSE: Final = 0.05
_LOST: Final = frozenset(
    getattr(errno, name, errno.EIO) for name in ("ENOENT", "ENOTDIR", "EISDIR", "ELOOP", "EIO", "EUCLEAN")
)
"""What a system says of a file that is not there, or whose bytes are gone; whatever else it says may pass."""


def check_marker(path: Path) -> None:
    """Refuse the store at `path`: `UnsupportedFormatError` for a newer one, `FormatError` if its mark is damaged."""
    marker = path / MARKER
    with translated(marker), marker.open("rb") as stream:
        content = stream.read(_MARKER_LIMIT + 1)
    if canonical.decode(content, limit=_MARKER_LIMIT, subject=str(marker)) != {"format": FORMAT}:
        raise UnsupportedFormatError(f"{path}: a store of another format; this program knows {FORMAT}")


def profile(algorithm: ChunkAlgorithm) -> str:
    """The folder in `chunks/` that this program reads and writes: other encoders, other cuts, other folders."""
    return f"{codecs.profile()}-{FixedChunker.name}-{algorithm}"


def is_lost(error: OSError) -> bool:
    """Whether what could not be read is not there any more, and not only out of reach at this moment."""
    return error.errno in _LOST


@contextmanager
def looking(path: Path) -> Iterator[None]:
    """Nothing is removed from the store at `path` by gc in the block. Writes nothing: a read-only store will do.

    Errors: `StorageError` if there is no store; `UnsupportedFormatError`, `FormatError`; `BusyError` while gc runs.
    """
    _check_there(path)
    try:
        descriptor = os.open(path / _LOCK, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
    except OSError:  # nobody has built here, or not for this user to lock: then it is looked at as it is
        yield
        return
    try:
        _patiently(lambda: _share(descriptor, path), _PATIENCE)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def cleaning(path: Path) -> Iterator[None]:
    """Nobody else is at work on the store at `path` in the block.

    Errors: as `looking`; `BusyError` while anything else uses the store.
    """
    _check_there(path)
    busy = f"the store {path} is in use by another `bundle`, and nothing can be removed from it now"
    lock = FileLock(path / _LOCK, exclusive=True, busy=busy)
    _patiently(lock.acquire, _SHORT_PATIENCE)
    try:
        yield
    finally:
        lock.release()


def _check_there(path: Path) -> None:
    with translated(path):
        there = (path / MARKER).is_file()
    if not there:
        hint = "`bundle lock` makes one; name another with --store or BUNDLE_STORE"
        raise StorageError(f"there is no store at {path}", hint=hint)
    check_marker(path)


def _being_cleaned(path: Path) -> str:
    return f"the store {path} is being cleaned"


def _share(descriptor: int, path: Path) -> None:
    with suppress(OSError):  # a file system without locks: no gc gets one there either
        if not try_lock(descriptor, exclusive=False):
            raise BusyError(_being_cleaned(path), hint="wait until it has finished, then run this again")


def _patiently(take: Callable[[], None], seconds: float) -> None:
    """Take a lock, trying for so long while another process has it."""
    for _ in range(round(seconds / _PAUSE)):
        try:
            return take()
        except BusyError:
            time.sleep(_PAUSE)
    return take()


class Store:
    """An open store. Close it, or use it as a context manager: it holds a shared lock."""

    def __init__(self, path: Path, *, algorithm: ChunkAlgorithm = ChunkAlgorithm.BLAKE3) -> None:
        self.path = path
        self.algorithm = algorithm
        self.chunker: Chunker = FixedChunker()
        self._lock = FileLock(path / _LOCK, exclusive=False, busy=_being_cleaned(path))
        self._chunks = path / "chunks" / profile(algorithm)

    @classmethod
    def open(cls, path: Path, *, algorithm: ChunkAlgorithm = ChunkAlgorithm.BLAKE3) -> Self:
        """The store at `path`, made if there is none.

        While gc runs it is waited for, some seconds. Errors: `UnsupportedFormatError` for a newer store, `BusyError`
        if gc still runs then, `StorageError`.
        """
        with translated(path):
            make_folder(path / PARTIAL)
        marker = path / MARKER
        if not marker.exists():
            publish(marker, canonical.encode({"format": FORMAT}))
        check_marker(path)
        store = cls(path, algorithm=algorithm)
        store._sweep_if_alone()
        _patiently(store._lock.acquire, _PATIENCE)
        return store

    def close(self) -> None:
        """Give the lock back."""
        self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def find(self, digest: Digest) -> Recipe | None:
        """The recipe of a blob of which every chunk file is here; None if it must be fetched or encoded (again).

        Chunks that only another libzstd's folder has are encoded anew: a builder without a network may have no others.
        """
        if (found := self._recipe(digest)) is None:
            return None
        lacking = [chunk for chunk in dict.fromkeys(found.chunks) if not self.has_chunk(chunk)]
        return found if not lacking or self._encode_anew(lacking) else None

    def get(self, digest: Digest) -> Recipe:
        """The recipe of a blob that must be here; `CorruptStoreError` otherwise."""
        if (found := self.find(digest)) is None:
            raise CorruptStoreError(
                f"{digest} is not in the store", hint="run the same command again: it is fetched anew"
            )
        return found

    def read(self, digest: Digest) -> Iterator[bytes]:
        """The raw bytes of a blob in pieces, each checked; `CorruptStoreError` if a chunk is not what it was."""
        for chunk in self.get(digest).chunks:
            yield self._raw(chunk)

    def read_whole(self, digest: Digest, *, limit: int) -> bytes:
        """A small blob at once; `StorageError` beyond `limit` bytes."""
        if self.get(digest).size > limit:
            raise StorageError(f"{digest} has more than {limit} bytes")
        return b"".join(self.read(digest))

    def head(self, chunk: RecipeChunk) -> ChunkHead:
        """How a chunk is encoded, without its content; `CorruptStoreError` as in `chunk`."""
        try:
            with self._chunk_path(chunk.digest).open("rb") as stream:
                head = chunk_file.decode_head(stream.read(chunk_file.HEAD_SIZE))
        except (OSError, CorruptStoreError) as error:
            raise self._unread(chunk, error) from error
        if head.raw_length != chunk.length:
            raise self._corrupt(chunk)
        return head

    def chunk(self, chunk: RecipeChunk) -> tuple[ChunkHead, bytes]:
        """An encoded chunk, checked; `CorruptStoreError` if it is missing or damaged, and then it is removed."""
        try:
            content = read_file(self._chunk_path(chunk.digest), limit=chunk_file.MAXIMUM_SIZE)
            head, encoded = chunk_file.decode(content, self.algorithm)
        except (OSError, CorruptStoreError) as error:
            raise self._unread(chunk, error) from error
        if head.raw_length != chunk.length:
            raise self._corrupt(chunk)
        return head, encoded

    def add_chunk(self, digest: bytes, raw_length: int, encoded: Encoded, batch: Batch) -> None:
        """Publish an encoded chunk as a part of `batch`; a recipe may name it once the batch is synced."""
        batch.publish(self._chunk_path(digest), chunk_file.encode(raw_length, encoded, self.algorithm))

    def note_chunk(self, chunk: RecipeChunk, batch: Batch) -> None:
        """Make a chunk that is here already a part of `batch`: it may not have been synced."""
        batch.note(self._chunk_path(chunk.digest))

    def drop_damaged(self, digest: Digest) -> None:
        """Read a blob whole; every chunk of it that is damaged is removed, so that it is fetched again."""
        found = self._recipe(digest)
        for chunk in found.chunks if found else ():
            if self.has_chunk(chunk):
                with suppress(CorruptStoreError):
                    self._raw(chunk)

    def has_chunk(self, chunk: RecipeChunk) -> bool:
        """Whether the chunk's file is here and of a plausible length; its content is checked when it is read."""
        try:
            return self._chunk_path(chunk.digest).stat().st_size > chunk_file.HEAD_SIZE
        except OSError:
            return False

    def add_recipe(self, made: Recipe) -> None:
        """Publish a recipe whose chunks are on the disk: from now on the blob is in the store."""
        publish(self._recipe_path(made.digest), recipe.encode(made))

    @property
    def spool(self) -> Path:
        """A folder for what is under way, on the store's own disk."""
        return self.path / PARTIAL

    def partial(self, key: str) -> Path:
        """Where the download called `key` lies while it is under way."""
        return self.spool / hashlib.sha256(key.encode()).hexdigest()

    def find_member(self, container: Digest, member: str) -> Digest | None:
        """Which blob `member` of the archive `container` was, if that was ever seen and the blob is still here."""
        path = self._member_path(container, member)
        try:
            found, digest = member_record.decode(read_file(path, limit=member_record.MAXIMUM_SIZE), subject=str(path))
        except (OSError, FormatError):  # it only saves work: one that cannot be read is one that is not there
            return None
        return digest if found == member and self.find(digest) else None

    def knows_members(self, container: Digest) -> bool:
        """Whether any member of `container` was ever recorded."""
        return self._member_path(container, "").parent.is_dir()

    def record_member(self, container: Digest, member: str, digest: Digest) -> None:
        """Remember which blob `member` of the archive `container` is: not synced, since it only saves work."""
        with publishing(self._member_path(container, member), durable=False) as stream:
            stream.write(member_record.encode(member, digest))

    def record_index(self, content_digest: Digest, index: bytes) -> None:
        """Keep the index of a bundle that was built, so that a later one can be made since it."""
        publish(self.path / "indexes" / content_digest.hex, index)

    def _sweep_if_alone(self) -> None:
        """Remove what killed builds left under temporary names, unless another build is at work."""
        alone = FileLock(self.path / _LOCK, exclusive=True, busy="")
        with suppress(BusyError), alone:
            for folder in (self.path, *self.path.glob("chunks/*/*"), *self.path.glob("blobs/sha256/*")):
                sweep(folder)

    def _recipe(self, digest: Digest) -> Recipe | None:
        """A recipe that this program can read; its chunks need not be here."""
        path = self._recipe_path(digest)
        try:
            found = read_recipe(path)
        except (FileNotFoundError, CorruptStoreError):
            return None
        except OSError as error:
            hint = "`bundle store verify` says what else is wrong"
            raise StorageError(f"{path}: {error.strerror}", hint=hint) from error
        return found if found.algorithm is self.algorithm and found.digest == digest else None

    def _raw(self, chunk: RecipeChunk) -> bytes:
        head, encoded = self.chunk(chunk)
        try:
            return chunk_file.raw(head, encoded, self.algorithm, chunk.digest)
        except CorruptStoreError as error:
            raise self._corrupt(chunk) from error

    def _encode_anew(self, chunks: Sequence[RecipeChunk]) -> bool:
        """Make chunks out of those of another libzstd, as if they had just been fetched; False if that has not all."""
        batch, folders = Batch(), self._outdated_folders()
        places = [[path for folder in folders if (path := _sharded(folder, each.digest)).is_file()] for each in chunks]
        if not all(places):
            return False
        for chunk, paths in zip(chunks, places, strict=True):
            raw = next((raw for path in paths if (raw := _decoded(path, chunk, self.algorithm)) is not None), None)
            if raw is None:
                return False
            self.add_chunk(chunk.digest, chunk.length, codecs.encode(raw), batch)
        batch.sync()
        return True

    def _outdated_folders(self) -> list[Path]:
        """Chunks that were cut as this program cuts, and encoded by another libzstd."""
        every = self._chunks.parent.glob(f"*-{FixedChunker.name}-{self.algorithm}")
        return sorted(folder for folder in every if folder != self._chunks)

    def _unread(self, chunk: RecipeChunk, error: OSError | CorruptStoreError) -> StorageError:
        if isinstance(error, CorruptStoreError) or is_lost(error):
            return self._corrupt(chunk)
        return StorageError(f"{self._chunk_path(chunk.digest)}: {error.strerror}", hint="run the same command again")

    def _corrupt(self, chunk: RecipeChunk) -> CorruptStoreError:
        path = self._chunk_path(chunk.digest)
        with translated(path):
            path.unlink(missing_ok=True)
        return CorruptStoreError(
            f"chunk {chunk.digest.hex()} of the store was damaged, and is removed now",
            hint="run the same command again: what is missing is fetched anew",
        )

    def _recipe_path(self, digest: Digest) -> Path:
        return self.path / "blobs" / "sha256" / digest.hex[:2] / digest.hex

    def _chunk_path(self, digest: bytes) -> Path:
        return _sharded(self._chunks, digest)

    def _member_path(self, container: Digest, member: str) -> Path:
        return self.path / "members" / container.hex[:2] / container.hex / member_record.name_of(member)


def chunk_path(store: Path, algorithm: ChunkAlgorithm, digest: bytes) -> Path:
    """Where this program keeps the chunk `digest` in the store at `store`."""
    return _sharded(store / "chunks" / profile(algorithm), digest)


def _sharded(folder: Path, digest: bytes) -> Path:
    name = digest.hex()
    return folder / name[:2] / name


def _decoded(path: Path, chunk: RecipeChunk, algorithm: ChunkAlgorithm) -> bytes | None:
    """The raw bytes of a chunk; None for a file that is damaged, or of another kind."""
    try:
        head, encoded = chunk_file.decode(read_file(path, limit=chunk_file.MAXIMUM_SIZE), algorithm)
        raw = chunk_file.raw(head, encoded, algorithm, chunk.digest)
    except (OSError, CorruptStoreError):
        return None
    return raw if len(raw) == chunk.length else None


def read_file(path: Path, *, limit: int) -> bytes:
    """The bytes of a file of the store, and at most one more than `limit`. Errors: `OSError`."""
    with path.open("rb") as stream:
        return stream.read(min(os.fstat(stream.fileno()).st_size, limit) + 1)  # reading sets aside all that is asked


def read_recipe(path: Path) -> Recipe:
    """The recipe in the file `path`. Errors: `CorruptStoreError`, `OSError`."""
    content = read_file(path, limit=recipe.MAXIMUM_SIZE)
    if len(content) > recipe.MAXIMUM_SIZE:
        raise CorruptStoreError(f"{path}: no recipe has more than {recipe.MAXIMUM_SIZE} bytes")
    return recipe.decode(content, subject=str(path))
