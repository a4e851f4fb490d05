"""YOLO object detection: v5, v7, v8, v9, v10, v11, v12 and 26, exported to ONNX.

Owns the road from pictures to detections for one open graph.
* Preprocessing is what these models were trained with (letterbox, RGB, 0 to 1) unless the package says otherwise.
* Coordinates are pixels of the upright source picture.
* A class list that does not fit the graph is refused when the model is loaded, not when somebody notices.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from manifests.errors import InvalidInputError, ModelError, ModelLoadError, listing
from runtime.images import ImageSource, decode
from runtime.models.base import Inferring, ModelFacts, group_size
from runtime.models.configuration import Configuration
from runtime.models.placement import Placement, place, to_tensor
from runtime.models.results import Box, Detection, Detections
from runtime.models.suppression import suppress
from runtime.models.yolo_heads import Candidates, Head, candidates, head_of
from runtime.session import Session, TensorSpec, numpy_type


@dataclass(frozen=True, slots=True)
class DetectionOptions:
    """What one request may choose. Thresholds are 0 to 1; `class_filter` keeps these class names, all when empty."""

    confidence: float = 0.25
    iou_threshold: float = 0.45
    max_detections: int = 300
    max_candidates: int = 3000
    class_agnostic_nms: bool = False
    class_filter: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("confidence", "iou_threshold"):
            value = getattr(self, name)
            if not isinstance(value, Real) or not 0 <= float(value) <= 1:
                raise InvalidInputError(f"{name} {value!r} is not between 0 and 1")
        for name in ("max_detections", "max_candidates"):
            value = getattr(self, name)
            if not isinstance(value, Integral):
                raise InvalidInputError(f"{name} {value!r} is no whole number")
            if int(value) < 1:
                raise InvalidInputError(f"{name} {value} is less than 1")
        if not isinstance(self.class_agnostic_nms, bool):
            raise InvalidInputError(f"class_agnostic_nms {self.class_agnostic_nms!r} is neither True nor False")
        if not all(isinstance(name, str) for name in self.class_filter):
            raise InvalidInputError(f"class_filter {list(self.class_filter)} is no list of class names")

    def changed(self, changes: dict[str, Any]) -> "DetectionOptions":
        """These options with some replaced; None leaves one as it is. Raises `InvalidInputError`."""
        given = {name: value for name, value in changes.items() if value is not None}
        if unknown := given.keys() - {field.name for field in fields(self)}:
            raise InvalidInputError(f"object detection has no option {listing(sorted(unknown))}")
        if "class_filter" in given:
            given["class_filter"] = _names(given["class_filter"])
        return replace(self, **given)


def _names(given: object) -> tuple[Any, ...]:
    """One class name alone is a list of one."""
    if isinstance(given, str):
        return (given,)
    if isinstance(given, Iterable):
        return tuple(given)
    raise InvalidInputError(f"class_filter {given!r} is no list of class names")


@dataclass(frozen=True, slots=True)
class PreparedImages:
    """Pictures as the network takes them, [n, 3, height, width], and where each lies in its input."""

    tensor: NDArray[Any]
    placements: tuple[Placement, ...]


class YoloDetection(Inferring):
    """A YOLO detector that is ready to answer. Thread-safe."""

    def __init__(
        self, session: Session, configuration: Configuration, facts: ModelFacts, options: DetectionOptions
    ) -> None:
        """`facts` are what the catalogue says; what the graph says is added. Raises `ModelLoadError`."""
        self._session = session
        self._configuration = configuration
        self._options = options
        self._input = _image_input(session)
        self._dtype = numpy_type(self._input)
        self._output = _detection_output(session)
        _check_task(configuration.task)
        _check_stride(self._input, configuration)
        self._check_head(facts.architecture)
        network = configuration.network_input
        self.facts = replace(
            facts,
            batch_size=self._input.shape[0],
            input_height=network.height,
            input_width=network.width,
            class_names=configuration.class_names,
        )

    def preprocess(self, sources: Sequence[ImageSource], *, first: int = 1) -> PreparedImages:
        """Decode, resize and scale pictures, one after the other: only one is in memory at its own size.

        Raises `InvalidInputError` for one that is no picture; `first` is the number of the first in messages.
        """
        network = self._configuration.network_input
        tensors, placements = [], []
        for number, source in enumerate(sources, start=first):
            placed, placement = place(decode(source, name=f"picture {number}"), network)
            tensors.append(to_tensor(placed, network, self._dtype))
            placements.append(placement)
        return PreparedImages(np.stack(tensors), tuple(placements))

    def predict(self, prepared: PreparedImages) -> NDArray[Any]:
        """The head's answer, [n, rows, columns]; the graph is run as often as it takes, on bounded batches."""
        size = self._input.shape[0] or min(len(prepared.tensor), group_size(self.facts))
        answers = [self._run(prepared.tensor[at : at + size], size) for at in range(0, len(prepared.tensor), size)]
        return answers[0] if len(answers) == 1 else np.concatenate(answers)

    def postprocess(self, outputs: NDArray[Any], prepared: PreparedImages, **options: Any) -> list[Detections]:
        """The detections in each picture. `options` are the fields of `DetectionOptions`."""
        chosen = self._options.changed(options)
        head = self._head(outputs.shape)
        return [
            self._detections(candidates(output, head, confidence=chosen.confidence), head, placement, chosen)
            for output, placement in zip(outputs, prepared.placements, strict=True)
        ]

    def _run(self, batch: NDArray[Any], size: int) -> NDArray[Any]:
        missing = size - len(batch)
        if missing:
            batch = np.concatenate([batch, np.zeros((missing, *batch.shape[1:]), batch.dtype)])
        answer = self._session.run({self._input.name: batch})[self._output.name]
        if len(answer) != size:
            raise ModelError(f"the graph answered {len(answer)} of {size} pictures")
        return answer[: size - missing]

    def _detections(self, found: Candidates, head: Head, placement: Placement, options: DetectionOptions) -> Detections:
        rows = self._wanted(found, _surest_rows(found, head, options), options)
        boxes = placement.to_source(found.boxes[rows])
        detections = (
            Detection(Box(*map(float, box)), float(found.scores[row]), int(number), self._class_name(int(number)))
            for row, box, number in zip(rows, boxes, found.classes[rows], strict=True)
        )
        return Detections(placement.width, placement.height, tuple(detections))

    def _wanted(self, found: Candidates, rows: NDArray[np.int64], options: DetectionOptions) -> NDArray[np.int64]:
        """Those of the classes asked for, as many as asked for."""
        if options.class_filter:
            names = [self._class_name(int(number)) for number in found.classes[rows]]
            rows = rows[[name in options.class_filter for name in names]]
        return rows[: options.max_detections]

    def _class_name(self, number: int) -> str:
        names = self._configuration.class_names
        return names[number] if 0 <= number < len(names) else f"class {number}"

    def _head(self, shape: Sequence[int | None]) -> Head:
        return head_of(shape, classes=len(self._configuration.class_names), architecture=self.facts.architecture)

    def _check_head(self, architecture: str | None) -> None:
        """Compare a fixed output shape with the class list now; a free one is compared with each answer."""
        shape = self._output.shape
        if len(shape) != 3 or any(size is not None for size in shape[1:]):
            head_of(shape, classes=len(self._configuration.class_names), architecture=architecture)


def _surest_rows(found: Candidates, head: Head, options: DetectionOptions) -> NDArray[np.int64]:
    """The candidates that stay, surest first; with a filter of classes more than are answered in the end."""
    surest = np.argsort(-found.scores, kind="stable")[: options.max_candidates].astype(np.int64)
    if head is Head.END_TO_END:
        return surest
    kept = suppress(
        found.boxes[surest],
        found.scores[surest],
        found.classes[surest],
        iou_threshold=options.iou_threshold,
        class_agnostic=options.class_agnostic_nms,
        maximum=options.max_candidates if options.class_filter else options.max_detections,
    )
    return surest[kept]


def _image_input(session: Session) -> TensorSpec:
    """The one input, [N, 3, height, width], of a float type or uint8."""
    if len(session.inputs) == 1:
        (spec,) = session.inputs
        if len(spec.shape) == 4 and spec.shape[1] in {None, 3} and spec.datatype in {"FP32", "FP16", "UINT8"}:
            return spec
    seen = "; ".join(str(spec) for spec in session.inputs)
    raise ModelLoadError(f"not a graph for pictures as [N, 3, height, width]: its inputs are {seen}")


def _detection_output(session: Session) -> TensorSpec:
    """The one output. Heads with more (masks, separate boxes and scores) are of other families."""
    if len(session.outputs) == 1:
        return session.outputs[0]
    seen = "; ".join(str(spec) for spec in session.outputs)
    raise ModelLoadError(f"a YOLO detector answers with one tensor, this graph with {len(session.outputs)}: {seen}")


def _check_stride(spec: TensorSpec, configuration: Configuration) -> None:
    """A graph of free size fails on sizes between its strides, and says so in terms of its inner nodes."""
    network, stride = configuration.network_input, configuration.stride
    if stride is not None and None in spec.shape[2:] and (network.height % stride or network.width % stride):
        raise ModelLoadError(
            f"{network.height} x {network.width} pixels are no multiples of the model's stride, {stride}",
            hint="set training_input_size in inference_config.json to the size that the model was trained with",
        )


def _check_task(task: str | None) -> None:
    if task not in {None, "detect"}:
        raise ModelLoadError(f"the graph's metadata says that its task is {task!r}, not object detection")
