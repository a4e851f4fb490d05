"""From a found file, or a member of one, to a blob in the store.

* A blob that the store has is not fetched again, nor is an archive of which the store knows the members that are asked
  (but for `fresh`, where the question is what the source gives).
* A file that gives no digest beforehand is not downloaded again while its source says that it is the same (`origins`).
* What another process is downloading is waited for, and then looked for in the store.
* A file or archive is downloaded once, however often it is asked for. An archive is kept while the work lasts, and
  beyond it if that fails, so that the next try need not fetch it again.
* What was fetched stays locked until it is in the store; of finished downloads nothing is left.
* Every digest that is known beforehand is compared: the manifest's or lock's, the source's, git's.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from math import inf
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Final, Self, TypeVar

from bundler import encode, licenses, origins
from bundler.fetch import Fetched, Request, download, forget_finished, is_claimed
from bundler.http import Client
from bundler.once import Once
from bundler.sources import archive
from bundler.sources.base import Found, Local, Remote
from bundler.sources.file import opened
from bundler.sources.wheel import METADATA, open_metadata
from bundler.unpacking import unpack
from manifests.digest import Digest
from manifests.errors import BusyError, DigestMismatchError
from manifests.progress import Reporter
from manifests.recipe import Recipe
from manifests.store import Store

T = TypeVar("T")
_LOOK_AGAIN: Final = 0.2
"""Seconds between two looks at what another process is downloading."""


@dataclass(frozen=True, slots=True)
class Taken:
    """A blob that is in the store now, and the pin that only its transfer told (ETag, Last-Modified)."""

    recipe: Recipe
    pin: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Archive:
    """A whole archive on this disk; `download` is None for one that is not ours to remove."""

    path: Path
    digest: Digest
    download: Fetched[Any] | None

    @property
    def pin(self) -> Mapping[str, str]:
        return self.download.version.pin if self.download else {}


class Intake:
    """Takes files into `store`. A context manager: leaving it well removes the archives that were downloaded."""

    def __init__(self, store: Store, client: Client, reporter: Reporter) -> None:
        self._store = store
        self._client = client
        self.reporter = reporter
        self._spool = store.spool
        self._targets: set[Path] = set()
        self._files: Once[tuple[str, Digest | None], Taken] = Once()
        self._archives: Once[str, _Archive] = Once()
        self._members: Once[tuple[Digest, str], Recipe] = Once()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for whole in self._archives.values():
            if whole.download is not None:
                whole.download.claim.release()
        if error is None:
            for target in sorted(self._targets):
                forget_finished(target)

    def take(self, found: Found, *, expected: Digest | None, subject: str, fresh: bool = False) -> Taken:
        """The blob that `found.reference` leads to; if `fresh`, out of its source even if the store has it.

        Errors: `SourceError` and its kinds; `StorageError`.
        """
        wanted = expected if found.reference.members else expected or found.digest
        self._targets.add(self._target(found, wanted))
        if not fresh and wanted is not None and (recipe := self._store.find(wanted)) is not None:
            return Taken(recipe)
        if found.reference.members:
            return self._take_member(found, expected=expected, subject=subject, fresh=fresh)
        if isinstance(found.place, Local):
            return Taken(self._add(found.place.path, expected=wanted, subject=subject))
        place = found.place

        def fetch() -> Taken:
            return self._fetch_file(found, place, wanted, subject=subject, fresh=fresh)

        return self._files.get((found.key, wanted), fetch)

    def unpack(self, found: Found, wanted: Callable[[str], bool]) -> tuple[str, ...]:
        """The names of all members of the archive, or of the folder of it, that `found.reference` leads to.

        Those that are `wanted` are in the store then, taken in one pass. Errors: `SourceError` and its kinds.
        """
        target = self._target(found, None, kind="archive")
        self._targets.add(target)
        longest = self._client.patience.longest_wait
        whole = self._patiently(lambda: self._archive(found), target, subject=found.path, longest=longest)
        with opened(whole.path) as stream:
            return unpack(stream, found.reference.members, self._store, whole.digest, wanted, subject=found.path)

    def licenses(self, found: Found) -> tuple[str, ...]:
        """What the source says, and what the wheel claims that the file is taken out of."""
        if not (found.reference.members and found.path.endswith(".whl")):
            return found.licenses
        self._targets.add(self._target(found, None))
        metadata = self._member(found, METADATA, lambda: self._extract_metadata(found))
        content = self._store.read_whole(metadata.digest, limit=licenses.MAXIMUM_METADATA)
        return (*found.licenses, *licenses.of_wheel(content))

    def _fetch_file(self, found: Found, place: Remote, wanted: Digest | None, *, subject: str, fresh: bool) -> Taken:
        """The file, downloaded; or, where another process or an earlier run has brought it, out of the store."""

        def fetch() -> Taken:
            if not fresh and (known := self._known(found, place, wanted, subject=subject)) is not None:
                return known
            taken = self._download(found, place, wanted, subject=subject)
            if wanted is None:
                origins.record(self._store, found, place, taken)
            return taken

        return self._patiently(fetch, self._target(found, wanted), subject=subject, longest=inf)

    def _known(self, found: Found, place: Remote, wanted: Digest | None, *, subject: str) -> Taken | None:
        if wanted is not None:
            recipe = self._store.find(wanted)
            return None if recipe is None else Taken(recipe)
        known = origins.find(self._store, self._client, found, place, subject=subject)
        return None if known is None else Taken(*known)

    def _patiently(self, work: Callable[[], T], target: Path, *, subject: str, longest: float) -> T:
        """What `work` gives, once no other process downloads to `target`: after `longest` seconds its `BusyError`."""
        waited = 0.0
        while True:
            try:
                return work()
            except BusyError:
                if waited >= longest:
                    raise
            self.reporter.note(f"{subject}: another process is downloading it; waiting for that")
            while is_claimed(target) and waited < longest:
                self._client.pause(_LOOK_AGAIN, subject=subject)
                waited += _LOOK_AGAIN

    def _download(self, found: Found, place: Remote, wanted: Digest | None, *, subject: str) -> Taken:
        """Downloaded, hashed and encoded in one pass."""

        def add(stream: BinaryIO, size: int) -> Recipe:
            return encode.add(
                self._store,
                stream,
                size=size,
                subject=subject,
                expected=wanted,
                git_sha1=found.git_sha1,
                md5=found.md5,
            )

        request = self._request(found, place, self._target(found, wanted), subject=subject)
        done = download(self._client, replace(request, digest=wanted, copies=1), self.reporter, add)
        done.claim.discard()
        return Taken(done.read, done.version.pin)

    def _request(self, found: Found, place: Remote, target: Path, *, subject: str) -> Request:
        return Request(
            place.url,
            target,
            subject,
            size=found.size,
            digest=found.digest,
            authorization=place.authorization,
            fresh=place.fresh,
        )

    def _take_member(self, found: Found, *, expected: Digest | None, subject: str, fresh: bool) -> Taken:
        member = found.reference.member_path
        recipe = self._member(found, member, lambda: self._extract(found, subject=subject), fresh=fresh)
        if expected is not None and recipe.digest != expected:
            raise DigestMismatchError(subject=subject, expected=expected, actual=recipe.digest)
        return Taken(recipe, {} if found.digest else self._archive(found).pin)

    def _member(self, found: Found, member: str, extract: Callable[[], Recipe], *, fresh: bool = False) -> Recipe:
        """A member of the archive: the archive is opened only if the store does not know that member of it.

        Another process keeps its archive until it ends, and may wait for one of ours: so there is an end to waiting.
        """
        target = self._target(found, None, kind="archive")
        longest = self._client.patience.longest_wait
        return self._patiently(
            lambda: self._member_now(found, member, extract, fresh=fresh), target, subject=found.path, longest=longest
        )

    def _member_now(self, found: Found, member: str, extract: Callable[[], Recipe], *, fresh: bool) -> Recipe:
        container = found.digest or self._archive(found).digest
        digest = None if fresh else self._store.find_member(container, member)
        if digest is not None and (recipe := self._store.find(digest)) is not None:
            return recipe
        return self._members.get((container, member), extract)

    def _extract(self, found: Found, *, subject: str) -> Recipe:
        whole = self._archive(found)
        with (
            opened(whole.path) as stream,
            archive.open_member(stream, found.reference.members, subject=found.path, spool=self._spool) as member,
        ):
            recipe = encode.add(self._store, member.stream, size=member.size, subject=subject)
        self._store.record_member(whole.digest, found.reference.member_path, recipe.digest)
        return recipe

    def _extract_metadata(self, found: Found) -> Recipe:
        """A wheel's METADATA: remembered like any other member, so that the wheel is not needed for it again."""
        whole = self._archive(found)
        with (
            opened(whole.path) as stream,
            open_metadata(stream, subject=found.path, spool=self._spool) as (name, member),
        ):
            recipe = encode.add(self._store, member.stream, size=member.size, subject=name)
        self._store.record_member(whole.digest, METADATA, recipe.digest)
        return recipe

    def _archive(self, found: Found) -> _Archive:
        """The archive on this disk, downloaded or hashed by whoever asks first."""
        return self._archives.get(found.key, lambda: self._fetch_archive(found))

    def _fetch_archive(self, found: Found) -> _Archive:
        if isinstance(found.place, Remote):
            target = self._target(found, None, kind="archive")
            request = self._request(found, found.place, target, subject=found.path)
            done = download(self._client, request, self.reporter)
            return _Archive(done.path, done.digest, done)
        with opened(found.place.path) as stream:
            digest = Digest(hashlib.file_digest(stream, "sha256").digest())
        if found.digest is not None and digest != found.digest:
            raise DigestMismatchError(subject=found.path, expected=found.digest, actual=digest)
        return _Archive(found.place.path, digest, None)

    def _target(self, found: Found, wanted: Digest | None, *, kind: str = "") -> Path:
        """Where it is downloaded to: a file and an archive of one address, or of two digests, lie apart."""
        kind = kind or ("archive" if found.reference.members else str(wanted or "file"))
        return self._store.partial(f"{found.key} {kind}")

    def _add(self, path: Path, *, expected: Digest | None, subject: str) -> Recipe:
        with opened(path) as stream:
            size = path.stat().st_size
            return encode.add(self._store, stream, size=size, subject=subject, expected=expected)
