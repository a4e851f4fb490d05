"""Workflows: from a manifest's request to a locked file, and that file again at a build.

* What is locked is not what the source gave, but one spelling of it, in the form that clients read. A build makes it
  anew, and compares its digest.
* A workflow that names models which the bundle does not have is refused: on the site it could not run.
"""

from collections.abc import Collection, Sequence
from io import BytesIO
from pathlib import Path
from typing import Final, Protocol, runtime_checkable

from bundler import encode
from bundler.resolving.wanted import Looking, Pinned
from bundler.sources.base import Local
from bundler.sources.reference import FILE, Reference
from manifests import foreign, workflow
from manifests.digest import Digest
from manifests.errors import BundleError, FormatError, ManifestError, SourceDeniedError, SourceError, listing
from manifests.lock import LockedFile, LockedModel, LockedPackage, LockedWorkflow
from manifests.manifest import WorkflowRequest
from manifests.store import Store
from manifests.workflow import WorkflowId

_LIMIT: Final = foreign.MAXIMUM_SIZE


@runtime_checkable
class WorkflowService(Protocol):
    """What keeps workflows by id."""

    def workflow(self, wanted: WorkflowId) -> bytes:
        """The definition, as it is answered. Errors: `SourceError` and its kinds."""


def locked(work: Looking, request: WorkflowRequest, pinned: Pinned, store: Store) -> LockedWorkflow:
    """The workflow that is requested, its file in the store. Errors: `ManifestError`, `SourceError` and its kinds."""
    wanted = request.parsed
    reference = Reference.parse(request.file or request.source or "", work.base)
    before = pinned.item(str(wanted))
    if reference.scheme != FILE and isinstance(before, LockedWorkflow) and before.file.source == str(reference):
        return before
    content, models = _made(work, wanted, reference)
    recipe = encode.add(store, BytesIO(content), size=len(content), subject=str(wanted))
    file = LockedFile(path=workflow.FILE, sha256=recipe.digest.hex, size=recipe.size, source=str(reference))
    package = LockedPackage(id=workflow.PACKAGE, files=(file,), default=True)
    return LockedWorkflow(id=str(wanted), packages=(package,), models=models)


def bring(work: Looking, of: LockedWorkflow, store: Store) -> None:
    """Put the file of a locked workflow into the store.

    Errors: `DigestMismatchError` if its source gives another definition by now; those of `locked`.
    """
    file = of.file
    content, _ = _made(work, WorkflowId.parse(of.id), Reference.parse(file.source, work.base))
    expected = Digest(bytes.fromhex(file.sha256))
    encode.add(store, BytesIO(content), size=len(content), subject=of.id, expected=expected)


def check(workflows: Sequence[LockedWorkflow], models: Collection[LockedModel]) -> None:
    """`ManifestError` for a workflow that asks for a model which is not among `models`."""
    names = {name for model in models for name in (model.id, *model.aliases)}
    for each in workflows:
        if missing := [name for name in each.models if name not in names]:
            raise ManifestError(
                f"the workflow {each.id} asks for {listing(missing)}, which the bundle does not carry",
                hint="add it to `models:` under that id, or with that id among its `aliases`",
            )


def _made(work: Looking, wanted: WorkflowId, reference: Reference) -> tuple[bytes, tuple[str, ...]]:
    """The file, and the models that it names."""
    service = work.source(reference)
    family: type[BundleError] = ManifestError
    if reference.scheme == FILE:
        content = _read(work, reference)
    elif isinstance(service, WorkflowService) and not reference.members:
        content, family = service.workflow(WorkflowId.parse(reference.location)), SourceError
    else:
        raise ManifestError(
            f"workflow {wanted}: {reference} has no workflows",
            hint="`file: ./workflow.json`, or `source: roboflow://WORKSPACE/workflows/ID`",
        )
    try:
        name, specification = workflow.decode(content, subject=str(reference))
        models = workflow.models(specification)
        return workflow.encode(wanted, name or wanted.name, specification), models
    except FormatError as error:
        raise family(f"workflow {wanted}: {error.message}") from error


def _read(work: Looking, reference: Reference) -> bytes:
    found = work.source(reference).find(reference, {})
    if not isinstance(found.place, Local):
        raise ManifestError(f"{reference} is not a file of this machine")
    return _bounded(found.place.path, reference)


def _bounded(path: Path, reference: Reference) -> bytes:
    try:
        with path.open("rb") as stream:
            content = stream.read(_LIMIT + 1)
    except OSError as error:
        raise SourceDeniedError(f"{reference}: {error.strerror}") from error
    if len(content) > _LIMIT:
        raise ManifestError(f"{reference}: more than {_LIMIT} bytes, which no workflow needs")
    return content
