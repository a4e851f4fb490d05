"""`lock` as a function: manifest, sources and the lock before, to the lock now."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from bundler.manifest_file import load
from bundler.resolve import resolve
from bundler.settings import Settings
from manifests import canonical, lock
from manifests.digest import Digest
from manifests.errors import FormatError, LockOutdatedError, ManifestError
from manifests.lock import Lock, LockedFile, LockedKit, LockedModel, LockedPackage, same_content, without_validators
from manifests.manifest import Manifest
from manifests.progress import Reporter
from manifests.publish import publish, translated
from manifests.store import Store


@dataclass(frozen=True, slots=True)
class Locked:
    """A lock, and whether its file was written."""

    lock: Lock
    changed: bool


def lock_path(manifest: Path) -> Path:
    """Where the lock of a manifest lies: beside it."""
    return manifest.parent / f"{manifest.stem}.lock.json"


def manifest_digest(manifest: Manifest) -> Digest:
    """What a lock remembers of the manifest that it resolves."""
    return Digest.of(canonical.encode(manifest))


def is_lock(path: Path) -> bool:
    """Whether a JSON file is a lock: a manifest has no `format`."""
    if path.suffix != ".json":
        return False
    with translated(path):
        content = path.read_bytes()
    try:
        value = canonical.decode_any_spelling(content, limit=lock.MAXIMUM_SIZE, subject=str(path))
    except FormatError:
        return path.name.endswith(".lock.json")
    return isinstance(value, dict) and "format" in value


def read_lock(path: Path) -> Lock | None:
    """The lock in `path`; None if there is no such file. Errors: `ManifestError` that names it."""
    if not path.exists():
        return None
    with translated(path):
        content = path.read_bytes()
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

    def run(self, *, check: bool, upgrade: bool, sequence: int | None) -> Locked:
        """Resolve and write. With `check`, write nothing and raise `LockOutdatedError` where reality moved.

        Errors: `ManifestError`, `SourceError` and its kinds, `StorageError`.
        """
        asked = load(self.manifest)
        previous = self._previous(sequence)
        if check and previous is None:
            raise LockOutdatedError(f"{self.target} does not exist", hint="`bundle lock` writes it")
        with Store.open(self.settings.store) as store:
            found = resolve(
                asked,
                base=self.manifest.parent,
                folder=self.target.parent,
                store=store,
                settings=self.settings,
                previous=previous,
                upgrade=upgrade or check,
                sequence=sequence,
                reporter=self.reporter,
            )
        if check and previous is not None:
            _compare(previous, found, self)
            return Locked(previous, changed=False)
        if found != previous:
            publish(self.target, lock.encode(found), mode=0o644)
        return Locked(found, changed=found != previous)

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


def _compare(previous: Lock, found: Lock, locking: Locking) -> None:
    if same_content(previous, found) and previous.manifest == found.manifest:
        return
    previous, found = without_validators(previous), without_validators(found)
    before, after = _described(previous), _described(found)
    names = dict.fromkeys((*before, *after))
    different = {name: (before.get(name, "absent"), after.get(name, "absent")) for name in names}
    facts = {name: f"{old} -> {new}" for name, (old, new) in different.items() if old != new}
    moved = _moved(previous, found)
    raise LockOutdatedError(
        f"{locking.target} is not what the sources give now"
        if moved
        else f"{locking.target} is not what {locking.manifest} asks for now: the manifest was changed",
        hint=f"`bundle lock {locking.manifest}{' --upgrade' if moved else ''}` moves it",
        facts=facts,
    )


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
    for name, file in of.files():
        described[name] = str(file.digest)
        described |= _texts(file, "sha256", name)
    return described


def _texts(of: LockedModel | LockedKit | LockedPackage | LockedFile, inner: str, name: str) -> dict[str, str]:
    """The fields of a part of the lock, but for `inner` and those that say nothing."""
    values = msgspec.to_builtins(of).items()
    return {f"{name} {key}": canonical.encode(value).decode() for key, value in values if key not in {inner, "id"}}
