"""Models of Roboflow: from its weights API to the records of its own client."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
import numpy as np
import pytest

from builders import Builder, Notes
from bundler.assemble import Signers, assemble
from bundler.describe import describe
from bundler.settings import DEFAULT_ROBOFLOW, Roboflow, Settings
from factory import Workshop, elliptic_signer, put
from loopback import hasty
from manifests import client_facts, content, foreign, index, lock
from manifests.bundle import SealedBundle
from manifests.digest import Digest
from manifests.errors import (
    BundleError,
    DigestMismatchError,
    FormatError,
    LockOutdatedError,
    ManifestError,
    ModelLoadError,
    NamingError,
    SourceDeniedError,
    SourceError,
    SourceNotFoundError,
    UnsupportedFormatError,
)
from manifests.lock import Lock, LockedModel
from manifests.naming import slug
from manifests.progress import Silent
from manifests.store import Store
from onnx_files import detector_model
from roboflow_server import (
    EVERY_OTHER_KIND,
    KEY,
    RECOMMENDED,
    RemoteModel,
    RemotePackage,
    RoboflowService,
    md5,
    onnx,
    roboflow_of,
    tensorrt,
    traced,
    vehicles,
)
from runtime.generations import open_catalogue
from slow_proxy import slow_proxy

GRAPH = detector_model(np.zeros((1, 6, 84), np.float32))
SOURCE = {"id": "vehicles/1", "source": "roboflow://vehicles/1"}


@dataclass
class Desk:
    """A running service, and a builder that asks it."""

    service: RoboflowService
    folder: Path
    notes: Notes = field(default_factory=Notes)

    @property
    def settings(self) -> Settings:
        return hasty(self.folder / "store", roboflow=Roboflow(self.service.url, self.service.key))

    @property
    def builder(self) -> Builder:
        return Builder(self.folder, self.settings)

    def lock(self, *models: dict[str, object], previous: Lock | None = None, upgrade: bool = False) -> Lock:
        return self.builder.lock(*(models or (SOURCE,)), previous=previous, upgrade=upgrade, reporter=self.notes)

    def model(self, **changes: object) -> LockedModel:
        (model,) = self.lock(SOURCE | changes).models
        return model

    def asked(self, origin: str) -> list[str]:
        return [path for place, path, _ in self.service.asked if place == origin]


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with roboflow_of(RoboflowService([vehicles(GRAPH)])) as service:
        yield Desk(service, tmp_path)


def ids(model: LockedModel) -> list[str]:
    return [package.id for package in model.packages]


@pytest.mark.parametrize("page_size", [1, 3, 100])
def test_a_model_brings_all_its_packages_and_what_is_said_of_them(desk: Desk, page_size: int) -> None:
    desk.service.page_size = page_size
    model = desk.model()
    assert ids(model) == ["aa11trt", "bb22fp16", "cc33fp32", "dd44fp32"]
    assert (model.task, model.architecture, model.aliases) == ("object-detection", "yolov8", ())
    engine, half, one, many = model.packages
    assert [package.backend for package in model.packages] == ["trt", "onnx", "onnx", "onnx"]
    assert [package.quantization for package in model.packages] == ["fp16", "fp16", "fp32", "fp32"]
    assert [package.static_batch for package in model.packages] == [None, 4, 1, None]
    assert [package.opset for package in (half, one, many, engine)] == [17, 17, 17, None]
    assert [package.default for package in model.packages] == [False, False, True, False]
    assert one.client is not None
    assert foreign.decode_object(one.client.model_features or "", subject="") == {"doctr_vocab_127": True, "scale": 0.5}


@pytest.mark.parametrize(
    ("narrowed", "expected"),
    [
        ({"backend": "onnx"}, ["bb22fp16", "cc33fp32", "dd44fp32"]),
        ({"quantization": "fp16"}, ["aa11trt", "bb22fp16"]),
        ({"backend": "onnx", "quantization": "fp16"}, ["bb22fp16"]),
    ],
)
def test_backend_and_quantization_choose_among_the_packages(
    desk: Desk, narrowed: dict[str, object], expected: list[str]
) -> None:
    assert ids(desk.model(**narrowed)) == expected


def test_what_chooses_no_package_is_told_which_there_are(desk: Desk) -> None:
    with pytest.raises(SourceNotFoundError, match="no such package: backend=torch") as caught:
        desk.model(backend="torch")
    assert "bb22fp16 (onnx, fp16)" in caught.value.hint


def test_the_words_of_the_manifest_win_and_every_id_stays_a_name_of_the_model(desk: Desk) -> None:
    desk.service.aliases = {"yolov8n-640": "vehicles/1"}
    source = "roboflow://yolov8n-640"
    model = desk.model(id="cars", source=source, task="instance-segmentation", architecture="yolov9", aliases=["auto"])
    assert (model.id, model.task, model.architecture) == ("cars", "instance-segmentation", "yolov9")
    assert model.aliases == ("auto", "vehicles/1", "yolov8n-640")
    assert model.client is not None
    assert model.client.canonical == "vehicles/1"


def test_two_models_that_are_one_at_the_service_clash(desk: Desk) -> None:
    desk.service.aliases = {"yolov8n-640": "vehicles/1"}
    with pytest.raises(NamingError, match="clash"):
        desk.lock(SOURCE, {"id": "yolov8n-640", "source": "roboflow://yolov8n-640"})


def test_the_key_goes_to_the_service_alone_and_into_no_lock(desk: Desk) -> None:
    desk.service.key = KEY
    written = lock.encode(desk.lock()).decode()
    assert {headers.get("Authorization") for place, _, headers in desk.service.asked if place == "api"} == {
        f"Bearer {KEY}"
    }
    storage = [headers for place, _, headers in desk.service.asked if place == "storage"]
    assert storage
    assert not any(KEY in str(headers) for headers in storage)
    for secret in (KEY, "signature", desk.service.storage_url, desk.service.url):
        assert secret not in written
        assert not any(secret in note for note in desk.notes.notes)
    assert KEY not in repr(desk.settings)


def test_a_mirror_of_the_service_gets_no_key(desk: Desk) -> None:
    from bundler.mirrors import mirrors_of

    desk.service.key = KEY
    mirrors = mirrors_of(f"https://api.example={desk.service.url}", subject="test")
    settings = replace(desk.settings, roboflow=Roboflow("https://api.example", KEY), mirrors=mirrors)
    with pytest.raises(SourceDeniedError):
        Builder(desk.folder, settings).lock(SOURCE)
    assert not any(KEY in f"{path} {headers}" for _, path, headers in desk.service.asked)


@pytest.mark.parametrize(
    ("status", "kind", "words"),
    [
        (401, SourceDeniedError, "missing or wrong"),
        (402, SourceDeniedError, "no credits"),
        (403, SourceDeniedError, "may not read"),
        (404, SourceNotFoundError, "no such thing"),
        (423, SourceDeniedError, "paused"),
        (418, SourceError, "418"),
    ],
)
def test_a_refusal_says_what_it_means_and_the_way_out(
    desk: Desk, status: int, kind: type[BundleError], words: str
) -> None:
    desk.service.status, desk.service.key = status, KEY
    with pytest.raises(kind, match=words) as caught:
        desk.lock()
    assert type(caught.value) is kind
    assert bool(caught.value.hint) == (status != 418)
    assert KEY not in f"{caught.value} {caught.value.hint} {caught.value.facts}"


def test_who_has_no_key_hears_of_the_variable(desk: Desk) -> None:
    desk.service.key = KEY
    with pytest.raises(SourceDeniedError) as caught:
        Builder(desk.folder, replace(desk.settings, roboflow=Roboflow(desk.service.url))).lock(SOURCE)
    assert "ROBOFLOW_API_KEY" in caught.value.hint


def test_offline_asks_nobody(desk: Desk) -> None:
    with pytest.raises(SourceError, match="--offline"):
        desk.builder.using(offline=True).lock(SOURCE)
    assert desk.service.asked == []


@pytest.mark.parametrize("wrong", ["0" * 32, md5(b"another")])
def test_a_file_with_another_md5_than_was_promised_is_refused(desk: Desk, wrong: str) -> None:
    desk.service.models[0].packages[0].md5 = {"engine.plan": wrong}
    with pytest.raises(DigestMismatchError, match=wrong):
        desk.lock()


@pytest.mark.parametrize("wrong", ["", "zz", "00"])
def test_an_md5_that_is_none_is_an_error_of_the_service(desk: Desk, wrong: str) -> None:
    desk.service.models[0].packages[0].md5 = {"engine.plan": wrong}
    with pytest.raises(SourceError, match="MD5 that is none"):
        desk.lock()


def test_a_file_without_md5_is_hashed_here(desk: Desk) -> None:
    desk.service.models[0].packages[0].md5 = {"engine.plan": None}
    pin = desk.model().packages[0].files[0].pin
    assert pin == {"file": "engine.plan", "package": "aa11trt"}


def test_a_lock_stays_as_it_is_until_an_upgrade(desk: Desk) -> None:
    first = desk.lock()
    desk.service.asked.clear()
    desk.service.models[0].packages.append(RemotePackage("ee55new", {"weights.onnx": GRAPH}, onnx()))
    assert desk.lock(previous=first).models == first.models
    assert desk.lock(SOURCE | {"license": "MIT"}, previous=first).models[0].packages == first.models[0].packages
    assert desk.service.asked == []
    assert ids(desk.lock(previous=first, upgrade=True).models[0])[-1] == "ee55new"


def test_an_upgrade_fetches_no_file_whose_md5_is_known(desk: Desk) -> None:
    first = desk.lock()
    desk.service.asked.clear()
    desk.service.models[0].packages[0].files["trt_config.json"] = b'{"changed": true}'
    second = desk.lock(previous=first, upgrade=True)
    assert [urlsplit(path).path for path in desk.asked("storage")] == ["/vehicles/1/aa11trt/trt_config.json"]
    assert second.sequence == first.sequence + 1


def test_another_question_is_asked_of_the_service(desk: Desk) -> None:
    narrow = SOURCE | {"backend": "onnx", "quantization": "fp16"}
    first = desk.lock(narrow)
    assert ids(desk.lock(previous=first).models[0]) == ["aa11trt", "bb22fp16", "cc33fp32", "dd44fp32"]


def test_check_says_that_the_service_moved(desk: Desk) -> None:
    from bundler.locking import Locking

    (desk.folder / "line.json").write_text(json.dumps({"name": "line", "models": [SOURCE]}))
    locking = Locking(desk.folder / "line.json", desk.folder / "line.lock.json", desk.settings, Silent())
    locking.run(check=False, upgrade=False, sequence=None)
    locking.run(check=True, upgrade=False, sequence=None)
    desk.service.models[0].packages.append(RemotePackage("ee55new", {"weights.onnx": GRAPH}, onnx()))
    with pytest.raises(LockOutdatedError, match="not what the sources give now") as caught:
        locking.run(check=True, upgrade=False, sequence=None)
    assert any("ee55new" in name for name in caught.value.facts)


def test_a_build_asks_for_fresh_addresses(desk: Desk) -> None:
    locked = desk.lock()
    desk.service.round = 7
    desk.builder.elsewhere().fetch(locked)
    assert all(path.endswith("signature=round7") for path in desk.asked("storage")[-5:])


@pytest.mark.parametrize("gone", ["package", "file", "md5"])
def test_a_build_refuses_what_is_not_there_any_more(desk: Desk, gone: str) -> None:
    locked = desk.lock()
    packages = desk.service.models[0].packages
    if gone == "package":
        del packages[0]
    elif gone == "file":
        del packages[0].files["engine.plan"]
    else:
        packages[0].files["engine.plan"] = b"another"
    with pytest.raises(DigestMismatchError if gone == "md5" else SourceNotFoundError):
        desk.builder.elsewhere().fetch(locked)


@pytest.mark.parametrize("content", [b"evil!!", b"much longer than it was", b""])
def test_bytes_that_are_not_what_was_locked_are_refused_whatever_the_service_says(desk: Desk, content: bytes) -> None:
    locked = desk.lock()
    desk.service.lies["/vehicles/1/aa11trt/engine.plan"] = content
    with pytest.raises(DigestMismatchError):
        desk.builder.elsewhere().fetch(locked)


def test_another_digest_than_the_lock_names_is_refused(desk: Desk) -> None:
    locked = desk.lock()
    written = lock.encode(locked).decode()
    right, wrong = locked.models[0].packages[0].files[0].sha256, Digest.of(b"another").hex
    with pytest.raises(DigestMismatchError, match=wrong):
        desk.builder.elsewhere().fetch(lock.decode(written.replace(right, wrong).encode(), subject="lock"))


def test_every_kind_of_package_has_its_own_words_in_the_record(desk: Desk) -> None:
    desk.service.models[0].packages = [
        RemotePackage(name, {"a.bin": name.encode()}, each) for name, each in EVERY_OTHER_KIND.items()
    ]
    generation = installed(desk, desk.lock())
    record = document(generation / f"roboflow/offline-weights-registry/{slug('vehicles/1')}.json")
    packages = {each["package_id"]: each for each in record["packages"]}  # type: ignore[attr-defined]
    batches = {
        name: (each["dynamic_batch_size_supported"], each["static_batch_size"]) for name, each in packages.items()
    }
    assert batches == {
        "ja1": (False, 1), "ts2": (False, 8), "pt3": (True, None), "hf4": (None, None), "ul5": (None, None),
        "cm6": (False, 1),
    }  # fmt: skip
    assert {name: each["backend"] for name, each in packages.items()} == {
        "ja1": "trt", "ts2": "torch-script", "pt3": "torch", "hf4": "hugging-face", "ul5": "ultralytics",
        "cm6": "coreml",
    }  # fmt: skip
    assert packages["ul5"]["quantization"] == "unknown"
    assert packages["ts2"]["torch_script_package_details"] == {
        "supported_device_types": ["cpu", "cuda"],
        "torch_version": "2.7.0+cu126",
        "torch_vision_version": "0.22.0",
    }
    made_on = packages["ja1"]["environment_requirements"]
    assert (made_on["kind"], made_on["l4t_version"], made_on["jetson_product_name"]) == (
        "jetson", "36.3.0", "nvidia-orin-nx",
    )  # fmt: skip
    assert "os_version" not in made_on


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({"ROBOFLOW_API_KEY": "two words"}, "ROBOFLOW_API_KEY"),
        ({"ROBOFLOW_API_KEY": "hushé"}, "ROBOFLOW_API_KEY"),
        ({"ROBOFLOW_API_HOST": "ftp://x"}, "ROBOFLOW_API_HOST"),
        ({"ROBOFLOW_API_HOST": "api.example.org"}, "ROBOFLOW_API_HOST"),
        ({"ROBOFLOW_API_HOST": "https://x/?api_key=hush"}, "ROBOFLOW_API_HOST"),
        ({"ROBOFLOW_API_HOST": "https://u:hush@x"}, "ROBOFLOW_API_HOST"),
    ],
)
def test_settings_that_cannot_be_used_are_named_and_not_quoted(environ: dict[str, str], words: str) -> None:
    with pytest.raises(SourceError, match=words) as caught:
        Settings.read({"HOME": "/nowhere", "PIP_CONFIG_FILE": os.devnull, **environ})
    assert "hush" not in f"{caught.value} {caught.value.hint}"
    assert "two" not in f"{caught.value}"


def test_the_service_is_where_the_environment_says() -> None:
    read = Settings.read(
        {"HOME": "/nowhere", "PIP_CONFIG_FILE": os.devnull, "ROBOFLOW_API_HOST": "http://127.0.0.1:1/"}
    )
    assert read.roboflow == Roboflow("http://127.0.0.1:1", None)
    assert Roboflow().host == DEFAULT_ROBOFLOW


def test_a_package_that_is_not_trusted_is_carried_with_a_note(desk: Desk) -> None:
    desk.service.models[0].packages[3].trusted = False
    model = desk.model()
    assert model.packages[3].client is not None
    assert not model.packages[3].client.trusted
    assert any("dd44fp32 is not marked as trusted" in note for note in desk.notes.notes)


STRANGE = {
    "kind": {"type": "hologram-model-package-v9", "backendType": "holo"},
    "batch": onnx() | {"staticBatchSize": 4},
    "no batch": onnx() | {"dynamicBatchSize": False},
    "opset": onnx() | {"opset": "new"},
    "quantization": onnx("fp4"),
    "machine": {"type": "trt-model-package-v1", "backendType": "trt", "quantization": "fp16"},
}


@pytest.mark.parametrize("name", STRANGE)
def test_a_package_that_the_client_would_not_take_is_carried_by_its_backend(desk: Desk, name: str) -> None:
    desk.service.models[0].packages[3].manifest = dict(STRANGE[name])
    package = desk.model().packages[3]
    assert package.client is None
    assert package.backend == STRANGE[name]["backendType"]
    assert any("dd44fp32 is carried, but not offered" in note for note in desk.notes.notes)


def test_a_package_in_words_that_are_unknown_is_left_out_with_a_note(desk: Desk) -> None:
    desk.service.models[0].packages[3].type = "external-model-package-v2"
    assert ids(desk.model()) == ["aa11trt", "bb22fp16", "cc33fp32"]
    assert any("external-model-package-v2" in note for note in desk.notes.notes)


@pytest.mark.parametrize(
    ("package", "words"),
    [
        (RemotePackage("with-dash", {"a": b"a"}, onnx()), "letters and digits"),
        (RemotePackage("e", {"../../etc/passwd": b"a"}, onnx()), "must be relative"),
        (RemotePackage("e", {"a": b"a", "A": b"b"}, onnx()), "one name"),
        (RemotePackage("e", {}, onnx()), "has no files"),
        (RemotePackage("AA11TRT", {"a": b"a"}, onnx()), "two packages of one id"),
    ],
)
def test_names_that_no_disk_or_client_could_hold_are_refused(desk: Desk, package: RemotePackage, words: str) -> None:
    desk.service.models[0].packages.append(package)
    with pytest.raises(SourceError, match=words):
        desk.lock()


@pytest.mark.parametrize("answer", [b"", b"[]", b"{}", b'{"modelMetadata": {"type": "x"}}', b"{" * 5000, b"\xff"])
def test_an_answer_that_is_not_of_the_api_is_an_error_of_the_source(desk: Desk, answer: bytes) -> None:
    desk.service._weights = lambda request, _: request.send(answer)  # type: ignore[method-assign]
    with pytest.raises(SourceError, match="not what its API promises"):
        desk.lock()


def test_pages_that_do_not_end_are_an_error_of_the_source(desk: Desk) -> None:
    page = {
        "type": "external-model-metadata-v1",
        "modelId": "vehicles/1",
        "modelArchitecture": "x",
        "modelPackages": [],
    }
    answer = json.dumps({"modelMetadata": page | {"nextPage": "again"}}).encode()
    desk.service._weights = lambda request, _: request.send(answer)  # type: ignore[method-assign]
    with pytest.raises(SourceError, match="does not end"):
        desk.lock()


@pytest.mark.parametrize(
    ("manifest", "words"),
    [
        (onnx() | {"opset": 2**63}, "makes no sense"),
        (onnx() | {"opset": 10**30}, "makes no sense"),
        (onnx() | {"dynamicBatchSize": False, "staticBatchSize": 2**63}, "makes no sense"),
        (tensorrt() | {"maxBatchSize": 2**64}, "makes no sense"),
        (tensorrt() | {"minBatchSize": -1}, "makes no sense"),
    ],
)
def test_numbers_that_no_lock_can_hold_make_a_package_without_facts(
    desk: Desk, manifest: dict[str, object], words: str
) -> None:
    desk.service.models[0].packages[0].manifest = manifest
    found = desk.lock()
    assert lock.decode(lock.encode(found), subject="lock") == found
    assert found.models[0].packages[0].client is None
    assert any(words in note for note in desk.notes.notes)


LIES: dict[str, dict[str, object]] = {
    "a dependency's package": {"dependencies": [{"name": "a", "modelId": "b/1", "modelPackageId": "x" * 400}]},
    "a dependency's name": {"dependencies": [{"name": "a\x1b[2J", "modelId": "b/1"}]},
    "parameters without end": {"recommended": {"perClassConfidence": {f"c{number}": 0.5 for number in range(90_000)}}},
    "an empty architecture": {"architecture": ""},
    "a canonical id that leaves": {"id": "../.."},
    "an empty canonical id": {"id": ""},
    "a canonical id that a client keeps": {"id": "workflow/1"},
}


@pytest.mark.parametrize("lie", LIES)
def test_words_that_a_lock_could_not_be_read_back_with_are_an_error_of_the_service(desk: Desk, lie: str) -> None:
    desk.service.models[0] = replace(desk.service.models[0], **LIES[lie])  # type: ignore[arg-type]
    desk.service.aliases["vehicles/1"] = desk.service.models[0].id
    with pytest.raises(SourceError, match=r"^vehicles/1: roboflow://vehicles/1"):
        desk.lock()


@pytest.mark.parametrize(
    "manifest",
    [
        onnx(providers=["\x1b[2J"]),
        tensorrt() | {"cudaDeviceType": "x" * 300},
        traced() | {"supportedDeviceTypes": ["cpu\n"]},
    ],
)
def test_a_package_with_words_that_are_none_is_an_error_of_the_service(desk: Desk, manifest: dict[str, object]) -> None:
    desk.service.models[0].packages[0].manifest = manifest
    with pytest.raises(SourceError, match="is no name"):
        desk.lock()


def test_a_service_that_names_packages_or_files_without_end_is_an_error(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bundler.sources.roboflow_answers.MAXIMUM_FILES", 10)
    with pytest.raises(SourceError, match="more than 10 files"):
        desk.lock()
    monkeypatch.setattr("bundler.sources.roboflow_answers.MAXIMUM_PACKAGES", 3)
    with pytest.raises(SourceError, match="more than 3 packages"):
        desk.lock()
    monkeypatch.setattr("bundler.sources.roboflow._PAGES_LIMIT", 4096)
    desk.service.page_size = 1
    with pytest.raises(SourceError, match="answered with more than"):
        desk.lock()


@pytest.mark.parametrize(("token", "most"), [("again", 2), ("x" * 5000, 1)])
def test_a_next_page_that_was_asked_for_or_fits_no_address_is_not_asked_for(desk: Desk, token: str, most: int) -> None:
    page = {"type": "external-model-metadata-v1", "modelId": "vehicles/1", "modelArchitecture": "x"}
    answer = json.dumps({"modelMetadata": page | {"modelPackages": [], "nextPage": token}}).encode()
    desk.service._weights = lambda request, _: request.send(answer)  # type: ignore[method-assign]
    with pytest.raises(SourceError):
        desk.lock()
    assert len(desk.asked("api")) == most


@pytest.mark.parametrize("canonical", ["Vehicles/1", "vehicles", "vehicles/1/2"])
def test_an_id_of_the_service_that_clashes_with_the_one_that_was_asked_names_the_way_out(
    desk: Desk, canonical: str
) -> None:
    desk.service.models[0].id = desk.service.aliases["vehicles/1"] = canonical
    with pytest.raises(NamingError, match=f"its service calls roboflow://vehicles/1 '{canonical}'") as caught:
        desk.lock()
    assert f"roboflow://{canonical}" in caught.value.hint
    assert desk.model(id=canonical, source=f"roboflow://{canonical}").id == canonical


def test_the_order_of_an_answer_changes_no_lock(desk: Desk) -> None:
    desk.service.models[0].packages[3].trusted = False
    desk.service.models[0].packages[0].trusted = False
    first = desk.lock()
    desk.service.models[0].packages.reverse()
    for package in desk.service.models[0].packages:
        package.files = dict(reversed(package.files.items()))
    notes = desk.notes.notes.copy()
    desk.notes.notes.clear()
    assert desk.lock() == first
    assert desk.notes.notes == notes


def test_what_the_service_does_not_vouch_for_never_comes_first(desk: Desk) -> None:
    desk.service.models[0].packages[2].trusted = False
    model = desk.model()
    assert [package.id for package in model.packages if package.default] == ["dd44fp32"]


def test_a_word_that_the_manifest_takes_back_is_the_services_again(desk: Desk) -> None:
    said = {"task": "instance-segmentation", "architecture": "yolov9"}
    plain = desk.lock()
    asked = len(desk.service.asked)
    overridden = desk.lock(SOURCE | said, previous=plain)
    assert (overridden.models[0].task, overridden.models[0].architecture) == tuple(said.values())
    assert desk.lock(SOURCE | said | {"task": "classification"}, previous=overridden).models[0].task == "classification"
    assert len(desk.service.asked) == asked
    again = desk.lock(previous=overridden)
    assert (again.models[0].task, again.models[0].architecture) == ("object-detection", "yolov8")
    assert again.models == plain.models


def test_a_dependency_that_wants_a_package_that_was_not_chosen_is_said(desk: Desk) -> None:
    wanted = {"name": "eyes", "modelId": "eyes-640", "modelPackageId": "cc33fp32"}
    parent = RemoteModel("cars/1", desk.service.models[0].packages[:1], dependencies=[wanted])
    desk.service.models.append(parent)
    cars = {"id": "cars/1", "source": "roboflow://cars/1"}
    alias = {"aliases": ["eyes-640"]}
    with pytest.raises(ManifestError, match="needs the package cc33fp32 of 'vehicles/1'") as caught:
        desk.lock(cars, SOURCE | alias | {"quantization": "fp16"})
    assert "quantization" in caught.value.hint
    assert len(desk.lock(cars, SOURCE | alias).models) == 2


def test_two_ids_of_one_model_of_the_service_are_told_as_that(desk: Desk) -> None:
    desk.service.aliases = {"yolov8n-640": "vehicles/1"}
    with pytest.raises(NamingError, match=r"to their service they are one, 'vehicles/1'"):
        desk.lock(SOURCE | {"id": "a"}, {"id": "b", "source": "roboflow://yolov8n-640"})


@pytest.mark.parametrize("kind", ["onnx-model-package-v1", "onnx-model-package-v9"])
def test_what_the_service_does_not_vouch_for_runs_only_for_who_names_it(desk: Desk, kind: str) -> None:
    import runtime

    desk.service.models[0].packages = [only] = desk.service.models[0].packages[3:]
    only.trusted, only.manifest = False, onnx() | {"type": kind}
    root = installed(desk, desk.lock()).parent.parent
    with pytest.raises(ModelLoadError) as caught:
        runtime.get_model("vehicles/1", root=root)
    assert "does not vouch for it" in str(caught.value.facts["dd44fp32"])
    assert runtime.get_model("vehicles/1", root=root, package_id="dd44fp32") is not None


def test_a_package_does_not_run_where_its_service_says_that_it_does_not(desk: Desk) -> None:
    import runtime

    desk.service.models[0].packages[2].manifest = onnx(static=1, providers=["CPUExecutionProvider"])
    root = installed(desk, desk.lock()).parent.parent
    assert runtime.get_model("vehicles/1", root=root, device="cpu") is not None
    with pytest.raises(ModelLoadError) as caught:
        runtime.get_model("vehicles/1", root=root, device="cpu", package_id="cc33fp32")
    assert "does not run on CPUExecutionProvider" in str(caught.value.facts["cc33fp32"])


def test_features_that_nest_without_end_are_refused(desk: Desk) -> None:
    deep: dict[str, object] = {}
    for _ in range(100):
        deep = {"deeper": deep}
    desk.service.models[0].packages[0].features = deep
    with pytest.raises(SourceError, match="nested more than"):
        desk.lock()


def test_a_model_that_needs_another_asks_for_it_by_name(desk: Desk) -> None:
    desk.service.models[0].dependencies = [{"type": "model-dependency-v1", "name": "eyes", "modelId": "eyes/2"}]
    with pytest.raises(ManifestError, match="needs 'eyes/2'") as caught:
        desk.lock()
    assert "roboflow://eyes/2" in caught.value.hint
    desk.service.models.append(RemoteModel("eyes/2", [RemotePackage("a", {"weights.onnx": GRAPH}, onnx())]))
    both = desk.lock(SOURCE, {"id": "my/eyes", "source": "roboflow://eyes/2"})
    assert len(both.models) == 2


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"source": "roboflow://vehicles/1#weights.onnx"}, "not a model"),
        ({"source": "roboflow://../x"}, "not a model"),
        ({"source": "roboflow://w/workflows/x"}, "is a workflow"),
        ({"include": ["*.onnx"]}, "choose files"),
        ({"unpack": True}, "choose files"),
        ({"source": "./x", "backend": "onnx"}, "belong together"),
        ({"backend": "magic"}, "unknown value 'magic'"),
        ({"quantization": "fp3"}, "unknown value 'fp3'"),
    ],
)
def test_what_a_manifest_cannot_ask_is_said_before_anyone_is_asked(
    desk: Desk, changes: dict[str, object], words: str
) -> None:
    with pytest.raises(ManifestError, match=words):
        desk.lock(SOURCE | changes)
    assert desk.service.asked == []


def test_a_model_is_no_file(desk: Desk) -> None:
    with pytest.raises(ManifestError, match="is a model, and a file is asked for"):
        desk.lock({"id": "m", "files": {"weights.onnx": "roboflow://vehicles/1"}})


@pytest.mark.parametrize("name", ["id", "architecture", "variant", "dependency"])
def test_words_that_could_move_a_cursor_are_refused(desk: Desk, name: str) -> None:
    evil = "yolo\x1b[2J"
    if name == "dependency":
        desk.service.models[0].dependencies = [{"type": "model-dependency-v1", "name": evil, "modelId": "vehicles/1"}]
    elif name == "id":
        desk.service.aliases["vehicles/1"] = evil
        desk.service.models[0].id = evil
    else:
        setattr(desk.service.models[0], name, evil)
    with pytest.raises((SourceError, NamingError)) as caught:
        desk.lock()
    assert "\x1b" not in str(caught.value)


def test_a_task_that_is_unknown_is_carried_as_raw(desk: Desk) -> None:
    desk.service.models[0].task = "telepathy"
    assert desk.model().task == "raw"
    assert any("telepathy" in note for note in desk.notes.notes)


def installed(desk: Desk, locked: Lock) -> Path:
    """The generation of a site with the bundle of `locked`."""
    with Store.open(desk.settings.store) as store:
        signers = Signers.of(elliptic_signer())
        built = assemble(locked, store, signers, desk.folder / "out.bundle", folder=False, reporter=desk.notes)
    root = Workshop(desk.folder / "site").site()
    put(built.path, root)
    return root.generation(open_catalogue(root.path).generation)


def document(path: Path) -> dict[str, object]:
    loaded = json.loads(path.read_text())
    assert isinstance(loaded, dict)
    return loaded


def test_the_records_on_the_site_are_those_of_the_client(desk: Desk) -> None:
    desk.service.aliases = {"yolov8n-640": "vehicles/1"}
    desk.service.models[0].packages[3].manifest = {"type": "hologram", "backendType": "holo"}
    generation = installed(desk, desk.lock(SOURCE | {"id": "cars", "source": "roboflow://yolov8n-640"}))
    record = document(generation / f"roboflow/offline-weights-registry/{slug('vehicles/1')}.json")
    assert record["canonical_model_id"] == "vehicles/1"
    assert record["requested_aliases"] == ["cars", "yolov8n-640"]
    assert record["model"] == {
        "model_architecture": "yolov8",
        "task_type": "object-detection",
        "model_variant": "yolov8n",
        "model_dependencies": None,
        "recommended_parameters": {"confidence": 0.5, "per_class_confidence": None},
    }
    packages = {each["package_id"]: each for each in record["packages"]}  # type: ignore[attr-defined]
    assert sorted(packages) == ["aa11trt", "bb22fp16", "cc33fp32"]
    assert packages["aa11trt"]["environment_requirements"] == {
        "kind": "gpu-server",
        "cuda_device_cc": "7.5",
        "cuda_device_name": "tesla-t4",
        "driver_version": "550.54.15",
        "cuda_version": "12.4",
        "trt_version": "10.3.0.26",
        "os_version": "ubuntu-22.04",
    }
    assert packages["aa11trt"]["trt_package_details"]["max_dynamic_batch_size"] == 16
    assert packages["bb22fp16"]["onnx_package_details"] == {"opset": 17, "incompatible_providers": ["X"]}
    recommended = {"confidence": 0.35, "per_class_confidence": RECOMMENDED["perClassConfidence"]}
    assert packages["cc33fp32"]["recommended_parameters"] == recommended
    folder = generation / f"roboflow/models-cache/{slug('vehicles/1')}"
    assert sorted(path.name for path in folder.iterdir()) == ["aa11trt", "bb22fp16", "cc33fp32"]
    one, half = (document(folder / name / "model_config.json") for name in ("cc33fp32", "bb22fp16"))
    assert one["model_features"] == {"doctr_vocab_127": True, "scale": 0.5}
    assert one["recommended_parameters"] == recommended
    assert (one["dynamic_batch_size_supported"], one["static_batch_size"]) == (False, 1)
    assert half["recommended_parameters"] == {"confidence": 0.5, "per_class_confidence": None}
    assert half["model_features"] is None
    plain = generation / "plain/cars"
    assert sorted(path.name for path in plain.iterdir()) == ["class_names.txt", "inference_config.json", "weights.onnx"]
    assert (generation / "plain/.packages/cars/dd44fp32/weights.onnx").read_bytes() == GRAPH


def test_a_model_of_a_service_runs_under_each_of_its_names(desk: Desk) -> None:
    import runtime

    desk.service.aliases = {"yolov8n-640": "vehicles/1"}
    generation = installed(desk, desk.lock(SOURCE | {"id": "cars", "source": "roboflow://yolov8n-640"}))
    for name in ("cars", "vehicles/1", "yolov8n-640"):
        assert runtime.get_model(name, root=generation.parent.parent) is not None


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"canonical": "vehicles/1"', '"canonical": "other/1"'),
        ('\\"scale\\":0.5', '\\"scale\\":0.50'),
        ('"machine": "gpu-server"', '"machine": "toaster"'),
    ],
)
def test_a_lock_with_facts_that_were_edited_by_hand_is_refused(desk: Desk, old: str, new: str) -> None:
    written = lock.encode(desk.lock()).decode()
    assert old in written
    with pytest.raises(ManifestError):
        lock.decode(written.replace(old, new).encode(), subject="lock")


def test_facts_of_a_package_need_those_of_its_model(desk: Desk) -> None:
    locked = desk.lock()
    with Store.open(desk.settings.store) as store:
        carried = describe(locked, store, Silent())
    bare = msgspec.structs.replace(carried.models[0], client=None)
    with pytest.raises(FormatError, match="facts of a package, and none of its model"):
        content.decode(content.encode(msgspec.structs.replace(carried, items=(bare,))))


def test_a_bundle_with_facts_requires_a_reader_that_knows_them(desk: Desk) -> None:
    installed(desk, desk.lock())
    with SealedBundle.open(desk.folder / "out.bundle") as sealed:
        raw = sealed.view().index.raw
    assert b'"features":["client-facts"]' in raw
    with pytest.raises(UnsupportedFormatError, match="'client-facks'"):
        index.decode(raw.replace(b'"features":["client-facts"]', b'"features":["client-facks"]'))
    length = int.from_bytes(raw[16:24], "little")
    head = raw[64 : 64 + length].replace(b'"features":["client-facts"]', b'"features":[]')
    rest = raw[64 + length + -length % 8 :]
    body = head + bytes(-len(head) % 8) + rest
    sizes = len(head).to_bytes(8, "little") + (64 + len(body)).to_bytes(8, "little")
    with pytest.raises(FormatError, match="a feature that its head does not require"):
        index.decode(raw[:16] + sizes + raw[32:64] + body)


@pytest.mark.parametrize("killed_at", ["lock", "build"])
def test_a_run_that_was_killed_goes_on_where_it_was(tmp_path: Path, killed_at: str) -> None:
    size = 6_000_000
    weights = np.random.default_rng(1).bytes(size)
    model = RemoteModel("big/1", [RemotePackage("a", {"weights.pth": weights}, _torch())])
    with roboflow_of(RoboflowService([model], key=KEY)) as service:
        parts = urlsplit(service.storage_url)
        with slow_proxy(parts.hostname or "", parts.port or 80, rate=1e9) as door:
            service.storage_url = door.url
            (tmp_path / "line.json").write_text(
                json.dumps({"name": "line", "models": [{"id": "big/1", "source": "roboflow://big/1"}]})
            )
            environ = {"HOME": str(tmp_path), "PATH": os.environ["PATH"], "BUNDLE_STORE": str(tmp_path / "store")}
            environ |= {"ROBOFLOW_API_HOST": service.url, "ROBOFLOW_API_KEY": KEY}
            program = [sys.executable, "-m", "bundler"]
            command = [*program, "lock", "line.json"]
            if killed_at == "build":
                subprocess.run([*command, "--store", "another"], cwd=tmp_path, env=environ, check=True)
                subprocess.run(
                    [*program, "keygen", "-o", "k.pem", "--no-passphrase"], cwd=tmp_path, env=environ, check=True
                )
                command = [*program, "build", "line.json", "--key", "k.pem", "-o", "out.bundle"]
            sent, door.rate = door.sent, 4e6
            killed = subprocess.Popen(
                command, cwd=tmp_path, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE
            )
            deadline = time.monotonic() + 60
            while door.sent - sent < size // 2 and time.monotonic() < deadline:
                assert killed.poll() is None, killed.communicate()
                time.sleep(0.01)
            killed.send_signal(signal.SIGKILL)
            killed.communicate()
            door.rate = 1e9
            service.round = 2
            done = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
            assert door.sent - sent < 1.4 * size
            assert KEY not in done.stdout + done.stderr + (tmp_path / "line.lock.json").read_text()


def _torch() -> dict[str, object]:
    return {
        "type": "torch-model-package-v1",
        "backendType": "torch",
        "dynamicBatchSize": True,
        "quantization": "fp32",
    }


def test_the_document_shows_every_fact_and_its_examples_are_read() -> None:
    text = (Path(client_facts.__file__).parent / "FORMAT.md").read_text().split("**Client facts.**")[1]
    of_model, of_package = re.findall(r"```json\n(.*?)\n```", text, re.DOTALL)[:2]
    model = msgspec.convert(json.loads(of_model), client_facts.ModelFacts)
    package = msgspec.convert(json.loads(of_package), client_facts.PackageFacts)
    client_facts.check_model(model, ("vehicles/1",), subject="FORMAT.md")
    client_facts.check_package(package, subject="FORMAT.md")
    for shown in (model, *model.dependencies, package, package.environment, package.engine, package.torch_script):
        assert shown is not None
        assert set(msgspec.to_builtins(shown)) == set(shown.__struct_fields__)
