"""What a manifest says of an ONNX file: out of its metadata, its name, its shapes and its weights, in this order.

* What was guessed, and from what, stands in the comment.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, TypeGuard

from bundler.initialise import literals
from bundler.initialise.entries import Noted
from bundler.initialise.heads import GUESSED, Head, head_of, pictures, shape_text
from bundler.onnx import EXPORTED_TASKS, OnnxFile
from manifests.errors import size

_UNKNOWN_TASK: Final = "the file does not say: object-detection, embedding, …?"
_ELEMENTS: Final = {1: "fp32", 10: "fp16", 16: "bf16", 2: "int8", 3: "int8"}
_ELEMENT_NAMES: Final = {
    **_ELEMENTS, 2: "uint8", 6: "int32", 7: "int64", 8: "text", 9: "bool", 11: "fp64",
    17: "fp8", 18: "fp8", 19: "fp8", 20: "fp8", 21: "4 bits", 22: "4 bits", 23: "4 bits",
}  # fmt: skip
_WEIGHTS: Final = frozenset({1, 2, 3, 10, 11, 16, 17, 18, 19, 20, 21, 22, 23})
_ARCHITECTURES: Final = (
    (re.compile(r"yolo[-_ ]?(?:v)?(5|7|8|9|10|11|12|26)(?!\d)", re.IGNORECASE), "yolov{}"),
    (re.compile(r"yolo[-_ ]?(nas|lite|act)", re.IGNORECASE), "yolo{}"),
    (re.compile(r"rf[-_ ]?detr()", re.IGNORECASE), "rfdetr"),
    (re.compile(r"(?<![a-z])(resnet)[-_]?\d*", re.IGNORECASE), "resnet"),
    (re.compile(r"(?<![a-z])(vit)[-_](?:tiny|small|base|large|[tsbl]\d*)", re.IGNORECASE), "vit"),
)
_RUNTIMES: Final = {20: "1.17", 21: "1.18", 22: "1.21", 23: "1.22"}
"""The first onnxruntime that takes an opset."""
_OCR_STAGE: Final = re.compile(r"pp-?ocr", re.IGNORECASE)
_OTHERS: Final = re.compile(r"yolo[-_]?x|yolo.?nas|(?<![a-z])rt[-_]?detr", re.IGNORECASE)
"""Detectors that are told by their names alone."""
_FIRST_NAMES: Final = 6
_LARGEST_SIDE: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Facts:
    """What there is to say of one graph; `classes` is None where their number is unknown."""

    task: Noted
    architecture: Noted | None
    quantization: Noted | None
    license: Noted | None
    notes: tuple[str, ...]
    names: tuple[str, ...]
    classes: int | None
    takes_pictures: bool


def facts(graph: OnnxFile, name: str) -> Facts:
    """What `graph`, in a file that is called `name`, says of itself."""
    said = _architecture(graph.metadata.get("description", ""))
    called = _architecture(name)
    head = head_of(graph, named_yolo="yolo" in said + called or graph.metadata.get("task", "") in EXPORTED_TASKS)
    if _OCR_STAGE.search(name):
        head = Head("raw", note="one stage of an OCR set: name the folder of all its stages to make one model of them")
    if head is not None and head.task == "classification" and "yolo" in name.lower():
        head = Head("raw", note="called YOLO, and one row of numbers a picture: classification?")
    other = _OTHERS.search(f"{name} {graph.metadata.get('description', '')}")
    if other is not None:
        head = Head("raw", note=f"called {other[0]}, whose answers are unlike those of the YOLO that clients know")
    task = _task("" if other is not None else graph.metadata.get("task", ""), head)
    names = literals.names(literals.literal(graph.metadata.get("names", "")))
    classes = len(names) or (head.classes if head is not None and head.task == task.value else None)
    return Facts(
        task,
        _chosen_architecture(said, called, head, task.value),
        quantization(graph),
        _license(graph),
        (*_shapes(graph), *_class_note(names, classes, graph)),
        names,
        classes,
        pictures(graph) is not None,
    )


def quantization(graph: OnnxFile) -> Noted | None:
    """How the weights are kept: by most of their bytes; where there are none, as the input is."""
    weights = {kind: count for kind, count in graph.weights.items() if kind in _WEIGHTS and count}
    if not weights:
        kind = graph.inputs[0].element_type if graph.inputs else 0
        return Noted(_ELEMENTS[kind], "as its input: it has no weights of its own") if kind in _ELEMENTS else None
    by_name: dict[str, int] = {}
    for kind, count in weights.items():
        by_name[_ELEMENTS.get(kind, "unknown")] = by_name.get(_ELEMENTS.get(kind, "unknown"), 0) + count
    most = max(by_name, key=lambda name: (by_name[name], name))
    return Noted(most, _weights_note(weights, most, by_name[most]))


def _weights_note(weights: Mapping[int, int], most: str, count: int) -> str:
    kinds: dict[str, int] = {}
    for kind, part in weights.items():
        kinds[_ELEMENT_NAMES[kind]] = kinds.get(_ELEMENT_NAMES[kind], 0) + part
    parts = sorted(kinds, key=lambda name: (-kinds[name], name))
    mixed = most == "unknown" or count < 0.9 * sum(weights.values())
    listed = "weights: " + ", ".join(f"{name} {size(kinds[name])}" for name in parts) if mixed else ""
    asked = "on a CPU, inference-models takes it only when asked for it" if most in {"fp16", "int8"} else ""
    return "; ".join(part for part in (listed, asked) if part)


def _task(said: str, head: Head | None) -> Noted:
    if said in EXPORTED_TASKS:
        return Noted(EXPORTED_TASKS[said])
    if said:
        return Noted("raw", f"its exporter calls its task {said!r}, for which clients have no name")
    return Noted("raw", _UNKNOWN_TASK) if head is None else Noted(head.task, head.note)


def _architecture(text: str) -> str:
    """`yolov8`, `yolov11`, `yolo26`: as clients spell it; empty where `text` does not say."""
    for pattern, spelled in _ARCHITECTURES:
        if match := pattern.search(text):
            return spelled.format(match[1].lower()).replace("yolov26", "yolo26")
    return ""


def _chosen_architecture(said: str, called: str, head: Head | None, task: str) -> Noted | None:
    shaped = head.architecture if head is not None and head.task == task else ""
    if said:
        return Noted(said)
    if called:
        family = {shaped, *re.findall(r"yolo\w+", head.alike if head else "")}
        differs = "yolo" in shaped and "yolo" in called and called not in family
        return Noted(called, f"by its file name; its shapes are those of {shaped}" if differs else "by its file name")
    if shaped:
        alike = f"{GUESSED}; {head.alike} answer alike" if head is not None and head.alike else GUESSED
        return Noted(shaped, alike if shaped.startswith("yolo") else "")
    if task in {"object-detection", "instance-segmentation", "keypoint-detection"}:
        return Noted("yolov8", "neither file nor name says it: which one is it?")
    return None


def _license(graph: OnnxFile) -> Noted | None:
    words = graph.metadata.get("license", "").split()
    return Noted(words[0], "what the file says of itself") if words else None


def _shapes(graph: OnnxFile) -> list[str]:
    runtime = _RUNTIMES.get(graph.opset, "1.23" if graph.opset > 23 else "")
    needs = f" (onnxruntime {runtime} or newer)" if runtime else ""
    inputs = ", ".join(f"{shape_text(entry)} {_element(entry.element_type)}" for entry in graph.inputs)
    outputs = ", ".join(shape_text(entry) for entry in graph.outputs[:8])
    notes = [f"opset {graph.opset}{needs}; inputs: {inputs}; outputs: {outputs}"]
    if (seen := pictures(graph)) is not None:
        trained = literals.literal(graph.metadata.get("imgsz", ""))
        if seen.height and seen.width:
            sized = f"{seen.height} x {seen.width} pixels"
        elif _is_size(trained):
            sized = f"of any height and width (trained at {trained[0]} x {trained[1]})"
        else:
            open_size = "of any height and width" if not seen.height and not seen.width else ""
            sized = open_size or f"{seen.height or 'any'} x {seen.width or 'any'} pixels"
        batch = "any number at once" if seen.batch is None else f"{seen.batch} at once"
        notes.append(f"pictures {sized}, {'NCHW' if seen.channels_first else 'NHWC'}, {batch}")
    return notes


def _is_size(value: object) -> TypeGuard[list[int]]:
    if not isinstance(value, list) or len(value) != 2:
        return False
    return all(isinstance(side, int) and 0 < side < _LARGEST_SIDE for side in value)


def _element(kind: int) -> str:
    return _ELEMENT_NAMES.get(kind, f"type {kind}")


def _class_note(names: tuple[str, ...], classes: int | None, graph: OnnxFile) -> list[str]:
    if names:
        shown = ", ".join(names[:_FIRST_NAMES]) + (", …" if len(names) > _FIRST_NAMES else "")
        return [f"{len(names)} {'class' if len(names) == 1 else 'classes'}: {shown}"]
    if "names" in graph.metadata:
        return ["the class names in its metadata cannot be read: give a class_names.txt"]
    if classes:
        return [f"{classes} classes, which it does not name: give a class_names.txt, one name a line"]
    return []
