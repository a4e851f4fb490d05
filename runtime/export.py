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

from manifests.errors import BusyError, CorruptStoreError, StorageError
from manifests.locks import lock_folder
from manifests.progress import Reporter
from manifests.publish import make_folder, publish, sync_folder, translated
from runtime.export_plan import Plan, check_target, chosen, plan_models, size
from runtime.generations import sync_tree
from runtime.layouts.base import Generated, Linked, Pointer
from runtime.links import Placer
from runtime.root import Root, digest_of
from runtime.space import check_space

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
    models = chosen(names, layout, root)
    check_target(root, target)
    _sweep(target)
    plans = plan_models(models, layout, root, target, links=True)
    placer = Placer()
    if any(each.missing for each in plans):
        with _made(target):
            if not _has_links(target):
                plans = plan_models(models, layout, root, target, links=False)
            _carry_out(plans, root, target, placer, reporter)
    done = tuple(ExportedModel(each.model.id, len(each.missing), each.size) for each in plans)
    return Exported(layout, target, done, {str(way): count for way, count in sorted(placer.ways.items())})


def _carry_out(plans: Sequence[Plan], root: Root, target: Path, placer: Placer, reporter: Reporter) -> None:
    if needed := sum(each.size for each in plans):
        hint = "free some space, or name another folder; nothing was written"
        check_space(needed, target, purpose="exported", hint=hint)
    reporter.started("export", needed)
    try:
        for each in plans:
            if each.missing:
                _export_model(each, root, target, placer, reporter)
    finally:
        reporter.finished("export")


def _export_model(plan: Plan, root: Root, target: Path, placer: Placer, reporter: Reporter) -> None:
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
            reporter.advanced("export", size(entry))
        sync_tree(aside)
        with translated(target):
            _move(aside, target)


def _copy(root: Root, entry: Linked, path: Path, plan: Plan, placer: Placer) -> None:
    """A blob, copied and then compared."""
    blob = root.blob(entry.digest)
    with translated(blob):
        if blob.is_file():
            placer.copy(blob, path)
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
        is_folder = path.is_dir() and not path.is_symlink()
        if is_folder and final.is_symlink():  # it came after the plan, and leads to another place
            raise StorageError(f"{final} is a link that was not there before", hint="remove it, then export again")
        if is_folder and final.is_dir():
            _move(path, final)
        else:
            path.rename(final)
    sync_folder(target)


@contextmanager
def _made(target: Path) -> Iterator[None]:
    """Make the folder for the block. If that fails, no empty folder stays that was not there before."""
    missing = [each for each in (target, *target.parents) if not os.path.lexists(each)]
    try:
        make_folder(target)
        yield
    except BaseException:
        for folder in missing:
            with suppress(OSError):  # something is in it, or it was never made
                folder.rmdir()
        raise


def _has_links(target: Path) -> bool:
    """Whether the folder can have symbolic links."""
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
    try:
        return lock_folder(folder, busy="")
    except BusyError:
        return None
