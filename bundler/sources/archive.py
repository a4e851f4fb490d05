"""Members of archives: one file out of a wheel, zip or tar, as a stream; nothing is unpacked by name.

* What an archive is, its first bytes say, not its name. Known: zip (wheels, jars), tar, and tar in gzip, zstd or xz.
* A member is a regular file. Two members of one name, links, devices and encrypted members are refused.
* A member gives as many bytes as the archive declares for it; its check (zip) is compared.
* A tar that is cut short, or has a damaged header, is refused: to tarfile both are where it ends, and the rest would be
  missed by nobody.
* An archive inside an archive goes through an unnamed temporary file, because an archive is read from two ends.
"""

import gzip
import io
import lzma
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import BinaryIO, Final, cast

import zstandard

from manifests.errors import SourceError, SourceNotFoundError, listing
from manifests.publish import translated

MAXIMUM_MEMBERS: Final = 1_000_000
"""Entries of an archive: more are refused before they fill the memory."""
MAXIMUM_DEPTH: Final = 4
"""Archives inside archives."""
_MAXIMUM_READ: Final = 64 << 20
"""Bytes that may be read at once: no honest header comes near, and a forged one could ask for all of the memory."""
_COPY: Final = 1 << 20
_PADDING: Final = 64 << 20
"""Bytes behind the end of a tar that are read for the check of what compresses it; `tar` itself writes some 10,000."""
_ZIP: Final = (b"PK\x03\x04", b"PK\x05\x06")
_NO_LINKS: Final = "pack it without links (tar --dereference --hard-dereference, zip without -y), or leave it out"
_GZIP, _XZ, _ZSTD = b"\x1f\x8b", b"\xfd7zXZ\x00", b"\x28\xb5\x2f\xfd"
_DAMAGE: Final = (
    zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, zstandard.ZstdError, EOFError, gzip.BadGzipFile,
    NotImplementedError, UnicodeDecodeError,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Entry:
    """A name in an archive. `open` gives its bytes while the walk stands at it; `SourceError` if it is no file."""

    name: str
    open: Callable[[], AbstractContextManager["Member"]]


@dataclass(frozen=True, slots=True)
class Member:
    """An open member: its stream, and its size in bytes as declared."""

    stream: BinaryIO
    size: int


@contextmanager
def open_member(archive: BinaryIO, members: Sequence[str], *, subject: str, spool: Path) -> Iterator[Member]:
    """The member that `members` leads to: the first lies in `archive`, the next in that one, and so on.

    `spool` is a folder with room for an archive inside an archive. Errors: `SourceNotFoundError` names what is near;
    `SourceError` if it is no archive, a damaged one, or one of those refused above.
    """
    if len(members) > MAXIMUM_DEPTH:
        raise SourceError(f"{subject}: more than {MAXIMUM_DEPTH} archives inside one another")
    with ExitStack() as stack:
        for name in members[:-1]:
            with _open(archive, name, subject=subject) as inner:
                archive = stack.enter_context(_spooled(inner.stream, spool))
            subject = f"{subject}!{name}"
        yield stack.enter_context(_open(archive, members[-1], subject=subject))


@contextmanager
def walk(archive: BinaryIO, inner: Sequence[str], *, subject: str, spool: Path) -> Iterator[Iterator[Entry]]:
    """Every name but those of folders, in the order of the archive: of `archive`, or of one that `inner` leads to.

    Whoever takes all of them reads the archive once. Errors while iterating: `SourceError`, also for a second entry of
    a name.
    """
    with ExitStack() as stack:
        if inner:
            member = stack.enter_context(open_member(archive, inner, subject=subject, spool=spool))
            archive = stack.enter_context(_spooled(member.stream, spool))
            subject = "!".join((subject, *inner))
        entries = _zip_entries if _is_zip(archive) else _tar_entries
        yield _each_once(entries(archive, subject), subject)


def _each_once(entries: Iterator[Entry], subject: str) -> Iterator[Entry]:
    seen: set[str] = set()
    with _damage_named(subject):
        for entry in entries:
            if entry.name in seen:
                raise SourceError(f"{subject}: two members are called {entry.name}")
            seen.add(entry.name)
            _bounded(len(seen), subject=subject)
            yield entry


def _zip_entries(archive: BinaryIO, subject: str) -> Iterator[Entry]:
    with zipfile.ZipFile(archive) as opened:
        for info in opened.infolist():
            if not info.is_dir():
                yield Entry(info.filename, partial(_open_zip_entry, opened, info, subject=subject))


@contextmanager
def _open_zip_entry(opened: zipfile.ZipFile, info: zipfile.ZipInfo, *, subject: str) -> Iterator[Member]:
    _check_zip_entry(info, subject=subject)
    with _damage_named(subject), opened.open(info) as stream:
        yield _checked(cast("BinaryIO", stream), info.file_size, subject)


def _tar_entries(archive: BinaryIO, subject: str) -> Iterator[Entry]:
    with _tar(archive, subject=subject) as opened:
        for info in _headers(opened):
            name = info.name.removeprefix("./")
            if not info.isdir():
                yield Entry(name, partial(_open_tar_entry, opened, info, name, subject=subject))


@contextmanager
def _open_tar_entry(opened: tarfile.TarFile, info: tarfile.TarInfo, name: str, *, subject: str) -> Iterator[Member]:
    with _tar_reader(opened, info, name, subject=subject) as reader:
        yield _checked(reader, info.size, subject)


def _checked(stream: BinaryIO, size: int, subject: str) -> Member:
    """A member whose damage is an error of the source."""
    return Member(cast("BinaryIO", io.BufferedReader(_DamageNamed(stream, subject))), size)


def find_name(archive: BinaryIO, suffix: str, *, subject: str) -> str | None:
    """The first name that ends in `suffix`, at the top of a zip or one folder deep; None in any other archive."""
    with _damage_named(subject):
        if not _is_zip(archive):
            return None
        with zipfile.ZipFile(archive) as opened:
            names = sorted(name for name in opened.namelist() if name.endswith(suffix) and name.count("/") <= 1)
    return names[0] if names else None


@contextmanager
def _open(archive: BinaryIO, name: str, *, subject: str) -> Iterator[Member]:
    with ExitStack() as stack:
        with _damage_named(subject):
            if _is_zip(archive):
                opened = stack.enter_context(zipfile.ZipFile(archive))
                entry = _zip_entry(opened, name, subject=subject)
                member = Member(cast("BinaryIO", stack.enter_context(opened.open(entry))), entry.file_size)
            else:
                member = _open_tar(stack, archive, name, subject=subject)
        checked = _checked(member.stream, member.size, subject)
        stack.enter_context(checked.stream)
        yield checked


def _zip_entry(opened: zipfile.ZipFile, name: str, *, subject: str) -> zipfile.ZipInfo:
    entries = opened.infolist()
    _bounded(len(entries), subject=subject)
    found = [entry for entry in entries if entry.filename == name and not entry.is_dir()]
    _one(found, name, (entry.filename for entry in entries if not entry.is_dir()), subject=subject)
    _check_zip_entry(found[0], subject=subject)
    return found[0]


def _check_zip_entry(info: zipfile.ZipInfo, *, subject: str) -> None:
    if info.flag_bits & 1:
        raise SourceError(f"{subject}: {info.filename} is encrypted")
    if (info.external_attr >> 16) & 0o170000 == 0o120000:
        raise SourceError(f"{subject}: {info.filename} is a link", hint=_NO_LINKS)


def _open_tar(stack: ExitStack, archive: BinaryIO, name: str, *, subject: str) -> Member:
    """Two passes: one over all names, because a later entry would replace an earlier one, and one to the member."""
    found: list[tarfile.TarInfo] = []
    names: list[str] = []
    with _tar(archive, subject=subject) as opened:
        for entry in _headers(opened):
            names.append(entry.name.removeprefix("./"))
            _bounded(len(names), subject=subject)
            if names[-1] == name:
                found.append(entry)
    _one(found, name, names, subject=subject)
    again = stack.enter_context(_tar(archive, subject=subject))
    return Member(stack.enter_context(_tar_reader(again, found[0], name, subject=subject)), found[0].size)


@contextmanager
def _tar_reader(opened: tarfile.TarFile, info: tarfile.TarInfo, name: str, *, subject: str) -> Iterator[BinaryIO]:
    reader = opened.extractfile(info) if info.isreg() and not info.issparse() else None
    if reader is None:
        links = info.islnk() or info.issym()
        raise SourceError(
            f"{subject}: {name} is no regular file{', but a link' if links else ''}",
            hint=_NO_LINKS if links else "",
        )
    with reader:
        yield cast("BinaryIO", reader)


@contextmanager
def _tar(archive: BinaryIO, *, subject: str) -> Iterator[tarfile.TarFile]:
    archive.seek(0)
    head = archive.read(6)
    archive.seek(0)
    with ExitStack() as stack:
        plain: BinaryIO = archive
        if head.startswith(_GZIP):
            plain = cast("BinaryIO", stack.enter_context(gzip.open(archive)))
        elif head.startswith(_XZ):
            plain = cast("BinaryIO", stack.enter_context(lzma.open(archive)))
        elif head.startswith(_ZSTD):
            decompressor = zstandard.ZstdDecompressor(max_window_size=1 << 27)
            reader = decompressor.stream_reader(archive, read_across_frames=True, closefd=False)
            plain = cast("BinaryIO", stack.enter_context(reader))
        try:
            opened = tarfile.open(fileobj=cast("BinaryIO", _Bounded(plain)), mode="r:")  # noqa: SIM115 - on the stack
        except tarfile.ReadError as error:
            raise SourceError(
                f"{subject} is no archive that this program reads", hint="zip, wheel, tar, tar.gz, tar.zst, tar.xz"
            ) from error
        yield stack.enter_context(opened)


def _headers(opened: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """Every header up to the mark of the end, and an error if that is not there."""
    for info in opened:
        opened.members = []  # type: ignore[attr-defined]  # tarfile would keep every header it has read
        yield info
    cast("_Bounded", opened.fileobj).check_end()


class _Bounded:
    """A stream for tarfile, which reads a header's extension whole, however long it says that it is."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._last = b""

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= _MAXIMUM_READ:
            raise tarfile.TarError("a header of the tar is longer than any honest one")
        parts: list[bytes] = []
        while size > 0 and (piece := self._stream.read(size)):
            parts.append(piece)
            size -= len(piece)
        self._last = b"".join(parts)
        return self._last

    def check_end(self) -> None:
        """`TarError` if what tarfile read last marks no end. What compresses the tar compares its check here."""
        if self._last != bytes(tarfile.BLOCKSIZE):
            raise tarfile.TarError("the mark of its end is missing: it is cut short, or a header in it is damaged")
        for _ in range(_PADDING // _COPY):
            if not self._stream.read(_COPY):
                return

    def tell(self) -> int:
        return self._stream.tell()

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._stream.seek(offset, whence)


class _DamageNamed(io.RawIOBase):
    """A member's stream: what its decoder finds wrong while reading is an error of the source."""

    def __init__(self, stream: BinaryIO, subject: str) -> None:
        self._stream = stream
        self._subject = subject

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "bytearray | memoryview") -> int:  # type: ignore[override]  # typeshed's WriteableBuffer
        with _damage_named(self._subject):
            piece = self._stream.read(len(buffer))
        buffer[: len(piece)] = piece
        return len(piece)


@contextmanager
def _damage_named(subject: str) -> Iterator[None]:
    try:
        yield
    except _DAMAGE as error:
        raise SourceError(f"{subject}: a damaged archive, or one of an unknown kind: {error}") from error
    except RuntimeError as error:  # zipfile's word for a member that wants a password
        raise SourceError(f"{subject}: {error}") from error


def _one(found: Sequence[object], name: str, names: "Iterator[str] | Sequence[str]", *, subject: str) -> None:
    if len(found) > 1:
        raise SourceError(f"{subject}: {len(found)} members are called {name}")
    if not found:
        there = sorted(names)
        ending = [other for other in there if other.rpartition("/")[2] == name.rpartition("/")[2]]
        near = ending or get_close_matches(name, there, n=5, cutoff=0.4)
        raise SourceNotFoundError(
            f"{subject} has no member {name}",
            hint=f"did you mean {listing(near)}?" if near else f"there are: {listing(there)}",
        )


def _bounded(count: int, *, subject: str) -> None:
    if count > MAXIMUM_MEMBERS:
        raise SourceError(f"{subject}: more than {MAXIMUM_MEMBERS} members")


def _is_zip(archive: BinaryIO) -> bool:
    archive.seek(0)
    head = archive.read(4)
    archive.seek(0)
    return head in _ZIP


@contextmanager
def _spooled(stream: BinaryIO, folder: Path) -> Iterator[BinaryIO]:
    with translated(folder), tempfile.TemporaryFile(dir=folder) as spooled:
        while piece := stream.read(_COPY):
            spooled.write(piece)
        spooled.seek(0)
        yield cast("BinaryIO", spooled)
