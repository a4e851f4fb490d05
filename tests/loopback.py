"""A web server on loopback for as long as a block lasts; a function answers."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

from bundler.settings import Patience, Settings

HASTE = Patience(attempts=4, first_pause=0.001, longest_pause=0.01, longest_wait=5.0, connect=10.0, stall=1.0)


class Request(BaseHTTPRequestHandler):
    """One request, and the ways to answer it."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def send(self, content: bytes, *, status: int = 200, **headers: str) -> None:
        """A whole answer; `Content_Type="…"` becomes a header."""
        self.head(status, Content_Length=str(len(content)), **headers)
        if self.command != "HEAD":
            self.wfile.write(content)

    def send_file(self, content: bytes, *, etag: str, **headers: str) -> None:
        """A file, or the part of it that was asked for: all of it once more if `If-Range` names another version."""
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if wanted is None or self.headers.get("If-Range", etag) != etag:
            self.send(content, ETag=etag, Accept_Ranges="bytes", **headers)
            return
        first, last = int(wanted[1]), min(int(wanted[2] or len(content)), len(content) - 1)
        if first >= len(content):
            self.send(b"", status=416, Content_Range=f"bytes */{len(content)}")
            return
        span = f"bytes {first}-{last}/{len(content)}"
        self.send(content[first : last + 1], status=206, ETag=etag, Content_Range=span, **headers)

    def head(self, status: int, **headers: str) -> None:
        """Status and headers."""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, *_: object) -> None:
        """A client that leaves is no news."""


@contextmanager
def serving(answer: Callable[[Request], None]) -> Iterator[str]:
    """The URL, without a slash at its end, of a server whose requests `answer` answers."""

    def respond(request: Request) -> None:
        answer(request)

    server = _Server(("127.0.0.1", 0), type("Handler", (Request,), {"do_GET": respond, "do_HEAD": respond}))
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def hasty(store: Path, **changes: object) -> Settings:
    """Settings for tests: short pauses, no index but those given."""
    from dataclasses import replace

    from bundler.pip_settings import PackageIndexes

    return replace(Settings(store=store, patience=HASTE, packages=PackageIndexes(indexes=())), **changes)  # type: ignore[arg-type]
