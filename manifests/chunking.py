"""Where to cut a blob into chunks.

A cut is a choice of the builder, not of the format: any lengths that add up to the blob are valid. What matters is that
the same bytes are always cut the same way, so that they are found again.
"""

from collections.abc import Iterator
from typing import BinaryIO, Final, Protocol

CHUNK: Final = 4 << 20
"""Bytes of a chunk of fixed length."""


class Chunker(Protocol):
    """Cuts a stream into chunks."""

    @property
    def name(self) -> str:
        """A part of the encoder profile: other cuts, other name."""

    def cut(self, stream: BinaryIO) -> Iterator[bytes]:
        """The chunks of `stream`, in order; none is empty."""


class FixedChunker:
    """Chunks of one length, the last one shorter."""

    name = "fixed4m"

    def cut(self, stream: BinaryIO) -> Iterator[bytes]:
        """The chunks of `stream`, `CHUNK` bytes each but for the last."""
        while piece := _read_exactly(stream, CHUNK):
            yield piece


def _read_exactly(stream: BinaryIO, length: int) -> bytes:
    """`length` bytes, fewer only at the end: a raw stream may give less than was asked for."""
    pieces = []
    while length and (piece := stream.read(length)):
        pieces.append(piece)
        length -= len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)
