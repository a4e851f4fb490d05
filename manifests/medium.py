"""The two forms that a bundle lies in on a medium, a tar or a folder, read as named members with bounds.

* Nothing is extracted, and no name from a bundle is used as a path but `blobs/sha256/<hex>` and two fixed ones.
* Links, devices, unlisted, repeated and trailing things are errors, not surprises.
"""

import os
import re
import stat
import sys
from pathlib import Path
from typing import Final, Protocol

from manifests.errors import DamagedError, FormatError
from manifests.publish import translated
from manifests.wrapper import BLOCK, END, INDEX_NAME, LAYOUT_NAME, MAXIMUM_MEMBERS, padding, parse_tar_header

_HEX: Final = re.compile(r"[0-9a-f]{64}")
_CARRY_AGAIN: Final = "carry the bundle again, or copy it to the medium anew"


class Medium(Protocol):
    """A bundle's members, by name."""

    ordered: bool
    """Whether the order of `members` means something."""

    def head(self, name: str, limit: int) -> bytes:
        """One of the first two members, before anything else is looked at."""

    def members(self) -> dict[str, int]:
        """Every member and its size, once all of them have been looked at."""

    def read(self, name: str, offset: int, length: int) -> bytes:
        """Exactly `length` bytes of a member, or `DamagedError`."""

    def close(self) -> None:
        """Let go of the medium."""


def open_medium(path: Path) -> Medium:
    """The bundle at `path`. Errors: `FormatError` if there is none, `StorageError`."""
    with translated(path):
        if path.is_dir():
            return Folder(path)
        if path.is_file():
            return Tar(path)
    raise FormatError(f"{path}: no such file or folder", hint="name the .bundle file, or the folder form of a bundle")


class Tar:
    """A bundle as one tar."""

    ordered = True

    def __init__(self, path: Path) -> None:
        self._path = path
        with translated(path):
            self._descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0))
            self._size = os.fstat(self._descriptor).st_size
        self._places: dict[str, tuple[int, int]] = {}

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)

    def head(self, name: str, limit: int) -> bytes:
        """The first or second member, read from its place."""
        try:
            first, size = parse_tar_header(self._pread(0, BLOCK))
            place = 0
            if name == INDEX_NAME:
                place = BLOCK + size + padding(size)
                _, size = parse_tar_header(self._pread(place, BLOCK))
        except DamagedError as error:
            raise self._no_bundle() from error
        if first != LAYOUT_NAME or size > limit:
            raise self._no_bundle()
        return self._pread(place + BLOCK, size)

    def members(self) -> dict[str, int]:
        """Walk the headers to the end of the file."""
        place = 0
        while (header := self._pread(place, BLOCK)) != END[:BLOCK]:
            name, size = parse_tar_header(header)
            if name in self._places:
                raise FormatError(f"{self._path}: member {name} occurs twice")
            if len(self._places) >= MAXIMUM_MEMBERS:
                raise FormatError(f"{self._path}: more than {MAXIMUM_MEMBERS} members")
            end = place + BLOCK + size + padding(size)
            if end > self._size:
                raise self._truncated(f"in the middle of {name}")
            if any(self._pread(place + BLOCK + size, padding(size))):
                raise DamagedError(f"{self._path}: the padding after {name} is not zero", hint=_CARRY_AGAIN)
            self._places[name] = (place + BLOCK, size)
            place = end
        if self._pread(place, len(END)) != END or place + len(END) != self._size:
            raise DamagedError(f"{self._path}: the tar does not end as it should", hint=_CARRY_AGAIN)
        return {name: size for name, (_, size) in self._places.items()}

    def read(self, name: str, offset: int, length: int) -> bytes:
        """Part of a member; never beyond its end."""
        place, size = self._places[name]
        if offset + length > size:
            raise DamagedError(f"{self._path}: {name} has only {size} bytes", hint=_CARRY_AGAIN)
        return self._pread(place + offset, length)

    def _pread(self, offset: int, length: int) -> bytes:
        with translated(self._path):
            content = _read_at(self._descriptor, length, offset)
            while len(content) < length:  # the kernel may give less than was asked for
                more = _read_at(self._descriptor, length - len(content), offset + len(content))
                if not more:
                    raise self._truncated("before its end")
                content += more
        return content

    def _truncated(self, where: str) -> DamagedError:
        return DamagedError(f"{self._path}: truncated: {self._size} bytes, it breaks off {where}", hint=_CARRY_AGAIN)

    def _no_bundle(self) -> FormatError:
        return FormatError(
            f"{self._path}: not a bundle", hint="a bundle is what `bundle build` wrote, as a tar or a folder"
        )


class Folder:
    """A bundle as a folder."""

    ordered = False

    def __init__(self, path: Path) -> None:
        self._path = path

    def close(self) -> None:
        """Nothing is held open."""

    def head(self, name: str, limit: int) -> bytes:
        """One of the two files that are not blobs."""
        with translated(self._path):
            try:
                size = self._size(name)
            except FileNotFoundError as error:
                raise FormatError(
                    f"{self._path}: not a bundle: it has no {name}",
                    hint="name the bundle itself, a file or a folder that `bundle build` wrote",
                ) from error
        if size > limit:
            raise FormatError(f"{self._path}: not a bundle: {name} is too long")
        return self.read(name, 0, size)

    def members(self) -> dict[str, int]:
        """Look at every name in the folder; anything unlisted is refused."""
        with translated(self._path):
            self._only(self._path, {LAYOUT_NAME, INDEX_NAME, "blobs"})
            self._only(self._path / "blobs", {"sha256"})
            self._only(self._path / "blobs" / "sha256", None)
            names = sorted(entry.name for entry in os.scandir(self._path / "blobs" / "sha256"))
            if len(names) > MAXIMUM_MEMBERS:
                raise FormatError(f"{self._path}: too many members")
            if stray := [name for name in names if not _HEX.fullmatch(name)]:
                raise self._unlisted(stray[0])
            members = [LAYOUT_NAME, INDEX_NAME, *(f"blobs/sha256/{name}" for name in names)]
            return {name: self._size(name) for name in members}

    def read(self, name: str, offset: int, length: int) -> bytes:
        """Part of a member; a link is never followed."""
        with translated(self._path):
            descriptor = os.open(
                self._path / name, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
            )
            with os.fdopen(descriptor, "rb") as stream:
                stream.seek(offset)
                content = stream.read(length)
        if len(content) != length:
            raise DamagedError(f"{self._path}: {name} is truncated", hint=_CARRY_AGAIN)
        return content

    def _size(self, name: str) -> int:
        status = (self._path / name).lstat()
        if not stat.S_ISREG(status.st_mode):
            raise FormatError(f"{self._path}: {name} is not a regular file")
        return status.st_size

    def _only(self, folder: Path, known: set[str] | None) -> None:
        """A real folder, not a link to one, with exactly the `known` names if they are known."""
        if not stat.S_ISDIR(folder.lstat().st_mode):
            raise FormatError(f"{folder} is not a folder")
        if known is None:
            return
        names = {entry.name for entry in os.scandir(folder)}
        if stray := sorted(names - known):
            raise self._unlisted(stray[0])
        if missing := sorted(known - names):
            raise DamagedError(f"{self._path}: {missing[0]} is missing", hint=_CARRY_AGAIN)

    def _unlisted(self, name: str) -> FormatError:
        return FormatError(
            f"{self._path}: {name!r} does not belong to the bundle",
            hint="take it out: the folder form holds the bundle's own files and nothing else",
        )


def _read_at(descriptor: int, length: int, offset: int) -> bytes:
    if sys.platform == "win32":
        os.lseek(descriptor, offset, os.SEEK_SET)
        return os.read(descriptor, length)
    else:  # noqa: RET505 - the type checker follows a platform's branch, not what lies behind it
        return os.pread(descriptor, length, offset)
