"""Small ONNX graphs, written byte by byte: what a test needs of a model, without a library that makes models.

The field numbers are those of onnx.proto3. A graph made here is one that onnxruntime accepts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

Dimension = int | str

_VARINT, _BYTES = 0, 2
_ATTRIBUTE_IS_INTEGER = 2
_ELEMENTS = {
    np.dtype(name): number
    for name, number in {
        "float32": 1,
        "uint8": 2,
        "int8": 3,
        "int32": 6,
        "int64": 7,
        "bool": 9,
        "float16": 10,
        "float64": 11,
    }.items()
}


@dataclass(frozen=True)
class Tensor:
    """A graph's input or output; a dimension is a number, or a name for a free one."""

    name: str
    shape: Sequence[Dimension]
    dtype: str = "float32"


@dataclass(frozen=True)
class Node:
    """One operator, with integer attributes."""

    operator: str
    inputs: Sequence[str]
    outputs: Sequence[str]
    attributes: Mapping[str, int] | None = None


def onnx_model(
    nodes: Sequence[Node],
    inputs: Sequence[Tensor],
    outputs: Sequence[Tensor],
    *,
    constants: Mapping[str, np.ndarray[Any, Any]] | None = None,
    metadata: Mapping[str, str] | None = None,
    opset: int = 17,
) -> bytes:
    """The bytes of a ModelProto."""
    graph = b"".join(
        [
            *(_field(1, _node(node)) for node in nodes),
            _field(2, b"graph"),
            *(_field(5, _constant(name, array)) for name, array in (constants or {}).items()),
            *(_field(11, _value(tensor)) for tensor in inputs),
            *(_field(12, _value(tensor)) for tensor in outputs),
        ]
    )
    properties = [
        _field(14, _field(1, key.encode()) + _field(2, text.encode())) for key, text in (metadata or {}).items()
    ]
    return _number(1, 8) + _field(7, graph) + _field(8, _field(1, b"") + _number(2, opset)) + b"".join(properties)


def identity_model(tensor: Tensor, *, output: str = "output") -> bytes:
    """A graph that answers with what it was given."""
    return onnx_model(
        [Node("Identity", [tensor.name], [output])], [tensor], [Tensor(output, tensor.shape, tensor.dtype)]
    )


def detector_model(
    answer: np.ndarray[Any, Any],
    *,
    size: tuple[Dimension, Dimension] = (64, 64),
    dtype: str = "float32",
    output_shape: Sequence[Dimension] | None = None,
    metadata: Mapping[str, str] | None = None,
) -> bytes:
    """A graph that takes pictures and always answers with `answer`; its batch is the answer's."""
    return onnx_model(
        [Node("Identity", ["fixed"], ["output0"])],
        [Tensor("images", [answer.shape[0], 3, *size], dtype)],
        [Tensor("output0", output_shape or answer.shape, str(answer.dtype))],
        constants={"fixed": answer},
        metadata=metadata,
    )


def write(folder: Path, content: bytes, *, name: str = "weights.onnx") -> Path:
    """A package folder's file."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_bytes(content)
    return path


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*encoded, value])


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3 | _VARINT) + _varint(value)


def _field(field: int, content: bytes) -> bytes:
    return _varint(field << 3 | _BYTES) + _varint(len(content)) + content


def _node(node: Node) -> bytes:
    names = [_field(1, name.encode()) for name in node.inputs] + [_field(2, name.encode()) for name in node.outputs]
    attributes = [
        _field(5, _field(1, name.encode()) + _number(3, value) + _number(20, _ATTRIBUTE_IS_INTEGER))
        for name, value in (node.attributes or {}).items()
    ]
    return b"".join(names) + _field(4, node.operator.encode()) + b"".join(attributes)


def _constant(name: str, array: np.ndarray[Any, Any]) -> bytes:
    dimensions = b"".join(_number(1, size) for size in array.shape)
    return dimensions + _number(2, _ELEMENTS[array.dtype]) + _field(8, name.encode()) + _field(9, array.tobytes())


def _value(tensor: Tensor) -> bytes:
    sizes = [_number(1, size) if isinstance(size, int) else _field(2, size.encode()) for size in tensor.shape]
    shape = b"".join(_field(1, size) for size in sizes)
    kind = _number(1, _ELEMENTS[np.dtype(tensor.dtype)]) + _field(2, shape)
    return _field(1, tensor.name.encode()) + _field(2, _field(1, kind))
