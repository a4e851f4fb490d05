"""What an export would do: the names that each model lacks in the target, and what lies in their way.

* It writes nothing, and names whatever an export must not touch.
* No name lies in the root, whichever way the target leads; none is looked at through a link below the target.
"""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from manifests.content import Model, Workflow
from manifests.errors import StorageError, UnknownModelError, listing
from manifests.naming import is_repository
from manifests.publish import translated
from runtime import generations
from runtime.layouts import directory, huggingface, inference, workflows
from runtime.layouts.base import Entry, Generated, Linked, Pointer
from runtime.lines import Line
from runtime.root import Root, digest_of

_PREFIXES: Final[Mapping[str, Mapping[str, str]]] = {
    directory.NAME: {"plain/": "", "workflows/": "", "signatures/": ".signatures/"},
    huggingface.NAME: {"plain/hub/": ""},
    inference.NAME: {"roboflow/": ""},
}
"""Where a layout puts its names in a generation, and where in an export."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What one model or workflow lacks in the target, and what lies in its way there."""

    model: Model | Workflow
    line: Line
    missing: tuple[Entry, ...]
    in_the_way: tuple[str, ...]

    @property
    def size(self) -> int:
        """Bytes to be written."""
        return sum(size(entry) for entry in self.missing)


def size(entry: Entry) -> int:
    """Bytes that a name takes."""
    if isinstance(entry, Linked):
        return entry.size
    return len(entry.content) if isinstance(entry, Generated) else 0


def chosen(names: Sequence[str], layout: str, root: Root) -> list[tuple[Model | Workflow, Line]]:
    """Each model once, with its line, and each workflow. Read from one generation, whatever is installed meanwhile.

    Errors: `UnknownModelError`.
    """
    catalogue = generations.open_catalogue(root.path)
    installed = generations.read(root, catalogue.generation)
    flows = {flow.id: (flow, line) for line in installed.values() for flow in line.content.workflows}
    wanted = {model.id: model.line for model in map(catalogue.get, [name for name in names if name not in flows])}
    found: list[tuple[Model | Workflow, Line]] = [flows[name] for name in dict.fromkeys(names) if name in flows]
    for flow, _ in found:
        if layout == huggingface.NAME:
            raise UnknownModelError(
                f"{flow.id} has no layout {layout}: it is a workflow",
                hint=f"--layout {inference.NAME} exports it for the clients of workflows, {directory.NAME} for people",
            )
    for name, line in ((name, installed[line]) for name, line in wanted.items()):
        model = next(model for model in line.content.models if model.id == name)
        _check_layout(model, layout)
        found.append((model, line))
    return found


def _check_layout(model: Model, layout: str) -> None:
    if layout in model.layouts:
        return
    if layout == huggingface.NAME and not is_repository(model.id):
        reason = "its id is not one of a repository, as org/name"
    elif layout == inference.NAME:
        reason = "inference-models takes vision models with a known architecture, as ONNX; or its manifest left it out"
    else:
        reason = "its manifest left it out"
    raise UnknownModelError(
        f"{model.id} has no layout {layout}: {reason}",
        hint=f"--layout {model.layouts[0]} exports it; `layouts` in the manifest asks for others",
        facts={"layouts": ", ".join(model.layouts)},
    )


def plan_models(
    models: Sequence[tuple[Model | Workflow, Line]], layout: str, root: Root, target: Path, *, links: bool
) -> tuple[Plan, ...]:
    """What each model lacks in `target`, where there are symbolic links or not.

    Errors: `StorageError` for a file in the way, or a name that would lie in the root.
    """
    plans = tuple(_plan(model, line, layout, target, links=links) for model, line in models)
    _refuse_inside(root, {(target / entry.path).parent for each in plans for entry in each.missing})
    if in_the_way := [path for each in plans for path in each.in_the_way]:
        raise StorageError(
            f"{target / in_the_way[0]} is in the way, with other content",
            hint="export into an empty folder, or move away what is there; nothing was written",
            facts={"in the way": listing(in_the_way)},
        )
    return plans


def check_target(root: Root, target: Path) -> None:
    """`StorageError` if `target` lies in the root, or is no folder."""
    _refuse_inside(root, [target])
    with translated(target):
        if os.path.lexists(target) and not target.is_dir():
            raise StorageError(f"{target} is there already, and is no folder", hint="name another one")


def _refuse_inside(root: Root, folders: Iterable[Path]) -> None:
    inside = Path(os.path.realpath(root.path))
    for folder in sorted(folders):
        found = Path(os.path.realpath(folder))
        if inside in (found, *found.parents):
            raise StorageError(f"{folder} lies in the root {root.path}", hint="export into a folder outside of it")


def _plan(model: Model | Workflow, line: Line, layout: str, target: Path, *, links: bool) -> Plan:
    missing, in_the_way = [], []
    for entry in _entries(model, line, layout, links=links):
        state = _state(target, entry)
        if state is None:
            missing.append(entry)
        elif not state:
            in_the_way.append(entry.path)
    return Plan(model, line, tuple(missing), tuple(in_the_way))


def _entries(model: Model | Workflow, line: Line, layout: str, *, links: bool) -> Iterator[Entry]:
    """The layout's names, relative to the target. Where there are no links, what they would lead to stands once."""
    found = [_moved(entry, layout) for entry in _all_entries(model, line, layout)]
    if links:
        yield from found
        return
    led_to = {os.path.normpath(Path(each.path).parent / each.target) for each in found if isinstance(each, Pointer)}
    for entry in found:
        if isinstance(entry, Pointer):
            yield entry.instead
        elif os.path.normpath(entry.path) not in led_to:
            yield entry


def _all_entries(model: Model | Workflow, line: Line, layout: str) -> Iterator[Entry]:
    """The layout's names as a generation has them. A workflow has those of two layouts beside each other."""
    if isinstance(model, Model):
        yield from generations.LAYOUTS[layout](model, line)
        return
    for entry in workflows.entries(model, line):
        if entry.path.startswith(tuple(_PREFIXES[layout])):
            yield entry


def _moved(entry: Entry, layout: str) -> Entry:
    path = next(
        new + entry.path.removeprefix(old) for old, new in _PREFIXES[layout].items() if entry.path.startswith(old)
    )
    if isinstance(entry, Linked):
        return Linked(path, entry.digest, entry.size)
    if isinstance(entry, Generated):
        return Generated(path, entry.content)
    return Pointer(path, entry.target, Linked(path, entry.instead.digest, entry.instead.size))


def _state(target: Path, entry: Entry) -> bool | None:
    """Whether what lies under the entry's name is right; None if nothing does."""
    path = target / entry.path
    with translated(path):
        for folder in [target / parent for parent in list(Path(entry.path).parents)[-2::-1]]:
            if not os.path.lexists(folder):
                return None
            if folder.is_symlink() or not folder.is_dir():  # through a link, another place would be written to
                return False
        if not os.path.lexists(path):
            return None
        if path.is_symlink():
            return isinstance(entry, Pointer) and str(path.readlink()) == entry.target
        return path.is_file() and _has_content(path, entry.instead if isinstance(entry, Pointer) else entry)


def _has_content(path: Path, entry: Linked | Generated) -> bool:
    if path.stat().st_size != size(entry):
        return False
    return path.read_bytes() == entry.content if isinstance(entry, Generated) else digest_of(path) == entry.digest
