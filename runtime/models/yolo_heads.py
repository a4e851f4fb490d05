"""The answers of the YOLO families, brought to one form.

Owns the meaning of the output tensors of v8, v9, v11, v12 (anchor free), v5 and v7 (with objectness) and v10 and 26
(end to end). All give candidates in network pixels; all but the last still need non-maximum suppression.
* What leaves here is finite: boxes and scores that are no numbers, and classes that are none, are no candidates.
* The shape decides, with the number of classes; the architecture's name is asked only where shapes are ambiguous.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, assert_never

import numpy as np
from numpy.typing import NDArray

from manifests.errors import ModelLoadError

# End-to-end heads answer a few hundred rows; the smallest grid of a head with anchors has more.
_MOST_END_TO_END_ROWS: Final = 1000
_OBJECTNESS_ARCHITECTURES: Final = ("yolov5", "yolov7")
# Far beyond any network's input; the product of two such edges is still a float32.
_FARTHEST_EDGE: Final = np.float32(1e7)
_MOST_CLASSES: Final = 1_000_000


class Head(Enum):
    """One layout of an output tensor, for a batch of N, with C classes and A anchors."""

    ANCHOR_FREE = "[N, 4 + C, A]: centre, size, class scores"
    OBJECTNESS = "[N, A, 5 + C]: centre, size, objectness, class scores"
    END_TO_END = "[N, 300, 6]: corners, score, class"


@dataclass(frozen=True, slots=True)
class Candidates:
    """Boxes [n, 4] (left, top, right, bottom in network pixels), scores [n] and classes [n] of one picture."""

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    classes: NDArray[np.int64]


def head_of(shape: Sequence[int | None], *, classes: int, architecture: str | None) -> Head:
    """The head that answers with this shape, None being a free dimension; `classes` is 0 when unknown.

    Raises `ModelLoadError` when no head fits, which is also how a wrong list of classes shows.
    """
    if len(shape) != 3:
        raise _unknown(shape, classes)
    rows, columns = shape[1:]
    with_objectness = (architecture or "").lower().startswith(_OBJECTNESS_ARCHITECTURES)
    few_rows = rows is None or rows <= _MOST_END_TO_END_ROWS
    if columns == 6 and few_rows and rows != 4 + classes and not (with_objectness and classes == 1):
        return Head.END_TO_END
    if classes and rows == 4 + classes:
        return Head.ANCHOR_FREE
    if classes and columns == 5 + classes:
        return Head.OBJECTNESS
    if not classes and rows is not None and rows > 4 and (columns is None or rows < columns):
        return Head.ANCHOR_FREE
    if not classes and columns is not None and columns > 5:
        return Head.OBJECTNESS
    raise _unknown(shape, classes)


def candidates(output: NDArray[Any], head: Head, *, confidence: float) -> Candidates:
    """Those of one picture's answers ([rows, columns], without the batch) whose score exceeds `confidence`."""
    match head:
        case Head.ANCHOR_FREE:
            return _anchor_free(output, confidence)
        case Head.OBJECTNESS:
            return _with_objectness(output, confidence)
        case Head.END_TO_END:
            return _end_to_end(output, confidence)
    assert_never(head)


def _end_to_end(output: NDArray[Any], confidence: float) -> Candidates:
    sure = _finite(output[output[:, 4] > confidence])
    named = sure[(sure[:, 5] >= 0) & (sure[:, 5] < _MOST_CLASSES)]
    return Candidates(_bounded(named[:, :4]), named[:, 4], named[:, 5].astype(np.int64))


def _anchor_free(output: NDArray[Any], confidence: float) -> Candidates:
    sure = _finite(output[:, output[4:].max(axis=0) > confidence].T)
    return Candidates(_corners(sure[:, :4]), sure[:, 4:].max(axis=1, initial=0), _best_classes(sure[:, 4:]))


def _with_objectness(output: NDArray[Any], confidence: float) -> Candidates:
    # A product of two probabilities cannot exceed either: most rows fall before the classes are looked at.
    likely = _finite(output[output[:, 4] > confidence])
    products = likely[:, 5:] * likely[:, 4:5]
    scores = products.max(axis=1, initial=0)
    sure = scores > confidence
    return Candidates(_corners(likely[sure, :4]), scores[sure], _best_classes(products[sure]))


def _best_classes(scores: NDArray[np.float32]) -> NDArray[np.int64]:
    best: NDArray[np.int64] = scores.argmax(axis=1).astype(np.int64)
    return best


def _corners(centred: NDArray[np.float32]) -> NDArray[np.float32]:
    """From centre and size to corners, [n, 4] each."""
    centre, half = _bounded(centred[:, :2]), _bounded(centred[:, 2:]) / 2
    return np.concatenate([centre - half, centre + half], axis=1)


def _finite(rows: NDArray[Any]) -> NDArray[np.float32]:
    """The rows whose values are all finite numbers."""
    kept: NDArray[np.float32] = rows[np.isfinite(rows).all(axis=1)].astype(np.float32, copy=False)
    return kept


def _bounded(edges: NDArray[np.float32]) -> NDArray[np.float32]:
    clipped: NDArray[np.float32] = np.clip(edges, -_FARTHEST_EDGE, _FARTHEST_EDGE)
    return clipped


def _unknown(shape: Sequence[int | None], classes: int) -> ModelLoadError:
    seen = ", ".join("?" if size is None else str(size) for size in shape)
    heads = "; ".join(head.value for head in Head)
    return ModelLoadError(
        f"an output of shape [{seen}] is no YOLO detection head for {classes or 'any number of'} classes",
        hint=f"known are {heads}; compare the class list with the model, or serve it with task raw",
    )
