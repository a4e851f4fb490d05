"""The bundle index: which blobs a bundle carries, and where each chunk lies.

Owns the meaning of the index and nothing else: no paths, no network, no keys. FORMAT.md, section 2, has the bytes.
* Nothing here is trusted until its envelope has been verified.
* Every length is known before it is read; nothing is read to the end of a file.
* The chunks, each at its first mention, fill the packs from end to end: their digests cover every byte.
"""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, Final

import numpy as np

from manifests import canonical, content
from manifests.codecs import MAXIMUM_ENCODED, MAXIMUM_RAW, MAXIMUM_WINDOW, Codec
from manifests.content import Content
from manifests.digest import ChunkAlgorithm, Digest
from manifests.errors import FormatError, UnsupportedFormatError
from manifests.manifest import Struct

FORMAT: Final = 1
MAXIMUM_SIZE: Final = 1 << 30
"""Bytes of an index: some ten million chunks."""
MAXIMUM_PACK: Final = 256 << 20
NOWHERE: Final = 0xFFFFFFFF
"""In a chunk row: no pack (the base has it), or no base row."""

_PRELUDE: Final = struct.Struct("<8sIIQQ32s")
_MAGIC: Final = b"OBINDEX\x00"
_MAXIMUM_HEAD: Final = 1 << 20
_BLOB: Final = struct.Struct("<32s16s20s4xQQQ")
_CHUNK: Final = struct.Struct("<32s32sIIIIIB3x")
_PACK: Final = struct.Struct("<32sQ")
_WIDTHS: Final = {"content": 1, "blobs": _BLOB.size, "chunks": _CHUNK.size, "packs": _PACK.size, "base": 40}
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


class Section(Struct, frozen=True):
    """A row of the head's section table."""

    count: int
    name: str
    required: bool
    width: int


class Requires(Struct, frozen=True):
    """What a reader must know, by name."""

    codecs: tuple[str, ...]
    digests: tuple[str, ...]
    features: tuple[str, ...]
    kinds: tuple[str, ...]


class Limits(Struct, frozen=True):
    """The largest chunk, raw and encoded, and zstd window, in bytes."""

    encoded: int
    raw: int
    window: int


class Base(Struct, frozen=True):
    """The bundle that a delta was made since."""

    content: str
    line: str
    sequence: int


class Head(Struct, frozen=True, omit_defaults=False):
    """The head of the index."""

    base: Base | None
    chunk_digest: str
    codecs: tuple[str, ...]
    content: str
    format: int
    limits: Limits
    requires: Requires
    sections: tuple[Section, ...]
    transport: str


@dataclass(frozen=True)
class Index:
    """A decoded index that keeps every rule of the format."""

    raw: bytes
    head: Head
    content: Content
    blobs: tuple[Blob, ...]
    packs: tuple[Pack, ...]
    chunk_table: memoryview

    @property
    def content_digest(self) -> Digest:
        """Names what is carried, whatever the way it is carried."""
        return Digest.parse(self.head.content)

    @property
    def algorithm(self) -> ChunkAlgorithm:
        """How chunks are named and checked."""
        return ChunkAlgorithm(self.head.chunk_digest)

    @property
    def chunk_count(self) -> int:
        """Rows of the chunk table."""
        return len(self.chunk_table) // _CHUNK.size

    @cached_property
    def _by_digest(self) -> dict[Digest, Blob]:
        return {blob.digest: blob for blob in self.blobs}

    def blob(self, digest: Digest) -> Blob:
        """The blob with this digest; every file of the content has one."""
        return self._by_digest[digest]

    def chunks(self, blob: Blob) -> Iterator[Chunk]:
        """The chunks of a blob, in order."""
        start = blob.first_chunk * _CHUNK.size
        yield from _chunks(self.chunk_table[start : start + blob.chunk_count * _CHUNK.size])

    def placed_chunks(self) -> Iterator[Chunk]:
        """Every distinct chunk once, in the order in which the packs hold them."""
        seen: set[bytes] = set()
        for chunk in _chunks(self.chunk_table):
            if chunk.raw_digest not in seen:
                seen.add(chunk.raw_digest)
                yield chunk


def encode(
    carried: Content,
    blobs: Sequence[Blob],
    chunks: Sequence[Chunk],
    packs: Sequence[Pack],
    *,
    algorithm: ChunkAlgorithm,
) -> bytes:
    """The index. Its length depends on the numbers of rows alone, never on the digests in them."""
    sections = {
        "content": content.encode(carried),
        "blobs": b"".join(_encode_blob(blob) for blob in blobs),
        "chunks": b"".join(_encode_chunk(chunk) for chunk in chunks),
        "packs": b"".join(_PACK.pack(pack.digest.raw, pack.length) for pack in packs),
        "base": b"",
    }
    codecs = tuple(codec.label for codec in Codec)
    largest = max((chunk.raw_length for chunk in chunks), default=1)
    head = Head(
        base=None,
        chunk_digest=algorithm.value,
        codecs=codecs,
        content=str(Digest.of(sections["content"])),
        format=FORMAT,
        limits=Limits(encoded=largest, raw=largest, window=max(largest, 1 << 10)),
        requires=Requires(
            codecs=codecs, digests=(algorithm.value,), features=(), kinds=tuple(sorted({i.kind for i in carried.items}))
        ),
        sections=tuple(
            Section(count=len(body) // _WIDTHS[name], name=name, required=True, width=_WIDTHS[name])
            for name, body in sections.items()
        ),
        transport=str(_transport(sections)),
    )
    body = _padded(canonical.encode(head)) + b"".join(_padded(section) for section in sections.values())
    head_length = len(canonical.encode(head))
    return _PRELUDE.pack(_MAGIC, FORMAT, 0, head_length, _PRELUDE.size + len(body), bytes(32)) + body


def decode(raw: bytes) -> Index:
    """The index in `raw`, every rule of the format checked.

    Errors: `UnsupportedFormatError` names what a newer program is needed for; `FormatError` says which rule is broken.
    """
    head = _decode_head(raw)
    sections = _sections(raw, head)
    if str(Digest.of(sections["content"])) != head.content or str(_transport(sections)) != head.transport:
        raise FormatError("index: its sections are not those that its head names")
    carried = content.decode(bytes(sections["content"]))
    blobs = tuple(
        Blob(Digest(sha256), md5, git_sha1, size, first, count)
        for sha256, md5, git_sha1, size, first, count in _BLOB.iter_unpack(sections["blobs"])
    )
    packs = tuple(Pack(Digest(sha256), length) for sha256, length in _PACK.iter_unpack(sections["packs"]))
    _check_blobs(sections["blobs"], sections["chunks"], blobs, carried)
    _check_chunks(sections["chunks"], head, packs)
    return Index(raw, head, carried, blobs, packs, sections["chunks"])


def _encode_blob(blob: Blob) -> bytes:
    return _BLOB.pack(blob.digest.raw, blob.md5, blob.git_sha1, blob.size, blob.first_chunk, blob.chunk_count)


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


def _chunks(table: memoryview) -> Iterator[Chunk]:
    for raw_digest, encoded_digest, raw_length, encoded_length, pack, _, offset, codec in _CHUNK.iter_unpack(table):
        yield Chunk(raw_digest, encoded_digest, raw_length, encoded_length, pack, offset, Codec(codec))


def _padded(section: bytes) -> bytes:
    return section + bytes(-len(section) % 8)


def _transport(sections: dict[str, Any]) -> Digest:
    return Digest.of(b"".join(bytes(sections[name]) for name in ("blobs", "chunks", "packs", "base")))


def _decode_head(raw: bytes) -> Head:
    if raw[:8] == _MAGIC and (version := int.from_bytes(raw[8:12], "little")) != FORMAT:
        raise UnsupportedFormatError(f"index format {version}; this program reads {FORMAT}")
    if len(raw) < _PRELUDE.size or raw[:8] != _MAGIC:
        raise FormatError("index: it does not begin as an index does")
    _, _, zero, head_length, length, reserved = _PRELUDE.unpack_from(raw)
    if zero or any(reserved) or length != len(raw) or head_length > min(_MAXIMUM_HEAD, length - _PRELUDE.size):
        raise FormatError("index: its lengths do not agree with its size")
    text = raw[_PRELUDE.size : _PRELUDE.size + head_length]
    value = canonical.decode(text, limit=_MAXIMUM_HEAD, subject="index head")
    _check_requires(value)
    head = canonical.convert(value, Head, subject="index head")
    if head.format != FORMAT or head.base is not None:
        raise UnsupportedFormatError("the bundle is a delta, or of another format: bring a newer program")
    if head.chunk_digest not in head.requires.digests or set(head.codecs) != set(head.requires.codecs):
        raise FormatError("index head: it uses what it does not require")
    if head.codecs != tuple(codec.label for codec in Codec):
        raise UnsupportedFormatError(f"codec table {', '.join(head.codecs)}: bring a newer program")
    if head.limits.raw > MAXIMUM_RAW or head.limits.encoded > MAXIMUM_ENCODED or head.limits.window > MAXIMUM_WINDOW:
        raise UnsupportedFormatError("the bundle's chunks are larger than this program takes")
    return head


def _check_requires(value: canonical.Json) -> None:
    """Refuse by name what this program does not know, before anything else of the head is looked at."""
    required = value.get("requires") if isinstance(value, dict) else None
    requires = canonical.convert(required, Requires, subject="index head: requires")
    known = Requires(
        codecs=tuple(codec.label for codec in Codec),
        digests=tuple(ChunkAlgorithm),
        features=(),
        kinds=content.KINDS,
    )
    for field in ("codecs", "digests", "features", "kinds"):
        for name in getattr(requires, field):
            if name not in getattr(known, field):
                raise UnsupportedFormatError(
                    f"the bundle needs {field} {name!r}, which this program does not know",
                    hint="bring a newer version of this program to the site",
                )


def _sections(raw: bytes, head: Head) -> dict[str, memoryview]:
    """The known sections, by name; their places follow from the order and lengths in the head's table."""
    view = memoryview(raw)
    names = [section.name for section in head.sections]
    if names[: len(_WIDTHS)] != list(_WIDTHS) or len(set(names)) != len(names):
        raise FormatError("index head: sections missing, repeated or out of order")
    found: dict[str, memoryview] = {}
    place = _PRELUDE.size + _aligned(len(canonical.encode(head)))
    if any(view[_PRELUDE.size + len(canonical.encode(head)) : place]):
        raise FormatError("index: padding is not zero")
    for section in head.sections:
        length = section.width * section.count
        if section.width < 1 or section.count < 0 or place + _aligned(length) > len(raw):
            raise FormatError(f"index: section {section.name} is longer than the index")
        if section.name not in _WIDTHS and section.required:
            raise UnsupportedFormatError(f"the index needs section {section.name!r}, which this program does not know")
        if _WIDTHS.get(section.name, section.width) != section.width:
            raise FormatError(f"index: section {section.name} has rows of {section.width} bytes")
        if any(view[place + length : place + _aligned(length)]):
            raise FormatError("index: padding is not zero")
        if section.name in _WIDTHS:
            found[section.name] = view[place : place + length]
        place += _aligned(length)
    if place != len(raw) or len(found["base"]):
        raise FormatError("index: something follows the last section, or a full bundle has a base")
    return found


def _aligned(length: int) -> int:
    return length + -length % 8


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


def _check_chunks(table: memoryview, head: Head, packs: Sequence[Pack]) -> None:
    """Rows with one raw digest are equal; the first ones fill the packs from end to end."""
    rows = np.frombuffer(table, dtype=_CHUNK_ROWS)
    cells = np.frombuffer(table, dtype=np.uint8).reshape(-1, _CHUNK.size)
    if cells[:, 85:].any() or (rows["codec"] >= len(head.codecs)).any() or (rows["base"] != NOWHERE).any():
        raise FormatError("index: a chunk row has a codec, base or padding that it must not have")
    for field, limit in (("raw", head.limits.raw), ("encoded", head.limits.encoded)):
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
