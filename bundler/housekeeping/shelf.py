"""What lies in a store, file by file: read only, and never more of it in memory than one folder.

* A file belongs to the store by its place and its name. What fits neither is foreign: named, and left alone.
* Temporaries of killed writers are known by their name; whoever is alone in the store may remove them.
* What has the name of a file is taken for one, also a folder: whoever reads it says what is wrong.
* A folder of the store may be a link to another disk.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from manifests.digest import ChunkAlgorithm
from manifests.publish import translated
from manifests.store import MARKER, PARTIAL, profile

_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_SHARD: Final = re.compile(r"[0-9a-f]{2}")
_DOWNLOAD: Final = re.compile(r"([0-9a-f]{64})(?:\.[a-z0-9.]+)?")
_LEFTOVER: Final = re.compile(r"\..+\.[0-9a-f]{8}\.partial")
_PROFILE: Final = re.compile(r"v[0-9]+-[a-z0-9.]+-[0-9.]+-[a-z0-9.]+-(blake3|sha256)")
_FOLDERS: Final = ("blobs", "chunks", "indexes", "locks", "members", PARTIAL)
_FOREIGN_LIMIT: Final = 1000
"""Foreign files that are remembered by name."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A file of the store: `name` is what its own name says, a digest in hex; `size` is in bytes."""

    name: str
    path: Path
    size: int
    modified: float


@dataclass(frozen=True, slots=True)
class Profile:
    """A folder of encoded chunks. Those of this program are `live`; others it can encode anew."""

    name: str
    path: Path
    algorithm: ChunkAlgorithm
    live: bool


@dataclass(slots=True)
class Shelf:
    """The store at `path`. `foreign` and `leftovers` grow as it is walked."""

    path: Path
    foreign: set[Path] = field(default_factory=set)
    leftovers: dict[Path, int] = field(default_factory=dict)
    """Temporaries of killed writers, or of those at work, and their sizes."""

    def profiles(self) -> Iterator[Profile]:
        """Every folder of chunks."""
        live = {profile(algorithm) for algorithm in ChunkAlgorithm}
        own = {os.path.realpath(self.path / "chunks" / name) for name in live}
        for name, path in self._folders(self.path / "chunks", _PROFILE):
            if name not in live and os.path.realpath(path) in own:  # a link to what is in use
                self._stranger(path)
                continue
            yield Profile(name, path, ChunkAlgorithm(name.rpartition("-")[2]), name in live)

    def chunks(self, folder: Profile) -> Iterator[Entry]:
        """Every chunk file, named by the digest of its raw bytes."""
        return self._sharded(folder.path)

    def recipes(self) -> Iterator[Entry]:
        """Every recipe, named by its blob."""
        for _, folder in self._folders(self.path / "blobs", re.compile("sha256")):
            yield from self._sharded(folder)

    def members(self) -> Iterator[tuple[str, list[Entry]]]:
        """The records of each archive, by the archive's digest in hex."""
        for shard, folder in self._folders(self.path / "members", _SHARD):
            for container, inner in self._folders(folder, _DIGEST):
                if container.startswith(shard):
                    yield container, list(self._files(inner))
                else:
                    self._stranger(inner)

    def indexes(self) -> Iterator[Entry]:
        """Every index, named by the content digest of its bundle."""
        return self._files(self.path / "indexes")

    def locks(self) -> Iterator[Entry]:
        """Every record of a lock."""
        return self._files(self.path / "locks")

    def downloads(self) -> Iterator[tuple[str, list[Entry]]]:
        """The files of each download under way or broken off, by its name; the bytes are in the one without suffix."""
        found: dict[str, list[Entry]] = {}
        for entry in self._files(self.path / PARTIAL, _DOWNLOAD):
            found.setdefault(entry.name[:64], []).append(entry)
        yield from sorted(found.items())

    def look_around(self) -> None:
        """Notice what does not belong at the top of the store."""
        for name, path, _ in self._scan(self.path):
            if name not in (*_FOLDERS, MARKER, "lock"):
                self._stranger(path)

    def _sharded(self, folder: Path) -> Iterator[Entry]:
        for shard, inner in self._folders(folder, _SHARD):
            for entry in self._files(inner):
                if entry.name.startswith(shard):
                    yield entry
                else:
                    self._stranger(entry.path)

    def _folders(self, folder: Path, names: re.Pattern[str]) -> Iterator[tuple[str, Path]]:
        for name, path, entry in self._scan(folder):
            if names.fullmatch(name) and entry.is_dir():
                yield name, path
            else:
                self._stranger(path)

    def _files(self, folder: Path, names: re.Pattern[str] = _DIGEST) -> Iterator[Entry]:
        for name, path, entry in self._scan(folder):
            if not names.fullmatch(name) or _is_special(entry):
                self._stranger(path)
                continue
            try:
                status = entry.stat(follow_symlinks=False)
            except FileNotFoundError:  # removed at this moment
                continue
            yield Entry(name, path, status.st_size, status.st_mtime)

    def _scan(self, folder: Path) -> Iterator[tuple[str, Path, os.DirEntry[str]]]:
        """The entries of a folder, sorted; none where it is not there."""
        with translated(folder):
            try:
                with os.scandir(folder) as entries:
                    found = sorted(entries, key=lambda entry: entry.name)
            except FileNotFoundError:
                return
            except NotADirectoryError:
                self._stranger(folder)
                return
        for entry in found:
            path = folder / entry.name
            if _LEFTOVER.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                self.leftovers[path] = path.lstat().st_size if os.path.lexists(path) else 0
            else:
                yield entry.name, path, entry

    def _stranger(self, path: Path) -> None:
        if len(self.foreign) < _FOREIGN_LIMIT:
            self.foreign.add(path)


def _is_special(entry: os.DirEntry[str]) -> bool:
    """Whether it is a pipe or a device: whoever opens those may wait for ever."""
    return not (entry.is_file() or entry.is_dir() or (entry.is_symlink() and not os.path.exists(entry.path)))  # noqa: PTH110
