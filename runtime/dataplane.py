"""What a server, or any program, may ask of the installed models: live, ready, metadata, load, infer.

Owns the path from a name to an answer: catalogue, negotiation, registry. No HTTP, no file formats.
* The catalogue is asked anew each time, so that an install takes effect without a restart; models of a generation
  that is no longer current are dropped from memory.
* When the best package fails to load, the next one is tried, and the first failure is told if none works.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from manifests.errors import BundleError
from runtime.catalogue import Catalogue, InstalledModel
from runtime.models.base import Model
from runtime.models.load import load_model
from runtime.negotiation import Choice, Machine, Wishes, choose, fall_through
from runtime.registry import DEFAULT_CAPACITY, Answer, LoadedModel, Registry, Selection
from runtime.session import available_providers, maximum_opset


def this_machine(*, providers: Sequence[str] | None = None) -> Machine:
    """What onnxruntime can do here, on those of `providers` that it has, in their order (default: all it has).

    Raises `MissingExtraError` without onnxruntime.
    """
    present = available_providers()
    usable = present if providers is None else tuple(name for name in providers if name in present)
    return Machine(usable, maximum_opset())


def load_selection(selection: Selection) -> Model[Any, Any]:
    """How a registry opens what was selected."""
    return load_model(selection.model, selection.package, providers=selection.providers)


class DataPlane:
    """The installed models, answering. Thread-safe."""

    def __init__(
        self,
        catalogue: Callable[[], Catalogue],
        registry: Registry,
        *,
        machine: Callable[[], Machine] = this_machine,
        wishes: Wishes | None = None,
    ) -> None:
        """`catalogue` says what is installed now; `wishes` hold for every model (a device, say)."""
        self._catalogue = catalogue
        self._registry = registry
        self._machine = machine
        self._wishes = wishes or Wishes()

    def live(self) -> bool:
        """Whether this process answers at all."""
        return True

    def ready(self) -> bool:
        """Whether there is a catalogue to serve from, and a machine to run it."""
        try:
            self._catalogue()
            self._machine()
        except BundleError:
            return False
        return True

    def catalogue(self) -> Catalogue:
        """What is installed now. Raises `StorageError` without a root."""
        catalogue = self._catalogue()
        self._registry.keep_generation(catalogue.generation)
        return catalogue

    def metadata(self, name: str) -> InstalledModel:
        """What is known of a model without loading it. Raises `UnknownModelError`."""
        return self.catalogue().get(name)

    def explain(self, name: str) -> Choice:
        """Which package of a model runs here, and why. Raises `UnknownModelError`, `ModelLoadError`."""
        return choose(self.metadata(name), self._machine(), self._wishes)

    def loaded(self) -> tuple[LoadedModel, ...]:
        """The models in memory, least recently used first."""
        return self._registry.loaded()

    def load(self, name: str) -> LoadedModel:
        """The model with this id or alias, in memory. Raises `UnknownModelError`, `ModelLoadError`."""
        catalogue = self.catalogue()
        model = catalogue.get(name)
        choice = choose(model, self._machine(), self._wishes)
        return fall_through(
            choice,
            lambda package: self._registry.get(Selection(catalogue.generation, model, package, choice.providers)),
        )

    def unload(self, name: str) -> int:
        """Drop a model from memory; how many of its packages were there. Raises `UnknownModelError`."""
        return self._registry.unload(self.metadata(name).id)

    def clear(self) -> int:
        """Drop every model from memory; how many there were."""
        return self._registry.clear()

    def infer(self, name: str, sources: Sequence[Any], **options: Any) -> Answer:
        """Answer each input. Raises `UnknownModelError`, `ModelLoadError`, `InvalidInputError`, `ModelError`."""
        return self.load(name).answer(sources, **options)


def open_data_plane(
    catalogue: Callable[[], Catalogue],
    *,
    capacity: int = DEFAULT_CAPACITY,
    device: str | None = None,
    providers: Sequence[str] | None = None,
) -> DataPlane:
    """A data plane over a catalogue, with a registry of its own that keeps `capacity` models, on these providers."""
    machine = partial(this_machine, providers=providers)
    return DataPlane(
        catalogue, Registry(load_selection, capacity=capacity), machine=machine, wishes=Wishes(device=device)
    )
