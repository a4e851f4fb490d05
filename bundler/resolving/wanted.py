"""What a manifest asks of its sources, file by file; and what a previous lock keeps as it was.

* A manifest that did not change asks nothing again: what its lock pinned stays, until an upgrade is asked for. Files of
  this machine have no pin, and are looked at every time.
* A whole archive (`unpack`) is a folder whose files are its members: `#FOLDER/` takes a part of it. `#sha256=` is then
  the digest of the archive.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Protocol

from bundler.sources.base import Found, Source, matches
from bundler.sources.reference import FILE, Reference
from manifests.digest import Digest
from manifests.errors import DigestMismatchError, ManifestError, NamingError, SourceNotFoundError, listing
from manifests.lock import Lock, LockedFile, LockedItem
from manifests.manifest import FileRequest, KitRequest, ModelRequest
from manifests.paths import check_tree, checked_path


@dataclass(frozen=True, slots=True)
class Wanted:
    """One file of the lock to be: `found` if a listing already found it, `kept` if it stays as it was locked."""

    package: int
    path: str
    subject: str
    references: tuple[Reference, ...]
    expected: Digest | None = None
    found: Found | None = None
    kept: LockedFile | None = None
    is_there: bool = False
    """Whether the store has it already, because its archive was unpacked to know what is in it."""


class Looking(Protocol):
    """What looks into sources."""

    base: Path

    def source(self, reference: Reference) -> Source:
        """The source that speaks the scheme of `reference`."""

    def unpack(self, found: Found, wanted: Callable[[str], bool], *, subject: str) -> tuple[str, ...]:
        """The members of an archive that `wanted` chooses, taken into the store in one pass: their names, sorted."""

    def note(self, text: str) -> None:
        """Tell a person."""


class Pinned:
    """What the previous lock says; of `lock` only what is not let go by `upgrade` (all of it, or these ids)."""

    def __init__(self, lock: Lock | None, *, manifest: Digest, upgrade: frozenset[str] | bool) -> None:
        items = lock.items if lock and upgrade is not True else ()
        let_go = upgrade if isinstance(upgrade, frozenset) else frozenset[str]()
        self._items = {item.id: item for item in items if item.id not in let_go}
        self._by_path: dict[tuple[str, str], list[LockedFile]] = {}
        for item in self._items.values():
            for file in self._files(item.id):
                self._by_path.setdefault((item.id, file.path), []).append(file)
        self._before = {item.id: item for item in lock.items} if lock else {}
        self._is_of_this_manifest = lock is not None and lock.manifest == str(manifest)

    def item(self, item_id: str) -> LockedItem | None:
        """What was locked under an id, whole, unless it is let go."""
        return self._items.get(item_id)

    def identified(self, item_id: str, found: Found) -> LockedFile | None:
        """The file as it was locked, even if it is let go, if its source says by an MD5 that it is still the same."""
        before = self._before.get(item_id)
        files = (file for package in (before.packages if before else ()) for file in package.files)
        same = (file for file in files if file.source == str(found.reference) and file.pin == dict(found.pin))
        return next(same, None) if found.md5 is not None else None

    def file(self, model_id: str, path: str, references: Iterable[Reference]) -> LockedFile | None:
        """The file `path` of a model as it was locked, if it came from one of `references`, and not from this disk."""
        texts = {str(reference) for reference in references if reference.scheme != FILE}
        return next((file for file in self._by_path.get((model_id, path), ()) if file.source in texts), None)

    def pin(self, model_id: str, reference: Reference) -> Mapping[str, str]:
        """The pin of a repository: that of any file that was locked out of it."""
        return next((file.pin for file in self._out_of(model_id, reference)), {})

    def listing(self, model_id: str, reference: Reference) -> tuple[LockedFile, ...]:
        """What the manifest got when it was locked, and need not ask again: none if it says something else by now.

        None either if a package is from there in part only: somebody changed the lock by hand.
        """
        if reference.scheme == FILE or not self._is_of_this_manifest:
            return ()
        item = self._items.get(model_id)
        kept: list[LockedFile] = []
        for package in item.packages if item else ():
            files = [file for file in package.files if _is_out_of(file, reference)]
            if files and len(files) < len(package.files):
                return ()
            kept += files
        return tuple(kept)

    def _out_of(self, model_id: str, reference: Reference) -> Iterator[LockedFile]:
        return (file for file in self._files(model_id) if _is_out_of(file, reference))

    def _files(self, model_id: str) -> Iterator[LockedFile]:
        item = self._items.get(model_id)
        for package in item.packages if item else ():
            yield from package.files


def _is_out_of(file: LockedFile, reference: Reference) -> bool:
    texts = {str(reference), str(reference.child(file.path)), str(_member(reference, file.path))}
    return file.source in texts


def wanted_of_model(work: Looking, model: ModelRequest, pinned: Pinned) -> list[Wanted]:
    """The files of a model: those that the manifest lists, or those that its source has."""
    if model.source is not None:
        return _listed(work, model, Reference.parse(model.source, work.base), pinned)
    wanted: list[Wanted] = []
    for number, package in enumerate(model.packages):
        for path in sorted(package.files):
            request = package.files[path]
            references = tuple(Reference.parse(text, work.base) for text in request.sources)
            expected = _expected(request, references, subject=f"{model.id} {path}")
            kept = pinned.file(model.id, path, references)
            if kept is not None and expected not in {None, kept.digest}:
                kept = None
            wanted.append(Wanted(number, path, f"{model.id} {path}", references, expected, kept=kept))
    return wanted


def wanted_of_kit(work: Looking, kit: KitRequest, pinned: Pinned) -> list[Wanted]:
    """The files of every folder of a kit: a package each."""
    wanted: list[Wanted] = []
    for number, source in enumerate(kit.sources):
        folder = ModelRequest(id=kit.id, source=source)
        files = _listed(work, folder, Reference.parse(source, work.base), pinned)
        wanted += (replace(file, package=number) for file in files)
    return wanted


def _listed(work: Looking, model: ModelRequest, reference: Reference, pinned: Pinned) -> list[Wanted]:
    if kept := pinned.listing(model.id, reference):
        return [_kept(model.id, file, work.base) for file in kept]
    chosen = _members(work, model, reference) if model.unpack else _files(work, model, reference, pinned)
    check_tree(chosen, subject=model.id)
    wanted: list[Wanted] = []
    for path, file in chosen.items():
        before = pinned.file(model.id, path, (file.reference,))
        if before is not None and file.pin and dict(file.pin) != before.pin:
            before = None
        subject = f"{model.id} {path}"
        expected = file.reference.digest
        wanted.append(Wanted(0, path, subject, (file.reference,), expected, file, before, is_there=model.unpack))
    return wanted


def _kept(model_id: str, file: LockedFile, base: Path) -> Wanted:
    return Wanted(0, file.path, f"{model_id} {file.path}", (Reference.parse(file.source, base),), kept=file)


def _files(work: Looking, model: ModelRequest, reference: Reference, pinned: Pinned) -> dict[str, Found]:
    """By path, the files that a folder, repository or bucket has; or the one file."""
    found = work.source(reference).list(reference, pinned.pin(model.id, reference))
    if (reference.members or reference.digest) and any(file.reference != reference for file in found):
        asked = f"#{reference.member_path}" if reference.members else "#sha256="
        raise ManifestError(
            f"{model.id}: {reference} has several files, and {asked} is of one",
            hint="name that file; `include` chooses files of a folder, and a '#' in a name is written %23",
        )
    name = reference.members[-1].rpartition("/")[2] if reference.members else ""
    chosen = {
        _path(name or file.path, model, reference): file
        for file in found
        if matches(name or file.path, include=model.include, exclude=model.exclude)
    }
    if not chosen:
        raise SourceNotFoundError(
            f"{model.id}: `include` and `exclude` choose none of the {len(found)} files of {reference}",
            hint=f"there are: {listing(file.path for file in found)}",
        )
    _note_idle(work, model, chosen)
    return chosen


def _note_idle(work: Looking, model: ModelRequest, paths: Iterable[str]) -> None:
    """A pattern that chooses nothing may be meant so, or misspelt: then a model goes without its weights."""
    there = tuple(paths)
    for pattern in model.include:
        if not any(matches(path, include=(pattern,), exclude=()) for path in there):
            work.note(f"{model.id}: `include` {pattern!r} chose no file")


def _path(name: str, model: ModelRequest, reference: Reference) -> str:
    try:
        return checked_path(name)
    except NamingError as error:
        raise NamingError(
            f"{model.id}: {reference}: {error.message}",
            hint="leave it out with `exclude`, or rename it at its source",
        ) from error


def _members(work: Looking, model: ModelRequest, reference: Reference) -> dict[str, Found]:
    """By path, the members of the archive that `reference` names."""
    found = _checked_archive(work.source(reference).find(reference, {}), reference, subject=model.id)
    chosen = partial(matches, include=model.include, exclude=model.exclude)
    names = work.unpack(found, chosen, subject=model.id)
    _note_idle(work, model, names)
    return {_path(name, model, reference): replace(found, reference=_member(reference, name)) for name in names}


def _checked_archive(found: Found, reference: Reference, *, subject: str) -> Found:
    """The archive with the digest that the manifest gives for it; one that lies in another has none."""
    if reference.digest is None:
        return found
    if reference.members:
        raise ManifestError(
            f"{subject}: {reference} unpacks a part of an archive, which has no digest of its own",
            hint="leave `#sha256=` out; the lock pins every member",
        )
    if found.digest not in {None, reference.digest}:
        raise DigestMismatchError(subject=subject, expected=reference.digest, actual=found.digest)
    return replace(found, digest=reference.digest)


def _member(archive: Reference, name: str) -> Reference:
    """The reference of a member of a whole archive, or of the folder of it that `archive` names."""
    members = archive.members
    is_folder = bool(members) and members[-1].endswith("/")
    inside = (*members[:-1], members[-1] + name) if is_folder else (*members, name)
    return replace(archive, members=inside, digest=None)


def _expected(request: FileRequest, references: Sequence[Reference], *, subject: str) -> Digest | None:
    """The one digest that the manifest gives for a file, wherever it gives it."""
    digests = {reference.digest for reference in references if reference.digest is not None}
    if request.sha256 is not None:
        digests.add(Digest.parse(f"sha256:{request.sha256.removeprefix('sha256:')}"))
    if len(digests) > 1:
        raise ManifestError(f"{subject}: the manifest gives {len(digests)} different digests")
    return next(iter(digests), None)
