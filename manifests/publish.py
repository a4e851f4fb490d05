"""The one way to write a file: complete under its name, or not there at all.

* Temporary file in the same folder, flush, fsync, mode, rename, fsync of the folder; on any exception it goes.
* A temporary is called `.NAME.<8 hex>.partial`; its writer holds a lock on it, so that the leftovers of a killed
  process can be told from a file that is being written, and swept.
* `Batch` publishes many files with one sync point: nothing may refer to them before `Batch.sync` has returned.
"""

import errno
import glob
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Final

from manifests.errors import DiskFullError, StorageError
from manifests.locks import try_lock

READ_ONLY: Final = 0o444
PRIVATE: Final = 0o600
LINK_REFUSED: Final = frozenset(
    {errno.EXDEV, errno.EPERM, errno.EACCES, errno.EMLINK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}
)
"""What a file system says that makes no hard link, or not this one."""
_SUFFIX: Final = ".partial"
_FOLDER_MODE: Final = 0o755
_SHARD_DEPTH: Final = 3
"""Folders above a file of a batch whose names may be as new as its own."""
_IS_WINDOWS: Final = os.name == "nt"


def publish(path: Path, content: bytes, *, mode: int = READ_ONLY) -> None:
    """Write `content` under `path`, replacing what was there in one step, and on the disk when this returns."""
    with publishing(path, mode=mode) as stream:
        stream.write(content)


def publish_new(path: Path, content: bytes, *, mode: int = READ_ONLY) -> bool:
    """As `publish`, but never in the place of another: False, and nothing changed, if `path` is there already."""
    if not path.name:
        raise StorageError(f"{str(path)!r} is not the name of a file")
    with translated(path):
        make_folder(path.parent)
        sweep(path.parent, path.name)
        temporary = _temporary(path)
        try:
            with _create(temporary) as stream:
                stream.write(content)
                _complete(stream, mode, durable=True)
            _give_name(temporary, path)
        except FileExistsError:
            return False
        finally:
            temporary.unlink(missing_ok=True)
    sync_folder(path.parent)
    return True


def _give_name(temporary: Path, path: Path) -> None:
    """Link, which fails if the name is taken; where there are no links, claim the name first and replace it then."""
    try:
        os.link(temporary, path)
    except OSError as error:
        if error.errno not in LINK_REFUSED:
            raise
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, PRIVATE))
        temporary.replace(path)


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}{_SUFFIX}")


@contextmanager
def publishing(path: Path, *, mode: int = READ_ONLY, durable: bool = True) -> Iterator[BinaryIO]:
    """A stream whose content appears under `path` when the block ends well, and leaves nothing when it does not.

    The stream is seekable. With `durable=False` neither file nor folder is synced: for content that checks itself.
    Errors: `DiskFullError`, `StorageError`.
    """
    if not path.name:
        raise StorageError(f"{str(path)!r} is not the name of a file")
    with translated(path):
        make_folder(path.parent, durable=durable)
        temporary = _temporary(path)
        try:
            with _create(temporary) as stream:
                yield stream
                _complete(stream, mode, durable=durable)
                if not _IS_WINDOWS:  # still locked, so that nobody can sweep it before it has its name
                    temporary.replace(path)
            if _IS_WINDOWS:  # where an open file cannot be renamed
                temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        if durable:
            sync_folder(path.parent)


def _create(temporary: Path) -> BinaryIO:
    """A new file that only its owner can read until it is published, locked by this process."""
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
    descriptor = os.open(temporary, flags, PRIVATE)
    if not _IS_WINDOWS:
        with suppress(OSError):  # no locks on this file system: then nobody sweeps here either
            try_lock(descriptor, exclusive=True)
    return os.fdopen(descriptor, "r+b")


class Batch:
    """Files published one by one, and made durable together by `sync`."""

    def __init__(self) -> None:
        self._paths: list[Path] = []

    def publish(self, path: Path, content: bytes, *, mode: int = READ_ONLY) -> None:
        """Write `content` under `path`; durable only after `sync`."""
        with publishing(path, mode=mode, durable=False) as stream:
            stream.write(content)
        self._paths.append(path)

    def note(self, path: Path) -> None:
        """Make a file durable that was there already: whoever wrote it may have been killed before its sync."""
        self._paths.append(path)

    def sync(self) -> None:
        """Return when every file of the batch, and its name, is on the disk."""
        for path in self._paths:
            sync_file(path)
        for folder in sorted({folder for path in self._paths for folder in list(path.parents)[:_SHARD_DEPTH]}):
            sync_folder(folder)
        self._paths.clear()


def make_folder(folder: Path, *, durable: bool = True) -> None:
    """Make `folder` and what is missing above it, the same for every umask; on the disk when this returns.

    The group that a folder hands down to what is made in it goes on being handed down. Errors: `DiskFullError`,
    `StorageError`.
    """
    with translated(folder):
        missing = [each for each in (folder, *folder.parents) if not each.exists()]
        for each in reversed(missing):
            with suppress(FileExistsError):
                each.mkdir()
                if not _IS_WINDOWS:
                    each.chmod(_FOLDER_MODE | each.stat().st_mode & stat.S_ISGID)
            if durable:
                sync_folder(each.parent)


def sync_file(path: Path) -> None:
    """Return when the content of `path` is on the disk."""
    with translated(path), path.open("rb") as stream:
        os.fsync(stream.fileno())


def sync_folder(folder: Path) -> None:
    """Return when the names in `folder` are on the disk. Windows has no such call, and journals names itself."""
    if _IS_WINDOWS:
        return
    with translated(folder):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def sweep(folder: Path, name: str = "*") -> None:
    """Remove the temporaries of killed writers of `name` in `folder`; those in use stay."""
    pattern = name if name == "*" else glob.escape(name)
    for temporary in folder.glob(f".{pattern}.????????{_SUFFIX}"):
        with suppress(OSError):  # it was published or swept by another process at this moment, or is not ours
            if _IS_WINDOWS or not _in_use(temporary):
                temporary.unlink()


def _in_use(temporary: Path) -> bool:
    with temporary.open("rb") as stream:
        return not try_lock(stream.fileno(), exclusive=True)


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Turn an `OSError` of the block into the `StorageError` that tells its reader what to do."""
    try:
        yield
    except OSError as error:
        where = error.filename or path
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise DiskFullError(
                f"no space left while writing {where}", hint="free some space and run the same command again"
            ) from error
        if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
            raise StorageError(
                f"{where}: {error.strerror}", hint="run as the owner of this folder, or name another one"
            ) from error
        raise StorageError(f"{where}: {error.strerror or error}") from error


def _complete(stream: BinaryIO, mode: int, *, durable: bool) -> None:
    stream.flush()
    if durable:
        os.fsync(stream.fileno())
    if not _IS_WINDOWS:
        os.fchmod(stream.fileno(), mode)
