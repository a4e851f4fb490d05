"""From a lock to the content of a bundle: what its files say of themselves, and the layouts that this allows.

Owns what is derived: opset and batch of ONNX graphs, the class list and input configuration that clients ask for where
the author gave none. All of it is a function of the locked bytes and of this program's version.
"""

import ast
import tempfile
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import PurePosixPath
from typing import Final

import msgspec

from bundler import encode, onnx
from bundler.kits import stored
from bundler.onnx import EXPORTED_TASKS, OnnxFile
from manifests import canonical, content, foreign, workflow
from manifests.content import Content, File, Item, KitPackage, Model, Package, Wheels, Workflow
from manifests.errors import FormatError, ManifestError
from manifests.kit import package_id
from manifests.lock import Lock, LockedFile, LockedKit, LockedModel, LockedPackage, LockedWorkflow
from manifests.naming import is_handle, is_repository
from manifests.progress import Reporter
from manifests.publish import translated
from manifests.store import Store
from manifests.workflow import WorkflowId

DERIVED: Final = "derived"
"""The source of a file that this module made."""
_WEIGHTS: Final = "weights.onnx"
_CLASSES: Final = "class_names.txt"
_CONFIGURATION: Final = "inference_config.json"
_BOX_TASKS: Final = ("object-detection", "instance-segmentation", "keypoint-detection")
_CLASSIFIER_TASKS: Final = ("classification", "multi-label-classification")
_YOLO: Final = {"yolov5": False, "yolov7": False, "yolov8": False, "yolov9": False, "yolov10": True, "yolov11": False,
                "yolov12": False, "yolo26": True}  # fmt: skip
"""Architectures whose input configuration is known from their exporter, and whether their graphs end in NMS."""


def describe(lock: Lock, store: Store, reporter: Reporter) -> Content:
    """The content of the bundle that `lock` asks for; every blob of it is in the store.

    Errors: `ManifestError` for a layout that a model cannot have, `FormatError` for a file that is not what it is
    called, `CorruptStoreError`.
    """
    models = (_model(model, store, reporter) for model in lock.models)
    items: list[Item] = [
        *models,
        *(_wheels(kit, store) for kit in lock.kits),
        *(_workflow(flow, store) for flow in lock.workflows),
    ]
    return Content(line=lock.line, sequence=lock.sequence, items=tuple(sorted(items, key=lambda item: item.id)))


def _workflow(locked: LockedWorkflow, store: Store) -> Workflow:
    """One file, which is what clients read under this id: a lock may have been edited by hand."""
    files = [file for package in locked.packages for file in package.files]
    if [file.path for file in files] != [workflow.FILE] or not _is_workflow(locked, store):
        raise ManifestError(
            f"{locked.id}: what is locked is not the one file of this workflow",
            hint=f"`bundle lock MANIFEST --upgrade {locked.id}` makes it anew",
        )
    package = Package(id=workflow.PACKAGE, files=tuple(map(_file, files)), default=True)
    return Workflow(id=locked.id, packages=(package,))


def _is_workflow(locked: LockedWorkflow, store: Store) -> bool:
    """Whether the bytes are those that its id asks for."""
    parsed, written = WorkflowId.parse(locked.id), bytearray()
    for piece in store.read(locked.file.digest):
        written += piece
        if len(written) > foreign.MAXIMUM_SIZE:
            return False
    try:
        name, specification = workflow.decode(bytes(written), subject=locked.id)
        return workflow.encode(parsed, name, specification) == written
    except FormatError:
        return False


def _wheels(locked: LockedKit, store: Store) -> Wheels:
    kits = (_kit(locked, package, store, first=number == 0) for number, package in enumerate(locked.packages))
    return Wheels(id=locked.id, program=locked.program, packages=tuple(kits))


def _kit(item: LockedKit, locked: LockedPackage, store: Store, *, first: bool) -> KitPackage:
    described = stored.read(locked.files, store, subject=f"{item.id} {locked.id}")
    if (package_id(described), described.program) != (locked.id, item.program):
        raise ManifestError(f"{item.id}: package {locked.id} is the kit of another platform or program")
    return KitPackage(
        id=locked.id,
        files=tuple(_file(file) for file in locked.files),
        default=first,
        platform=described.platform,
        python=described.python,
    )


def _model(locked: LockedModel, store: Store, reporter: Reporter) -> Model:
    ordered = sorted(locked.packages, key=lambda package: not package.default)
    packages = tuple(
        _package(locked, package, store, reporter, first=number == 0) for number, package in enumerate(ordered)
    )
    model = Model(
        id=locked.id,
        task=locked.task,
        commit=locked.commit or content.commit(packages[0]),
        packages=packages,
        aliases=tuple(sorted(locked.aliases)),
        architecture=locked.architecture,
        licenses=locked.licenses,
        client=locked.client,
    )
    return msgspec.structs.replace(model, layouts=_layouts(model, locked.layouts, reporter))


def _package(model: LockedModel, locked: LockedPackage, store: Store, reporter: Reporter, *, first: bool) -> Package:
    files = [_file(file) for file in locked.files]
    graph = _graph(locked, store) if locked.client is None else None
    if graph is not None:
        _note_what_it_could_be(model, graph, reporter)
        files += _derived(model, {file.path for file in files}, graph, store)
    return Package(
        id=locked.id,
        files=tuple(sorted(files, key=lambda file: file.path)),
        default=first,
        backend=locked.backend,
        quantization=locked.quantization,
        opset=graph.opset if graph else locked.opset,
        static_batch=graph.static_batch if graph else locked.static_batch,
        client=locked.client,
    )


def _note_what_it_could_be(model: LockedModel, graph: OnnxFile, reporter: Reporter) -> None:
    """A graph that says what it does, carried as raw, would cost its owner another trip across the gap."""
    task = EXPORTED_TASKS.get(graph.metadata.get("task", ""))
    if model.task == "raw" and task is not None:
        reporter.note(
            f"{model.id} is carried as raw, to be asked with tensors; its graph says {task}: "
            f"`task: {task}` and `architecture:` in the manifest let it be asked with pictures"
        )


def _file(locked: LockedFile) -> File:
    return File(
        path=locked.path, blob=str(locked.digest), size=locked.size, source=_shown(locked.source), lfs=locked.lfs
    )


def _shown(source: str) -> str:
    """What a bundle says of a source: of a file on the builder's disk, the name alone."""
    return source if "://" in source else f"./{source.rpartition('/')[2]}"


def _graph(package: LockedPackage, store: Store) -> OnnxFile | None:
    """What the package's one graph says of itself; None if it has none, or several."""
    graphs = [file for file in package.files if PurePosixPath(file.path).suffix == ".onnx"]
    named = [file for file in graphs if file.path == _WEIGHTS] or graphs
    if package.backend != "onnx" or len(named) != 1:
        return None
    spool = store.spool
    with translated(spool), tempfile.TemporaryFile(dir=spool) as stream:
        for piece in store.read(named[0].digest):
            stream.write(piece)
        stream.flush()
        return onnx.read_file(stream, subject=named[0].source)


def _derived(model: LockedModel, present: set[str], graph: OnnxFile, store: Store) -> Iterator[File]:
    """The class list and the input configuration, where the author gave none and the graph's exporter left them."""
    makers: dict[str, Callable[[], bytes | None]] = {
        _CLASSES: lambda: _class_names(graph),
        _CONFIGURATION: lambda: _configuration(model, graph),
    }
    if model.task not in _BOX_TASKS or model.architecture not in _YOLO:
        return
    for path, make in makers.items():
        made = None if path in present else make()
        if made is not None:
            recipe = encode.add(store, BytesIO(made), size=len(made), subject=f"{model.id} {path}")
            yield File(path=path, blob=str(recipe.digest), size=recipe.size, source=DERIVED, lfs=False)


def _class_names(graph: OnnxFile) -> bytes | None:
    """One name a line. The exporter writes a Python dict: it is parsed as a literal, never evaluated."""
    try:
        names = ast.literal_eval(graph.metadata.get("names", ""))
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None
    if not isinstance(names, dict) or not names or set(names) != set(range(len(names))):
        return None
    lines = [names[number] for number in range(len(names))]
    if not all(isinstance(line, str) and line.strip() and line.isprintable() for line in lines):
        return None
    return "".join(f"{line.strip()}\n" for line in lines).encode()


def _configuration(model: LockedModel, graph: OnnxFile) -> bytes | None:
    size = _input_size(graph)
    if size is None:
        return None
    fixed = bool(graph.inputs[0].shape[2] and graph.inputs[0].shape[3])
    batch = graph.static_batch
    return canonical.encode_for_people(
        {
            "network_input": {
                "training_input_size": {"height": size[0], "width": size[1]},
                "dynamic_spatial_size_supported": not fixed,
                "color_mode": "rgb",
                "resize_mode": "letterbox",
                "padding_value": 114,
                "input_channels": 3,
                "scaling_factor": 255,
            },
            "forward_pass": {"static_batch_size": batch} if batch else {"max_dynamic_batch_size": 8},
            "post_processing": {"type": "nms", "fused": _YOLO[model.architecture or ""]},
        }
    )


def _input_size(graph: OnnxFile) -> tuple[int, int] | None:
    """Height and width: those of the graph, else those that the exporter noted."""
    shape = graph.inputs[0].shape if graph.inputs else ()
    if len(shape) != 4 or shape[1] not in {3, None}:
        return None
    try:
        noted = ast.literal_eval(graph.metadata.get("imgsz", "[640, 640]"))
        height, width = (int(length) for length in noted)
    except (ValueError, SyntaxError, TypeError, OverflowError, MemoryError, RecursionError):
        return None
    return shape[2] or height, shape[3] or width


def _layouts(model: Model, asked: tuple[str, ...] | None, reporter: Reporter) -> tuple[str, ...]:
    """`directory` always; the others if asked for, or by default where the id, task and files allow them."""
    objections = {"directory": "", "huggingface": _no_hub(model), "inference": _no_inference(model)}
    for layout in asked or ():
        if objections[layout]:
            raise ManifestError(f"model {model.id!r} cannot have the layout {layout!r}: {objections[layout]}")
    wanted = {"directory", *(asked if asked is not None else objections)}
    is_expected = model.client is not None or model.task in _BOX_TASKS + _CLASSIFIER_TASKS
    if asked is None and is_expected and objections["inference"]:
        reporter.note(f"{model.id}: no `inference` layout: {objections['inference']}")
    return tuple(sorted(layout for layout in wanted if not objections[layout]))


def _no_hub(model: Model) -> str:
    return "" if is_repository(model.id) else "its id is not one of a repository, as org/name"


def _no_service_inference(model: Model) -> str:
    """What is in the way of a model that a service described: its client knows more tasks and backends than we do."""
    if model.task == "raw":
        return "its service names no task that is known here"
    if all(package.client is None for package in model.packages):
        return "it has no package that inference-models would take"
    strange = [file.path for package in model.packages for file in package.files if not is_handle(file.path)]
    return f"the client cannot take a file called {strange[0]!r}" if strange else ""


def _no_inference(model: Model) -> str:
    if model.client is not None:
        return _no_service_inference(model)
    if model.task not in _BOX_TASKS + _CLASSIFIER_TASKS or not model.architecture:
        return "it needs a vision task and an architecture"
    for package in model.packages:
        paths = {file.path for file in package.files}
        if package.backend != "onnx" or package.opset is None:
            return f"package {package.id} is not an ONNX package with one graph"
        needed = {_WEIGHTS, _CLASSES, _CONFIGURATION}
        if model.task == "keypoint-detection":
            needed.add("keypoints_metadata.json")
        if missing := sorted(needed - paths):
            return f"package {package.id} has no {missing[0]}"
        if strange := [path for path in sorted(paths) if not is_handle(path)]:
            return f"the client cannot take a file called {strange[0]!r}"
    return ""
