"""A server of one file that speaks HTTP well until it is told not to: each fault is used up by one request."""

import gzip
import hashlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import cycle
from threading import Lock

from loopback import Request, serving


@dataclass
class Cut:
    """The connection ends after so many bytes of the body."""

    after: int


@dataclass
class Answer:
    """Another status instead of the file."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Stall:
    """After so many bytes nothing more comes for so many seconds."""

    after: int
    seconds: float


@dataclass
class Change:
    """From this request on, the file is another one."""

    content: bytes


@dataclass
class ChangeUnsaid:
    """From this request on, the file is another one, and parts of it come whatever `If-Range` says."""

    content: bytes


@dataclass
class Claim:
    """`Content-Length` says so many bytes more than there are."""

    more: int


@dataclass
class Chunked:
    """The file comes in chunks without a length, and the connection ends after so many of them (all, if None)."""

    end_after: int | None = None


class Gzip:
    """The file comes compressed, though nobody asked."""


class IgnoreRange:
    """The whole file, whatever part was asked for."""


class PartAsWhole:
    """The part that was asked for, under the status of a whole file; only its range says so."""


class WrongPart:
    """Another part than was asked for, one byte off, and its range says so."""


class Hangup:
    """The connection ends before any answer."""


class NewEtag:
    """The same bytes under another ETag, in this answer alone: as a farm of servers does that disagree."""


@dataclass
class Drip:
    """The body comes in so many pieces, with a pause of so many seconds before each."""

    pieces: int
    seconds: float


class Endless:
    """A body without length that never ends."""


Fault = (
    Cut
    | Answer
    | Stall
    | Change
    | ChangeUnsaid
    | Chunked
    | Claim
    | Gzip
    | IgnoreRange
    | PartAsWhole
    | WrongPart
    | Hangup
    | NewEtag
    | Drip
    | Endless
)


@dataclass
class Misbehaving:
    """The file, what will go wrong, and the headers of every request so far, with the bytes that were sent."""

    content: bytes
    faults: list[Fault] = field(default_factory=list)
    requests: list[dict[str, str]] = field(default_factory=list)
    url: str = ""
    with_etag: bool = True
    closing: bool = False
    """Whether every connection is for one request."""
    hears_if_range: bool = True
    sent: int = 0
    guard: Lock = field(default_factory=Lock)

    @property
    def etag(self) -> str:
        return f'"{hashlib.sha256(self.content).hexdigest()[:16]}"'

    def answer(self, request: Request) -> None:
        with self.guard:
            self.requests.append(dict(request.headers))
            fault = self.faults.pop(0) if self.faults else None
        if isinstance(fault, Change | ChangeUnsaid):
            self.content = fault.content
            self.hears_if_range = isinstance(fault, Change)
        request.close_connection = self.closing
        if isinstance(fault, Hangup):
            request.close_connection = True
        elif isinstance(fault, Answer):
            headers = {name.replace("-", "_"): value for name, value in fault.headers.items()}
            request.send(b"no", status=fault.status, **headers)
        else:
            self._answer_file(request, fault)

    def _answer_file(self, request: Request, fault: Fault | None) -> None:
        whole = len(self.content)
        span = None if isinstance(fault, IgnoreRange) else self._span(request)
        start, end = span or (0, whole)
        if start >= whole > 0:
            request.send(b"", status=416, Content_Range=f"bytes */{whole}")
            return
        if isinstance(fault, WrongPart) and span is not None:
            start, end = (start - 1, end - 1) if start else (1, min(end + 1, whole))
        body = self.content[start:end]
        headers = {"Accept_Ranges": "bytes"}
        if self.with_etag:
            headers["ETag"] = '"another"' if isinstance(fault, NewEtag) else self.etag
        if span is not None:
            headers["Content_Range"] = f"bytes {start}-{end - 1}/{whole}"
        if isinstance(fault, Gzip):
            body, headers["Content_Encoding"] = gzip.compress(body), "gzip"
        partial = span is not None and not isinstance(fault, PartAsWhole)
        if isinstance(fault, Chunked | Endless):
            request.head(206 if partial else 200, Transfer_Encoding="chunked", **headers)
            self._send_chunks(request, body, fault)
            return
        length = len(body) + (fault.more if isinstance(fault, Claim) else 0)
        request.head(206 if partial else 200, Content_Length=str(length), **headers)
        self._send(request, body, fault)

    def _span(self, request: Request) -> tuple[int, int] | None:
        """The part that is asked for, of the version that is here; None for the whole file."""
        is_same = not self.hears_if_range or request.headers.get("If-Range", self.etag) == self.etag
        if "Range" not in request.headers or not is_same:
            return None
        first, _, last = request.headers["Range"].removeprefix("bytes=").partition("-")
        return int(first), min(int(last) + 1 if last else len(self.content), len(self.content))

    def _write(self, request: Request, content: bytes) -> None:
        with self.guard:  # before the client can have it all, and look
            self.sent += len(content)
        request.wfile.write(content)

    def _send(self, request: Request, body: bytes, fault: Fault | None) -> None:
        if isinstance(fault, Cut | Stall):
            self._write(request, body[: fault.after])
        if isinstance(fault, Stall):
            time.sleep(fault.seconds)
        if isinstance(fault, Drip):
            step = max(1, -(-len(body) // fault.pieces))
            for place in range(0, len(body), step):
                time.sleep(fault.seconds)
                self._write(request, body[place : place + step])
            return
        if not isinstance(fault, Cut | Stall):
            self._write(request, body)
        if isinstance(fault, Cut | Stall | Claim):
            request.close_connection = True

    def _send_chunks(self, request: Request, body: bytes, fault: Chunked | Endless) -> None:
        chunks = [body[place : place + 10_000] for place in range(0, len(body), 10_000)]
        for chunk in cycle(chunks) if isinstance(fault, Endless) else chunks[: fault.end_after]:
            self._write(request, b"%x\r\n%b\r\n" % (len(chunk), chunk))
        if isinstance(fault, Chunked) and fault.end_after is None:
            request.wfile.write(b"0\r\n\r\n")
        request.close_connection = True


@contextmanager
def misbehaving(content: bytes, *faults: Fault, with_etag: bool = True, closing: bool = False) -> Iterator[Misbehaving]:
    """A running server of `content` with `faults` ahead of it."""
    server = Misbehaving(content, list(faults), with_etag=with_etag, closing=closing)
    with serving(server.answer) as url:
        server.url = f"{url}/weights.bin"
        yield server
