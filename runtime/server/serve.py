"""Running the application on a socket, until somebody asks it to stop.

* The socket is bound before anything starts: a taken port is an error at once, and port 0 gives a free one.
* On SIGTERM or SIGINT, requests at work are finished, new ones are not taken, those that have not arrived whole are
  given up, and `serve` returns.
"""

import asyncio
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import uvicorn
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from manifests.errors import ListenError

GRACE_SECONDS: Final = 30

_STOP_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)


@dataclass(frozen=True, slots=True)
class Running:
    """A server that answers. `stop` may be called from any thread."""

    host: str
    port: int
    stop: Callable[[], None]

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://[{self.host}]:{self.port}" if ":" in self.host else f"http://{self.host}:{self.port}"


def serve(app: ASGIApp, host: str, port: int, *, on_ready: Callable[[Running], None]) -> None:
    """Serve until stopped. `on_ready` is called once, when requests are answered.

    Raises `ListenError` when the address cannot be listened on.
    """
    with _listen(host, port) as listening, _returning_from_signals():
        stopping = asyncio.Event()
        config = uvicorn.Config(
            _giving_up(app, stopping),
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=GRACE_SECONDS,
        )
        _Server(config, on_ready, listening.getsockname()[:2], stopping).run(sockets=[listening])


class _Server(uvicorn.Server):
    """A uvicorn that says when it answers, and when it stops."""

    def __init__(
        self,
        config: uvicorn.Config,
        on_ready: Callable[[Running], None],
        address: tuple[str, int],
        stopping: asyncio.Event,
    ) -> None:
        super().__init__(config)
        self._on_ready = on_ready
        self._address = address
        self._stopping = stopping

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._on_ready(Running(*self._address, stop=self._stop))

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._stopping.set()
        await super().shutdown(sockets)

    def _stop(self) -> None:
        self.should_exit = True


def _giving_up(app: ASGIApp, stopping: asyncio.Event) -> ASGIApp:
    """`app`, for which a client that has not sent all of its request is gone once the server stops.

    Without it a request that never ends would hold the server for the whole of `GRACE_SECONDS`.
    """

    async def giving_up(scope: Scope, receive: Receive, send: Send) -> None:
        async def receive_or_stop() -> Message:
            # The message comes first: what has arrived already is still taken.
            message, stop = asyncio.ensure_future(receive()), asyncio.ensure_future(stopping.wait())
            try:
                await asyncio.wait({message, stop}, return_when=asyncio.FIRST_COMPLETED)
                return message.result() if message.done() else {"type": "http.disconnect"}
            finally:
                message.cancel()
                stop.cancel()

        await app(scope, receive_or_stop, send)

    return giving_up


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listening = socket.create_server((host, port), family=family)
    except (OSError, OverflowError) as error:
        raise ListenError(
            f"cannot listen on {host} port {port}: {error}", hint="another server may hold it: choose another --port"
        ) from error
    # Connections inherit it. Without it, an answer in two writes waits 40 ms for the client's acknowledgement.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening


@contextmanager
def _returning_from_signals() -> Iterator[None]:
    """Let the signal that stopped the server pass without effect when uvicorn, done, raises it once more."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, lambda *_: None) for number in _STOP_SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
