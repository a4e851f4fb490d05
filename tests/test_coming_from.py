"""The table "Coming from…": every name in its first column is tried, and every name that is said to be missing is."""

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner

import runtime
from bucket_server import KEY, SECRET, bucket_server
from bundler import initialise
from bundler.commands.main import COMMANDS, cli
from bundler.manifest_file import load
from bundler.profiles.expansion import expand
from bundler.profiles.targets import Options, Profiling
from bundler.settings import Settings
from bundler.sources.reference import Reference
from bundler.sources.s3 import BucketSource
from factory import Workshop, put
from installed import FACE, detector, picture, png
from manifests.errors import ManifestError, SourceDeniedError
from manifests.lock import Lock, LockedModel
from readme import PROJECT, section
from runtime.environment import variables
from runtime.registry import Registry
from runtime.root import Root
from runtime.settings import Settings as SiteSettings
from runtime.settings import locate_root

TABLE, NOT_HERE = section("Coming from…").split("\nNot in this version:")


def names(text: str) -> list[str]:
    return re.findall(r"`([^`]+)`", text)


FIRST_COLUMN = [name for row in TABLE.splitlines()[3:] if row.startswith("|") for name in names(row.split("|")[1])]


@dataclass
class Place:
    """A root with one detector in it, `vehicles/1`, also called `yolov8n-640`."""

    folder: Path
    root: Root

    @property
    def picture(self) -> Path:
        path = self.folder / "picture.png"
        path.write_bytes(png(picture()))
        return path

    def manifest(self, text: str) -> object:
        path = self.folder / "line.yaml"
        path.write_text(f"name: line\nmodels:\n  - id: org/model\n    source: ./file\n{text}")
        return load(path).models[0]

    def run(self, *arguments: str) -> str:
        done = CliRunner().invoke(cli, arguments, catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.output


@pytest.fixture
def place(tmp_path: Path) -> Place:
    workshop = Workshop(tmp_path)
    files = {path.name: path.read_bytes() for path in detector(tmp_path / "detector").iterdir()}
    package = workshop.package(files, "onnxfp32", backend="onnx", quantization="fp32")
    model = LockedModel(
        id="vehicles/1",
        task="object-detection",
        packages=(package,),
        aliases=("yolov8n-640",),
        architecture="yolov8",
    )
    root = workshop.site()
    put(workshop.build(Lock(format=1, line="line", sequence=1, models=(model,))).path, root)
    return Place(tmp_path, root)


def finds_the_root(name: str) -> Callable[[Place, pytest.MonkeyPatch], None]:
    def tried(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
        given = variables(place.root)[name]
        assert locate_root(None, {name: given, "HOME": str(place.folder)}) == place.root.path
        assert "yolov8n-640" in place.run("list", "--root", str(locate_root(None, {name: given})))

    return tried


def is_set(name: str) -> Callable[[Place, pytest.MonkeyPatch], None]:
    def tried(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
        assert f"export {name}=" in place.run("env", "--root", str(place.root.path))
        value = variables(place.root)[name]
        assert not value.startswith("/") or (Path(value).is_dir() and place.root.path in Path(value).parents)

    return tried


def loads(**arguments: object) -> Callable[[Place, pytest.MonkeyPatch], None]:
    def tried(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
        for load_model in (runtime.get_model, runtime.AutoModel.from_pretrained):
            for name in ("vehicles/1", "yolov8n-640"):
                (found,) = load_model(name, root=place.root.path, **arguments).infer(place.picture)
                assert found.box.left == pytest.approx(FACE[0] - FACE[2] / 2, abs=1)

    return tried


def site_reads(name: str, value: str, field: str, expected: object) -> Callable[[Place, pytest.MonkeyPatch], None]:
    def tried(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
        assert getattr(SiteSettings.read({name: value}), field) == expected
        assert getattr(SiteSettings.read({}), field) != expected
        monkeypatch.setenv(name, value)
        assert len(runtime.get_model("vehicles/1", root=place.root.path).infer(place.picture)) == 1

    return tried


def builder_reads(name: str, value: str, shown: Callable[[Settings], object]) -> Callable[..., None]:
    def tried(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
        home = {"HOME": str(place.folder), "PIP_CONFIG_FILE": "/dev/null"}
        assert shown(Settings.read({**home, name: value})) != shown(Settings.read(home))

    return tried


def hub_home(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    (place.folder / "token").write_text("hf_out_of_a_file")
    settings = Settings.read({"HOME": str(place.folder / "nobody"), "HF_HOME": str(place.folder)})
    assert settings.hub.token == "hf_out_of_a_file"


def manifest_has(text: str, field: str, expected: object) -> Callable[[Place, pytest.MonkeyPatch], None]:
    def tried(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
        assert getattr(place.manifest(f"    {text}\n"), field) == expected

    return tried


def has_command(*commands: str) -> Callable[[Place, pytest.MonkeyPatch], None]:
    def tried(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
        for command in commands:
            assert command in COMMANDS
            place.run(command, "--help")

    return tried


def is_kept_by_the_registry(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Registry.__doc__ is not None
    assert SiteSettings.read({"MAX_ACTIVE_MODELS": "3"}).maximum_active_models == 3


def key_is_not_asked_for(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROBOFLOW_API_KEY", "a-secret")
    loads()(place, monkeypatch)
    assert not [path for path in place.root.path.rglob("*") if path.is_file() and b"a-secret" in path.read_bytes()]


def lists_a_bucket(place: Place, monkeypatch: pytest.MonkeyPatch, **variables: str) -> None:
    """Whether S3, which wants a key, gives its objects with these variables, and gives none without them."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(place.folder))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    reference = Reference.parse("s3://models/org/m", place.folder)
    with bucket_server(place.folder, f"{KEY},{SECRET}") as bucket:
        monkeypatch.setenv("AWS_ENDPOINT_URL", bucket.url)
        with pytest.raises(SourceDeniedError):
            BucketSource(Settings.read(os.environ)).list(reference, {})
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        assert len(BucketSource(Settings.read(os.environ)).list(reference, {})) == 2


def buckets_open_with_keys(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    lists_a_bucket(place, monkeypatch, AWS_ACCESS_KEY_ID=KEY, AWS_SECRET_ACCESS_KEY=SECRET)


def buckets_open_with_a_profile(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    shared = place.folder / ".aws" / "credentials"
    shared.parent.mkdir()
    shared.write_text(f"[builder]\naws_access_key_id = {KEY}\naws_secret_access_key = {SECRET}\n")
    lists_a_bucket(place, monkeypatch, AWS_PROFILE="builder")


def chooses(expected: str, **variables: str) -> Callable[[Place, pytest.MonkeyPatch], None]:
    """Whether AIM's variables choose this profile, and MI300X with nothing else chooses another."""
    words = [("MI300X", "fp8", 1, "latency"), ("MI325X", "fp8", 1, "latency"), ("MI300X", "fp8", 8, "latency")]
    words += [("MI300X", "fp16", 1, "latency"), ("MI300X", "fp8", 1, "throughput")]
    listed = "".join(f"      - {{gpu: {g}, precision: {p}, gpu_count: {c}, metric: {m}}}\n" for g, p, c, m in words)

    def tried(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
        path = place.folder / "aim.yaml"
        path.write_text(f"name: line\nmodels:\n  - id: org/model\n    source: ./file\n    profiles:\n{listed}")
        found = []
        for environ in ({"AIM_GPU_MODEL": "MI300X"}, {"AIM_GPU_MODEL": "MI300X", **variables}):
            expanded = expand(load(path), Profiling.read(Options(), environ), base=place.folder)
            found += [profile.profile for profile in expanded.profiles]
        assert found == ["vllm-mi300x-fp8-tp1-latency", expected]

    return tried


def must_be_the_model(name: str) -> Callable[[Place, pytest.MonkeyPatch], None]:
    def tried(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
        profiling = Profiling.read(Options(), {name: "org/model"})
        profiling.check(["org/model"])
        with pytest.raises(ManifestError, match=f"{name} is 'org/model'"):
            profiling.check(["org/other"])

    return tried


PROOFS: dict[str, Callable[[Place, pytest.MonkeyPatch], None]] = {
    "INFERENCE_HOME": finds_the_root("INFERENCE_HOME"),
    "MODEL_CACHE_DIR": finds_the_root("MODEL_CACHE_DIR"),
    "AutoModel.from_pretrained": loads(),
    "get_model": loads(),
    "api_key=": loads(api_key="a-secret"),
    "ROBOFLOW_API_KEY": key_is_not_asked_for,
    "ROBOFLOW_API_HOST": builder_reads(
        "ROBOFLOW_API_HOST", "http://127.0.0.1:1", lambda settings: settings.roboflow.host
    ),
    "use_auto_resolution_cache=": loads(use_auto_resolution_cache=False),
    "ONNXRUNTIME_EXECUTION_PROVIDERS": site_reads(
        "ONNXRUNTIME_EXECUTION_PROVIDERS", "[CPUExecutionProvider]", "execution_providers", ("CPUExecutionProvider",)
    ),
    "DEFAULT_DEVICE": site_reads("DEFAULT_DEVICE", "cpu", "device", "cpu"),
    "MAX_ACTIVE_MODELS": site_reads("MAX_ACTIVE_MODELS", "3", "maximum_active_models", 3),
    "yolov8n-640": manifest_has("aliases: [yolov8n-640]", "aliases", ("yolov8n-640",)),
    "download-to-cache": has_command("init", "build", "install"),
    "--use-hf-cache": manifest_has("layouts: [huggingface]", "layouts", ("huggingface",)),
    "--model-name": manifest_has("task: raw", "id", "org/model"),
    "s3://": lambda place, _: _s3_id(place),
    "AIM_CACHE_PATH": is_set("AIM_CACHE_PATH"),
    "HF_TOKEN": builder_reads("HF_TOKEN", "hf_a", lambda settings: settings.hub.token),
    "HF_ENDPOINT": builder_reads("HF_ENDPOINT", "http://127.0.0.1:1", lambda settings: settings.hub.endpoint),
    "HF_HOME": hub_home,
    "HF_HUB_CACHE": is_set("HF_HUB_CACHE"),
    "HF_HUB_OFFLINE": is_set("HF_HUB_OFFLINE"),
    "TRANSFORMERS_OFFLINE": is_set("TRANSFORMERS_OFFLINE"),
    "allow_patterns=": manifest_has("include: ['*.json']", "include", ("*.json",)),
    "ignore_patterns=": manifest_has("exclude: ['*.bin']", "exclude", ("*.bin",)),
    "AWS_ACCESS_KEY_ID": buckets_open_with_keys,
    "AWS_SECRET_ACCESS_KEY": buckets_open_with_keys,
    "AWS_ENDPOINT_URL": buckets_open_with_keys,
    "AIM_GPU_MODEL": chooses("vllm-mi325x-fp8-tp1-latency", AIM_GPU_MODEL="MI325X"),
    "AIM_GPU_COUNT": chooses("vllm-mi300x-fp8-tp8-latency", AIM_GPU_COUNT="8"),
    "AIM_PRECISION": chooses("vllm-mi300x-fp16-tp1-latency", AIM_PRECISION="fp16"),
    "AIM_METRIC": chooses("vllm-mi300x-fp8-tp1-throughput", AIM_METRIC="throughput"),
    "AIM_PROFILE_ID": chooses("vllm-mi325x-fp8-tp1-latency", AIM_PROFILE_ID="vllm-mi325x-fp8-tp1-latency"),
    "AIM_ID": must_be_the_model("AIM_ID"),
    "AIM_MODEL_ID": must_be_the_model("AIM_MODEL_ID"),
    "AZURE_STORAGE_CONNECTION_STRING": builder_reads("AZURE_STORAGE_CONNECTION_STRING", "x", lambda s: s.azure),
    "AZURE_STORAGE_ACCOUNT": builder_reads("AZURE_STORAGE_ACCOUNT", "x", lambda settings: settings.azure),
    "AZURE_STORAGE_KEY": builder_reads("AZURE_STORAGE_KEY", "x", lambda settings: settings.azure),
    "AZURE_STORAGE_SAS_TOKEN": builder_reads("AZURE_STORAGE_SAS_TOKEN", "x", lambda settings: settings.azure),
    "DOCKER_CONFIG": builder_reads("DOCKER_CONFIG", "/x", lambda settings: settings.registries),
    "REGISTRY_AUTH_FILE": builder_reads("REGISTRY_AUTH_FILE", "/x", lambda settings: settings.registries),
    "AWS_PROFILE": buckets_open_with_a_profile,
    "ModelManager": is_kept_by_the_registry,
    "WithFixedSizeCache": is_kept_by_the_registry,
    "zarf package create": has_command("build"),
    "zarf package deploy": has_command("install"),
    "oc-mirror": has_command("lock", "build"),
    "restic backup": has_command("build"),
    "restic restore": has_command("install", "verify"),
    "tar": has_command("inspect"),
    "sha256sum": has_command("verify"),
}


def _s3_id(place: Place) -> None:
    text = initialise.draft(["s3://bucket/some/org/model"], name="line", folder=place.folder).text
    assert "- id: org/model" in text


def test_every_name_in_the_first_column_has_a_proof_and_no_proof_is_left_over() -> None:
    assert sorted(set(FIRST_COLUMN)) == sorted(PROOFS)


@pytest.mark.parametrize("name", PROOFS)
def test_the_name_works(name: str, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    PROOFS[name](place, monkeypatch)


def test_what_is_said_to_be_missing_is_missing() -> None:
    """When one of them comes, the table must say so."""
    code = "\n".join(
        path.read_text() for side in ("bundler", "runtime", "manifests") for path in (PROJECT / side).rglob("*.py")
    )
    missing = names(NOT_HERE)
    assert "InferencePipeline" in missing
    assert [name for name in missing if re.search(rf"\b{name}\b", code)] == []
