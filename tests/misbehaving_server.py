"""A server of one file that speaks HTTP well until it is told not to: each fault is used up by one request."""

import gzip
import hashlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

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
    """Another part than was asked for."""


Fault = Cut | Answer | Stall | Change | Chunked | Claim | Gzip | IgnoreRange | PartAsWhole | WrongPart


@dataclass
class Misbehaving:
    """The file, what will go wrong, and the headers of every request so far."""

    content: bytes
    faults: list[Fault] = field(default_factory=list)
    requests: list[dict[str, str]] = field(default_factory=list)
    url: str = ""
    with_etag: bool = True

    @property
    def etag(self) -> str:
        return f'"{hashlib.sha256(self.content).hexdigest()[:16]}"'

    def answer(self, request: Request) -> None:
        self.requests.append(dict(request.headers))
        fault = self.faults.pop(0) if self.faults else None
        if isinstance(fault, Change):
            self.content = fault.content
        if isinstance(fault, Answer):
            headers = {name.replace("-", "_"): value for name, value in fault.headers.items()}
            request.send(b"no", status=fault.status, **headers)
            return
        start = 0 if isinstance(fault, IgnoreRange) else self._start(request)
        if start >= len(self.content) > 0:
            request.send(b"", status=416, Content_Range=f"bytes */{len(self.content)}")
            return
        body = self.content[start:]
        headers = {"ETag": self.etag} if self.with_etag else {}
        if start:
            first = 0 if isinstance(fault, WrongPart) else start
            headers["Content_Range"] = f"bytes {first}-{len(self.content) - 1}/{len(self.content)}"
        if isinstance(fault, Gzip):
            body, headers["Content_Encoding"] = gzip.compress(body), "gzip"
        if isinstance(fault, Chunked):
            request.head(206 if start else 200, Transfer_Encoding="chunked", **headers)
            self._send_chunks(request, body, fault.end_after)
            return
        length = len(body) + (fault.more if isinstance(fault, Claim) else 0)
        partial = start and not isinstance(fault, PartAsWhole)
        request.head(206 if partial else 200, Content_Length=str(length), **headers)
        self._send(request, body, fault)

    def _start(self, request: Request) -> int:
        if "Range" not in request.headers or request.headers.get("If-Range", self.etag) != self.etag:
            return 0
        return int(request.headers["Range"].removeprefix("bytes=").rstrip("-"))

    def _send(self, request: Request, body: bytes, fault: Fault | None) -> None:
        if isinstance(fault, Cut | Stall):
            request.wfile.write(body[: fault.after])
            request.wfile.flush()
        if isinstance(fault, Stall):
            time.sleep(fault.seconds)
        if isinstance(fault, Cut | Stall | Claim):
            if isinstance(fault, Claim):
                request.wfile.write(body)
            request.close_connection = True
            return
        request.wfile.write(body)

    def _send_chunks(self, request: Request, body: bytes, end_after: int | None) -> None:
        chunks = [body[place : place + 10_000] for place in range(0, len(body), 10_000)]
        for chunk in chunks[:end_after]:
            request.wfile.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))
        if end_after is None:
            request.wfile.write(b"0\r\n\r\n")
        request.close_connection = True


@contextmanager
def misbehaving(content: bytes, *faults: Fault, with_etag: bool = True) -> Iterator[Misbehaving]:
    """A running server of `content` with `faults` ahead of it."""
    server = Misbehaving(content, list(faults), with_etag=with_etag)
    with serving(server.answer) as url:
        server.url = f"{url}/weights.bin"
        yield server
