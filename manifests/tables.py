"""The tables of an index: blobs, chunks and packs as rows of fixed width, and the rules that hold between them.

* Blobs stand in the order of first mention, and share out the chunk rows without gap.
* The chunks, each at its first mention, fill the packs from end to end: their digests cover every byte.
"""

import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, Final, Self

import numpy as np

from manifests.codecs import Codec
from manifests.content import Content
from manifests.digest import Digest
from manifests.errors import FormatError
from manifests.manifest import Struct

MAXIMUM_PACK: Final = 256 << 20
NOWHERE: Final = 0xFFFFFFFF
"""In a chunk row: no pack (the base has it), or no base row."""

_BLOB: Final = struct.Struct("<32s16s20s4xQQQ")
_CHUNK: Final = struct.Struct("<32s32sIIIIIB3x")
_PACK: Final = struct.Struct("<32sQ")
WIDTHS: Final = {"blobs": _BLOB.size, "chunks": _CHUNK.size, "packs": _PACK.size}
"""Bytes of a row, by the name of its section."""
_BLOB_ROWS: Final = np.dtype(
    {"names": ["size", "first", "count"], "formats": ["<u8"] * 3, "offsets": [72, 80, 88], "itemsize": _BLOB.size}
)
_CHUNK_ROWS: Final = np.dtype(
    {
        "names": ["raw", "encoded", "pack", "base", "offset", "codec"],
        "formats": ["<u4", "<u4", "<u4", "<u4", "<u4", "u1"],
        "offsets": [64, 68, 72, 76, 80, 84],
        "itemsize": _CHUNK.size,
    }
)


@dataclass(frozen=True, slots=True)
class Blob:
    """A row of `blobs`: its hashes, its size, and which chunk rows it is made of."""

    digest: Digest
    md5: bytes
    git_sha1: bytes
    size: int
    first_chunk: int
    chunk_count: int


@dataclass(frozen=True, slots=True)
class Chunk:
    """A row of `chunks`: digests are 32 raw bytes, lengths and offset are in bytes."""

    raw_digest: bytes
    encoded_digest: bytes
    raw_length: int
    encoded_length: int
    pack: int
    offset: int
    codec: Codec


@dataclass(frozen=True, slots=True)
class Pack:
    """A row of `packs`."""

    digest: Digest
    length: int


class Limits(Struct, frozen=True):
    """The largest chunk, raw and encoded, and zstd window, in bytes."""

    encoded: int
    raw: int
    window: int


@dataclass(frozen=True)
class Tables:
    """The raw rows of an index's tables."""

    blob_rows: memoryview
    chunk_rows: memoryview
    pack_rows: memoryview

    @classmethod
    def encode(cls, blobs: Iterable[Blob], chunks: Iterable[Chunk], packs: Iterable[Pack]) -> Self:
        """The rows of these."""
        rows = (
            (
                _BLOB.pack(row.digest.raw, row.md5, row.git_sha1, row.size, row.first_chunk, row.chunk_count)
                for row in blobs
            ),
            (_encode_chunk(row) for row in chunks),
            (_PACK.pack(row.digest.raw, row.length) for row in packs),
        )
        return cls(*(memoryview(b"".join(table)) for table in rows))

    @cached_property
    def blobs(self) -> tuple[Blob, ...]:
        """Every blob, in order."""
        return tuple(
            Blob(Digest(sha256), md5, git_sha1, size, first, count)
            for sha256, md5, git_sha1, size, first, count in _BLOB.iter_unpack(self.blob_rows)
        )

    @cached_property
    def packs(self) -> tuple[Pack, ...]:
        """Every pack, in order."""
        return tuple(Pack(Digest(sha256), length) for sha256, length in _PACK.iter_unpack(self.pack_rows))

    @property
    def chunk_count(self) -> int:
        """Rows of the chunk table."""
        return len(self.chunk_rows) // _CHUNK.size

    def chunks(self, first: int, count: int) -> Iterator[Chunk]:
        """The chunks of some rows."""
        rows = self.chunk_rows[first * _CHUNK.size : (first + count) * _CHUNK.size]
        for raw_digest, encoded_digest, raw_length, encoded_length, pack, _, offset, codec in _CHUNK.iter_unpack(rows):
            yield Chunk(raw_digest, encoded_digest, raw_length, encoded_length, pack, offset, Codec(codec))

    def check(self, carried: Content, limits: Limits) -> None:
        """Every rule that holds between the tables and the content, or `FormatError` naming the one that is broken."""
        _check_blobs(self.blob_rows, self.chunk_rows, self.blobs, carried)
        _check_chunks(self.chunk_rows, limits, self.packs)


def _encode_chunk(chunk: Chunk) -> bytes:
    return _CHUNK.pack(
        chunk.raw_digest,
        chunk.encoded_digest,
        chunk.raw_length,
        chunk.encoded_length,
        chunk.pack,
        NOWHERE,
        chunk.offset,
        chunk.codec,
    )


def _check_blobs(table: memoryview, chunks: memoryview, blobs: Sequence[Blob], carried: Content) -> None:
    """Blobs stand in the order of first mention, with the sizes of their files, and share out the chunk rows."""
    rows = np.frombuffer(table, dtype=_BLOB_ROWS)
    lengths = np.frombuffer(chunks, dtype=_CHUNK_ROWS)["raw"].astype(np.uint64)
    mentioned = dict.fromkeys(file.digest for file in carried.files())
    if list(mentioned) != [blob.digest for blob in blobs]:
        raise FormatError("index: the blobs are not those that the content names, each once, in order")
    sizes = {blob.digest: blob.size for blob in blobs}
    if any(file.size != sizes[file.digest] for file in carried.files()):
        raise FormatError("index: a file and its blob have different sizes")
    ends = np.cumsum(rows["count"], dtype=np.uint64)
    if len(lengths) != (int(ends[-1]) if len(ends) else 0) or (rows["count"] > len(lengths)).any():
        raise FormatError("index: the blobs do not share out the chunks without gap")
    if (rows["first"] != ends - rows["count"]).any():
        raise FormatError("index: a blob does not begin where the one before ends")
    sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(lengths, dtype=np.uint64)])
    if (sums[ends] - sums[ends - rows["count"]] != rows["size"]).any():
        raise FormatError("index: the chunks of a blob do not add up to its size")
    if any(any(table[start + 68 : start + 72]) for start in range(0, len(table), _BLOB.size)):
        raise FormatError("index: padding is not zero")


def _check_chunks(table: memoryview, limits: Limits, packs: Sequence[Pack]) -> None:
    """Rows with one raw digest are equal; the first ones fill the packs from end to end."""
    rows = np.frombuffer(table, dtype=_CHUNK_ROWS)
    cells = np.frombuffer(table, dtype=np.uint8).reshape(-1, _CHUNK.size)
    if cells[:, 85:].any() or (rows["codec"] >= len(Codec)).any() or (rows["base"] != NOWHERE).any():
        raise FormatError("index: a chunk row has a codec, base or padding that it must not have")
    for field, limit in (("raw", limits.raw), ("encoded", limits.encoded)):
        if len(rows) and (rows[field].min() < 1 or rows[field].max() > limit):
            raise FormatError(f"index: a chunk's {field} length is outside the declared limits")
    first: dict[bytes, int] = {}
    owner = np.fromiter(
        (first.setdefault(bytes(table[at : at + 32]), at // _CHUNK.size) for at in range(0, len(table), _CHUNK.size)),
        dtype=np.int64,
        count=len(rows),
    )
    if (cells != cells[owner]).any():
        raise FormatError("index: two rows of one chunk disagree")
    _check_packs(rows[owner == np.arange(len(rows))], packs)


def _check_packs(rows: "np.ndarray[Any, np.dtype[Any]]", packs: Sequence[Pack]) -> None:
    """Distinct chunks, in order, lie end to end: pack after pack, offset after offset, to the last byte."""
    used = [int(pack) for pack in np.unique(rows["pack"])]
    if used != list(range(len(packs))) or (np.diff(rows["pack"].astype(np.int64)) < 0).any():
        raise FormatError("index: the chunks do not use the packs in order")
    starts = np.searchsorted(rows["pack"], np.arange(len(packs) + 1))
    for number, (start, end) in enumerate(pairwise(starts)):
        lengths = rows["encoded"][start:end].astype(np.int64)
        ends = np.cumsum(lengths)
        if (rows["offset"][start:end] != ends - lengths).any() or ends[-1] != packs[number].length:
            raise FormatError(f"index: the chunks of pack {number} leave a gap or overlap")
        if packs[number].length > MAXIMUM_PACK:
            raise FormatError(f"index: pack {number} has more than {MAXIMUM_PACK} bytes")
    if len({pack.digest for pack in packs}) != len(packs):
        raise FormatError("index: one pack is listed twice")
