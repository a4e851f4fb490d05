"""A loopback door to a server that lets a counted number of bytes a second through."""

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from threading import Lock, Thread


@dataclass
class Proxy:
    """A running door. `sent` counts the bytes that went from the server to all clients together."""

    url: str
    rate: float
    sent: int = 0
    _guard: Lock = field(default_factory=Lock)
    _due: float = 0.0

    def count(self, size: int) -> None:
        """Wait until `size` more bytes may go; all connections share the rate."""
        with self._guard:
            now = time.monotonic()
            self._due = max(self._due, now) + size / self.rate
            wait = self._due - now
            self.sent += size
        time.sleep(wait)


@contextmanager
def slow_proxy(target_host: str, target_port: int, *, rate: float) -> Iterator[Proxy]:
    """A door to `target_host:target_port` on a port of its own, with `rate` bytes a second from there to the client."""
    listener = socket.create_server(("127.0.0.1", 0))
    proxy = Proxy(f"http://127.0.0.1:{listener.getsockname()[1]}", rate)
    opened: list[socket.socket] = []
    thread = Thread(target=_accept, args=(listener, (target_host, target_port), proxy, opened), daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        _shut(listener)
        for connection in opened:
            _shut(connection)
        thread.join()


def _accept(listener: socket.socket, target: tuple[str, int], proxy: Proxy, opened: list[socket.socket]) -> None:
    with suppress(OSError):  # the listener was shut
        while True:
            client, _ = listener.accept()
            opened.append(client)
            try:
                server = socket.create_connection(target)
            except OSError:
                _shut(client)
                continue
            opened.append(server)
            Thread(target=_forward, args=(client, server, None), daemon=True).start()
            Thread(target=_forward, args=(server, client, proxy), daemon=True).start()


def _forward(origin: socket.socket, target: socket.socket, proxy: Proxy | None) -> None:
    """Pass on what `origin` sends until either end leaves; small pieces, so that the rate is even."""
    most = 64 << 10 if proxy is None else max(1, min(64 << 10, int(proxy.rate / 20)))
    with suppress(OSError):
        while piece := origin.recv(most):
            if proxy is not None:
                proxy.count(len(piece))
            target.sendall(piece)
    _shut(origin)
    _shut(target)


def _shut(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()
