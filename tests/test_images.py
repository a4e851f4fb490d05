"""Pictures in and out."""

import struct
from pathlib import Path

import cv2
import numpy as np
import pytest

from installed import picture
from manifests.errors import InvalidInputError
from runtime.image_headers import picture_size
from runtime.images import decode, encode, measure

CORNER = np.zeros((40, 60, 3), np.uint8)
CORNER[:20, :30] = 255  # white in the upper left quarter
WRITTEN = (".jpg", ".png", ".webp", ".bmp", ".gif", ".tiff")


def with_exif(jpeg: bytes, orientation: int) -> bytes:
    """The JPEG with an EXIF block that says how it was held."""
    field = struct.pack(">HHIHH", 0x0112, 3, 1, orientation, 0)
    body = b"Exif\0\0" + b"MM\0*" + struct.pack(">I", 8) + struct.pack(">H", 1) + field + struct.pack(">I", 0)
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + jpeg[2:]


def white_corner(image: np.ndarray) -> str:
    quarters = {
        "upper left": image[:10, :10],
        "upper right": image[:10, -10:],
        "lower left": image[-10:, :10],
        "lower right": image[-10:, -10:],
    }
    (name,) = [name for name, quarter in quarters.items() if quarter.mean() > 200]
    return name


class PilLikePicture:
    """Speaks as much of PIL's protocol as a picture needs."""

    mode = "RGB"

    def __init__(self, rgb: np.ndarray, orientation: int = 1) -> None:
        self._rgb = rgb
        self._orientation = orientation
        self.size = (rgb.shape[1], rgb.shape[0])

    def convert(self, mode: str) -> np.ndarray:
        assert mode == "RGB"
        return self._rgb

    def getexif(self) -> dict[int, int]:
        return {274: self._orientation}


@pytest.mark.parametrize("suffix", WRITTEN)
def test_the_size_in_the_header_is_the_size_of_the_picture(suffix: str) -> None:
    content = encode(picture(61, 43), suffix)
    assert picture_size(content) == (61, 43)
    assert decode(content).shape == (43, 61, 3)


@pytest.mark.parametrize("suffix", WRITTEN)
def test_a_header_that_ends_early_is_no_header(suffix: str) -> None:
    content = encode(picture(), suffix)
    for length in range(40):
        size = picture_size(content[:length])
        assert size in {None, (64, 64)}


def test_a_path_a_string_bytes_and_an_array_are_the_same_picture(tmp_path: Path) -> None:
    path = tmp_path / "corner.png"
    path.write_bytes(encode(CORNER, ".png"))
    for source in (path, str(path), path.read_bytes(), memoryview(path.read_bytes()), CORNER):
        np.testing.assert_array_equal(decode(source), CORNER)


def test_pil_pictures_are_red_green_blue_and_become_blue_green_red() -> None:
    rgb = np.full((4, 6, 3), (200, 100, 50), np.uint8)
    assert decode(PilLikePicture(rgb))[0, 0].tolist() == [50, 100, 200]


@pytest.mark.parametrize("mode", ["I;16", "I;16B", "I"])
def test_sixteen_bits_of_grey_are_the_same_from_pil_and_from_a_file(mode: str) -> None:
    deep = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    done, content = cv2.imencode(".png", deep)
    assert done

    class Deep(PilLikePicture):
        def __array__(self, dtype: object = None, copy: object = None) -> np.ndarray:
            return deep.astype({"I;16": "<u2", "I;16B": ">u2", "I": "i4"}[mode])

    pil = Deep(np.zeros((256, 256, 3), np.uint8))
    pil.mode = mode
    np.testing.assert_array_equal(decode(pil), decode(content.tobytes()))


@pytest.mark.parametrize("failure", [OSError("image file is truncated"), SyntaxError("broken PNG file"), EOFError()])
def test_a_truncated_pil_picture_is_refused(failure: Exception) -> None:
    class Truncated(PilLikePicture):
        def convert(self, mode: str) -> np.ndarray:
            del mode
            raise failure

    with pytest.raises(InvalidInputError, match="the image: a damaged picture"):
        decode(Truncated(np.zeros((4, 4, 3), np.uint8)))


def test_a_pil_picture_of_floats_is_refused() -> None:
    floats = PilLikePicture(np.zeros((4, 4, 3), np.uint8))
    floats.mode = "F"
    with pytest.raises(InvalidInputError, match="floats"):
        decode(floats)


def test_a_picture_is_measured_without_decoding_it(monkeypatch: pytest.MonkeyPatch) -> None:
    content = encode(picture(61, 43), ".png")
    with monkeypatch.context() as context:
        context.setattr(cv2, "imdecode", pytest.fail)
        measured = measure(content, name="one")
        assert (measured.width, measured.height, measured.pixels) == (61, 43, 61 * 43)
    assert decode(measured).shape == (43, 61, 3)
    with pytest.raises(InvalidInputError, match="more than the 100 allowed"):
        measure(content, name="one", maximum_pixels=100)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_to_files_and_to_pil_pictures_alike(orientation: int) -> None:
    from_file = decode(with_exif(encode(CORNER, ".jpg"), orientation))
    from_pil = decode(PilLikePicture(CORNER[:, :, ::-1], orientation))
    expected = ["upper left", "upper right", "lower right", "lower left"] * 2
    expected[4:] = ["upper left", "upper right", "lower right", "lower left"]
    assert from_file.shape[:2] == from_pil.shape[:2] == ((40, 60) if orientation < 5 else (60, 40))
    assert white_corner(from_file) == white_corner(from_pil) == expected[orientation - 1]


def test_grey_and_transparent_arrays_become_three_channels() -> None:
    grey = np.full((5, 7), 9, np.uint8)
    assert decode(grey).shape == decode(grey[:, :, None]).shape == (5, 7, 3)
    assert decode(np.dstack([picture(7, 5), grey])).tolist() == picture(7, 5).tolist()


def test_grey_files_become_three_channels() -> None:
    done, content = cv2.imencode(".png", np.full((5, 7), 9, np.uint8))
    assert done
    assert decode(content.tobytes()).shape == (5, 7, 3)


def test_a_text_file_is_refused_by_its_name(tmp_path: Path) -> None:
    path = tmp_path / "bus.txt"
    path.write_text("a bus")
    with pytest.raises(InvalidInputError, match=r"bus\.txt: not a picture"):
        decode(path)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("https://example.com/bus.jpg", "nothing is fetched"),
        ("no-such-file.jpg", "no such file"),
        (Path(), "not a file"),
        (b"", "not a picture"),
        (12, "is a int, not a picture"),
        (None, "is a NoneType, not a picture"),
        (np.zeros((4, 4, 3), np.float32), "float32"),
        (np.zeros((4, 4, 2), np.uint8), "not a picture"),
        (np.zeros((0, 4, 3), np.uint8), "is empty"),
    ],
)
def test_what_is_no_picture_is_refused(source: object, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        decode(source)  # type: ignore[arg-type]


def test_a_bomb_is_refused_before_it_is_decoded() -> None:
    content = bytearray(encode(picture(), ".png"))
    content[16:24] = struct.pack(">II", 60_000, 60_000)
    with pytest.raises(InvalidInputError, match="60000 x 60000 pixels are more"):
        decode(bytes(content))


@pytest.mark.parametrize("source", [picture(11, 10), encode(picture(11, 10), ".jpg")])
def test_the_number_of_pixels_is_bounded(source: object) -> None:
    decode(source, maximum_pixels=110)  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match="more than the 109 allowed"):
        decode(source, maximum_pixels=109)  # type: ignore[arg-type]


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
def test_half_a_picture_is_an_error_or_a_picture_but_never_a_crash(suffix: str) -> None:
    content = encode(CORNER, suffix)
    for length in range(16, len(content), 7):
        try:
            assert decode(content[:length]).shape == CORNER.shape
        except InvalidInputError:
            continue


def test_a_file_of_an_unknown_format_cannot_be_written() -> None:
    with pytest.raises(InvalidInputError, match="no picture can be written"):
        encode(CORNER, ".docx")
