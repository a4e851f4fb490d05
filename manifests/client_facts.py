"""What a model service says of a model and its packages beyond their files, for the clients that want it back.

* It travels from lock to bundle to the records of inference-models, in that client's own words.
* What may hold floats, or keys of the service's own, is JSON in one text (`foreign`).
* Of all this, only `trusted` and `incompatible_providers` decide what runs here; the rest is judged by what is read.
"""

from collections.abc import Iterator
from typing import Final

import msgspec

from manifests import foreign
from manifests.errors import FormatError, printable
from manifests.manifest import Struct

GPU_SERVER: Final = "gpu-server"
JETSON: Final = "jetson"
MACHINES: Final = (GPU_SERVER, JETSON)
FEATURE: Final = "client-facts"
"""What a bundle that carries such facts requires of its reader."""
_LONGEST: Final = 256


class Dependency(Struct, frozen=True):
    """Another model that this one loads, by the name it has for it."""

    name: str
    model_id: str
    model_package_id: str | None = None


class ModelFacts(Struct, frozen=True):
    """`canonical` is the id under which the client keeps the model, whatever it was asked by."""

    canonical: str
    variant: str | None = None
    recommended_parameters: str | None = None
    dependencies: tuple[Dependency, ...] = ()


class Environment(Struct, frozen=True):
    """The machine that a compiled package was made on. `machine` is one of `MACHINES`."""

    machine: str
    cuda_device_cc: str
    cuda_device_name: str
    driver_version: str
    cuda_version: str
    trt_version: str
    os_version: str | None = None
    l4t_version: str | None = None
    jetson_product_name: str | None = None


class Engine(Struct, frozen=True):
    """What a TensorRT engine takes: batches, and other machines than its own."""

    min_dynamic_batch_size: int | None = None
    opt_dynamic_batch_size: int | None = None
    max_dynamic_batch_size: int | None = None
    same_cc_compatible: bool = False
    trt_forward_compatible: bool = False
    trt_lean_runtime_excluded: bool = False


class TorchScript(Struct, frozen=True):
    """What a TorchScript package was traced with, and for."""

    supported_device_types: tuple[str, ...]
    torch_version: str
    torch_vision_version: str | None = None


class PackageFacts(Struct, frozen=True):
    """`trusted` is the service's word for its own package. What is None, the service does not say."""

    trusted: bool = True
    model_features: str | None = None
    recommended_parameters: str | None = None
    incompatible_providers: tuple[str, ...] | None = None
    environment: Environment | None = None
    engine: Engine | None = None
    torch_script: TorchScript | None = None


def check_model(facts: ModelFacts, names: tuple[str, ...], *, subject: str) -> None:
    """`FormatError` if the facts of a model that is called by `names` are not as they are written."""
    if facts.canonical not in names:
        raise FormatError(f"{subject}: {facts.canonical!r} is neither its id nor an alias")
    texts = (facts.variant or "", *(text for each in facts.dependencies for text in _texts(each)))
    if not all(map(_is_name, texts)):
        raise FormatError(f"{subject}: a variant or a dependency is no name")
    if facts.recommended_parameters is not None:
        foreign.check(facts.recommended_parameters, subject=f"{subject}: recommended parameters")


def check_package(facts: PackageFacts, *, subject: str) -> None:
    """`FormatError` if the facts of a package are not as they are written."""
    for text in (facts.model_features, facts.recommended_parameters):
        if text is not None:
            foreign.check(text, subject=subject)
    if facts.environment is not None and facts.environment.machine not in MACHINES:
        raise FormatError(f"{subject}: {printable(facts.environment.machine)[:64]!r} is no kind of machine")
    if not all(map(_is_name, _words(facts))):
        raise FormatError(f"{subject}: a provider, device, system or version is no name")


def _is_name(text: str) -> bool:
    return len(text) <= _LONGEST and text.isprintable()


def _words(facts: PackageFacts) -> Iterator[str]:
    """The texts of a package that are names."""
    yield from facts.incompatible_providers or ()
    if facts.torch_script is not None:
        yield from facts.torch_script.supported_device_types
    for part in (facts.environment, facts.torch_script):
        if part is not None:
            yield from (value for value in msgspec.structs.astuple(part) if isinstance(value, str))


def _texts(dependency: Dependency) -> tuple[str, ...]:
    return (dependency.name, dependency.model_id, dependency.model_package_id or "")
