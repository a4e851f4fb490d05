"""Pictures in and out: whatever a caller holds becomes one array, and an array becomes a file's bytes.

Owns decoding and encoding. Inside the runtime a picture is always uint8, height x width x 3, blue-green-red.
* A picture comes from a path, bytes, an array or a PIL image. An address is refused: nothing is ever fetched.
* The number of pixels is bounded before the decoder runs; `measure` tells it without running one.
* 16 bits a channel become 8 by their upper half, whoever decoded them.
* EXIF orientation is applied, so that coordinates are those of the picture as a person sees it.
"""

import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from manifests.errors import InvalidInputError, MissingExtraError
from runtime.image_headers import FORMATS, picture_size

try:
    import cv2
except ImportError as absent:
    raise MissingExtraError("cv2", "serve") from absent

Image: TypeAlias = NDArray[np.uint8]

MAXIMUM_PIXELS: Final = 100_000_000
MAXIMUM_FILE_BYTES: Final = 512 * 1024 * 1024

_EXIF_ORIENTATION: Final = 274
_PIL_SIXTEEN_BITS: Final = ("I", "I;16", "I;16L", "I;16B", "I;16N")


@runtime_checkable
class PilImage(Protocol):
    """As much of `PIL.Image.Image` as is needed here: PIL itself is not a dependency."""

    size: tuple[int, int]
    mode: str

    def convert(self, mode: str) -> Any:
        """The same picture in another mode."""

    def getexif(self) -> Any:
        """A mapping of EXIF tags."""


@dataclass(frozen=True, slots=True)
class MeasuredPicture:
    """A picture file's bytes, not decoded yet, whose header was read and found within bounds.

    `name` is what messages call it; `width` and `height` are pixels before any rotation.
    """

    content: bytes
    name: str
    width: int
    height: int

    @property
    def pixels(self) -> int:
        """How many pixels decoding it takes."""
        return self.width * self.height


ImageSource: TypeAlias = str | Path | bytes | bytearray | memoryview | NDArray[Any] | PilImage | MeasuredPicture


def decode(source: ImageSource, *, name: str = "", maximum_pixels: int = MAXIMUM_PIXELS) -> Image:
    """The picture that `source` holds or names: uint8, height x width x 3, blue-green-red, upright.

    Arrays are taken as blue-green-red (or grey, or with an alpha that is dropped), as OpenCV makes them. `name` is
    what messages call a picture that has no path. Raises `InvalidInputError` for anything that is not a picture, has
    more than `maximum_pixels`, or lies behind an address.
    """
    match source:
        case str() | Path():
            return _decode_file(source, maximum_pixels)
        case bytes() | bytearray() | memoryview():
            return _decode_bytes(bytes(source), name or "the input", maximum_pixels)
        case MeasuredPicture():
            return _decode_measured(source, maximum_pixels)
        case np.ndarray():
            return _from_array(source, name or "the array", maximum_pixels)
        case PilImage():
            return _from_pil(source, name or "the image", maximum_pixels)
    raise InvalidInputError(
        f"{name or 'the input'} is a {type(source).__name__}, not a picture",
        hint="give a path, the bytes of a file, a numpy array (blue-green-red) or a PIL image",
    )


def measure(content: bytes, *, name: str, maximum_pixels: int = MAXIMUM_PIXELS) -> MeasuredPicture:
    """The size of a picture file, from its header alone: nothing is decoded, little memory is taken.

    Raises `InvalidInputError` for bytes that are no picture, or one of more than `maximum_pixels`.
    """
    if len(content) > MAXIMUM_FILE_BYTES:
        raise InvalidInputError(f"{name}: larger than {MAXIMUM_FILE_BYTES} bytes")
    size = picture_size(content)
    if size is None:
        raise InvalidInputError(f"{name}: not a picture ({FORMATS})")
    _check_size(size, name, maximum_pixels)
    return MeasuredPicture(content, name, *size)


def can_encode(suffix: str) -> bool:
    """Whether `encode` knows the format that a suffix (`.jpg`) names."""
    return bool(suffix) and bool(cv2.haveImageWriter(f"picture{suffix}"))


def encode(image: Image, suffix: str) -> bytes:
    """The bytes of a file of the format that `suffix` names (`.jpg`, `.png`, `.webp`, …)."""
    try:
        done, content = cv2.imencode(suffix, image)
    except cv2.error as error:
        raise InvalidInputError(f"no picture can be written as {suffix!r}", hint="try .jpg or .png") from error
    if not done:
        raise InvalidInputError(f"the picture could not be written as {suffix!r}")
    return content.tobytes()


def _decode_file(source: str | Path, maximum_pixels: int) -> Image:
    if isinstance(source, str) and "://" in source:
        raise InvalidInputError(f"{source}: pictures are read from this disk, nothing is fetched")
    path = Path(source)
    if not path.is_file():
        raise InvalidInputError(f"{path}: no such file" if not path.exists() else f"{path}: not a file")
    try:
        with path.open("rb") as stream:
            content = stream.read(MAXIMUM_FILE_BYTES + 1)
    except OSError as error:
        raise InvalidInputError(f"{path}: cannot be read: {error.strerror}") from error
    return _decode_bytes(content, path.name, maximum_pixels)


def _decode_bytes(content: bytes, name: str, maximum_pixels: int) -> Image:
    return _decode_measured(measure(content, name=name, maximum_pixels=maximum_pixels), maximum_pixels)


def _decode_measured(picture: MeasuredPicture, maximum_pixels: int) -> Image:
    _check_size((picture.width, picture.height), picture.name, maximum_pixels)
    try:
        image = cv2.imdecode(np.frombuffer(picture.content, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error as error:
        raise InvalidInputError(f"{picture.name}: a damaged picture") from error
    if image is None:
        raise InvalidInputError(f"{picture.name}: a damaged picture")
    return image.astype(np.uint8, copy=False)


def _from_array(array: NDArray[Any], name: str, maximum_pixels: int) -> Image:
    channels = array.shape[2] if array.ndim == 3 else 1 if array.ndim == 2 else 0
    if array.dtype != np.uint8 or channels not in {1, 3, 4}:
        raise InvalidInputError(
            f"{name} is {array.dtype} {list(array.shape)}, not a picture",
            hint="a picture is uint8, height x width x 3 in blue-green-red, or height x width in grey",
        )
    _check_size((array.shape[1], array.shape[0]), name, maximum_pixels)
    if channels == 1:
        return np.repeat(array.reshape(*array.shape[:2], 1), 3, axis=2)
    return np.ascontiguousarray(array[:, :, :3])


def _from_pil(image: PilImage, name: str, maximum_pixels: int) -> Image:
    _check_size(image.size, name, maximum_pixels)
    if image.mode == "F":
        raise InvalidInputError(f"{name} has floats for pixels, and nobody says what is white", hint="convert it first")
    try:
        # PIL decodes when the pixels are first asked for, and says in many ways that it cannot.
        colours = _pil_colours(image)
        orientation = image.getexif().get(_EXIF_ORIENTATION, 1)
    except (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error) as error:
        raise InvalidInputError(f"{name}: a damaged picture: {error}") from error
    return np.ascontiguousarray(_upright(colours, orientation)[:, :, ::-1])


def _pil_colours(image: PilImage) -> Image:
    """Red, green, blue. `convert` would cut 16 bits off at 255, which makes nearly all of them white."""
    if image.mode not in _PIL_SIXTEEN_BITS:
        return np.asarray(image.convert("RGB"), np.uint8)
    grey = (np.clip(np.asarray(image), 0, 0xFFFF) >> 8).astype(np.uint8)
    return np.repeat(grey[:, :, None], 3, axis=2)


def _upright(image: Image, orientation: int) -> Image:
    """Undo an EXIF orientation (1 to 8; others mean nothing). From 5 on rows and columns are exchanged."""
    if orientation in {5, 6, 7, 8}:
        image = image.transpose(1, 0, 2)
    if orientation in {2, 3, 6, 7}:
        image = image[:, ::-1]
    if orientation in {3, 4, 7, 8}:
        image = image[::-1]
    return image


def _check_size(size: tuple[int, int], name: str, maximum_pixels: int) -> None:
    width, height = size
    if width < 1 or height < 1:
        raise InvalidInputError(f"{name}: a picture of {width} x {height} pixels is empty")
    if width * height > maximum_pixels:
        raise InvalidInputError(f"{name}: {width} x {height} pixels are more than the {maximum_pixels} allowed")
