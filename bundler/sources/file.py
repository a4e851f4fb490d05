"""Files and folders of this machine.

* A path is relative to the manifest's folder. One that the manifest names itself may be a link to anywhere.
* Inside a folder, a link is followed only if it leads to a file below that folder; any other is refused, so that a
  folder from elsewhere cannot pull in what its author never had.
* `.git` and the hub client's own `.cache/huggingface` are not part of a model, and are left out.
"""

import os
import stat
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Final

from bundler.sources.base import Found, Local
from bundler.sources.reference import Reference, unescape
from manifests.errors import ManifestError, SourceDeniedError, SourceError, SourceNotFoundError, listing

_LEFT_OUT: Final = (".git", ".cache/huggingface")


class FileSource:
    """Local paths, relative to `base`."""

    def __init__(self, base: Path) -> None:
        self._base = base

    def find(self, reference: Reference, pin: Mapping[str, str]) -> Found:  # noqa: ARG002 - a path has no pin
        """The file; `SourceNotFoundError` names what lies near."""
        path = self._path(reference)
        mode = _mode(path)
        if stat.S_ISDIR(mode):
            raise ManifestError(f"{reference} is a folder, and a file is asked for")
        if not stat.S_ISREG(mode):
            raise SourceError(f"{reference} is neither a file nor a folder")
        return Found(reference, path.name, Local(path), size=path.stat().st_size)

    def list(self, reference: Reference, pin: Mapping[str, str]) -> tuple[Found, ...]:
        """The files of the folder, or the file."""
        folder = self._path(reference)
        if not stat.S_ISDIR(_mode(folder)):
            return (self.find(reference, pin),)
        found = tuple(
            Found(reference.child(name), name, Local(path), size=path.stat().st_size)
            for name, path in sorted(_walk(folder, folder, folder.resolve()))
        )
        if not found:
            raise SourceNotFoundError(f"{reference} is an empty folder")
        return found

    def _path(self, reference: Reference) -> Path:
        return self._base / unescape(reference.location)


def _walk(folder: Path, top: Path, real_top: Path) -> Iterator[tuple[str, Path]]:
    try:
        entries = list(folder.iterdir())
    except OSError as error:
        raise SourceDeniedError(f"{folder}: {error.strerror}") from error
    for path in entries:
        name = path.relative_to(top).as_posix()
        if name in _LEFT_OUT or path.name == ".git":
            continue
        if path.is_dir() and not path.is_symlink():
            yield from _walk(path, top, real_top)
        else:
            yield name, _inside(path, real_top)


def _inside(path: Path, real_top: Path) -> Path:
    real = Path(os.path.realpath(path))
    if path.is_symlink() and not real.is_relative_to(real_top):
        raise SourceError(
            f"{path} is a link that leads out of its folder", hint="name its target in the manifest, or copy it (cp -L)"
        )
    if not stat.S_ISREG(_mode(real)):
        raise SourceError(f"{path} is neither a file nor a folder, or a link to a folder")
    return real


def _mode(path: Path) -> int:
    try:
        return path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError) as error:
        raise SourceNotFoundError(f"{path} does not exist", hint=_near(path)) from error
    except OSError as error:
        raise SourceDeniedError(f"{path}: {error.strerror}") from error


def _near(path: Path) -> str:
    try:
        names = [entry.name for entry in path.parent.iterdir()]
    except OSError:
        return f"{path.parent} does not exist either"
    close = get_close_matches(path.name, names, n=3)
    return f"did you mean {' or '.join(close)}?" if close else f"there are: {listing(sorted(names)) or 'no files'}"
