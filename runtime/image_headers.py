"""How large a picture is, read from its first bytes, before any decoder has seen it.

Owns the headers of the formats that are accepted as input. A decoder allocates width x height pixels on a header's
word, so a few hundred hostile bytes could ask for gigabytes: the size is known, and bounded, first.
* Only formats listed here are decoded. What cannot be measured is not a picture to us.
* No read goes beyond the content; a header that ends early is no header.
"""

import struct
from collections.abc import Callable
from typing import Final

FORMATS: Final = "JPEG, PNG, WebP, BMP, GIF or TIFF"

Size = tuple[int, int]

_JPEG_FRAMES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_BARE_MARKERS: Final = frozenset({0x01, *range(0xD0, 0xD9)})
_TIFF_WIDTH: Final = 256
_TIFF_HEIGHT: Final = 257
_TIFF_INTEGERS: Final = {1: "B", 3: "H", 4: "I"}


def picture_size(content: bytes) -> Size | None:
    """Width and height in pixels as the header says, before any rotation; None when it is no picture of `FORMATS`."""
    for signature, read in _READERS:
        if content.startswith(signature):
            try:
                return read(content)
            except struct.error:
                return None
    return None


def _png(content: bytes) -> Size | None:
    if content[12:16] != b"IHDR":
        return None
    width, height = struct.unpack_from(">II", content, 16)
    return width, height


def _gif(content: bytes) -> Size | None:
    width, height = struct.unpack_from("<HH", content, 6)
    return width, height


def _bmp(content: bytes) -> Size | None:
    (header_bytes,) = struct.unpack_from("<I", content, 14)
    if header_bytes == 12:
        width, height = struct.unpack_from("<HH", content, 18)
        return width, height
    width, height = struct.unpack_from("<ii", content, 18)
    return abs(width), abs(height)  # a negative height says that the rows run from the top


def _webp(content: bytes) -> Size | None:
    form = content[8:16]
    if form == b"WEBPVP8X":
        width, height = (int.from_bytes(content[at : at + 3], "little") + 1 for at in (24, 27))
        return (width, height) if len(content) >= 30 else None
    if form == b"WEBPVP8L":
        (bits,) = struct.unpack_from("<I", content, 21)
        return (bits & 0x3FFF) + 1, ((bits >> 14) & 0x3FFF) + 1
    if form == b"WEBPVP8 ":
        width, height = struct.unpack_from("<HH", content, 26)
        return width & 0x3FFF, height & 0x3FFF
    return None


def _jpeg(content: bytes) -> Size | None:
    at = 2
    while at + 1 < len(content) and content[at] == 0xFF:
        marker = content[at + 1]
        if marker == 0xFF:  # padding before a marker
            at += 1
        elif marker in _JPEG_FRAMES:
            height, width = struct.unpack_from(">HH", content, at + 5)
            return width, height
        elif marker in _JPEG_BARE_MARKERS:
            at += 2
        else:
            (length,) = struct.unpack_from(">H", content, at + 2)
            at += 2 + length
    return None


def _tiff(content: bytes) -> Size | None:
    order = "<" if content.startswith(b"II") else ">"
    (directory,) = struct.unpack_from(order + "I", content, 4)
    (count,) = struct.unpack_from(order + "H", content, directory)
    sizes: dict[int, int] = {}
    for at in range(directory + 2, directory + 2 + 12 * count, 12):
        tag, kind = struct.unpack_from(order + "HH", content, at)
        if tag in {_TIFF_WIDTH, _TIFF_HEIGHT} and kind in _TIFF_INTEGERS:
            # Of two fields with one tag a decoder may believe either: the larger one is the one to bound.
            (size,) = struct.unpack_from(order + _TIFF_INTEGERS[kind], content, at + 8)
            sizes[tag] = max(size, sizes.get(tag, 0))
    return (sizes[_TIFF_WIDTH], sizes[_TIFF_HEIGHT]) if len(sizes) == 2 else None


_READERS: Final[tuple[tuple[bytes, Callable[[bytes], Size | None]], ...]] = (
    (b"\xff\xd8\xff", _jpeg),
    (b"\x89PNG\r\n\x1a\n", _png),
    (b"RIFF", _webp),
    (b"BM", _bmp),
    (b"GIF87a", _gif),
    (b"GIF89a", _gif),
    (b"II*\x00", _tiff),
    (b"MM\x00*", _tiff),
)
