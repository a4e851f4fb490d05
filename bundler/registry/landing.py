"""Where a bundle lies while it comes out of a registry: beside its name, until it is whole.

    .NAME.pull/                locked by the one process that fills it
    .NAME.pull/<key>/          of one manifest and one form; others are gone
        downloads/<hex>        blobs under way
        arrived/<hex>          tar form: an empty mark; the blob's bytes are on the disk, in their place
        bundle                 what is to be named NAME: a tar with holes, or a folder that lacks blobs

* A blob is hashed when it lands, and what an earlier run left is hashed again: nothing is taken for whole unread.
* A download goes only after its bytes are on the disk in their place.
"""

import hashlib
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final, Protocol

from bundler.forms import refuse_to_replace_anything_else
from manifests.bundle import SealedBundle
from manifests.errors import FormatError, StorageError
from manifests.folders import replacing_folder
from manifests.locks import lock_folder
from manifests.publish import make_folder, publish, sweep, sync_folder, translated
from manifests.wrapper import BLOCK, END, Part, Wrapper, length_in_tar, padding, tar_header

_MODE: Final = 0o644
_READ: Final = 1 << 20


class Landing(Protocol):
    """A bundle that is not whole yet."""

    downloads: Path
    """The folder for blobs under way."""

    def holds(self, part: Part, advanced: Callable[[int], None]) -> bool:
        """Whether all bytes of a member are here: they are read, and `advanced` is told of how many."""

    def land(self, part: Part, pieces: Iterable[bytes]) -> bool:
        """Put a member in its place; on the disk when this returns. False, and nothing held, if it is not `part`."""

    def finish(self) -> None:
        """All members are here: give the bundle its name."""


@contextmanager
def working_folder(out: Path, key: str) -> Iterator[Path]:
    """The folder for `out` and `key`; it stays if the block fails, for the next run. Errors: `BusyError`."""
    work = out.with_name(f".{out.name}.pull")
    with translated(work):
        make_folder(out.parent)
        if work.is_symlink() or (work.exists() and not work.is_dir()):
            raise StorageError(f"{work} is in the way", hint="remove it, or name another place")
        held = _locked(work, busy=f"another process is pulling {out}")
        try:
            for stray in sorted(work.iterdir()):
                if stray.name != key:
                    _remove(stray)
            (work / key / "downloads").mkdir(parents=True, exist_ok=True)
            try:
                yield work / key
            except FormatError:
                shutil.rmtree(work)  # what the registry has is wrong, and would be so again
                raise
            shutil.rmtree(work)
        finally:
            if held is not None:
                os.close(held)


def _locked(work: Path, *, busy: str) -> int | None:
    """The lock of the folder, which is made if it is not there; its last holder removes it, at this moment perhaps."""
    work.mkdir(exist_ok=True)
    while (held := lock_folder(work, busy=busy)) is None and not work.exists():
        work.mkdir(exist_ok=True)
    return held


def _remove(stray: Path) -> None:
    if stray.is_dir() and not stray.is_symlink():
        shutil.rmtree(stray)
    else:
        stray.unlink()


class TarLanding:
    """The tar form: every place in it is known beforehand."""

    def __init__(self, work: Path, out: Path, carried: Wrapper) -> None:
        self.downloads = work / "downloads"
        self._path = work / "bundle"
        self._marks = work / "arrived"
        self._out = out
        self._carried = carried
        self._places: dict[str, int] = {}
        place = 0
        for name, size in carried.members():
            self._places[name] = place
            place += length_in_tar([(name, size)])
        self._end = place
        with translated(self._path):
            self._marks.mkdir(exist_ok=True)
            with self._path.open("ab") as stream:
                stream.truncate(self._end + len(END))

    def holds(self, part: Part, advanced: Callable[[int], None]) -> bool:
        """As `Landing` says: only where a mark says so, and it is true."""
        if not self._mark(part).exists():
            return False
        with translated(self._path), self._path.open("rb") as stream:
            stream.seek(self._places[part.name] + BLOCK)
            if _is_whole(stream, part, advanced):
                return True
        self._mark(part).unlink()
        return False

    def land(self, part: Part, pieces: Iterable[bytes]) -> bool:
        """As `Landing` says."""
        with translated(self._path), self._path.open("r+b") as stream:
            stream.seek(self._places[part.name])
            stream.write(tar_header(part.name, part.size))
            if not _copy(pieces, stream, part):
                return False
            stream.write(bytes(padding(part.size)))
            stream.flush()
            os.fsync(stream.fileno())
        publish(self._mark(part), b"")
        return True

    def finish(self) -> None:
        """As `Landing` says."""
        with translated(self._out):
            with self._path.open("r+b") as stream:
                for name, content in self._carried.written():
                    stream.seek(self._places[name])
                    stream.write(tar_header(name, len(content)) + content + bytes(padding(len(content))))
                stream.seek(self._end)
                stream.write(END)
                stream.flush()
                os.fsync(stream.fileno())
            _check(self._path)
            refuse_to_replace_anything_else(self._out)
            self._path.chmod(_MODE)
            self._path.replace(self._out)
            sync_folder(self._out.parent)

    def _mark(self, part: Part) -> Path:
        return self._marks / part.digest.hex


class FolderLanding:
    """The folder form: a blob that has its name there is whole."""

    def __init__(self, work: Path, out: Path, carried: Wrapper) -> None:
        self.downloads = work / "downloads"
        self._path = work / "bundle"
        self._blobs = self._path / "blobs" / "sha256"
        self._out = out
        self._carried = carried
        make_folder(self._blobs)

    def holds(self, part: Part, advanced: Callable[[int], None]) -> bool:
        """As `Landing` says."""
        path = self._path / part.name
        with translated(path):
            if not path.is_file():
                return False
            with path.open("rb") as stream:
                return _is_whole(stream, part, advanced) and not stream.read(1)

    def land(self, part: Part, pieces: Iterable[bytes]) -> bool:
        """As `Landing` says."""
        path, partial = self._path / part.name, self.downloads / f"{part.digest.hex}.landing"
        with translated(path):
            with partial.open("wb") as stream:
                if not _copy(pieces, stream, part):
                    return False
                stream.flush()
                os.fsync(stream.fileno())
            partial.chmod(_MODE)
            partial.replace(path)
            sync_folder(path.parent)
        return True

    def finish(self) -> None:
        """As `Landing` says: three renames, into a folder that then takes the name."""
        for folder in (self._path, self._blobs):
            sweep(folder)  # what a killed run began to write here
        for name, content in self._carried.written():
            publish(self._path / name, content, mode=_MODE)
        for folder in (self._blobs, self._blobs.parent, self._path):
            sync_folder(folder)
        _check(self._path)
        refuse_to_replace_anything_else(self._out)
        with replacing_folder(self._out) as fresh:
            for entry in sorted(self._path.iterdir()):
                entry.rename(fresh / entry.name)
            sync_folder(fresh)


def read_pieces(path: Path) -> Iterator[bytes]:
    """The bytes of a file."""
    with translated(path), path.open("rb") as stream:
        while piece := stream.read(_READ):
            yield piece


def refuse_a_stranger(out: Path, *, folder: bool) -> None:
    """Errors: `StorageError` where `out` cannot be the name of a bundle in this form."""
    if not out.name:
        raise StorageError(f"{str(out)!r} is not the name of a bundle")
    if out.is_dir() and not folder:
        raise StorageError(f"{out} is a folder", hint="name a file, or use --form folder")
    if out.is_file() and folder:
        raise StorageError(f"{out} is a file", hint="name a folder, or use --form tar")
    refuse_to_replace_anything_else(out)


def _copy(pieces: Iterable[bytes], stream: BinaryIO, part: Part) -> bool:
    """Whether the pieces are `part`. No more than its size is written."""
    hasher, copied = hashlib.sha256(), 0
    for piece in pieces:
        copied += len(piece)
        if copied > part.size:
            return False
        hasher.update(piece)
        stream.write(piece)
    return copied == part.size and hasher.digest() == part.digest.raw


def _is_whole(stream: BinaryIO, part: Part, advanced: Callable[[int], None]) -> bool:
    hasher, left = hashlib.sha256(), part.size
    while left and (piece := stream.read(min(_READ, left))):
        hasher.update(piece)
        left -= len(piece)
        advanced(len(piece))
    return not left and hasher.digest() == part.digest.raw


def _check(path: Path) -> None:
    """The whole front: wrapper, statement, index and attachments agree about each other and about every pack."""
    with SealedBundle.open(path) as sealed:
        sealed.view()
