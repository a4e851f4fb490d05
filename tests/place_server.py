"""A server of one small file that remembers what it was asked, and requests to it with credentials."""

import base64
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest

from bundler.header_file import HeaderLine, parse_headers
from bundler.http import Client
from bundler.settings import Settings
from loopback import Request
from manifests.progress import Silent
from tls_server import Authority, answering

SECRET: Final = "hush-hush"
BASIC: Final = "Basic " + base64.b64encode(f"user:{SECRET}".encode()).decode()


@dataclass
class Place:
    """A server of one small file: what it was asked, and what it answers instead."""

    url: str = ""
    asked: list[dict[str, str]] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    answers: list[tuple[int, dict[str, str]]] = field(default_factory=list)

    def answer(self, request: Request) -> None:
        self.times.append(time.monotonic())
        self.asked.append(dict(request.headers))
        self.lines.append(f"{request.command} {request.path}")
        self.bodies.append(_body_of(request))
        status, headers = self.answers.pop(0) if self.answers else (200, {})
        request.send(b"content", status=status, **{name.replace("-", "_"): value for name, value in headers.items()})

    def then(self, status: int, **headers: str) -> None:
        """Answer the next request so."""
        self.answers.append((status, headers))

    @property
    def named(self) -> str:
        """The URL by another name of the same machine: to netrc, another host."""
        return self.url.replace("127.0.0.1", "localhost")


def _body_of(request: Request) -> bytes:
    if request.headers.get("Transfer-Encoding") == "chunked":
        chunks = []
        while size := int(request.rfile.readline(), 16):
            chunks.append(request.rfile.read(size))
            request.rfile.readline()
        request.rfile.readline()
        return b"".join(chunks)
    return request.rfile.read(int(request.headers.get("Content-Length", 0)))


@contextmanager
def place(authority: Authority | None = None) -> Iterator[Place]:
    found = Place()
    with answering(found.answer, authority=authority) as url:
        found.url = url
        yield found


def silence(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Hear no proxy and no netrc file of this machine."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("NETRC", str(folder / "no-netrc"))


def get(settings: Settings, url: str, authorization: Callable[[], str | None] | None = None) -> bytes:
    with Client(settings) as client:
        return client.document(url, subject="file", limit=100, authorization=authorization).content


def lines_for(url: str, *lines: str) -> tuple[HeaderLine, ...]:
    """Lines of the header file for the server at `url`."""
    return parse_headers("\n".join(f"{url} {line}" for line in lines).encode(), subject="headers")


def headers_for(url: str, *lines: str) -> dict[str, object]:
    """Settings with them."""
    return {"headers": lines_for(url, *lines)}


class Notes(Silent):
    """Keeps what was told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def note(self, text: str) -> None:
        self.told.append(text)


def told(headers: dict[str, str]) -> bool:
    """Whether a request had the secret with it, as it is or encoded."""
    text = repr(headers)
    return SECRET in text or BASIC in text
