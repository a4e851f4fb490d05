"""What an ONNX file says of itself, read without a runtime: opset, metadata, shapes, how its weights are kept.

Owns a bounded walk over protobuf's wire format; weights are skipped, never loaded.
* The file is only read; one that lies about its structure is a `FormatError`.
* Source: onnx.proto (ModelProto 7 graph, 8 opset_import, 14 metadata_props, 25 functions; GraphProto 1 node,
  5 initializer, 11 input, 12 output; NodeProto 5 attribute; FunctionProto 7 node; AttributeProto 5 t, 6 g, 10 tensors,
  11 graphs; TensorProto 1 dims, 2 data_type, 8 name, 13 external_data, 14 data_location).
"""

import mmap
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import BinaryIO, Final, TypeAlias

from manifests.errors import FormatError

_MAXIMUM_TEXT: Final = 4 << 20
_MAXIMUM_DEPTH: Final = 32
"""Graphs inside nodes of graphs."""
_MAXIMUM_LOCATIONS: Final = 100_000
_MAXIMUM_ELEMENTS: Final = 1 << 62
_BITS: Final = {
    1: 32, 2: 8, 3: 8, 4: 16, 5: 16, 6: 32, 7: 64, 9: 8, 10: 16, 11: 64, 12: 32, 13: 64, 14: 64, 15: 128, 16: 16,
    17: 8, 18: 8, 19: 8, 20: 8, 21: 4, 22: 4, 23: 4,
}  # fmt: skip
"""Bits of one element, by the number of its type."""
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
EXPORTED_TASKS: Final = {
    "detect": "object-detection",
    "segment": "instance-segmentation",
    "pose": "keypoint-detection",
    "classify": "classification",
}
"""What the exporter of the YOLO family calls its tasks."""
Field: TypeAlias = tuple[int, "int | memoryview"]


@dataclass(frozen=True, slots=True)
class Input:
    """One input or output of the graph: a dimension is its length, or None where it is open."""

    name: str
    element_type: int
    shape: tuple[int | None, ...]


@dataclass(frozen=True, slots=True)
class OnnxFile:
    """`opset` is that of the default domain; `metadata` is what the exporter left.

    `weights` counts bytes of constant tensors by the number of their element type; `external` are the files beside the
    model that hold some of them, as the model names them (foreign text: nothing that was checked).
    """

    opset: int
    metadata: dict[str, str]
    inputs: tuple[Input, ...]
    outputs: tuple[Input, ...] = ()
    weights: Mapping[int, int] = field(default_factory=dict)
    external: tuple[str, ...] = ()

    @property
    def static_batch(self) -> int | None:
        """The first dimension of the first input, where it is fixed."""
        return self.inputs[0].shape[0] if self.inputs and self.inputs[0].shape else None


def read(content: memoryview, *, subject: str) -> OnnxFile:
    """What the model in `content` says of itself. Errors: `FormatError` if this is not an ONNX model."""
    opsets: dict[str, int] = {}
    metadata: dict[str, str] = {}
    graph = _Graph()
    try:
        for number, value in _fields(content):
            if number == 8 and isinstance(value, memoryview):
                opset = dict(_fields(value))
                opsets[_text(opset.get(1, memoryview(b"")))] = _number(opset.get(2, 0))
            elif number == 14 and isinstance(value, memoryview):
                entry = dict(_fields(value))
                metadata[_text(entry.get(1, memoryview(b"")))] = _text(entry.get(2, memoryview(b"")))
            elif number == 7 and isinstance(value, memoryview):
                graph.read(value)
            elif number == 25 and isinstance(value, memoryview):
                graph.read_function(value)
    except (ValueError, IndexError, UnicodeDecodeError) as error:
        raise FormatError(f"{subject}: not an ONNX model") from error
    opset_version = opsets.get("", opsets.get("ai.onnx", 0))
    if not opset_version:
        raise FormatError(f"{subject}: not an ONNX model: it names no opset")
    return OnnxFile(
        opset_version,
        metadata,
        tuple(entry for entry in graph.inputs if entry.name not in graph.initialised),
        tuple(graph.outputs),
        dict(graph.weights),
        tuple(sorted(graph.external)),
    )


def read_file(stream: BinaryIO, *, subject: str) -> OnnxFile:
    """As `read`, for an open file on a disk: mapped, so that weights cost no memory whatever their size."""
    if not stream.seek(0, os.SEEK_END):
        raise FormatError(f"{subject}: not an ONNX model: it is empty")
    return read(memoryview(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)), subject=subject)


class _Graph:
    """What a walk over the main graph gathers; of the graphs inside its nodes, only the tensors count."""

    def __init__(self) -> None:
        self.inputs: list[Input] = []
        self.outputs: list[Input] = []
        self.initialised: set[str] = set()
        """Old files list their initialisers among the inputs."""
        self.weights: dict[int, int] = {}
        self.external: set[str] = set()

    def read(self, graph: memoryview, *, depth: int = 0) -> None:
        """One graph."""
        if depth > _MAXIMUM_DEPTH:
            raise ValueError("graphs are nested too deeply")
        for number, value in _fields(graph):
            if not isinstance(value, memoryview):
                continue
            if number == 1:
                self._node(value, depth=depth)
            elif number == 5:
                self._tensor(value)
            elif number in {11, 12} and not depth:
                (self.inputs if number == 11 else self.outputs).append(_input(value))

    def read_function(self, function: memoryview) -> None:
        """The nodes of a function of the model."""
        for number, value in _fields(function):
            if number == 7 and isinstance(value, memoryview):
                self._node(value, depth=1)

    def _node(self, node: memoryview, *, depth: int) -> None:
        for number, attribute in _fields(node):
            if number != 5 or not isinstance(attribute, memoryview):
                continue
            for kind, value in _fields(attribute):
                if kind in {5, 10} and isinstance(value, memoryview):
                    self._tensor(value)
                elif kind in {6, 11} and isinstance(value, memoryview):
                    self.read(value, depth=depth + 1)

    def _tensor(self, tensor: memoryview) -> None:
        kind, elements = 0, 1
        for number, value in _fields(tensor):
            if number == 1:
                elements = min(elements * _product(value), _MAXIMUM_ELEMENTS)
            elif number == 2:
                kind = _number(value)
            elif number == 8:
                self.initialised.add(_text(value))
            elif number == 13:
                self._location(_bytes(value))
        self.weights[kind] = self.weights.get(kind, 0) + elements * _BITS.get(kind, 0) // 8

    def _location(self, entry: memoryview) -> None:
        pair = dict(_fields(entry))
        if _text(pair.get(1, memoryview(b""))) == "location":
            self.external.add(_text(pair.get(2, memoryview(b""))))
        if len(self.external) > _MAXIMUM_LOCATIONS:
            raise ValueError("its weights lie in too many files")


def _product(value: "int | memoryview") -> int:
    """Dimensions: one, or many packed together."""
    if isinstance(value, int):
        return value
    product, place = 1, 0
    while place < len(value):
        dimension, place = _varint(value, place)
        product = min(product * dimension, _MAXIMUM_ELEMENTS)
    return product


def _input(value: memoryview) -> Input:
    entry = dict(_fields(value))
    tensor = dict(_fields(_part(_part(entry, 2), 1)))
    shape = (inner for field, inner in _fields(_part(tensor, 2)) if field == 1 and isinstance(inner, memoryview))
    return Input(_text(entry.get(1, memoryview(b""))), _number(tensor.get(1, 0)), tuple(_dimension(d) for d in shape))


def _part(message: "dict[int, int | memoryview] | memoryview", number: int) -> memoryview:
    found = (message if isinstance(message, dict) else dict(_fields(message))).get(number, memoryview(b""))
    return _bytes(found)


def _dimension(value: memoryview) -> int | None:
    """A length; some exporters write -1 for an open one, which is a large number on the wire."""
    entry = dict(_fields(value))
    length = _number(entry[1]) if 1 in entry else None
    return None if length is None or length >= 1 << 63 else length


def _text(value: "int | memoryview") -> str:
    text = _bytes(value)
    if len(text) > _MAXIMUM_TEXT:
        raise ValueError("a text is too long")
    return bytes(text).decode()


def _bytes(value: "int | memoryview") -> memoryview:
    if isinstance(value, memoryview):
        return value
    raise ValueError("a number stands where bytes were expected")


def _number(value: "int | memoryview") -> int:
    if isinstance(value, int):
        return value
    raise ValueError("bytes stand where a number was expected")


def _fields(message: memoryview) -> Iterator[Field]:
    place = 0
    while place < len(message):
        key, place = _varint(message, place)
        number, wire = key >> 3, key & 7
        if wire == _VARINT:
            value, place = _varint(message, place)
            yield number, value
            continue
        if wire == _BYTES:
            length, place = _varint(message, place)
        else:
            length = {_FIXED64: 8, _FIXED32: 4}.get(wire, -1)
        if length < 0 or place + length > len(message):
            raise ValueError("a field is longer than its message")
        yield number, message[place : place + length]
        place += length


def _varint(message: memoryview, place: int) -> tuple[int, int]:
    value = shift = 0
    while shift < 64:
        byte = message[place]
        place += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, place
        shift += 7
    raise ValueError("a number is too long")
