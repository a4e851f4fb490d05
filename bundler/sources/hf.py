"""Repositories of a model hub: `hf://ORG/NAME[@REVISION][/PATH]`, by the hub's own HTTP API.

* A branch or tag is asked for once, and from then on it is the commit: all files of a run are of one commit, and the
  commit is the pin. Without `@REVISION` it is `main`.
* A large file's SHA-256 is the hub's word; a small one has git's SHA-1. Both are compared when the file is fetched.
* A `/` in a revision is written `%2F` (but `refs/pr/1` may stand as it is).
* The list of files has a bound, in files and in pages. What a hub says of its own other protocol is passed over.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, TypeVar
from urllib.parse import quote, unquote

import msgspec

from bundler.answers import NOT_JSON
from bundler.http import Client
from bundler.once import Once
from bundler.settings import Hub
from bundler.sources.base import Found, Remote
from bundler.sources.reference import Reference, unescape
from manifests.digest import Digest
from manifests.errors import ManifestError, SourceError, SourceNotFoundError, listing, printable

T = TypeVar("T")
_LOCATION: Final = re.compile(
    r"(?P<repository>[^/@]+/[^/@]+)(?:@(?P<revision>refs/(?:pr|convert)/[^/@]+|[^/@]+))?(?:/(?P<path>.+))?"
)
_COMMIT: Final = re.compile(r"[0-9a-f]{40}")
_PAGE_LIMIT: Final = 64 << 20
_FOREIGN: Final = "is HF_ENDPOINT the address of a model hub, and does no login page answer for it?"
MAXIMUM_PAGES: Final = 1000
MAXIMUM_FILES: Final = 100_000
"""Of one repository."""


class _Revision(msgspec.Struct, rename="camel"):
    sha: str
    gated: bool | str = False
    card_data: dict[str, object] | None = None
    tags: list[str] = []


class _LargeFile(msgspec.Struct):
    oid: str
    size: int


class _Entry(msgspec.Struct):
    type: str
    path: str
    oid: str = ""
    size: int = 0
    lfs: _LargeFile | None = None


@dataclass(frozen=True, slots=True)
class _Location:
    """A parsed location. `path` is empty for the whole repository."""

    repository: str
    revision: str
    path: str

    @classmethod
    def parse(cls, reference: Reference) -> "_Location":
        match = _LOCATION.fullmatch(reference.location.rstrip("/"))
        if match is None:
            raise ManifestError(f"{reference}: not a file or repository of a hub", hint="hf://ORG/NAME@REVISION/PATH")
        return cls(match["repository"], unquote(match["revision"] or "main"), unescape(match["path"] or ""))


@dataclass(frozen=True, slots=True)
class _Repository:
    """A repository at one commit: what the hub says of it, and its files by path."""

    commit: str
    gated: bool
    licenses: tuple[str, ...]
    entries: Mapping[str, _Entry]


class HubSource:
    """The hub at `hub.endpoint`; the client holds its token."""

    def __init__(self, hub: Hub, client: Client) -> None:
        self._endpoint = hub.endpoint
        self._client = client
        self._repositories: Once[tuple[str, str], _Repository] = Once()

    def find(self, reference: Reference, pin: Mapping[str, str]) -> Found:
        """The file. Errors: `SourceNotFoundError`, `SourceDeniedError` (gated, private), `ManifestError`."""
        location = _Location.parse(reference)
        if not location.path:
            raise ManifestError(f"{reference} is a repository, and a file is asked for", hint=f"{reference}/PATH")
        repository = self._repository(location, pin)
        entry = repository.entries.get(location.path)
        if entry is None:
            raise SourceNotFoundError(
                f"{location.repository} at {repository.commit[:12]} has no file {location.path}",
                hint=f"there are: {printable(listing(sorted(repository.entries)))}",
            )
        return self._found(reference, location, repository, entry)

    def list(self, reference: Reference, pin: Mapping[str, str]) -> tuple[Found, ...]:
        """Every file of the repository, or the one file."""
        location = _Location.parse(reference)
        if location.path:
            return (self.find(reference, pin),)
        repository = self._repository(location, pin)
        return tuple(
            self._found(reference.child(path), location, repository, repository.entries[path])
            for path in sorted(repository.entries)
        )

    def _found(self, reference: Reference, location: _Location, repository: _Repository, entry: _Entry) -> Found:
        name = f"{quote(location.repository)}/resolve/{repository.commit}/{quote(entry.path)}"
        large = entry.lfs
        return Found(
            reference,
            entry.path,
            Remote(f"{self._endpoint}/{name}"),
            size=large.size if large else entry.size,
            digest=Digest(_hex(large.oid, 32, reference)) if large else None,
            git_sha1=None if large else _hex(entry.oid, 20, reference),
            pin={"commit": repository.commit},
            licenses=repository.licenses,
            lfs=large is not None,
            gated=repository.gated,
        )

    def _repository(self, location: _Location, pin: Mapping[str, str]) -> _Repository:
        revision = pin.get("commit") or location.revision
        key = (location.repository, revision)
        return self._repositories.get(key, lambda: self._ask(location.repository, revision))

    def _ask(self, repository: str, revision: str) -> _Repository:
        base = f"{self._endpoint}/api/models/{quote(repository)}"
        answer = self._client.document(
            f"{base}/revision/{quote(revision, safe='')}", subject=f"{repository}@{revision}", limit=_PAGE_LIMIT
        )
        described = _decode(answer.content, _Revision, subject=repository)
        if not _COMMIT.fullmatch(described.sha):
            raise SourceError(f"{repository}: the hub gives no commit for {revision!r}", hint=_FOREIGN)
        files = self._tree(f"{base}/tree/{described.sha}?recursive=true&expand=false", repository)
        return _Repository(described.sha, bool(described.gated), _licenses(described), files)

    def _tree(self, url: str, repository: str) -> dict[str, _Entry]:
        """The files that the pages from `url` on name, by path."""
        entries: dict[str, _Entry] = {}
        asked: set[str] = set()
        following: str | None = url
        while following is not None:
            asked.add(following)
            page = self._client.document(following, subject=repository, limit=_PAGE_LIMIT)
            files = _decode(page.content, list[_Entry], subject=repository)
            entries |= {entry.path: entry for entry in files if entry.type == "file"}
            if len(entries) > MAXIMUM_FILES:
                raise SourceError(f"{repository}: more than {MAXIMUM_FILES} files")
            following = page.next_url
            if following in asked or len(asked) >= MAXIMUM_PAGES:
                raise SourceError(f"{repository}: the hub's list of files does not end", hint=_FOREIGN)
        return entries


def _licenses(described: _Revision) -> tuple[str, ...]:
    """The licence of the model card; of one that is `other`, its name."""
    card = described.card_data or {}
    named = card.get("license")
    licenses = [named] if isinstance(named, str) else named if isinstance(named, list) else []
    if not licenses:
        licenses = [tag.removeprefix("license:") for tag in described.tags if tag.startswith("license:")]
    name = card.get("license_name")
    return tuple(str(name) if text == "other" and name else str(text) for text in licenses)


def _decode(content: bytes, kind: type[T], *, subject: str) -> T:
    try:
        return msgspec.json.decode(content, type=kind)
    except NOT_JSON as error:
        raise SourceError(
            f"{subject}: the hub's answer is not what its API promises: {printable(str(error))}", hint=_FOREIGN
        ) from error


def _hex(text: str, size: int, reference: Reference) -> bytes:
    try:
        raw = bytes.fromhex(text)
    except ValueError:
        raw = b""
    if len(raw) != size:
        raise SourceError(f"{reference}: the hub gives no digest for it")
    return raw
