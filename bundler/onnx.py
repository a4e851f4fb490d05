"""What an ONNX file says of itself, read without a runtime: opset, metadata, the shapes of its inputs.

Owns a bounded walk over protobuf's wire format; weights are skipped, never loaded.
* The file is only read; one that lies about its structure is a `FormatError`.
* Source: onnx.proto (ModelProto 7 graph, 8 opset_import, 14 metadata_props; GraphProto 11 input).
"""

import mmap
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, Final, TypeAlias

from manifests.errors import FormatError

_MAXIMUM_TEXT: Final = 4 << 20
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
Field: TypeAlias = tuple[int, "int | memoryview"]


@dataclass(frozen=True, slots=True)
class Input:
    """One input of the graph: a dimension is its length, or None where it is open."""

    name: str
    element_type: int
    shape: tuple[int | None, ...]


@dataclass(frozen=True, slots=True)
class OnnxFile:
    """`opset` is that of the default domain; `metadata` is what the exporter left."""

    opset: int
    metadata: dict[str, str]
    inputs: tuple[Input, ...]

    @property
    def static_batch(self) -> int | None:
        """The first dimension of the first input, where it is fixed."""
        return self.inputs[0].shape[0] if self.inputs and self.inputs[0].shape else None


def read(content: memoryview, *, subject: str) -> OnnxFile:
    """What the model in `content` says of itself. Errors: `FormatError` if this is not an ONNX model."""
    opsets: dict[str, int] = {}
    metadata: dict[str, str] = {}
    inputs: list[Input] = []
    initialised: set[str] = set()
    try:
        for number, value in _fields(content):
            if number == 8 and isinstance(value, memoryview):
                opset = dict(_fields(value))
                opsets[_text(opset.get(1, memoryview(b"")))] = _number(opset.get(2, 0))
            elif number == 14 and isinstance(value, memoryview):
                entry = dict(_fields(value))
                metadata[_text(entry.get(1, memoryview(b"")))] = _text(entry.get(2, memoryview(b"")))
            elif number == 7 and isinstance(value, memoryview):
                inputs, initialised = _graph(value)
    except (ValueError, IndexError, UnicodeDecodeError) as error:
        raise FormatError(f"{subject}: not an ONNX model") from error
    opset_version = opsets.get("", opsets.get("ai.onnx", 0))
    if not opset_version:
        raise FormatError(f"{subject}: not an ONNX model: it names no opset")
    return OnnxFile(opset_version, metadata, tuple(entry for entry in inputs if entry.name not in initialised))


def read_file(stream: BinaryIO, *, subject: str) -> OnnxFile:
    """As `read`, for an open file on a disk: mapped, so that weights cost no memory whatever their size."""
    if not stream.seek(0, os.SEEK_END):
        raise FormatError(f"{subject}: not an ONNX model: it is empty")
    return read(memoryview(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)), subject=subject)


def _graph(graph: memoryview) -> tuple[list[Input], set[str]]:
    """The inputs, and the names of the initialisers, which old files list among the inputs."""
    inputs: list[Input] = []
    initialised: set[str] = set()
    for number, value in _fields(graph):
        if number == 11 and isinstance(value, memoryview):
            inputs.append(_input(value))
        elif number == 5 and isinstance(value, memoryview):
            initialised.update(_text(inner) for field, inner in _fields(value) if field == 8)
    return inputs, initialised


def _input(value: memoryview) -> Input:
    entry = dict(_fields(value))
    tensor = dict(_fields(_part(_part(entry, 2), 1)))
    shape = (inner for field, inner in _fields(_part(tensor, 2)) if field == 1 and isinstance(inner, memoryview))
    return Input(_text(entry.get(1, memoryview(b""))), _number(tensor.get(1, 0)), tuple(_dimension(d) for d in shape))


def _part(message: "dict[int, int | memoryview] | memoryview", number: int) -> memoryview:
    found = (message if isinstance(message, dict) else dict(_fields(message))).get(number, memoryview(b""))
    return _bytes(found)


def _dimension(value: memoryview) -> int | None:
    entry = dict(_fields(value))
    return _number(entry[1]) if 1 in entry else None


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
