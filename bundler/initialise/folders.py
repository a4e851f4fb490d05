"""A folder, or a prefix, as models: which of its files belong together, and what is left where it lies.

* Every file is used, or named as left out.
* Graphs that differ only in a mark of their variant (`-fp16`, `_int8`) are packages of one model.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from bundler.initialise import graphs, pickles, repositories, unwanted
from bundler.initialise.entries import Item, Model, Noted, Package, Tree
from bundler.initialise.names import is_generic, speaking
from bundler.initialise.selection import as_pattern
from bundler.sources.reference import escape
from manifests.errors import NamingError, printable, size
from manifests.paths import checked_path

_VARIANT: Final = re.compile(
    r"[-_.](?:fp32|fp16|f16|half|bf16|int8|uint8|q8|q4|q4f16|bnb4|qint8\w*|quant(?:ized)?|quantised|dynamic|static|"
    r"sim(?:plified)?|opt(?:imi[sz]ed)?|O[1-4]|batch\d{1,3})$",
    re.IGNORECASE,
)
_GENERATED: Final = re.compile(r"last[-_.]?\d*|epoch[-_.]?\d+|checkpoint[-_.]?\d+", re.IGNORECASE)
_STAGES: Final = ("det", "rec", "cls")
_RAW: Final = {
    ".gguf": "GGUF: carried for llama.cpp and its kin, which read it from the plain directory",
    ".ort": "onnxruntime's own format: carried, never loaded here; the .onnx file it was made from can run",
    ".torchscript": "TorchScript: carried, never loaded here",
    ".engine": "TensorRT: runs on the kind of GPU and the version that it was built for, and nowhere else",
    ".plan": "TensorRT: runs on the kind of GPU and the version that it was built for, and nowhere else",
    ".tflite": "TensorFlow Lite: carried, never loaded here; tf2onnx makes ONNX of it",
    ".h5": "Keras: carried, never loaded here; tf2onnx makes ONNX of it",
    ".keras": "Keras: carried, never loaded here; tf2onnx makes ONNX of it",
    ".safetensors": "weights without a config.json that says of what: carried as they are",
}
_MOST_NAMED: Final = 8


@dataclass
class Gathered:
    """What a tree gives: models, files to be written for them, what a person should hear, and what stays."""

    models: list[Model] = field(default_factory=list)
    beside: dict[str, bytes] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    unknown: bool = False
    """Whether nothing in it was known for a model."""


def of_file(tree: Tree) -> Gathered:
    """A tree of one file that was named by itself."""
    (item,) = tree.files
    found = Gathered()
    if item.suffix == ".onnx":
        graph = graphs.read(item, {item.path: item})
        _take(found, graphs.model([graph], item.stem, {}, shared=True))
        found.notes += _unreadable([graph])
        return found
    unwanted.refuse_pointer(item)
    unwanted.refuse_secret(item)
    found.models.append(_carried(item, found) if _is_usable(item.name) else _file_by_file(item, found))
    return found


def of_tree(tree: Tree, *, name: str = "", repository: str = "") -> Gathered:
    """A folder or prefix; `repository` is what it is called if it is one as a whole.

    Errors: `SourceError` and its kinds for files that are not what they should be.
    """
    called = name or tree.name
    found = Gathered(left_out=list(tree.left_out))
    used: set[str] = set()
    for folder in _repositories(tree.files):
        inner = _below(tree, folder)
        model_id = _repository_name(folder, called) if folder else repository or name or f"{called}/1"
        found.models.append(repositories.model(inner, name=model_id))
        used |= {f"{folder}/{item.path}" if folder else item.path for item in inner.files}
    rest = [item for item in tree.files if item.path not in used]
    beside = {item.path: item for item in rest}
    read = [graphs.read(item, beside) for item in rest if item.suffix == ".onnx"]
    found.notes += _unreadable(read)
    for made in _graph_models(read, beside, called):
        _take(found, made)
        unwanted.refuse_pointers(beside[path] for path in sorted(made.used))
        used |= made.used
    used |= _others([item for item in rest if item.path not in used], rest, called, found)
    if not found.models and tree.files:
        return _everything(tree, called, found)
    found.left_out += [item.path for item in tree.files if item.path not in used]
    return found


def left_out_note(found: Gathered) -> str:
    """One line on what a tree has that is not carried; empty if there is nothing."""
    names = found.left_out
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return f"left out: {', '.join(printable(name) for name in names[:_MOST_NAMED])}{more}" if names else ""


def _take(found: Gathered, made: graphs.Made) -> None:
    found.models.append(made.model)
    found.beside |= made.beside


def _repositories(items: Sequence[Item]) -> list[str]:
    """The folders that are repositories, outermost only."""
    heads = {"config.json", "modules.json", "model_index.json", "adapter_config.json"}
    folders = sorted({item.folder for item in items if item.name in heads}, key=lambda folder: (len(folder), folder))
    chosen: list[str] = []
    for folder in folders:
        if any(not outer or folder.startswith(f"{outer}/") for outer in chosen):
            continue
        if repositories.is_repository(_relative(items, folder)):
            chosen.append(folder)
    return sorted(chosen)


def _relative(items: Iterable[Item], folder: str) -> list[Item]:
    start = f"{folder}/" if folder else ""
    return [replace(item, path=item.path.removeprefix(start)) for item in items if item.path.startswith(start)]


def _below(tree: Tree, folder: str) -> Tree:
    if not folder:
        return tree
    start = f"{folder}/"
    source = f"{tree.source.rstrip('/')}/{escape(folder)}"
    hidden = tuple(name.removeprefix(start) for name in tree.hidden if name.startswith(start))
    return Tree(source, folder, tuple(_relative(tree.files, folder)), hidden=hidden, whole=tree.whole)


def _repository_name(folder: str, called: str) -> str:
    """`org/name`, as hub downloads are laid out; a name alone gets a version, as any other model."""
    organisation, name = [called, *folder.split("/")][-2:]
    return f"{name}/1" if is_generic(organisation) else f"{organisation}/{name}"


def _unreadable(read: Iterable[graphs.Graph]) -> list[str]:
    """Words on what is called ONNX and is not: it can be locked, but no bundle takes it."""
    return [f"{graph.reason}: `bundle build` will refuse it" for graph in read if graph.damaged]


def _graph_models(given: Sequence[graphs.Graph], beside: Mapping[str, Item], called: str) -> list[graphs.Made]:
    onnx = [graph.item for graph in given]
    read = {graph.item.path: graph for graph in given}
    made: list[graphs.Made] = []
    for folder in sorted({item.folder for item in onnx}):
        here = [item for item in onnx if item.folder == folder]
        above = [*reversed(folder.split("/")), called]
        if (together := _parts(here)) is not None:
            names, task, architecture = together
            name = speaking(above) if folder or called else "model"
            made.append(graphs.parts([read[item.path] for item in here], names, name, task, architecture))
            continue
        groups = _variants(here)
        for stem, group in groups.items():
            name = speaking([stem, *above]) if len(groups) == 1 else stem
            made.append(graphs.model([read[item.path] for item in group], name, beside, shared=len(groups) > 1))
    return made


def _variants(items: Sequence[Item]) -> dict[str, list[Item]]:
    groups: dict[str, list[Item]] = {}
    for item in items:
        stem = item.stem
        while (shorter := _VARIANT.sub("", stem)) != stem and shorter:
            stem = shorter
        groups.setdefault(stem, []).append(item)
    return dict(sorted(groups.items()))


def _parts(items: Sequence[Item]) -> tuple[dict[str, str], Noted, str] | None:
    """Names in the package, task and family, if these graphs work only together."""
    stems = {item.stem.lower() for item in items}
    if stems == {"textual", "visual"}:
        return {item.path: item.name.lower() for item in items}, Noted("embedding", "text and pictures"), "clip"
    ocr = any("ocr" in stem for stem in stems)
    stages = {item.path: stage for item in items if (stage := _stage(item.stem, within=ocr))}
    if len(stages) == len(items) and {"det", "rec"} <= set(stages.values()) and len(set(stages.values())) == len(items):
        names = {path: f"{stage}.onnx" for path, stage in stages.items()}
        return names, Noted("structured-ocr", "detection, recognition, orientation; or text-only-ocr"), "pp-ocr"
    sides = {side for stem in stems for side in ("encoder", "decoder") if side in stem}
    if len(sides) == 2 and all("encoder" in stem or "decoder" in stem for stem in stems):
        return (
            {item.path: item.name for item in items},
            Noted("raw", "graphs that belong together"),
            "",
        )
    return None


def _stage(stem: str, *, within: bool) -> str:
    """`det`, `rec` or `cls`; as one word of several only `within` a set that is called OCR."""
    words = re.split(r"[-_.]", stem.lower()) if within else [stem.lower()]
    return next((stage for stage in _STAGES if stage in words), "")


def _others(items: Sequence[Item], every: Sequence[Item], called: str, found: Gathered) -> set[str]:
    """Weights that are no graph: carried one by one, but for checkpoints that something better stands for."""
    used: set[str] = set()
    best = {(item.folder, item.stem) for item in every if item.suffix == ".onnx"}
    folders = {folder for folder, _ in best}
    for item in items:
        if item.suffix not in pickles.SUFFIXES and item.suffix not in _RAW:
            continue
        if item.suffix in pickles.SUFFIXES and (item.folder, item.stem) in best:
            found.left_out.append(f"{item.path} (its export to ONNX is carried)")
        elif _GENERATED.fullmatch(item.stem) and (_better(item, every) or item.folder in folders):
            found.left_out.append(f"{item.path} (a checkpoint on the way)")
        else:
            unwanted.refuse_pointer(item)
            name = speaking([item.stem, *reversed(item.folder.split("/")), called])
            found.models.append(replace(_file_by_file(item, found), id=name))
        used.add(item.path)
    return used


def _better(item: Item, every: Sequence[Item]) -> bool:
    return any(other.folder == item.folder and other.stem.lower().startswith("best") for other in every)


def _file_by_file(item: Item, found: Gathered) -> Model:
    carried = _carried(item, found)
    name = item.name if _is_usable(item.name) else re.sub(r"[^A-Za-z0-9._-]+", "-", item.name).strip("-. ") or "file"
    return replace(carried, source="", packages=(Package({name: item.source}),))


def _is_usable(name: str) -> bool:
    try:
        checked_path(name)
    except NamingError:
        return False
    return True


def _carried(item: Item, found: Gathered) -> Model:
    """A file that is no ONNX, with what can be done about it."""
    notes: tuple[str, ...] = ()
    if item.suffix in pickles.SUFFIXES:
        notes = pickles.advice(item)
        found.notes.extend(notes)
    elif item.suffix in _RAW:
        notes = (f"{_RAW[item.suffix]} ({size(item.size)})",)
    return Model(item.stem, Noted("raw", "carried as it is"), source=item.source, notes=notes)


def _everything(tree: Tree, called: str, found: Gathered) -> Gathered:
    """A folder with nothing in it that says what it is: carried whole."""
    found.unknown = True
    unwanted.refuse_pointers(tree.files)
    exclude = tuple(Noted(as_pattern(name)) for name in tree.hidden)
    task = Noted("raw", "carried as it is: nothing in it says what it is")
    if tree.whole:
        found.models.append(Model(called, task, source=tree.source, exclude=exclude))
    else:
        package = Package({item.path: item.source for item in tree.files})
        found.models.append(Model(called, task, packages=(package,)))
    return found
