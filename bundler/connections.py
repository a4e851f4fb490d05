"""The connections of a client: which sockets are open, so that another thread can shut them."""

import socket
from contextlib import suppress
from threading import Lock
from typing import Any
from weakref import WeakSet

from requests.adapters import HTTPAdapter


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


def _kept(kind: Any, sockets: Sockets) -> Any:
    """A class of connections like `kind` that tell `sockets` of theirs."""

    class Kept(kind):  # type: ignore[misc]  # urllib3 has one class for each scheme, and both are wanted
        def connect(self) -> None:
            super().connect()
            sockets.add(self.sock)

    return Kept


def _shut(opened: socket.socket) -> None:
    with suppress(OSError):  # its other end was quicker
        opened.shutdown(socket.SHUT_RDWR)
