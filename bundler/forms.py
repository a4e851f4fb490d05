"""The two forms that a bundle is written in, a tar or a folder: packs first, once; then the front, in its place.

* Nothing appears under the bundle's name before all of it is on the disk; what was there before stays until then.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from manifests import wrapper
from manifests.digest import Digest
from manifests.errors import FormatError, StorageError, UnsupportedFormatError
from manifests.folders import replacing_folder
from manifests.medium import open_medium
from manifests.publish import publish, publishing, sweep, sync_folder, translated
from manifests.wrapper import BLOCK, END, Part, Wrapper


@dataclass(frozen=True, slots=True)
class Front:
    """Members 1 to 7."""

    wrapper: Wrapper
    envelope: bytes
    attachments: bytes
    index: bytes

    def members(self) -> Iterator[tuple[str, bytes]]:
        """Name and content, in order."""
        yield from self.wrapper.written()
        yield self.wrapper.envelope.name, self.envelope
        yield self.wrapper.attachments.name, self.attachments
        yield self.wrapper.index.name, self.index


class Form(Protocol):
    """Where packs go, and then the front."""

    def begin(self) -> BinaryIO:
        """A stream for the next pack."""

    def end(self, digest: Digest, length: int) -> None:
        """The pack is written, and has this digest."""

    def finish(self, front: Front) -> None:
        """Everything is known now."""


@contextmanager
def tar(out: Path, *, front_length: int) -> Iterator[Form]:
    """A tar at `out`, with room for the front left free."""
    if out.is_dir():
        raise StorageError(f"{out} is a folder", hint="name a file, or use --form folder")
    refuse_to_replace_anything_else(out)
    with translated(out):
        sweep(out.parent, out.name)
        with publishing(out, mode=0o644) as stream:
            yield _Tar(stream, front_length)


class _Tar:
    def __init__(self, stream: BinaryIO, front: int) -> None:
        self._stream = stream
        self._reserved = front
        self._place = front
        stream.seek(front)

    def begin(self) -> BinaryIO:
        self._stream.write(bytes(BLOCK))
        return self._stream

    def end(self, digest: Digest, length: int) -> None:
        stream = self._stream
        stream.write(bytes(wrapper.padding(length)))
        stream.seek(self._place)
        stream.write(wrapper.tar_header(Part(digest, length).name, length))
        self._place += BLOCK + length + wrapper.padding(length)
        stream.seek(self._place)

    def finish(self, front: Front) -> None:
        self._stream.write(END)
        self._stream.seek(0)
        for name, member in front.members():
            self._stream.write(wrapper.tar_header(name, len(member)) + member + bytes(wrapper.padding(len(member))))
        if self._stream.tell() != self._reserved:
            raise AssertionError("the front is not as long as was planned")


@contextmanager
def folder(out: Path) -> Iterator[Form]:
    """A folder beside `out`, which takes its place at the end."""
    if out.name:
        refuse_to_replace_anything_else(out)
    with replacing_folder(out) as fresh:
        yield _Folder(fresh)


class _Folder:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._blobs = path / "blobs" / "sha256"
        self._blobs.mkdir(parents=True)
        self._current: BinaryIO | None = None

    def begin(self) -> BinaryIO:
        self._current = (self._blobs / "pack.partial").open("wb")
        return self._current

    def end(self, digest: Digest, length: int) -> None:
        if self._current is not None:
            self._current.flush()
            os.fsync(self._current.fileno())
            self._current.close()
        (self._blobs / "pack.partial").rename(self._path / Part(digest, length).name)

    def finish(self, front: Front) -> None:
        for name, member in front.members():
            publish(self._path / name, member, mode=0o644)
        for folder in (self._blobs, self._blobs.parent, self._path):
            sync_folder(folder)


def refuse_to_replace_anything_else(out: Path) -> None:
    """A bundle may be replaced by a newer one; a key, a manifest or somebody's folder may not."""
    if not out.exists():
        return
    medium = None
    try:
        medium = open_medium(out)
        wrapper.parse_index_json(medium.head(wrapper.INDEX_NAME, wrapper.MAXIMUM_WRAPPER))
    except UnsupportedFormatError:
        return
    except FormatError as error:
        raise StorageError(f"{out} exists and is not a bundle", hint="name another place, or remove it") from error
    finally:
        if medium is not None:
            medium.close()
