"""`lock` as a function: manifest, sources and the lock before, to the lock now."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from bundler.housekeeping.known import register
from bundler.manifest_file import load
from bundler.profiles.expansion import expand, recorded, refuse_unused
from bundler.profiles.selection import Selection
from bundler.profiles.targets import NOBODY, Profiling
from bundler.resolve import resolve
from bundler.settings import Settings
from bundler.sources.reference import FILE, Reference, unescape
from manifests import canonical, lock
from manifests.digest import Digest
from manifests.errors import FormatError, LockOutdatedError, ManifestError, listing
from manifests.lock import Lock, LockedFile, LockedItem, LockedPackage, same_content, without_validators
from manifests.manifest import Manifest
from manifests.progress import Reporter
from manifests.publish import publish, translated
from manifests.store import Store, read_file


@dataclass(frozen=True, slots=True)
class Locked:
    """A lock, whether its file was written, and what it says otherwise than the one before: old and new by name."""

    lock: Lock
    changed: bool
    selections: tuple[Selection, ...] = ()
    moved: Mapping[str, tuple[str, str]] = field(default_factory=dict)


def lock_path(manifest: Path) -> Path:
    """Where the lock of a manifest lies: beside it."""
    return manifest.parent / f"{manifest.stem}{lock.SUFFIX}"


def is_of(found: Lock, asked: Manifest, *, base: Path) -> bool:
    """Whether a lock resolves this manifest, which lies in `base`, for the machines that the lock names."""
    expanded = expand(asked, recorded(found), base=base).manifest
    return found.manifest == str(Digest.of(canonical.encode(expanded)))


def is_lock(path: Path) -> bool:
    """Whether a JSON file is a lock: a manifest has no `format`."""
    if path.suffix != ".json":
        return False
    with translated(path):
        content = read_file(path, limit=lock.MAXIMUM_SIZE)
    try:
        value = canonical.decode_any_spelling(content, limit=lock.MAXIMUM_SIZE, subject=str(path))
    except FormatError:
        return path.name.endswith(lock.SUFFIX)
    return isinstance(value, dict) and "format" in value


def read_lock(path: Path) -> Lock | None:
    """The lock in `path`; None if there is no such file. Errors: `ManifestError` that names it."""
    if not path.exists():
        return None
    with translated(path):
        content = read_file(path, limit=lock.MAXIMUM_SIZE)
    try:
        return lock.decode(content, subject=str(path))
    except ManifestError as error:
        told = error.message.removeprefix(f"{path}: ")
        raise ManifestError(f"{path}: {told}", hint=error.hint) from error


@dataclass(frozen=True, slots=True)
class Locking:
    """One run of `lock`."""

    manifest: Path
    target: Path
    settings: Settings
    reporter: Reporter
    profiling: Profiling = NOBODY
    """The machines to choose profiles for; without targets, those of the lock before."""
    chooses: bool = False
    """Whether somebody asked for these machines in so many words: then there must be profiles to choose among."""

    def run(self, *, check: bool, upgrade: frozenset[str] | bool, sequence: int | None) -> Locked:
        """Resolve and write. With `check`, write nothing and raise `LockOutdatedError` where reality moved.

        `upgrade` lets moving references move: all, or those of these ids.
        Errors: `ManifestError`, `SourceError` and its kinds, `StorageError`.
        """
        asked = load(self.manifest)
        if isinstance(upgrade, frozenset):
            _check_ids(upgrade, asked, self.manifest)
        previous = self._previous(sequence)
        if self.chooses:
            refuse_unused(asked, self.manifest)
        expanded = expand(asked, self.profiling or recorded(previous), base=self.manifest.parent)
        if check and previous is None:
            raise LockOutdatedError(f"{self.target} does not exist", hint="`bundle lock` writes it")
        with Store.open(self.settings.store) as store:
            found = resolve(
                expanded.manifest,
                base=self.manifest.parent,
                folder=self.target.parent,
                store=store,
                settings=self.settings,
                previous=previous,
                upgrade=expanded.ids(upgrade) if isinstance(upgrade, frozenset) else upgrade or check,
                profiles=expanded.profiles,
                sequence=sequence,
                reporter=self.reporter,
            )
            if not check:  # while the store is open: a gc may be waiting for it
                if found != previous:
                    publish(self.target, lock.encode(found), mode=0o644)
                register(store.path, self.target, found)
        _refuse_itself(found, self.target)
        if check and previous is not None:
            _compare(previous, found, self)
            return Locked(previous, changed=False, selections=expanded.selections)
        moved = _differences(previous, found) if previous else {}
        return Locked(found, changed=found != previous, selections=expanded.selections, moved=moved)

    def _previous(self, sequence: int | None) -> Lock | None:
        """The lock before; one that cannot be read is in the way, unless the sequence that it held is given."""
        try:
            return read_lock(self.target)
        except ManifestError as error:
            if sequence is None:
                hint = "remove it, or give --sequence N to write it anew"
                raise ManifestError(error.message, hint=hint) from error
            self.reporter.note(f"{error}; writing it anew")
            return None


def _refuse_itself(found: Lock, target: Path) -> None:
    """A lock among the files that it locks would be another with every run."""
    for name, file in found.files():
        reference = Reference.parse(file.source, target.parent)
        path = target.parent / unescape(reference.location)
        if reference.scheme == FILE and path.name == target.name and path.resolve() == target.resolve():
            raise ManifestError(
                f"{name} is the lock itself, which no lock can hold",
                hint=f"exclude: [{file.path}], or keep the model's files in a folder of their own",
            )


def _compare(previous: Lock, found: Lock, locking: Locking) -> None:
    if same_content(previous, found) and previous.manifest == found.manifest:
        return
    facts = {name: f"{old} -> {new}" for name, (old, new) in _differences(previous, found).items()}
    is_of_one_manifest = previous.manifest == found.manifest
    moved = is_of_one_manifest or _moved(without_validators(previous), without_validators(found))
    raise LockOutdatedError(
        f"{locking.target} is not what the sources give now"
        if moved
        else f"{locking.target} is not what {locking.manifest} asks for now: the manifest was changed",
        hint=f"`bundle lock {locking.manifest}{' --upgrade' if moved else ''}` moves it",
        facts=facts,
    )


def _differences(previous: Lock, found: Lock) -> dict[str, tuple[str, str]]:
    """What the two say otherwise, old and new by name, but for what a server changes without changing the file."""
    before, after = _described(without_validators(previous)), _described(without_validators(found))
    names = dict.fromkeys((*before, *after))
    pairs = {name: (before.get(name, "absent"), after.get(name, "absent")) for name in names}
    return {name: (old, new) for name, (old, new) in pairs.items() if old != new}


def _check_ids(ids: frozenset[str], asked: Manifest, path: Path) -> None:
    flows = (str(each.parsed) for each in asked.workflows)
    known = [*(model.id for model in asked.models), *(kit.id for kit in asked.kits), *flows]
    if unknown := sorted(ids.difference(known)):
        raise ManifestError(f"{path} has no {listing(unknown)}", hint=f"there are: {listing(known)}")


def _moved(previous: Lock, found: Lock) -> bool:
    """Whether a source that both name gives something else now."""
    before = dict(previous.files())
    both = [(before[name], file) for name, file in found.files() if name in before]
    return any(
        old.source == new.source and (old.sha256, old.pin, old.licenses) != (new.sha256, new.pin, new.licenses)
        for old, new in both
    )


def _described(of: Lock) -> Mapping[str, str]:
    """All that a lock says but its sequence, as named texts; what is not there is not named."""
    described = {"line": of.line, "manifest": of.manifest}
    for item in of.items:
        described |= _texts(item, "packages", item.id)
        for package in item.packages:
            described |= _texts(package, "files", f"{item.id} {package.id}")
    for chosen in of.profiles:
        described[f"{chosen.model} on {chosen.machine}"] = f"{chosen.profile}, {chosen.carried}"
    for name, file in of.files():
        described[name] = str(file.digest)
        described |= _texts(file, "sha256", name)
    return described


def _texts(of: LockedItem | LockedPackage | LockedFile, inner: str, name: str) -> dict[str, str]:
    """The fields of a part of the lock, but for `inner` and those that say nothing."""
    values = msgspec.to_builtins(of).items()
    return {f"{name} {key}": canonical.encode(value).decode() for key, value in values if key not in {inner, "id"}}
