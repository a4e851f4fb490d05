"""`build` as a function: manifest or lock to bundle, by way of the store."""

from dataclasses import dataclass
from pathlib import Path

from bundler.assemble import Built, Signers, assemble
from bundler.forms import refuse_to_replace_anything_else
from bundler.housekeeping.known import register
from bundler.locking import Locking, is_lock, is_of, lock_path, read_lock
from bundler.manifest_file import load
from bundler.profiles.targets import NOBODY, Profiling
from bundler.resolve import fetch_locked
from bundler.settings import Settings
from manifests.errors import CorruptStoreError, LockOutdatedError, ManifestError
from manifests.lock import Lock
from manifests.progress import Reporter
from manifests.store import Store


@dataclass(frozen=True, slots=True)
class Building:
    """One run of `build`."""

    source: Path
    settings: Settings
    reporter: Reporter
    profiling: Profiling = NOBODY
    """The machines to choose profiles for, where there is no lock yet."""

    def run(self, out: Path | None, signers: Signers, *, folder: bool) -> Built:
        """Fetch what is missing, then write the bundle to `out`, by default `NAME-SEQUENCE.bundle` here.

        Errors: `LockOutdatedError` if the manifest was changed since it was locked; those of `resolve` and `assemble`.
        """
        locked = self._lock()
        target = out or Path(f"{locked.line}-{locked.sequence}.bundle")
        refuse_to_replace_anything_else(target)
        with Store.open(self.settings.store) as store:
            register(store.path, self.source if is_lock(self.source) else lock_path(self.source), locked)
            self._fetch(locked, store)
            try:
                return assemble(locked, store, signers, target, folder=folder, reporter=self.reporter)
            except CorruptStoreError as error:
                self.reporter.note(f"{error}; fetching what is damaged again")
                self._repair(locked, store)
                return assemble(locked, store, signers, target, folder=folder, reporter=self.reporter)

    def _fetch(self, locked: Lock, store: Store) -> None:
        fetch_locked(locked, base=self.source.parent, store=store, settings=self.settings, reporter=self.reporter)

    def _repair(self, locked: Lock, store: Store) -> None:
        """Drop every damaged chunk of the lock's files, then fetch what is missing."""
        for _, file in locked.files():
            store.drop_damaged(file.digest)
        self._fetch(locked, store)

    def _lock(self) -> Lock:
        if not self.source.is_file():
            raise ManifestError(f"{self.source}: no such file")
        if is_lock(self.source) and (given := read_lock(self.source)):
            return given
        asked = load(self.source)
        target = lock_path(self.source)
        found = read_lock(target)
        if found is None:
            self.reporter.note(f"no lock yet: writing {target}; commit it beside the manifest")
            return (
                Locking(self.source, target, self.settings, self.reporter, self.profiling)
                .run(check=False, upgrade=False, sequence=None)
                .lock
            )
        if not is_of(found, asked, base=self.source.parent):
            raise LockOutdatedError(
                f"{self.source} was changed since {target} was written", hint=f"bundle lock {self.source}"
            )
        return found
