"""From a name to an answer: the data plane, and `get_model` beside it."""

import json
import subprocess
import sys
from pathlib import Path

import click
import numpy as np
import pytest
from click.testing import CliRunner

import runtime
from bundler.commands import extras
from bundler.commands.main import cli
from installed import catalogue, detector, model, package, picture, plain, png
from manifests.errors import (
    InvalidInputError,
    MissingExtraError,
    ModelLoadError,
    NotARootError,
    UnknownModelError,
)
from onnx_files import Tensor, identity_model, write
from runtime.catalogue import Catalogue
from runtime.dataplane import DataPlane, load_selection, open_data_plane, this_machine
from runtime.negotiation import Machine, Wishes
from runtime.registry import Registry

FACE = {
    "x": 32.0,
    "y": 24.0,
    "width": 16.0,
    "height": 8.0,
    "confidence": pytest.approx(0.9),
    "class": "face",
    "class_id": 0,
}


@pytest.fixture
def installed(tmp_path: Path) -> Catalogue:
    faces = package(detector(tmp_path / "faces" / "onnxfp32"))
    write(tmp_path / "echo" / "onnx", identity_model(Tensor("x", [2])))
    return catalogue(
        [
            model("faces/1", [faces], aliases=["faces-640"]),
            model("echo/1", [package(tmp_path / "echo" / "onnx")], task="embedding", architecture=None),
        ]
    )


@pytest.fixture
def plane(installed: Catalogue) -> DataPlane:
    return open_data_plane(lambda: installed)


def loaded_names(plane: DataPlane) -> list[str]:
    return [loaded.selection.model.id for loaded in plane.loaded()]


@pytest.mark.parametrize("name", ["faces/1", "faces-640"])
def test_an_id_and_an_alias_lead_to_the_same_answer(plane: DataPlane, name: str) -> None:
    answer = plane.infer(name, [picture()])
    (result,) = answer.results
    assert plain(result.to_dict()) == {"image": {"width": 64, "height": 64}, "predictions": [FACE]}
    assert (answer.model.id, answer.model.task) == ("faces/1", "object-detection")
    assert answer.seconds > 0


def test_the_alias_of_a_loaded_model_loads_nothing_more(plane: DataPlane) -> None:
    assert plane.load("faces/1") is plane.load("faces-640")
    assert loaded_names(plane) == ["faces/1"]


def test_a_task_without_a_family_is_served_as_raw_tensors(plane: DataPlane) -> None:
    (result,) = plane.infer("echo/1", [{"x": np.array([1, 2], np.float32)}]).results
    assert result.to_dict()["outputs"][0]["data"] == [1, 2]


def test_an_unknown_name_is_refused_with_the_nearest_one(plane: DataPlane) -> None:
    with pytest.raises(UnknownModelError) as caught:
        plane.infer("faces/2", [picture()])
    assert "faces/1" in caught.value.hint


def test_metadata_needs_no_loading(plane: DataPlane) -> None:
    assert plane.metadata("faces-640").id == "faces/1"
    assert plane.explain("faces/1").packages[0].id == "onnxfp32"
    assert loaded_names(plane) == []


def test_unloading_goes_by_any_name(plane: DataPlane) -> None:
    plane.load("faces/1")
    plane.load("echo/1")
    assert plane.unload("faces-640") == 1
    assert loaded_names(plane) == ["echo/1"]
    assert plane.clear() == 1


def test_the_next_package_is_loaded_when_the_best_one_is_damaged(tmp_path: Path) -> None:
    write(tmp_path / "damaged", b"not a graph")
    packages = [package(tmp_path / "damaged"), package(detector(tmp_path / "whole"), quantization="int8")]
    plane = open_data_plane(lambda: catalogue([model("m/1", packages)]))
    assert plane.load("m/1").selection.package.id == "whole"


def test_an_install_takes_effect_without_a_restart(tmp_path: Path) -> None:
    def generation(number: int, score: float) -> Catalogue:
        folder = detector(tmp_path / str(number) / "onnx", scores=(score, 0))
        return catalogue([model("m/1", [package(folder)])], generation=number)

    current = [generation(1, 0.5)]
    plane = open_data_plane(lambda: current[-1])

    def confidence() -> object:
        (result,) = plane.infer("m/1", [picture()]).results
        return result.to_dict()["predictions"][0]["confidence"]

    assert confidence() == 0.5
    current.append(generation(2, 0.75))
    assert confidence() == 0.75
    assert [loaded.selection.generation for loaded in plane.loaded()] == [2]


def test_a_detector_of_an_unknown_architecture_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    one = model("m/1", [package(detector(tmp_path / "onnx"))], architecture="yolf8")
    with pytest.raises(ModelLoadError, match="unknown here: 'yolf8'") as caught:
        open_data_plane(lambda: catalogue([one])).load("m/1")
    assert "did you mean 'yolov8'?" in caught.value.hint
    assert "yolov12" in caught.value.facts["known"]


class TestCommands:
    def test_all_extras_that_are_missing_are_named_at_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(extras, "find_spec", {}.get)
        with pytest.raises(MissingExtraError) as caught:
            extras.require_inference()
        assert caught.value.hint == "pip install 'offline-bundle[serve,cpu]'"
        with pytest.raises(MissingExtraError, match="starlette, uvicorn, cv2, onnxruntime") as caught:
            cli.main(["serve"], standalone_mode=False)
        assert caught.value.hint == "pip install 'offline-bundle[serve,cpu]'"

    def test_tensors_need_nothing_for_pictures(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(extras, "find_spec", lambda module: None if module == "cv2" else module)
        extras.require_inference()

    def test_serving_beyond_loopback_is_an_error_of_the_command_line(self) -> None:
        with pytest.raises(click.UsageError, match="serves loopback only") as caught:
            cli.main(["serve", "--host", "0.0.0.0"], standalone_mode=False)
        assert caught.value.exit_code == 2

    @pytest.mark.parametrize("arguments", [["models"], ["models", "show"], ["models", "explain"], ["infer"], ["serve"]])
    def test_help_has_an_example(self, arguments: list[str]) -> None:
        assert "Example: bundle " in CliRunner().invoke(cli, [*arguments, "--help"]).output


class TestReadiness:
    def test_it_is_ready_with_a_catalogue(self, plane: DataPlane) -> None:
        assert plane.live()
        assert plane.ready()

    def test_it_lives_but_is_not_ready_without_one(self) -> None:
        def nothing() -> Catalogue:
            raise NotARootError("nothing is installed")

        plane = open_data_plane(nothing)
        assert plane.live()
        assert not plane.ready()
        with pytest.raises(NotARootError):
            plane.infer("m/1", [picture()])

    def test_wishes_hold_for_every_model(self, installed: Catalogue) -> None:
        plane = DataPlane(
            lambda: installed,
            Registry(load_selection),
            machine=lambda: Machine(("CPUExecutionProvider",), None),
            wishes=Wishes(device="cuda"),
        )
        with pytest.raises(ModelLoadError, match="no device 'cuda'"):
            plane.load("faces/1")

    def test_a_list_of_providers_is_followed_as_far_as_the_machine_has_them(self) -> None:
        wanted = ["NoSuchProvider", "CPUExecutionProvider"]
        assert this_machine(providers=wanted).providers == ("CPUExecutionProvider",)


class TestGetModel:
    def test_a_package_folder_is_loaded_by_its_path(self, tmp_path: Path) -> None:
        folder = detector(tmp_path / "onnxfp32")
        config = {"model_architecture": "yolov8", "task_type": "object-detection", "backend_type": "onnx"}
        (folder / "model_config.json").write_text(json.dumps({**config, "model_id": "faces/1", "new_key": [1]}))
        for path in (folder, str(folder)):
            loaded = runtime.get_model(path, api_key="ignored")
            assert (loaded.facts.id, loaded.facts.task) == ("faces/1", "object-detection")
            assert plain(loaded.infer(png(picture())).to_dict())["predictions"] == [FACE]

    def test_a_folder_in_the_working_directory_is_found_by_name(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        detector(tmp_path / "faces")
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("BUNDLE_HOME", str(tmp_path / "no-root"))
        assert runtime.get_model("faces").facts.package_id == "faces"

    def test_a_folder_without_a_configuration_is_what_its_graph_says(self, tmp_path: Path) -> None:
        write(tmp_path / "raw", identity_model(Tensor("x", [2])))
        assert runtime.get_model(tmp_path / "raw").facts.task == "raw"

    def test_preprocess_predict_postprocess_is_infer(self, tmp_path: Path) -> None:
        loaded = runtime.get_model(self.yolo_folder(tmp_path))
        prepared = loaded.preprocess([picture()])
        (stepwise,) = loaded.postprocess(loaded.predict(prepared), prepared)
        assert stepwise == loaded.infer(picture())

    def test_defaults_hold_for_every_inference(self, tmp_path: Path) -> None:
        loaded = runtime.AutoModel.from_pretrained(self.yolo_folder(tmp_path), confidence=0.95)
        assert len(loaded.infer(picture())) == 0
        assert len(loaded.infer(picture(), confidence=0.5)) == 1

    @pytest.mark.parametrize(
        ("narrowed", "error"),
        [
            ({"backend": "trt"}, ModelLoadError),
            ({"quantization": "int8"}, ModelLoadError),
            ({"package_id": "other"}, ModelLoadError),
            ({"device": "tpu"}, ModelLoadError),
            ({"confidnce": 0.4}, InvalidInputError),
        ],
        ids=str,
    )
    def test_a_wish_that_nothing_meets_is_refused(
        self, tmp_path: Path, narrowed: dict[str, object], error: type[Exception]
    ) -> None:
        with pytest.raises(error):
            runtime.get_model(self.yolo_folder(tmp_path), **narrowed)  # type: ignore[arg-type]

    def test_a_path_that_is_no_package_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(ModelLoadError, match="not a package folder"):
            runtime.get_model(tmp_path / "missing")
        (tmp_path / "empty").mkdir()
        with pytest.raises(ModelLoadError, match="can run here"):
            runtime.get_model(tmp_path / "empty")

    def test_a_malformed_configuration_is_refused(self, tmp_path: Path) -> None:
        folder = self.yolo_folder(tmp_path)
        (folder / "model_config.json").write_text('{"task_type": 5}')
        with pytest.raises(ModelLoadError, match=r"model_config\.json"):
            runtime.get_model(folder)

    def test_a_name_that_nothing_has_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises((UnknownModelError, NotARootError)):
            runtime.get_model("no/such-model", root=tmp_path)

    def test_importing_the_runtime_is_light(self) -> None:
        heavy = "{'numpy', 'cv2', 'onnxruntime', 'starlette', 'msgspec'}"
        code = f"import sys, runtime; sys.exit(repr({heavy} & set(sys.modules)) if {heavy} & set(sys.modules) else 0)"
        subprocess.run([sys.executable, "-c", code], check=True)

    @staticmethod
    def yolo_folder(tmp_path: Path) -> Path:
        folder = detector(tmp_path / "faces")
        (folder / "model_config.json").write_text('{"task_type": "object-detection"}')
        return folder
