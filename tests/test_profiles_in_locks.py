"""Models with profiles, from manifest to lock to bundle."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from bundler.commands.main import cli
from hub_server import Hub, hub_of

LLAMA, QUANTIZED = "meta-llama/Llama-3.1-8B-Instruct", "amd/Llama-3.1-8B-Instruct-FP8-KV"
MANIFEST = f"""
name: line
models:
  - id: {LLAMA}
    source: ./original
    profiles:
      - {{gpu: MI300X, precision: fp8, source: "hf://{QUANTIZED}"}}
      - {{gpu: MI300X, precision: fp16}}
      - {{gpu: MI325X, precision: fp16}}
"""


class Desk:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.manifest = folder / "line.yaml"
        self.manifest.write_text(MANIFEST)
        (folder / "original").mkdir()
        (folder / "original" / "w.bin").write_bytes(b"full precision")

    def run(self, *words: str) -> Result:
        return CliRunner().invoke(cli, [*words, "--store", str(self.folder / "store")])

    def lock(self, *words: str) -> Result:
        return self.run("lock", str(self.manifest), *words)

    @property
    def locked(self) -> dict[str, list[str]]:
        value = json.loads((self.folder / "line.lock.json").read_text())
        return {model["id"]: model.get("aliases", []) for model in value["models"]}


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    for name in ("AIM_GPU_MODEL", "AIM_PRECISION", "AIM_ID", "AIM_PROFILE_ID"):
        monkeypatch.delenv(name, raising=False)
    return Desk(tmp_path)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Hub:
    return Hub({"w.bin": b"eight bits"}, repository=QUANTIZED)


def test_the_default_precision_carries_another_repository(
    desk: Desk, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The trap: AIM, told nothing but the GPU, looks for the folder of a repository that no id here names."""
    with hub_of(hub):
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        told = desk.lock("--gpu", "MI300X", "--explain")
    assert told.exit_code == 0, told.output
    assert desk.locked == {QUANTIZED: [LLAMA]}
    assert f"chosen   vllm-mi300x-fp8-tp1-latency: the model is {QUANTIZED}, another than {LLAMA}" in told.stdout
    assert "behind   vllm-mi300x-fp16-tp1-latency: fp8 comes before fp16" in told.stdout
    assert "dropped  vllm-mi325x-fp16-tp1-latency: it is for MI325X, not MI300X" in told.stdout


def test_the_precision_that_is_asked_for_carries_the_original(desk: Desk) -> None:
    assert desk.lock("--gpu", "MI300X", "--precision", "fp16").exit_code == 0
    assert desk.locked == {LLAMA: []}


def test_two_kinds_of_machines_carry_what_either_takes(desk: Desk, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    with hub_of(hub):
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        assert desk.lock("--gpu", "MI300X", "--gpu", "MI325X").exit_code == 0
    assert desk.locked == {QUANTIZED: [], LLAMA: []}


def test_the_lock_remembers_its_machines(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    assert desk.lock("--gpu", "MI325X").exit_code == 0
    before = (desk.folder / "line.lock.json").read_bytes()
    assert "unchanged" in desk.lock().stdout
    assert "up to date" in desk.lock("--check").stdout
    assert (desk.folder / "line.lock.json").read_bytes() == before
    monkeypatch.chdir(desk.folder)
    assert desk.run("keygen", "-o", "k.pem", "--no-passphrase").exit_code == 2  # keygen has no store
    assert CliRunner().invoke(cli, ["keygen", "-o", "k.pem", "--no-passphrase"]).exit_code == 0
    assert desk.run("build", str(desk.manifest), "--key", "k.pem", "-o", "a.bundle").exit_code == 0


def test_a_profile_that_changed_makes_the_lock_outdated(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    assert desk.lock("--gpu", "MI325X").exit_code == 0
    desk.manifest.write_text(MANIFEST.replace("source: ./original\n", "source: ./other\n"))
    monkeypatch.chdir(desk.folder)
    assert CliRunner().invoke(cli, ["keygen", "-o", "k.pem", "--no-passphrase"]).exit_code == 0
    result = desk.run("build", str(desk.manifest), "--key", "k.pem")
    assert "was changed since" in str(result.exception)


def test_a_build_without_a_lock_hears_the_variables(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(desk.folder)
    assert CliRunner().invoke(cli, ["keygen", "-o", "k.pem", "--no-passphrase"]).exit_code == 0
    result = desk.run("build", "line.yaml", "--key", "k.pem")
    assert "nothing says for which machine to choose" in str(result.exception)
    monkeypatch.setenv("AIM_GPU_MODEL", "MI325X")
    assert desk.run("build", "line.yaml", "--key", "k.pem").exit_code == 0
    assert desk.locked == {LLAMA: []}


def test_an_upgrade_by_the_manifests_id_moves_what_is_carried_for_it(
    desk: Desk, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    with hub_of(hub):
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        assert desk.lock("--gpu", "MI300X").exit_code == 0
        hub.files["w.bin"], hub.commit = b"nine bits", "f" * 40
        assert "unchanged" in desk.lock().stdout
        told = desk.lock("--upgrade", LLAMA)
    assert told.exit_code == 0, told.output
    assert f'{QUANTIZED} files w.bin pin: {{"commit":"0123456789ab…"}} -> {{"commit":"ffffffffffff…"}}' in told.stdout


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--gpu", "MI999"), "--gpu: unknown value 'MI999'"),
        (("--gpu", "MI300X:many"), "--gpu: unknown value"),
        (("--precision", "fp8"), "choose for a GPU, and none is named"),
        (("--gpu", "MI300X", "--metric", "speed"), "--metric: unknown value 'speed'"),
        (("--gpu", "MI355X"), "no profile fits"),
        ((), "nothing says for which machine to choose"),
    ],
)
def test_a_machine_that_nothing_fits_is_told_with_the_way_out(desk: Desk, words: tuple[str, ...], told: str) -> None:
    result = desk.lock(*words)
    assert told in str(result.exception)
    assert result.exception is not None
    assert getattr(result.exception, "hint", "")


def test_machines_without_profiles_to_choose_are_refused(desk: Desk) -> None:
    desk.manifest.write_text("name: line\nmodels: [{id: a, source: ./original}]\n")
    result = desk.lock("--gpu", "MI300X")
    assert "no model has any" in str(result.exception)
    assert desk.lock().exit_code == 0


@pytest.mark.parametrize(
    ("name", "value"),
    [("AIM_GPU_MODEL", "foo"), ("AIM_GPU_COUNT", "lots"), ("AIM_PRECISION", "high"), ("AIM_METRIC", "speed")],
)
def test_nonsense_in_a_variable_is_nothing_to_a_manifest_without_profiles(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    """Other programs have variables of these names."""
    monkeypatch.setenv(name, value)
    assert name in str(desk.lock().exception)
    desk.manifest.write_text("name: line\nmodels: [{id: m, source: ./original}]\n")
    assert desk.lock().exit_code == 0
