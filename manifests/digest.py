"""Digests: `sha256:<hex>` of exact bytes, and the other hashes that clients name blobs by.

* `str(Digest.parse(text)) == text`: there is one spelling, lower case.
* A `Digest` is always a SHA-256: the name of a blob. Chunks are named by raw 32-byte digests of a `ChunkAlgorithm`.
"""

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Protocol, Self, TypeAlias

from blake3 import blake3

from manifests.errors import FormatError

ReadableBuffer: TypeAlias = bytes | bytearray | memoryview

_TEXT: Final = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, order=True)
class Digest:
    """SHA-256 of exact bytes. `raw` is 32 bytes."""

    raw: bytes

    @classmethod
    def parse(cls, text: str) -> Self:
        """`sha256:<64 lower-case hex>`; anything else is a `FormatError`."""
        if not _TEXT.fullmatch(text):
            raise FormatError(f"not a digest: {text!r}", hint="a digest is written sha256:<64 lower-case hex digits>")
        return cls(bytes.fromhex(text[7:]))

    @classmethod
    def of(cls, content: ReadableBuffer) -> Self:
        """The digest of `content`."""
        return cls(hashlib.sha256(content).digest())

    @property
    def hex(self) -> str:
        """64 lower-case hex digits."""
        return self.raw.hex()

    def __str__(self) -> str:
        return f"sha256:{self.hex}"


class Hash(Protocol):
    """What `hashlib` gives."""

    def update(self, content: ReadableBuffer, /) -> None:
        """Hash on."""

    def digest(self) -> bytes:
        """The digest of all that came."""


@dataclass(frozen=True, slots=True)
class BlobHashes:
    """Every hash that a client names a blob by, under way: SHA-256, MD5, and SHA-1 as git takes it."""

    sha256: Hash
    md5: Hash
    git_sha1: Hash

    @classmethod
    def begin(cls, size: int) -> Self:
        """The hashes of a blob of `size` bytes: git's begins with a header that names it."""
        return cls(
            hashlib.sha256(),
            hashlib.md5(usedforsecurity=False),
            hashlib.sha1(b"blob %d\x00" % size, usedforsecurity=False),
        )

    def each(self) -> tuple[Hash, Hash, Hash]:
        """The three, so that each can be fed by a thread of its own."""
        return self.sha256, self.md5, self.git_sha1

    def digests(self) -> tuple[bytes, bytes, bytes]:
        """SHA-256 (32 bytes), MD5 (16) and git's SHA-1 (20)."""
        return self.sha256.digest(), self.md5.digest(), self.git_sha1.digest()


class ChunkAlgorithm(StrEnum):
    """How chunks are named and checked: BLAKE3, or SHA-256 where only FIPS algorithms are allowed."""

    BLAKE3 = "blake3"
    SHA256 = "sha256"

    @property
    def digest(self) -> Callable[[ReadableBuffer], bytes]:
        """A function from bytes to their 32-byte digest."""
        return _blake3 if self is ChunkAlgorithm.BLAKE3 else _sha256


def _blake3(content: ReadableBuffer) -> bytes:
    return blake3(content).digest()


def _sha256(content: ReadableBuffer) -> bytes:
    return hashlib.sha256(content).digest()
