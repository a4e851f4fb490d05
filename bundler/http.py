"""HTTP as this project uses it: one request, what its answer means, and when to try again.

* Credentials belong to one origin (scheme, host, port); no redirect carries them to another. No cookies are kept.
* A URL in a message has neither user, password nor query.
* An answer is one of three: a response to read, a refusal that no retry would change, or `BrokenOffError`: try again.
"""

import base64
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from http.cookiejar import DefaultCookiePolicy
from itertools import pairwise
from threading import Event
from types import TracebackType
from typing import Final, Self, TypeVar
from urllib.parse import SplitResult, unquote, urljoin, urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase
from requests.structures import CaseInsensitiveDict

from bundler.settings import Patience, Settings
from manifests.errors import SourceDeniedError, SourceError, SourceNotFoundError, SourceUnreachableError, printable

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

    def __init__(self, settings: Settings) -> None:
        self.patience: Patience = settings.patience
        self._verify = _certificates(settings)
        self._credentials = _credentials(settings)
        self._stopped = Event()
        self._session = requests.Session()
        self._session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        for scheme in ("https://", "http://"):
            self._session.mount(scheme, HTTPAdapter(pool_maxsize=max(10, 2 * settings.threads)))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        self._session.close()

    def stop(self) -> None:
        """Make every thread that waits or reads give up soon."""
        self._stopped.set()

    @property
    def stopped(self) -> bool:
        """Whether `stop` was called."""
        return self._stopped.is_set()

    def document(self, url: str, *, subject: str, limit: int, accept: str = "*/*") -> Document:
        """A small document, at most `limit` bytes. Errors: `SourceError` and its kinds, after all retries."""
        return self.persist(lambda: self._document(url, subject=subject, limit=limit, accept=accept), subject=subject)

    def open(self, url: str, *, subject: str, headers: Mapping[str, str]) -> requests.Response:
        """One request for a stream: a response of 200, 206 or 416, its body unread.

        Errors: `BrokenOffError` where another try may help, else `SourceError` and its kinds.
        """
        authorization = self._credentials.get(_origin(urlsplit(url)))
        try:
            response = self._session.get(
                url,
                headers={"Accept-Encoding": "identity", **headers},
                auth=_Authorization(authorization) if authorization else None,
                stream=True,
                timeout=(self.patience.connect, self.patience.stall),
                verify=self._verify,
            )
        except requests.exceptions.SSLError as error:
            raise SourceUnreachableError(
                f"{subject}: no TLS connection to {shown(url)}: {_system_word(error) or 'refused'}",
                hint="for a CA of your own, name its certificates in REQUESTS_CA_BUNDLE or SSL_CERT_FILE",
            ) from error
        except _NETWORK_ERRORS as error:
            raise BrokenOffError(_reason(error)) from error
        except (requests.RequestException, urllib3.exceptions.HTTPError, UnicodeError) as error:
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
        following = response.links.get("next", {}).get("url")
        return Document(
            response.url, bytes(content), response.headers, urljoin(response.url, following) if following else None
        )


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
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise BrokenOffError(_reason(error)) from error
        if not piece:
            return
        yield piece


def shown(url: str) -> str:
    """`url` for a message: without user, password, query and fragment."""
    parts = urlsplit(url)
    return printable(f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}")


def without_user(url: str) -> str:
    """`url` without the credentials in it: they are the client's business."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


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
        return SourceDeniedError(message, hint="credentials come from HF_TOKEN, pip's configuration or ~/.netrc")
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
