"""ONNX files as models: the graph itself, the files that its weights lie in, and what lies beside it.

* A graph that cannot be read is carried as it is, and its entry says why.
* A file that the weights need and that is not there is an error that names it.
"""

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from bundler import onnx
from bundler.initialise import literals
from bundler.initialise.entries import Item, Model, Noted, Package
from bundler.initialise.local import is_hidden, leads_out
from bundler.initialise.onnx_facts import Facts, facts
from bundler.initialise.remote import MAXIMUM_READ
from bundler.initialise.unwanted import MAXIMUM_KEY, holds_key, refuse_pointer
from bundler.onnx import OnnxFile
from bundler.sources.reference import escape
from manifests.errors import FormatError, NamingError, SourceError, SourceNotFoundError, printable
from manifests.paths import checked_path
from manifests.publish import translated

_WEIGHTS: Final = "weights.onnx"
_CLASSES: Final = "class_names.txt"
_AS_CALLED: Final = (
    "environment.json", "inference_config.json", "keypoints_metadata.json", "model_config.yaml", "model_type.json",
)  # fmt: skip
_FOR_TEXT: Final = (
    "1_Pooling/config.json", "added_tokens.json", "config.json", "config_sentence_transformers.json", "merges.txt",
    "modules.json", "preprocessor_config.json", "sentence_bert_config.json", "sentencepiece.bpe.model",
    "special_tokens_map.json", "spiece.model", "tokenizer.json", "tokenizer.model", "tokenizer_config.json",
    "vocab.json", "vocab.txt",
)  # fmt: skip
_LISTS: Final = (
    "class_names.txt",
    "classes.txt",
    "labels.txt",
    "names.txt",
    "coco.names",
    "obj.names",
    "classes.names",
)
_OWN_LISTS: Final = (".names", ".txt", "_classes.txt", "-classes.txt", "_labels.txt", "-labels.txt")
_DATASETS: Final = ("data.yaml", "data.yml", "dataset.yaml")
_NUMBERED: Final = re.compile(r"\d+[\s:,]")
_SAID: Final = re.compile(r"[-_.](fp32|fp16|bf16|int8)(?![a-z0-9])", re.IGNORECASE)
_SMALL: Final = 1 << 20
_ORDER: Final = ("fp32", "bf16", "fp16", "int8", "unknown")


@dataclass(frozen=True, slots=True)
class Graph:
    """An ONNX file and what was read of it; `parsed` is None where that was not possible, and `reason` says why."""

    item: Item
    parsed: OnnxFile | None
    reason: str = ""
    damaged: bool = False
    data: Mapping[str, str] = field(default_factory=dict)
    """The files beside it that hold its weights: path in the package, and source."""
    data_items: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Made:
    """A model, the paths that it uses, and files that have to be written for it: name without folder, content."""

    model: Model
    used: frozenset[str]
    beside: Mapping[str, bytes] = field(default_factory=dict)


def read(item: Item, beside: Mapping[str, Item]) -> Graph:
    """What the ONNX file `item` says; `beside` are all files of its tree by path.

    Errors: `SourceNotFoundError` for weights that are kept beside it and are not there; `SourceError`.
    """
    refuse_pointer(item)
    try:
        parsed = _parsed(item)
    except FormatError as error:
        return Graph(item, None, str(error), damaged=True)
    if parsed is None:
        return Graph(item, None, f"{item.name} was not read: more than {MAXIMUM_READ >> 20} MiB, or out of reach")
    data, used = _external(item, parsed.external, beside)
    return Graph(item, parsed, data=data, data_items=used)


def model(graphs: Sequence[Graph], name: str, beside: Mapping[str, Item], *, shared: bool) -> Made:
    """One model out of the variants `graphs`. `shared`: other models lie in its folder, whose lists may not be its."""
    told = [facts(graph.parsed, graph.item.stem) if graph.parsed else None for graph in graphs]
    order = sorted(
        range(len(graphs)), key=lambda at: (_rank(told[at]), len(graphs[at].item.stem), graphs[at].item.path)
    )
    graphs, told = [graphs[at] for at in order], [told[at] for at in order]
    first = next((entry for entry in told if entry is not None), None)
    side = _Side(graphs[0].item, beside, shared=shared)
    extra = side.files(first)
    packages = [_package(graph, entry, extra, first) for graph, entry in zip(graphs, told, strict=True)]
    notes = [graph.reason for graph in graphs if graph.reason] + side.notes
    used = {graph.item.path for graph in graphs} | {path for graph in graphs for path in graph.data_items} | side.used
    packages = _distinct(packages)
    if len(packages) == 1:
        packages = [replace(packages[0], notes=(*packages[0].notes, *notes))]
        notes = []
    made = Model(
        name,
        first.task if first is not None else Noted("raw", "the file was not read: object-detection, embedding, …?"),
        architecture=first.architecture if first is not None else None,
        license=first.license if first is not None else None,
        packages=tuple(packages),
        notes=tuple(notes),
    )
    return Made(made, frozenset(used), side.beside)


def parts(graphs: Sequence[Graph], names: Mapping[str, str], name: str, task: Noted, architecture: str) -> Made:
    """One model whose graphs belong together; `names` gives each its name in the package."""
    files = {names[graph.item.path]: graph.item.source for graph in graphs}
    told = [facts(graph.parsed, graph.item.stem) for graph in graphs if graph.parsed is not None]
    notes = [f"{names[graph.item.path]}: {note}" for graph in graphs for note in _shape_notes(graph)]
    for graph in graphs:
        for taken in names.values():
            _unlike(graph.item, taken, graph.data)
        files |= graph.data
    made = Model(
        name,
        task,
        architecture=Noted(architecture) if architecture else None,
        license=next((entry.license for entry in told if entry.license is not None), None),
        packages=(Package(files, "onnx", _common(told), notes=tuple(notes)),),
    )
    used = {path for graph in graphs for path in (graph.item.path, *graph.data_items)}
    return Made(made, frozenset(used))


def _shape_notes(graph: Graph) -> tuple[str, ...]:
    return facts(graph.parsed, graph.item.stem).notes if graph.parsed is not None else (graph.reason,)


def _common(told: Sequence[Facts]) -> Noted | None:
    values = {entry.quantization.value for entry in told if entry.quantization is not None}
    return told[0].quantization if len(values) == 1 and told else None


def _parsed(item: Item) -> OnnxFile | None:
    if item.local is not None:
        with translated(item.local), item.local.open("rb") as stream:
            return onnx.read_file(stream, subject=item.name)
    content = item.read(MAXIMUM_READ)
    return None if content is None else onnx.read(memoryview(content), subject=item.name)


def _external(
    item: Item, locations: Iterable[str], beside: Mapping[str, Item]
) -> tuple[dict[str, str], tuple[str, ...]]:
    """The files that hold weights: path in the package to source, and those of them that were listed."""
    data: dict[str, str] = {}
    used: list[str] = []
    for location in locations:
        try:
            checked_path(location)
        except NamingError as error:
            raise SourceError(
                f"{item.path} keeps weights in {printable(location)!r}, which is no path below its folder",
                hint="save the model anew with its data beside it",
            ) from error
        if any(map(is_hidden, location.split("/"))) or _is_elsewhere(item, location):
            raise SourceError(
                f"{item.path} keeps weights in {printable(location)!r}, which is hidden, a secret or a link elsewhere",
                hint="carry this graph only if you know who made it, and save it anew with its data beside it",
            )
        path = f"{item.folder}/{location}" if item.folder else location
        if path in beside:
            data[location] = beside[path].source
            used.append(path)
        elif len(beside) == 1 and (item.local is None or (item.local.parent / location).is_file()):
            data[location] = item.source.removesuffix(item.source.rpartition("/")[2]) + escape(location)
        else:
            raise SourceNotFoundError(
                f"{item.path} keeps weights in {printable(location)}, which is not beside it",
                hint=f"copy {printable(location)} into the folder of {printable(item.name)}",
            )
    return data, tuple(used)


def _is_elsewhere(item: Item, location: str) -> bool:
    """Whether a file of this machine is a private key, or a link out of the graph's folder."""
    if item.local is None or not (path := item.local.parent / location).is_file():
        return False
    if leads_out(path, item.local.parent) and leads_out(path, _top(item)):
        return True
    with translated(path), path.open("rb") as stream:
        size, start = path.stat().st_size, stream.read(MAXIMUM_KEY)
    refuse_pointer(Item(location, size, "", lambda limit: start[:limit]))
    return size <= MAXIMUM_KEY and holds_key(start)


def _top(item: Item) -> Path:
    """The snapshot of a hub's client that the graph lies in; else its own folder."""
    folder = Path(os.path.abspath(item.local or "")).parent  # noqa: PTH100 - a snapshot is known by its place
    return next((above for above in (folder, *folder.parents) if above.parent.name == "snapshots"), folder)


def _unlike(item: Item, name: str, data: Mapping[str, str]) -> str:
    """`name`, the graph's in the package. `SourceError` if its own weights are called so."""
    if name.lower() in {location.lower() for location in data}:
        raise SourceError(
            f"{item.path} keeps weights in {name}, which is the name of the graph itself in a package",
            hint="save the model anew with its data under another name, as best.onnx_data",
        )
    return name


def _rank(told: Facts | None) -> int:
    quantization = told.quantization.value if told is not None and told.quantization is not None else "unknown"
    return _ORDER.index(quantization)


def _package(graph: Graph, told: Facts | None, extra: Mapping[str, str], first: Facts | None) -> Package:
    text = first is not None and first.task.value == "embedding"
    name = _unlike(graph.item, "model.onnx" if text else _WEIGHTS, graph.data)
    files = {name: graph.item.source, **extra, **graph.data}
    quantization = told.quantization if told is not None else None
    notes = (*(told.notes if told is not None else ()), *_misnamed(graph.item.stem, quantization))
    return Package(files, "onnx", quantization, notes=notes)


def _misnamed(stem: str, quantization: Noted | None) -> tuple[str, ...]:
    """A word on a file whose name says another quantization than its weights."""
    said = _SAID.search(stem)
    if said is None or quantization is None or quantization.value in {"unknown", said[1].lower()}:
        return ()
    return (f"its name says {said[1]}, its weights are {quantization.value}",)


def _distinct(packages: Sequence[Package]) -> list[Package]:
    """Each with an id of its own: several may be of one quantization."""
    taken: set[str] = set()
    named: list[Package] = []
    for package in packages:
        quantization = package.quantization.value if package.quantization is not None else ""
        wanted = f"onnx{quantization}"
        names = (wanted + (f"n{number}" if number > 1 else "") for number in range(1, len(packages) + 1))
        package_id = next(name for name in names if name not in taken)
        taken.add(package_id)
        named.append(replace(package, id=package_id))
    return named


class _Side:
    """What lies beside a graph and belongs to it."""

    def __init__(self, graph: Item, beside: Mapping[str, Item], *, shared: bool) -> None:
        self._graph = graph
        self._beside = beside
        self._shared = shared
        self.used: set[str] = set()
        self.notes: list[str] = []
        self.beside: dict[str, bytes] = {}

    def files(self, told: Facts | None) -> dict[str, str]:
        """Path in the package to source. What has to be written for it is in `beside`."""
        files: dict[str, str] = {}
        if told is not None and told.task.value == "embedding":
            files |= self._named(_FOR_TEXT)
            if not told.takes_pictures and not {"tokenizer.json", "vocab.txt", "tokenizer.model"} & files.keys():
                self.notes.append("it needs its tokenizer: add tokenizer.json to `files`")
            return files
        if not self._shared:
            files |= self._named(_AS_CALLED)
        files |= self._classes(told)
        if told is not None and told.task.value == "keypoint-detection" and "keypoints_metadata.json" not in files:
            self.notes.append("the names of its points: inference-models reads them from a keypoints_metadata.json")
        return files

    def _named(self, names: Iterable[str]) -> dict[str, str]:
        found = {name: item for name in names if (item := self._find(name)) is not None}
        self.used |= {item.path for item in found.values()}
        return {name: item.source for name, item in found.items()}

    def _find(self, name: str) -> Item | None:
        """The file in the graph's folder, or in the one above if that is only for weights."""
        folder, _, last = self._graph.folder.rpartition("/")
        places = [self._graph.folder] + ([folder] if last in {"weights", "onnx", "export", "model"} else [])
        paths = (f"{place}/{name}" if place else name for place in places)
        return next((self._beside[path] for path in paths if path in self._beside), None)

    def _classes(self, told: Facts | None) -> dict[str, str]:
        own = [f"{self._graph.stem}{end}" for end in _OWN_LISTS]
        for candidate in (*own, *(() if self._shared else _LISTS)):
            if (item := self._find(candidate)) is not None and (lines := literals.lines(item.read(_SMALL) or b"")):
                self.used.add(item.path)
                self.notes.extend(_doubts(item.name, lines, told))
                return {_CLASSES: item.source}
        for candidate in () if self._shared else _DATASETS:
            if (item := self._find(candidate)) is not None:
                return self._from_dataset(item, told)
        return {}

    def _from_dataset(self, item: Item, told: Facts | None) -> dict[str, str]:
        names = literals.names(literals.mapping(item.read(_SMALL)).get("names"))
        if not names or not all(line.strip() and line.isprintable() for line in names):
            return {}
        self.used.add(item.path)
        if told is not None and told.names:
            same = "which its metadata gives too" if told.names == names else "which are others than in its metadata!"
            self.notes.append(f"{item.name} names {len(names)} classes, {same}")
            return {}
        self.notes.extend(_doubts(item.name, names, told))
        place = re.sub(r"[^A-Za-z0-9]+", "-", self._graph.source.rpartition(".")[0]).strip("-") or "model"
        written = f"{place[-100:]}.{_CLASSES}"
        self.notes.append(f"{written} was written from {item.name}")
        self.beside[written] = "".join(f"{line}\n" for line in names).encode()
        return {_CLASSES: f"./{written}"}


def _doubts(name: str, lines: Sequence[str], told: Facts | None) -> list[str]:
    doubts = []
    if told is not None and told.classes not in {None, len(lines)}:
        doubts.append(f"{name} has {len(lines)} names, the graph {told.classes} classes: is it another model's list?")
    if len(lines) > 1 and all(_NUMBERED.match(line) for line in lines):
        doubts.append(f"the lines of {name} begin with numbers: clients want the names alone, one a line")
    return doubts
