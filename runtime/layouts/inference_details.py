"""The parts of inference-models' records that only some packages have, as that client writes them."""

import msgspec

from manifests import foreign
from manifests.client_facts import GPU_SERVER, ModelFacts, PackageFacts
from manifests.content import Package

_SHARED = ("cuda_device_cc", "cuda_device_name", "driver_version", "cuda_version", "trt_version")
_OF_SERVER = ("os_version",)
_OF_JETSON = ("l4t_version", "jetson_product_name")


def parsed(text: str | None) -> object:
    """The value of JSON that a service said; None if it said nothing."""
    return None if text is None else foreign.decode(text, subject="a service's words")


def dependencies(facts: ModelFacts) -> list[dict[str, object]]:
    """The other models that one needs."""
    return [
        {"name": each.name, "model_id": each.model_id, "model_package_id": each.model_package_id}
        for each in facts.dependencies
    ]


def environment(facts: PackageFacts) -> dict[str, object] | None:
    """The machine that a package was compiled on."""
    made_on = facts.environment
    if made_on is None:
        return None
    names = (*_SHARED, *(_OF_SERVER if made_on.machine == GPU_SERVER else _OF_JETSON))
    return {"kind": made_on.machine, **{name: getattr(made_on, name) for name in names}}


def of_backend(package: Package) -> dict[str, object]:
    """What only one kind of package has. A package whose service said nothing has the one that is needed."""
    onnx = {"opset": package.opset, "incompatible_providers": _providers(package)}
    found: dict[str, object] = {"onnx_package_details": onnx if package.backend == "onnx" else None}
    if package.client is None:
        return found
    engine, traced = package.client.engine, package.client.torch_script
    found["trt_package_details"] = msgspec.structs.asdict(engine) if engine else None
    found["torch_script_package_details"] = _traced(msgspec.structs.asdict(traced)) if traced else None
    return found


def _traced(values: dict[str, object]) -> dict[str, object]:
    devices = values["supported_device_types"]
    return {**values, "supported_device_types": list(devices) if isinstance(devices, tuple) else devices}


def _providers(package: Package) -> list[str] | None:
    if package.client is None:
        return []
    said = package.client.incompatible_providers
    return None if said is None else list(said)
