"""Models that a service describes as a whole: which of its packages are wanted, and what the lock says of them.

* The manifest's own words (id, task, architecture) win; what it does not say, the service does. A word that the
  manifest takes back is asked of the service: what it said is not in a lock that says otherwise.
* The same question gets what was locked before, without asking anyone, until an upgrade. So does a file whose MD5 the
  service says is that of the file that was locked: it is not fetched again to be hashed.
* What a service does not vouch for never comes first, whatever else there is.
* Every name by which clients ask for the model is an alias of it; the service's own id owns the client's folder.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final

import msgspec

from bundler.resolving.wanted import Looking, Pinned, Wanted
from bundler.resolving.work import Settled
from bundler.sources.base import FoundModel, FoundPackage, Service
from bundler.sources.reference import Reference
from manifests.errors import ManifestError, NamingError, SourceNotFoundError, listing
from manifests.lock import LockedModel, LockedPackage
from manifests.manifest import QUANTIZATIONS, TASKS, ModelRequest
from manifests.naming import check_ids, checked_id

_RAW: Final = "raw"
_OWN: Final = "own-"
"""Before the names of what the manifest says itself, in the text of what was asked."""


@dataclass(frozen=True, slots=True)
class Described:
    """A model as its service describes it: the lock's words on it, without the files, and those files as wanted."""

    model: LockedModel
    wanted: tuple[Wanted, ...]
    warnings: tuple[str, ...] = ()


def described(work: Looking, request: ModelRequest, pinned: Pinned) -> Described | None:
    """What a service says of the model that is requested; None if its source is no such service.

    Errors: `SourceError` and its kinds, `ManifestError`.
    """
    if request.source is None or request.unpack:
        return None
    reference = Reference.parse(request.source, work.base)
    service = work.source(reference)
    if not isinstance(service, Service):
        return None
    narrowed, asked = _narrowed(request), _asked(request, reference)
    before = pinned.item(request.id)
    if isinstance(before, LockedModel) and _is_answered(before.asked, asked):
        return _kept(request, before, reference, work)
    found = service.describe(reference)
    packages = [package for package in found.packages if _is_asked_for(package, request)]
    if not packages:
        there = listing(
            f"{each.id} ({each.backend or 'unknown'}, {each.quantization or '-'})" for each in found.packages
        )
        raise SourceNotFoundError(
            f"{request.id}: {reference} has no such package: {' '.join(narrowed) or 'none at all'}",
            hint=f"there are: {there}" if found.packages else "",
        )
    wanted = tuple(
        _wanted(number, package, index, request, pinned)
        for number, package in enumerate(packages)
        for index in range(len(package.files))
    )
    model, warnings = _model(request, found, packages, reference)
    return Described(msgspec.structs.replace(model, asked=asked), wanted, (*found.warnings, *warnings))


def filled(found: Described, request: ModelRequest, settled: Sequence[Settled]) -> LockedModel:
    """The model of the lock, with its files."""
    claims = [request.license] if request.license else []
    claims += [each for entry in settled for each in entry.file.licenses]
    packages = tuple(
        msgspec.structs.replace(found.model.packages[number], files=tuple(entry.file for entry in entries))
        for number, entries in groupby(settled, key=lambda entry: entry.package)
    )
    return msgspec.structs.replace(found.model, packages=packages, licenses=tuple(dict.fromkeys(claims)))


def check(models: Sequence[LockedModel], others: Sequence[str]) -> None:
    """`NamingError` if names clash, `others` among them; `ManifestError` if a model needs one that is not there."""
    _check_once(models)
    owners = {name: model for model in models for name in (model.id, *model.aliases)}
    check_ids([*(name for model in models for name in (model.id, *model.aliases)), *others])
    for model in models:
        for needed in model.client.dependencies if model.client else ():
            owner = owners.get(needed.model_id)
            if owner is None:
                raise ManifestError(
                    f"model {model.id!r} needs {needed.model_id!r} (as {needed.name!r}), which is not in the manifest",
                    hint=f"add it to `models:`, with `source: roboflow://{needed.model_id}`",
                )
            if needed.model_package_id is not None and _is_left_out(needed.model_package_id, owner):
                raise ManifestError(
                    f"model {model.id!r} needs the package {needed.model_package_id} of {owner.id!r}, which is not "
                    "among those that were chosen",
                    hint=f"leave `backend` and `quantization` out at {owner.id!r}, or choose so that it is there",
                )


def _check_once(models: Sequence[LockedModel]) -> None:
    """`NamingError` if a service keeps two of the models as one."""
    seen: dict[str, str] = {}
    for model in models:
        if model.client is None:
            continue
        other = seen.setdefault(model.client.canonical, model.id)
        if other != model.id:
            raise NamingError(
                f"models {other!r} and {model.id!r} clash: to their service they are one, {model.client.canonical!r}",
                hint=f"keep one of them; it is found under every id, and under {model.id!r} if that is an alias of it",
            )


def _is_left_out(package_id: str, owner: LockedModel) -> bool:
    """Whether the manifest chose among the packages of a service's model, and not this one."""
    is_narrowed = any("=" in word for word in owner.asked.split()[1:])
    return is_narrowed and package_id not in {package.id for package in owner.packages}


def _narrowed(request: ModelRequest) -> tuple[str, ...]:
    chosen = {"backend": request.backend, "quantization": request.quantization}
    return tuple(f"{name}={value}" for name, value in chosen.items() if value)


def _asked(request: ModelRequest, reference: Reference) -> str:
    own = {"task": request.task != _RAW, "architecture": bool(request.architecture)}
    return " ".join([str(reference), *_narrowed(request), *(f"{_OWN}{name}" for name, is_own in own.items() if is_own)])


def _is_answered(before: str, asked: str) -> bool:
    """Whether a lock that was asked for in these words has all that is asked for now."""
    old, new = set(before.split()), set(asked.split())
    return all(word.startswith(_OWN) for word in new - old) and not old - new


def _is_asked_for(package: FoundPackage, request: ModelRequest) -> bool:
    return request.backend in {None, package.backend} and request.quantization in {None, package.quantization}


def _wanted(number: int, package: FoundPackage, index: int, request: ModelRequest, pinned: Pinned) -> Wanted:
    file = package.files[index]
    subject = f"{request.id} {package.id} {file.path}"
    same = pinned.identified(request.id, file)
    return Wanted(number, file.path, subject, (file.reference,), found=file, kept=same)


def _kept(request: ModelRequest, before: LockedModel, reference: Reference, work: Looking) -> Described:
    wanted = tuple(
        Wanted(number, file.path, f"{request.id} {file.path}", (Reference.parse(file.source, work.base),), kept=file)
        for number, package in enumerate(before.packages)
        for file in package.files
    )
    canonical = before.client.canonical if before.client else request.id
    model = msgspec.structs.replace(
        before,
        asked=_asked(request, reference),
        task=before.task if request.task == _RAW else request.task,
        architecture=request.architecture or before.architecture,
        aliases=_aliases(request, reference, canonical),
        layouts=request.layouts,
    )
    return Described(model, wanted)


def _model(
    request: ModelRequest, found: FoundModel, packages: Sequence[FoundPackage], reference: Reference
) -> tuple[LockedModel, tuple[str, ...]]:
    task = request.task
    warnings: tuple[str, ...] = ()
    if task == _RAW and found.task is not None:
        task = found.task if found.task in TASKS else _RAW
        if task == _RAW:
            warnings = (f"{request.id} is carried as raw: its service's task {found.task[:64]!r} is unknown here",)
    preferred = min(range(len(packages)), key=lambda number: _rank(packages[number]))
    model = LockedModel(
        id=request.id,
        task=task,
        packages=tuple(_package(each, is_default=number == preferred) for number, each in enumerate(packages)),
        aliases=_aliases(request, reference, found.facts.canonical),
        architecture=request.architecture or found.architecture,
        layouts=request.layouts,
        client=found.facts,
    )
    return model, warnings


def _aliases(request: ModelRequest, reference: Reference, canonical: str) -> tuple[str, ...]:
    names = dict.fromkeys((*request.aliases, checked_id(canonical), checked_id(reference.location)))
    aliases = tuple(name for name in names if name != request.id)
    try:
        check_ids((request.id, *aliases))
    except NamingError as error:
        raise NamingError(
            f"model {request.id!r}: its service calls {reference} {canonical!r}: {error.message}",
            hint=f"`source: roboflow://{canonical}`, and that as `id` too",
        ) from error
    return aliases


def _rank(package: FoundPackage) -> tuple[bool, bool, int]:
    """What lies in the model's own folder: trusted, ONNX, in full precision, because that is what runs anywhere."""
    precision = QUANTIZATIONS.index(package.quantization) if package.quantization in QUANTIZATIONS else 9
    is_trusted = package.facts is not None and package.facts.trusted
    return not is_trusted, package.backend != "onnx", precision


def _package(found: FoundPackage, *, is_default: bool) -> LockedPackage:
    return LockedPackage(
        id=found.id,
        files=(),
        backend=found.backend,
        quantization=found.quantization,
        default=is_default,
        opset=found.opset,
        static_batch=found.static_batch,
        client=found.facts,
    )
