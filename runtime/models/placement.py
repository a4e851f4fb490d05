"""Between a picture's pixels and the network's: resizing one way, coordinates the other.

Owns letterbox and stretch, both directions in one file.
* A `Placement` remembers exactly what was done, so that mapping back needs nothing else.
"""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from runtime.images import Image
from runtime.models.configuration import ColourMode, NetworkInput, ResizeMode


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a picture of `width` x `height` pixels lies in the network's input: pixel = source * scale + offset."""

    width: int
    height: int
    scale_x: float
    scale_y: float
    offset_x: int
    offset_y: int

    def to_source(self, boxes: NDArray[np.float32]) -> NDArray[np.float32]:
        """Boxes [n, 4] (left, top, right, bottom) from network pixels to source pixels, clipped to the picture."""
        offset = np.array([self.offset_x, self.offset_y] * 2, np.float32)
        scale = np.array([self.scale_x, self.scale_y] * 2, np.float32)
        limit = np.array([self.width, self.height] * 2, np.float32)
        clipped: NDArray[np.float32] = np.clip((boxes - offset) / scale, np.float32(0), limit)
        return clipped


def place(image: Image, target: NetworkInput) -> tuple[Image, Placement]:
    """The picture (height x width x 3) at the target's size, and how it got there."""
    if target.resize is ResizeMode.STRETCH:
        return _stretch(image, target)
    return _letterbox(image, target)


def to_tensor(placed: Image, target: NetworkInput, dtype: np.dtype[Any]) -> NDArray[Any]:
    """A placed picture as a tensor [3, height, width]; integers stay what they are, floats are scaled."""
    if dtype.kind != "f":
        ordered = placed[:, :, ::-1] if target.colours is ColourMode.RGB else placed
        return np.ascontiguousarray(ordered.transpose(2, 0, 1)).astype(dtype, copy=False)
    swapped = target.colours is ColourMode.RGB
    tensor: NDArray[np.float32] = cv2.dnn.blobFromImage(placed, 1 / target.scaling, swapRB=swapped)[0]
    if target.means:
        tensor -= np.array(target.means, np.float32).reshape(3, 1, 1)
        tensor /= np.array(target.deviations, np.float32).reshape(3, 1, 1)
    return tensor.astype(dtype, copy=False)


def _letterbox(image: Image, target: NetworkInput) -> tuple[Image, Placement]:
    """The largest copy that fits, in the middle; the rest is padding."""
    height, width = image.shape[:2]
    scale = min(target.height / height, target.width / width)
    inner_width, inner_height = max(1, round(width * scale)), max(1, round(height * scale))
    # An odd pixel of padding goes to the right and the bottom, as it did in training.
    left = round((target.width - inner_width) / 2 - 0.1)
    top = round((target.height - inner_height) / 2 - 0.1)
    canvas = np.full((target.height, target.width, 3), target.padding, np.uint8)
    canvas[top : top + inner_height, left : left + inner_width] = _resize(image, inner_width, inner_height)
    return canvas, Placement(width, height, scale, scale, left, top)


def _stretch(image: Image, target: NetworkInput) -> tuple[Image, Placement]:
    height, width = image.shape[:2]
    placed = _resize(image, target.width, target.height)
    return placed, Placement(width, height, target.width / width, target.height / height, 0, 0)


def _resize(image: Image, width: int, height: int) -> Image:
    if image.shape[:2] == (height, width):
        return image
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR).astype(np.uint8, copy=False)
