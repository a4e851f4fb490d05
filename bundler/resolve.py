"""From a manifest and its sources to a lock, and from a lock into the store.

* A lock says everything by digest. What a source gives no SHA-256 for is fetched into the store to be hashed.
* Resolving twice gives the same lock, whatever the store held before: of several sources, the one that is chosen gave
  the file itself.
* What a previous lock pinned stays pinned while its source text stays, unless an upgrade is asked for. Local files have
  no pin: they are read every time. What a file claimed stays with the file while it stays pinned.
* `fetch_locked` follows pins only, and compares every digest.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Final

import msgspec

from bundler import licenses, workflows
from bundler.resolving.services import Described, check, described, filled
from bundler.resolving.wanted import Pinned, Wanted, wanted_of_kit, wanted_of_model
from bundler.resolving.work import Settled, Work, work_of
from bundler.settings import Settings
from bundler.sources.reference import FILE, Reference, escape, relative, unescape
from manifests import canonical
from manifests.digest import Digest
from manifests.errors import ManifestError, SourceError
from manifests.kit import package_id
from manifests.lock import (
    FORMAT,
    Lock,
    LockedFile,
    LockedKit,
    LockedModel,
    LockedPackage,
    LockedProfile,
    mapped,
    same_content,
)
from manifests.manifest import KitRequest, Manifest, ModelRequest, PackageRequest, default_package_id
from manifests.progress import Reporter
from manifests.store import Store

_ONNX: Final = "onnx"


def resolve(
    manifest: Manifest,
    *,
    base: Path,
    store: Store,
    settings: Settings,
    previous: Lock | None,
    upgrade: frozenset[str] | bool,
    reporter: Reporter,
    sequence: int | None = None,
    folder: Path | None = None,
    profiles: tuple[LockedProfile, ...] = (),
) -> Lock:
    """The lock of `manifest`, which lies in the folder `base`; the lock lies in `folder`, by default there too.

    The manifest has no profiles any more; `profiles` are what was chosen of them, to be recorded.
    What `previous` pinned stays, but for what `upgrade` lets go: all of it, or these ids.
    The sequence is `sequence` if given, else 1 for a first lock, else the previous one, raised if the content changed.
    Errors: `ManifestError` (also for a `sequence` that does not rise with the content), `NamingError`;
    `SourceError` and its kinds, for all files that failed; `StorageError`.
    """
    asked = Digest.of(canonical.encode(manifest))
    with work_of(base, store, settings, reporter) as work:
        pinned = Pinned(previous, manifest=asked, upgrade=upgrade)
        looked = work.gather(
            [
                *(partial(_looked, work, model, pinned) for model in manifest.models),
                *(partial(_looked_at_kit, work, kit, pinned) for kit in manifest.kits),
            ]
        )
        for warning in (text for _, service in looked if service for text in service.warnings):
            reporter.note(warning)
        settled = iter(work.settle_all([file for files, _ in looked for file in files]))
        flows = work.gather([partial(workflows.locked, work, each, pinned, store) for each in manifest.workflows])
        work.raise_failures()
        found = iter([([next(settled) for _ in files], service) for files, service in looked])
        models = tuple(_locked(model, *next(found)) for model in manifest.models)
        kits = tuple(_locked_kit(work, kit, next(found)[0]) for kit in manifest.kits)
        check(models, [*(kit.id for kit in kits), *(str(each.parsed) for each in manifest.workflows)])
        workflows.check(flows, models)
    lock = Lock(
        format=FORMAT,
        line=manifest.name,
        sequence=1,
        models=models,
        kits=kits,
        workflows=tuple(flows),
        profiles=profiles,
        manifest=str(asked),
    )
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
    for name, file in msgspec.structs.replace(lock, workflows=()).files():
        if store.find(file.digest) is None:
            missing.setdefault(file.sha256, (name, file))
    flows = [each for each in lock.workflows if store.find(each.file.digest) is None]
    if missing or flows:
        with work_of(base, store, settings, reporter) as work:
            work.together([partial(workflows.bring, work, each, store) for each in flows])
            work.fetch_all(list(missing.values()))


def _looked(work: Work, model: ModelRequest, pinned: Pinned) -> tuple[list[Wanted], Described | None]:
    """What a model needs, file by file, and what a service says of it. An error says of which model it is."""
    try:
        service = described(work, model, pinned)
        return (list(service.wanted) if service else wanted_of_model(work, model, pinned)), service
    except (ManifestError, SourceError) as error:
        if not error.message.startswith(model.id):
            error.message = f"{model.id}: {error.message}"
        raise


def _looked_at_kit(work: Work, kit: KitRequest, pinned: Pinned) -> tuple[list[Wanted], Described | None]:
    return wanted_of_kit(work, kit, pinned), None


def _locked(model: ModelRequest, settled: Sequence[Settled], service: Described | None) -> LockedModel:
    return filled(service, model, settled) if service else _locked_model(model, settled)


def _locked_model(model: ModelRequest, settled: Sequence[Settled]) -> LockedModel:
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


def _locked_kit(work: Work, kit: KitRequest, settled: Sequence[Settled]) -> LockedKit:
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
    return str(replace(reference, location=escape(relative(base / unescape(reference.location), folder))))
