"""Downloads that survive: resumed after a kill at any byte, tried again when broken off, hashed as they come.

A download lies in the store's `partial/` as two files: the bytes so far, and beside them `.json`, which says of which
version of the file they are (its strong ETag or Last-Modified) and how long that is.

* The bytes are cut to nothing before the version is written, and the version is written before the first byte: bytes
  and version never disagree, wherever a kill falls.
* A file that changed at its source starts over. What was resumed and then has a wrong digest is asked for once more,
  whole, before it is called wrong.
* One process at a time: what was fetched stays locked until its owner has taken it (`Fetched`), so that nobody writes
  what another one reads.
* Progress counts only beyond the furthest byte so far, so that no server can keep a download going for ever.
"""

import hashlib
import json
import os
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO, Final, Protocol, Self

import requests

from bundler.http import BrokenOffError, Client, pieces
from bundler.sources.urls import shown
from manifests.digest import Digest
from manifests.errors import BusyError, DigestMismatchError, SourceError
from manifests.locks import is_at, try_lock
from manifests.progress import Reporter
from manifests.publish import publish, translated

_VERSION_LIMIT: Final = 64 << 10
_READ: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Version:
    """Which version of a file its server sent. `size` is in bytes, None if the server did not say."""

    etag: str = ""
    last_modified: str = ""
    size: int | None = None

    @property
    def validator(self) -> str:
        """What `If-Range` may be asked with; empty if the server gave nothing that is strong enough."""
        if self.etag:
            return "" if self.etag.startswith("W/") else self.etag
        return self.last_modified

    @property
    def pin(self) -> dict[str, str]:
        """For the lock."""
        named = {"etag": self.etag, "last-modified": self.last_modified}
        return {name: value for name, value in named.items() if value}


@dataclass(frozen=True, slots=True)
class Request:
    """One file to download: into `target`, and what is known of it before."""

    url: str
    target: Path
    subject: str
    size: int | None = None
    digest: Digest | None = None


class Claim:
    """One process's right to a download: a lock beside it, which may be removed because each holder looks again."""

    def __init__(self, target: Path, descriptor: int) -> None:
        self._target = target
        self._descriptor = descriptor

    @classmethod
    def take(cls, target: Path, *, subject: str) -> Self:
        """The claim on the download at `target`. Errors: `BusyError` while another has it; `StorageError`."""
        path = _lock_of(target)
        while True:
            with translated(path):
                descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o644)
                try:
                    taken = try_lock(descriptor, exclusive=True)
                    current = taken and is_at(descriptor, path)
                except BaseException:
                    os.close(descriptor)
                    raise
            if current:
                return cls(target, descriptor)
            os.close(descriptor)
            if not taken:
                raise BusyError(
                    f"another process is downloading {subject}", hint="wait until it has finished, then run this again"
                )

    def release(self) -> None:
        """Keep what is there for a later run."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def discard(self) -> None:
        """Remove what is there, and the lock with it."""
        try:
            if self._descriptor >= 0:
                _forget(self._target)
                with suppress(OSError):  # Windows keeps a file that is open
                    _lock_of(self._target).unlink()
        finally:
            self.release()


@dataclass(frozen=True, slots=True)
class Fetched:
    """A whole file at `path`. Nobody else writes there until its owner calls `discard`, or `release` to keep it."""

    path: Path
    digest: Digest
    size: int
    version: Version
    claim: Claim


def download(client: Client, request: Request, reporter: Reporter) -> Fetched:
    """The file that `request` names, whole and with its digest compared; its claim is the caller's to end.

    Errors: `DigestMismatchError`, `SourceUnreachableError` (what came is kept), other `SourceError`; `BusyError` while
    another process has the same download; `StorageError`.
    """
    claim = Claim.take(request.target, subject=request.subject)
    try:
        done = _persisted(client, request, reporter)
        if _is_wrong(done, request):
            claim.discard()
            raise DigestMismatchError(subject=request.subject, expected=request.digest, actual=done.digest)
    except BaseException:
        claim.release()
        raise
    return Fetched(request.target, done.digest, done.size, done.version, claim)


def forget_finished(target: Path) -> None:
    """Remove what an earlier run left of a download that nobody needs any more, unless another process is at it."""
    if any(path.exists() for path in (target, _beside(target), _lock_of(target))):
        with suppress(BusyError):
            Claim.take(target, subject=target.name).discard()


@dataclass(frozen=True, slots=True)
class _Whole:
    """What a transfer ended with."""

    digest: Digest
    size: int
    version: Version


def _persisted(client: Client, request: Request, reporter: Reporter) -> _Whole:
    transfer = _Transfer(client, request, reporter)
    try:
        done = client.persist(transfer.attempt, subject=request.subject)
        if _is_wrong(done, request) and transfer.resumed:
            transfer.start_over()
            done = client.persist(transfer.attempt, subject=request.subject)
    finally:
        reporter.finished(request.subject)
    return done


class _Hash(Protocol):
    def update(self, content: bytes, /) -> None: ...
    def digest(self) -> bytes: ...


class _Transfer:
    """The attempts at one file."""

    def __init__(self, client: Client, request: Request, reporter: Reporter) -> None:
        self._client = client
        self._request = request
        self._reporter = reporter
        self._furthest = 0
        self.resumed = False

    def attempt(self) -> _Whole:
        """One request, from where the last one ended. Errors: `BrokenOffError`, `SourceError`."""
        held = self._held()
        headers: dict[str, str] = {}
        if held is not None:
            headers = {"Range": f"bytes={held[1]}-", "If-Range": held[0].validator}
        response = self._client.open(self._request.url, subject=self._request.subject, headers=headers)
        with response:
            if response.status_code == 416:
                return self._beyond_the_end(response, held)
            version = _version(response)
            start = _start_of(response, held, version)
            if start is None:
                self.start_over()
                raise BrokenOffError(f"{shown(response.url)} sent another part than was asked for")
            return self._receive(response, version, start)

    def start_over(self) -> None:
        """Forget what was fetched."""
        _forget(self._request.target)
        self.resumed = False

    def _held(self) -> tuple[Version, int] | None:
        """The version and the number of the bytes that are here, if the server can be asked for the rest."""
        target = self._request.target
        with translated(target):
            try:
                size = target.stat().st_size
                content = _beside(target).read_bytes()[:_VERSION_LIMIT]
            except FileNotFoundError:
                return None
        version = _parse_version(content)
        return (version, size) if size and version is not None and version.validator else None

    def _beyond_the_end(self, response: requests.Response, held: tuple[Version, int] | None) -> _Whole:
        """416: the server has nothing after our last byte, because we have all, or because the file became shorter."""
        total = response.headers.get("Content-Range", "").strip()
        if held is not None and total == f"bytes */{held[1]}" and held[0].size in {None, held[1]}:
            self.resumed = True
            hasher = hashlib.sha256()
            self._rehash(hasher, held[1])
            return _Whole(Digest(hasher.digest()), held[1], held[0])
        self.start_over()
        raise BrokenOffError(f"{shown(response.url)} has become shorter")

    def _receive(self, response: requests.Response, version: Version, start: int) -> _Whole:
        target, hasher = self._request.target, hashlib.sha256()
        if self._request.size is not None and version.size not in {None, self._request.size}:
            raise DigestMismatchError(
                subject=self._request.subject, expected=f"{self._request.size} bytes", actual=f"{version.size} bytes"
            )
        if start == 0:
            self.resumed = False
            with translated(target):
                target.write_bytes(b"")
            publish(_beside(target), json.dumps(asdict(version)).encode())
        else:
            self.resumed = True
            self._rehash(hasher, start)
        self._reporter.started(self._request.subject, version.size)
        self._reporter.advanced(self._request.subject, start)
        before = self._furthest
        with translated(target), target.open("r+b") as stream:
            stream.seek(start)
            try:
                size = start + self._copy(response, stream, hasher, room=_room(version, self._request, start))
            except BrokenOffError as broken:
                self._furthest = max(before, stream.tell())
                raise BrokenOffError(broken.reason, progressed=self._furthest > before) from broken
            self._furthest = max(before, size)
        total = version.size if version.size is not None else self._request.size
        if total not in {None, size}:
            raise BrokenOffError(f"broken off after {size} of {total} bytes", progressed=self._furthest > before)
        return _Whole(Digest(hasher.digest()), size, version)

    def _copy(self, response: requests.Response, stream: BinaryIO, hasher: _Hash, *, room: int | None) -> int:
        copied = 0
        for piece in pieces(response):
            self._client.check_running(self._request.subject)
            copied += len(piece)
            if room is not None and copied > room:
                raise SourceError(f"{self._request.subject}: {shown(response.url)} sends more than it announced")
            stream.write(piece)
            hasher.update(piece)
            self._reporter.advanced(self._request.subject, len(piece))
        self._client.check_running(self._request.subject)  # a connection that was shut looks like the end of a file
        return copied

    def _rehash(self, hasher: _Hash, size: int) -> None:
        """Hash what an earlier run left."""
        with translated(self._request.target), self._request.target.open("rb") as stream:
            while size > 0 and (piece := stream.read(min(_READ, size))):
                hasher.update(piece)
                size -= len(piece)


def _is_wrong(done: _Whole, request: Request) -> bool:
    return request.digest is not None and done.digest != request.digest


def _room(version: Version, request: Request, start: int) -> int | None:
    size = version.size if version.size is not None else request.size
    return None if size is None else size - start


def _version(response: requests.Response) -> Version:
    size: int | None = None
    if _is_part(response):
        total = response.headers.get("Content-Range", "").rpartition("/")[2]
        size = int(total) if total.isdecimal() else None
    elif (length := response.headers.get("Content-Length", "")).isdecimal():
        size = int(length)
    return Version(response.headers.get("ETag", ""), response.headers.get("Last-Modified", ""), size)


def _is_part(response: requests.Response) -> bool:
    """Whether the body is a part of the file: some servers say so in the range alone, with the status 200."""
    return response.status_code == 206 or "Content-Range" in response.headers


def _start_of(response: requests.Response, held: tuple[Version, int] | None, version: Version) -> int | None:
    """From which byte on the response is: 0 if it is the whole file, None if it does not fit what is here."""
    if not _is_part(response):
        return 0
    if held is None:
        return None
    kept, size = held
    unit, _, span = response.headers.get("Content-Range", "").partition(" ")
    same = version.validator in {"", kept.validator} and (kept.size is None or kept.size == version.size)
    return size if same and unit == "bytes" and span.startswith(f"{size}-") else None


def _parse_version(content: bytes) -> Version | None:
    """What lies beside a partial file; None if it is not whole, and then the file starts over."""
    try:
        return Version(**json.loads(content))
    except (ValueError, TypeError):
        return None


def _beside(target: Path) -> Path:
    return target.with_name(target.name + ".json")


def _lock_of(target: Path) -> Path:
    return target.with_name(target.name + ".lock")


def _forget(target: Path) -> None:
    with translated(target):
        target.unlink(missing_ok=True)
        _beside(target).unlink(missing_ok=True)
