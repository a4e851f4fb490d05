"""The file of an encoded chunk in the builder's store: what the bytes are, and the bytes.

    magic   8   "OBCHUNK1"
    codec   1 · zero 3 · raw length 4 · encoded length 4, little endian
    digest 32   of the encoded bytes
    the encoded bytes, to the end of the file

* A torn, flipped or longer file is noticed without knowing the raw bytes; it lies on our own disk, so the way out is to
  write it anew.
"""

import struct
from dataclasses import dataclass
from typing import Final

from manifests import codecs
from manifests.codecs import Codec, Encoded
from manifests.digest import ChunkAlgorithm
from manifests.errors import CorruptStoreError, DamagedError

_HEAD: Final = struct.Struct("<8sBxxxII32s")
_MAGIC: Final = b"OBCHUNK1"
HEAD_SIZE: Final = _HEAD.size
MAXIMUM_SIZE: Final = HEAD_SIZE + codecs.MAXIMUM_ENCODED
_CODECS: Final = frozenset(Codec)


@dataclass(frozen=True, slots=True)
class ChunkHead:
    """What a bundle's index says of an encoded chunk. `digest` is that of the encoded bytes, 32 bytes."""

    codec: Codec
    raw_length: int
    encoded_length: int
    digest: bytes


def encode(raw_length: int, encoded: Encoded, algorithm: ChunkAlgorithm) -> bytes:
    """The file."""
    digest = algorithm.digest(encoded.content)
    return _HEAD.pack(_MAGIC, encoded.codec, raw_length, len(encoded.content), digest) + encoded.content


def decode_head(content: bytes) -> ChunkHead:
    """What the first bytes of a file say. Errors: `CorruptStoreError`."""
    if len(content) < HEAD_SIZE:
        raise CorruptStoreError("it is truncated")
    magic, codec, raw_length, encoded_length, digest = _HEAD.unpack_from(content)
    if magic != _MAGIC or codec not in _CODECS:
        raise CorruptStoreError("it is no chunk")
    return ChunkHead(Codec(codec), raw_length, encoded_length, digest)


def decode(content: bytes, algorithm: ChunkAlgorithm) -> tuple[ChunkHead, bytes]:
    """The head and the encoded bytes, which are those that were written. Errors: `CorruptStoreError`."""
    head, encoded = decode_head(content), content[HEAD_SIZE:]
    if len(encoded) != head.encoded_length:
        raise CorruptStoreError("it is truncated" if len(encoded) < head.encoded_length else "it is too long")
    if algorithm.digest(encoded) != head.digest:
        raise CorruptStoreError("its bytes are not those that were written")
    return head, encoded


def raw(head: ChunkHead, encoded: bytes, algorithm: ChunkAlgorithm, digest: bytes) -> bytes:
    """The raw bytes, which are those that `digest` names. Errors: `CorruptStoreError`."""
    try:
        content = codecs.decode(head.codec, encoded, head.raw_length)
    except DamagedError as error:
        raise CorruptStoreError(error.message) from error
    if algorithm.digest(content) != digest:
        raise CorruptStoreError("it is another chunk than its name says")
    return content
