"""The recipe of a blob: its hashes, its size, and the chunks that it is made of, in order.

The same bytes on both sides: the builder's store finds a blob's chunks by it, the site knows by it what a blob that
lies there is made of.

    magic     8   "OBRECIPE"
    version   4   1, little endian as every number here
    algorithm 4   0 blake3, 1 sha256: what the chunk digests are
    sha256   32 · md5 16 · git_sha1 20 · zero 4
    size      8   bytes of the blob: the sum of the lengths
    count     8   chunks
    rows          count times: digest of the raw chunk 32, length 4
    check    32   SHA-256 of everything before
"""

import hashlib
import struct
from dataclasses import dataclass
from typing import Final

from manifests.digest import ChunkAlgorithm, Digest
from manifests.errors import CorruptStoreError

_HEAD: Final = struct.Struct("<8sII32s16s20s4xQQ")
_ROW: Final = struct.Struct("<32sI")
_MAGIC: Final = b"OBRECIPE"
_VERSION: Final = 1
_ALGORITHMS: Final = (ChunkAlgorithm.BLAKE3, ChunkAlgorithm.SHA256)
MAXIMUM_SIZE: Final = 1 << 30
"""Bytes of a recipe: some 30 million chunks."""


@dataclass(frozen=True, slots=True)
class RecipeChunk:
    """One piece of a blob: the digest of its raw bytes (32 bytes) and their number."""

    digest: bytes
    length: int


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a blob is made of. `md5` is 16 bytes, `git_sha1` (of the blob as git would store it) 20."""

    digest: Digest
    size: int
    md5: bytes
    git_sha1: bytes
    algorithm: ChunkAlgorithm
    chunks: tuple[RecipeChunk, ...]


def encode(recipe: Recipe) -> bytes:
    """The file."""
    head = _HEAD.pack(
        _MAGIC,
        _VERSION,
        _ALGORITHMS.index(recipe.algorithm),
        recipe.digest.raw,
        recipe.md5,
        recipe.git_sha1,
        recipe.size,
        len(recipe.chunks),
    )
    body = head + b"".join(_ROW.pack(chunk.digest, chunk.length) for chunk in recipe.chunks)
    return body + hashlib.sha256(body).digest()


def decode(content: bytes, *, subject: str) -> Recipe:
    """The recipe in `content`, or `CorruptStoreError`: it lies on our own disk, so the way out is to write it anew."""
    body, check = content[:-32], content[-32:]
    if len(content) < _HEAD.size + 32 or hashlib.sha256(body).digest() != check:
        raise CorruptStoreError(f"{subject}: not a whole recipe")
    magic, version, algorithm, sha256, md5, git_sha1, size, count = _HEAD.unpack_from(body)
    if magic != _MAGIC or version != _VERSION or algorithm >= len(_ALGORITHMS):
        raise CorruptStoreError(f"{subject}: not a recipe of version {_VERSION}")
    if len(body) != _HEAD.size + count * _ROW.size:
        raise CorruptStoreError(f"{subject}: a recipe of another length than it says")
    chunks = tuple(RecipeChunk(digest, length) for digest, length in _ROW.iter_unpack(body[_HEAD.size :]))
    if sum(chunk.length for chunk in chunks) != size:
        raise CorruptStoreError(f"{subject}: the chunks do not add up to the size")
    return Recipe(Digest(sha256), size, md5, git_sha1, _ALGORITHMS[algorithm], chunks)
