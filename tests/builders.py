"""A builder's desk: a folder with a manifest's files, a store, and what a run notes."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from bundler.locking import Locked, Locking
from bundler.resolve import fetch_locked, resolve
from bundler.settings import Settings
from manifests.lock import Lock, LockedFile
from manifests.manifest import parse
from manifests.progress import Silent
from manifests.store import Store


class Notes(Silent):
    """A reporter that keeps the notes."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


class Recorder(Silent):
    """A reporter that keeps what was announced, and what ended."""

    def __init__(self) -> None:
        self.expectations: list[tuple[int, int | None]] = []
        self.ended: list[str] = []

    def expected(self, files: int, size: int | None) -> None:
        self.expectations.append((files, size))

    def finished(self, name: str) -> None:
        self.ended.append(name)


@dataclass
class Builder:
    """A folder with a manifest's files, a store, and settings."""

    folder: Path
    settings: Settings

    def write(self, name: str, content: bytes) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    def lock(
        self,
        *models: Mapping[str, object],
        previous: Lock | None = None,
        upgrade: bool = False,
        sequence: int | None = None,
        reporter: Silent | None = None,
    ) -> Lock:
        manifest = parse({"name": "line", "models": list(models)})
        with Store.open(self.settings.store) as store:
            return resolve(
                manifest,
                base=self.folder,
                store=store,
                settings=self.settings,
                previous=previous,
                upgrade=upgrade,
                sequence=sequence,
                reporter=reporter or Silent(),
            )

    def fetch(self, lock: Lock, reporter: Silent | None = None) -> None:
        with Store.open(self.settings.store) as store:
            fetch_locked(lock, base=self.folder, store=store, settings=self.settings, reporter=reporter or Silent())
            assert all(store.find(file.digest) for file in files(lock))

    def elsewhere(self) -> "Builder":
        """The same sources, and an empty store."""
        return Builder(self.folder, replace(self.settings, store=self.folder / "empty store"))

    def using(self, **changes: object) -> "Builder":
        return Builder(self.folder, replace(self.settings, **changes))  # type: ignore[arg-type]


@dataclass
class Line:
    """A manifest that is written, locked and changed, and what was noted."""

    builder: Builder
    manifest: str = "line.yaml"
    target: str = "line.lock.json"
    notes: Notes = field(default_factory=Notes)

    def write(self, *models: str, name: str = "line") -> None:
        self.builder.write(self.manifest, "\n".join([f"name: {name}", "models:", *models, ""]).encode())

    def run(self, *, check: bool = False, upgrade: bool = False, sequence: int | None = None) -> Locked:
        locking = Locking(
            self.builder.folder / self.manifest, self.builder.folder / self.target, self.builder.settings, self.notes
        )
        return locking.run(check=check, upgrade=upgrade, sequence=sequence)


def files(lock: Lock) -> list[LockedFile]:
    return [file for model in lock.models for package in model.packages for file in package.files]


def model(**changes: object) -> dict[str, object]:
    return {"id": "m", **changes}
