"""Non-maximum suppression: of boxes that overlap, the surest stays.

* Surest first, and among equals the earlier one: the same candidates give the same answer everywhere.
* At most `maximum` rounds, whatever the number of candidates.
"""

import numpy as np
from numpy.typing import NDArray


def suppress(
    boxes: NDArray[np.float32],
    scores: NDArray[np.float32],
    classes: NDArray[np.int64],
    *,
    iou_threshold: float,
    class_agnostic: bool,
    maximum: int,
) -> NDArray[np.int64]:
    """The rows that stay, surest first: at most `maximum` indices into boxes [n, 4] (left, top, right, bottom).

    A box falls when its intersection over union with a surer one that stays exceeds `iou_threshold`; only boxes of
    one class compete, unless `class_agnostic`.
    """
    remaining = np.argsort(-scores, kind="stable")
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    kept: list[int] = []
    while remaining.size and len(kept) < maximum:
        best, rest = remaining[0], remaining[1:]
        kept.append(int(best))
        falls = _overlap(boxes[best], areas[best], boxes[rest], areas[rest]) > iou_threshold
        if not class_agnostic:
            falls &= classes[rest] == classes[best]
        remaining = rest[~falls]
    return np.array(kept, np.int64)


def _overlap(
    box: NDArray[np.float32], area: np.float32, others: NDArray[np.float32], areas: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Intersection over union of one box with each of the others; 0 between boxes without area."""
    corner = np.maximum(box[:2], others[:, :2])
    opposite = np.minimum(box[2:], others[:, 2:])
    width, height = np.clip(opposite - corner, 0, None).T
    intersection = width * height
    union = area + areas - intersection
    ratio: NDArray[np.float32] = np.divide(intersection, union, out=np.zeros_like(union), where=union > 0)
    return ratio
