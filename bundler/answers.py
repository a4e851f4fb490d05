"""What an answer means: something to read, a refusal that no retry would change, or `BrokenOffError`, to try again.

* A URL in a message has neither user, password nor query.
* A redirect leads to a web address, and never from https to http.
* How long to wait is the server's word: a date counts from the server's own clock, so that no clock here matters.
"""

import re
import ssl
from collections.abc import Iterator
from contextlib import suppress
from email.utils import parsedate_to_datetime
from http.client import HTTPException, IncompleteRead, RemoteDisconnected
from typing import Final
from urllib.parse import urljoin, urlsplit

import msgspec
import requests
import urllib3
from requests.structures import CaseInsensitiveDict

from bundler.sources.urls import WEB, checked_url, shown
from manifests.errors import SourceDeniedError, SourceError, SourceNotFoundError, printable

_AGAIN: Final = frozenset({408, 425, 429})
_DENIED: Final = frozenset({401, 403})
_MISSING: Final = frozenset({404, 410})
_SMALL: Final = 64 << 10
"""Bytes of a redirect's body that are taken off its connection, so that it can serve another request."""
_LONGEST: Final = 1e9
_TUNNEL: Final = re.compile(r"Tunnel connection failed: (\d{3})")
_PROXY_HINT: Final = "the proxy's user and password go into its address: http://USER:PASSWORD@HOST:PORT"
_HUB_MISSING: Final = frozenset({"RepoNotFound", "RevisionNotFound", "EntryNotFound"})


TRUST_HINT: Final = "for a CA of your own, name its certificates in REQUESTS_CA_BUNDLE or SSL_CERT_FILE"
LATER_HINT: Final = "try again later: what was fetched is kept"
NOT_JSON: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What `msgspec.json.decode` raises for a stranger's bytes."""


class BrokenOffError(Exception):
    """No answer, not a whole one, or one that asks to come back. Never leaves `Client.persist`."""

    def __init__(self, reason: str, *, wait: float | None = None, progressed: bool = False) -> None:
        self.reason = reason
        self.wait = wait
        self.progressed = progressed
        super().__init__(reason)


def asks_again(status: int) -> bool:
    """Whether the same request may be answered otherwise later."""
    return status in _AGAIN or status >= 500


def judge(response: requests.Response, *, subject: str) -> None:
    """Return for an answer with something to read; raise what any other one means."""
    status = response.status_code
    if asks_again(status):
        raise again(response)
    if status >= 400 and status != 416:
        raise _refusal(response, subject=subject)
    if status not in {200, 206, 416}:
        raise SourceError(f"{subject}: {shown(response.url)} answered {status}, which says nothing")
    if response.headers.get("Content-Encoding", "identity").strip().lower() not in {"", "identity"}:
        raise SourceError(
            f"{subject}: {shown(response.url)} encodes what it sends ({response.headers['Content-Encoding']}) "
            "though asked not to, so that its bytes cannot be counted or resumed"
        )


def again(response: requests.Response) -> BrokenOffError:
    """The error for such a status, with the wait that the server asks for."""
    return BrokenOffError(f"{shown(response.url)} answered {response.status_code}", wait=_retry_after(response.headers))


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
    if status == 407:
        return SourceDeniedError(f"{message}: the proxy wants a password", hint=_PROXY_HINT)
    if status in _DENIED:
        return SourceDeniedError(
            message,
            hint="credentials come from HF_TOKEN, AWS_* and AZURE_STORAGE_* variables, pip's configuration, "
            "BUNDLE_HEADERS or ~/.netrc; an address that was signed for a time may have run out: then run this again",
        )
    return SourceError(message)


def _retry_after(headers: "CaseInsensitiveDict[str]") -> float | None:
    """Seconds that the server asks for; a date counts from the server's own `Date`, so that no clock here matters."""
    text = headers.get("Retry-After", "").strip()
    if text.isdecimal():
        return min(float(text), _LONGEST)
    try:
        return max(0.0, (parsedate_to_datetime(text) - parsedate_to_datetime(headers["Date"])).total_seconds())
    except (KeyError, TypeError, ValueError, OverflowError):
        return None


def following(response: requests.Response, *, subject: str) -> str | None:
    """Where a redirect leads; None for any other answer. Errors: `SourceError`; the response is closed then."""
    if not (response.is_redirect and response.headers["Location"]):
        return None
    try:
        return _following(response, subject=subject)
    except SourceError:
        response.close()
        raise


def _following(response: requests.Response, *, subject: str) -> str:
    told = f"{subject}: {shown(response.url)} cannot be asked: it redirects to "
    try:
        place = urljoin(response.url, response.headers["Location"].encode("latin-1").decode())
        parts = urlsplit(place)
    except ValueError:  # its words quote the address
        raise SourceError(f"{told}what is no URL") from None
    if parts.scheme not in WEB:
        raise SourceError(f"{told}what is no web address")
    checked_url(place, subject=f"{told}this")
    if parts.scheme == "http" and urlsplit(response.url).scheme == "https":
        raise SourceError(f"{subject}: {shown(place)} is a redirect from https to http, which is refused")
    return place


def dismiss(response: requests.Response) -> None:
    """End a response whose body nobody wants; its connection is kept if that body is short, and here at once."""
    length = response.headers.get("Content-Length", "")
    if length.isdecimal() and len(length) < 6 and int(length) <= _SMALL:
        with suppress(urllib3.exceptions.HTTPError, OSError, ValueError):
            if len(response.raw.read1(_SMALL, decode_content=False)) == int(length):
                response.raw.read(1)  # nothing, and so its end
    response.close()


def reason_of(error: BaseException) -> str:
    """Why, in one line, without the URLs that the libraries put into their messages."""
    if isinstance(error, requests.Timeout | urllib3.exceptions.TimeoutError):
        return "no answer in time"
    if isinstance(error, requests.TooManyRedirects):
        return "too many redirects"
    if isinstance(error, urllib3.exceptions.IncompleteRead):
        return f"broken off after {error.partial} bytes"
    return f"connection failed ({system_word(error) or _word_of_http(error) or type(error).__name__})"


def _word_of_http(error: BaseException) -> str:
    kinds = [type(each) for each in _layers(error) if isinstance(each, HTTPException)]
    if RemoteDisconnected in kinds:
        return "closed without an answer"
    if IncompleteRead in kinds:
        return "broken off"
    return "what came is no HTTP" if kinds else ""


def system_word(error: BaseException) -> str:
    """What the system said, below the layers of the libraries: `Connection refused`."""
    return next((each.strerror for each in _layers(error) if isinstance(each, OSError) and each.strerror), "")


def is_cut_handshake(error: BaseException) -> bool:
    """Whether a TLS connection ended while it was made, as any connection may: that is no word on certificates."""
    return any(isinstance(each, ssl.SSLEOFError | ssl.SSLZeroReturnError) for each in _layers(error))


def tunnel_refusal(error: BaseException, place: str) -> SourceError | None:
    """The error for a proxy that will not lead to `place`; None if it is no such thing, or may pass."""
    for each in _layers(error):
        if match := _TUNNEL.match(str(each)) if isinstance(each, OSError) else None:
            status = int(match[1])
            if asks_again(status):
                return None
            return SourceDeniedError(f"{place}: the proxy answered {status}", hint=_PROXY_HINT if status == 407 else "")
    return None


def _layers(error: BaseException | None) -> Iterator[BaseException]:
    """The error, and what it came from."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def next_url(response: requests.Response, *, subject: str) -> str | None:
    """What the `Link` header names as the next page; None on the last one. Errors: `SourceError`."""
    following = response.links.get("next", {}).get("url")
    try:
        return urljoin(response.url, following) if following else None
    except ValueError as error:
        raise SourceError(f"{subject}: {shown(response.url)} names a next page that is no URL") from error
