"""Web servers of any method, with a certificate of a test's own authority or without; a proxy that leads to them."""

import datetime as dt
import ipaddress
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Final
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from loopback import Request

NAME: Final = "files.example"
"""A host that no machine has: only a proxy leads to it."""
_METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, *_: object) -> None:
        """A client that leaves is no news."""


@dataclass(frozen=True)
class Authority:
    """A certificate authority, and what a server shows that it signed."""

    path: Path
    server: Path
    """Certificate and key, in one file."""

    @classmethod
    def make(cls, folder: Path) -> "Authority":
        """A new one, whose files lie in `folder`."""
        folder.mkdir(parents=True, exist_ok=True)
        key, name = ec.generate_private_key(ec.SECP256R1()), _name("a test's authority")
        authority = _certificate(name, name, key.public_key(), is_authority=True, by=key.public_key()).sign(
            key, hashes.SHA256()
        )
        (folder / "authority.pem").write_bytes(authority.public_bytes(serialization.Encoding.PEM))
        own = ec.generate_private_key(ec.SECP256R1())
        shown = _certificate(_name(NAME), name, own.public_key(), is_authority=False, by=key.public_key())
        names = [x509.DNSName(NAME), x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        signed = shown.add_extension(x509.SubjectAlternativeName(names), critical=False).sign(key, hashes.SHA256())
        pem = own.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        (folder / "server.pem").write_bytes(signed.public_bytes(serialization.Encoding.PEM) + pem)
        return cls(folder / "authority.pem", folder / "server.pem")


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _certificate(
    name: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    *,
    is_authority: bool,
    by: ec.EllipticCurvePublicKey,
) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    others = ["content_commitment", "key_encipherment", "data_encipherment", "key_agreement"]
    usage = dict.fromkeys([*others, "crl_sign", "encipher_only", "decipher_only"], False)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
        .add_extension(
            x509.KeyUsage(digital_signature=not is_authority, key_cert_sign=is_authority, **usage), critical=True
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(by), critical=False)
    )


@contextmanager
def answering(answer: Callable[[Request], None], *, authority: Authority | None = None) -> Iterator[str]:
    """The URL, without a slash at its end, of a server of any method; over TLS with an `authority`."""

    def respond(request: Request) -> None:
        answer(request)

    server = _Server(("127.0.0.1", 0), type("Handler", (Request,), {f"do_{name}": respond for name in _METHODS}))
    if authority is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(authority.server)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield f"http{'s' if authority else ''}://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@dataclass
class Tunnel:
    """A proxy that tunnels whatever host is asked for to one port of this machine. `heads`: what it was asked."""

    port: int
    url: str = ""
    password: str = ""
    """What `Proxy-Authorization` must end with, if anything."""
    heads: list[str] = field(default_factory=list)

    def serve(self, client: socket.socket) -> None:
        """One connection: its head, then bytes both ways."""
        with client, suppress(OSError), client.makefile("rb") as stream:
            head = b"".join(iter(stream.readline, b"\r\n"))
            self.heads.append(head.decode())
            if self.password and f"Basic {self.password}" not in head.decode():
                client.sendall(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
                return
            with socket.create_connection(("127.0.0.1", self.port)) as server:
                if not head.startswith(b"CONNECT"):
                    server.sendall(_origin_form(head))
                    status, rest = b"".join(iter(lambda: server.recv(65536), b"")).split(b"\r\n", 1)
                    client.sendall(status + b"\r\nConnection: close\r\n" + rest)
                    return
                client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
                back = Thread(target=_pump, args=(server, client), daemon=True)
                back.start()
                _pump(client, server)
                back.join()


def _origin_form(head: bytes) -> bytes:
    """A request to a proxy as the server wants it; one request a connection."""
    method, url, rest = head.split(b" ", 2)
    return b" ".join([method, urlsplit(url).path, rest.replace(b"keep-alive", b"close")]) + b"\r\n"


def _pump(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while content := source.recv(65536):
            target.sendall(content)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)


@contextmanager
def tunnel(url: str, *, password: str = "") -> Iterator[Tunnel]:
    """A running proxy to the server at `url`."""
    listener = socket.create_server(("127.0.0.1", 0))
    proxy = Tunnel(urlsplit(url).port or 0, f"http://127.0.0.1:{listener.getsockname()[1]}", password)

    def accept() -> None:
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                Thread(target=proxy.serve, args=(client,), daemon=True).start()

    thread = Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()
