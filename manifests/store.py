"""The builder's store: every distinct chunk once, encoded, and for each blob the recipe that names its chunks.

    store.json                             the format of this store
    lock                                   shared by builds, exclusive for gc
    chunks/<profile>/<ab>/<raw digest>     encoded chunks; the profile names everything that their bytes depend on
    blobs/sha256/<ab>/<hex>                recipes: a blob is in the store when its recipe is
    members/<ab>/<container>/<hex>         which blob a member of an archive was, so that nobody fetches it again
    indexes/<content digest>               the index of every bundle that was built from here
    partial/                               downloads under way

* Chunks check themselves: a chunk file carries the digest of its encoded bytes. A torn one is a missing one.
* A recipe is published after its chunks are on the disk.
"""

import hashlib
import struct
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from manifests import canonical, codecs, recipe
from manifests.chunking import Chunker, FixedChunker
from manifests.codecs import Codec, Encoded
from manifests.digest import ChunkAlgorithm, Digest
from manifests.errors import BusyError, CorruptStoreError, StorageError, UnsupportedFormatError
from manifests.locks import FileLock
from manifests.publish import Batch, make_folder, publish, sweep, translated
from manifests.recipe import Recipe, RecipeChunk

FORMAT: Final = 1
MARKER: Final = "store.json"
_MARKER_LIMIT: Final = 4096
_CHUNK_HEAD: Final = struct.Struct("<8sBxxxII32s")
_CHUNK_MAGIC: Final = b"OBCHUNK1"
_MEMBER_LIMIT: Final = 64 << 10


@dataclass(frozen=True, slots=True)
class ChunkHead:
    """What a bundle's index says of an encoded chunk. `digest` is that of the encoded bytes, 32 bytes."""

    codec: Codec
    raw_length: int
    encoded_length: int
    digest: bytes


def check_marker(path: Path) -> None:
    """Refuse the store at `path`: `UnsupportedFormatError` for a newer one, `FormatError` if its mark is damaged."""
    marker = path / MARKER
    with translated(marker), marker.open("rb") as stream:
        content = stream.read(_MARKER_LIMIT + 1)
    if canonical.decode(content, limit=_MARKER_LIMIT, subject=str(marker)) != {"format": FORMAT}:
        raise UnsupportedFormatError(f"{path}: a store of another format; this program knows {FORMAT}")


class Store:
    """An open store. Close it, or use it as a context manager: it holds a shared lock."""

    def __init__(self, path: Path, *, algorithm: ChunkAlgorithm = ChunkAlgorithm.BLAKE3) -> None:
        self.path = path
        self.algorithm = algorithm
        self.chunker: Chunker = FixedChunker()
        self._lock = FileLock(path / "lock", exclusive=False, busy=f"the store {path} is being cleaned")
        self._chunks = path / "chunks" / f"{codecs.profile()}-{self.chunker.name}-{algorithm}"

    @classmethod
    def open(cls, path: Path, *, algorithm: ChunkAlgorithm = ChunkAlgorithm.BLAKE3) -> Self:
        """The store at `path`, made if there is none.

        Errors: `UnsupportedFormatError` for a newer store, `BusyError` while gc runs, `StorageError`.
        """
        with translated(path):
            make_folder(path / "partial")
        marker = path / MARKER
        if not marker.exists():
            publish(marker, canonical.encode({"format": FORMAT}))
        check_marker(path)
        store = cls(path, algorithm=algorithm)
        store._sweep_if_alone()
        store._lock.acquire()
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
        """The recipe of a blob of which every chunk file is here; None if it must be fetched or encoded (again)."""
        path = self._recipe_path(digest)
        try:
            found = recipe.decode(path.read_bytes(), subject=str(path))
        except (FileNotFoundError, CorruptStoreError):
            return None
        except OSError as error:
            raise StorageError(f"{path}: {error.strerror}") from error
        whole = found.algorithm is self.algorithm and all(self.has_chunk(chunk) for chunk in found.chunks)
        return found if whole else None

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
            head, encoded = self.chunk(chunk)
            raw = codecs.decode(head.codec, encoded, head.raw_length)
            if self.algorithm.digest(raw) != chunk.digest:
                raise self._corrupt(chunk)
            yield raw

    def read_whole(self, digest: Digest, *, limit: int) -> bytes:
        """A small blob at once; `StorageError` beyond `limit` bytes."""
        if self.get(digest).size > limit:
            raise StorageError(f"{digest} has more than {limit} bytes")
        return b"".join(self.read(digest))

    def head(self, chunk: RecipeChunk) -> ChunkHead:
        """How a chunk is encoded, without its content; `CorruptStoreError` as in `chunk`."""
        try:
            with self._chunk_path(chunk.digest).open("rb") as stream:
                return self._parse_head(chunk, stream.read(_CHUNK_HEAD.size))
        except OSError as error:
            raise self._corrupt(chunk) from error

    def chunk(self, chunk: RecipeChunk) -> tuple[ChunkHead, bytes]:
        """An encoded chunk, checked; `CorruptStoreError` if it is missing or damaged, and then it is removed."""
        try:
            content = self._chunk_path(chunk.digest).read_bytes()
        except OSError as error:
            raise self._corrupt(chunk) from error
        head, encoded = self._parse_head(chunk, content), content[_CHUNK_HEAD.size :]
        if len(encoded) != head.encoded_length or self.algorithm.digest(encoded) != head.digest:
            raise self._corrupt(chunk)
        return head, encoded

    def add_chunk(self, digest: bytes, raw_length: int, encoded: Encoded, batch: Batch) -> None:
        """Publish an encoded chunk as a part of `batch`; a recipe may name it once the batch is synced."""
        head = _CHUNK_HEAD.pack(
            _CHUNK_MAGIC, encoded.codec, raw_length, len(encoded.content), self.algorithm.digest(encoded.content)
        )
        batch.publish(self._chunk_path(digest), head + encoded.content)

    def note_chunk(self, chunk: RecipeChunk, batch: Batch) -> None:
        """Make a chunk that is here already a part of `batch`: it may not have been synced."""
        batch.note(self._chunk_path(chunk.digest))

    def drop_damaged(self, digest: Digest) -> None:
        """Read a blob whole; every chunk of it that is damaged is removed, so that it is fetched again."""
        found = self.find(digest)
        for chunk in found.chunks if found else ():
            with suppress(CorruptStoreError):
                self.chunk(chunk)

    def has_chunk(self, chunk: RecipeChunk) -> bool:
        """Whether the chunk's file is here and of a plausible length; its content is checked when it is read."""
        try:
            return self._chunk_path(chunk.digest).stat().st_size > _CHUNK_HEAD.size
        except OSError:
            return False

    def add_recipe(self, made: Recipe) -> None:
        """Publish a recipe whose chunks are on the disk: from now on the blob is in the store."""
        publish(self._recipe_path(made.digest), recipe.encode(made))

    def partial(self, key: str) -> Path:
        """Where the download called `key` lies while it is under way."""
        return self.path / "partial" / hashlib.sha256(key.encode()).hexdigest()

    def find_member(self, container: Digest, member: str) -> Digest | None:
        """Which blob `member` of the archive `container` was, if that was ever seen and the blob is still here."""
        path = self._member_path(container, member)
        try:
            text = path.read_bytes()[: _MEMBER_LIMIT + 1]
        except FileNotFoundError:
            return None
        value = canonical.decode(text, limit=_MEMBER_LIMIT, subject=str(path))
        if not isinstance(value, dict) or value.get("member") != member or not isinstance(value.get("digest"), str):
            return None
        digest = Digest.parse(str(value["digest"]))
        return digest if self.find(digest) else None

    def record_member(self, container: Digest, member: str, digest: Digest) -> None:
        """Remember which blob `member` of the archive `container` is."""
        content = canonical.encode({"digest": str(digest), "member": member})
        publish(self._member_path(container, member), content)

    def record_index(self, content_digest: Digest, index: bytes) -> None:
        """Keep the index of a bundle that was built, so that a later one can be made since it."""
        publish(self.path / "indexes" / content_digest.hex, index)

    def _sweep_if_alone(self) -> None:
        """Remove what killed builds left under temporary names, unless another build is at work."""
        alone = FileLock(self.path / "lock", exclusive=True, busy="")
        with suppress(BusyError), alone:
            for folder in (self.path, *self.path.glob("chunks/*/*"), *self.path.glob("blobs/sha256/*")):
                sweep(folder)

    def _parse_head(self, chunk: RecipeChunk, content: bytes) -> ChunkHead:
        if len(content) < _CHUNK_HEAD.size:
            raise self._corrupt(chunk)
        magic, codec, raw_length, encoded_length, digest = _CHUNK_HEAD.unpack_from(content)
        if magic != _CHUNK_MAGIC or raw_length != chunk.length or codec not in set(Codec):
            raise self._corrupt(chunk)
        return ChunkHead(Codec(codec), raw_length, encoded_length, digest)

    def _corrupt(self, chunk: RecipeChunk) -> CorruptStoreError:
        path = self._chunk_path(chunk.digest)
        path.unlink(missing_ok=True)
        return CorruptStoreError(
            f"chunk {chunk.digest.hex()} of the store was damaged, and is removed now",
            hint="run the same command again: what is missing is fetched anew",
        )

    def _recipe_path(self, digest: Digest) -> Path:
        return self.path / "blobs" / "sha256" / digest.hex[:2] / digest.hex

    def _chunk_path(self, digest: bytes) -> Path:
        name = digest.hex()
        return self._chunks / name[:2] / name

    def _member_path(self, container: Digest, member: str) -> Path:
        name = hashlib.sha256(member.encode()).hexdigest()
        return self.path / "members" / container.hex[:2] / container.hex / name
