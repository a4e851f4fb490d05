"""OCI registries on loopback: Debian's `docker-registry`, a wire to it that can be cut, and one of ours that lies."""

import base64
import hashlib
import json
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from http.server import ThreadingHTTPServer
from pathlib import Path
from threading import Event, Lock, Thread
from urllib.parse import parse_qs, urlsplit

import pytest

from bundler.settings import Settings
from loopback import HASTE, Request, hasty

USER, PASSWORD = "anna", "hush/SECRET"
_BCRYPT = "$2b$04$/eqtel..nBgiQc6h88gtNO87Wd7.o.WA1tncJn9V0VKopXu6cI2S2"
"""Of `PASSWORD`: the standard library makes no such hash any more."""
_LINE = re.compile(r'"(?P<method>[A-Z]+) (?P<path>[^ "]+) HTTP/1\.1" (?P<status>\d{3})')
_CONFIG = """\
version: 0.1
log:
  level: info
storage:
  filesystem:
    rootdirectory: {storage}
  delete:
    enabled: true
http:
  addr: "127.0.0.1:0"
  secret: of-this-test
"""
_AUTH = """\
auth:
  htpasswd:
    realm: of-this-test
    path: {path}
"""


@dataclass
class Registry:
    """A running registry. `host` is `127.0.0.1:PORT`."""

    host: str
    storage: Path
    log: Path

    def requests(self, *methods: str, since: int = 0) -> list[str]:
        """What was asked so far, as `METHOD PATH STATUS`, without queries."""
        text = self.log.read_text(errors="replace")[since:]
        found = [match for match in _LINE.finditer(text) if not methods or match["method"] in methods]
        return [f"{match['method']} {match['path'].partition('?')[0]} {match['status']}" for match in found]

    def mark(self) -> int:
        """A place in the log, for `requests(since=…)`."""
        return len(self.log.read_text(errors="replace"))

    def blob(self, hex_digest: str) -> Path:
        """Where a blob's bytes lie."""
        return self.storage / "docker" / "registry" / "v2" / "blobs" / "sha256" / hex_digest[:2] / hex_digest / "data"


@contextmanager
def registry_server(folder: Path, *, login: bool = False) -> Iterator[Registry]:
    """A registry over `storage` in `folder`; with `login`, only for `USER` with `PASSWORD`."""
    if shutil.which("docker-registry") is None:
        pytest.skip("docker-registry is not installed: what is said to a real registry is not proved by this run")
    folder.mkdir(parents=True, exist_ok=True)
    storage, log = folder / "storage", folder / "registry.log"
    config = _CONFIG.format(storage=storage)
    if login:
        (folder / "htpasswd").write_text(f"{USER}:{_BCRYPT}\n")
        config += _AUTH.format(path=folder / "htpasswd")
    (folder / "config.yml").write_text(config)
    with log.open("wb") as stream:
        server = subprocess.Popen(
            ["docker-registry", "serve", str(folder / "config.yml")], stdout=stream, stderr=stream
        )
    try:
        yield Registry(_host(log, server), storage, log)
    finally:
        server.terminate()
        server.wait(10)


def _host(log: Path, server: "subprocess.Popen[bytes]") -> str:
    for _ in range(400):
        if said := re.search(r"listening on (127\.0\.0\.1:\d+)", log.read_text()):
            return said[1]
        assert server.poll() is None, log.read_text()
        time.sleep(0.025)
    raise AssertionError(log.read_text())


def calm(store: Path, **changes: object) -> Settings:
    """Settings for tests: short pauses, but time for a registry on a machine that is busy."""
    return hasty(store, **{"patience": replace(HASTE, stall=20.0, connect=20.0), **changes})


def logged_in(path: Path, host: str, user: str = USER, password: str = PASSWORD) -> Path:
    """The file that `docker login HOST` leaves, at `path`."""
    auth = base64.b64encode(f"{user}:{password}".encode()).decode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"auths": {host: {"auth": auth}}}))
    return path


class Wire:
    """A TCP wire to a server that can be cut, or stopped, after so many bytes of one direction."""

    def __init__(self, host: str) -> None:
        self._target = (host.partition(":")[0], int(host.rpartition(":")[2]))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.host = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.cuts: list[int] = []
        """One for each next connection that sends so much: it is cut there."""
        self.stop_after: dict[str, int] = {}
        """`up` or `down`: so many bytes of all connections pass, and then nothing does any more."""
        self.stopped = Event()
        self.passed = {"up": 0, "down": 0}
        self._guard = Lock()
        self._ends: list[socket.socket] = [self._listener]
        self._threads: list[Thread] = []
        self._start(self._accept)

    def close(self) -> None:
        """Cut everything."""
        for end in self._ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        for end in self._ends:
            end.close()

    def _start(self, target: Callable[..., None], *arguments: object) -> None:
        thread = Thread(target=target, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(self._target)
            self._ends += [client, server]
            for source, sink, way in ((client, server, "up"), (server, client, "down")):
                self._start(self._pass, source, sink, way)

    def _pass(self, source: socket.socket, sink: socket.socket, way: str) -> None:
        here = 0
        try:
            while piece := source.recv(1 << 16):
                here += len(piece)
                with self._guard:
                    self.passed[way] += len(piece)
                    is_over = self.passed[way] > self.stop_after.get(way, 1 << 62)
                    is_cut = way == "up" and bool(self.cuts) and here >= self.cuts[0]
                    if is_cut:
                        self.cuts.pop(0)
                if is_over:
                    self.stopped.set()
                    return
                if is_cut:
                    sink.sendall(piece[: len(piece) // 2])
                    break
                sink.sendall(piece)
        except OSError:
            pass
        finally:
            if not self.stopped.is_set():
                for each in (source, sink):
                    with suppress(OSError):
                        each.shutdown(socket.SHUT_RDWR)


@contextmanager
def wire_to(host: str) -> Iterator[Wire]:
    """A wire to a server for as long as the block lasts."""
    wire = Wire(host)
    try:
        yield wire
    finally:
        wire.close()


@dataclass
class Fake:
    """A registry of ours in memory, which speaks the protocol well, but for what it is told to do."""

    host: str = ""
    blobs: dict[str, bytes] = field(default_factory=dict)
    manifests: dict[str, bytes] = field(default_factory=dict)
    media_type: str = "application/vnd.oci.image.manifest.v1+json"
    asked: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    uploads: dict[str, bytearray] = field(default_factory=dict)
    takes_patch: bool = True
    tokens: dict[str, float] = field(default_factory=dict)
    """The tokens that were given out, and when each ends."""
    token_life: float | None = None
    """Seconds; None asks for no token."""
    login: str | None = None
    """What the token server, or without one the registry, wants as `Authorization`."""
    realm: str = ""
    redirect: str = ""
    """Where blobs are to be fetched."""
    lies: dict[str, bytes] = field(default_factory=dict)
    """What is sent in place of the blob of a digest."""
    overrides: dict[str, Callable[[Request], None]] = field(default_factory=dict)
    """`METHOD /path-prefix` answered otherwise."""
    loses: set[str] = field(default_factory=set)
    """Methods whose answer is lost, once each."""

    def answer(self, talk: Request) -> None:
        path = talk.path.partition("?")[0]
        body = talk.rfile.read(int(talk.headers.get("Content-Length") or 0))
        self.asked.append((talk.command, talk.path, dict(talk.headers)))
        for name, act in list(self.overrides.items()):
            method, _, prefix = name.partition(" ")
            if talk.command == method and path.startswith(prefix):
                act(talk)
                return
        if path == "/token":
            self._give_token(talk)
        elif not self._may(talk):
            scheme = f'Bearer realm="{self.realm or f"http://{self.host}/token"}",service="fake"'
            challenge = scheme if self.token_life is not None else 'Basic realm="fake"'
            talk.send(b"{}", status=401, WWW_Authenticate=challenge)
        else:
            getattr(self, f"_{talk.command.lower()}")(talk, path, body)

    def count(self, method: str, part: str = "") -> int:
        """Requests of a method whose path has `part`."""
        return sum(asked == method and part in path for asked, path, _ in self.asked)

    def _give_token(self, talk: Request) -> None:
        if self.login is not None and talk.headers.get("Authorization") != self.login:
            talk.send(b'{"errors":[{"code":"DENIED","message":"no"}]}', status=401, WWW_Authenticate='Basic realm="t"')
            return
        token = f"token-{len(self.tokens)}"
        life = self.token_life or 0
        self.tokens[token] = time.monotonic() + life
        talk.send(json.dumps({"token": token, "expires_in": life}).encode())

    def _may(self, talk: Request) -> bool:
        shown = talk.headers.get("Authorization", "")
        if self.token_life is not None:
            return time.monotonic() < self.tokens.get(shown.removeprefix("Bearer "), 0)
        return self.login is None or shown == self.login

    def _head(self, talk: Request, path: str, body: bytes) -> None:
        self._get(talk, path, body)

    def _get(self, talk: Request, path: str, _body: bytes) -> None:
        name = path.rpartition("/")[2]
        if "/manifests/" in path and name in self.manifests:
            content = self.manifests[name]
            digest = "sha256:" + hashlib.sha256(content).hexdigest()
            talk.send(content, Content_Type=self.media_type, Docker_Content_Digest=digest)
        elif "/blobs/uploads/" in path and name in self.uploads:
            talk.send(b"", status=204, Location=path, Range=f"0-{max(0, len(self.uploads[name]) - 1)}")
        elif "/blobs/" in path and name in self.blobs and self.redirect and talk.command == "GET":
            talk.send(b"", status=307, Location=f"{self.redirect}/{name}")
        elif "/blobs/" in path and name in self.blobs:
            talk.send(self.lies.get(name, self.blobs[name]))
        elif path.endswith("/tags/list"):
            talk.send(json.dumps({"name": "x", "tags": sorted(self.manifests)}).encode())
        else:
            talk.send(b'{"errors":[{"code":"UNKNOWN","message":"not known"}]}', status=404)

    def _post(self, talk: Request, path: str, _body: bytes) -> None:
        name = f"u{len(self.asked)}"
        self.uploads[name] = bytearray()
        self._end(talk, 202, Location=f"{path}{name}?state=1")

    def _patch(self, talk: Request, path: str, body: bytes) -> None:
        held = self.uploads[path.rpartition("/")[2]]
        first = int(talk.headers["Content-Range"].partition("-")[0])
        if not self.takes_patch:
            talk.send(b"{}", status=405)
        elif first != len(held):
            talk.send(b"{}", status=416)
        else:
            held += body
            self._end(talk, 202, Location=path, Range=f"0-{len(held) - 1}")

    def _put(self, talk: Request, path: str, body: bytes) -> None:
        name = path.rpartition("/")[2]
        if "/manifests/" in path:
            self.manifests[name] = body
        else:
            content = bytes(self.uploads.pop(name)) + body
            digest = parse_qs(urlsplit(talk.path).query)["digest"][0]
            if digest != "sha256:" + hashlib.sha256(content).hexdigest():
                talk.send(b'{"errors":[{"code":"DIGEST_INVALID","message":"not these bytes"}]}', status=400)
                return
            self.blobs[digest] = content
        self._end(talk, 201, Location=path)

    def _end(self, talk: Request, status: int, **headers: str) -> None:
        if talk.command in self.loses:
            self.loses.remove(talk.command)
            talk.connection.shutdown(socket.SHUT_RDWR)
            talk.close_connection = True
            return
        talk.send(b"", status=status, **headers)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, *_: object) -> None:
        """A client that leaves is no news."""


@contextmanager
def fake_registry(**told: object) -> Iterator[Fake]:
    """A fake on loopback."""
    fake = Fake(**told)  # type: ignore[arg-type]

    def answer(request: Request) -> None:
        fake.answer(request)

    methods = dict.fromkeys((f"do_{method}" for method in ("GET", "HEAD", "POST", "PUT", "PATCH")), answer)
    server = _Server(("127.0.0.1", 0), type("Handler", (Request,), methods))
    fake.host = f"127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield fake
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
