"""HTTP as this project uses it: one request, what its answer means, and when to try again.

* Credentials belong to one origin (scheme, host, port); no redirect carries them to another. No cookies are kept.
* A URL in a message has neither user, password nor query.
* An answer is one of three: a response to read, a refusal that no retry would change, or `BrokenOffError`: try again.
* `Client.stop` ends every request under way: its connections are shut, whoever waits for them.
"""

import base64
import random
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from http.cookiejar import DefaultCookiePolicy
from itertools import pairwise
from threading import Event, Lock
from types import TracebackType
from typing import Any, Final, Self, TypeVar
from urllib.parse import SplitResult, unquote, urljoin, urlsplit
from weakref import WeakSet

import requests
import urllib3
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase
from requests.structures import CaseInsensitiveDict

from bundler.settings import Patience, Settings
from bundler.sources.urls import checked_url, host_of, shown
from manifests.errors import SourceDeniedError, SourceError, SourceNotFoundError, SourceUnreachableError, printable
from manifests.progress import Reporter, Silent

T = TypeVar("T")

_AGAIN: Final = frozenset({408, 425, 429})
_DENIED: Final = frozenset({401, 403, 407})
_MISSING: Final = frozenset({404, 410})
_HUB_MISSING: Final = frozenset({"RepoNotFound", "RevisionNotFound", "EntryNotFound"})
_PIECE: Final = 256 << 10
_NETWORK_ERRORS: Final = (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError)


class BrokenOffError(Exception):
    """No answer, not a whole one, or one that asks to come back. Never leaves `Client.persist`."""

    def __init__(self, reason: str, *, wait: float | None = None, progressed: bool = False) -> None:
        self.reason = reason
        self.wait = wait
        self.progressed = progressed
        super().__init__(reason)


@dataclass(frozen=True, slots=True)
class Document:
    """A small answer, whole. `url` is where it came from after redirects; `links` are those of its `Link` header."""

    url: str
    content: bytes
    headers: Mapping[str, str]
    next_url: str | None


class Client:
    """A session with its credentials and its patience; safe to use from several threads."""

    def __init__(self, settings: Settings, reporter: Reporter | None = None) -> None:
        self.patience: Patience = settings.patience
        self._reporter = reporter or Silent()
        self._proxy = settings.packages.proxy
        self._sockets = _Sockets()
        self._verify = _certificates(settings)
        self._credentials = _credentials(settings)
        self._stopped = Event()
        self._session = requests.Session()
        self._session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        for scheme in ("https://", "http://"):
            self._session.mount(scheme, _Adapter(self._sockets, pool_maxsize=max(10, 2 * settings.threads)))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        self._session.close()

    def stop(self) -> None:
        """Make every thread that waits or reads give up at once."""
        self._stopped.set()
        self._sockets.shut()

    def check_running(self, subject: str) -> None:
        """`SourceUnreachableError` once `stop` was called."""
        if self._stopped.is_set():
            raise SourceUnreachableError(f"{subject}: stopped")

    def document(self, url: str, *, subject: str, limit: int, accept: str = "*/*") -> Document:
        """A small document, at most `limit` bytes. Errors: `SourceError` and its kinds, after all retries."""
        return self.persist(lambda: self._document(url, subject=subject, limit=limit, accept=accept), subject=subject)

    def open(self, url: str, *, subject: str, headers: Mapping[str, str]) -> requests.Response:
        """One request for a stream: a response of 200, 206 or 416, its body unread.

        Errors: `BrokenOffError` where another try may help, else `SourceError` and its kinds.
        """
        authorization = self._credentials.get(_origin(checked_url(url, subject=subject)))
        self.check_running(subject)
        try:
            response = self._session.get(
                url,
                headers={"Accept-Encoding": "identity", **headers},
                auth=_Authorization(authorization) if authorization else None,
                stream=True,
                timeout=(self.patience.connect, self.patience.stall),
                verify=self._verify,
                proxies=self._proxies(url),
            )
        except requests.exceptions.SSLError as error:
            raise SourceUnreachableError(
                f"{subject}: no TLS connection to {shown(url)}: {_system_word(error) or 'refused'}",
                hint="for a CA of your own, name its certificates in REQUESTS_CA_BUNDLE or SSL_CERT_FILE",
            ) from error
        except _NETWORK_ERRORS as error:
            raise BrokenOffError(f"{host_of(url)}{self._through(url)}: {_reason(error)}") from error
        except (requests.RequestException, urllib3.exceptions.HTTPError, ValueError) as error:
            raise SourceError(f"{subject}: {shown(url)} cannot be asked: {_reason(error)}") from error
        try:
            _judge(response, subject=subject)
        except (BrokenOffError, SourceError):
            response.close()
            raise
        return response

    def persist(self, attempt: Callable[[], T], *, subject: str) -> T:
        """What `attempt` gives, tried again with growing pauses as long as it is broken off."""
        failures = 0
        while True:
            try:
                return attempt()
            except BrokenOffError as broken:
                failures = 1 if broken.progressed else failures + 1
                self._pause(broken, failures, subject=subject)

    def _pause(self, broken: BrokenOffError, failures: int, *, subject: str) -> None:
        if failures >= self.patience.attempts:
            raise SourceUnreachableError(
                f"{subject}: {broken.reason} ({failures} tries)", hint="try again later: what was fetched is kept"
            ) from broken
        pause = min(self.patience.longest_pause, self.patience.first_pause * 2 ** (failures - 1))
        pause *= random.uniform(0.5, 1.0)  # noqa: S311 - jitter against herds is no secret
        if broken.wait is not None:
            pause = max(pause, broken.wait)
        if pause > self.patience.longest_wait:
            raise SourceUnreachableError(f"{subject}: {broken.reason}, and asks to wait {pause:.0f} s") from broken
        if broken.wait is not None:
            self._reporter.note(f"{subject}: {broken.reason}; waiting {pause:.0f} s, as it asks")
        if self._stopped.wait(pause):
            raise SourceUnreachableError(f"{subject}: stopped") from broken

    def _document(self, url: str, *, subject: str, limit: int, accept: str) -> Document:
        response = self.open(url, subject=subject, headers={"Accept": accept})
        with response:
            content = bytearray()
            for piece in pieces(response):
                content += piece
                if len(content) > limit:
                    raise SourceError(f"{subject}: {shown(url)} answered with more than {limit} bytes")
        self.check_running(subject)
        return Document(response.url, bytes(content), response.headers, _next_url(response, subject=subject))

    def _through(self, url: str) -> str:
        """What stands between: the proxy of pip's settings or of the environment, for a message."""
        proxies = self._proxies(url) or requests.utils.get_environ_proxies(url)
        proxy = requests.utils.select_proxy(url, proxies)
        return f" through the proxy {host_of(proxy if '//' in proxy else f'//{proxy}')}" if proxy else ""

    def _proxies(self, url: str) -> dict[str, str] | None:
        """What pip was told wins over the usual variables, as it does in pip; `NO_PROXY` holds for both."""
        if self._proxy is None or requests.utils.should_bypass_proxies(url, no_proxy=None):
            return None
        return {"http": self._proxy, "https": self._proxy}


class _Sockets:
    """The open sockets of a client, so that another thread can shut them."""

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


class _Adapter(HTTPAdapter):
    """An adapter whose connections tell `sockets` what they open."""

    def __init__(self, sockets: _Sockets, *, pool_maxsize: int) -> None:
        super().__init__(pool_maxsize=pool_maxsize)
        self._sockets = sockets

    def get_connection_with_tls_context(self, *arguments: Any, **named: Any) -> Any:
        """The pool of a request; its connections are of a class of this client's own."""
        pool: Any = super().get_connection_with_tls_context(*arguments, **named)
        if pool.ConnectionCls is type(pool).ConnectionCls:
            pool.ConnectionCls = _kept(pool.ConnectionCls, self._sockets)
        return pool


class _Authorization(AuthBase):
    """One fixed header; `requests` removes it when a redirect leads to another origin."""

    def __init__(self, value: str) -> None:
        self._value = value

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = self._value
        return request


def pieces(response: requests.Response) -> Iterator[bytes]:
    """The body as it is on the wire, as soon as it comes. Errors while iterating: `BrokenOffError`."""
    while True:
        try:
            piece: bytes = response.raw.read1(_PIECE, decode_content=False)
        except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:  # ValueError: TLS that `stop` shut
            raise BrokenOffError(f"{host_of(response.url)}: {_reason(error)}") from error
        if not piece:
            return
        yield piece


def _kept(kind: Any, sockets: _Sockets) -> Any:
    """A class of connections like `kind` that tell `sockets` of theirs."""

    class Kept(kind):  # type: ignore[misc]  # urllib3 has one class for each scheme, and both are wanted
        def connect(self) -> None:
            super().connect()
            sockets.add(self.sock)

    return Kept


def _shut(opened: socket.socket) -> None:
    with suppress(OSError):  # its other end was quicker
        opened.shutdown(socket.SHUT_RDWR)


def _next_url(response: requests.Response, *, subject: str) -> str | None:
    following = response.links.get("next", {}).get("url")
    try:
        return urljoin(response.url, following) if following else None
    except ValueError as error:
        raise SourceError(f"{subject}: {shown(response.url)} names a next page that is no URL") from error


def _certificates(settings: Settings) -> str | bool:
    """What `requests` verifies with: a path, or True for its own certificates."""
    path = settings.certificates
    if path is not None and not path.exists():
        raise SourceError(f"the CA certificates {path} do not exist", hint="see REQUESTS_CA_BUNDLE and SSL_CERT_FILE")
    return True if path is None else str(path)


def _credentials(settings: Settings) -> dict[str, str]:
    """The `Authorization` that each origin gets."""
    held: dict[str, str] = {}
    for url in (*settings.packages.find_links, *settings.packages.indexes):
        parts = urlsplit(url)
        if parts.username is not None:
            user = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            held.setdefault(_origin(parts), "Basic " + base64.b64encode(user.encode()).decode())
    if settings.hub.token:
        held[_origin(urlsplit(settings.hub.endpoint))] = f"Bearer {settings.hub.token}"
    return held


def _origin(parts: SplitResult) -> str:
    port = parts.port or {"https": 443, "http": 80}.get(parts.scheme, 0)
    return f"{parts.scheme}://{(parts.hostname or '').lower()}:{port}"


def _judge(response: requests.Response, *, subject: str) -> None:
    """Return for an answer with something to read; raise what any other one means."""
    hops = [*response.history, response]
    if any(a.url.startswith("https:") and b.url.startswith("http:") for a, b in pairwise(hops)):
        raise SourceError(f"{subject}: {shown(response.url)} is a redirect from https to http, which is refused")
    status = response.status_code
    if status in _AGAIN or status >= 500:
        raise BrokenOffError(f"{shown(response.url)} answered {status}", wait=_retry_after(response.headers))
    if status >= 400 and status != 416:
        raise _refusal(response, subject=subject)
    if status not in {200, 206, 416}:
        raise SourceError(f"{subject}: {shown(response.url)} answered {status}, which says nothing")
    if response.headers.get("Content-Encoding", "identity").strip().lower() not in {"", "identity"}:
        raise SourceError(
            f"{subject}: {shown(response.url)} encodes what it sends ({response.headers['Content-Encoding']}) "
            "though asked not to, so that its bytes cannot be counted or resumed"
        )


def _refusal(response: requests.Response, *, subject: str) -> SourceError:
    """The error for a 4xx. A hub says more in `X-Error-Code` and `X-Error-Message`."""
    status, code = response.status_code, response.headers.get("X-Error-Code", "")
    words = printable(response.headers.get("X-Error-Message", ""))[:300]
    message = f"{subject}: {shown(response.url)} answered {status}" + (f": {words}" if words else "")
    if code == "GatedRepo":
        return SourceDeniedError(
            f"{message} (the repository is gated)",
            hint="accept its conditions on the hub's page, then set HF_TOKEN to a token of that account",
        )
    if code in _HUB_MISSING or status in _MISSING:
        private = "if it is private, set HF_TOKEN" if code == "RepoNotFound" else ""
        return SourceNotFoundError(message, hint=private)
    if status in _DENIED:
        return SourceDeniedError(
            message, hint="credentials come from HF_TOKEN, AWS_* variables, pip's configuration or ~/.netrc"
        )
    return SourceError(message)


def _retry_after(headers: "CaseInsensitiveDict[str]") -> float | None:
    """Seconds that the server asks for; a date counts from the server's own `Date`, so that no clock here matters."""
    text = headers.get("Retry-After", "").strip()
    if text.isdecimal():
        return float(text)
    try:
        return max(0.0, (parsedate_to_datetime(text) - parsedate_to_datetime(headers["Date"])).total_seconds())
    except (KeyError, TypeError, ValueError):
        return None


def _reason(error: BaseException) -> str:
    """Why, in one line, without the URLs that the libraries put into their messages."""
    if isinstance(error, requests.Timeout | urllib3.exceptions.TimeoutError):
        return "no answer in time"
    if isinstance(error, requests.TooManyRedirects):
        return "too many redirects"
    if isinstance(error, urllib3.exceptions.IncompleteRead):
        return f"broken off after {error.partial} bytes"
    return f"connection failed ({_system_word(error) or type(error).__name__})"


def _system_word(error: BaseException | None) -> str:
    """What the system said, below the layers of the libraries: `Connection refused`."""
    while error is not None:
        if isinstance(error, OSError) and error.strerror:
            return error.strerror
        error = error.__cause__ or error.__context__
    return ""
