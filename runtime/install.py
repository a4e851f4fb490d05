"""Installing a bundle: verify, stage, check, build the generation, activate, write the ledger. In this order.

* Nothing is written before envelope and index are verified; nothing is active before all of it is right.
* Killed anywhere, the old generation or the new one is active; the next run goes on from the blobs that are here.
"""

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from manifests import recipe
from manifests.bundle import SealedBundle, VerifiedBundle
from manifests.digest import Digest
from manifests.errors import CorruptStoreError, RollbackError, listing
from manifests.progress import Reporter
from manifests.publish import READ_ONLY, make_folder, publish, publishing, sweep, translated
from manifests.recipe import Recipe, RecipeChunk
from manifests.tables import Blob
from runtime import generations, kits, ledger, lines, trust
from runtime.kits import InstalledKit
from runtime.lines import Line
from runtime.links import Placer
from runtime.root import Root, digest_of
from runtime.space import check_space


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
    kits: tuple[InstalledKit, ...] = ()
    """The program that the line brings: to be offered."""
    gone: tuple[str, ...] = ()
    """Ids that the line had before, and has no more."""


def install(
    path: Path, root: Root, *, allow_older: bool, recheck: bool = False, now: datetime, reporter: Reporter
) -> Installed:
    """Install the bundle at `path` into `root`. With `recheck`, hash what is here already instead of trusting it.

    Errors: `NoRootOfTrustError`; those of `SealedBundle.open` and `verify`; `RollbackError`; `NamingError` for an id
    that another line has; `DiskFullError` before the first blob is written; `CorruptStoreError` naming another line
    whose bundle must be installed again; `BusyError`; `StorageError`.
    """
    keyring = trust.load(root)
    Root.open(root.path)
    with SealedBundle.open(path) as sealed:
        bundle = sealed.verify(keyring)
        with root.lock():
            return _Install(bundle, root, recheck, reporter).run(allow_older=allow_older, now=now)


@dataclass(frozen=True, slots=True)
class _Install:
    """One verified bundle on its way into a root that is locked."""

    bundle: VerifiedBundle
    root: Root
    recheck: bool
    reporter: Reporter

    def run(self, *, allow_older: bool, now: datetime) -> Installed:
        """Stage, build, activate, write the ledger."""
        _sweep(self.root)
        number, present = self._present()
        name = self.bundle.index.content.line
        line = lines.merged(lines.of(self.bundle), present.get(name))
        older_allowed = _check_sequence(self.root, line, present.get(name), allow_older=allow_older)
        wanted = {**present, name: line}
        generations.check_union(wanted)
        staged, reused = self._stage()
        self._check_other_lines(wanted, name)
        placer = Placer()
        whole = generations.find(self.root, wanted, recheck=self.recheck)
        target = whole or generations.build(self.root, wanted, placer)
        if target != number:
            self.root.activate(target)
        last = ledger.last(self.root, name)
        if target != number or last is None or last.content != line.content_digest:
            ledger.add(
                self.root,
                line,
                index=Digest.of(self.bundle.index.raw),
                generation=target,
                signers=self.bundle.signers,
                older_allowed=older_allowed,
                at=now,
            )
        return Installed(
            line=name,
            sequence=line.content.sequence,
            content=line.digest,
            generation=target,
            changed=target != number,
            models=tuple(model.id for model in line.content.models),
            staged=staged,
            reused=reused,
            ways={str(way): count for way, count in sorted(placer.ways.items())},
            signers=tuple(sorted(key.id for key in self.bundle.signers)),
            kits=kits.of_lines(self.root.generation(target), {name: line}),
            gone=_gone(present.get(name), line),
        )

    def _present(self) -> tuple[int | None, dict[str, Line]]:
        """The active generation and its lines; where `current` is lost, the newest lines that can be read."""
        try:
            if (number := self.root.current()) is not None:
                return number, generations.read(self.root, number)
        except CorruptStoreError as error:
            self.reporter.note(str(error))
        if salvaged := generations.salvage(self.root):
            self.reporter.note(f"no generation is active; going on from the newest one: {listing(sorted(salvaged))}")
        return None, salvaged

    def _stage(self) -> tuple[int, int]:
        """Bring every blob into the root. Returns bytes staged, and bytes that were here already."""
        blobs = self.bundle.index.blobs
        missing = [blob for blob in blobs if not self._is_present(blob)]
        needed = sum(blob.size for blob in missing)
        if missing:
            hint = "free some space, or name another --root; what is active stays as it is"
            check_space(needed, self.root.path, purpose="staged", hint=hint)
        self.reporter.started("install", needed)
        try:
            for blob in missing:
                self._stage_blob(blob)
        finally:
            self.reporter.finished("install")
        return needed, sum(blob.size for blob in blobs) - needed

    def _stage_blob(self, blob: Blob) -> None:
        """Blob, then recipe: a recipe says that the blob beside it was checked."""
        with publishing(self.root.blob(blob.digest), mode=READ_ONLY) as stream:
            for raw in self.bundle.read(blob):
                stream.write(raw)
                self.reporter.advanced("install", len(raw))
        self._record(blob)

    def _record(self, blob: Blob) -> None:
        publish(self.root.recipe(blob.digest), self._recipe(blob))
        _note_time(self.root, blob.digest)

    def _recipe(self, blob: Blob) -> bytes:
        index = self.bundle.index
        chunks = tuple(RecipeChunk(chunk.raw_digest, chunk.raw_length) for chunk in index.chunks(blob))
        return recipe.encode(Recipe(blob.digest, blob.size, blob.md5, blob.git_sha1, index.algorithm, chunks))

    def _is_present(self, blob: Blob) -> bool:
        """Whether the blob is here: by its recipe, else by its digest. What is neither is put in quarantine."""
        if not self.recheck and _is_as_recorded(self.root, blob.digest, blob.size, recipe=self._recipe(blob)):
            return True
        if not _is_sound(self.root, blob.digest, blob.size):
            return False
        self._record(blob)
        return True

    def _check_other_lines(self, wanted: Mapping[str, Line], name: str) -> None:
        """A generation is built of all lines: the blobs of the others must be here too, and as they were."""
        for other, line in wanted.items():
            if other == name:
                continue
            for file in line.content.files():
                if not self.recheck and _is_as_recorded(self.root, file.digest, file.size):
                    continue
                if not _is_sound(self.root, file.digest, file.size):
                    raise CorruptStoreError(
                        f"{file.path} of the bundle line {other!r} was changed or lost in {self.root.path}",
                        hint=f"install the bundle {other}-{line.content.sequence} again, then this one",
                    )
                _note_time(self.root, file.digest)


def _gone(before: Line | None, now: Line) -> tuple[str, ...]:
    kept = {item.id for item in now.content.items}
    return tuple(item.id for item in before.content.items if item.id not in kept) if before else ()


def _is_as_recorded(root: Root, digest: Digest, size: int, *, recipe: bytes | None = None) -> bool:
    """Whether a blob has its length and its (or this) recipe, and was not written to since that was noted."""
    try:
        blob, recorded = root.blob(digest).lstat(), root.recipe(digest).lstat()
        agrees = recipe is None or root.recipe(digest).read_bytes() == recipe
    except OSError:
        return False
    return agrees and blob.st_size == size and blob.st_mtime_ns == recorded.st_mtime_ns


def _note_time(root: Root, digest: Digest) -> None:
    """Give a recipe the time of its blob: who writes to the blob, or copies both without their times, parts the two."""
    with suppress(FileNotFoundError), translated(root.recipe(digest)):
        status = root.blob(digest).stat()
        os.utime(root.recipe(digest), ns=(status.st_atime_ns, status.st_mtime_ns))


def _is_sound(root: Root, digest: Digest, size: int) -> bool:
    """Whether a blob is here and has its digest. One that has not is put in quarantine."""
    path = root.blob(digest)
    with translated(path):
        if not path.is_file():
            return False
        if path.stat().st_size == size and digest_of(path) == digest:
            return True
        make_folder(root.quarantine)
        path.replace(root.quarantine / path.name)
    return False


def _check_sequence(root: Root, line: Line, active: Line | None, *, allow_older: bool) -> bool:
    """Whether this is an older bundle that the operator lets in. Another one under a known number never is let in.

    What is active already is no step back, whatever came after it.
    """
    name, sequence = line.content.line, line.content.sequence
    known = ledger.known(root, name)
    if (same := known.get(sequence)) is not None and same != line.digest:
        raise RollbackError(
            f"{name} {sequence} is not the {name} {sequence} that this site has had: two bundles under one number",
            hint="ask the builder to lock again, which raises the sequence",
            facts={"here": same, "offered": line.digest},
        )
    floor = max(known, default=0)
    if sequence < floor and not allow_older and (active is None or active.digest != line.digest):
        raise RollbackError(
            f"{name} {sequence} is older than {name} {floor}, which this site has had",
            hint="`--allow-older` installs it all the same, and the ledger says so",
        )
    return sequence < floor


def _sweep(root: Root) -> None:
    """Remove what a killed install left under temporary names."""
    for folder in _written_folders(root):
        sweep(folder)
    if root.generations.is_dir():
        for leftover in root.generations.glob(".*.partial"):
            shutil.rmtree(leftover, ignore_errors=True)


def _written_folders(root: Root) -> Iterator[Path]:
    yield from (root.path, root.ledger)
    for kind in (root.blobs, root.recipes):
        if kind.is_dir():
            yield from (folder for folder in kind.iterdir() if folder.is_dir())
