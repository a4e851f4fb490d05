"""Boxes and labels on pictures. Owns the colours: a class has the same one in every picture.

* Line and letter sizes grow with the picture, and labels stay inside it.
"""

import math
from typing import Final

import cv2

from runtime.images import Image

Colour = tuple[int, int, int]

# Blue, green, red; told apart on most pictures, and neighbouring classes differ clearly.
_PALETTE: Final[tuple[Colour, ...]] = (
    (71, 99, 255),
    (255, 144, 30),
    (80, 175, 76),
    (0, 193, 255),
    (176, 39, 156),
    (212, 188, 0),
    (0, 87, 255),
    (139, 125, 96),
    (99, 30, 233),
    (136, 150, 0),
    (181, 81, 63),
    (57, 220, 205),
)
_FAR_AWAY: Final = 1_000_000
_FONT: Final = cv2.FONT_HERSHEY_SIMPLEX


def colour_of(class_id: int) -> Colour:
    """The colour of a class, as blue, green, red."""
    return _PALETTE[class_id % len(_PALETTE)]


def draw_box(canvas: Image, box: tuple[float, float, float, float], *, label: str, class_id: int) -> None:
    """Draw one box (left, top, right, bottom in pixels) with its label into `canvas`; not one that is nowhere."""
    if not all(math.isfinite(edge) for edge in box):
        return
    # Beyond any picture an edge is only far away: OpenCV's integers end at 2 ** 31.
    left, top, right, bottom = (round(max(-_FAR_AWAY, min(_FAR_AWAY, edge))) for edge in box)
    colour, thickness = colour_of(class_id), _thickness(canvas)
    cv2.rectangle(canvas, (left, top), (right, bottom), colour, thickness, cv2.LINE_AA)
    _draw_label(canvas, (left, top), label, colour, thickness)


def _draw_label(canvas: Image, corner: tuple[int, int], label: str, colour: Colour, thickness: int) -> None:
    scale, stroke = thickness / 3, max(1, thickness // 2)
    (width, height), descent = cv2.getTextSize(label, _FONT, scale, stroke)
    picture_height, picture_width = canvas.shape[:2]
    left = max(0, min(corner[0], picture_width - width))
    bottom = max(height + descent, min(corner[1], picture_height))
    cv2.rectangle(canvas, (left, bottom - height - descent), (left + width, bottom), colour, cv2.FILLED)
    cv2.putText(canvas, label, (left, bottom - descent), _FONT, scale, _ink(colour), stroke, cv2.LINE_AA)


def _thickness(canvas: Image) -> int:
    return max(2, round(sum(canvas.shape[:2]) / 2 * 0.003))


def _ink(background: Colour) -> Colour:
    """Black or white, whichever can be read on `background` (its luma, per ITU-R BT.601)."""
    blue, green, red = background
    return (0, 0, 0) if 0.114 * blue + 0.587 * green + 0.299 * red > 140 else (255, 255, 255)
