"""One file to download, and how its server is asked for it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import requests

from bundler.http import Client
from bundler.sources.base import Authorization
from manifests.digest import Digest
from manifests.progress import Reporter


@dataclass(frozen=True, slots=True)
class Ranges:
    """When a file comes in parts at once: from `least` bytes on, `segment` bytes a part, over `connections`."""

    least: int = 64 << 20
    segment: int = 16 << 20
    connections: int = 2


@dataclass(frozen=True, slots=True)
class Request:
    """One file to download: into `target`, and what is known of it before.

    `authorization` gives the header of that name, anew for each try; it goes to the URL's own origin only. `fresh`
    gives the URL anew for each try, in place of `url`.
    """

    url: str = field(repr=False)
    target: Path
    subject: str
    size: int | None = None
    digest: Digest | None = None
    authorization: Authorization | None = field(default=None, repr=False, compare=False)
    fresh: Callable[[], str] | None = field(default=None, repr=False, compare=False)
    copies: int = 0
    """How many times over its reader writes what it reads onto the same disk: for the room that is asked for."""
    ranges: Ranges = Ranges()


@dataclass(frozen=True, slots=True)
class Asking:
    """A request, who sends it, and who hears of its progress."""

    client: Client
    request: Request
    reporter: Reporter

    def open(self, headers: Mapping[str, str]) -> requests.Response:
        """One try. Errors: `BrokenOffError`, `SourceError`."""
        request = self.request
        url = request.url if request.fresh is None else request.fresh()
        return self.client.open(url, subject=request.subject, headers=headers, authorization=request.authorization)

    def check_running(self) -> None:
        """`SourceUnreachableError` once the client was stopped."""
        self.client.check_running(self.request.subject)

    def started(self, size: int | None, *, held: int) -> None:
        """The file has `size` bytes, of which `held` are here."""
        self.reporter.started(self.request.subject, size)
        self.reporter.advanced(self.request.subject, held)

    def advanced(self, size: int) -> None:
        """So many more bytes are here."""
        self.reporter.advanced(self.request.subject, size)
