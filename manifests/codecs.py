"""Codecs: how the raw bytes of a chunk are encoded, and decoded again.

* One chunk is one frame, made in one shot by one thread: same bytes in, same libzstd, same bytes out.
* Decoding never makes more bytes than were declared, and never asks for a window beyond `MAXIMUM_WINDOW`.
* What is decoded has been checked against its digest before, and is checked again after.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

import zstandard

from manifests.digest import ReadableBuffer
from manifests.errors import DamagedError

MAXIMUM_RAW: Final = 64 << 20
"""Bytes of one raw chunk; a bundle declares its own, smaller, bound."""
MAXIMUM_ENCODED: Final = MAXIMUM_RAW
"""Bytes of one encoded chunk: an encoding that does not shrink is not used."""
MAXIMUM_WINDOW: Final = MAXIMUM_RAW
"""Bytes of history that a zstd frame may ask the decoder to keep."""
LEVEL: Final = 1


class Codec(IntEnum):
    """The codecs of format 1, by the number that a chunk row carries."""

    RAW = 0
    ZSTD = 1

    @property
    def label(self) -> str:
        """The name that `requires` and messages use."""
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class Encoded:
    """One chunk as it is carried."""

    codec: Codec
    content: bytes


def profile() -> str:
    """What the encoded bytes depend on: the rules of this file, the parameters and the libzstd that ran."""
    version = ".".join(str(part) for part in zstandard.ZSTD_VERSION)
    return f"v1-zstd{LEVEL}-{version}"


def encode(raw: ReadableBuffer) -> Encoded:
    """The smaller of `raw` itself and its zstd frame, which declares its size and carries no checksum of its own."""
    frame = zstandard.ZstdCompressor(level=LEVEL, write_content_size=True, write_checksum=False).compress(raw)
    return Encoded(Codec.ZSTD, frame) if len(frame) < len(raw) else Encoded(Codec.RAW, bytes(raw))


def decode(codec: Codec, encoded: ReadableBuffer, raw_length: int, *, window: int = MAXIMUM_WINDOW) -> bytes:
    """The `raw_length` bytes that `encoded` stands for; `DamagedError` for anything that is not exactly that.

    `window` is the largest history, in bytes, that a frame may ask for.
    """
    raw = bytes(encoded) if codec is Codec.RAW else _decode_frame(encoded, raw_length, window)
    if len(raw) != raw_length:
        raise DamagedError(f"a chunk decodes to {len(raw)} bytes, and {raw_length} were declared")
    return raw


def _decode_frame(encoded: ReadableBuffer, raw_length: int, window: int) -> bytes:
    try:
        frame = zstandard.get_frame_parameters(encoded)
        if frame.content_size != raw_length or frame.dict_id or frame.has_checksum or frame.window_size > window:
            raise DamagedError("a zstd frame is not of the one kind that the format allows")
        decompressor = zstandard.ZstdDecompressor(max_window_size=MAXIMUM_WINDOW)
        return decompressor.decompress(encoded, max_output_size=raw_length, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise DamagedError(f"a zstd frame cannot be decoded: {error}") from error
