"""`lock` as a function: manifest, sources and the lock before, to the lock now."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bundler.manifest_file import load
from bundler.resolve import resolve
from bundler.settings import Settings
from manifests import canonical, lock
from manifests.digest import Digest
from manifests.errors import LockOutdatedError
from manifests.lock import Lock
from manifests.manifest import Manifest
from manifests.progress import Reporter
from manifests.publish import publish, translated
from manifests.store import Store


@dataclass(frozen=True, slots=True)
class Locked:
    """A lock, and whether its file changed."""

    lock: Lock
    changed: bool


def lock_path(manifest: Path) -> Path:
    """Where the lock of a manifest lies: beside it."""
    return manifest.with_name(f"{manifest.stem}.lock.json")


def manifest_digest(manifest: Manifest) -> Digest:
    """What a lock remembers of the manifest that it resolves."""
    return Digest.of(canonical.encode(manifest))


def read_lock(path: Path) -> Lock | None:
    """The lock in `path`; None if there is no such file."""
    if not path.exists():
        return None
    with translated(path):
        return lock.decode(path.read_bytes(), subject=str(path))


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
        previous = read_lock(self.target)
        with Store.open(self.settings.store) as store:
            found = resolve(
                asked,
                base=self.manifest.parent,
                store=store,
                settings=self.settings,
                previous=previous,
                upgrade=upgrade or check,
                sequence=sequence,
                reporter=self.reporter,
            )
        if check:
            _compare(previous, found, self.target)
        elif found != previous:
            publish(self.target, lock.encode(found), mode=0o644)
        return Locked(found, changed=found != previous)


def _compare(previous: Lock | None, found: Lock, target: Path) -> None:
    if previous is None:
        raise LockOutdatedError(f"{target} does not exist", hint="`bundle lock` writes it")
    before, after = _files(previous), _files(found)
    moved = {name: f"{before.get(name, 'absent')} -> {after.get(name, 'absent')}" for name in {**before, **after}}
    different = {name: change for name, change in moved.items() if before.get(name) != after.get(name)}
    if different or previous.manifest != found.manifest:
        raise LockOutdatedError(
            f"{target} is not what the sources give now", hint="`bundle lock --upgrade` moves it", facts=different
        )


def _files(of: Lock) -> Mapping[str, str]:
    return {
        f"{model.id} {package.id} {file.path}": str(file.digest)
        for model in of.models
        for package in model.packages
        for file in package.files
    }
