"""Detections: which of the overlapping boxes stay, their JSON, their drawing."""

import json
import os
from pathlib import Path

import click
import numpy as np
import pytest
from click.testing import CliRunner, Result

from bundler.commands.main import cli
from installed import detector, picture, png
from onnx_files import Tensor, detector_model, identity_model, write
from runtime.images import decode
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

    def test_detections_are_counted_walked_and_indexed(self) -> None:
        (one,) = self.RESULT
        assert (len(self.RESULT), self.RESULT[0], self.RESULT[-1], self.RESULT[:1]) == (1, one, one, (one,))

    @pytest.mark.parametrize("edge", [float("nan"), float("inf"), -float("inf"), 1e30, -1e30])
    def test_drawing_never_fails_on_a_box_that_lies_nowhere(self, edge: float) -> None:
        box = Box(edge, 5, 20, edge)
        assert Detections(60, 60, (Detection(box, edge, 0, "far"),)).draw(picture(60, 60)).shape == (60, 60, 3)


class TestDrawnFiles:
    """`bundle infer --draw`: where drawings go, and what they never replace."""

    @pytest.fixture(autouse=True)
    def place(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("runtime.guard.enable", lambda: None)  # it would stay on for all tests after
        monkeypatch.chdir(tmp_path)
        (detector(Path("model")) / "model_config.json").write_text('{"task_type": "object-detection"}')
        for name in ("p.png", "q.jpg", "in/p.png", "scan"):
            Path(name).parent.mkdir(exist_ok=True)
            Path(name).write_bytes(png(picture()))

    def infer(self, *arguments: str) -> Result:
        return CliRunner().invoke(cli, ["infer", "./model", *arguments])

    @pytest.mark.parametrize(
        ("arguments", "drawn"),
        [
            (["p.png", "--draw", "out.jpg"], ["out.jpg"]),
            (["p.png", "--draw", "new/"], ["new/p.png"]),
            (["p.png", "--draw", "in/out.png"], ["in/out.png"]),
            (["p.png", "q.jpg", "scan", "--draw", "new"], ["new/p.png", "new/q.jpg", "new/scan.jpg"]),
        ],
        ids=str,
    )
    def test_drawings_go_where_they_were_sent_and_it_says_so(self, arguments: list[str], drawn: list[str]) -> None:
        said = self.infer(*arguments)
        assert said.exit_code == 0, said.output
        for path in drawn:
            assert decode(path).shape == (64, 64, 3)
            assert f"drawn in {path}" in said.output

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["p.png", "q.jpg", "--draw", "."], "p.png is an input"),
            (["in/p.png", "--draw", "in/p.png"], "in/p.png is an input"),
            (["in/p.png", "--draw", "link.png"], "link.png is an input"),
            (["in/p.png", "--draw", "in"], "in/p.png is an input"),
            (["p.png", "in/p.png", "--draw", "new"], "would both be drawn in new/p.png"),
            (["p.png", "--draw", "pipe.png"], "no plain file"),
            (["p.png", "--draw", "name"], "no format has this name"),
            (["p.png", "--draw", "name.docx"], "no format has this name"),
            (["p.png", "q.jpg", "--draw", "out.jpg"], "several inputs need a folder"),
            (["p.png", "q.jpg", "--draw", "scan"], "several inputs need a folder"),
        ],
        ids=str,
    )
    def test_a_drawing_that_would_cost_a_file_is_refused_before_anything_runs(
        self, arguments: list[str], message: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        Path("link.png").symlink_to("in/p.png")
        os.mkfifo("pipe.png")
        before = {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}
        monkeypatch.setattr("runtime.api.get_model", pytest.fail)
        refused = self.infer(*arguments)
        assert refused.exit_code == click.UsageError.exit_code
        assert message in refused.output
        assert {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()} == before

    def test_json_never_has_a_number_that_json_has_not(self) -> None:
        write(Path("model"), identity_model(Tensor("x", [2])))
        Path("model/model_config.json").unlink()
        np.save("input.npy", np.array([np.nan, np.inf], np.float32))
        (said,) = json.loads(self.infer("input.npy", "--json").output, parse_constant=pytest.fail)
        assert said["outputs"][0]["data"] == [None, None]

    def test_a_detector_that_answers_with_nan_gives_valid_json(self) -> None:
        write(Path("model"), detector_model(np.full((1, 6, 84), np.nan, np.float32), metadata={"task": "detect"}))
        (said,) = json.loads(self.infer("p.png", "--json", "--draw", "out.png").output, parse_constant=pytest.fail)
        assert said["predictions"] == []
