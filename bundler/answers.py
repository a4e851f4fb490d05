"""What an answer means: something to read, a refusal that no retry would change, or `BrokenOffError`, to try again.

* A URL in a message has neither user, password nor query.
* How long to wait is the server's word: a date counts from the server's own clock, so that no clock here matters.
"""

from email.utils import parsedate_to_datetime
from typing import Final
from urllib.parse import urljoin

import requests
import urllib3
from requests.structures import CaseInsensitiveDict

from bundler.sources.urls import shown
from manifests.errors import SourceDeniedError, SourceError, SourceNotFoundError, printable

_AGAIN: Final = frozenset({408, 425, 429})
_DENIED: Final = frozenset({401, 403, 407})
_MISSING: Final = frozenset({404, 410})
_HUB_MISSING: Final = frozenset({"RepoNotFound", "RevisionNotFound", "EntryNotFound"})


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
        return float(text)
    try:
        return max(0.0, (parsedate_to_datetime(text) - parsedate_to_datetime(headers["Date"])).total_seconds())
    except (KeyError, TypeError, ValueError):
        return None


def reason_of(error: BaseException) -> str:
    """Why, in one line, without the URLs that the libraries put into their messages."""
    if isinstance(error, requests.Timeout | urllib3.exceptions.TimeoutError):
        return "no answer in time"
    if isinstance(error, requests.TooManyRedirects):
        return "too many redirects"
    if isinstance(error, urllib3.exceptions.IncompleteRead):
        return f"broken off after {error.partial} bytes"
    return f"connection failed ({system_word(error) or type(error).__name__})"


def system_word(error: BaseException | None) -> str:
    """What the system said, below the layers of the libraries: `Connection refused`."""
    while error is not None:
        if isinstance(error, OSError) and error.strerror:
            return error.strerror
        error = error.__cause__ or error.__context__
    return ""


def next_url(response: requests.Response, *, subject: str) -> str | None:
    """What the `Link` header names as the next page; None on the last one. Errors: `SourceError`."""
    following = response.links.get("next", {}).get("url")
    try:
        return urljoin(response.url, following) if following else None
    except ValueError as error:
        raise SourceError(f"{subject}: {shown(response.url)} names a next page that is no URL") from error
