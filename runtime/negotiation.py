"""Which package of a model to run here, and why the others were not chosen.

Owns the rules and their order, nothing else: the facts about the machine are passed in, no file is opened.
* Every package gets a decision with a reason a person can read.
* Of the packages that can run, first comes the one that the manifest marks as default; then full precision before
  reduced precision (fp32, fp16, bf16, the rest), because its answers are those of the trained model; then the
  manifest's order.
* A package that its service does not vouch for runs for who names it, and for nobody else: never by itself.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from manifests.errors import ModelLoadError, listing
from runtime.catalogue import InstalledModel, InstalledPackage

T = TypeVar("T")

DEVICE_PROVIDERS: Final = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}

_BACKENDS: Final = frozenset({"onnx"})
_NARROWER_THAN_WHAT_THERE_IS: Final = (
    "install a bundle with a package that runs here, or ask for less (backend, quantization, package, device, batch)"
)
_PRECISIONS: Final = ("fp32", "fp16", "bf16")


@dataclass(frozen=True, slots=True)
class Machine:
    """What can be run here: onnxruntime's execution providers, best first, and its newest opset (None: unknown)."""

    providers: tuple[str, ...]
    maximum_opset: int | None


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the caller narrows the choice to. None leaves a point open.

    `device` is `cpu`, `cuda` or the name of an execution provider; `batch_size` counts pictures in one run.
    """

    backend: str | None = None
    quantization: str | None = None
    package_id: str | None = None
    device: str | None = None
    batch_size: int | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether one package may run here, and why (not)."""

    package: InstalledPackage
    kept: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Choice:
    """All packages of a model, the kept ones first and best first, and the execution providers to run them on."""

    decisions: tuple[Decision, ...]
    providers: tuple[str, ...]

    @property
    def packages(self) -> tuple[InstalledPackage, ...]:
        """Those that may run, best first: when one fails to load, the next is tried."""
        return tuple(decision.package for decision in self.decisions if decision.kept)


def choose(model: InstalledModel, machine: Machine, wishes: Wishes | None = None) -> Choice:
    """Decide on every package of `model`. Raises `ModelLoadError`, with each reason, when none is left."""
    wishes = wishes or Wishes()
    providers = _providers(machine, wishes.device)
    decisions = [_decide(package, machine, wishes, providers) for package in model.packages]
    order = sorted(range(len(decisions)), key=lambda place: _rank(decisions[place], place))
    choice = Choice(tuple(decisions[place] for place in order), providers)
    if not choice.packages:
        raise ModelLoadError(
            f"no package of {model.id} can run here",
            hint=_NARROWER_THAN_WHAT_THERE_IS if choice.decisions else "it has no packages",
            facts={one.package.id: one.reason for one in choice.decisions},
        )
    return choice


def _providers(machine: Machine, device: str | None) -> tuple[str, ...]:
    """The execution providers for a device; the CPU's comes last, for the operators that another one lacks."""
    if device is None:
        return machine.providers
    wanted = DEVICE_PROVIDERS.get(device.removesuffix(":0"), device)
    if wanted not in machine.providers:
        known = [name for name, provider in DEVICE_PROVIDERS.items() if provider in machine.providers]
        raise ModelLoadError(
            f"this machine has no device {device!r}",
            hint=f"devices here: {listing([*known, *machine.providers]) or 'none'}",
        )
    fallback = DEVICE_PROVIDERS["cpu"]
    return (wanted,) if wanted == fallback or fallback not in machine.providers else (wanted, fallback)


def _decide(package: InstalledPackage, machine: Machine, wishes: Wishes, providers: Sequence[str]) -> Decision:
    problem = _unwanted(package, wishes) or _unrunnable(package, machine, providers) or _untrusted(package, wishes)
    return Decision(package, problem is None, problem or _merit(package))


def _unwanted(package: InstalledPackage, wishes: Wishes) -> str | None:
    if wishes.package_id not in {None, package.id}:
        return f"package {wishes.package_id} was asked for"
    if wishes.backend not in {None, package.backend}:
        return f"backend {wishes.backend} was asked for, this is {package.backend or 'unstated'}"
    if wishes.quantization not in {None, package.quantization}:
        return f"quantization {wishes.quantization} was asked for, this is {package.quantization or 'unstated'}"
    if wishes.batch_size is not None and package.static_batch not in {None, wishes.batch_size}:
        return f"batches of {wishes.batch_size} were asked for, this takes {package.static_batch}"
    return None


def _untrusted(package: InstalledPackage, wishes: Wishes) -> str | None:
    if package.trusted or wishes.package_id == package.id:
        return None
    return "its service does not vouch for it: it runs only if it is asked for by its package id"


def _unrunnable(package: InstalledPackage, machine: Machine, providers: Sequence[str]) -> str | None:
    """The first provider decides, as it does for the service's own client: the others only fill its gaps."""
    if package.backend not in _BACKENDS:
        return f"backend {package.backend or 'unstated'} is carried, not run: export the model to ONNX"
    if not any(name.lower().endswith(".onnx") for name in package.files):
        return "it has no .onnx file"
    if package.opset is not None and machine.maximum_opset is not None and package.opset > machine.maximum_opset:
        return f"it needs opset {package.opset}, this onnxruntime ends at {machine.maximum_opset}"
    if not machine.providers:
        return "this machine has no execution provider"
    if providers[0] in package.incompatible_providers:
        return f"its service says that it does not run on {providers[0]}: ask for another device"
    return None


def _merit(package: InstalledPackage) -> str:
    return "the manifest's default" if package.default else f"precision {package.quantization or 'unstated'}"


def _rank(decision: Decision, place: int) -> tuple[bool, bool, int, int]:
    """Sorts kept before dropped, then by the preference that the module's docstring states."""
    quantization = decision.package.quantization
    precision = _PRECISIONS.index(quantization) if quantization in _PRECISIONS else len(_PRECISIONS)
    return not decision.kept, not decision.package.default, precision, place


def fall_through(choice: Choice, load: Callable[[InstalledPackage], T]) -> T:
    """Load the best package that can be loaded; when none can, the best one's failure is raised."""
    failures: list[ModelLoadError] = []
    for package in choice.packages:
        try:
            return load(package)
        except ModelLoadError as error:
            failures.append(error)
    raise failures[0]


def explain(decisions: Sequence[Decision]) -> list[str]:
    """One line a package, best first, for people."""
    return [f"{one.package.id}: {'can run' if one.kept else 'dropped'}, {one.reason}" for one in decisions]
