"""What a graph is for, guessed from the names and shapes of its inputs and outputs.

* A guess is said to be one. Where shapes fit several families, the most common is named, with those that answer alike.
* No guess is better than a wrong one: a shape that fits by chance alone is none.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from bundler.onnx import Input, OnnxFile

GUESSED: Final = "guessed from its shapes"
_STRIDES: Final = ((8, 16, 32), (4, 8, 16, 32), (8, 16, 32, 64))
_MOST_END_TO_END_ROWS: Final = 1000
_MASKS: Final = 32
_COCO_POSE: Final = 17 * 3
_FAMILIAR: Final = frozenset({84, 116, 56})
"""Rows of the heads for the 80 classes, or the 17 points, of COCO."""
_SCORES: Final = re.compile(r"logits|prob|softmax")
_SMALLEST_ENCODING: Final = 64
_FLOATS: Final = frozenset({1, 10, 11, 16})
Shape = tuple[int | None, ...]


@dataclass(frozen=True, slots=True)
class Pictures:
    """The graph's picture input: its layout, and its dimensions where they are fixed."""

    channels_first: bool
    batch: int | None
    height: int | None
    width: int | None
    channels: int


@dataclass(frozen=True, slots=True)
class Head:
    """A task, with the family whose answers have this form; `alike` are others of the same form."""

    task: str
    architecture: str = ""
    alike: str = ""
    classes: int | None = None
    note: str = GUESSED


def pictures(graph: OnnxFile) -> Pictures | None:
    """The first input, if it takes pictures."""
    if not graph.inputs or len(graph.inputs[0].shape) != 4:
        return None
    batch, one, two, three = graph.inputs[0].shape
    if one in {1, 3, 4}:
        return Pictures(channels_first=True, batch=batch, height=two, width=three, channels=one)
    if three in {1, 3, 4}:
        return Pictures(channels_first=False, batch=batch, height=one, width=two, channels=three)
    return None


def head_of(graph: OnnxFile, *, named_yolo: bool = False) -> Head | None:
    """What the graph seems to be; None where nothing is likely. `named_yolo`: something else says it is one."""
    seen = pictures(graph)
    if seen is not None:
        return _of_pictures(graph, seen, named_yolo=named_yolo)
    names = {entry.name for entry in graph.inputs}
    if "sr" in names and "input" in names:
        return Head("voice-activity", "silero", note="guessed from its inputs: sound and its sample rate")
    if "input_ids" in names:
        return _of_text(graph)
    return None


def _of_text(graph: OnnxFile) -> Head:
    names = [entry.name.lower() for entry in graph.outputs]
    if any("logits" in name or "present" in name for name in names):
        return Head("raw", note="text goes in and logits come out: a classifier or a language model")
    if any(entry.name == "encoder_hidden_states" for entry in graph.inputs):
        return Head("raw", note="one half of a model: it goes on from what an encoder gives")
    if any(_is_encoding(entry) for entry in graph.outputs):
        return Head("embedding", note="guessed from its inputs, which are tokens")
    return Head("raw", note="text goes in; what comes out, the file does not say")


def _is_encoding(entry: Input) -> bool:
    if entry.element_type not in _FLOATS or len(entry.shape) not in {2, 3}:
        return False
    last = entry.shape[-1]
    named = re.search(r"embed|pool", entry.name.lower()) is not None
    return len(entry.shape) == 3 or named or (last is not None and last >= _SMALLEST_ENCODING)


def _of_pictures(graph: OnnxFile, seen: Pictures, *, named_yolo: bool) -> Head | None:
    names = {entry.name for entry in graph.outputs}
    if {"dets", "labels"} <= names:
        task = "instance-segmentation" if "masks" in names else "object-detection"
        return Head(task, "rfdetr", note="guessed from its outputs, which are called as RF-DETR's exporter calls them")
    if {"pred_boxes", "logits"} <= names or {"labels", "boxes", "scores"} <= names:
        return Head("raw", note="a detector of the DETR kind: object-detection is for the families that clients know")
    if _is_text_line(graph, seen):
        return Head("raw", note="a recogniser of text lines, one stage of an OCR set")
    threes = [entry.shape for entry in graph.outputs if len(entry.shape) == 3]
    fours = [entry.shape for entry in graph.outputs if len(entry.shape) == 4]
    if threes and (head := _yolo(threes[0], fours, seen, named_yolo=named_yolo)):
        return head
    if len(graph.outputs) == 1 and len(graph.outputs[0].shape) == 2:
        classes = graph.outputs[0].shape[1]
        return _of_row(graph, classes) if classes is not None and classes > 1 else None
    if len(graph.outputs) == 1 and fours:
        return Head("raw", note="a picture goes in and a map comes out: semantic-segmentation, depth-estimation, OCR?")
    return None


def _of_row(graph: OnnxFile, classes: int) -> Head:
    """One row of numbers a picture: classes only where something else says so."""
    name = graph.outputs[0].name.lower()
    if re.search(r"image_?embed", name):
        return Head("embedding", note="guessed from its output's name: an encoder of pictures")
    if not re.search(r"embed|pool|feat", name) and (graph.metadata.get("names") or _SCORES.match(name)):
        return Head("classification", classes=classes, note=f"{GUESSED}: one number a class")
    return Head("raw", note="one row of numbers a picture: classification, embedding?")


def _is_text_line(graph: OnnxFile, seen: Pictures) -> bool:
    return "character" in graph.metadata or (seen.height in {32, 48} and seen.width is None)


def _yolo(shape: Shape, fours: Sequence[Shape], seen: Pictures, *, named_yolo: bool) -> Head | None:
    rows, columns = shape[1:]
    masks = any(four[1] == _MASKS for four in fours)
    extra = _MASKS if masks else 0
    if columns in {6, 6 + _MASKS, 6 + _COCO_POSE} and rows is not None and rows <= _MOST_END_TO_END_ROWS:
        task = {6: "object-detection", 6 + _COCO_POSE: "keypoint-detection"}.get(columns, "instance-segmentation")
        return Head(task, "yolov10" if columns == 6 else "yolo26", "yolo26" if columns == 6 else "")
    if rows is not None and rows > 4 + extra and (columns is None or columns > rows):
        open_size = columns is None or not (seen.height and seen.width)
        if not (named_yolo or _is_grid(columns, seen, 1) or (open_size and rows in _FAMILIAR)):
            return None
        if rows == 5 + _COCO_POSE and not masks:
            return Head("keypoint-detection", "yolov8", "yolov11, yolov12", 1, f"{GUESSED}: 17 points, or 52 classes?")
        task = "instance-segmentation" if masks else "object-detection"
        return Head(task, "yolov8", "yolov9, yolov11 and yolov12", rows - 4 - extra)
    if columns is not None and columns > 5 + extra and (rows is None or rows > columns):
        if not (named_yolo or _is_grid(rows, seen, 3)):
            return None
        task = "instance-segmentation" if masks else "object-detection"
        return Head(task, "yolov5", "yolov7", columns - 5 - extra)
    return None


def _is_grid(anchors: int | None, seen: Pictures, each: int) -> bool:
    """Whether `anchors` is the number of cells of a picture of this size, `each` anchors a cell."""
    if anchors is None or not seen.height or not seen.width:
        return False
    height, width = seen.height, seen.width
    return any(anchors == each * sum((height // s) * (width // s) for s in strides) for strides in _STRIDES)


def shape_text(entry: Input) -> str:
    """`images [1, 3, 640, 640]`; an open dimension is `any`."""
    return f"{entry.name} [{', '.join('any' if size is None else str(size) for size in entry.shape)}]"
