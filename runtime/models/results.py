"""What a model answers: frozen values, their JSON in the shapes that Roboflow's clients read, and their drawing.

* Boxes are pixels of the picture as it was given (upright), clipped to it.
* `to_dict` has plain Python values only; what belongs to one request (`time`, `inference_id`) is added by its server.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, overload
from uuid import uuid4

from runtime.images import Image
from runtime.models.drawing import draw_box


def _new_id() -> str:
    return str(uuid4())


@dataclass(frozen=True, slots=True)
class Box:
    """Left, top, right, bottom in pixels."""

    left: float
    top: float
    right: float
    bottom: float

    @property
    def width(self) -> float:
        """In pixels."""
        return self.right - self.left

    @property
    def height(self) -> float:
        """In pixels."""
        return self.bottom - self.top


@dataclass(frozen=True, slots=True)
class Detection:
    """One object: where it is, what it is, and how sure the model is (0 to 1)."""

    box: Box
    confidence: float
    class_id: int
    class_name: str
    detection_id: str = field(default_factory=_new_id, compare=False)

    def to_dict(self) -> dict[str, Any]:
        """Centre, width and height in pixels."""
        return {
            "x": self.box.left + self.box.width / 2,
            "y": self.box.top + self.box.height / 2,
            "width": self.box.width,
            "height": self.box.height,
            "confidence": self.confidence,
            "class": self.class_name,
            "class_id": self.class_id,
            "detection_id": self.detection_id,
        }


@dataclass(frozen=True, slots=True)
class Detections:
    """The objects found in one picture of `width` x `height` pixels, surest first."""

    width: int
    height: int
    detections: tuple[Detection, ...]

    def __len__(self) -> int:
        return len(self.detections)

    def __iter__(self) -> Iterator[Detection]:
        return iter(self.detections)

    @overload
    def __getitem__(self, place: int) -> Detection: ...

    @overload
    def __getitem__(self, place: slice) -> tuple[Detection, ...]: ...

    def __getitem__(self, place: int | slice) -> Detection | tuple[Detection, ...]:
        return self.detections[place]

    def to_dict(self) -> dict[str, Any]:
        """`{"image": {"width", "height"}, "predictions": […]}`."""
        return {
            "image": {"width": self.width, "height": self.height},
            "predictions": [detection.to_dict() for detection in self.detections],
        }

    def draw(self, image: Image) -> Image:
        """A copy of the picture (height x width x 3, blue-green-red) with a labelled box around each object."""
        canvas = image.copy()
        for detection in reversed(self.detections):
            box, label = detection.box, f"{detection.class_name} {detection.confidence:.2f}"
            draw_box(canvas, (box.left, box.top, box.right, box.bottom), label=label, class_id=detection.class_id)
        return canvas
