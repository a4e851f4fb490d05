"""From files to a commented manifest: what they say of themselves, and where their owner must decide.

* Nothing that a file or its name says can be more than the value, or the comment, that it is written as.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bundler import onnx
from bundler.onnx import OnnxFile
from bundler.sources.reference import escape, relative
from manifests.errors import FormatError, SourceNotFoundError, printable
from manifests.naming import checked_id
from manifests.publish import translated

_TASKS: Final = {
    "detect": "object-detection",
    "segment": "instance-segmentation",
    "pose": "keypoint-detection",
    "classify": "classification",
}
"""What the exporter of the YOLO family calls its tasks."""
_ELEMENTS: Final = {1: "fp32", 10: "fp16", 16: "bf16", 2: "int8", 3: "int8"}
_ARCHITECTURE: Final = re.compile(r"yolo(?:v)?(5|7|8|9|10|11|12|26)", re.IGNORECASE)
_PLAIN: Final = re.compile(r"(?:\.{0,2}/|[A-Za-z])[A-Za-z0-9._/@=+-]*(?:://[A-Za-z0-9._/@=+-]+)?")
_WORDS: Final = frozenset({"false", "n", "no", "null", "off", "on", "true", "y", "yes"})
"""What YAML takes for something else than text."""
_HEAD: Final = """\
# What this bundle line carries. `bundle lock` pins it, `bundle build` makes the bundle.
name: {name} # the bundle line: 1 to 63 of a-z, 0-9, '.', '_', '-'
models:
"""


@dataclass(frozen=True, slots=True)
class _Found:
    """A file or folder on this machine, or a source of another kind: as it was given, and as a manifest writes it."""

    given: str
    source: str
    files: tuple[Path, ...]


def manifest(sources: Sequence[str], *, name: str, folder: Path) -> str:
    """The text of a manifest for `folder` with one model for each source.

    Errors: `SourceNotFoundError`, `StorageError`.
    """
    return _HEAD.format(name=_value(name)) + "\n".join(
        _model(_look(source, folder), number) for number, source in enumerate(sources, 1)
    )


def _look(source: str, folder: Path) -> _Found:
    if "://" in source:
        return _Found(source, source, ())
    path = Path(source)
    if not path.exists():
        raise SourceNotFoundError(f"{source}: no such file or folder", hint="name a file, a folder or a source")
    with translated(path):
        files = sorted(inner for inner in path.rglob("*") if inner.is_file()) if path.is_dir() else [path]
    written = escape(relative(path.absolute(), folder))
    return _Found(source, written if written.startswith("../") else f"./{written}", tuple(files))


def _model(found: _Found, number: int) -> str:
    graphs = [path for path in found.files if path.suffix == ".onnx"]
    model_id = _value(_model_id(found.given, number))
    if len(graphs) == 1 and len(found.files) == 1:
        return _onnx_model(graphs[0], model_id, _value(found.source))
    lines = [f"  - id: {model_id} # the name that clients ask for: choose it", "    task: raw # carried as it is"]
    pickles = [path.name for path in found.files if path.suffix in {".pt", ".pth", ".pkl"}]
    if pickles:
        lines.append(f"    # {printable(pickles[0])} is carried, never loaded: export it to ONNX to run it on the site")
    lines.append(f"    source: {_value(found.source)}")
    if found.source.startswith("hf://"):
        lines.append('    # include: ["*.json", "*.safetensors"]  # by default every file of the repository')
    return "\n".join(lines) + "\n"


def _onnx_model(path: Path, model_id: str, source: str) -> str:
    try:
        with translated(path), path.open("rb") as stream:
            graph = onnx.read_file(stream, subject=str(path))
    except FormatError as error:
        return f"  # {error}\n  - id: {model_id}\n    task: raw\n    source: {source}\n"
    task = _TASKS.get(graph.metadata.get("task", ""), "raw")
    architecture = _architecture(graph, path)
    lines = [
        f"  - id: {model_id} # the name that clients ask for: choose it",
        f"    task: {task}" + ("" if task != "raw" else " # the file does not say: object-detection, embedding, …?"),
    ]
    if architecture:
        lines.append(f"    architecture: {architecture}")
    if words := graph.metadata.get("license", "").split():
        lines.append(f"    license: {_value(words[0])} # what the file says of itself")
    lines.append("    backend: onnx")
    if graph.inputs and (quantization := _ELEMENTS.get(graph.inputs[0].element_type)):
        lines.append(f"    quantization: {quantization}")
    shapes = printable(", ".join(f"{entry.name} {list(entry.shape)}".replace("None", "any") for entry in graph.inputs))
    lines += [f"    # opset {graph.opset}; inputs: {shapes}", "    files:", f"      weights.onnx: {source}"]
    return "\n".join(lines) + "\n"


def _architecture(graph: OnnxFile, path: Path) -> str:
    """`yolov8`, `yolov11`, `yolo26`: as clients spell it; empty where neither file name nor metadata says it."""
    said = _ARCHITECTURE.search(graph.metadata.get("description", "")) or _ARCHITECTURE.search(path.stem)
    if said is None:
        return ""
    return f"yolo{said[1]}" if said[1] == "26" else f"yolov{said[1]}"


def _model_id(source: str, number: int) -> str:
    text = re.split(r"[@#]", source.partition("://")[2] or Path(source).absolute().stem)[0]
    parts = [re.sub(r"[^A-Za-z0-9._-]+", "-", part).strip("-._") for part in text.split("/")]
    usable = "/".join(part for part in parts if part)
    return checked_id(usable if source.startswith("hf://") else f"{usable.rpartition('/')[2] or 'model'}/{number}")


def _value(text: str) -> str:
    """`text` as a value in YAML: in quotes, unless nobody could take it for anything else."""
    if _PLAIN.fullmatch(text) and text.lower() not in _WORDS:
        return text
    return '"' + "".join(map(_character, text)) + '"'


def _character(character: str) -> str:
    if character in '"\\':
        return f"\\{character}"
    return character if character.isprintable() else f"\\U{ord(character):08x}"
