"""Installing a bundle: verify, stage, check, build the generation, activate, write the ledger. In this order.

* Nothing is written before envelope and index are verified; nothing is active before all of it is right.
* Killed anywhere, the old generation or the new one is active; the next run goes on from the blobs that are here.
"""

import hashlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final

from manifests import recipe
from manifests.bundle import SealedBundle, VerifiedBundle
from manifests.digest import Digest
from manifests.errors import DiskFullError, RollbackError
from manifests.progress import Reporter
from manifests.publish import READ_ONLY, publish, publishing, sweep, translated
from manifests.recipe import Recipe, RecipeChunk
from manifests.tables import Blob
from runtime import generations, ledger, lines, trust
from runtime.lines import Line
from runtime.links import Placer
from runtime.root import Root

_MARGIN: Final = 16 << 20
"""Bytes that are left free for names and small files."""
_PIECE: Final = 4 << 20


@dataclass(frozen=True, slots=True)
class Installed:
    """What an install did. `changed` is False when all of it was there already; sizes are in bytes."""

    line: str
    sequence: int
    content: Digest
    generation: int
    changed: bool
    models: tuple[str, ...]
    staged: int = 0
    reused: int = 0
    ways: dict[str, int] = field(default_factory=dict)
    signers: tuple[str, ...] = ()


def install(path: Path, root: Root, *, allow_older: bool, now: datetime, reporter: Reporter) -> Installed:
    """Install the bundle at `path` into `root`.

    Errors: `NoRootOfTrustError`; those of `SealedBundle.open` and `verify`; `RollbackError`; `NamingError` for an id
    that another line has; `DiskFullError` before the first byte is written; `BusyError`; `StorageError`.
    """
    keyring = trust.load(root)
    Root.open(root.path)
    with SealedBundle.open(path) as sealed:
        bundle = sealed.verify(keyring)
        with root.lock():
            return _install(bundle, root, allow_older=allow_older, now=now, reporter=reporter)


def _install(bundle: VerifiedBundle, root: Root, *, allow_older: bool, now: datetime, reporter: Reporter) -> Installed:
    _sweep(root)
    line = lines.of(bundle)
    older_allowed = _check_sequence(root, line, allow_older=allow_older)
    present = generations.active(root)
    wanted = {**present, line.content.line: line}
    generations.check_union(wanted)
    number = root.current()
    changed = number is None or wanted != present
    staged = reused = 0
    placer = Placer()
    if number is None or changed:
        staged, reused = _stage(bundle, root, reporter)
        number = generations.find(root, wanted) or generations.build(root, wanted, placer)
        root.activate(number)
    index_digest = Digest.of(bundle.index.raw)
    if changed or not any(entry.content == line.content_digest for entry in ledger.read(root)):
        ledger.add(root, line, index=index_digest, generation=number, older_allowed=older_allowed, at=now)
    return Installed(
        line=line.content.line,
        sequence=line.content.sequence,
        content=line.digest,
        generation=number,
        changed=changed,
        models=tuple(model.id for model in line.content.items),
        staged=staged,
        reused=reused,
        ways={str(way): count for way, count in sorted(placer.ways.items())},
        signers=line.signers,
    )


def _check_sequence(root: Root, line: Line, *, allow_older: bool) -> bool:
    """Whether an older bundle is let in by the operator's word. Another one under a known number never is."""
    name, sequence = line.content.line, line.content.sequence
    known = ledger.known(root, name)
    if (same := known.get(sequence)) is not None and same != line.digest:
        raise RollbackError(
            f"{name} {sequence} is not the {name} {sequence} that this site has had: two bundles under one number",
            hint="ask the builder to lock again, which raises the sequence",
            facts={"here": same, "offered": line.digest},
        )
    floor = max(known, default=0)
    if sequence < floor and not allow_older:
        raise RollbackError(
            f"{name} {sequence} is older than {name} {floor}, which this site has had",
            hint="`--allow-older` installs it all the same, and the ledger says so",
        )
    return sequence < floor


def _stage(bundle: VerifiedBundle, root: Root, reporter: Reporter) -> tuple[int, int]:
    """Bring every blob into the root. Returns bytes staged, and bytes that were here already."""
    missing = [blob for blob in bundle.index.blobs if not _is_present(bundle, root, blob)]
    needed = sum(blob.size for blob in missing)
    with translated(root.path):
        free = shutil.disk_usage(root.path).free
    if needed + _MARGIN > free:
        raise DiskFullError(
            f"{needed:,} bytes are to be staged, and {free:,} are free in {root.path}",
            hint="free some space, or name another --root; nothing has been written",
        )
    reporter.started("install", needed)
    try:
        for blob in missing:
            _stage_blob(bundle, root, blob, reporter)
    finally:
        reporter.finished("install")
    return needed, sum(blob.size for blob in bundle.index.blobs) - needed


def _stage_blob(bundle: VerifiedBundle, root: Root, blob: Blob, reporter: Reporter) -> None:
    """Blob, then recipe: a recipe says that the blob beside it was checked."""
    with publishing(root.blob(blob.digest), mode=READ_ONLY) as stream:
        for raw in bundle.read(blob):
            stream.write(raw)
            reporter.advanced("install", len(raw))
    publish(root.recipe(blob.digest), recipe.encode(_recipe(bundle, blob)))


def _recipe(bundle: VerifiedBundle, blob: Blob) -> Recipe:
    chunks = tuple(RecipeChunk(chunk.raw_digest, chunk.raw_length) for chunk in bundle.index.chunks(blob))
    return Recipe(blob.digest, blob.size, blob.md5, blob.git_sha1, bundle.index.algorithm, chunks)


def _is_present(bundle: VerifiedBundle, root: Root, blob: Blob) -> bool:
    """Whether the blob is here: by its recipe, else by its digest. What is neither is put in quarantine."""
    path = root.blob(blob.digest)
    if not path.is_file():
        return False
    wanted = recipe.encode(_recipe(bundle, blob))
    with translated(path):
        if path.stat().st_size == blob.size:
            if _read_recipe(root, blob) == wanted:
                return True
            if _digest(path) == blob.digest:
                publish(root.recipe(blob.digest), wanted)
                return True
        root.quarantine.mkdir(parents=True, exist_ok=True)
        path.replace(root.quarantine / path.name)
    return False


def _read_recipe(root: Root, blob: Blob) -> bytes:
    try:
        return root.recipe(blob.digest).read_bytes()
    except FileNotFoundError:
        return b""


def _digest(path: Path) -> Digest:
    hash_ = hashlib.sha256()
    with path.open("rb") as stream:
        while piece := stream.read(_PIECE):
            hash_.update(piece)
    return Digest(hash_.digest())


def _sweep(root: Root) -> None:
    """Remove what a killed install left under temporary names."""
    for folder in _written_folders(root):
        sweep(folder)
    if root.generations.is_dir():
        for leftover in root.generations.glob(".*.partial"):
            shutil.rmtree(leftover, ignore_errors=True)


def _written_folders(root: Root) -> Iterator[Path]:
    yield from (root.path, root.ledger)
    for kind in (root.path / "blobs" / "sha256", root.path / "recipes"):
        if kind.is_dir():
            yield from (folder for folder in kind.iterdir() if folder.is_dir())
