"""A root: the folder in which a site keeps what is installed, and the places in it.

    root.json · blobs/sha256/<ab>/<hex> · recipes/<ab>/<hex> · generations/<n>/ · current · ledger/ · trust/ · state/

* `current` is the one pointer of truth: a symbolic link, or where there are none a file with the same text.
"""

import hashlib
import os
import re
from pathlib import Path
from typing import Final

from manifests import canonical
from manifests.digest import Digest
from manifests.errors import CorruptStoreError, NotARootError, UnsupportedFormatError
from manifests.locks import FileLock
from manifests.publish import make_folder, publish, sweep, sync_folder, translated
from runtime.settings import MARKER

FORMAT: Final = 1
TRUST_INIT: Final = "bundle trust init --key KEY.pub.pem"
"""What a person types to make a root, and its root of trust."""
_PIECE: Final = 4 << 20
_NUMBER: Final = re.compile(r"[1-9][0-9]{0,8}")
_CURRENT: Final = re.compile(r"generations/([1-9][0-9]{0,8})")


class Root:
    """The places of a root. Making one of these touches nothing."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.blobs = path / "blobs" / "sha256"
        self.recipes = path / "recipes"
        self.trust = path / "trust"
        self.trust_file = path / "trust" / "root.json"
        self.ledger = path / "ledger"
        self.generations = path / "generations"
        self.state = path / "state"
        self.quarantine = path / "state" / "quarantine"
        self._current = path / "current"

    @classmethod
    def open(cls, path: Path) -> "Root":
        """The root at `path`. Errors: `NotARootError`, `UnsupportedFormatError`."""
        marker = path / MARKER
        with translated(marker):
            if not marker.is_file():
                raise NotARootError(
                    f"{path} is not a root",
                    hint=f"`{TRUST_INIT}` makes one; --root names another",
                )
        with translated(marker), marker.open("rb") as stream:
            described = canonical.decode(stream.read(4097), limit=4096, subject=str(marker))
        if described != {"format": FORMAT}:
            raise UnsupportedFormatError(f"{path}: a root of another format; this program knows {FORMAT}")
        return cls(path)

    @classmethod
    def create(cls, path: Path) -> "Root":
        """The root at `path`, made if there is none."""
        sweep(path)
        with translated(path):
            is_new = not (path / MARKER).exists()
            if is_new and path.is_dir() and {entry.name for entry in path.iterdir()} - {"lost+found"}:
                raise NotARootError(
                    f"{path} has other things in it, and is not a root",
                    hint="name an empty or a new folder with --root",
                )
        if is_new:
            publish(path / MARKER, canonical.encode({"format": FORMAT}))
        return cls.open(path)

    def blob(self, digest: Digest) -> Path:
        """Where the raw bytes of a blob lie."""
        return self.blobs / digest.hex[:2] / digest.hex

    def recipe(self, digest: Digest) -> Path:
        """Where the recipe of a blob lies."""
        return self.recipes / digest.hex[:2] / digest.hex

    def lock(self) -> FileLock:
        """The lock that one writer at a time holds; `BusyError` for the second."""
        make_folder(self.state)
        return FileLock(
            self.state / "lock", exclusive=True, busy=f"another command is changing {self.path} at this moment"
        )

    def generation(self, number: int) -> Path:
        """The folder of a generation."""
        return self.generations / str(number)

    def numbers(self) -> list[int]:
        """The generations that are here, in order."""
        if not self.generations.is_dir():
            return []
        with translated(self.generations):
            return sorted(int(entry.name) for entry in self.generations.iterdir() if _NUMBER.fullmatch(entry.name))

    def current(self) -> int | None:
        """The active generation; None before the first install. Errors: `CorruptStoreError`."""
        if not os.path.lexists(self._current):
            return None
        self._refuse_a_folder()
        with translated(self._current):
            is_link = self._current.is_symlink()
            text = str(self._current.readlink()) if is_link else self._current.read_text("utf-8", "replace")
        found = _CURRENT.fullmatch(text.replace("\\", "/"))
        if found is None or not self.generation(int(found[1])).is_dir():
            raise CorruptStoreError(
                f"{self._current} points to {text!r}, which is not a generation", hint="install the bundle again"
            )
        return int(found[1])

    def stable(self, number: int) -> Path:
        """The folder of the active generation `number` by a name that stays right after the next install: `current`.

        Where there are no symbolic links, that of the generation itself.
        """
        return self._current if self._current.is_symlink() else self.generation(number)

    def activate(self, number: int) -> None:
        """Make a generation the active one, by one rename."""
        self._refuse_a_folder()
        target = f"generations/{number}"
        fresh = self.path / ".current.partial"
        with translated(self._current):
            fresh.unlink(missing_ok=True)
            try:
                fresh.symlink_to(target)
            except (NotImplementedError, PermissionError):
                publish(self._current, target.encode())
                return
            fresh.replace(self._current)
        sync_folder(self.path)

    def _refuse_a_folder(self) -> None:
        if self._current.is_dir() and not self._current.is_symlink():
            raise CorruptStoreError(
                f"{self._current} is a folder: a copy of this root followed its links",
                hint="copy with `cp -a` or `rsync -aH`; or remove that folder, and install the bundle again",
            )


def digest_of(path: Path) -> Digest:
    """The SHA-256 of a file, read in pieces."""
    hash_ = hashlib.sha256()
    with path.open("rb") as stream:
        while piece := stream.read(_PIECE):
            hash_.update(piece)
    return Digest(hash_.digest())
