"""What Roboflow's weights API says of a package, in the words that its own client keeps.

* A package that the client of today would not take is carried all the same, without facts: its reason is told.
* Versions are written as the client writes them, so that its records are the same bytes.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Final, TypeAlias

import msgspec
from packaging.version import InvalidVersion, Version

from manifests.client_facts import GPU_SERVER, JETSON, Engine, Environment, PackageFacts, TorchScript
from manifests.manifest import QUANTIZATIONS

_Count: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]
"""A number of something: no batch or opset is larger, and every JSON reader can hold it."""
_UNKNOWN: Final = "unknown"
_SPECS: Final = {GPU_SERVER: "gpu-server-specs-v1", JETSON: "jetson-machine-specs-v1"}


class _Manifest(msgspec.Struct, rename="camel"):
    """What every kind of package says."""

    quantization: str = _UNKNOWN
    dynamic_batch_size: bool = False
    static_batch_size: _Count | None = None


class _Onnx(_Manifest):
    opset: _Count = 0
    incompatible_providers: list[str] | None = None


class _Machine(msgspec.Struct, rename="camel"):
    type: str
    driver_version: str
    os_version: str | None = None
    l4t_version: str | None = None
    device_name: str | None = None


class _Compiled(msgspec.Struct, rename="camel", kw_only=True):
    quantization: str
    dynamic_batch_size: bool = False
    static_batch_size: _Count | None = None
    min_batch_size: _Count | None = None
    opt_batch_size: _Count | None = None
    max_batch_size: _Count | None = None
    cuda_device_type: str
    cuda_device_cc: str = msgspec.field(name="cudaDeviceCC")
    cuda_version: str
    trt_version: str
    same_cc_compatible: bool = msgspec.field(name="sameCCCompatible", default=False)
    trt_forward_compatible: bool = False
    trt_lean_runtime_excluded: bool = False
    machine_type: str
    machine_specs: _Machine


class _Traced(msgspec.Struct, rename="camel", kw_only=True):
    quantization: str
    dynamic_batch_size: bool = False
    static_batch_size: _Count | None = None
    supported_device_types: list[str]
    torch_version: str
    torch_vision_version: str | None = None


@dataclass(frozen=True, slots=True)
class Kind:
    """A package's backend and what else its manifest says; `reason` says why it has no facts."""

    backend: str | None
    quantization: str | None = None
    opset: int | None = None
    static_batch: int | None = None
    facts: PackageFacts | None = None
    reason: str = ""


_Parser: TypeAlias = Callable[[Mapping[str, object]], Kind]


def kind_of(manifest: Mapping[str, object]) -> Kind:
    """What the manifest of a package says of it."""
    stated = manifest.get("type")
    named = manifest.get("backendType")
    backend = named if isinstance(named, str) and named.isprintable() and len(named) <= 64 else None
    parser = _PARSERS.get(stated) if isinstance(stated, str) else None
    if parser is None:
        return Kind(backend, reason=f"its kind {str(stated)[:64]!r} is unknown here")
    try:
        return parser(manifest)
    except (msgspec.ValidationError, InvalidVersion, ValueError) as error:
        return Kind(backend, reason=f"what is said of it makes no sense ({error})")


def _onnx(manifest: Mapping[str, object]) -> Kind:
    said = msgspec.convert(manifest, _Onnx)
    if said.opset < 1:
        raise ValueError("no opset")
    providers = None if said.incompatible_providers is None else tuple(said.incompatible_providers)
    facts = PackageFacts(incompatible_providers=providers)
    return Kind("onnx", _precision(said.quantization), said.opset, _batch(said), facts)


def _compiled(manifest: Mapping[str, object]) -> Kind:
    said = msgspec.convert(manifest, _Compiled)
    batches = (said.min_batch_size, said.opt_batch_size, said.max_batch_size)
    if said.dynamic_batch_size and None in batches:
        raise ValueError("a dynamic batch with no smallest, best or largest one")
    engine = Engine(
        min_dynamic_batch_size=said.min_batch_size,
        opt_dynamic_batch_size=said.opt_batch_size,
        max_dynamic_batch_size=said.max_batch_size,
        same_cc_compatible=said.same_cc_compatible,
        trt_forward_compatible=said.trt_forward_compatible,
        trt_lean_runtime_excluded=said.trt_lean_runtime_excluded,
    )
    facts = PackageFacts(environment=_environment(said), engine=engine)
    return Kind("trt", _precision(said.quantization), None, _batch(said), facts)


def _environment(said: _Compiled) -> Environment:
    machine = said.machine_specs
    is_jetson = said.machine_type == JETSON
    needed = machine.l4t_version if is_jetson else machine.os_version
    if machine.type != _SPECS.get(said.machine_type) or needed is None:
        raise ValueError(f"a machine {said.machine_type!r} with {machine.type!r}")
    return Environment(
        machine=said.machine_type,
        cuda_device_cc=_version(said.cuda_device_cc),
        cuda_device_name=said.cuda_device_type,
        driver_version=_version(machine.driver_version),
        cuda_version=_version(said.cuda_version),
        trt_version=_version(said.trt_version),
        os_version=None if is_jetson else needed,
        l4t_version=_version(needed) if is_jetson else None,
        jetson_product_name=machine.device_name if is_jetson else None,
    )


def _traced(manifest: Mapping[str, object]) -> Kind:
    said = msgspec.convert(manifest, _Traced)
    vision = said.torch_vision_version
    traced = TorchScript(
        supported_device_types=tuple(sorted(set(said.supported_device_types))),
        torch_version=_version(said.torch_version),
        torch_vision_version=None if vision is None else _version(vision),
    )
    return Kind("torch-script", _precision(said.quantization), None, _batch(said), PackageFacts(torch_script=traced))


def _batched(backend: str) -> _Parser:
    def parsed(manifest: Mapping[str, object]) -> Kind:
        said = msgspec.convert(manifest, _Manifest)
        return Kind(backend, _precision(said.quantization), None, _batch(said), PackageFacts())

    return parsed


def _unbatched(backend: str, *, states_precision: bool) -> _Parser:
    def parsed(manifest: Mapping[str, object]) -> Kind:
        said = msgspec.convert(manifest, _Manifest)
        precision = _precision(said.quantization) if states_precision else _UNKNOWN
        return Kind(backend, precision, facts=PackageFacts())

    return parsed


def _precision(text: str) -> str:
    if text not in QUANTIZATIONS:
        raise ValueError(f"quantization {text[:64]!r}")
    return text


def _batch(said: _Manifest | _Compiled | _Traced) -> int | None:
    """The one batch that it takes, or None for any: exactly one of the two must be said."""
    size = said.static_batch_size
    if said.dynamic_batch_size == (size is not None) or (size is not None and size < 1):
        raise ValueError("neither one batch size nor any, or both")
    return size


def _version(text: str) -> str:
    return str(Version(text))


_PARSERS: Final[Mapping[str, _Parser]] = {
    "onnx-model-package-v1": _onnx,
    "trt-model-package-v1": _compiled,
    "torch-script-model-package-v1": _traced,
    "torch-model-package-v1": _batched("torch"),
    "coreml-model-package-v1": _batched("coreml"),
    "hf-model-package-v1": _unbatched("hugging-face", states_precision=True),
    "ultralytics-model-package-v1": _unbatched("ultralytics", states_precision=False),
}
