"""What an answer to a download says: which version of the file, and which part of it.

* A part counts only if its range is exactly the one that was asked for, of a file of the same size and version.
"""

from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

import requests

from bundler.fetching.asking import Request
from bundler.fetching.partial import Version
from bundler.fetching.spans import Span
from bundler.http import BrokenOffError
from bundler.sources.urls import shown
from manifests.errors import SourceError

_PAGES: Final = frozenset({"text/html", "application/xhtml+xml"})
_PAGE_NAMES: Final = (".html", ".htm", ".xhtml")
_LONGEST: Final = 18
"""Digits of a length that a disk could hold."""


class StartOverError(Exception):
    """What came cannot be gone on with. `ranges`: whether parts may be asked for again. Never leaves a download."""

    def __init__(self, reason: str, *, ranges: bool) -> None:
        self.reason = reason
        self.ranges = ranges
        super().__init__(reason)


@dataclass(frozen=True, slots=True)
class Part:
    """The part of `version` that is asked for."""

    version: Version
    span: Span

    @property
    def headers(self) -> dict[str, str]:
        """What asks for it, or for the whole file if it is another version by now."""
        return {
            "Range": f"bytes={self.span.start}-{self.span.end - 1}",
            "If-Range": self.version.validator,
        }

    def check(self, response: requests.Response) -> None:
        """Return if `response` is this part; else `StartOverError`."""
        where, version = shown(response.url), version_of(response)
        if response.status_code == 416:
            raise StartOverError(f"{where} has become shorter", ranges=True)
        if version.size != self.version.size or version.validator not in {"", self.version.validator}:
            raise StartOverError(f"{where} has changed", ranges=True)
        if not is_part(response):
            raise StartOverError(f"{where} sent the whole file though asked for a part", ranges=False)
        if range_of(response) != f"bytes {self.span.start}-{self.span.end - 1}/{self.version.size}":
            raise StartOverError(f"{where} sent another part than was asked for", ranges=False)


def refuse_page(response: requests.Response, request: Request) -> None:
    """`SourceError` for a page of HTML where a file is asked for whose digest nobody knows: a login page, mostly."""
    kind = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if request.digest is None and kind in _PAGES and not urlsplit(request.url).path.lower().endswith(_PAGE_NAMES):
        raise SourceError(
            f"{request.subject}: {shown(response.url)} gives a web page in place of a file: a sign-in page?",
            hint="credentials come from ~/.netrc or the file of headers; if the page is what you want, give its sha256",
        )


def version_of(response: requests.Response) -> Version:
    """Which version of the file it is, with the size of the whole file."""
    if is_part(response):
        total = range_of(response).rpartition("/")[2]
        size = _length(total, response)
    else:
        size = _length(response.headers.get("Content-Length", ""), response)
    return Version(response.headers.get("ETag", ""), response.headers.get("Last-Modified", ""), size)


def _length(text: str, response: requests.Response) -> int | None:
    """What a header says; None where it says no number."""
    if not text.isdecimal():
        return None
    if len(text) > _LONGEST:
        raise SourceError(f"{shown(response.url)} announces a length that no disk holds")
    return int(text)


def is_part(response: requests.Response) -> bool:
    """Whether the body is a part of the file: some servers say so in the range alone, with the status 200."""
    return response.status_code == 206 or "Content-Range" in response.headers


def range_of(response: requests.Response) -> str:
    """Its `Content-Range`, empty if there is none."""
    return response.headers.get("Content-Range", "").strip()


def starts_at(response: requests.Response, kept: Version, start: int) -> bool:
    """Whether the body is the part from byte `start` on, to the end, of the version that is kept."""
    version = version_of(response)
    same = version.validator in {"", kept.validator} and (kept.size is None or kept.size == version.size)
    return same and range_of(response).startswith(f"bytes {start}-")


def cut_short(response: requests.Response, size: int, total: int) -> BrokenOffError:
    """The error of a body that ended before its time."""
    return BrokenOffError(f"{shown(response.url)}: broken off after {size} of {total} bytes")
