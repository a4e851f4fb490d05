"""Files and folders of this machine, and patterns: `./weights/*.onnx`.

* A path is relative to the manifest's folder. One that the manifest names itself may be a link to anywhere.
* Inside a folder, a link is followed only if it leads to a file below that folder; any other is refused, so that a
  folder from elsewhere cannot pull in what its author never had.
* A pattern is one only where no file has that very name. `*` and `?` stop at a `/`, and `**` stands for folders; what
  it finds is named from the last folder before the first wildcard, and folders that it finds are left out.
* A folder that may not be read is an error, never a shorter list.
* `.git` and the hub client's own `.cache/huggingface` are not part of a model, and are left out.
"""

import os
import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from fnmatch import fnmatchcase
from io import BufferedReader
from pathlib import Path, PurePosixPath
from typing import Final

from bundler.sources.base import Found, Local
from bundler.sources.reference import FILE, Reference, escape, unescape
from manifests.errors import ManifestError, SourceDeniedError, SourceError, SourceNotFoundError, listing

_LEFT_OUT: Final = ".cache/huggingface"
_WILDCARD: Final = re.compile(r"[*?\[]")


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
        """The files of the folder, those that a pattern matches, or the file."""
        folder = self._path(reference)
        if _WILDCARD.search(folder.as_posix()) and not os.path.lexists(folder):
            return self._matching(reference)
        if not stat.S_ISDIR(_mode(folder)):
            return (self.find(reference, pin),)
        found = tuple(
            Found(reference.child(name), name, Local(path), size=path.stat().st_size)
            for name, path in sorted(_walk(folder, folder, folder.resolve()))
        )
        if not found:
            raise SourceNotFoundError(f"{reference} is an empty folder")
        return found

    def _matching(self, reference: Reference) -> tuple[Found, ...]:
        """The files that a pattern matches. Every link among them stays in the folder that is named from."""
        parts = PurePosixPath(unescape(reference.location)).parts
        fixed = next(number for number, part in enumerate(parts) if _WILDCARD.search(part))
        top = self._base.joinpath(*parts[:fixed])
        if not stat.S_ISDIR(_mode(top)):
            raise SourceNotFoundError(f"{reference} matches no file", hint=f"{top} is a file, and no folder")
        if any("**" in part and part != "**" for part in parts):
            raise ManifestError(
                f"{reference}: `**` stands for folders, alone between two slashes", hint="a/**/*.onnx, or a/*.onnx"
            )
        place = Reference(FILE, escape(PurePosixPath(*parts[:fixed]).as_posix()))
        found = tuple(
            Found(place.child(name), name, Local(path), size=path.stat().st_size)
            for name, path in sorted(_glob(top, parts[fixed:]))
        )
        if not found:
            near = listing(sorted(entry.name for entry in _entries(top)))
            raise SourceNotFoundError(f"{reference} matches no file", hint=f"in {top} there are: {near or 'no files'}")
        return found

    def _path(self, reference: Reference) -> Path:
        return self._base / unescape(reference.location)


def _glob(top: Path, pattern: Sequence[str]) -> Iterator[tuple[str, Path]]:
    real_top = top.resolve()
    parts = (*pattern, "*") if pattern[-1] == "**" else pattern
    for path in set(_matching_paths(top, parts)):
        name = path.relative_to(top)
        if not path.is_dir() and not _is_left_out(name):
            yield name.as_posix(), _inside(path, real_top)


def _matching_paths(folder: Path, parts: Sequence[str]) -> Iterator[Path]:
    """What lies below `folder` as `parts` say. `**` follows no link, so that it ends."""
    first, rest = parts[0], parts[1:]
    if first == "**":
        yield from _matching_paths(folder, rest)
        for path in _entries(folder):
            if path.is_dir() and not path.is_symlink():
                yield from _matching_paths(path, parts)
        return
    there = _entries(folder) if _WILDCARD.search(first) else [folder / first]
    for path in (each for each in there if each.name == first or fnmatchcase(each.name, first)):
        if not rest:
            yield from (path,) if os.path.lexists(path) else ()
        elif path.is_dir():
            yield from _matching_paths(path, rest)


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError as error:
        raise SourceDeniedError(f"{folder}: {error.strerror}") from error


def _is_left_out(name: Path) -> bool:
    """Whether tools left it, at the place itself or below a folder of theirs."""
    return ".git" in name.parts or name.as_posix().startswith(_LEFT_OUT)


def _walk(folder: Path, top: Path, real_top: Path) -> Iterator[tuple[str, Path]]:
    for path in _entries(folder):
        name = path.relative_to(top).as_posix()
        if _is_left_out(path.relative_to(top)):
            continue
        if path.is_dir() and not path.is_symlink():
            yield from _walk(path, top, real_top)
        else:
            yield name, _inside(path, real_top)


def _inside(path: Path, real_top: Path) -> Path:
    real = Path(os.path.realpath(path))
    if not real.is_relative_to(real_top):
        raise SourceError(
            f"{path} is a link that leads out of its folder", hint="name its target in the manifest, or copy it (cp -L)"
        )
    if not stat.S_ISREG(_mode(real)):
        raise SourceError(f"{path} is neither a file nor a folder, or a link to a folder")
    return real


@contextmanager
def opened(path: Path) -> Iterator[BufferedReader]:
    """The file `path`, to be read. Errors: `SourceNotFoundError`, `SourceDeniedError`."""
    try:
        stream = path.open("rb")
    except FileNotFoundError as error:
        raise SourceNotFoundError(f"{path} does not exist") from error
    except OSError as error:
        raise SourceDeniedError(f"{path}: {error.strerror}") from error
    with stream:
        yield stream


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
