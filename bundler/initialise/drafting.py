"""From what a person names to a manifest in text: each file, folder or source looked at, in order.

* What is written is a manifest that `lock` takes as it stands.
* A source that cannot be asked is written down all the same, and said.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from bundler.initialise import folders, local, repositories, text
from bundler.initialise.entries import Draft, Item, Model, Noted, Package, Tree
from bundler.initialise.folders import Gathered
from bundler.initialise.names import identified, is_generic
from bundler.initialise.remote import Listed, Surroundings
from bundler.manifest_file import MAXIMUM_SIZE
from bundler.sources.reference import FILE, Reference, unescape
from manifests.errors import ManifestError, SourceError, SourceNotFoundError, printable

_HUB = "hf"
_LISTED: Final = frozenset({_HUB, "s3", "az"})
_SERVICE: Final = "roboflow"
"""What says task, architecture and packages itself, when it is locked."""
_REGISTRY: Final = "oci"
_TAG: Final = re.compile(r"(?:@sha256:|:)[^/:]*(?:/.*)?$")
_ARCHIVES: Final = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.zst", ".tar.xz", ".txz")
_COMMIT: Final = re.compile(r"[0-9a-f]{40}")
_NOWHERE: Final = "name a file, a folder or a source: bundle init best.onnx ./folder hf://ORG/NAME"


def draft(sources: Sequence[str], *, name: str, folder: Path, surroundings: Surroundings | None = None) -> Draft:
    """A manifest that will lie in `folder`, of what `sources` name; with none, of what the current folder has.

    Without `surroundings` nothing beyond this machine is asked.
    Errors: `ManifestError` for what is no source; `SourceError` and its kinds for local files; `StorageError`.
    """
    models: list[Model] = []
    notes: list[str] = []
    tail: list[str] = []
    beside: dict[str, bytes] = {}
    for source in sources or ["."]:
        for found in _look(source, folder, surroundings, here=not sources):
            models += found.models
            notes += found.notes
            beside |= found.beside
            if line := folders.left_out_note(found):
                tail.append(f"{line} ({source})" if len(sources) > 1 else line)
    if not models:
        raise SourceNotFoundError("there is no model in what was named", hint=_NOWHERE)
    return Draft(_checked(text.manifest(name, identified(models), tail)), beside, (*notes, *tail))


def _checked(manifest: str) -> str:
    if len(manifest.encode()) > MAXIMUM_SIZE:
        raise SourceError(
            f"what was named gives a manifest of more than {MAXIMUM_SIZE} bytes", hint="name the folder of one model"
        )
    return manifest


def _look(source: str, folder: Path, surroundings: Surroundings | None, *, here: bool) -> list[Gathered]:
    if "://" not in source:
        return [_local(tree, source, here=here) for tree in local.trees(source, folder)]
    reference = Reference.parse(source, folder)
    if reference.scheme == FILE:
        return _look(str(folder / unescape(reference.location)), folder, surroundings, here=False)
    if reference.scheme not in _LISTED:
        return [Gathered([_unseen(reference, source)])]
    if surroundings is None:
        return [_unreached(reference, source, "it was not asked")]
    try:
        listed = surroundings.look(source, folder)
    except SourceError as error:
        return [_unreached(reference, source, str(error))]
    if not listed.tree.files:
        return [
            Gathered(left_out=list(listed.tree.left_out), notes=[f"{source}: nothing in it may be carried: skipped"])
        ]
    return [_of_hub(reference, source, listed) if reference.scheme == _HUB else _of_bucket(reference, listed)]


def _local(tree: Tree, given: str, *, here: bool) -> Gathered:
    if Path(given).is_file():
        is_archive = given.lower().endswith(_ARCHIVES) and tree.files
        return Gathered([_archive(given, tree.files[0].source)]) if is_archive else folders.of_file(tree)
    if local.is_repository_download(tree):
        if not tree.files:
            return Gathered(notes=[f"{printable(tree.name)}: nothing of it was downloaded: skipped"])
        model = _renamed(repositories.model(tree, name=tree.name), tree.name)
        revision = tree.source.rpartition("/")[2]
        if _COMMIT.fullmatch(revision):
            notes = (
                *model.notes,
                f"or out of the hub itself: `source: hf://{tree.name}@{revision}` instead of `files`",
            )
            model = replace(model, notes=notes)
        return Gathered([model], left_out=list(tree.left_out))
    found = folders.of_tree(tree, repository=_as_repository(given))
    if not found.models or (here and found.unknown):
        raise SourceNotFoundError(f"{printable(given)}: there is no model here", hint=_NOWHERE)
    return found


def _as_repository(given: str) -> str:
    """`org/name` for a folder that lies in one of its organisation; else empty."""
    *_, organisation, name = ("", "", *Path(given).parts)
    return f"{organisation}/{name}" if organisation.strip("./") and not is_generic(organisation) else ""


def _of_hub(reference: Reference, source: str, listed: Listed) -> Gathered:
    name = _hub_id(reference)
    if len(listed.tree.files) == 1 and listed.tree.files[0].source == source:
        return _named(folders.of_file(listed.tree), name)
    model = repositories.model(listed.tree, name=name, licenses=listed.licenses, gated=listed.gated)
    return Gathered([model], left_out=list(listed.tree.left_out))


def _of_bucket(reference: Reference, listed: Listed) -> Gathered:
    """As a folder; the id of a prefix is its last two parts."""
    files = listed.tree.files
    single = len(files) == 1 and files[0].source.rstrip("/") == str(reference)
    parts = [part for part in reference.location.split("/") if part]
    if single:
        above = [*parts[:-1], files[0].stem] if len(parts) < 3 else parts[:-1]
        return _named(folders.of_file(listed.tree), "/".join(above[-2:]))
    name = "/".join(parts[-2:])
    found = folders.of_tree(listed.tree, name=name)
    return _named(found, name) if len(found.models) == 1 else found


def _named(found: Gathered, name: str) -> Gathered:
    found.models = [_renamed(model, name) for model in found.models]
    return found


def _renamed(model: Model, name: str) -> Model:
    return replace(model, id=name, numbered=False, id_note="")


def _unreached(reference: Reference, source: str, reason: str) -> Gathered:
    """What cannot be looked at now."""
    hub = reference.scheme == _HUB
    name = _hub_id(reference) if hub else "/".join([part for part in reference.location.split("/") if part][-2:])
    notes = [f"{source} could not be looked at: {reason}"]
    if hub:
        notes.append('by default every file of it is carried; for fewer: include: ["*.json", "*.txt", "*.safetensors"]')
    if reference.location.lower().endswith(".onnx"):
        return Gathered([_renamed(replace(_unseen(reference, source), notes=tuple(notes[:1])), name)], notes=notes[:1])
    model = Model(name, Noted("raw", "embedding, vlm, object-detection, …?"), source=source, notes=tuple(notes))
    return Gathered([_renamed(model, name)], notes=notes[:1])


def _unseen(reference: Reference, source: str) -> Model:
    """A source that is fetched only by `lock`: what its name says."""
    path = (reference.members[-1] if reference.members else reference.location).partition("?")[0]
    if reference.scheme == _SERVICE:
        return _of_service(reference, source)
    if reference.scheme == _REGISTRY:
        named = _TAG.sub("", path.partition("/")[2])
        model = Model("/".join(named.split("/")[-2:]), Noted("raw", "carried as it is"), source=source)
        return replace(model, numbered=False, id_note="")
    if not reference.members and path.lower().endswith(_ARCHIVES):
        return _archive(path, source)
    item = Item(path.rstrip("/"), 0, source, lambda _: None)
    if item.suffix != ".onnx":
        return Model(item.stem, Noted("raw", "carried as it is"), source=source)
    return Model(
        item.stem,
        Noted("raw", "the file was not read: object-detection, embedding, …?"),
        packages=(Package({"weights.onnx": source}, "onnx"),),
    )


def _archive(path: str, source: str) -> Model:
    name = path.rpartition("/")[2].partition(".")[0]
    return Model(name, Noted("raw", "carried as it is"), source=source, unpack=True)


def _of_service(reference: Reference, source: str) -> Model:
    if "/workflows/" in reference.location:
        raise ManifestError(f"{source} is a workflow, not a model", hint=f"workflows: [{{source: {source}}}]")
    return Model(reference.location, Noted(""), source=source, numbered=False, id_note="")


def _hub_id(reference: Reference) -> str:
    return "/".join(reference.location.partition("@")[0].split("/")[:2])
