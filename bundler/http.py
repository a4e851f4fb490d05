"""HTTP as this project uses it: one request, what its answer means, and when to try again.

* Credentials belong to one origin (scheme, host, port); no redirect carries them to another. No cookies are kept.
* Redirects are followed here, one after the other; of their own bodies no more is read than is there at once.
* With `--offline` nothing at all is asked. A mirror is asked in place of the address that it stands for, with its own
  credentials and never with those of that address.
* A URL in a message has neither user, password nor query.
* An answer is one of three: a response to read, a refusal that no retry would change, or `BrokenOffError`: try again.
* `Client.stop` ends every request under way: its connections are shut, whoever waits for them.
"""

import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from http.cookiejar import DefaultCookiePolicy
from threading import Event
from types import TracebackType
from typing import BinaryIO, Final, Self, TypeAlias, TypeGuard, TypeVar
from urllib.parse import urljoin, urlsplit

import requests
import urllib3
from requests.structures import CaseInsensitiveDict
from requests.utils import super_len

from bundler.answers import (
    LATER_HINT,
    TRUST_HINT,
    BrokenOffError,
    again,
    asks_again,
    dismiss,
    following,
    is_cut_handshake,
    judge,
    next_url,
    reason_of,
    system_word,
    tunnel_refusal,
)
from bundler.connections import Adapter, Sockets
from bundler.credentials import Credentials, Sent, Session, as_asked
from bundler.mirrors import mirrored
from bundler.settings import Patience, Settings
from bundler.sources.base import Authorization
from bundler.sources.urls import checked_url, host_of, origin_of, shown
from manifests.errors import SourceError, SourceUnreachableError
from manifests.progress import Reporter, Silent

__all__ = ["Authorization", "BrokenOffError", "Client", "Content", "Document", "pieces"]

T = TypeVar("T")
Content: TypeAlias = bytes | Iterable[bytes] | BinaryIO

_PIECE: Final = 1 << 20
_KEPT_REDIRECTS: Final = frozenset({307, 308})
_MAXIMUM_REDIRECTS: Final = 20
_NETWORK_ERRORS: Final = (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError)


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
        self._settings = settings
        self._reporter = reporter or Silent()
        self._sockets = Sockets()
        self._verify = _certificates(settings)
        self._credentials = Credentials(settings, self._reporter.note)
        self._stopped = Event()
        self._session = Session(settings.packages.proxy)
        self._session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        for scheme in ("https://", "http://"):
            self._session.mount(scheme, Adapter(self._sockets, pool_maxsize=max(10, 2 * settings.threads)))

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

    def pause(self, seconds: float, *, subject: str) -> None:
        """Wait, but not beyond `stop`: then `SourceUnreachableError`."""
        if self._stopped.wait(seconds):
            self.check_running(subject)

    def mirrored(self, url: str) -> str:
        """The address that is asked in place of `url`; the same where no mirror is for it."""
        return mirrored(url, self._settings.mirrors)

    def document(
        self, url: str, *, subject: str, limit: int, accept: str = "*/*", authorization: Authorization | None = None
    ) -> Document:
        """A small document, at most `limit` bytes. Errors: `SourceError` and its kinds, after all retries."""

        def attempt() -> Document:
            with self.open(url, subject=subject, headers={"Accept": accept}, authorization=authorization) as response:
                if response.status_code != 200:
                    raise SourceError(f"{subject}: {shown(response.url)} answered {response.status_code} to no range")
                content = self.read(response, subject=subject, limit=limit)
                return Document(response.url, content, response.headers, next_url(response, subject=subject))

        return self.persist(attempt, subject=subject)

    def open(
        self, url: str, *, subject: str, headers: Mapping[str, str], authorization: Authorization | None = None
    ) -> requests.Response:
        """One request for a stream: a response of 200, 206 or 416, its body unread.

        `authorization` is called for this request; it goes to the origin of `url` only: to no mirror, and over no
        redirect to another origin.
        Errors: `BrokenOffError` where another try may help, else `SourceError` and its kinds.
        """
        response = self._send("GET", url, subject=subject, headers=headers, authorization=authorization)
        try:
            judge(response, subject=subject)
        except (BrokenOffError, SourceError):
            response.close()
            raise
        return response

    def request(
        self,
        method: str,
        url: str,
        *,
        subject: str,
        headers: Mapping[str, str] | None = None,
        content: Content | None = None,
        authorization: Authorization | None = None,
        direct: bool = False,
    ) -> requests.Response:
        """One request of any method, with the rules of `open` for credentials, proxies and certificates.

        Any status is returned, its body unread (`read` reads a small one; close the response, or use it as a context
        manager); 408, 425, 429 and 5xx are a `BrokenOffError` as a connection that fails is, so wrap it in `persist`.
        GET follows redirects; other methods follow 307 and 308 within the origin only, if `content` can be sent again,
        and else return them. Content that is no `bytes` and no file is sent with the length that a `Content-Length`
        header of yours says, else in chunks. `direct` asks no mirror: for what is written.
        """
        start = content.tell() if _is_file(content) else 0
        for _ in range(_MAXIMUM_REDIRECTS):
            response = self._send(
                method,
                url,
                subject=subject,
                headers=headers or {},
                content=content,
                authorization=authorization,
                direct=direct,
            )
            status = response.status_code
            if asks_again(status):
                response.close()
                raise again(response)
            place = _same_origin_redirect(response)
            if place is None or not (content is None or isinstance(content, bytes) or _is_file(content)):
                return response
            response.close()
            url = place
            if _is_file(content):
                content.seek(start)
        raise SourceError(f"{subject}: {shown(url)} cannot be asked: too many redirects")

    def read(self, response: requests.Response, *, subject: str, limit: int) -> bytes:
        """The whole body, at most `limit` bytes. Errors: `BrokenOffError`, `SourceError`."""
        content = bytearray()
        for piece in pieces(response):
            content += piece
            if len(content) > limit:
                raise SourceError(f"{subject}: {shown(response.url)} answered with more than {limit} bytes")
        self.check_running(subject)  # a connection that was shut looks like the end of a body
        return bytes(content)

    def _send(
        self,
        method: str,
        url: str,
        *,
        subject: str,
        headers: Mapping[str, str],
        content: Content | None = None,
        authorization: Authorization | None = None,
        direct: bool = False,
    ) -> requests.Response:
        checked_url(url, subject=subject)
        self._settings.check_online(subject)
        mirror = url if direct else self.mirrored(url)
        asked, home = self._as_asked(mirror, subject), _origin(self._as_asked(url, subject))
        via = f" in place of {host_of(url)}" if mirror != url else ""
        own = authorization() if authorization and _origin(asked) == home else None
        for _ in range(_MAXIMUM_REDIRECTS):
            response = self._exchange(
                method, asked, subject=subject, via=via, headers=headers, content=content, authorization=own
            )
            place = following(response, subject=subject) if method == "GET" else None
            if place is None:
                return response
            dismiss(response)
            via, before, asked = f" (a redirect of {host_of(asked)})", asked, self._as_asked(place, subject)
            if _origin(asked) != _origin(before):
                own, headers = None, self._credentials.without(headers)
        raise SourceError(f"{subject}: {shown(url)} cannot be asked: too many redirects")

    def _exchange(
        self,
        method: str,
        asked: str,
        *,
        subject: str,
        via: str,
        headers: Mapping[str, str],
        content: Content | None,
        authorization: str | None,
    ) -> requests.Response:
        """One request and its answer. `via` says how it came to this address."""
        self.check_running(subject)
        sent, body = _body({"Accept-Encoding": "identity", **headers}, content)
        proxies = self._session.proxies_for(asked)
        try:
            return self._session.request(
                method,
                asked,
                headers=sent,
                data=body,
                auth=Sent(self._credentials, authorization),
                stream=True,
                timeout=(self.patience.connect, self.patience.stall),
                verify=self._verify,
                proxies=proxies,
                allow_redirects=False,
            )
        except requests.exceptions.SSLError as error:
            if is_cut_handshake(error):
                raise BrokenOffError(f"{host_of(asked)}{via}{self._through(asked)}: {reason_of(error)}") from error
            raise SourceUnreachableError(
                f"{subject}: no TLS connection to {shown(asked)}: {system_word(error) or 'refused'}",
                hint=self._trusted,
            ) from error
        except _NETWORK_ERRORS as error:
            if refusal := tunnel_refusal(error, f"{subject}: {host_of(asked)}{via}{self._through(asked)}"):
                raise refusal from error
            raise BrokenOffError(f"{host_of(asked)}{via}{self._through(asked)}: {reason_of(error)}") from error
        except (requests.RequestException, urllib3.exceptions.HTTPError, ValueError) as error:
            raise self._unaskable(asked, error, subject, self._through(asked)) from error

    def _as_asked(self, url: str, subject: str) -> str:
        try:
            return as_asked(url)
        except (requests.RequestException, urllib3.exceptions.HTTPError, ValueError) as error:
            raise self._unaskable(url, error, subject) from error

    def _unaskable(self, url: str, error: Exception, subject: str, through: str = "") -> SourceError:
        return SourceError(f"{subject}: {shown(url)}{through} cannot be asked: {reason_of(error)}")

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
            raise SourceUnreachableError(f"{subject}: {broken.reason} ({failures} tries)", hint=LATER_HINT) from broken
        pause = min(self.patience.longest_pause, self.patience.first_pause * 2 ** (failures - 1))
        pause *= random.uniform(0.5, 1.0)  # noqa: S311 - jitter against herds is no secret
        if broken.wait is not None:
            pause = max(pause, broken.wait)
        if pause > self.patience.longest_wait:
            raise SourceUnreachableError(
                f"{subject}: {broken.reason}, and asks to wait {pause:.0f} s",
                hint="run this again after that time: what was fetched is kept",
            ) from broken
        if broken.wait is not None:
            self._reporter.note(f"{subject}: {broken.reason}; waiting {pause:.0f} s, as it asks")
        self.pause(pause, subject=subject)

    @property
    def _trusted(self) -> str:
        ours = "" if self._verify is True else f"what is trusted now is {self._verify}; "
        return f"{ours}{TRUST_HINT}"

    def _through(self, url: str) -> str:
        """What stands between: the proxy of pip's settings or of the environment, for a message."""
        proxy = requests.utils.select_proxy(url, self._session.proxies_for(url))
        return f" through the proxy {host_of(proxy if '//' in proxy else f'//{proxy}')}" if proxy else ""


def pieces(response: requests.Response) -> Iterator[bytes | memoryview]:
    """The body as it is on the wire, as soon as it comes; each piece is good until the next is asked for.

    Errors while iterating: `BrokenOffError`.
    """
    while True:
        try:
            piece: bytes | memoryview = response.raw.read1(_PIECE, decode_content=False)
        except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:  # ValueError: TLS that `stop` shut
            raise BrokenOffError(f"{host_of(response.url)}: {reason_of(error)}") from error
        if not piece:
            return
        yield piece


class _Sized:
    """Pieces whose whole length is known."""

    def __init__(self, pieces: Iterable[bytes], size: int) -> None:
        self._pieces = pieces
        self._size = size

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._pieces)


def _body(headers: dict[str, str], content: Content | None) -> tuple[dict[str, str], Content | None]:
    """Headers and body as `requests` wants them: it writes `Content-Length` itself."""
    if _is_file(content) and not super_len(content):  # type: ignore[no-untyped-call]  # `requests` leaves it so
        return headers, b""  # what has no length would go in chunks
    if content is None or isinstance(content, bytes) or _is_file(content):
        return headers, content
    size = CaseInsensitiveDict(headers).get("Content-Length", "")
    rest = {name: value for name, value in headers.items() if name.lower() != "content-length"}
    if not size.isdecimal():
        return rest, iter(content)
    return rest, _Sized(content, int(size)) if int(size) else b""


def _origin(url: str) -> str:
    return origin_of(urlsplit(url))


def _is_file(content: Content | None) -> TypeGuard[BinaryIO]:
    return hasattr(content, "read")


def _same_origin_redirect(response: requests.Response) -> str | None:
    """Where a 307 or 308 of no GET leads to, if that is the same origin."""
    if response.status_code not in _KEPT_REDIRECTS or response.request.method == "GET":
        return None
    try:
        place = urljoin(response.url, response.headers.get("Location", ""))
        same = _origin(place) == _origin(response.url)
    except ValueError:
        return None
    return place if same else None


def _certificates(settings: Settings) -> str | bool:
    """What `requests` verifies with: a path, or True for its own certificates."""
    path = settings.certificates
    if path is not None and not path.exists():
        raise SourceError(f"the CA certificates {path} do not exist", hint="see REQUESTS_CA_BUNDLE and SSL_CERT_FILE")
    return True if path is None else str(path)
