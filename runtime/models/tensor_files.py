"""Arrays from files: .npz, .npy and .json, as a graph's inputs.

Owns the reading of tensors that somebody else wrote.
* Nothing is unpickled. The size that a header claims is compared with the bytes that are there before memory is taken.
* JSON is either `{"inputs": [{"name", "shape", "datatype", "data"}]}`, as the Open Inference Protocol has it, or
  plainly `{name: nested lists}`.
"""

import math
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Final

import msgspec
import numpy as np

from manifests.errors import InvalidInputError, listing
from runtime.session import Tensor, TensorSpec, numpy_type

MAXIMUM_BYTES: Final = 1024 * 1024 * 1024
MAXIMUM_MEMBERS: Final = 1024
MAXIMUM_HEADER_BYTES: Final = 64 * 1024


class _JsonTensor(msgspec.Struct):
    name: str
    data: Any
    shape: list[int] | None = None
    datatype: str | None = None


def read_tensors(path: Path, inputs: Sequence[TensorSpec]) -> dict[str, Tensor]:
    """The arrays in a file, by input name; a .npy file feeds a graph that has one input.

    Raises `InvalidInputError` when the file is none of the three forms, damaged, or larger than `MAXIMUM_BYTES`.
    """
    readers = {".npz": _read_npz, ".npy": _read_npy, ".json": _read_json}
    reader = readers.get(path.suffix.lower())
    expected = "; ".join(str(spec) for spec in inputs)
    if reader is None:
        raise InvalidInputError(
            f"{path.name}: tensors are read from .npz, .npy and .json files", hint=f"the model takes {expected}"
        )
    if not path.is_file():
        raise InvalidInputError(f"{path}: no such file")
    if path.stat().st_size > MAXIMUM_BYTES:
        raise InvalidInputError(f"{path.name}: larger than {MAXIMUM_BYTES} bytes")
    try:
        return reader(path, inputs)
    except (OSError, ValueError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error, msgspec.MsgspecError) as error:
        raise InvalidInputError(f"{path.name}: {error}", hint=f"the model takes {expected}") from error


def tensors_from_json(document: Mapping[str, Any], inputs: Sequence[TensorSpec]) -> dict[str, Tensor]:
    """The arrays of a JSON document of either form. Raises `InvalidInputError`."""
    listed = document.get("inputs")
    if isinstance(listed, list):
        tensors = msgspec.convert(listed, list[_JsonTensor])
    else:
        tensors = [_JsonTensor(name, data) for name, data in document.items()]
    specs = {spec.name: spec for spec in inputs}
    if unknown := [tensor.name for tensor in tensors if tensor.name not in specs]:
        raise InvalidInputError(f"the model has no input {listing(unknown)}; it takes {listing(specs)}")
    return {tensor.name: _from_lists(tensor, specs[tensor.name]) for tensor in tensors}


def _from_lists(tensor: _JsonTensor, spec: TensorSpec) -> Tensor:
    if tensor.datatype not in {None, spec.datatype}:
        raise InvalidInputError(f"{tensor.name} was given as {tensor.datatype}; the model takes {spec}")
    dtype = numpy_type(spec)
    try:
        array = np.array(tensor.data, dtype=object)
        shape = array.shape if tensor.shape is None else tuple(tensor.shape)
        if min(shape, default=0) < 0:
            raise InvalidInputError(f"{tensor.name}: {list(shape)} is no shape; the model takes {spec}")
        return _cast(array, dtype, spec).reshape(shape)
    except (ValueError, TypeError, OverflowError) as error:
        raise InvalidInputError(f"{tensor.name}: {error}; the model takes {spec}") from error


def _cast(array: Tensor, dtype: np.dtype[Any], spec: TensorSpec) -> Tensor:
    """JSON has one kind of number; a fraction for an integer input is a mistake, not something to round."""
    allowed: tuple[type, ...] = {"f": (int, float), "b": (bool,), "O": (str,)}.get(dtype.kind, (int,))
    for value in array.flat:
        if not isinstance(value, allowed) or (isinstance(value, bool) and dtype.kind != "b"):
            raise InvalidInputError(f"{spec.name} was given {str(value)[:40]!r}; the model takes {spec}")
    return array if dtype.kind == "O" else array.astype(dtype)


def _read_json(path: Path, inputs: Sequence[TensorSpec]) -> dict[str, Tensor]:
    return tensors_from_json(msgspec.json.decode(path.read_bytes(), type=dict[str, Any]), inputs)


def _read_npy(path: Path, inputs: Sequence[TensorSpec]) -> dict[str, Tensor]:
    if len(inputs) != 1:
        names = listing(spec.name for spec in inputs)
        raise InvalidInputError(f"{path.name} holds one array, the model takes {names}: give a .npz file")
    with path.open("rb") as stream:
        return {inputs[0].name: _read_array(stream, path.stat().st_size)}


def _read_npz(path: Path, inputs: Sequence[TensorSpec]) -> dict[str, Tensor]:
    del inputs
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        if len(members) > MAXIMUM_MEMBERS or sum(member.file_size for member in members) > MAXIMUM_BYTES:
            raise InvalidInputError(f"{path.name}: unpacks to more than {MAXIMUM_BYTES} bytes")
        tensors = {}
        for member in members:
            with archive.open(member) as stream:
                tensors[member.filename.removesuffix(".npy")] = _read_array(stream, member.file_size)
        return tensors


def _read_array(stream: IO[bytes], size: int) -> Tensor:
    """One array in numpy's own format; `size` is how many bytes there are, header included."""
    major, _minor = np.lib.format.read_magic(stream)
    read_header = np.lib.format.read_array_header_1_0 if major == 1 else np.lib.format.read_array_header_2_0
    shape, by_columns, dtype = read_header(stream, max_header_size=MAXIMUM_HEADER_BYTES)
    if dtype.hasobject:
        raise InvalidInputError("arrays of Python objects are not read: they can run code")
    if any(isinstance(size, bool) or size < 0 for size in shape):
        # A negative count would read to the end of the stream, however far that is.
        raise InvalidInputError(f"{list(shape)} is no shape")
    count = math.prod(shape)
    if count * dtype.itemsize > size:
        raise InvalidInputError(f"an array of {count * dtype.itemsize} bytes is announced, {size} are there")
    content = stream.read(count * dtype.itemsize)
    return np.frombuffer(content, dtype, count).reshape(shape, order="F" if by_columns else "C").copy(order="C")
