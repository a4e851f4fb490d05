"""onnxruntime, behind one door: opening a graph, running it, and what this machine offers.

Owns every call into onnxruntime and the translation of its errors; nothing else imports it.
* onnxruntime is imported when the first graph is opened, not before: the rest of the runtime works without it.
* A feed is compared with the graph's declared inputs before onnxruntime sees it.
* It reports nothing to its maker. A host program that imports onnxruntime first must see to that itself.
* No provider that reaches over a network is ever used, and none is fallen back to silently.
"""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from manifests.errors import InvalidInputError, MissingExtraError, ModelError, ModelLoadError, listing
from runtime.settings import TELEMETRY_OFF

Tensor: TypeAlias = NDArray[Any]

CPU_PROVIDER: Final = "CPUExecutionProvider"

# Azure's provider forwards a graph to a service elsewhere: on a site without a network it can only mislead.
_NETWORKED_PROVIDERS: Final = frozenset({"AzureExecutionProvider"})

# onnxruntime's name for an element type, the Open Inference Protocol's, and numpy's (None: numpy has none).
_DATATYPES: Final = (
    ("tensor(bool)", "BOOL", "bool"),
    ("tensor(uint8)", "UINT8", "uint8"),
    ("tensor(uint16)", "UINT16", "uint16"),
    ("tensor(uint32)", "UINT32", "uint32"),
    ("tensor(uint64)", "UINT64", "uint64"),
    ("tensor(int8)", "INT8", "int8"),
    ("tensor(int16)", "INT16", "int16"),
    ("tensor(int32)", "INT32", "int32"),
    ("tensor(int64)", "INT64", "int64"),
    ("tensor(float16)", "FP16", "float16"),
    ("tensor(float)", "FP32", "float32"),
    ("tensor(double)", "FP64", "float64"),
    ("tensor(bfloat16)", "BF16", None),
    ("tensor(string)", "BYTES", "object"),
)
_DATATYPE_OF_ELEMENT: Final = {element: datatype for element, datatype, _ in _DATATYPES}
_NUMPY_OF_DATATYPE: Final = {datatype: np.dtype(name) for _, datatype, name in _DATATYPES if name is not None}

# An empty graph of opset 9999: the refusal to load it names the newest opset that this onnxruntime supports.
_FUTURE_GRAPH: Final = bytes.fromhex("08083a0312016742050a00108f4e")
_NEWEST_OPSET: Final = re.compile(r"till opset (\d+)")


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """A graph's input or output: Open Inference Protocol datatype (`FP32`, `INT64`, …); None is a free dimension."""

    name: str
    datatype: str
    shape: tuple[int | None, ...]

    def __str__(self) -> str:
        return f"{self.name} {self.datatype} [{', '.join('?' if n is None else str(n) for n in self.shape)}]"

    def accepts(self, shape: Sequence[int]) -> bool:
        """Whether an array of this shape fits."""
        return len(shape) == len(self.shape) and all(
            mine is None or mine == theirs for mine, theirs in zip(self.shape, shape, strict=True)
        )


class Session:
    """One open graph. `run` may be called from many threads at once."""

    def __init__(self, path: Path, inner: Any) -> None:
        self._path = path
        self._inner = inner
        self.inputs = tuple(_spec(path, argument) for argument in inner.get_inputs())
        self.outputs = tuple(_spec(path, argument) for argument in inner.get_outputs())
        self.metadata: Mapping[str, str] = dict(inner.get_modelmeta().custom_metadata_map)
        self.providers: tuple[str, ...] = tuple(inner.get_providers())

    def run(self, feeds: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The graph's outputs by name.

        Raises `InvalidInputError` when the feeds are not what the graph declares (names, datatypes, shapes), and
        `ModelError` when the graph fails on them.
        """
        self._check(feeds)
        names = [spec.name for spec in self.outputs]
        try:
            results = self._inner.run(names, dict(feeds))
        except _invalid_arguments() as error:
            said = {"onnxruntime": _first_line(error)}
            raise InvalidInputError(f"{self._path.name} refused its input", facts=said) from error
        except _failures() as error:
            raise ModelError(f"{self._path.name} failed while running: {_first_line(error)}") from error
        return dict(zip(names, results, strict=True))

    def _check(self, feeds: Mapping[str, Tensor]) -> None:
        if feeds.keys() != {spec.name for spec in self.inputs}:
            raise self._unfit(f"the inputs given are {listing(sorted(feeds)) or 'none'}")
        for spec in self.inputs:
            array = feeds[spec.name]
            datatype = datatype_of(array)
            if datatype != spec.datatype:
                raise self._unfit(f"{spec.name} was given as {datatype or array.dtype}")
            if not spec.accepts(array.shape):
                raise self._unfit(f"{spec.name} was given with shape {list(array.shape)}")

    def _unfit(self, problem: str) -> InvalidInputError:
        expected = "; ".join(str(spec) for spec in self.inputs)
        return InvalidInputError(f"{problem}; {self._path.name} takes {expected}", facts={"expected": expected})


def open_session(path: Path, *, providers: Sequence[str] | None = None, threads: int = 0) -> Session:
    """Open the graph at `path` on these execution providers, best first (default: all that this machine has).

    `threads` is how many one inference may use; 0 leaves it to onnxruntime. Raises `ModelLoadError` when the graph
    or a provider cannot be used, `MissingExtraError` without onnxruntime.
    """
    onnxruntime = _onnxruntime()
    wanted = available_providers() if providers is None else tuple(providers)
    if absent := [name for name in wanted if name not in available_providers()]:
        raise ModelLoadError(
            f"this machine has no {listing(absent)}", facts={"available": listing(available_providers())}
        )
    if not path.is_file():
        raise ModelLoadError(f"{path.name}: no such file", hint="install the bundle again", facts={"path": path})
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads
    # A spinning thread starves the other sessions of a busy machine and gains little on an idle one.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    try:
        inner = onnxruntime.InferenceSession(str(path), options, providers=list(wanted), enable_fallback=False)
    except _failures() as error:
        raise ModelLoadError(f"{path.name} cannot be loaded: {_first_line(error)}", facts={"path": path}) from error
    return Session(path, inner)


def available_providers() -> tuple[str, ...]:
    """The execution providers of this machine's onnxruntime, best first, without those that need a network."""
    names: list[str] = _onnxruntime().get_available_providers()
    return tuple(name for name in names if name not in _NETWORKED_PROVIDERS)


def version() -> str:
    """The version of the installed onnxruntime."""
    return str(_onnxruntime().__version__)


@cache
def maximum_opset() -> int | None:
    """The newest ONNX opset that the installed onnxruntime supports; None when it does not say."""
    onnxruntime = _onnxruntime()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        onnxruntime.InferenceSession(_FUTURE_GRAPH, options, providers=[CPU_PROVIDER])
    except _failures() as refusal:
        found = _NEWEST_OPSET.search(str(refusal))
        return int(found[1]) if found else None
    return None


def datatype_of(array: Tensor) -> str | None:
    """The Open Inference Protocol's word for an array's element type; None when it has none."""
    if array.dtype.kind in "OSU":
        return "BYTES"
    return next((word for word, dtype in _NUMPY_OF_DATATYPE.items() if dtype == array.dtype), None)


def numpy_type(spec: TensorSpec) -> np.dtype[Any]:
    """The numpy type that feeds this input. Raises `InvalidInputError` for one that numpy cannot hold."""
    if spec.datatype not in _NUMPY_OF_DATATYPE:
        raise InvalidInputError(f"{spec.name} takes {spec.datatype}, which numpy arrays cannot hold")
    return _NUMPY_OF_DATATYPE[spec.datatype]


def _spec(path: Path, argument: Any) -> TensorSpec:
    datatype = _DATATYPE_OF_ELEMENT.get(argument.type)
    if datatype is None:
        raise ModelLoadError(f"{path.name}: {argument.name} is a {argument.type}, not a tensor of a known datatype")
    return TensorSpec(argument.name, datatype, tuple(_dimension(size) for size in argument.shape))


def _dimension(size: object) -> int | None:
    """A fixed size, or None for one that is named by a symbol or an expression such as `floor(height/2)`."""
    return size if isinstance(size, int) and size >= 0 else None


def _onnxruntime() -> ModuleType:
    """The library. Told before it is loaded to report nothing to its maker: the guard cannot see native code."""
    os.environ[TELEMETRY_OFF] = "1"
    try:
        import onnxruntime  # noqa: PLC0415 - heavy, and absent where nothing is run
    except ImportError as error:
        raise MissingExtraError("onnxruntime", "cpu") from error
    return onnxruntime  # type: ignore[no-any-return] # it carries no types


def _failures() -> tuple[type[Exception], ...]:
    """Everything that onnxruntime raises of its own; RuntimeError and ValueError are its Python layer's."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state  # noqa: PLC0415 - as above

    own = [item for item in vars(state).values() if isinstance(item, type) and issubclass(item, Exception)]
    return (*own, RuntimeError, ValueError, MemoryError)


def _invalid_arguments() -> tuple[type[Exception], ...]:
    from onnxruntime.capi import onnxruntime_pybind11_state as state  # noqa: PLC0415 - as above

    return (state.InvalidArgument,)


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
