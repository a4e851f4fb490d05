"""The manifest: what was asked for. Only an id and a source are required.

Owns the meaning of the keys; reading YAML, with its lines and columns, is the connected side's.
* Unknown keys are refused. Names are checked here; sources are only text until they are resolved.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from manifests.digest import Digest
from manifests.errors import FormatError, ManifestError, NamingError
from manifests.naming import check_ids, checked_id, checked_line, checked_package_id
from manifests.paths import check_tree, checked_path
from manifests.workflow import LOCAL, WorkflowId

TASKS: Final = (
    "action-recognition", "classification", "depth-estimation", "embedding", "gaze-detection", "instance-segmentation",
    "interactive-instance-segmentation", "keypoint-detection", "multi-label-classification", "object-detection",
    "open-vocabulary-object-detection", "raw", "semantic-segmentation", "structured-ocr", "text-only-ocr", "vlm",
    "voice-activity", "world-model",
)  # fmt: skip
BACKENDS: Final = (
    "coreml", "custom", "hugging-face", "onnx", "torch", "torch-script", "trt", "ultralytics", "vllm",
)  # fmt: skip
QUANTIZATIONS: Final = ("fp32", "fp16", "bf16", "int8", "unknown")
SERVICE: Final = "roboflow://"
"""What a source begins with that has models with packages, rather than files."""
LAYOUTS: Final = ("directory", "huggingface", "inference")
PROFILE_GPUS: Final = (
    "MI100", "MI210", "MI250X", "MI300A", "MI300X", "MI308X", "MI325X", "MI350X", "MI355X", "RX6800", "RX6900",
    "RX7900", "RX9070", "V620", "V710", "W6800", "W6800X", "W6900X", "W7800", "W7900", "NONE",
)  # fmt: skip
PROFILE_PRECISIONS: Final = ("int4", "int8", "fp4", "fp8", "fp16", "bf16", "fp32")
"""What AIM prefers comes first, where no precision is asked for."""
PROFILE_METRICS: Final = ("latency", "throughput")
PROFILE_TYPES: Final = ("optimized", "preview", "unoptimized", "general")
"""What AIM prefers comes first, among profiles of one precision."""
PROFILE_ENGINES: Final = ("vllm",)
PROFILE_GPU_COUNT: Final = 8
"""The most GPUs that a profile can be for."""


class Struct(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Base of everything that is parsed from outside: frozen, keyword only, strict about unknown keys."""


class FileRequest(Struct, frozen=True, rename={"sources": "from"}):
    """One file of a package: sources to try in order, and the digest it must have (if the author knows it)."""

    sources: tuple[str, ...]
    sha256: str | None = None


class PackageRequest(Struct, frozen=True):
    """One loadable variant. `id` defaults to backend + quantization; `files` maps path to source."""

    files: dict[str, FileRequest]
    id: str | None = None
    backend: str | None = None
    quantization: str | None = None
    default: bool = False


class ProfileRequest(Struct, frozen=True):
    """What to carry for one kind of machine, in AIM's words. `source` defaults to that of the model.

    `id` defaults to AIM's own: `vllm-mi300x-fp8-tp1-latency`. `include` and `exclude` default to those of the model.
    """

    gpu: str
    precision: str
    gpu_count: int = 1
    metric: str = "latency"
    type: str = "optimized"
    engine: str = "vllm"
    manual_selection_only: bool = False
    id: str | None = None
    source: str | None = None
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()


class ModelRequest(Struct, frozen=True):
    """A model: either `source` (a folder, a repository or one file), or `packages`, or `files` for a single package.

    With `profiles`, a list or the path of AIM's own profile files, the machines that a lock is made for decide on the
    source.
    """

    id: str
    aliases: tuple[str, ...] = ()
    task: str = "raw"
    architecture: str | None = None
    license: str | None = None
    layouts: tuple[str, ...] | None = None
    source: str | None = None
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    unpack: bool = False
    """Whether `source` is an archive whose members are the files."""
    packages: tuple[PackageRequest, ...] = ()
    profiles: tuple[ProfileRequest, ...] | str = ()
    backend: str | None = None
    quantization: str | None = None
    """With a service (`roboflow://`) as `source`: which of its packages; None for all."""


class KitRequest(Struct, frozen=True):
    """The program itself, at one version: folders that `bundle kit` wrote, one for each platform."""

    id: str
    sources: tuple[str, ...]


class WorkflowRequest(Struct, frozen=True):
    """What is done with models: a `file`, or a service's (`source`). `id` and `workspace` default to their names."""

    workspace: str | None = None
    id: str | None = None
    file: str | None = None
    source: str | None = None

    @property
    def parsed(self) -> WorkflowId:
        """Its workspace and name: those given, else those of the source, else `local` and the file's name."""
        source = self.source or ""
        is_service = source.lower().startswith(SERVICE)
        named = WorkflowId.parse(source[len(SERVICE) :]) if is_service else None
        stem = (self.file or self.source or "").rpartition("/")[2].partition(".")[0]
        workspace = self.workspace or (named.workspace if named else LOCAL)
        return WorkflowId.parse(str(WorkflowId(workspace, self.id or (named.name if named else stem))))


class Manifest(Struct, frozen=True):
    """A bundle line, and the models, workflows and kits that it carries."""

    name: str
    models: tuple[ModelRequest, ...] = ()
    kits: tuple[KitRequest, ...] = ()
    workflows: tuple[WorkflowRequest, ...] = ()


def parse(document: object) -> Manifest:
    """A manifest out of plain values (what YAML, TOML or JSON gave).

    Errors: `ManifestError` whose fact `key` is the key path, as `$.models[0].task`; `NamingError` likewise.
    """
    if not isinstance(document, dict):
        raise ManifestError("a manifest is a mapping with `name` and `models` or `kits`", facts={"key": "$"})
    try:
        manifest = msgspec.convert(_expand(document), Manifest)
    except msgspec.ValidationError as error:
        raise _explained(error) from error
    _check(manifest)
    return manifest


def default_package_id(backend: str | None, quantization: str | None) -> str:
    """The id of a package that was given none: `onnxfp32`, `onnx`, `files`."""
    return re.sub(r"[^A-Za-z0-9]", "", (backend or "files") + (quantization or ""))


def _expand(document: Mapping[Any, Any]) -> dict[Any, Any]:
    """The short forms written out: a file that is only a source, `files` directly under a model."""
    expanded = dict(document)
    models = document.get("models")
    if isinstance(models, list):
        expanded["models"] = [_expand_model(model) for model in models]
    if isinstance(kits := document.get("kits"), list):
        expanded["kits"] = [_expand_kit(kit) for kit in kits]
    return expanded


def _expand_kit(kit: object) -> object:
    if not isinstance(kit, dict) or "source" not in kit or "sources" in kit:
        return kit
    return {name: value for name, value in kit.items() if name != "source"} | {"sources": [kit["source"]]}


def _expand_model(model: object) -> object:
    if not isinstance(model, dict):
        return model
    expanded = dict(model)
    short = ("files",) if "source" in expanded and "files" not in expanded else ("files", "backend", "quantization")
    package = {key: expanded.pop(key) for key in short if key in expanded}
    if package and ("packages" in expanded or "files" not in package):
        raise ManifestError(
            f"model {model.get('id')!r}: `files`, `backend` and `quantization` belong together, or under `packages`",
            facts={"key": "$.models"},
        )
    packages = [package] if package else expanded.get("packages")
    if isinstance(packages, list):
        expanded["packages"] = [_expand_package(package) for package in packages]
    return expanded


def _expand_package(package: object) -> object:
    if not isinstance(package, dict) or not isinstance(package.get("files"), dict):
        return package
    return {**package, "files": {path: _expand_file(entry) for path, entry in package["files"].items()}}


def _expand_file(entry: object) -> object:
    if isinstance(entry, str):
        return {"from": [entry]}
    if isinstance(entry, dict) and isinstance(entry.get("from"), str):
        return {**entry, "from": [entry["from"]]}
    return entry


_UNKNOWN: Final = re.compile(r"unknown field `(?P<field>[^`]*)`")
_WHERE: Final = re.compile(r" - at `(?P<path>\$[^`]*)`$")


def _explained(error: msgspec.ValidationError) -> ManifestError:
    text = str(error)
    where = _WHERE.search(text)
    path = where["path"] if where else "$"
    message = text[: where.start()] if where else text
    if unknown := _UNKNOWN.search(text):
        return ManifestError(
            f"unknown key `{unknown['field']}`",
            facts={"key": f"{path}.{unknown['field']}", "unknown": unknown["field"]},
        )
    quoted = "write it in quotes" if "Expected `str`" in message else ""
    return ManifestError(message[0].lower() + message[1:], hint=quoted, facts={"key": path})


def _check(manifest: Manifest) -> None:
    _at("$.name", checked_line, manifest.name)
    if not manifest.models and not manifest.kits and not manifest.workflows:
        raise ManifestError("a manifest needs at least one model, or a kit", facts={"key": "$.models"})
    for number, model in enumerate(manifest.models):
        _check_model(model, f"$.models[{number}]")
    for number, kit in enumerate(manifest.kits):
        _at(f"$.kits[{number}].id", checked_id, kit.id)
        if not kit.sources:
            raise ManifestError(f"kit {kit.id!r} needs a `source`", facts={"key": f"$.kits[{number}]"})
    workflows = [_checked_workflow(each, f"$.workflows[{number}]") for number, each in enumerate(manifest.workflows)]
    others = [*workflows, *(kit.id for kit in manifest.kits)]
    check_ids([*others, *(name for model in manifest.models for name in (model.id, *model.aliases))])


def _check_model(model: ModelRequest, key: str) -> None:
    _at(f"{key}.id", checked_id, model.id)
    for alias in model.aliases:
        _at(f"{key}.aliases", checked_id, alias)
    _one_of(model.task, TASKS, f"{key}.task")
    for layout in model.layouts or ():
        _one_of(layout, LAYOUTS, f"{key}.layouts")
    if model.profiles:
        _check_profiles(model, key)
    elif (model.source is None) == (not model.packages):
        raise ManifestError(f"model {model.id!r} needs `source`, or `files`, or `packages`", facts={"key": key})
    if model.source is None and not model.profiles and (model.include or model.exclude):
        raise ManifestError("`include` and `exclude` choose among the files of a `source`", facts={"key": key})
    _check_narrowing(model, key)
    if model.source is None and model.unpack:
        raise ManifestError("`unpack` takes the members of a `source`", facts={"key": key})
    for number, package in enumerate(model.packages):
        _check_package(package, f"{key}.packages[{number}]")
    ids = [package.id or default_package_id(package.backend, package.quantization) for package in model.packages]
    if len({package_id.lower() for package_id in ids}) != len(ids):
        raise ManifestError(f"model {model.id!r}: two packages have one id: {', '.join(ids)}", facts={"key": key})
    if sum(package.default for package in model.packages) > 1:
        raise ManifestError(f"model {model.id!r}: only one package can be the default", facts={"key": key})


def _check_narrowing(model: ModelRequest, key: str) -> None:
    """What chooses among the packages of a service goes with no other source, and what chooses files not with one."""
    is_service = (model.source or "").lower().startswith(SERVICE)
    if (model.backend or model.quantization) and not is_service:
        raise ManifestError(
            f"model {model.id!r}: `files`, `backend` and `quantization` belong together, or under `packages`; beside "
            f"`source` they choose packages of {SERVICE}…, and of nothing else",
            facts={"key": key},
        )
    if is_service and (model.include or model.exclude or model.unpack):
        raise ManifestError(
            f"model {model.id!r}: `include`, `exclude` and `unpack` choose files, and {SERVICE} has packages",
            hint="`backend` and `quantization` choose among them",
            facts={"key": key},
        )
    if model.backend is not None:
        _one_of(model.backend, BACKENDS, f"{key}.backend")
    if model.quantization is not None:
        _one_of(model.quantization, QUANTIZATIONS, f"{key}.quantization")


def _checked_workflow(workflow: WorkflowRequest, key: str) -> str:
    if (workflow.file is None) == (workflow.source is None):
        raise ManifestError("a workflow needs `file` or `source`", facts={"key": key})
    _at(key, lambda _: workflow.parsed, "")
    return str(workflow.parsed)


def _check_package(package: PackageRequest, key: str) -> None:
    if package.id is not None:
        _at(f"{key}.id", checked_package_id, package.id)
    if package.backend is not None:
        _one_of(package.backend, BACKENDS, f"{key}.backend")
    if package.quantization is not None:
        _one_of(package.quantization, QUANTIZATIONS, f"{key}.quantization")
    if not package.files:
        raise ManifestError("a package needs at least one file", facts={"key": f"{key}.files"})
    for path, entry in package.files.items():
        _at(f"{key}.files.{path}", checked_path, path)
        if not entry.sources:
            raise ManifestError("a file needs at least one source", facts={"key": f"{key}.files.{path}"})
        if entry.sha256 is not None:
            _at(f"{key}.files.{path}.sha256", _checked_hex, entry.sha256)
    check_tree(package.files, subject=key)


def _check_profiles(model: ModelRequest, key: str) -> None:
    if model.packages:
        raise ManifestError(f"model {model.id!r}: `profiles` choose a `source`, not `packages`", facts={"key": key})
    if isinstance(model.profiles, str):
        return
    for number, profile in enumerate(model.profiles):
        place = f"{key}.profiles[{number}]"
        _check_profile(profile, place)
        if profile.source is None and model.source is None:
            raise ManifestError("a profile needs a `source`, or its model does", facts={"key": place})


def _check_profile(profile: ProfileRequest, key: str) -> None:
    _one_of(profile.gpu.upper(), PROFILE_GPUS, f"{key}.gpu")
    _one_of(profile.precision.lower(), PROFILE_PRECISIONS, f"{key}.precision")
    _one_of(profile.metric.lower(), PROFILE_METRICS, f"{key}.metric")
    _one_of(profile.type.lower(), PROFILE_TYPES, f"{key}.type")
    _one_of(profile.engine.lower(), PROFILE_ENGINES, f"{key}.engine")
    if not 0 <= profile.gpu_count <= PROFILE_GPU_COUNT:
        raise ManifestError(f"a profile is for 0 to {PROFILE_GPU_COUNT} GPUs", facts={"key": f"{key}.gpu_count"})


def _checked_hex(text: str) -> str:
    return Digest.parse(f"sha256:{text.removeprefix('sha256:')}").hex


def _one_of(value: str, known: tuple[str, ...], key: str) -> None:
    if value not in known:
        raise ManifestError(f"unknown value {value!r}", hint="one of " + ", ".join(known), facts={"key": key})


def _at(key: str, check: Any, value: str) -> None:
    try:
        check(value)
    except (NamingError, FormatError) as error:
        error.facts["key"] = key
        if isinstance(error, FormatError):
            raise ManifestError(error.message, hint=error.hint, facts=error.facts) from error
        raise
