"""From a package on this disk to a model that answers.

Owns the choice of a family for a task and architecture. Families are imported when the first model needs them, so
that a raw model runs without anything for pictures.
"""

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any, Final

from manifests.errors import ModelLoadError, listing
from runtime.catalogue import InstalledModel, InstalledPackage
from runtime.models.base import Model, ModelFacts
from runtime.session import Session, open_session

OBJECT_DETECTION: Final = "object-detection"
RAW: Final = "raw"

# A package folder may not say its task; then the word that Ultralytics' exporter writes into the graph decides.
UNSTATED: Final = ""

_YOLO_GENERATIONS: Final = ("yolov", "yolo1", "yolo2")
_KNOWN_ARCHITECTURES: Final = (
    "yolov5", "yolov7", "yolov8", "yolov9", "yolov10", "yolov11", "yolov12", "yolo11", "yolo12", "yolo26",
)  # fmt: skip


def load_model(
    model: InstalledModel,
    package: InstalledPackage,
    *,
    providers: Sequence[str] | None = None,
    options: Mapping[str, Any] | None = None,
) -> Model[Any, Any]:
    """Open a package on these execution providers. `options` are the model's own defaults for each request.

    Raises `ModelLoadError` when the package cannot be used, `MissingExtraError` when a library is missing.
    """
    if model.task == OBJECT_DETECTION and not _is_yolo(model.architecture):
        raise _unknown_architecture(model)
    session = open_session(package.directory / weights_file(package), providers=providers)
    task = model.task if model.task != UNSTATED else _task_in_graph(session)
    facts = ModelFacts(
        id=model.id,
        task=task,
        architecture=model.architecture,
        package_id=package.id,
        backend=package.backend or "onnx",
        quantization=package.quantization,
        providers=session.providers,
        batch_size=package.static_batch,
    )
    if task == OBJECT_DETECTION:
        return _yolo(session, package, facts, options or {})
    return _raw(session, facts, options or {})


def weights_file(package: InstalledPackage) -> str:
    """The name of the package's one graph. Raises `ModelLoadError` when it has none, or several."""
    graphs = [name for name in package.files if name.lower().endswith(".onnx")]
    if len(graphs) == 1:
        return graphs[0]
    if "weights.onnx" in graphs:
        return "weights.onnx"
    if graphs:
        raise ModelLoadError(f"package {package.id} has several graphs: {listing(sorted(graphs))}")
    raise ModelLoadError(f"package {package.id} has no .onnx file", facts={"files": listing(sorted(package.files))})


def _is_yolo(architecture: str | None) -> bool:
    return architecture is None or architecture.lower().startswith(_YOLO_GENERATIONS)


def _unknown_architecture(model: InstalledModel) -> ModelLoadError:
    near = get_close_matches((model.architecture or "").lower(), _KNOWN_ARCHITECTURES, n=1)
    meant = f"did you mean {near[0]!r}? else " if near else ""
    return ModelLoadError(
        f"{model.id} is object detection of an architecture that is unknown here: {model.architecture!r}",
        hint=f"{meant}give it the task `raw` in the manifest to run it on tensors",
        facts={"known": listing(_KNOWN_ARCHITECTURES)},
    )


def _task_in_graph(session: Session) -> str:
    return OBJECT_DETECTION if session.metadata.get("task") == "detect" else RAW


def _yolo(
    session: Session, package: InstalledPackage, facts: ModelFacts, options: Mapping[str, Any]
) -> Model[Any, Any]:
    from runtime.models.configuration import read_configuration  # noqa: PLC0415 - see above
    from runtime.models.yolo import DetectionOptions, YoloDetection  # noqa: PLC0415 - see above

    size = session.inputs[0].shape[2:4] if session.inputs and len(session.inputs[0].shape) == 4 else (None, None)
    configuration = read_configuration(package.directory, metadata=session.metadata, size=(size[0], size[1]))
    return YoloDetection(session, configuration, facts, DetectionOptions().changed(dict(options)))


def _raw(session: Session, facts: ModelFacts, options: Mapping[str, Any]) -> Model[Any, Any]:
    from runtime.models.raw import RawTensors, refuse_options  # noqa: PLC0415 - see above

    refuse_options(facts.id, options)
    return RawTensors(session, facts)
