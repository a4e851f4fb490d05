"""The connections of a client: which sockets are open, so that another thread can shut them, and how a body is read.

* A large body is read into one buffer again and again: what `read1` gives is good until it is called once more.
"""

import socket
from contextlib import suppress
from http.client import HTTPResponse
from threading import Lock
from typing import Any, Final, cast
from weakref import WeakSet

from requests.adapters import HTTPAdapter

_VIEWED: Final = 64 << 10
"""A shorter body is not worth a buffer."""


class Sockets:
    """The open sockets of a client."""

    def __init__(self) -> None:
        self._guard = Lock()
        self._open: WeakSet[socket.socket] = WeakSet()
        self._shut = False

    def add(self, opened: socket.socket) -> None:
        """Know one more; one that comes after `shut` is shut at once."""
        with self._guard:
            self._open.add(opened)
            if self._shut:
                _shut(opened)

    def shut(self) -> None:
        """End what is read from any of them."""
        with self._guard:
            self._shut = True
            for opened in list(self._open):
                _shut(opened)


class Adapter(HTTPAdapter):
    """An adapter whose connections tell `sockets` what they open."""

    def __init__(self, sockets: Sockets, *, pool_maxsize: int) -> None:
        super().__init__(pool_maxsize=pool_maxsize)
        self._sockets = sockets

    def get_connection_with_tls_context(self, *arguments: Any, **named: Any) -> Any:
        """The pool of a request; its connections are of a class of this client's own."""
        pool: Any = super().get_connection_with_tls_context(*arguments, **named)
        if pool.ConnectionCls is type(pool).ConnectionCls:
            pool.ConnectionCls = _kept(pool.ConnectionCls, self._sockets)
        return pool


class _Viewed(HTTPResponse):
    """An answer whose large body comes in one buffer: memory of its own for each piece is dear."""

    _view: memoryview | None = None
    _left: int | None = None

    def read1(self, n: int = -1) -> bytes:
        """What came, at most `n` bytes; empty at the end."""
        if self._view is None:
            most = n if self.length is None else min(n, self.length)
            if self.isclosed() or self.chunked or most < _VIEWED:
                return super().read1(n)
            self._view, self._left = memoryview(bytearray(most)), self.length
        room = self._view[:n] if self._left is None else self._view[: min(n, self._left)]
        count = self.fp.readinto1(room) if room else 0
        if not count:
            return super().read1(n)
        if self._left is not None:
            self._left -= count
        return cast("bytes", room[:count])  # urllib3 asks for its length only


def _kept(kind: Any, sockets: Sockets) -> Any:
    """A class of connections like `kind` that tell `sockets` of theirs."""

    class Kept(kind):  # type: ignore[misc]  # urllib3 has one class for each scheme, and both are wanted
        response_class = _Viewed
        _under_way: socket.socket | None = None

        def _new_conn(self) -> socket.socket:
            opened: socket.socket = super()._new_conn()
            self._under_way = opened.dup()  # TLS takes the first one over, and shows its own when it is ready
            sockets.add(self._under_way)
            return opened

        def connect(self) -> None:
            try:
                super().connect()
                sockets.add(self.sock)
            finally:
                if self._under_way is not None:
                    self._under_way.close()
                    self._under_way = None

    return Kept


def _shut(opened: socket.socket) -> None:
    with suppress(OSError):  # its other end was quicker
        opened.shutdown(socket.SHUT_RDWR)
