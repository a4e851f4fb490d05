"""`bundle init` of hubs, buckets and other sources: looked at where they answer, written down where not."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from archives import tarred
from bucket_server import bucket_server
from bundler import initialise
from bundler.http import Client
from bundler.manifest_file import load
from bundler.settings import Buckets
from bundler.settings import Hub as HubSettings
from bundler.sources.schemes import sources
from hub_server import Hub, hub_of
from initialising import BERT, CARRIED, DETECTOR, REPOSITORY, Place, files, graph, paths
from loopback import hasty, serving
from manifests.errors import ManifestError, SourceNotFoundError

Asking = Callable[..., initialise.Draft]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.chdir(tmp_path)
    return Place(tmp_path)


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


WITHOUT_OTHER_WEIGHTS = {
    "ONNX": (
        {"onnx/model.onnx": graph(), "onnx/model.onnx_data": b"d", "onnx/model_fp16.onnx": graph(dtype="float16"),
         "onnx/model_fp16.onnx_data": b"d"},
        ["onnx/model.onnx", "onnx/model.onnx_data"],
    ),
    "GGUF": (
        {"m-Q8.gguf": b"GGUF", "m-Q4_K_M-00001-of-00002.gguf": b"GGUF", "m-Q4_K_M-00002-of-00002.gguf": b"GGUF"},
        ["m-Q4_K_M-00001-of-00002.gguf", "m-Q4_K_M-00002-of-00002.gguf"],
    ),
    "OpenVINO": (
        {"openvino_model.xml": b"<net/>", "openvino_model.bin": b"o", "vision.bin": b"v"},
        ["openvino_model.bin", "openvino_model.xml"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", WITHOUT_OTHER_WEIGHTS)
def test_of_a_repository_without_other_weights_one_plain_variant_is_carried(
    place: Place, asked: Asking, kind: str
) -> None:
    weights, carried = WITHOUT_OTHER_WEIGHTS[kind]
    with hub_of(Hub({**weights, "config.json": BERT})) as hub:
        draft = asked("hf://org/model", hub=hub.url)
        place.put({"made.yaml": draft.text.encode()})
        place.built(HF_ENDPOINT=hub.url)
    assert paths(place) == ["config.json", *carried]
    for name in weights.keys() - set(carried):
        assert name in draft.text


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
    names = ("a.bin", ".env", "sub/.git/config", "line.pem", "sub/b.bin", "id_rsa", "sub/prod.env", "x.p12")
    place.put({f"served/models/m/{name}": b"x" for name in names})
    draft = asked("s3://models/m", bucket=bucket)
    place.put({"made.yaml": draft.text.encode()})
    place.built(AWS_ENDPOINT_URL=bucket)
    assert paths(place) == ["a.bin", "sub/b.bin"]
    for name in set(names) - set(paths(place)):
        assert name in draft.notes[0]


@pytest.mark.parametrize("named", ["s3://models/m", "s3://models/m/id_rsa"])
def test_a_secret_alone_in_a_bucket_is_not_carried(place: Place, asked: Asking, bucket: str, named: str) -> None:
    place.put({"served/models/m/id_rsa": b"x"})
    with pytest.raises(SourceNotFoundError, match="no model in what was named"):
        asked(named, bucket=bucket)


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


def test_a_card_that_may_not_be_read_is_said(asked: Asking) -> None:
    with hub_of(Hub(REPOSITORY, gated="auto", token="hf_x")) as hub:
        text = asked("hf://org/model", hub=hub.url).text
    assert "gated: accept its conditions" in text
    assert "README.md and config.json could not be read" in text
    assert "license: apache-2.0" in text


@pytest.mark.parametrize(
    ("source", "model_id", "keys"),
    [
        ("roboflow://vehicles/1", "vehicles/1", {"task": "raw"}),
        ("oci://127.0.0.1:5000/org/m:v1", "org/m", {}),
        (f"oci://h/deep/org/m@sha256:{'0' * 64}/w.bin", "org/m", {}),
        ("https://h/detectors.tar.gz", "detectors/1", {"unpack": True}),
        ("https://h/detectors.ZIP", "detectors/1", {"unpack": True}),
        ("https://h/detectors.zip#inner/w.bin", "w/1", {"unpack": False}),
    ],
)
def test_a_source_that_is_not_asked_gets_the_keys_that_its_name_says(
    place: Place, asked: Asking, source: str, model_id: str, keys: dict[str, object]
) -> None:
    place.put({"made.yaml": asked(source).text.encode()})
    (model,) = load(place.folder / "made.yaml").models
    assert (model.id, model.source) == (model_id, source)
    assert {key: getattr(model, key) for key in keys} == keys


def test_an_archive_of_this_machine_is_unpacked(place: Place, asked: Asking) -> None:
    place.put({"detectors.tar": tarred(top__w=b"w")})
    place.put({"made.yaml": asked("detectors.tar").text.encode()})
    place.built()
    assert paths(place) == ["top/w"]


def test_a_workflow_is_told_where_it_belongs(asked: Asking) -> None:
    with pytest.raises(ManifestError, match="is a workflow, not a model") as caught:
        asked("roboflow://work/workflows/count")
    assert "workflows: [{source:" in caught.value.hint
