"""How a vision model wants its pictures, and what its classes are called.

Owns the reading of `inference_config.json` and `class_names.txt`, and of the metadata that exporters write into a
graph. The package's files win; then the graph's own shapes and metadata; then what the family is known for.
* The files come from third parties: reads are bounded, literals are never evaluated as code.
* A preprocessing step that is asked for and not built here is refused: a silent difference is a wrong answer.
"""

import ast
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

import msgspec

from manifests.errors import ModelLoadError, listing

MAXIMUM_FILE_BYTES: Final = 4 * 1024 * 1024
MAXIMUM_LITERAL_CHARACTERS: Final = 1024 * 1024
MAXIMUM_CLASSES: Final = 100_000
MAXIMUM_INPUT_PIXELS: Final = 100_000_000
DEFAULT_SIZE: Final = (640, 640)


class ResizeMode(StrEnum):
    """How a picture is brought to the size of the network's input."""

    STRETCH = "stretch"
    LETTERBOX = "letterbox"


class ColourMode(StrEnum):
    """The order of the network's colour channels."""

    RGB = "rgb"
    BGR = "bgr"


@dataclass(frozen=True, slots=True)
class NetworkInput:
    """From picture to tensor. Sizes in pixels; a value v becomes ((v / scaling) - mean) / deviation, per channel."""

    height: int
    width: int
    resize: ResizeMode = ResizeMode.LETTERBOX
    colours: ColourMode = ColourMode.RGB
    padding: int = 114
    scaling: float = 255.0
    means: tuple[float, ...] = ()
    deviations: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Configuration:
    """Everything a vision family needs beside its weights.

    `class_names` is empty when nobody names the classes; `stride` (pixels) and `task` (the exporter's word) are None
    when the graph's metadata does not say.
    """

    network_input: NetworkInput
    class_names: tuple[str, ...]
    stride: int | None
    task: str | None


class _Size(msgspec.Struct):
    height: int
    width: int


class _NetworkInput(msgspec.Struct):
    training_input_size: _Size
    color_mode: ColourMode = ColourMode.RGB
    resize_mode: str = "letterbox"
    padding_value: int | None = 114
    input_channels: int = 3
    scaling_factor: float | None = None
    normalization: tuple[tuple[float, ...], tuple[float, ...]] | None = None


class _Step(msgspec.Struct):
    enabled: bool = True


class _ImagePreProcessing(msgspec.Struct, rename="kebab"):
    static_crop: _Step | None = None
    contrast: _Step | None = None
    grayscale: _Step | None = None


class _InferenceConfig(msgspec.Struct):
    network_input: _NetworkInput
    image_pre_processing: _ImagePreProcessing | None = None
    class_names_operations: list[Any] | None = None


def read_configuration(
    directory: Path, *, metadata: Mapping[str, str], size: tuple[int | None, int | None]
) -> Configuration:
    """The configuration of the package in `directory`.

    `metadata` is the graph's, `size` the height and width of its input (None where free). Raises `ModelLoadError` when
    a file is malformed, asks for a step that is not built here, or contradicts the graph.
    """
    return Configuration(
        network_input=_network_input(directory / "inference_config.json", metadata, size),
        class_names=_class_names(directory / "class_names.txt", metadata),
        stride=_stride(metadata),
        task=metadata.get("task"),
    )


def read_bounded(path: Path) -> bytes | None:
    """The bytes of a small file of a package; None when there is none. Raises `ModelLoadError`."""
    try:
        with path.open("rb") as stream:
            content = stream.read(MAXIMUM_FILE_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ModelLoadError(f"{path.name} cannot be read: {error.strerror}", facts={"path": path}) from error
    if len(content) > MAXIMUM_FILE_BYTES:
        raise ModelLoadError(f"{path.name} is larger than {MAXIMUM_FILE_BYTES} bytes", facts={"path": path})
    return content


def _network_input(path: Path, metadata: Mapping[str, str], size: tuple[int | None, int | None]) -> NetworkInput:
    content = read_bounded(path)
    if content is None:
        trained = _size_in_metadata(metadata)
        return NetworkInput(size[0] or trained[0], size[1] or trained[1])
    try:
        config = msgspec.json.decode(content, type=_InferenceConfig)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ModelLoadError(f"{path.name}: {error}", facts={"path": path}) from error
    _refuse_unbuilt_steps(path, config)
    asked = config.network_input
    height, width = asked.training_input_size.height, asked.training_input_size.width
    if (size[0] or height, size[1] or width) != (height, width):
        raise ModelLoadError(
            f"{path.name} says {height} x {width} pixels, the graph takes {size[0] or 'any'} x {size[1] or 'any'}"
        )
    means, deviations = _normalization(path, asked)
    return NetworkInput(
        *_checked_size(path.name, height, width),
        resize=ResizeMode(asked.resize_mode),
        colours=asked.color_mode,
        padding=min(255, max(0, asked.padding_value or 0)),
        scaling=asked.scaling_factor or 1.0,
        means=means,
        deviations=deviations,
    )


def _refuse_unbuilt_steps(path: Path, config: _InferenceConfig) -> None:
    asked = config.network_input
    steps = config.image_pre_processing or _ImagePreProcessing()
    named = {"static-crop": steps.static_crop, "contrast": steps.contrast, "grayscale": steps.grayscale}
    unbuilt = [name for name, step in named.items() if step is not None and step.enabled]
    if asked.resize_mode not in set(ResizeMode):
        unbuilt.append(f"resize_mode {asked.resize_mode!r}")
    if asked.input_channels != 3:
        unbuilt.append(f"{asked.input_channels} input channels")
    if config.class_names_operations:
        unbuilt.append("class_names_operations")
    if unbuilt:
        raise ModelLoadError(
            f"{path.name} asks for {listing(unbuilt)}, which this version does not do",
            hint="answers without it would differ from those of training",
        )


def _normalization(path: Path, asked: _NetworkInput) -> tuple[tuple[float, ...], tuple[float, ...]]:
    if asked.normalization is None:
        return (), ()
    means, deviations = asked.normalization
    if len(means) != 3 or len(deviations) != 3 or 0 in deviations:
        raise ModelLoadError(f"{path.name}: normalization takes three means and three deviations other than 0")
    return means, deviations


def _class_names(path: Path, metadata: Mapping[str, str]) -> tuple[str, ...]:
    content = read_bounded(path)
    if content is None:
        return _names_in_metadata(metadata)
    try:
        lines = content.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ModelLoadError(f"{path.name} is not UTF-8 text", facts={"path": path}) from error
    return tuple(line.strip() for line in lines if line.strip())


def _names_in_metadata(metadata: Mapping[str, str]) -> tuple[str, ...]:
    """`names` is a Python literal: `{0: 'person', …}` or `['person', …]`. Numbers left out are named by number."""
    match _literal(metadata, "names"):
        case None:
            return ()
        case dict() as by_number if by_number and all(
            isinstance(number, int) and 0 <= number < MAXIMUM_CLASSES for number in by_number
        ):
            return tuple(str(by_number.get(number, number)) for number in range(max(by_number) + 1))
        case list() | tuple() as in_order:
            return tuple(str(name) for name in in_order)
    raise ModelLoadError("the graph's metadata `names` is no list of classes")


def _size_in_metadata(metadata: Mapping[str, str]) -> tuple[int, int]:
    match _literal(metadata, "imgsz"):
        case None:
            return DEFAULT_SIZE
        case int() as side:
            return _checked_size("imgsz", side, side)
        case [int() as height, int() as width]:
            return _checked_size("imgsz", height, width)
    raise ModelLoadError("the graph's metadata `imgsz` is no height and width")


def _checked_size(name: str, height: int, width: int) -> tuple[int, int]:
    if height < 1 or width < 1 or height * width > MAXIMUM_INPUT_PIXELS:
        raise ModelLoadError(f"{name}: {height} x {width} pixels is no size for an input")
    return height, width


def _stride(metadata: Mapping[str, str]) -> int | None:
    match _literal(metadata, "stride"):
        case None:
            return None
        case int() as stride if 1 <= stride <= 1024:
            return stride
    raise ModelLoadError("the graph's metadata `stride` is no number of pixels")


def _literal(metadata: Mapping[str, str], key: str) -> object:
    """The Python literal that exporters write under `key`; None when there is none."""
    text = metadata.get(key)
    if text is None:
        return None
    if len(text) > MAXIMUM_LITERAL_CHARACTERS:
        raise ModelLoadError(f"the graph's metadata `{key}` is longer than {MAXIMUM_LITERAL_CHARACTERS} characters")
    try:
        literal: object = ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
        raise ModelLoadError(f"the graph's metadata `{key}` is no literal") from error
    return literal
