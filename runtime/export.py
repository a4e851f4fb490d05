"""Exporting: installed models copied into a folder of their own, in the names that one family of clients expects.

* What is exported was compared with its digest after it was copied, and shares nothing with the root.
* Everything that can be refused is refused before the first byte is written. Files that lie beside stay as they are.
* A model is copied aside, in the target, and moved into place when all of it is there: killed anywhere, no file under
  its final name lacks a byte, and the next export sweeps what is left and goes on.
"""

import os
import secrets
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from manifests.content import Model
from manifests.errors import CorruptStoreError, DiskFullError, StorageError, UnknownModelError, listing
from manifests.locks import try_lock
from manifests.naming import is_repository
from manifests.progress import Reporter
from manifests.publish import make_folder, publish, sync_folder, translated
from runtime import generations
from runtime.layouts import directory, huggingface, inference
from runtime.layouts.base import Entry, Generated, Layout, Linked, Pointer
from runtime.lines import Line
from runtime.links import Placer
from runtime.root import Root, digest_of

_PREFIXES: Final[Mapping[str, Mapping[str, str]]] = {
    directory.NAME: {"plain/": "", "signatures/": ".signatures/"},
    huggingface.NAME: {"plain/hub/": ""},
    inference.NAME: {"roboflow/": ""},
}
"""Where a layout puts its names in a generation, and where in an export."""
_LAYOUTS: Final[Mapping[str, Layout]] = {
    directory.NAME: directory.entries,
    huggingface.NAME: huggingface.entries,
    inference.NAME: inference.entries,
}
LAYOUTS: Final = tuple(_LAYOUTS)
_MARGIN: Final = 16 << 20
"""Bytes that are left free for names and small files."""
_STAGING: Final = ".bundle-export."


@dataclass(frozen=True, slots=True)
class ExportedModel:
    """What became of one model: files and bytes that were written; none if all of it was there."""

    id: str
    files: int
    written: int


@dataclass(frozen=True, slots=True)
class Exported:
    """What an export did. `ways` counts how files were copied."""

    layout: str
    directory: Path
    models: tuple[ExportedModel, ...]
    ways: Mapping[str, int]

    @property
    def changed(self) -> bool:
        """Whether anything was written."""
        return any(model.files for model in self.models)


def export(names: Sequence[str], target: Path, layout: str, root: Root, *, reporter: Reporter) -> Exported:
    """Copy the models with these ids or aliases from the active generation of `root` into `target`.

    Errors: `UnknownModelError` for a name, or a model that has not this layout; `CorruptStoreError` naming a blob that
    was changed or lost; before anything is written, `DiskFullError`, and `StorageError` for a file in the way.
    """
    models = _chosen(names, layout, root)
    _refuse_inside(root, target)
    _sweep(target)
    plans = [_plan(model, line, layout, target, links=True) for model, line in models]
    if any(plan.missing for plan in plans) and not _prepare(target):
        plans = [_plan(model, line, layout, target, links=False) for model, line in models]
    _check_plans(plans, target)
    placer = Placer()
    reporter.started("export", sum(plan.size for plan in plans))
    try:
        for plan in plans:
            _carry_out(plan, root, target, placer, reporter)
    finally:
        reporter.finished("export")
    done = tuple(ExportedModel(plan.model.id, len(plan.missing), plan.size) for plan in plans)
    return Exported(layout, target, done, {str(way): count for way, count in sorted(placer.ways.items())})


def variables(layout: str, target: Path) -> dict[str, str]:
    """What points the layout's clients at an exported folder."""
    if layout == huggingface.NAME:
        return {"HF_HUB_CACHE": str(target), "HF_HUB_OFFLINE": "1"}
    if layout == inference.NAME:
        return {"INFERENCE_HOME": str(target), "OFFLINE_MODE": "True"}
    return {"AIM_CACHE_PATH": str(target)}


@dataclass(frozen=True, slots=True)
class _Plan:
    """What one model lacks in the target, and what lies in its way there."""

    model: Model
    line: Line
    missing: tuple[Entry, ...]
    in_the_way: tuple[str, ...]

    @property
    def size(self) -> int:
        """Bytes to be written."""
        return sum(_size(entry) for entry in self.missing)


def _size(entry: Entry) -> int:
    if isinstance(entry, Linked):
        return entry.size
    return len(entry.content) if isinstance(entry, Generated) else 0


def _chosen(names: Sequence[str], layout: str, root: Root) -> list[tuple[Model, Line]]:
    """Each model once, with its line. Read from one generation, whatever is installed meanwhile."""
    catalogue = generations.open_catalogue(root.path)
    installed = generations.read(root, catalogue.generation)
    wanted = {model.id: model.line for model in map(catalogue.get, names)}
    found = []
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


def _refuse_inside(root: Root, target: Path) -> None:
    with translated(target):
        if root.path.resolve() in (resolved := target.resolve(), *resolved.parents):
            raise StorageError(f"{target} lies in the root {root.path}", hint="export into a folder outside of it")
        if os.path.lexists(target) and not target.is_dir():
            raise StorageError(f"{target} is there already, and is no folder", hint="name another one")


def _plan(model: Model, line: Line, layout: str, target: Path, *, links: bool) -> _Plan:
    missing, in_the_way = [], []
    for entry in _entries(model, line, layout, links=links):
        state = _state(target, entry)
        if state is None:
            missing.append(entry)
        elif not state:
            in_the_way.append(entry.path)
    return _Plan(model, line, tuple(missing), tuple(in_the_way))


def _entries(model: Model, line: Line, layout: str, *, links: bool) -> Iterator[Entry]:
    """The layout's names, relative to the target. Where there are no links, what they would lead to stands once."""
    found = [_moved(entry, layout) for entry in _LAYOUTS[layout](model, line)]
    if links:
        yield from found
        return
    led_to = {os.path.normpath(Path(each.path).parent / each.target) for each in found if isinstance(each, Pointer)}
    for entry in found:
        if isinstance(entry, Pointer):
            yield entry.instead
        elif os.path.normpath(entry.path) not in led_to:
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
    if path.stat().st_size != _size(entry):
        return False
    return path.read_bytes() == entry.content if isinstance(entry, Generated) else digest_of(path) == entry.digest


def _check_plans(plans: Sequence[_Plan], target: Path) -> None:
    """What is refused before anything is written."""
    if in_the_way := [path for plan in plans for path in plan.in_the_way]:
        raise StorageError(
            f"{target / in_the_way[0]} is in the way, with other content",
            hint="export into an empty folder, or move away what is there; nothing was written",
            facts={"in the way": listing(in_the_way)},
        )
    needed = sum(plan.size for plan in plans)
    with translated(target):
        free = shutil.disk_usage(target).free
    if needed and needed + _MARGIN > free:
        raise DiskFullError(
            f"{needed:,} bytes are to be exported, and {free:,} are free in {target}",
            hint="free some space, or name another folder; nothing was written",
        )


def _carry_out(plan: _Plan, root: Root, target: Path, placer: Placer, reporter: Reporter) -> None:
    if not plan.missing:
        return
    with _staging(target) as aside:
        for entry in plan.missing:
            path = aside / entry.path
            make_folder(path.parent, durable=False)
            if isinstance(entry, Generated):
                publish(path, entry.content, mode=0o644)
            elif isinstance(entry, Pointer):
                with translated(path):
                    path.symlink_to(entry.target)
            else:
                _copy(root, entry, path, plan, placer)
            reporter.advanced("export", _size(entry))
        _sync_tree(aside)
        with translated(target):
            _move(aside, target)


def _copy(root: Root, entry: Linked, path: Path, plan: _Plan, placer: Placer) -> None:
    """A blob, copied and then compared."""
    blob = root.blob(entry.digest)
    if blob.is_file():
        placer.copy(blob, path)
        with translated(path):
            if path.stat().st_size == entry.size and digest_of(path) == entry.digest:
                return
    raise CorruptStoreError(
        f"{entry.path} of {plan.model.id} was changed or lost in {root.path}",
        hint=f"`bundle install --recheck` with the bundle {plan.line.content.line}-{plan.line.content.sequence} mends"
        " it; then export again",
        facts={"blob": blob},
    )


def _move(aside: Path, target: Path) -> None:
    """Give everything its final name: a folder that is new in one rename, what is new in another one by one.

    In the order of names, which has a registry's record after the packages that it speaks of.
    """
    for path in sorted(aside.iterdir()):
        final = target / path.name
        if path.is_dir() and not path.is_symlink() and final.is_dir():
            _move(path, final)
        else:
            path.rename(final)
    sync_folder(target)


def _prepare(target: Path) -> bool:
    """Make the folder. Whether it can have symbolic links."""
    make_folder(target)
    with _staging(target) as aside:
        try:
            (aside / "link").symlink_to("nowhere")
        except (OSError, NotImplementedError):
            return False
    return True


@contextmanager
def _staging(target: Path) -> Iterator[Path]:
    """A folder for what is not whole yet. It is locked, so that one that was left can be told from one in use."""
    aside = target / f"{_STAGING}{secrets.token_hex(4)}.partial"
    with translated(aside):
        aside.mkdir()
    lock = _locked(aside)
    try:
        yield aside
    finally:
        shutil.rmtree(aside, ignore_errors=True)
        if lock is not None:
            os.close(lock)


def _sweep(target: Path) -> None:
    """Remove what a killed export left."""
    for leftover in target.glob(f"{_STAGING}????????.partial"):
        if (lock := _locked(leftover)) is not None:
            shutil.rmtree(leftover, ignore_errors=True)
            os.close(lock)


def _locked(folder: Path) -> int | None:
    """A descriptor that holds the lock of a folder; None where another process has it, or folders have none."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        with suppress(OSError):
            if try_lock(descriptor, exclusive=True):
                return descriptor
        os.close(descriptor)
    return None


def _sync_tree(folder: Path) -> None:
    """Files are synced as they are written; here their names."""
    for path, _, _ in os.walk(folder, topdown=False):
        sync_folder(Path(path))
