"""What every loaded model is, whatever its family.

A family turns inputs into tensors (`preprocess`), runs its graph (`predict`) and turns tensors into results
(`postprocess`); `infer` is the three in a row. Nothing here knows pictures, tensors or HTTP.
* A loaded model never changes: it may be used from many threads at once.
* Memory does not grow with the number of inputs: they are taken in groups of a bounded size, one after the other.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeVar

Prepared = TypeVar("Prepared")
Outputs = TypeVar("Outputs")

MAXIMUM_GROUP: Final = 8
"""Inputs that are prepared and run together where the graph leaves it open."""
MAXIMUM_GROUP_PIXELS: Final = 16 * 1024 * 1024
"""Pixels of network input that are held at once: 192 MiB of floats. One input is always taken."""


class Result(Protocol):
    """What a model answers for one input."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What a person or a client may ask about a loaded model. Sizes are pixels; None where a model has no such."""

    id: str
    task: str
    architecture: str | None
    package_id: str
    backend: str
    quantization: str | None
    providers: tuple[str, ...]
    batch_size: int | None
    input_height: int | None = None
    input_width: int | None = None
    class_names: tuple[str, ...] = ()


class Model(Protocol[Prepared, Outputs]):
    """A model that is ready to answer."""

    @property
    def facts(self) -> ModelFacts:
        """What this model is."""

    def preprocess(self, sources: Sequence[Any], *, first: int = 1) -> Prepared:
        """The tensors for some inputs, and what it takes to map answers back. Raises `InvalidInputError`.

        `first` is the number that messages give the first of them.
        """

    def predict(self, prepared: Prepared) -> Outputs:
        """The graph's answer. Raises `ModelError`."""

    def postprocess(self, outputs: Outputs, prepared: Prepared, **options: Any) -> Sequence[Result]:
        """One result per input. Raises `InvalidInputError` for an option that this model does not have."""

    def infer(self, source: Any, **options: Any) -> Any:
        """The result for one input, or a list of results for a list of inputs."""


def run_model(model: Model[Any, Any], sources: Sequence[Any], **options: Any) -> list[Result]:
    """Preprocess, predict and postprocess: one result per input, in order."""
    size = group_size(model.facts)
    results: list[Result] = []
    for at in range(0, len(sources), size):
        prepared = model.preprocess(sources[at : at + size], first=at + 1)
        results.extend(model.postprocess(model.predict(prepared), prepared, **options))
    return results


def group_size(facts: ModelFacts) -> int:
    """How many inputs are prepared and run together: the graph's own batch, else as many as the budget allows."""
    if facts.batch_size:
        return facts.batch_size
    pixels = (facts.input_height or 1) * (facts.input_width or 1)
    return max(1, min(MAXIMUM_GROUP, MAXIMUM_GROUP_PIXELS // pixels))


class Inferring:
    """`infer`, `id` and `task` for a family that has `facts` and the three steps."""

    facts: ModelFacts

    @property
    def id(self) -> str:
        """The id that the model was asked for by, in its canonical spelling."""
        return self.facts.id

    @property
    def task(self) -> str:
        """What the model does, such as `object-detection`."""
        return self.facts.task

    def infer(self: Any, source: Any, **options: Any) -> Any:
        """The result for one input, or a list of results for a list (or tuple) of inputs."""
        if isinstance(source, list | tuple):
            return run_model(self, source, **options)
        return run_model(self, [source], **options)[0]
