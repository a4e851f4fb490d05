"""One repository of an OCI registry, in the words of the distribution protocol.

* A refusal for want of credentials is answered with those that are known, once; then it is an error.
* Credentials go to the registry's own address: an upload that it sends to another host is made without them.
* Every answer that is read has a bound. What a manifest is named by is compared before it is given out.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urljoin, urlsplit

import msgspec
import requests

from bundler.answers import NOT_JSON
from bundler.fetch import Fetched, Request, download
from bundler.fetching.following import Hashed
from bundler.http import BrokenOffError, Client, Content
from bundler.registry.access import Access, refused
from bundler.registry.address import Address
from bundler.registry.logins import find_login
from bundler.sources.base import Authorization
from bundler.sources.urls import WEB, checked_url, host_of, origin_of, shown
from manifests.digest import Digest
from manifests.errors import (
    DigestMismatchError,
    SourceDeniedError,
    SourceError,
    SourceNotFoundError,
    SourceUnreachableError,
    listing,
    printable,
)
from manifests.progress import Reporter
from manifests.wrapper import MAXIMUM_WRAPPER, OCI_INDEX, OCI_MANIFEST, Part

INDEXES: Final = frozenset({OCI_INDEX, "application/vnd.docker.distribution.manifest.list.v2+json"})
_ACCEPT: Final = ", ".join((OCI_MANIFEST, "application/vnd.docker.distribution.manifest.v2+json", *sorted(INDEXES)))
_ANSWER_LIMIT: Final = 1 << 20
_TAGS_ASKED: Final = 100
_TAG_LENGTH: Final = 128
_WORDS: Final = 300
_TRIES: Final = 3
"""With nothing, or with a token that has run out; with what the registry then asked for; with what it asks for yet."""
_MISSING: Final = frozenset({404, 410})
_ELSEWHERE: Final = frozenset({302, 303, 307, 308})
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}")
_LONGEST_LENGTH: Final = 20
_OCTETS: Final = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer whose status was expected. `url` is where it came from."""

    status: int
    url: str
    headers: Mapping[str, str]
    content: bytes

    def location(self, *, subject: str) -> str:
        """The URL that `Location` names, which may be relative. Errors: `SourceError`."""
        told = self.headers.get("Location", "")
        try:
            url = urljoin(self.url, told)
        except ValueError:
            url = ""
        if not told or checked_url(url, subject=f"{subject}: the registry's Location").scheme not in WEB:
            raise SourceError(f"{subject}: {shown(self.url)} does not say where to go on")
        if self.url.startswith("https:") and url.startswith("http:"):
            raise SourceError(f"{subject}: {shown(self.url)} goes on without TLS at {shown(url)}, which is refused")
        return url


@dataclass(frozen=True, slots=True)
class Received:
    """A manifest: its bytes, the digest of these, and what the registry calls them."""

    content: bytes
    digest: Digest
    media_type: str


class _Problem(msgspec.Struct):
    code: str = ""
    message: str = ""


class _Problems(msgspec.Struct):
    errors: list[_Problem] = []


class _Tags(msgspec.Struct):
    tags: list[str] | None = None


class Repository:
    """The repository that `address` names. `writes` says what credentials are asked for."""

    def __init__(
        self,
        client: Client,
        address: Address,
        logins: Sequence[Path],
        *,
        writes: bool = False,
        plain_http: bool = False,
    ) -> None:
        self.client = client
        self.address = address
        self._writes = writes
        self.base = address.base(plain_http=plain_http)
        self._access = Access(
            client, address, lambda: find_login(logins, address), writes=writes, plain_http=plain_http
        )

    def manifest(self, version: str, *, subject: str) -> Received:
        """The manifest under a tag or digest. Errors: `SourceNotFoundError`, which names others; `SourceError`."""
        try:
            answer = self.ask("GET", self._manifest_url(version), subject=subject, headers={"Accept": _ACCEPT})
        except SourceNotFoundError as error:
            raise SourceNotFoundError(
                f"{subject}: {self.address.host} has no {version} of {self.address.repository}", hint=self.known_tags()
            ) from error
        digest = Digest.of(answer.content)
        told = answer.headers.get("Docker-Content-Digest", "")
        expected = version if version.startswith("sha256:") else told
        if expected.startswith("sha256:") and expected != str(digest):
            raise DigestMismatchError(
                subject=f"the manifest of {subject}",
                expected=printable(expected)[:_WORDS],
                actual=digest,
                hint="ask who runs the registry: it gives other bytes than it names",
            )
        media_type = answer.headers.get("Content-Type", "").partition(";")[0].strip()
        return Received(answer.content, digest, media_type)

    def find_manifest(self, version: str, *, subject: str) -> str | None:
        """The digest that a tag names now, empty if the registry does not say it; None if it has no such tag."""
        answer = self.ask(
            "HEAD",
            self._manifest_url(version),
            subject=subject,
            headers={"Accept": _ACCEPT},
            accepted=frozenset({200, *_MISSING}),
        )
        if answer.status in _MISSING:
            return None
        told = answer.headers.get("Docker-Content-Digest", "")
        return told if _DIGEST.fullmatch(told) else ""

    def put_manifest(self, content: bytes, tag: str, *, subject: str) -> None:
        """Store a manifest whose blobs are there. Errors: `SourceError`."""
        self.ask(
            "PUT",
            self._manifest_url(tag),
            subject=subject,
            headers={"Content-Type": OCI_MANIFEST},
            content=lambda: content,
            accepted=frozenset({200, 201, 202}),
        )

    def has(self, blob: Part, *, subject: str) -> bool:
        """Whether the registry has a blob. One that keeps them elsewhere says where, which means that it has it.

        Errors: `SourceError`, also where it has something else under that digest.
        """
        url = self.blob_url(blob.digest)
        answer = self.ask("HEAD", url, subject=subject, accepted=frozenset({200, *_ELSEWHERE, *_MISSING}))
        told = answer.headers.get("Content-Length", "")
        if answer.status == 200 and told.isdecimal() and int(told[:_LONGEST_LENGTH]) not in {0, blob.size}:
            raise SourceError(
                f"{subject}: {self.address.host} has it with {told[:_LONGEST_LENGTH]} bytes instead of {blob.size}",
                hint=f"ask who runs the registry to remove {blob.digest}, and push again: it is damaged there",
            )
        return answer.status not in _MISSING

    def small_blob(self, blob: Part, *, subject: str) -> bytes:
        """A blob as a whole, compared. The caller has bounded its size. Errors: `DigestMismatchError`."""
        answer = self.ask("GET", self.blob_url(blob.digest), subject=subject, limit=blob.size)
        if Part.of(answer.content) != blob:
            raise DigestMismatchError(subject=subject, expected=blob.digest, actual=Digest.of(answer.content))
        return answer.content

    def fetch(self, blob: Part, target: Path, reporter: Reporter, *, subject: str) -> Fetched[Hashed]:
        """A blob, downloaded to `target`: resumed, compared. Errors: those of `download`."""
        wanted = Request(
            self.blob_url(blob.digest),
            target,
            subject,
            size=blob.size,
            digest=blob.digest,
            authorization=self.authorization,
        )
        try:
            return download(self.client, wanted, reporter)
        except SourceDeniedError:
            if not self._access.renew():
                raise
            return download(self.client, wanted, reporter)

    def blob_url(self, digest: Digest) -> str:
        """Where a blob is read."""
        return f"{self.base}/blobs/{digest}"

    def authorization(self) -> str | None:
        """What `Authorization` says at this moment."""
        return self._access.header()

    def known_tags(self) -> str:
        """A hint: some of the tags that are there; empty if the registry does not say."""
        try:
            answer = self.ask("GET", f"{self.base}/tags/list?n={_TAGS_ASKED}", subject="tags", limit=_ANSWER_LIMIT)
            tags = msgspec.json.decode(answer.content, type=_Tags).tags or []
        except (SourceError, *NOT_JSON):
            return ""
        shortened = [tag[:_TAG_LENGTH] for tag in tags[:_TAGS_ASKED]]
        return f"there are: {listing(sorted(shortened))}" if shortened else ""

    def ask(
        self,
        method: str,
        url: str,
        *,
        subject: str,
        headers: Mapping[str, str] | None = None,
        content: Callable[[], Content] | None = None,
        accepted: frozenset[int] = frozenset({200}),
        limit: int = MAXIMUM_WRAPPER,
    ) -> Answer:
        """An answer with one of the statuses `accepted`, after all retries. Errors: `SourceError` and its kinds."""
        return self.client.persist(
            lambda: self.ask_once(
                method, url, subject=subject, headers=headers, content=content, accepted=accepted, limit=limit
            ),
            subject=subject,
        )

    def ask_once(
        self,
        method: str,
        url: str,
        *,
        subject: str,
        headers: Mapping[str, str] | None = None,
        content: Callable[[], Content] | None = None,
        accepted: frozenset[int],
        limit: int = _ANSWER_LIMIT,
    ) -> Answer:
        """As `ask`, but tried once: `BrokenOffError` where another try may help. `content` is called for each try."""
        is_ours = _same_origin(url, self.base)
        direct = self._writes or method not in {"GET", "HEAD"}
        told = {"Content-Type": _OCTETS, **(headers or {})} if content else headers
        for _ in range(_TRIES):
            sent = self.authorization() if is_ours else None
            with (
                _hinting_at_plain_http(),
                self.client.request(
                    method,
                    url,
                    subject=subject,
                    headers=told,
                    content=content() if content else None,
                    authorization=_saying(sent),
                    direct=direct,
                ) as response,
            ):
                if response.status_code in accepted:
                    body = b"" if method == "HEAD" else self.client.read(response, subject=subject, limit=limit)
                    return Answer(response.status_code, response.url, response.headers, body)
                challenge = response.headers.get("WWW-Authenticate", "")
                if response.status_code != 401:
                    raise self._error(response, subject=subject)
            if not (_same_origin(response.url, self.base) and self._access.answer(challenge, sent)):
                break
        raise self._refused(response.url, subject=subject)

    def _refused(self, url: str, *, subject: str) -> SourceDeniedError:
        """The error for a refusal that came from `url`: from the registry, its mirror, or where it sent us."""
        if _same_origin(url, self.base):
            return refused(subject, self.address, knows=self._access.knows, writes=self._writes)
        return SourceDeniedError(
            f"{subject}: {host_of(url)}, which answers for {self.address.host} here, refuses",
            hint="the registry's login is not shown there: its own credentials come from BUNDLE_HEADERS or ~/.netrc",
        )

    def _error(self, response: requests.Response, *, subject: str) -> SourceError:
        status, words = response.status_code, self._words(response, subject=subject)
        message = f"{subject}: {shown(response.url)} answered {status}" + (f": {words}" if words else "")
        if status in _MISSING:
            return SourceNotFoundError(message)
        if status == 403:
            error = self._refused(response.url, subject=subject)
            return SourceDeniedError(error.message + (f": {words}" if words else ""), hint=error.hint)
        return SourceError(message)

    def _words(self, response: requests.Response, *, subject: str) -> str:
        """What the registry says of its refusal, short and printable."""
        if response.request.method == "HEAD":
            return ""
        try:
            content = self.client.read(response, subject=subject, limit=_ANSWER_LIMIT)
            problems = msgspec.json.decode(content, type=_Problems).errors
        except (*NOT_JSON, BrokenOffError, SourceError):
            return ""  # the status says enough
        return printable("; ".join(problem.message or problem.code for problem in problems))[:_WORDS]

    def _manifest_url(self, version: str) -> str:
        return f"{self.base}/manifests/{version}"


@contextmanager
def _hinting_at_plain_http() -> Iterator[None]:
    """Who gets no TLS from a registry may know that it has none."""
    try:
        yield
    except SourceUnreachableError as error:
        if isinstance(error.__cause__, requests.exceptions.SSLError):
            error.hint += "; a registry that has no TLS at all: `bundle push` and `bundle pull` with --plain-http"
        raise


def _saying(value: str | None) -> Authorization:
    return lambda: value


def _same_origin(url: str, other: str) -> bool:
    return origin_of(urlsplit(url)) == origin_of(urlsplit(other))
