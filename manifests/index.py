"""The bundle index: which blobs a bundle carries, and where each chunk lies.

Owns the meaning of the index and nothing else: no paths, no network, no keys. FORMAT.md, section 2, has the bytes.
* Nothing here is trusted until its envelope has been verified.
* Every length is known before it is read; nothing is read to the end of a file.
"""

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from manifests import canonical, content
from manifests.codecs import MAXIMUM_ENCODED, MAXIMUM_RAW, MAXIMUM_WINDOW, Codec
from manifests.content import Content
from manifests.digest import ChunkAlgorithm, Digest, ReadableBuffer
from manifests.errors import FormatError, UnsupportedFormatError
from manifests.manifest import Struct
from manifests.tables import WIDTHS, Blob, Chunk, Limits, Pack, Tables

FORMAT: Final = 1
MAXIMUM_SIZE: Final = 1 << 30
"""Bytes of an index: some ten million chunks."""
_PRELUDE: Final = struct.Struct("<8sIIQQ32s")
_MAGIC: Final = b"OBINDEX\x00"
_MAXIMUM_HEAD: Final = 1 << 20
_WIDTHS: Final = {"content": 1, **WIDTHS, "base": 40}


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
    _tables: Tables

    @property
    def content_digest(self) -> Digest:
        """Names what is carried, whatever the way it is carried."""
        return Digest.parse(self.head.content)

    @property
    def algorithm(self) -> ChunkAlgorithm:
        """How chunks are named and checked."""
        return ChunkAlgorithm(self.head.chunk_digest)

    @property
    def blobs(self) -> tuple[Blob, ...]:
        """Every distinct blob, in the order of first mention."""
        return self._tables.blobs

    @property
    def packs(self) -> tuple[Pack, ...]:
        """Every pack, in order."""
        return self._tables.packs

    @property
    def chunk_count(self) -> int:
        """Rows of the chunk table."""
        return self._tables.chunk_count

    @cached_property
    def _by_digest(self) -> dict[Digest, Blob]:
        return {blob.digest: blob for blob in self.blobs}

    def blob(self, digest: Digest) -> Blob:
        """The blob with this digest; every file of the content has one."""
        return self._by_digest[digest]

    def chunks(self, blob: Blob) -> Iterator[Chunk]:
        """The chunks of a blob, in order."""
        return self._tables.chunks(blob.first_chunk, blob.chunk_count)


def encode(
    carried: Content,
    blobs: Sequence[Blob],
    chunks: Sequence[Chunk],
    packs: Sequence[Pack],
    algorithm: ChunkAlgorithm,
) -> bytes:
    """The index. Its length depends on the numbers of rows alone, never on the digests in them."""
    tables = Tables.encode(blobs, chunks, packs)
    sections: dict[str, ReadableBuffer] = {
        "content": content.encode(carried),
        "blobs": tables.blob_rows,
        "chunks": tables.chunk_rows,
        "packs": tables.pack_rows,
        "base": b"",
    }
    largest = max((chunk.raw_length for chunk in chunks), default=1)
    head = canonical.encode(_head(carried, sections, largest, algorithm))
    body = _padded(head) + b"".join(_padded(section) for section in sections.values())
    return _PRELUDE.pack(_MAGIC, FORMAT, 0, len(head), _PRELUDE.size + len(body), bytes(32)) + body


def decode(raw: bytes) -> Index:
    """The index in `raw`, every rule of the format checked.

    Errors: `UnsupportedFormatError` names what a newer program is needed for; `FormatError` says which rule is broken.
    """
    head = _decode_head(raw)
    sections = _sections(raw, head)
    if str(Digest.of(sections["content"])) != head.content or str(_transport(sections)) != head.transport:
        raise FormatError("index: its sections are not those that its head names")
    carried = content.decode(bytes(sections["content"]))
    if not set(carried.features) <= set(head.requires.features):
        raise FormatError("index: its content uses a feature that its head does not require")
    tables = Tables(sections["blobs"], sections["chunks"], sections["packs"])
    tables.check(carried, head.limits)
    return Index(raw, head, carried, tables)


def _head(carried: Content, sections: Mapping[str, ReadableBuffer], largest: int, algorithm: ChunkAlgorithm) -> Head:
    codecs = tuple(codec.label for codec in Codec)
    kinds = tuple(sorted({item.kind for item in carried.items}))
    return Head(
        base=None,
        chunk_digest=algorithm.value,
        codecs=codecs,
        content=str(Digest.of(sections["content"])),
        format=FORMAT,
        limits=Limits(encoded=largest, raw=largest, window=max(largest, 1 << 10)),
        requires=Requires(codecs=codecs, digests=(algorithm.value,), features=carried.features, kinds=kinds),
        sections=tuple(
            Section(count=len(body) // _WIDTHS[name], name=name, required=True, width=_WIDTHS[name])
            for name, body in sections.items()
        ),
        transport=str(_transport(sections)),
    )


def _padded(section: ReadableBuffer) -> bytes:
    return bytes(section) + bytes(-len(section) % 8)


def _transport(sections: Mapping[str, ReadableBuffer]) -> Digest:
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
        features=content.FEATURES,
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
