"""What is read of an ONNX file without a runtime: shapes, weights by bytes, files beside it; nothing is believed."""

import tempfile

import numpy as np
import pytest

from bundler import onnx
from bundler.onnx import OnnxFile
from manifests.errors import FormatError
from onnx_files import Node, Tensor, detector_model, onnx_model

FLOAT, INT8, HALF = 1, 3, 10


def varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*encoded, value])


def number(field: int, value: int) -> bytes:
    return varint(field << 3) + varint(value)


def part(field: int, content: bytes) -> bytes:
    return varint(field << 3 | 2) + varint(len(content)) + content


def tensor(kind: int, *dims: int, packed: bool = True, location: str = "") -> bytes:
    sizes = part(1, b"".join(map(varint, dims))) if packed else b"".join(number(1, size) for size in dims)
    beside = part(13, part(1, b"location") + part(2, location.encode())) + number(14, 1) if location else b""
    return sizes + number(2, kind) + part(8, b"w") + beside


def model(graph: bytes, functions: bytes = b"") -> bytes:
    return number(1, 8) + part(7, graph) + part(8, number(2, 17)) + (part(25, functions) if functions else b"")


def read(content: bytes) -> OnnxFile:
    return onnx.read(memoryview(content), subject="m.onnx")


def test_inputs_and_outputs_are_told_with_their_open_axes() -> None:
    found = read(onnx_model([], [Tensor("x", ["n", 3, 8, 8])], [Tensor("y", [1, 84, "a"]), Tensor("z", [])]))
    assert [(entry.name, entry.shape) for entry in found.inputs] == [("x", (None, 3, 8, 8))]
    assert [(entry.name, entry.shape) for entry in found.outputs] == [("y", (1, 84, None)), ("z", ())]


def test_an_axis_of_minus_one_is_open() -> None:
    shape = part(1, number(1, (1 << 64) - 1)) + part(1, number(1, 3))
    value = part(1, b"x") + part(2, part(1, number(1, FLOAT) + part(2, shape)))
    found = read(model(part(11, value)))
    assert found.inputs[0].shape == (None, 3)
    assert found.static_batch is None


@pytest.mark.parametrize("packed", [True, False])
def test_weights_count_by_their_bytes_wherever_they_are(packed: bool) -> None:
    inner = part(5, tensor(HALF, 5, packed=packed))
    constant = part(1, part(5, part(5, tensor(INT8, 7, packed=packed))))
    branch = part(1, part(5, part(6, inner)))
    function = part(7, part(5, part(5, tensor(FLOAT, 2, packed=packed))))
    found = read(model(part(5, tensor(FLOAT, 3, 4, packed=packed)) + constant + branch, function))
    assert found.weights == {FLOAT: 48 + 8, INT8: 7, HALF: 10}


def test_files_beside_the_model_are_named_once_each() -> None:
    graph = b"".join(part(5, tensor(FLOAT, 1, location=name)) for name in ("b.data", "a.data", "b.data"))
    assert read(model(graph)).external == ("a.data", "b.data")


def test_a_model_with_its_weights_inside_names_no_file() -> None:
    found = read(detector_model(np.zeros((1, 6, 21), np.float32)))
    assert found.external == ()
    assert found.weights == {FLOAT: 4 * 126}


def nested(depth: int) -> bytes:
    graph = b""
    for _ in range(depth):
        graph = part(1, part(5, part(6, graph)))
    return model(graph)


def test_graphs_inside_graphs_have_a_bound() -> None:
    assert read(nested(20)).opset == 17
    with pytest.raises(FormatError, match="not an ONNX model"):
        read(nested(5000))


@pytest.mark.parametrize(
    "broken",
    [
        number(2, FLOAT) + part(8, b"\xff\xfe"),
        part(1, b"\xff" * 9),
        part(13, number(1, 5)),
        part(13, part(1, b"location") + part(2, b"\xff")),
    ],
)
def test_a_tensor_that_lies_about_its_structure_is_refused(broken: bytes) -> None:
    with pytest.raises(FormatError, match="not an ONNX model"):
        read(model(part(5, broken)))


def test_dimensions_that_no_memory_holds_cost_none() -> None:
    huge = tensor(FLOAT, *([(1 << 62)] * 1000))
    assert read(model(part(5, huge))).weights[FLOAT] > 0


def test_a_file_on_a_disk_gives_the_same() -> None:
    content = onnx_model([Node("Relu", ["x"], ["y"])], [Tensor("x", [1])], [Tensor("y", [1])], metadata={"a": "b"})
    with tempfile.TemporaryFile() as stream:
        stream.write(content)
        stream.flush()
        assert onnx.read_file(stream, subject="m") == read(content)


def test_every_cut_of_a_model_is_read_or_refused() -> None:
    content = model(part(5, tensor(FLOAT, 3, location="w.bin")) + part(1, part(5, part(6, part(5, tensor(INT8, 2))))))
    for length in range(len(content)):
        try:
            read(content[:length])
        except FormatError:
            continue
