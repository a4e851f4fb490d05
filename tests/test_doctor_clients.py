"""What `doctor` finds of variables, clients and onnxruntime on a site."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bundler.installation import installed
from doctoring import PROJECT, a_file, bad, look
from factory import Workshop, put
from manifests.errors import FindingsError
from manifests.finding import Verdict
from runtime.doctor import clients, providers, variables
from runtime.doctor.clients import release
from runtime.environment import variables as variables_of
from runtime.root import Root
from runtime.settings import Settings

# Variables


def test_all_variables_of_the_root_are_fine(place: Root) -> None:
    assert look(place.path, variables_of(place))["variables"].verdict is Verdict.FINE


def test_no_variable_at_all_is_a_note_with_the_line_to_type(place: Root) -> None:
    assert look(place.path)["variables-not-set"].fix == f'eval "$(bundle env --root {place.path})"'
    assert look(place.path, {"BUNDLE_HOME": str(place.path)}, given=False)["variables-not-set"].fix == (
        'eval "$(bundle env)"'
    )


@pytest.mark.parametrize(
    ("name", "value", "code", "said"),
    [
        ("BUNDLE_HOME", "/elsewhere", "variable-elsewhere", "bundle itself reads that folder"),
        ("INFERENCE_HOME", "/elsewhere", "variable-elsewhere", "inference-models reads that folder"),
        ("INFERENCE_HOME", "/elsewhere", "two-caches", "the server the other"),
        ("MODEL_CACHE_DIR", "/tmp/cache", "variable-elsewhere", "the inference server reads"),
        ("MODEL_CACHE_DIR", "/tmp/cache", "two-caches", "two places"),
        ("HF_HUB_CACHE", "/elsewhere", "variable-elsewhere", "huggingface_hub and transformers read"),
        ("AIM_CACHE_PATH", "/workspace/model-cache", "variable-elsewhere", "AIM reads"),
        ("HF_HUB_OFFLINE", "0", "variable-value", "ask the network first"),
        ("TRANSFORMERS_OFFLINE", "no", "variable-value", "asks the network first"),
        ("OFFLINE_MODE", "false", "variable-value", "asks the network for every model"),
        ("DISK_CACHE_CLEANUP", "True", "variable-value", "may delete"),
        ("ATOMIC_CACHE_WRITES_ENABLED", "False", "variable-value", "in place"),
        ("TRANSFORMERS_CACHE", "/elsewhere", "transformers-cache", "before 5"),
    ],
)
def test_a_variable_that_leads_elsewhere_names_who_follows(
    place: Root, name: str, value: str, code: str, said: str
) -> None:
    found = look(place.path, {**variables_of(place), name: value})[code]
    assert found.verdict is Verdict.WARNING
    assert said in found.what
    assert found.fix


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OFFLINE_MODE", "true"),
        ("HF_HUB_OFFLINE", "ON"),
        ("DISK_CACHE_CLEANUP", "0"),
        ("HF_HOME", "/anywhere"),
        ("HUGGINGFACE_HUB_CACHE", "/anywhere"),
    ],
)
def test_another_spelling_and_a_name_that_loses_are_no_conflict(place: Root, name: str, value: str) -> None:
    assert not bad(look(place.path, {**variables_of(place), name: value}))


def test_the_folder_of_the_active_generation_is_the_same_place(place: Root) -> None:
    environ = variables_of(place)
    environ["HF_HUB_CACHE"] = str(place.generation(1) / "plain" / "hub")
    assert not bad(look(place.path, environ))


def test_an_older_generation_is_told_apart_from_another_place(workshop: Workshop, place: Root) -> None:
    environ = {**variables_of(place), "AIM_CACHE_PATH": str(place.generation(1) / "plain")}
    put(workshop.build(workshop.lock({"acme/one": {"a": b"2"}}, sequence=2), name="2.bundle").path, place)
    assert "another generation" in look(place.path, environ)["variable-elsewhere"].what


def test_two_caches_without_a_root_are_led_together_by_the_fix(tmp_path: Path) -> None:
    environ = {"INFERENCE_HOME": str(tmp_path / "one"), "MODEL_CACHE_DIR": str(tmp_path / "two"), "PATH": os.defpath}
    fix = look(tmp_path / "none", environ)["two-caches"].fix
    done = subprocess.run(["sh", "-ec", f"{fix}; env -0"], env=environ, capture_output=True, text=True, check=True)
    after = dict(line.split("=", 1) for line in done.stdout.split("\0") if line)
    assert "two-caches" not in look(tmp_path / "none", after)


@pytest.mark.parametrize("name", ["HF_HOME", "HUGGINGFACE_HUB_CACHE"])
def test_older_names_count_where_the_new_one_is_not_set(place: Root, name: str) -> None:
    assert name in look(place.path, {name: "/elsewhere"})["hub-elsewhere"].what


def test_the_home_of_the_hub_may_be_the_way_to_this_root(place: Root) -> None:
    assert not bad(look(place.path, {"HF_HOME": str(place.path / "current" / "plain")}))


def test_a_home_without_a_root(tmp_path: Path) -> None:
    found = look(tmp_path / "none", {"BUNDLE_HOME": str(tmp_path / "none")}, given=False)["no-root"]
    assert found.what.endswith("(BUNDLE_HOME)")
    assert "unset it" in found.fix


@pytest.mark.parametrize(
    ("files", "shadows"),
    [
        (["runtime.py"], True),
        (["bundler/__init__.py"], True),
        (["runtime/data.txt"], False),  # no module: a folder without __init__ loses to a package
        (["other.py"], False),
    ],
)
def test_a_pythonpath_that_shadows_this_program(tmp_path: Path, files: list[str], *, shadows: bool) -> None:
    for name in files:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        a_file(tmp_path / name)
    environ = {"PYTHONPATH": os.pathsep.join([str(PROJECT), "", "/nonexistent", str(tmp_path)])}
    assert bool(list(variables.look_at_shadows(environ))) is shadows


# Clients and onnxruntime


def distribution(folder: Path, name: str, version: str) -> None:
    """What an installer leaves of a distribution's metadata."""
    made = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    made.mkdir(parents=True)
    (made / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")


def test_distributions_are_found_by_their_metadata(tmp_path: Path) -> None:
    distribution(tmp_path, "HuggingFace.Hub", "2.4.0")
    (tmp_path / "broken-1.0.dist-info").mkdir()  # what an uninstall that was killed leaves
    (tmp_path / "empty-1.0.dist-info").mkdir()
    a_file(tmp_path / "empty-1.0.dist-info" / "METADATA")
    assert installed([tmp_path]) == {"huggingface-hub": "2.4.0"}
    assert release("2.13.0+cpu") == (2, 13, 0)
    assert release("nightly") == ()


@pytest.mark.parametrize(
    ("name", "version", "code"),
    [
        ("inference-models", "0.39.6", "client"),
        ("inference-models", "0.36.0", "client"),
        ("inference-models", "0.35.3", "client-too-old"),
        ("inference-models", "0.40.0", "client-newer"),
        ("inference-cpu", "1.8.3", "client"),
        ("huggingface_hub", "0.36.0", "client"),
        ("huggingface_hub", "2.5.0", "client-newer"),
        ("transformers", "4.57.0", "client-too-old"),
        ("tritonclient", "2.73.0", "client"),
        ("inference-sdk", "dev", "client-version"),
    ],
)
def test_a_clients_version_is_compared_with_those_tried(tmp_path: Path, name: str, version: str, code: str) -> None:
    distribution(tmp_path, name, version)
    found = {each.code for each in clients.look(installed([tmp_path]), clients.Site({}, {}, {}, ""))}
    assert code in found
    assert "no-clients" not in found


def test_whether_a_client_would_read_this_root_now(place: Root) -> None:
    present = {"huggingface-hub": "2.4.0", "inference-models": "0.39.6"}
    found = look(place.path, present=present)
    assert found["client-elsewhere"].fix.startswith('eval "$(bundle env --root')
    found = look(place.path, variables_of(place), present=present)
    assert found["client-reads"].what == "huggingface-hub would read this root: models 1"
    assert "client-elsewhere" not in found


def test_a_client_whose_layout_no_model_has(place: Root) -> None:
    there = clients.Site(variables_of(place), variables_of(place), {"directory": 1}, "")
    found = {each.code: each for each in clients.look({"inference-models": "0.39.6"}, there)}
    assert "layouts: [inference]" in found["no-layout"].fix


def test_model_signing_without_what_it_needs() -> None:
    there = clients.Site({}, {}, {}, "")
    assert "signing-without-openssl" in {each.code for each in clients.look({"model-signing": "1.1.1"}, there)}
    both = {"model-signing": "1.1.1", "pyopenssl": "25.0"}
    assert "signing-without-openssl" not in {each.code for each in clients.look(both, there)}


@pytest.mark.parametrize(
    ("names", "code"),
    [
        (["onnxruntime", "onnxruntime-gpu"], "two-onnxruntimes"),
        (["onnxruntime-openvino", "onnxruntime-directml", "onnxruntime"], "two-onnxruntimes"),
        (["onnxruntime", "onnxruntime-extensions"], "onnxruntime"),
        (["onnxruntime-gpu"], "onnxruntime"),
    ],
)
def test_two_onnxruntimes_break_each_other(tmp_path: Path, names: list[str], code: str) -> None:
    for name in names:
        distribution(tmp_path, name, "1.22.0")
    (found,) = providers.look_at_distributions(installed([tmp_path]))
    assert found.code == code
    assert (found.verdict is Verdict.PROBLEM) is (code == "two-onnxruntimes")
    if code == "two-onnxruntimes":
        assert all(name in found.fix for name in names)


CPU, BOTH = ("CPUExecutionProvider",), ("CUDAExecutionProvider", "CPUExecutionProvider")


@pytest.mark.parametrize(
    ("available", "asked", "gpu", "codes"),
    [
        (CPU, None, False, set()),
        (CPU, ("CUDAExecutionProvider", "CPUExecutionProvider"), False, {"provider-absent"}),
        (CPU, None, True, {"gpu-unused"}),
        (BOTH, None, True, set()),
        (BOTH, None, False, {"gpu-missing"}),
    ],
)
def test_what_providers_mean(
    available: tuple[str, ...], asked: tuple[str, ...] | None, codes: set[str], *, gpu: bool
) -> None:
    assert {each.code for each in providers.judge(available, asked, gpu=gpu)} == codes


def test_the_real_onnxruntime_is_asked() -> None:
    environ = {"ONNXRUNTIME_EXECUTION_PROVIDERS": "[CUDAExecutionProvider]", "PATH": ""}
    found = {each.code: each for each in providers.look(environ, {})}
    assert "CPUExecutionProvider" in found["providers"].what
    assert "CUDAExecutionProvider" in found["provider-absent"].what


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"onnxruntime/__init__.py": ""}, "AttributeError"),  # what one of two leaves when the other is removed
        ({"onnxruntime/__init__.py": "import a_library_that_is_not_there"}, "a_library_that_is_not_there"),
        ({"onnxruntime.py": "raise OSError('libcudart.so: cannot open shared object file')"}, "libcudart.so"),
        ({"onnxruntime.py": "raise ValueError('numpy.dtype size changed')"}, "ValueError: numpy.dtype size changed"),
        ({"onnxruntime.py": "raise RuntimeError('module compiled against ABI version')"}, "RuntimeError: module"),
        ({"onnxruntime.py": "raise SystemError('initialization failed')"}, "SystemError: initialization failed"),
        ({"onnxruntime.py": "raise TypeError('Descriptors cannot be created')"}, "TypeError: Descriptors"),
        ({"onnxruntime.py": "raise SystemExit(3)"}, "it says nothing"),
        ({"onnxruntime.py": "import os, signal; os.kill(os.getpid(), signal.SIGILL)"}, "SIGILL"),
        ({"onnxruntime.py": "def get_available_providers(): return []"}, "no execution provider"),
    ],
)
def test_an_onnxruntime_that_cannot_be_used(tmp_path: Path, files: dict[str, str], said: str) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    script = "from runtime.doctor import providers; print(*(f'{f.code} {f.what}' for f in providers.look({}, {})))"
    path = os.pathsep.join([str(tmp_path), str(PROJECT)])
    done = subprocess.run(
        [sys.executable, "-c", script], env={"PYTHONPATH": path}, capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("onnxruntime-broken onnxruntime is here and cannot be imported: ")
    assert said in done.stdout


def test_an_import_that_ends_its_process_hides_nothing_else(place: Root, tmp_path: Path) -> None:
    a_file(tmp_path / "onnxruntime.py").write_text("import os, signal; os.kill(os.getpid(), signal.SIGILL)")
    command = [sys.executable, "-m", "bundler", "doctor", "--json", "--root", place.path]
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(PROJECT)])}
    done = subprocess.run(command, env=environ, cwd=tmp_path, capture_output=True, text=True, check=False)
    found = {each["code"] for each in json.loads(done.stdout)["findings"]}
    assert done.returncode == FindingsError.exit_code
    assert {"onnxruntime-broken", "generation", "root-of-trust", "clock"} <= found


def test_asking_onnxruntime_leaves_nothing_in_the_home(tmp_path: Path) -> None:
    told = {name: value for name, value in os.environ.items() if not name.startswith(("ORT_", "XDG_"))}
    available, _ = providers.ask({**told, "HOME": str(tmp_path)})
    assert "CPUExecutionProvider" in available
    assert list(tmp_path.rglob("*")) == []


def test_a_module_in_the_current_folder_is_not_taken_for_onnxruntime(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a_file(tmp_path / "onnxruntime.py").write_text(f"open({str(tmp_path / 'started')!r}, 'w')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [each for each in sys.path if each])
    assert "CPUExecutionProvider" in providers.ask(os.environ)[0]
    assert not (tmp_path / "started").exists()


@pytest.mark.parametrize(
    ("present", "environ", "told"),
    [
        ({"inference-models": "0.39.6", "onnxruntime-gpu": "1.22"}, {}, True),
        ({"inference-models": "0.39.6", "onnxruntime": "1.22"}, {"ORT_DISABLE_TELEMETRY": "0"}, True),
        ({"inference-models": "0.39.6", "onnxruntime": "1.22"}, {"ORT_DISABLE_TELEMETRY": "1"}, False),
        ({"inference-models": "0.39.6"}, {}, False),
        ({"onnxruntime": "1.22"}, {}, False),
    ],
)
def test_clients_that_load_onnxruntime_would_report_to_its_maker(
    present: dict[str, str], environ: dict[str, str], *, told: bool
) -> None:
    found = {each.code: each for each in clients.look(present, clients.Site(environ, {}, {}, "eval …"))}
    assert ("telemetry" in found) is told
    if told:
        assert found["telemetry"].verdict is Verdict.NOTE
        assert found["telemetry"].fix == "export ORT_DISABLE_TELEMETRY=1"


@pytest.mark.parametrize(
    ("text", "count"), [("3", 3), ("08", 8), ("0", 8), ("²", 8), ("٣", 8), ("9" * 5000, 8), ("-1", 8), ("", 8)]
)
def test_a_count_that_is_none_is_the_default(text: str, count: int) -> None:
    assert Settings.read({"MAX_ACTIVE_MODELS": text}).maximum_active_models == count
