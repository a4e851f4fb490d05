"""Installed models for tests: package folders and a catalogue over them, as install leaves them."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np

from onnx_files import detector_model, write
from runtime.catalogue import Catalogue, InstalledModel, InstalledPackage

FACE = (32.0, 24.0, 16.0, 8.0)
"""Centre and size, in pixels of a 64 x 64 input, of the box that `detector` always finds."""


def package(directory: Path, **facts: object) -> InstalledPackage:
    """A package over whatever lies in `directory`."""
    defaults: dict[str, object] = {
        "id": directory.name,
        "backend": "onnx",
        "quantization": "fp32",
        "opset": 17,
        "static_batch": None,
        "directory": directory,
        "files": tuple(sorted(path.name for path in directory.iterdir())) if directory.is_dir() else ("weights.onnx",),
        "default": False,
    }
    return InstalledPackage(**{**defaults, **facts})  # type: ignore[arg-type]


def model(
    name: str,
    packages: Sequence[InstalledPackage],
    *,
    task: str = "object-detection",
    architecture: str | None = "yolov8",
    aliases: Sequence[str] = (),
) -> InstalledModel:
    """A model of the line `test`."""
    return InstalledModel(name, tuple(aliases), task, architecture, "test", tuple(packages))


def detector(folder: Path, *, names: Sequence[str] = ("face", "hand"), scores: Sequence[float] = (0.9, 0.0)) -> Path:
    """A package folder whose model finds one box, `FACE`, in every picture."""
    answer = np.zeros((1, 4 + len(names), 84), np.float32)
    answer[0, :4, 0], answer[0, 4:, 0] = FACE, scores
    write(folder, detector_model(answer))
    (folder / "class_names.txt").write_text("\n".join(names))
    return folder


def catalogue(models: Sequence[InstalledModel], *, generation: int = 1) -> Catalogue:
    """A generation with these models."""
    return Catalogue(generation, tuple(models))


def picture(width: int = 64, height: int = 64, *, colour: tuple[int, int, int] = (10, 20, 30)) -> np.ndarray:
    """A picture of one colour (blue, green, red)."""
    return np.full((height, width, 3), colour, np.uint8)


def png(image: np.ndarray) -> bytes:
    """A picture as the bytes of a file."""
    done, content = cv2.imencode(".png", image)
    assert done
    return content.tobytes()


def plain(document: Mapping[str, object]) -> dict[str, object]:
    """A result without what differs from run to run."""
    predictions = document["predictions"]
    assert isinstance(predictions, list)
    return {**document, "predictions": [{k: v for k, v in one.items() if k != "detection_id"} for one in predictions]}
