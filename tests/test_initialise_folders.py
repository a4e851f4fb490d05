"""`bundle init` of folders: which models are in them, what stays, and what the command writes and refuses."""

import json
import shutil
from pathlib import Path

import pytest

from bundler.initialise import local
from bundler.manifest_file import load
from initialising import (
    BERT,
    CARRIED,
    DETECTOR,
    REPOSITORY,
    UNNAMED,
    Place,
    files,
    graph,
    paths,
)
from manifests.errors import ManifestError, SourceError, SourceNotFoundError


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
    place.put({"m/car-fp16.onnx": half, "m/car.onnx": graph(), "m/car_int8.onnx": small, "m/car.batch8.onnx": graph()})
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


def test_links_stay_in_the_folder_and_one_that_a_source_could_not_name_is_listed_file_by_file(place: Place) -> None:
    place.put({"elsewhere.bin": b"far", "m/x.bin": b"x", "m/.venv/lib": b"", "m/node_modules/y": b""})
    (place.folder / "m/far.bin").symlink_to(place.folder / "elsewhere.bin")
    (place.folder / "m/near.bin").symlink_to("x.bin")
    (place.folder / "m/models--a--b").symlink_to(place.folder)
    (place.folder / "m/broken.bin").symlink_to("nowhere")
    (place.folder / "m/around").symlink_to(place.folder / "m")
    text = place.draft("m").text
    assert files(place.only("m")) == {"near.bin": "./m/near.bin", "x.bin": "./m/x.bin"}
    for name in ("far.bin (a link that leads out", "models--a--b/", "broken.bin", "around/", ".venv/", "node_modules/"):
        assert name in text.splitlines()[-1]


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
        (["line.pem", "-o", "m.toml"], 2, "a manifest is written as YAML"),
        (["line.pem", "-o", "m.json"], 2, "a manifest is written as YAML"),
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


SECRETS = [
    "id_rsa", "id_ed25519.old", "id_ecdsa", "id_dsa", "deploy_key", "key.txt", "prod.env", "x.pfx", "x.P12", "x.jks",
    "x.ppk", "credentials.json", "sub/credentials", "labels.txt",
]  # fmt: skip


@pytest.mark.parametrize("kind", ["graph", "repository", "nothing known"])
def test_no_secret_is_carried_and_each_is_named(place: Place, kind: str) -> None:
    given = {"graph": {"best.onnx": UNNAMED}, "repository": REPOSITORY, "nothing known": {"x.bin": b"x"}}[kind]
    by_content = {"deploy_key", "key.txt", "labels.txt"}
    key = b"x" * 5000 + b"-----BEGIN OPENSSH PRIVATE KEY-----\n"
    for name in SECRETS:
        place.put({f"m/{name}": key if name in by_content else b"x"})
    place.put({f"m/{name}": content for name, content in given.items()})
    (tree,) = local.trees("m", place.folder)
    place.made("m")
    assert not set(paths(place)) & set(SECRETS)
    assert {name.removesuffix(" (a private key)") for name in tree.left_out} >= set(SECRETS)
    assert "left out: " in place.draft("m").notes[-1]


@pytest.mark.parametrize("name", ["id_rsa", "prod.env", "x.pfx"])
def test_a_secret_that_is_named_itself_is_refused(place: Place, name: str) -> None:
    place.put({name: b"x"})
    with pytest.raises(SourceError, match="is called as secrets are"):
        place.draft(name)


def test_the_links_of_a_snapshot_lead_to_the_blobs_of_its_download_only(place: Place) -> None:
    snapshot = place.folder / "models--org--name/snapshots/abc"
    snapshot.mkdir(parents=True)
    place.put({"models--org--name/blobs/1": BERT, "models--org--other/blobs/1": b"w", "far": b"far"})
    (snapshot / "config.json").symlink_to("../../blobs/1")
    (snapshot / "model.safetensors").symlink_to("../../../models--org--other/blobs/1")
    (snapshot / "far.txt").symlink_to(place.folder / "far")
    assert list(files(place.only("models--org--name"))) == ["config.json"]
    assert "far.txt (a link that leads out" in place.draft("models--org--name").text


@pytest.mark.parametrize("kind", ["repository", "nothing known", "class list", "snapshot"])
def test_what_git_lfs_left_in_a_folder_is_refused(place: Place, kind: str) -> None:
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:12\nsize 12\n"
    given = {
        "repository": {"m/config.json": BERT, "m/model.safetensors": pointer},
        "nothing known": {"m/weights.bin": pointer},
        "class list": {"m/best.onnx": UNNAMED, "m/labels.txt": pointer},
        "snapshot": {"models--m--n/snapshots/a/model.safetensors": pointer},
    }[kind]
    place.put(given)
    with pytest.raises(SourceError, match="pointer that Git LFS leaves"):
        place.draft("models--m--n" if kind == "snapshot" else "m")


@pytest.mark.parametrize("others", [(), ("best.onnx",)])
def test_an_empty_download_is_skipped_and_nothing_at_all_is_an_error(place: Place, others: tuple[str, ...]) -> None:
    (place.folder / "hub/models--org--name/snapshots/abc").mkdir(parents=True)
    place.put({"best.onnx": DETECTOR})
    if not others:
        with pytest.raises(SourceNotFoundError, match="no model in what was named"):
            place.draft("hub")
    else:
        assert "org/name: nothing of it was downloaded" in place.draft("hub", *others).notes[0]
        assert place.only("hub", *others).id == "best/1"


def test_a_manifest_that_could_not_be_read_again_is_not_written(place: Place) -> None:
    place.put({f"m/{number:04}-{'x' * 80}.gguf": b"G" for number in range(2800)})
    with pytest.raises(SourceError, match="a manifest of more than") as caught:
        place.draft("m")
    assert "name the folder of one model" in caught.value.hint


@pytest.mark.parametrize(
    ("names", "models"),
    [
        (["efficientnet-b0", "efficientnet-b1"], 2), (["vit-b16", "vit-b32"], 2), (["a.batch4", "a.batch8"], 1),
        (["cat-det", "cat-rec"], 2), (["det", "rec"], 1), (["ppocr_det", "ppocr_rec"], 1),
        (["text_encoder", "image_encoder"], 2), (["encoder", "decoder"], 1), (["a-encoder", "decoder", "cat"], 3),
    ],
)  # fmt: skip
def test_graphs_are_one_model_only_where_their_names_say_so(place: Place, names: list[str], models: int) -> None:
    place.put({f"m/{name}.onnx": UNNAMED for name in names})
    assert len(place.made("m").models) == models


@pytest.mark.parametrize(
    "card", [b"pipeline_tag: [a]", b"pipeline_tag: {a: b}", b"pipeline_tag: 0x" + b"f" * 100_000, b"license: [x]"]
)
def test_a_card_of_other_kinds_than_text_is_not_believed(place: Place, card: bytes) -> None:
    place.put({**{f"m/{n}": c for n, c in REPOSITORY.items() if n != "modules.json"}})
    place.put({"m/README.md": b"---\n" + card + b"\n---\n"})
    assert "config.json says BertModel" in place.draft("m").text


@pytest.mark.parametrize("number", [b"0x" + b"f" * 100_000, b"9" * 100_000])
def test_names_that_have_no_text_are_none(place: Place, number: bytes) -> None:
    place.put({"m/best.onnx": UNNAMED, "m/data.yaml": b"names: [" + number + b"]"})
    assert list(files(place.only("m"))) == ["weights.onnx"]


def test_a_bundle_in_the_folder_is_no_model(place: Place) -> None:
    place.put({"best.onnx": DETECTOR, "line-1.bundle/blobs/x.onnx": DETECTOR, "line-2.bundle": b"x"})
    assert files(place.only()) == {"weights.onnx": "./best.onnx"}
