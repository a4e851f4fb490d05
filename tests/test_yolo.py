"""YOLO detection: configuration, preprocessing, heads, suppression, options."""

import json
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from installed import model, package, picture, png
from manifests.errors import InvalidInputError, ModelError, ModelLoadError
from onnx_files import Node, Tensor, detector_model, onnx_model, write
from runtime.images import decode
from runtime.models.load import load_model
from runtime.models.results import Detections
from runtime.models.yolo import YoloDetection
from runtime.models.yolo_heads import Head, head_of

TWO_CLASSES = ("face", "hand")
LETTERBOXED = {
    "network_input": {
        "training_input_size": {"height": 64, "width": 64},
        "dynamic_spatial_size_supported": False,
        "color_mode": "rgb",
        "resize_mode": "letterbox",
        "padding_value": 114,
        "input_channels": 3,
        "scaling_factor": 255,
    },
    "post_processing": {"type": "nms", "fused": False},
}


def configured(**changes: object) -> dict[str, Any]:
    return {**LETTERBOXED, "network_input": {**LETTERBOXED["network_input"], **changes}}


def anchor_free(rows: Sequence[Sequence[float]], *, anchors: int = 84) -> np.ndarray:
    """[1, 4 + C, anchors] from rows of centre, size and class scores."""
    answer = np.zeros((1, len(rows[0]), anchors), np.float32)
    answer[0, :, : len(rows)] = np.array(rows, np.float32).T
    return answer


def load(
    folder: Path,
    content: bytes,
    *,
    names: Sequence[str] | None = TWO_CLASSES,
    config: Mapping[str, Any] | None = None,
    architecture: str | None = None,
    **options: Any,
) -> YoloDetection:
    write(folder, content)
    if names is not None:
        (folder / "class_names.txt").write_text("\n".join(names))
    if config is not None:
        (folder / "inference_config.json").write_text(json.dumps(config))
    loaded = load_model(model("m/1", [], architecture=architecture), package(folder), options=options)
    assert isinstance(loaded, YoloDetection)
    return loaded


def found(result: Detections) -> list[tuple[str, float, tuple[float, ...]]]:
    return [
        (
            one.class_name,
            round(one.confidence, 3),
            tuple(round(edge, 2) for edge in (one.box.left, one.box.top, one.box.right, one.box.bottom)),
        )
        for one in result
    ]


class TestHeads:
    @pytest.mark.parametrize(
        ("shape", "classes", "architecture", "head"),
        [
            ((1, 84, 8400), 80, None, Head.ANCHOR_FREE),
            ((1, 945, 6), 1, "YOLOv5", Head.OBJECTNESS),
            ((1, 300, 6), 1, "YOLOv5", Head.OBJECTNESS),
            ((None, 84, None), 80, "yolov11", Head.ANCHOR_FREE),
            ((1, 84, 8400), 0, None, Head.ANCHOR_FREE),
            ((1, 6, 8400), 2, None, Head.ANCHOR_FREE),
            ((1, 6, 6), 2, None, Head.ANCHOR_FREE),
            ((1, 84, 8400), 80, "yolov5", Head.ANCHOR_FREE),
            ((1, 25200, 85), 80, "yolov5", Head.OBJECTNESS),
            ((1, 25200, 85), 0, None, Head.OBJECTNESS),
            ((1, 25200, 6), 1, None, Head.OBJECTNESS),
            ((1, 945, 6), 1, "yolov5", Head.OBJECTNESS),
            ((1, 300, 6), 80, "yolov10", Head.END_TO_END),
            ((None, 300, 6), 1, "yolo26", Head.END_TO_END),
            ((1, 300, 6), 0, None, Head.END_TO_END),
        ],
    )
    def test_the_shape_says_which_head_it_is(
        self, shape: tuple[int | None, ...], classes: int, architecture: str | None, head: Head
    ) -> None:
        assert head_of(shape, classes=classes, architecture=architecture) is head

    @pytest.mark.parametrize(
        ("shape", "classes"),
        [((1, 116, 8400), 80), ((1, 84, 8400), 18), ((1, 25200, 85), 79), ((1, 1000), 1000), ((1, 3, 4), 0)],
    )
    def test_a_shape_that_no_head_has_is_refused_with_those_known(self, shape: tuple[int, ...], classes: int) -> None:
        with pytest.raises(ModelLoadError, match="no YOLO detection head") as caught:
            head_of(shape, classes=classes, architecture=None)
        assert "[N, 4 + C, A]" in caught.value.hint

    def test_anchor_free_answers_are_centres_sizes_and_class_scores(self, tmp_path: Path) -> None:
        loaded = load(tmp_path, detector_model(anchor_free([[32, 24, 16, 8, 0.1, 0.9]])))
        assert found(loaded.infer(picture())) == [("hand", 0.9, (24, 20, 40, 28))]

    def test_objectness_multiplies_the_class_scores(self, tmp_path: Path) -> None:
        answer = np.zeros((1, 252, 7), np.float32)
        answer[0, 0] = [32, 24, 16, 8, 0.5, 0.2, 0.8]
        answer[0, 1] = [10, 10, 4, 4, 0.3, 0.5, 0.5]
        loaded = load(tmp_path, detector_model(answer), architecture="yolov5")
        assert found(loaded.infer(picture())) == [("hand", 0.4, (24, 20, 40, 28))]

    def test_end_to_end_answers_are_taken_as_they_are(self, tmp_path: Path) -> None:
        answer = np.zeros((1, 300, 6), np.float32)
        answer[0, 0] = [24, 20, 40, 28, 0.6, 0]
        answer[0, 1] = [24, 20, 40, 29, 0.9, 0]
        loaded = load(tmp_path, detector_model(answer), architecture="yolov10")
        assert found(loaded.infer(picture())) == [
            ("face", 0.9, (24, 20, 40, 29)),
            ("face", 0.6, (24, 20, 40, 28)),
        ]

    def test_half_precision_graphs_are_fed_half_precision(self, tmp_path: Path) -> None:
        answer = anchor_free([[32, 24, 16, 8, 0.9, 0.1]]).astype(np.float16)
        loaded = load(tmp_path, detector_model(answer, dtype="float16"))
        assert loaded.preprocess([picture()]).tensor.dtype == np.float16
        assert found(loaded.infer(picture())) == [("face", 0.9, (24, 20, 40, 28))]

    def test_a_picture_without_objects_gives_an_empty_result(self, tmp_path: Path) -> None:
        loaded = load(tmp_path, detector_model(anchor_free([[0] * 6])))
        result = loaded.infer(picture(30, 20))
        assert result.to_dict() == {"image": {"width": 30, "height": 20}, "predictions": []}


NAN, INFINITE = float("nan"), float("inf")


class TestNumbersThatAreNone:
    @pytest.mark.parametrize(
        "row",
        [
            [NAN, 24, 16, 8, 0.9, 0],
            [32, 24, INFINITE, 8, 0.9, 0],
            [32, 24, 16, 8, NAN, 0.5],
            [32, 24, 16, 8, INFINITE, 0],
            [32, 24, 16, 8, 0.9, -INFINITE],
        ],
        ids=str,
    )
    def test_anchor_free_candidates_of_them_are_dropped(self, tmp_path: Path, row: list[float]) -> None:
        loaded = load(tmp_path, detector_model(anchor_free([row, [32, 24, 16, 8, 0.6, 0]])))
        assert [score for _, score, _ in found(loaded.infer(picture()))] == [0.6]

    @pytest.mark.parametrize(
        "row",
        [
            [24, 20, 40, NAN, 0.9, 0],
            [-INFINITE, 20, 40, 28, 0.9, 0],
            [24, 20, 40, 28, INFINITE, 0],
            [24, 20, 40, 28, NAN, 0],
            [24, 20, 40, 28, 0.9, NAN],
            [24, 20, 40, 28, 0.9, -1],
            [24, 20, 40, 28, 0.9, 1e30],
        ],
        ids=str,
    )
    def test_end_to_end_candidates_of_them_and_of_no_class_are_dropped(self, tmp_path: Path, row: list[float]) -> None:
        answer = np.zeros((1, 300, 6), np.float32)
        answer[0, :2] = [row, [24, 20, 40, 28, 0.6, 0]]
        loaded = load(tmp_path, detector_model(answer), architecture="yolov10")
        assert [score for _, score, _ in found(loaded.infer(picture()))] == [0.6]

    @pytest.mark.parametrize("row", [[32, 24, 16, NAN, 1, 1, 0], [32, 24, 16, 8, INFINITE, 0, 1]], ids=str)
    def test_candidates_with_objectness_of_them_are_dropped(self, tmp_path: Path, row: list[float]) -> None:
        answer = np.zeros((1, 252, 7), np.float32)
        answer[0, :2] = [row, [32, 24, 16, 8, 1, 0.6, 0]]
        loaded = load(tmp_path, detector_model(answer), architecture="yolov5")
        assert [score for _, score, _ in found(loaded.infer(picture()))] == [0.6]

    def test_boxes_beyond_all_bounds_are_clipped_to_the_picture(self, tmp_path: Path) -> None:
        loaded = load(tmp_path, detector_model(anchor_free([[32, 24, 3e38, 3e38, 0.9, 0], [3e38] * 4 + [0.8, 0]])))
        assert found(loaded.infer(picture()))[0] == ("face", 0.9, (0, 0, 64, 64))


class TestPreprocessing:
    def test_letterbox_fits_the_picture_into_the_middle_of_grey_padding(self, tmp_path: Path) -> None:
        loaded = load(tmp_path, detector_model(anchor_free([[0] * 6])))
        tensor = loaded.preprocess([picture(32, 16, colour=(0, 51, 255))]).tensor
        assert tensor.shape == (1, 3, 64, 64)
        assert tensor.dtype == np.float32
        np.testing.assert_allclose(tensor[0, :, 32, 32], [1, 0.2, 0], atol=1e-6)
        np.testing.assert_allclose(tensor[0, :, [0, 15, 48, 63], 32], 114 / 255, atol=1e-6)
        np.testing.assert_allclose(tensor[0, :, [16, 47], 32], [[1, 0.2, 0]] * 2, atol=1e-6)

    def test_letterboxed_boxes_come_back_in_pixels_of_the_picture(self, tmp_path: Path) -> None:
        # 128 x 64 is halved to 64 x 32, with 16 rows of padding above.
        loaded = load(tmp_path, detector_model(anchor_free([[32, 32, 32, 16, 0.9, 0]])))
        assert found(loaded.infer(picture(128, 64))) == [("face", 0.9, (32, 16, 96, 48))]

    def test_stretched_boxes_come_back_in_pixels_of_the_picture(self, tmp_path: Path) -> None:
        content = detector_model(anchor_free([[32, 32, 32, 16, 0.9, 0]]))
        loaded = load(tmp_path, content, config=configured(resize_mode="stretch"))
        assert found(loaded.infer(picture(128, 32))) == [("face", 0.9, (32, 12, 96, 20))]

    def test_boxes_are_clipped_to_the_picture(self, tmp_path: Path) -> None:
        loaded = load(tmp_path, detector_model(anchor_free([[0, 32, 200, 200, 0.9, 0]])))
        assert found(loaded.infer(picture(128, 64))) == [("face", 0.9, (0, 0, 128, 64))]

    def test_an_odd_pixel_of_padding_goes_to_the_right_and_the_bottom(self, tmp_path: Path) -> None:
        loaded = load(tmp_path, detector_model(anchor_free([[0] * 6])))
        (placement,) = loaded.preprocess([picture(64, 61)]).placements
        assert (placement.offset_x, placement.offset_y) == (0, 1)

    def test_bytes_graphs_are_fed_bytes(self, tmp_path: Path) -> None:
        loaded = load(tmp_path, detector_model(anchor_free([[0] * 6]), dtype="uint8"))
        tensor = loaded.preprocess([picture(colour=(1, 2, 3))]).tensor
        assert tensor.dtype == np.uint8
        assert tensor[0, :, 5, 5].tolist() == [3, 2, 1]

    def test_colours_scaling_and_normalization_follow_the_package(self, tmp_path: Path) -> None:
        config = configured(color_mode="bgr", scaling_factor=10, normalization=[[1, 1, 1], [1, 2, 4]])
        loaded = load(tmp_path, detector_model(anchor_free([[0] * 6])), config=config)
        tensor = loaded.preprocess([picture(colour=(10, 30, 50))]).tensor
        np.testing.assert_allclose(tensor[0, :, 5, 5], [0, 1, 1], atol=1e-6)

    @pytest.mark.parametrize(("width", "height"), [(1, 1), (1, 500), (500, 1), (3, 2)])
    def test_pictures_of_extreme_shapes_are_taken(self, tmp_path: Path, width: int, height: int) -> None:
        loaded = load(tmp_path, detector_model(anchor_free([[32, 32, 99, 99, 0.9, 0]])))
        assert found(loaded.infer(picture(width, height))) == [("face", 0.9, (0, 0, width, height))]


class TestBatches:
    def test_a_list_gives_a_list_and_one_picture_one_result(self, tmp_path: Path) -> None:
        loaded = load(tmp_path, detector_model(anchor_free([[32, 32, 16, 16, 0.9, 0]])))
        assert isinstance(loaded.infer(picture()), Detections)
        sizes = [(one.width, one.height) for one in loaded.infer([picture(10, 20), picture(30, 40), picture(50, 60)])]
        assert sizes == [(10, 20), (30, 40), (50, 60)]
        assert loaded.infer([]) == []

    def test_a_fixed_batch_is_filled_up_and_the_filling_is_dropped(self, tmp_path: Path) -> None:
        answer = np.concatenate(
            [anchor_free([[32, 32, 16, 16, score, 0]]) for score in (0.9, 0.8)],
        )
        loaded = load(tmp_path, detector_model(answer))
        results = loaded.infer([picture()] * 3)
        assert [found(result)[0][1] for result in results] == [0.9, 0.8, 0.9]
        assert loaded.facts.batch_size == 2

    def test_a_free_batch_is_bounded_and_a_bad_picture_is_named_by_its_place(self, tmp_path: Path) -> None:
        content = onnx_model(
            [Node("Identity", ["fixed"], ["output0"])],
            [Tensor("images", ["batch", 3, 64, 64])],
            [Tensor("output0", ["batch", 6, 84])],
            constants={"fixed": np.concatenate([anchor_free([[32, 32, 16, 16, 0.9, 0]])] * 8)},
        )
        loaded = load(tmp_path, content)
        assert len(loaded.infer([picture()] * 16)) == 16
        assert len(loaded.predict(loaded.preprocess([picture()] * 24))) == 24
        with pytest.raises(InvalidInputError, match="picture 10 is a int"):
            loaded.infer([picture()] * 9 + [5])

    def test_only_one_picture_of_a_list_is_decoded_at_a_time(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        alive: list[weakref.ref[np.ndarray]] = []

        def decoding(source: bytes, *, name: str) -> np.ndarray:
            assert all(reference() is None for reference in alive)
            image = decode(source, name=name)
            alive.append(weakref.ref(image))
            return image

        monkeypatch.setattr("runtime.models.yolo.decode", decoding)
        loaded = load(tmp_path, detector_model(np.concatenate([anchor_free([[0] * 6])] * 4)))
        assert len(loaded.infer([png(picture(100, 90))] * 4)) == len(alive) == 4

    def test_a_graph_that_answers_fewer_pictures_than_it_was_given_is_an_error(self, tmp_path: Path) -> None:
        content = onnx_model(
            [Node("Identity", ["fixed"], ["output0"])],
            [Tensor("images", ["batch", 3, 64, 64])],
            [Tensor("output0", ["batch", 6, 84])],
            constants={"fixed": anchor_free([[0] * 6])},
        )
        with pytest.raises(ModelError, match="answered 1 of 2 pictures"):
            load(tmp_path, content).infer([picture(), picture()])


class TestConfiguration:
    def test_class_names_come_from_the_package_before_the_graph(self, tmp_path: Path) -> None:
        metadata = {"names": "{0: 'other', 1: 'names'}"}
        content = detector_model(anchor_free([[32, 24, 16, 8, 0.9, 0]]), metadata=metadata)
        assert load(tmp_path / "with", content).infer(picture()).detections[0].class_name == "face"
        assert load(tmp_path / "without", content, names=None).infer(picture()).detections[0].class_name == "other"

    def test_blank_lines_and_line_endings_of_class_names_mean_nothing(self, tmp_path: Path) -> None:
        (tmp_path / "class_names.txt").write_bytes("\ufefffäce\r\n\r\n hand \r\n".encode())
        content = detector_model(anchor_free([[0] * 6]))
        assert load(tmp_path, content, names=None).facts.class_names == ("fäce", "hand")

    def test_classes_that_nobody_names_are_numbered(self, tmp_path: Path) -> None:
        loaded = load(tmp_path, detector_model(anchor_free([[32, 24, 16, 8, 0, 0.9]])), names=None)
        assert found(loaded.infer(picture()))[0][0] == "class 1"

    def test_a_class_list_that_does_not_fit_the_graph_is_refused_at_load(self, tmp_path: Path) -> None:
        with pytest.raises(ModelLoadError, match="no YOLO detection head for 3 classes"):
            load(tmp_path, detector_model(anchor_free([[0] * 6])), names=["one", "two", "three"])

    def test_a_free_size_is_the_one_in_the_metadata(self, tmp_path: Path) -> None:
        content = detector_model(
            anchor_free([[0] * 6]), size=("height", "width"), metadata={"imgsz": "[96, 160]", "stride": "32"}
        )
        loaded = load(tmp_path, content)
        assert (loaded.facts.input_height, loaded.facts.input_width) == (96, 160)
        assert loaded.preprocess([picture()]).tensor.shape == (1, 3, 96, 160)

    def test_a_free_size_between_two_strides_is_refused(self, tmp_path: Path) -> None:
        metadata = {"imgsz": "[100, 100]", "stride": "32"}
        content = detector_model(anchor_free([[0] * 6]), size=("height", "width"), metadata=metadata)
        with pytest.raises(ModelLoadError, match="stride, 32"):
            load(tmp_path, content)

    def test_numbers_left_out_of_a_class_list_keep_their_place(self, tmp_path: Path) -> None:
        content = detector_model(anchor_free([[0] * 7]), metadata={"names": "{0: 'a', 2: 'c'}"})
        assert load(tmp_path, content, names=None).facts.class_names == ("a", "1", "c")

    @pytest.mark.parametrize(
        "metadata",
        [
            {"names": "__import__('os').system('true')"},
            {"names": "{0: "},
            {"names": "{'a': 0}"},
            {"names": "{999999999: 'far'}"},
            {"names": "(" * 5000 + ")" * 5000},
            {"imgsz": "'large'"},
            {"imgsz": "[0, 64]"},
            {"stride": "0"},
            {"task": "segment"},
        ],
        ids=lambda metadata: str(metadata)[:40],
    )
    def test_metadata_that_makes_no_sense_is_refused_and_never_run(
        self, tmp_path: Path, metadata: Mapping[str, str]
    ) -> None:
        content = detector_model(anchor_free([[0] * 6]), size=("height", "width"), metadata=metadata)
        with pytest.raises(ModelLoadError, match=r"metadata|no size"):
            load(tmp_path, content, names=None)

    @pytest.mark.parametrize(
        "config",
        [
            configured(resize_mode="center-crop"),
            configured(resize_mode="letterbox-reflect-edges"),
            configured(input_channels=1),
            configured(training_input_size={"height": 32, "width": 64}),
            configured(training_input_size={"height": "tall"}),
            configured(normalization=[[0, 0, 0], [1, 0, 1]]),
            configured(color_mode="cmyk"),
            {**LETTERBOXED, "image_pre_processing": {"static-crop": {"enabled": True, "x_min": 10}}},
            {**LETTERBOXED, "image_pre_processing": {"contrast": {"type": "Adaptive Equalization"}}},
            {},
        ],
        ids=lambda config: str(config)[-60:],
    )
    def test_a_configuration_that_cannot_be_followed_is_refused(
        self, tmp_path: Path, config: Mapping[str, Any]
    ) -> None:
        with pytest.raises(ModelLoadError, match=r"inference_config\.json"):
            load(tmp_path, detector_model(anchor_free([[0] * 6])), config=config)

    def test_steps_that_are_off_and_keys_that_are_new_mean_nothing(self, tmp_path: Path) -> None:
        steps = {"auto-orient": {"enabled": True}, "static-crop": {"enabled": False}, "sharpen": {"enabled": True}}
        load(tmp_path, detector_model(anchor_free([[0] * 6])), config={**LETTERBOXED, "image_pre_processing": steps})

    @pytest.mark.parametrize(
        ("inputs", "outputs"),
        [
            ([Tensor("images", [1, 64, 64, 3])], [Tensor("o", [1, 64, 64, 3])]),
            ([Tensor("images", [1, 3, 64, 64], "int64")], [Tensor("o", [1, 3, 64, 64], "int64")]),
            ([Tensor("images", [1, 6, 84])], [Tensor("o", [1, 6, 84])]),
        ],
    )
    def test_graphs_for_other_inputs_are_refused(
        self, tmp_path: Path, inputs: Sequence[Tensor], outputs: Sequence[Tensor]
    ) -> None:
        content = onnx_model([Node("Identity", [inputs[0].name], ["o"])], inputs, outputs)
        with pytest.raises(ModelLoadError, match="not a graph for pictures"):
            load(tmp_path, content)


class TestOptions:
    ROWS = (
        [20, 20, 20, 20, 0.9, 0],
        [21, 20, 20, 20, 0.8, 0],  # overlaps the first, same class
        [20, 21, 20, 20, 0, 0.7],  # overlaps the first, other class
        [50, 50, 10, 10, 0, 0.3],
        [5, 5, 4, 4, 0.2, 0],
    )

    def names_and_scores(self, folder: Path, **options: Any) -> list[tuple[str, float]]:
        loaded = load(folder, detector_model(anchor_free(self.ROWS)))
        return [(name, score) for name, score, _ in found(loaded.infer(picture(), **options))]

    @pytest.mark.parametrize(
        ("options", "expected"),
        [
            ({}, [("face", 0.9), ("hand", 0.7), ("hand", 0.3)]),
            ({"confidence": 0.1}, [("face", 0.9), ("hand", 0.7), ("hand", 0.3), ("face", 0.2)]),
            ({"confidence": 0.95}, []),
            ({"confidence": None}, [("face", 0.9), ("hand", 0.7), ("hand", 0.3)]),
            ({"iou_threshold": 1.0}, [("face", 0.9), ("face", 0.8), ("hand", 0.7), ("hand", 0.3)]),
            ({"class_agnostic_nms": True}, [("face", 0.9), ("hand", 0.3)]),
            ({"class_filter": ["hand"]}, [("hand", 0.7), ("hand", 0.3)]),
            ({"class_filter": "hand"}, [("hand", 0.7), ("hand", 0.3)]),
            ({"class_filter": ["hand"], "max_detections": 1}, [("hand", 0.7)]),
            ({"class_filter": ["foot"]}, []),
            ({"confidence": np.float32(0.5)}, [("face", 0.9), ("hand", 0.7)]),
            ({"max_detections": 1}, [("face", 0.9)]),
            ({"max_candidates": 2}, [("face", 0.9)]),
        ],
        ids=str,
    )
    def test_each_option_does_what_it_says(
        self, tmp_path: Path, options: dict[str, Any], expected: list[tuple[str, float]]
    ) -> None:
        assert self.names_and_scores(tmp_path, **options) == expected

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"confidence": 1.5}, "confidence 1.5 is not between 0 and 1"),
            ({"iou_threshold": -1}, "iou_threshold -1 is not between 0 and 1"),
            ({"confidence": float("nan")}, "confidence nan is not between 0 and 1"),
            ({"confidence": "0.4"}, "confidence '0.4' is not between 0 and 1"),
            ({"max_detections": 1.5}, "max_detections 1.5 is no whole number"),
            ({"class_agnostic_nms": "yes"}, "neither True nor False"),
            ({"class_filter": 5}, "class_filter 5 is no list of class names"),
            ({"class_filter": [5]}, "class_filter .5. is no list of class names"),
            ({"max_detections": 0}, "max_detections 0 is less than 1"),
            ({"confidnce": 0.5}, "no option confidnce"),
        ],
    )
    def test_an_option_that_makes_no_sense_is_refused(
        self, tmp_path: Path, options: dict[str, Any], message: str
    ) -> None:
        with pytest.raises(InvalidInputError, match=message):
            self.names_and_scores(tmp_path, **options)

    def test_the_options_given_at_load_hold_until_a_request_says_otherwise(self, tmp_path: Path) -> None:
        loaded = load(tmp_path, detector_model(anchor_free(self.ROWS)), confidence=0.75)
        assert len(loaded.infer(picture())) == 1
        assert len(loaded.infer(picture(), confidence=0.25)) == 3
