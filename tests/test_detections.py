"""Detections: which of the overlapping boxes stay, their JSON, their drawing."""

import numpy as np

from installed import picture
from runtime.models.results import Box, Detection, Detections
from runtime.models.suppression import suppress


class TestSuppression:
    def test_it_agrees_with_the_definition_on_random_boxes(self) -> None:
        random = np.random.default_rng(7)
        for _ in range(20):
            corners = random.uniform(0, 80, (60, 2)).astype(np.float32)
            boxes = np.hstack([corners, corners + random.uniform(5, 40, (60, 2)).astype(np.float32)])
            scores = random.uniform(0, 1, 60).astype(np.float32)
            classes = random.integers(0, 3, 60)
            for agnostic in (False, True):
                kept = suppress(boxes, scores, classes, iou_threshold=0.4, class_agnostic=agnostic, maximum=100)
                assert kept.tolist() == self.by_definition(boxes, scores, classes, agnostic=agnostic)

    @staticmethod
    def by_definition(boxes: np.ndarray, scores: np.ndarray, classes: np.ndarray, *, agnostic: bool) -> list[int]:
        kept: list[int] = []
        for one in sorted(range(len(boxes)), key=lambda row: -scores[row]):
            rivals = [other for other in kept if agnostic or classes[other] == classes[one]]
            if all(intersection_over_union(boxes[one], boxes[other]) <= 0.4 for other in rivals):
                kept.append(one)
        return kept

    def test_boxes_without_area_and_no_boxes_at_all_are_no_trouble(self) -> None:
        points = np.zeros((3, 4), np.float32)
        options = {"iou_threshold": 0.5, "class_agnostic": True, "maximum": 10}
        kept = suppress(points, np.ones(3, np.float32), np.zeros(3, np.int64), **options)  # type: ignore[arg-type]
        assert kept.tolist() == [0, 1, 2]
        none = suppress(points[:0], np.ones(0, np.float32), np.zeros(0, np.int64), **options)  # type: ignore[arg-type]
        assert none.size == 0


def intersection_over_union(one: np.ndarray, other: np.ndarray) -> float:
    width = max(0.0, min(one[2], other[2]) - max(one[0], other[0]))
    height = max(0.0, min(one[3], other[3]) - max(one[1], other[1]))
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return float(width * height / (sum(areas) - width * height))


class TestResults:
    RESULT = Detections(100, 80, (Detection(Box(10, 20, 30, 60), 0.75, 1, "hand"),))

    def test_the_json_is_that_of_the_roboflow_server(self) -> None:
        (prediction,) = self.RESULT.to_dict()["predictions"]
        identifier = prediction.pop("detection_id")
        assert len(identifier) == 36
        assert prediction == {
            "x": 20, "y": 40, "width": 20, "height": 40, "confidence": 0.75, "class": "hand", "class_id": 1,
        }  # fmt: skip

    def test_drawing_leaves_the_picture_alone_and_marks_a_copy(self) -> None:
        before = picture(100, 80)
        drawn = self.RESULT.draw(before)
        assert (before == picture(100, 80)).all()
        assert drawn.shape == before.shape
        assert (drawn[20, 10:30] != before[20, 10:30]).any()
        assert (drawn[59:61, 20] != before[59:61, 20]).any()

    def test_labels_stay_inside_the_picture(self) -> None:
        edges = Detections(60, 60, (Detection(Box(55, 0, 60, 5), 0.5, 0, "a long name"),))
        assert (edges.draw(picture(60, 60)) != picture(60, 60)).any()
