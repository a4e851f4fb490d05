"""Raw tensors: any ONNX graph as it is, named arrays in, named arrays out.

Owns what serves every task that has no family of its own.
* An array is never cast or reshaped to fit: a wrong datatype or shape is an error that names the right one.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from manifests.errors import InvalidInputError, listing
from runtime.models.base import Inferring, ModelFacts
from runtime.models.tensor_files import read_tensors
from runtime.session import Session, Tensor, datatype_of

RawSource: TypeAlias = Mapping[str, Tensor] | str | Path


@dataclass(frozen=True, slots=True)
class RawOutputs:
    """A graph's outputs by name, in the graph's order."""

    tensors: Mapping[str, Tensor]

    def __len__(self) -> int:
        return len(self.tensors)

    def __iter__(self) -> Iterator[str]:
        return iter(self.tensors)

    def __getitem__(self, name: str) -> Tensor:
        return self.tensors[name]

    def to_dict(self) -> dict[str, Any]:
        """`{"outputs": [{"name", "datatype", "shape", "data"}]}`; data is flat, row by row.

        JSON has no word for NaN and the infinities: they are None (`null`). The arrays in `tensors` keep them.
        """
        return {
            "outputs": [
                {
                    "name": name,
                    "datatype": datatype_of(array) or str(array.dtype),
                    "shape": list(array.shape),
                    "data": _flat(array),
                }
                for name, array in self.tensors.items()
            ]
        }


def _flat(array: Tensor) -> list[Any]:
    """Plain values, row by row; None for what is no finite number."""
    values: list[Any] = array.ravel().tolist()
    if array.dtype.kind != "f" or np.isfinite(array).all():
        return values
    return [value if math.isfinite(value) else None for value in values]


def refuse_options(name: str, options: Mapping[str, Any]) -> None:
    """Raises `InvalidInputError` when any option is set: raw models have none."""
    if chosen := sorted(option for option, value in options.items() if value is not None):
        raise InvalidInputError(f"{name} is served as raw tensors and has no option {listing(chosen)}")


class RawTensors(Inferring):
    """A graph that is ready to answer arrays with arrays. Thread-safe."""

    def __init__(self, session: Session, facts: ModelFacts) -> None:
        self.facts = facts
        self._session = session

    @property
    def inputs(self) -> str:
        """What the graph takes, in words."""
        return "; ".join(str(spec) for spec in self._session.inputs)

    def preprocess(self, sources: Sequence[RawSource], *, first: int = 1) -> list[dict[str, Tensor]]:
        """Each source as feeds: a mapping of arrays by input name, or the path of a .npz, .npy or .json file.

        Raises `InvalidInputError` for anything else, and for a file that is none of these.
        """
        del first
        return [self._feeds(source) for source in sources]

    def predict(self, prepared: list[dict[str, Tensor]]) -> list[dict[str, Tensor]]:
        """One run per input. Raises `InvalidInputError` when names, datatypes or shapes are not the graph's."""
        return [self._session.run(feeds) for feeds in prepared]

    def postprocess(
        self, outputs: list[dict[str, Tensor]], prepared: list[dict[str, Tensor]], **options: Any
    ) -> list[RawOutputs]:
        """One `RawOutputs` per input. Raw models have no options."""
        del prepared
        refuse_options(self.id, options)
        return [RawOutputs(tensors) for tensors in outputs]

    def _feeds(self, source: object) -> dict[str, Tensor]:
        if isinstance(source, str | Path):
            return read_tensors(Path(source), self._session.inputs)
        if isinstance(source, Mapping) and all(isinstance(array, np.ndarray) for array in source.values()):
            return dict(source)
        raise InvalidInputError(
            f"{self.id} takes arrays by name, not a {type(source).__name__}", hint=f"it takes {self.inputs}"
        )
