"""Which package runs here, and why the others do not."""

from pathlib import Path
from typing import Any

import pytest

from installed import model, package
from manifests.errors import ModelLoadError
from runtime.catalogue import InstalledPackage
from runtime.negotiation import Machine, Wishes, choose, explain, fall_through

CPU = Machine(("CPUExecutionProvider",), 21)
CUDA = Machine(("CUDAExecutionProvider", "CPUExecutionProvider"), 21)


def one(name: str, **facts: Any) -> InstalledPackage:
    return package(Path("/nowhere") / name, **facts)


def order(*packages: InstalledPackage, machine: Machine = CPU, **wishes: Any) -> list[str]:
    return [kept.id for kept in choose(model("m/1", packages), machine, Wishes(**wishes)).packages]


FP32 = one("fp32")
FP16 = one("fp16", quantization="fp16")
INT8 = one("int8", quantization="int8")
UNSTATED = one("unstated", quantization=None)


def test_full_precision_comes_before_reduced_and_the_manifests_order_decides_the_rest() -> None:
    assert order(INT8, UNSTATED, FP16, FP32) == ["fp32", "fp16", "int8", "unstated"]


def test_the_manifests_default_comes_first_whatever_its_precision() -> None:
    assert order(FP32, one("small", quantization="int8", default=True), FP16) == ["small", "fp32", "fp16"]


@pytest.mark.parametrize(
    ("wishes", "left"),
    [
        ({"quantization": "int8"}, ["int8"]),
        ({"package_id": "fp16"}, ["fp16"]),
        ({"backend": "onnx"}, ["fp32", "fp16", "int8", "unstated"]),
        ({"quantization": "fp16", "package_id": "fp16"}, ["fp16"]),
    ],
    ids=str,
)
def test_a_wish_narrows_the_choice(wishes: dict[str, Any], left: list[str]) -> None:
    assert order(FP32, FP16, INT8, UNSTATED, **wishes) == left


def test_what_its_service_does_not_vouch_for_runs_only_for_who_names_it() -> None:
    doubtful = one("doubtful", trusted=False, default=True)
    assert order(doubtful, FP32) == ["fp32"]
    assert order(doubtful, FP32, package_id="doubtful") == ["doubtful"]
    with pytest.raises(ModelLoadError, match="no package of m/1") as caught:
        choose(model("m/1", [doubtful]), CPU)
    assert "by its package id" in str(caught.value.facts["doubtful"])


def test_the_first_provider_decides_whether_a_package_is_incompatible() -> None:
    slow = one("slow", incompatible_providers=("CUDAExecutionProvider",))
    assert order(slow) == ["slow"]
    assert order(slow, FP32, machine=CUDA) == ["fp32"]
    assert order(slow, FP32, machine=CUDA, device="cpu") == ["slow", "fp32"]


@pytest.mark.parametrize(
    ("dropped", "wishes", "reason"),
    [
        (one("torch", backend="torch-script"), {}, "backend torch-script is carried, not run"),
        (one("unknown", backend=None), {}, "backend unstated is carried, not run"),
        (one("new", opset=22), {}, "needs opset 22, this onnxruntime ends at 21"),
        (one("empty", files=("weights.pt",)), {}, "has no .onnx file"),
        (one("four", static_batch=4), {"batch_size": 2}, "batches of 2 were asked for, this takes 4"),
        (FP32, {"quantization": "int8"}, "quantization int8 was asked for, this is fp32"),
        (UNSTATED, {"quantization": "int8"}, "quantization int8 was asked for, this is unstated"),
        (FP32, {"backend": "trt"}, "backend trt was asked for, this is onnx"),
        (FP32, {"package_id": "other"}, "package other was asked for"),
    ],
)
def test_what_cannot_run_is_dropped_with_its_reason(
    dropped: InstalledPackage, wishes: dict[str, Any], reason: str
) -> None:
    with pytest.raises(ModelLoadError, match="no package of m/1 can run here") as caught:
        order(dropped, **wishes)
    assert reason in caught.value.facts[dropped.id]
    assert reason not in caught.value.hint
    assert "install a bundle" in caught.value.hint


def test_every_package_has_a_decision_and_the_kept_ones_come_first() -> None:
    choice = choose(model("m/1", [one("torch", backend="torch"), INT8, FP32]), CPU)
    assert explain(choice.decisions) == [
        "fp32: can run, precision fp32",
        "int8: can run, precision int8",
        "torch: dropped, backend torch is carried, not run: export the model to ONNX",
    ]


def test_an_opset_that_nobody_knows_is_tried() -> None:
    assert order(one("silent", opset=None)) == ["silent"]
    assert order(one("new", opset=99), machine=Machine(CPU.providers, None)) == ["new"]


@pytest.mark.parametrize(
    ("machine", "device", "providers"),
    [
        (CPU, None, ("CPUExecutionProvider",)),
        (CPU, "cpu", ("CPUExecutionProvider",)),
        (CUDA, None, ("CUDAExecutionProvider", "CPUExecutionProvider")),
        (CUDA, "cpu", ("CPUExecutionProvider",)),
        (CUDA, "cuda", ("CUDAExecutionProvider", "CPUExecutionProvider")),
        (CUDA, "CUDAExecutionProvider", ("CUDAExecutionProvider", "CPUExecutionProvider")),
    ],
)
def test_a_device_names_the_execution_providers(
    machine: Machine, device: str | None, providers: tuple[str, ...]
) -> None:
    assert choose(model("m/1", [FP32]), machine, Wishes(device=device)).providers == providers


def test_a_device_that_is_not_here_is_refused_with_those_that_are() -> None:
    with pytest.raises(ModelLoadError, match="no device 'cuda'") as caught:
        choose(model("m/1", [FP32]), CPU, Wishes(device="cuda"))
    assert "cpu" in caught.value.hint


def test_a_machine_without_providers_runs_nothing() -> None:
    with pytest.raises(ModelLoadError, match="can run here"):
        choose(model("m/1", [FP32]), Machine((), None))


class TestFallingThrough:
    def test_the_next_package_is_tried_when_the_best_one_does_not_load(self) -> None:
        def load(tried: InstalledPackage) -> str:
            if tried is FP32:
                raise ModelLoadError("damaged")
            return tried.id

        assert fall_through(choose(model("m/1", [FP32, FP16]), CPU), load) == "fp16"

    def test_when_none_loads_the_best_ones_failure_is_told(self) -> None:
        def load(tried: InstalledPackage) -> str:
            raise ModelLoadError(f"{tried.id} is damaged")

        with pytest.raises(ModelLoadError, match="fp32 is damaged"):
            fall_through(choose(model("m/1", [FP16, FP32]), CPU), load)
