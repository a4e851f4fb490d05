"""From a manifest and its sources to a lock, and from a lock into the store.

* A lock says everything by digest. What a source gives no SHA-256 for is fetched into the store to be hashed.
* Resolving twice gives the same lock, whatever the store held before: of several sources, the one that is chosen gave
  the file itself.
* What a previous lock pinned stays pinned while its source text stays, unless an upgrade is asked for. Local files have
  no pin: they are read every time. What a file claimed stays with the file while it stays pinned.
* `fetch_locked` follows pins only, and compares every digest.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from bundler import licenses
from bundler.http import Client
from bundler.intake import Intake
from bundler.kits import stored
from bundler.settings import Settings
from bundler.sources.base import Found, Source, matches
from bundler.sources.reference import FILE, Reference, relative
from bundler.sources.schemes import sources
from bundler.together import combined, together
from manifests import canonical
from manifests.digest import Digest
from manifests.errors import DigestMismatchError, ManifestError, SourceError, SourceNotFoundError, listing
from manifests.kit import DESCRIPTION, SUMS, Kit, package_id
from manifests.lock import FORMAT, Lock, LockedFile, LockedKit, LockedModel, LockedPackage, mapped, same_content
from manifests.manifest import FileRequest, KitRequest, Manifest, ModelRequest, PackageRequest, default_package_id
from manifests.paths import check_tree, checked_path
from manifests.progress import Reporter
from manifests.store import Store

T = TypeVar("T")
_ONNX: Final = "onnx"


def resolve(
    manifest: Manifest,
    *,
    base: Path,
    store: Store,
    settings: Settings,
    previous: Lock | None,
    upgrade: bool,
    reporter: Reporter,
    sequence: int | None = None,
    folder: Path | None = None,
) -> Lock:
    """The lock of `manifest`, which lies in the folder `base`; the lock lies in `folder`, by default there too.

    The sequence is `sequence` if given, else 1 for a first lock, else the previous one, raised if the content changed.
    Errors: `ManifestError` (also for a `sequence` that does not rise with the content), `NamingError`;
    `SourceError` and its kinds, for all files that failed; `StorageError`.
    """
    with _work(base, store, settings, reporter) as work:
        pinned = _Pinned(None if upgrade else previous)
        wanted = work.together(
            [
                *(partial(_wanted, work, model, pinned) for model in manifest.models),
                *(partial(_wanted_kit, work, kit, pinned) for kit in manifest.kits),
            ]
        )
        settled = iter(work.together([partial(work.settle, file) for files in wanted for file in files]))
        found = iter([[next(settled) for _ in files] for files in wanted])
        models = tuple(_locked_model(model, next(found)) for model in manifest.models)
        kits = tuple(_locked_kit(work, kit, next(found)) for kit in manifest.kits)
    asked = str(Digest.of(canonical.encode(manifest)))
    lock = Lock(format=FORMAT, line=manifest.name, sequence=1, models=models, kits=kits, manifest=asked)
    lock = rebased(lock, base, base if folder is None else folder)
    return msgspec.structs.replace(lock, sequence=_sequence(lock, previous, sequence))


def rebased(lock: Lock, base: Path, folder: Path) -> Lock:
    """`lock` with the paths of this machine, which are relative to `base`, written relative to `folder`."""
    here, there = base.resolve(), folder.resolve()
    if here == there:
        return lock
    return mapped(lock, lambda file: msgspec.structs.replace(file, source=_rebased(file.source, here, there)))


def fetch_locked(lock: Lock, *, base: Path, store: Store, settings: Settings, reporter: Reporter) -> None:
    """Bring every file of `lock` that the store lacks into it, by its pin.

    Errors: `DigestMismatchError` for a file that is not what was locked; other `SourceError`, for all that failed.
    """
    missing: dict[str, tuple[str, LockedFile]] = {}
    for name, file in lock.files():
        if store.find(file.digest) is None:
            missing.setdefault(file.sha256, (name, file))
    if missing:
        with _work(base, store, settings, reporter) as work:
            work.together([partial(work.fetch, file, subject=name) for name, file in missing.values()])


@dataclass(frozen=True, slots=True)
class _Wanted:
    """One file of the lock to be: `found` if a listing already found it, `kept` if it stays as it was locked."""

    package: int
    path: str
    subject: str
    references: tuple[Reference, ...]
    expected: Digest | None = None
    found: Found | None = None
    kept: LockedFile | None = None


@dataclass(frozen=True, slots=True)
class _Settled:
    """A file of the lock, and the number of its package."""

    package: int
    file: LockedFile


class _Pinned:
    """What the previous lock says."""

    def __init__(self, lock: Lock | None) -> None:
        self._items = {item.id: item for item in lock.items} if lock else {}

    def file(self, model_id: str, path: str, references: Iterable[Reference]) -> LockedFile | None:
        """The file `path` of a model as it was locked, if it came from one of `references`, and not from this disk."""
        texts = {str(reference) for reference in references if reference.scheme != FILE}
        return next((f for f in self._files(model_id) if f.path == path and f.source in texts), None)

    def pin(self, model_id: str, reference: Reference) -> Mapping[str, str]:
        """The pin of a repository: that of any file that was locked out of it."""
        for file in self._files(model_id):
            if file.source in {str(reference), str(reference.child(file.path))}:
                return file.pin
        return {}

    def _files(self, model_id: str) -> Iterator[LockedFile]:
        item = self._items.get(model_id)
        for package in item.packages if item else ():
            yield from package.files


class _Work:
    """The parts that a run needs, and the steps that use them."""

    def __init__(self, base: Path, store: Store, settings: Settings, client: Client, intake: Intake) -> None:
        self.base = base
        self._store = store
        self._threads = settings.threads
        self._client = client
        self._intake = intake
        self._sources = sources(settings, client, base)

    def together(self, jobs: Sequence[Callable[[], T]]) -> list[T]:
        """What the jobs give, all errors collected."""
        return together(jobs, threads=self._threads, stop=self._client.stop)

    def source(self, reference: Reference) -> Source:
        """The source that speaks the scheme of `reference`."""
        return self._sources[reference.scheme]

    def settle(self, wanted: _Wanted) -> _Settled:
        """The locked file: from the first source that gives it."""
        if wanted.kept is not None:
            return _Settled(wanted.package, wanted.kept)
        errors: list[SourceError] = []
        for reference in wanted.references:
            try:
                return self._settle_from(reference, wanted)
            except SourceError as error:
                errors.append(error)
                if len(errors) < len(wanted.references):
                    told = str(error).removeprefix(f"{wanted.subject}: ")
                    self._intake.reporter.note(f"{wanted.subject}: {told}; trying the next source")
        raise combined(errors, subject=wanted.subject)

    def fetch(self, file: LockedFile, *, subject: str) -> None:
        """Bring a locked file into the store, by its pin and with its digest compared."""
        reference = replace(Reference.parse(file.source, self.base), digest=file.digest)
        found = self.source(reference).find(reference, file.pin)
        known = found if reference.members else replace(found, size=file.size)
        self._intake.take(known, expected=file.digest, subject=subject)

    def kit(self, files: Sequence[LockedFile], *, subject: str) -> Kit:
        """The kit that `files` are: its description, and every file as `SHA256SUMS` says."""
        for file in files:
            if file.path in {DESCRIPTION, SUMS} and self._store.find(file.digest) is None:
                self.fetch(file, subject=f"{subject} {file.path}")
        return stored.read(files, self._store, subject=subject)

    def _settle_from(self, reference: Reference, wanted: _Wanted) -> _Settled:
        expected = wanted.expected
        found = wanted.found or self.source(reference).find(replace(reference, digest=expected), {})
        for warning in found.warnings:
            self._intake.reporter.note(warning)
        digest, size, pin = found.digest, found.size, found.pin
        claims = self._intake.licenses(found)
        if reference.members or digest is None or size is None:
            fresh = len(wanted.references) > 1
            taken = self._intake.take(found, expected=expected, subject=wanted.subject, fresh=fresh)
            digest, size = taken.recipe.digest, taken.recipe.size
            pin = pin or ({} if expected else taken.pin)
            if licenses.is_onnx(wanted.path):
                claims = (*claims, *licenses.of_onnx(self._store, digest))
        if expected is not None and digest != expected:
            raise DigestMismatchError(subject=wanted.subject, expected=expected, actual=digest)
        file = LockedFile(
            path=wanted.path,
            sha256=digest.hex,
            size=size,
            source=str(reference),
            pin=dict(pin),
            lfs=found.lfs,
            licenses=tuple(dict.fromkeys(claims)),
            gated=found.gated,
        )
        return _Settled(wanted.package, file)


@contextmanager
def _work(base: Path, store: Store, settings: Settings, reporter: Reporter) -> Iterator[_Work]:
    with Client(settings, reporter) as client, Intake(store, client, reporter) as intake:
        yield _Work(base, store, settings, client, intake)


def _wanted(work: _Work, model: ModelRequest, pinned: _Pinned) -> list[_Wanted]:
    """The files of a model: those that the manifest lists, or those that its source has."""
    if model.source is not None:
        return _listed(work, model, Reference.parse(model.source, work.base), pinned)
    wanted: list[_Wanted] = []
    for number, package in enumerate(model.packages):
        for path in sorted(package.files):
            request = package.files[path]
            references = tuple(Reference.parse(text, work.base) for text in request.sources)
            expected = _expected(request, references, subject=f"{model.id} {path}")
            kept = pinned.file(model.id, path, references)
            if kept is not None and expected not in {None, kept.digest}:
                kept = None
            wanted.append(_Wanted(number, path, f"{model.id} {path}", references, expected, kept=kept))
    return wanted


def _wanted_kit(work: _Work, kit: KitRequest, pinned: _Pinned) -> list[_Wanted]:
    """The files of every folder of a kit: a package each."""
    wanted: list[_Wanted] = []
    for number, source in enumerate(kit.sources):
        folder = ModelRequest(id=kit.id, source=source)
        files = _listed(work, folder, Reference.parse(source, work.base), pinned)
        wanted += (replace(file, package=number) for file in files)
    return wanted


def _listed(work: _Work, model: ModelRequest, reference: Reference, pinned: _Pinned) -> list[_Wanted]:
    found = work.source(reference).list(reference, pinned.pin(model.id, reference))
    name = reference.members[-1].rpartition("/")[2] if reference.members else ""
    chosen = {
        checked_path(name or file.path): file
        for file in found
        if matches(name or file.path, include=model.include, exclude=model.exclude)
    }
    if not chosen:
        raise SourceNotFoundError(
            f"{model.id}: `include` and `exclude` choose none of the {len(found)} files of {reference}",
            hint=f"there are: {listing(file.path for file in found)}",
        )
    check_tree(chosen, subject=model.id)
    wanted: list[_Wanted] = []
    for path, file in chosen.items():
        kept = pinned.file(model.id, path, (file.reference,))
        if kept is not None and file.pin and dict(file.pin) != kept.pin:
            kept = None
        subject = f"{model.id} {path}"
        wanted.append(_Wanted(0, path, subject, (file.reference,), file.reference.digest, file, kept))
    return wanted


def _expected(request: FileRequest, references: Sequence[Reference], *, subject: str) -> Digest | None:
    """The one digest that the manifest gives for a file, wherever it gives it."""
    digests = {reference.digest for reference in references if reference.digest is not None}
    if request.sha256 is not None:
        digests.add(Digest.parse(f"sha256:{request.sha256.removeprefix('sha256:')}"))
    if len(digests) > 1:
        raise ManifestError(f"{subject}: the manifest gives {len(digests)} different digests")
    return next(iter(digests), None)


def _locked_model(model: ModelRequest, settled: Sequence[_Settled]) -> LockedModel:
    claims = [model.license] if model.license else []
    for entry in settled:
        claims += entry.file.licenses
    requests = model.packages or (PackageRequest(files={}),)
    packages = tuple(
        _locked_package(requests[number], [file.file for file in files])
        for number, files in groupby(settled, key=lambda file: file.package)
    )
    if len({package.id.lower() for package in packages}) != len(packages):
        raise ManifestError(f"model {model.id!r}: two packages would have one id", hint="give each an `id`")
    return LockedModel(
        id=model.id,
        task=model.task,
        packages=packages,
        aliases=model.aliases,
        architecture=model.architecture,
        licenses=tuple(dict.fromkeys(claims)),
        layouts=model.layouts,
        commit=settled[0].file.pin.get("commit") if model.source is not None else None,
        gated=any(entry.file.gated for entry in settled),
    )


def _locked_kit(work: _Work, kit: KitRequest, settled: Sequence[_Settled]) -> LockedKit:
    packages: list[LockedPackage] = []
    programs: dict[str, str] = {}
    for number, entries in groupby(settled, key=lambda file: file.package):
        files = tuple(sorted((entry.file for entry in entries), key=lambda file: file.path))
        described = work.kit(files, subject=kit.sources[number])
        programs.setdefault(described.program, kit.sources[number])
        packages.append(LockedPackage(id=package_id(described), files=files, default=number == 0))
    if len(programs) > 1:
        raise ManifestError(
            f"kit {kit.id!r}: its folders hold different versions of the program",
            hint="make them anew with one `bundle`",
            facts={source: version for version, source in programs.items()},
        )
    if len({package.id for package in packages}) != len(packages):
        raise ManifestError(f"kit {kit.id!r}: two of its folders are for one platform and Python")
    return LockedKit(id=kit.id, program=next(iter(programs)), packages=tuple(packages))


def _locked_package(request: PackageRequest, files: Sequence[LockedFile]) -> LockedPackage:
    backend = request.backend or _backend([file.path for file in files])
    return LockedPackage(
        id=request.id or default_package_id(backend, request.quantization),
        files=tuple(sorted(files, key=lambda file: file.path)),
        backend=backend,
        quantization=request.quantization,
        default=request.default,
    )


def _backend(paths: Sequence[str]) -> str | None:
    """ONNX if there is a `weights.onnx`, or exactly one ONNX file; no guess beyond that."""
    models = [path for path in paths if licenses.is_onnx(path)]
    return _ONNX if "weights.onnx" in paths or len(models) == 1 else None


def _sequence(lock: Lock, previous: Lock | None, asked: int | None) -> int:
    if previous is None or previous.line != lock.line:
        return asked or 1
    if same_content(lock, previous):
        return asked or previous.sequence
    if asked is not None and asked <= previous.sequence:
        raise ManifestError(
            f"the content is not that of {previous.line} {previous.sequence}, and a site that has had it would refuse "
            f"other content as {asked}",
            hint=f"--sequence {previous.sequence + 1} or more, or none at all",
        )
    return asked or previous.sequence + 1


def _rebased(source: str, base: Path, folder: Path) -> str:
    reference = Reference.parse(source, base)
    if reference.scheme != FILE:
        return source
    return str(replace(reference, location=relative(base / reference.location, folder)))
