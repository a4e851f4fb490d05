"""Digests: `sha256:<hex>` of exact bytes, and the other hashes that clients name blobs by.

* `str(Digest.parse(text)) == text`: there is one spelling, lower case.
* A `Digest` is always a SHA-256: the name of a blob. Chunks are named by raw 32-byte digests of a `ChunkAlgorithm`.
"""

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Self, TypeAlias

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
