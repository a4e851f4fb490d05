"""Raw tensors: arrays by name in, arrays by name out; and the session underneath."""

import json
import pickle
import zipfile
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from installed import model, package
from manifests.errors import InvalidInputError, ModelError, ModelLoadError
from onnx_files import Node, Tensor, identity_model, onnx_model, write
from runtime.models.load import load_model
from runtime.models.raw import RawTensors
from runtime.session import available_providers, maximum_opset, open_session

SUM = onnx_model(
    [Node("Add", ["a", "b"], ["sum"])],
    [Tensor("a", ["n", 2]), Tensor("b", ["n", 2])],
    [Tensor("sum", ["n", 2])],
)


def load(folder: Path, content: bytes) -> RawTensors:
    write(folder, content)
    loaded = load_model(model("sum/1", [], task="raw", architecture=None), package(folder))
    assert isinstance(loaded, RawTensors)
    return loaded


def ones(*shape: int, dtype: str = "float32") -> np.ndarray[Any, Any]:
    return np.ones(shape, dtype)


def npz(path: Path, **arrays: np.ndarray[Any, Any]) -> Path:
    np.savez(path, **arrays)  # type: ignore[arg-type]
    return path


def test_arrays_by_name_give_arrays_by_name(tmp_path: Path) -> None:
    result = load(tmp_path, SUM).infer({"a": ones(1, 2), "b": ones(1, 2)})
    assert result.to_dict() == {"outputs": [{"name": "sum", "datatype": "FP32", "shape": [1, 2], "data": [2.0, 2.0]}]}


def test_a_list_of_inputs_gives_a_list_of_outputs(tmp_path: Path) -> None:
    feeds = {"a": ones(1, 2), "b": ones(1, 2)}
    assert len(load(tmp_path, SUM).infer([feeds, feeds])) == 2


@pytest.mark.parametrize(
    "document",
    [
        {"a": [[1, 2]], "b": [[3.5, 4]]},
        {
            "inputs": [
                {"name": "b", "datatype": "FP32", "shape": [1, 2], "data": [3.5, 4]},
                {"name": "a", "shape": [1, 2], "data": [[1, 2]]},
            ]
        },
    ],
)
def test_json_files_of_both_forms_are_read(tmp_path: Path, document: dict[str, Any]) -> None:
    path = tmp_path / "input.json"
    path.write_text(json.dumps(document))
    assert load(tmp_path, SUM).infer(path).tensors["sum"].tolist() == [[4.5, 6]]


def test_npz_files_are_read_compressed_or_not_and_in_any_order_of_axes(tmp_path: Path) -> None:
    by_columns = np.asfortranarray(np.arange(6, dtype=np.float32).reshape(3, 2))
    np.savez_compressed(tmp_path / "packed.npz", a=by_columns, b=ones(3, 2))
    plain = npz(tmp_path / "plain.npz", a=by_columns, b=ones(3, 2))
    loaded = load(tmp_path, SUM)
    for path in (plain, str(tmp_path / "packed.npz")):
        assert loaded.infer(path).tensors["sum"].tolist() == [[1, 2], [3, 4], [5, 6]]


def test_a_npy_file_feeds_the_one_input(tmp_path: Path) -> None:
    np.save(tmp_path / "input.npy", ones(2, dtype="int64"))
    loaded = load(tmp_path, identity_model(Tensor("x", [2], "int64")))
    assert loaded.infer(tmp_path / "input.npy").to_dict()["outputs"] == [
        {"name": "output", "datatype": "INT64", "shape": [2], "data": [1, 1]}
    ]


def test_a_npy_file_cannot_feed_two_inputs(tmp_path: Path) -> None:
    np.save(tmp_path / "input.npy", ones(1, 2))
    with pytest.raises(InvalidInputError, match=r"holds one array, the model takes a, b"):
        load(tmp_path, SUM).infer(tmp_path / "input.npy")


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int8", "int32", "int64", "float16", "float32", "float64"])
def test_every_datatype_goes_in_and_comes_out_as_it_is(tmp_path: Path, dtype: str) -> None:
    loaded = load(tmp_path, identity_model(Tensor("x", ["n"], dtype)))
    (answer,) = loaded.infer({"x": ones(3, dtype=dtype)}).tensors.values()
    assert (answer.dtype, answer.tolist()) == (np.dtype(dtype), ones(3, dtype=dtype).tolist())


def test_a_scalar_has_no_dimensions(tmp_path: Path) -> None:
    (tmp_path / "input.json").write_text('{"x": 5}')
    loaded = load(tmp_path, identity_model(Tensor("x", [])))
    assert loaded.infer(tmp_path / "input.json").to_dict()["outputs"][0]["shape"] == []


@pytest.mark.parametrize(
    ("feeds", "message"),
    [
        ({}, "inputs given are none"),
        ({"a": ones(1, 2)}, "inputs given are a;"),
        ({"a": ones(1, 2), "b": ones(1, 2), "c": ones(1)}, "inputs given are a, b, c"),
        ({"a": ones(1, 3), "b": ones(1, 2)}, r"a was given with shape \[1, 3\]"),
        ({"a": ones(2), "b": ones(1, 2)}, r"a was given with shape \[2\]"),
        ({"a": ones(1, 2, dtype="float64"), "b": ones(1, 2)}, "a was given as FP64"),
        ({"a": ones(1, 2, dtype=">f4"), "b": ones(1, 2)}, "a was given as >f4"),
    ],
)
def test_what_does_not_fit_is_refused_and_the_message_says_what_would(
    tmp_path: Path, feeds: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidInputError, match=message) as caught:
        load(tmp_path, SUM).infer(feeds)
    assert "takes a FP32 [?, 2]; b FP32 [?, 2]" in str(caught.value)


@pytest.mark.parametrize("source", [12, [1, 2], {"a": [1.0]}, b"bytes"])
def test_what_is_no_mapping_of_arrays_is_refused(tmp_path: Path, source: object) -> None:
    with pytest.raises(InvalidInputError, match="takes arrays by name"):
        load(tmp_path, SUM).infer([source])


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{",
        "[" * 100_000,
        '{"a": [[1, 2]], "x": [1]}',
        '{"a": [[1, "2"]], "b": [[1, 2]]}',
        '{"a": [[1, 2], [3]], "b": [[1, 2]]}',
        '{"a": [[1, true]], "b": [[1, 2]]}',
        '{"a": [[1, null]], "b": [[1, 2]]}',
        '{"inputs": [{"name": "a", "shape": [5, 5], "data": [1]}]}',
        '{"inputs": [{"name": "a", "datatype": "INT8", "shape": [1, 2], "data": [1, 2]}]}',
        '{"inputs": [{"name": "a"}]}',
        '{"inputs": [5]}',
    ],
)
def test_malformed_json_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "input.json").write_text(text)
    with pytest.raises(InvalidInputError):
        load(tmp_path, SUM).infer(tmp_path / "input.json")


@pytest.mark.parametrize("number", ["1.5", "300", "-1", "1e3"])
def test_numbers_that_an_integer_input_cannot_hold_are_refused(tmp_path: Path, number: str) -> None:
    (tmp_path / "input.json").write_text(f'{{"x": [{number}]}}')
    with pytest.raises(InvalidInputError):
        load(tmp_path, identity_model(Tensor("x", ["n"], "uint8"))).infer(tmp_path / "input.json")


class WouldRunCode:
    def __reduce__(self) -> tuple[Any, ...]:
        return (pytest.fail, ("a pickle was loaded",))


def test_pickled_objects_in_arrays_are_never_loaded(tmp_path: Path) -> None:
    np.save(tmp_path / "input.npy", np.array([WouldRunCode()], dtype=object), allow_pickle=True)
    (tmp_path / "pickle.npy").write_bytes(pickle.dumps(WouldRunCode()))
    loaded = load(tmp_path, identity_model(Tensor("x", ["n"])))
    for name in ("input.npy", "pickle.npy"):
        with pytest.raises(InvalidInputError):
            loaded.infer(tmp_path / name)


def test_an_array_that_announces_more_than_is_there_is_refused_before_memory_is_taken(tmp_path: Path) -> None:
    header = BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (1 << 40, 1 << 10)})
    (tmp_path / "input.npy").write_bytes(header.getvalue())
    with zipfile.ZipFile(tmp_path / "input.npz", "w") as archive:
        archive.writestr("a.npy", header.getvalue())
    loaded = load(tmp_path, identity_model(Tensor("x", ["n"])))
    for name in ("input.npy", "input.npz"):
        with pytest.raises(InvalidInputError, match="bytes is announced"):
            loaded.infer(tmp_path / name)


@pytest.mark.parametrize("shape", [(-1,), (-2, -2), (True, 2), (2, False)])
def test_a_shape_that_is_none_is_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    header = BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": shape})
    (tmp_path / "input.npy").write_bytes(header.getvalue() + bytes(64))
    with zipfile.ZipFile(tmp_path / "input.npz", "w") as archive:
        archive.writestr("x.npy", header.getvalue() + bytes(64))
    (tmp_path / "input.json").write_text('{"inputs": [{"name": "x", "shape": [-1], "data": [1]}]}')
    loaded = load(tmp_path, identity_model(Tensor("x", ["n"])))
    for name in ("input.npy", "input.npz", "input.json"):
        with pytest.raises(InvalidInputError, match="is no shape"):
            loaded.infer(tmp_path / name)


def test_numbers_that_json_cannot_say_are_null_there_and_themselves_in_the_arrays(tmp_path: Path) -> None:
    given = np.array([1, np.nan, np.inf, -np.inf], np.float32)
    result = load(tmp_path, identity_model(Tensor("x", ["n"]))).infer({"x": given})
    assert result.to_dict()["outputs"][0]["data"] == [1.0, None, None, None]
    json.dumps(result.to_dict(), allow_nan=False)
    np.testing.assert_array_equal(result["output"], given)
    assert (list(result), len(result)) == (["output"], 1)


def test_damaged_and_unknown_files_are_refused(tmp_path: Path) -> None:
    whole = npz(tmp_path / "whole.npz", a=ones(1, 2), b=ones(1, 2)).read_bytes()
    loaded = load(tmp_path, SUM)
    for length in range(0, len(whole), 11):
        (tmp_path / "input.npz").write_bytes(whole[:length])
        with pytest.raises(InvalidInputError):
            loaded.infer(tmp_path / "input.npz")
    for name in ("missing.npz", "weights.onnx", "picture.jpg"):
        with pytest.raises(InvalidInputError):
            loaded.infer(tmp_path / name)


def test_raw_models_have_no_options(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="has no option confidence"):
        load(tmp_path, SUM).infer({"a": ones(1, 2), "b": ones(1, 2)}, confidence=0.5)


class TestSession:
    def test_a_file_that_is_no_graph_is_refused(self, tmp_path: Path) -> None:
        for content in (b"", b"\x00" * 100, SUM[:-5], b"not a graph"):
            with pytest.raises(ModelLoadError, match=r"weights\.onnx"):
                open_session(write(tmp_path, content))

    def test_a_missing_file_and_a_missing_provider_are_named(self, tmp_path: Path) -> None:
        with pytest.raises(ModelLoadError, match="no such file") as caught:
            open_session(tmp_path / "missing.onnx")
        assert caught.value.hint == "install the bundle again"
        with pytest.raises(ModelLoadError, match="has no NoSuchProvider"):
            open_session(write(tmp_path, SUM), providers=["NoSuchProvider"])

    def test_a_graph_that_fails_on_its_input_is_a_model_error(self, tmp_path: Path) -> None:
        content = onnx_model(
            [Node("Gather", ["table", "row"], ["picked"])],
            [Tensor("row", [1], "int64")],
            [Tensor("picked", [1])],
            constants={"table": ones(3)},
        )
        with pytest.raises((ModelError, InvalidInputError), match=r"weights\.onnx"):
            open_session(write(tmp_path, content)).run({"row": np.array([9])})

    def test_the_newest_opset_is_one_that_loads_and_the_next_does_not(self, tmp_path: Path) -> None:
        newest = maximum_opset()
        assert newest is not None
        assert newest >= 21

        def graph(opset: int) -> bytes:
            tensor = Tensor("x", [1])
            return onnx_model([Node("Identity", ["x"], ["y"])], [tensor], [Tensor("y", [1])], opset=opset)

        open_session(write(tmp_path, graph(newest)))
        with pytest.raises(ModelLoadError, match="opset"):
            open_session(write(tmp_path, graph(newest + 1)))

    def test_no_provider_reaches_over_a_network(self) -> None:
        assert "CPUExecutionProvider" in available_providers()
        assert not [name for name in available_providers() if "Azure" in name]

    def test_free_dimensions_and_metadata_are_read(self, tmp_path: Path) -> None:
        content = onnx_model(
            [Node("Identity", ["x"], ["y"])],
            [Tensor("x", ["floor(height/2)", 3, "width"], "uint8")],
            [Tensor("y", ["floor(height/2)", 3, "width"], "uint8")],
            metadata={"author": "Ångström"},
        )
        session = open_session(write(tmp_path, content))
        assert str(session.inputs[0]) == "x UINT8 [?, 3, ?]"
        assert session.metadata == {"author": "Ångström"}
