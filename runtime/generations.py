"""Generations: complete, self-contained trees of names, built beside the active one and activated by one rename.

* A generation is a function of its lines: the active one with one line replaced. Same lines, same bytes.
* A generation folder exists under its number only when all of it is on the disk.
* Large files are hard links to blobs; small and generated ones, and those that a layout wants so, are copies, because a
  client may rewrite them in place.
"""

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import Final

from manifests import canonical
from manifests.content import Model
from manifests.errors import CorruptStoreError, NamingError, NotARootError
from manifests.naming import check_ids
from manifests.paths import fold
from manifests.publish import Batch, make_folder, sync_folder, translated
from runtime import lines
from runtime.catalogue import Catalogue, InstalledModel, InstalledPackage
from runtime.layouts import directory, huggingface, inference, kits, workflows
from runtime.layouts.base import Entry, Generated, Layout, Linked, Pointer
from runtime.lines import Line
from runtime.links import Placer
from runtime.root import Root, digest_of

FORMAT: Final = 1
SMALL: Final = 128 << 10
"""Bytes up to which a file is copied into each generation."""
LAYOUTS: Final[Mapping[str, Layout]] = {
    directory.NAME: directory.entries,
    huggingface.NAME: huggingface.entries,
    inference.NAME: inference.entries,
}


def read(root: Root, number: int) -> dict[str, Line]:
    """The lines of a generation, by name. Errors: `CorruptStoreError`."""
    folder = root.generation(number) / "lines"
    with translated(folder):
        files = sorted(folder.glob("*.json"))
        found = [lines.decode(path.read_bytes(), subject=str(path)) for path in files]
    return {line.content.line: line for line in found}


def active(root: Root) -> dict[str, Line]:
    """The lines of the active generation; none before the first install."""
    number = root.current()
    return {} if number is None else read(root, number)


def salvage(root: Root) -> dict[str, Line]:
    """The lines of the newest generation that can be read: where `current` leads nowhere, the best that is known."""
    for number in reversed(root.numbers()):
        with suppress(CorruptStoreError):
            return read(root, number)
    return {}


def find(root: Root, wanted: Mapping[str, Line], *, recheck: bool = False) -> int | None:
    """A whole generation made of exactly these lines: the active one if it is, else the newest.

    With `recheck`, small files are compared too: without it, what a client rewrote in place is tolerated.
    """
    numbers = root.numbers()[::-1]
    with suppress(CorruptStoreError):
        numbers.sort(key=lambda number: number != root.current())
    for number in numbers:
        with suppress(CorruptStoreError):
            if read(root, number) == dict(wanted) and _is_whole(root, number, wanted, recheck=recheck):
                return number
    return None


def _is_whole(root: Root, number: int, wanted: Mapping[str, Line], *, recheck: bool) -> bool:
    """Whether every name is there, and every large file is its blob, or has the blob's digest."""
    folder = root.generation(number)
    try:
        return all(_is_right(root, folder / entry.path, entry, recheck=recheck) for entry in entries(wanted))
    except OSError:
        return False


def _is_right(root: Root, path: Path, entry: Entry, *, recheck: bool) -> bool:
    """Whether `path` is what `entry` asks for. `OSError` if it is not there."""
    status = path.stat()
    if isinstance(entry, Generated):
        return not recheck or path.read_bytes() == entry.content
    linked = entry.instead if isinstance(entry, Pointer) else entry
    if (linked.size <= SMALL or linked.copied) and not recheck:
        return True
    if status.st_size != linked.size:
        return False
    with suppress(OSError):
        if os.path.samestat(status, root.blob(linked.digest).stat()):
            return True
    return digest_of(path) == linked.digest


def check_union(wanted: Mapping[str, Line]) -> None:
    """`NamingError`, naming both lines, if an id or alias of one clashes with one of another."""
    owners: dict[str, str] = {}
    for name, line in wanted.items():
        for called in line.content.names():
            other = owners.setdefault(fold(called), name)
            if other != name:
                raise NamingError(
                    f"{called!r} is in the bundle line {other!r}, and in {name!r} too",
                    hint=f"rename it in the manifest of {name!r}, then lock, build and install that again",
                )
    check_ids(called for line in wanted.values() for called in line.content.names())


def build(root: Root, wanted: Mapping[str, Line], placer: Placer) -> int:
    """Build the generation of these lines, and return its number. It is on the disk, and not active.

    Every blob must be in the root. Errors: `StorageError`, `DiskFullError`.
    """
    number = max(root.numbers(), default=0) + 1
    fresh = root.generations / f".{number}.partial"
    with translated(fresh):
        shutil.rmtree(fresh, ignore_errors=True)
        try:
            make_folder(fresh)
            batch = Batch()
            for entry in entries(wanted):
                _carry_out(root, fresh, entry, placer, batch)
            batch.sync()
            sync_tree(fresh)
            fresh.rename(root.generation(number))
        except BaseException:
            shutil.rmtree(fresh, ignore_errors=True)
            raise
    sync_folder(root.generations)
    return number


def entries(wanted: Mapping[str, Line]) -> Iterator[Entry]:
    """Every name in the generation of these lines."""
    summary = {
        "format": FORMAT,
        "lines": [
            {"line": name, "sequence": line.content.sequence, "content": line.content_digest}
            for name, line in sorted(wanted.items())
        ],
    }
    yield Generated("generation.json", canonical.encode_for_people(summary))
    for name, line in sorted(wanted.items()):
        yield Generated(f"lines/{name}.json", lines.encode(line))
        for model in line.content.models:
            for layout in model.layouts:
                yield from LAYOUTS[layout](model, line)
        for wheels in line.content.wheels:
            yield from kits.entries(wheels, line)
        for workflow in line.content.workflows:
            yield from workflows.entries(workflow, line)


def open_catalogue(path: Path) -> Catalogue:
    """The models that are installed in the root at `path`.

    Errors: `NotARootError` if there is none, or nothing in it; `CorruptStoreError`.
    """
    root = Root.open(path)
    number = root.current()
    if number is None:
        raise NotARootError(f"nothing is installed in {path}", hint="`bundle install BUNDLE` first")
    installed = read(root, number)
    models = (
        _installed(root.generation(number), name, model)
        for name, line in sorted(installed.items())
        for model in line.content.models
    )
    return Catalogue(
        number, tuple(models), tuple((name, line.content.sequence) for name, line in sorted(installed.items()))
    )


class CatalogueReader:
    """The catalogue of a root, read anew only when another generation has become active. Thread-safe."""

    def __init__(self, path: Path) -> None:
        self._root = Root.open(path)
        self._lock = Lock()
        self._read: Catalogue | None = None

    def __call__(self) -> Catalogue:
        """What is installed now. Errors: those of `open_catalogue`."""
        with self._lock:
            if self._read is None or self._read.generation != self._root.current():
                self._read = open_catalogue(self._root.path)
            return self._read


def _installed(generation: Path, line: str, model: Model) -> InstalledModel:
    packages = tuple(
        InstalledPackage(
            id=package.id,
            backend=package.backend,
            quantization=package.quantization,
            opset=package.opset,
            static_batch=package.static_batch,
            directory=generation / directory.folder(model, package),
            files=tuple(file.path for file in package.files),
            default=package.default,
            trusted=package.client.trusted if package.client else model.client is None,
            incompatible_providers=(package.client.incompatible_providers if package.client else None) or (),
        )
        for package in model.packages
    )
    return InstalledModel(model.id, model.aliases, model.task, model.architecture, line, packages)


def _carry_out(root: Root, folder: Path, entry: Entry, placer: Placer, batch: Batch) -> None:
    make_folder((folder / entry.path).parent, durable=False)
    if isinstance(entry, Generated):
        batch.publish(folder / entry.path, entry.content, mode=0o644)
    elif isinstance(entry, Pointer):
        try:
            (folder / entry.path).symlink_to(entry.target)
        except (NotImplementedError, PermissionError):
            _carry_out(root, folder, entry.instead, placer, batch)
    else:
        _place(root.blob(entry.digest), folder / entry.path, entry, placer)


def _place(source: Path, target: Path, entry: Linked, placer: Placer) -> None:
    if entry.size > SMALL and not entry.copied:
        placer.link(source, target)
    else:
        placer.copy(source, target)


def sync_tree(folder: Path) -> None:
    """Return when the names in `folder`, and below it, are on the disk. Files are synced as they are written."""
    for path, _, _ in os.walk(folder, topdown=False):
        sync_folder(Path(path))
