"""Objects of buckets: one by its key, or all below a prefix.

The bytes come by the ordinary client through URLs signed for one try each, which are in no message, log or lock.
* Without a slash at its end, an object of that name wins over a prefix.
* The pin is the object's version where the bucket keeps versions, and its ETag: one only says whether to look again.
* What was locked out of a prefix stays as it was locked until an upgrade is asked for, whatever lies there now.
* Where the bucket has an object's SHA-256 it is asked for, so that a lock need not fetch the object.
* What is locked needs no question: its URL is signed, and its digest says whether it still is what it was.
* A key that no path can be (`a//b`, `a/../b`) is never rewritten to one: alone it is refused, and of a prefix it is
  given as it is, for `exclude` to leave out.
* Every listing has a bound, in objects and in pages.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final

from bundler.settings import Settings
from bundler.sources.base import Found, Remote
from bundler.sources.prefixes import folder_of, near, split
from bundler.sources.reference import Reference
from bundler.sources.s3.answers import LISTINGS, Object, endless, following, key_of
from bundler.sources.s3.connection import Connection
from bundler.together import together
from manifests.errors import ManifestError, SourceDeniedError, SourceError, SourceNotFoundError

MAXIMUM_OBJECTS: Final = 100_000
"""Objects below a prefix."""
MAXIMUM_PAGES: Final = 1_000
"""Pages of one listing: some servers give less than the usual 1000 objects in each, and an empty one counts too."""
_CHECKSUMS: Final = 8
"""Objects that are asked for their SHA-256 at once: the answers are small, and it is the way there that takes time."""


class BucketSource:
    """The buckets of AWS, or of the endpoint that the settings name."""

    def __init__(self, settings: Settings) -> None:
        self._connection = Connection(settings)

    def find(self, reference: Reference, pin: Mapping[str, str]) -> Found:
        """The object; one pinned by its version as it was then.

        Errors: `SourceNotFoundError` names what lies near; `SourceDeniedError`; `SourceUnreachableError`.
        """
        bucket, key = _parts(reference)
        if not key or key.endswith("/"):
            raise ManifestError(f"{reference} is a prefix, and a file is asked for", hint=f"{reference.container}KEY")
        version = pin.get("version-id", "")
        if pin and reference.digest and not reference.members and self._connection.answered(bucket):
            remote = self._remote(reference, bucket, key, version)
            return Found(reference, key.rpartition("/")[2], remote, digest=reference.digest, pin=dict(pin))
        found = self._head(bucket, key, version, reference)
        if found is None:
            hint = self._near(bucket, key, reference)
            raise SourceNotFoundError(f"{reference}: bucket {bucket} has no such object", hint=hint)
        return self._found(reference, bucket, found, name=key.rpartition("/")[2])

    def list(self, reference: Reference, pin: Mapping[str, str]) -> tuple[Found, ...]:
        """Every object below the prefix, by its path there; or the one object. A `pin` keeps what was locked."""
        bucket, key = _parts(reference)
        if key and not key.endswith("/"):
            single = self._head(bucket, key, pin.get("version-id", ""), reference)
            if single is not None:
                kept = Object(key, single.size) if pin and not single.version else single
                return (self._found(reference, bucket, kept, name=key.rpartition("/")[2]),)
            key += "/"
        objects = tuple(found for found in self._objects(bucket, key, reference) if not found.key.endswith("/"))
        if not objects:
            hint = self._near(bucket, key.rstrip("/"), reference)
            raise SourceNotFoundError(f"{reference}: bucket {bucket} has nothing there", hint=hint)
        if pin:  # a file that was locked stays as it is if no other pin is held against it
            objects = tuple(Object(found.key, found.size) for found in objects)
        else:
            objects = self._described(bucket, key, objects, reference)
        names = {found.key.removeprefix(key): found for found in objects}
        return tuple(
            self._found(reference.child(name), bucket, names[name], name=name)
            for name in sorted(names)
        )  # fmt: skip

    def _found(self, reference: Reference, bucket: str, found: Object, *, name: str) -> Found:
        remote = self._remote(reference, bucket, found.key, found.version)
        return Found(reference, name, remote, size=found.size, digest=found.digest, pin=found.pin)

    def _remote(self, reference: Reference, bucket: str, key: str, version: str) -> Remote:
        """Signed anew for each try: a run may last longer than a signature, or than its credentials."""
        sign = partial(self._connection.url, reference, bucket, key, version)
        return Remote(sign(), fresh=sign)

    def _head(self, bucket: str, key: str, version: str, reference: Reference) -> Object | None:
        named = {"Key": key} | ({"VersionId": version} if version else {})
        answer = self._connection.ask("head_object", reference, bucket, ChecksumMode="ENABLED", **named)
        return None if answer is None else Object.of_head(key, answer, reference, where=self._connection.where())

    def _described(
        self, bucket: str, prefix: str, objects: tuple[Object, ...], reference: Reference
    ) -> tuple[Object, ...]:
        """The objects with what the listing does not say: their versions, and their digests."""
        first = self._head(bucket, objects[0].key, "", reference)
        if first and first.version:
            objects = self._versions(bucket, prefix, reference) or objects
        jobs = [partial(self._with_digest, bucket, found, reference) for found in objects if found.has_sha256]
        digests = {found.key: found for found in together(jobs, threads=_CHECKSUMS, stop=lambda: None)}
        return tuple(digests.get(found.key, found) for found in objects)

    def _with_digest(self, bucket: str, found: Object, reference: Reference) -> Object:
        """The object with its digest, if it still is the one that was listed, and may be looked at."""
        try:
            seen = self._head(bucket, found.key, found.version, reference)
        except SourceDeniedError:
            return found
        return replace(found, digest=seen.digest) if seen is not None and found.is_as(seen) else found

    def _objects(self, bucket: str, prefix: str, reference: Reference) -> Iterator[Object]:
        for entries in self._pages("list_objects_v2", bucket, prefix, reference):
            where = self._connection.where()
            for entry in entries:
                yield Object.of_entry(entry, reference, where=where)

    def _versions(self, bucket: str, prefix: str, reference: Reference) -> tuple[Object, ...]:
        """The objects with their versions; none where listing them is not allowed."""
        where = self._connection.where()  # it answered before
        try:
            latest = [
                Object.of_entry(entry, reference, where=where)
                for entries in self._pages("list_object_versions", bucket, prefix, reference)
                for entry in entries
                if entry.get("IsLatest")
            ]
        except SourceDeniedError:
            return ()
        return tuple(found for found in latest if not found.key.endswith("/"))

    def _pages(
        self, operation: str, bucket: str, prefix: str, reference: Reference
    ) -> Iterator[Sequence[Mapping[str, Any]]]:
        """What a listing has, page by page; the answers of the two that there are differ in their names only."""
        count = 0
        follow: dict[str, str] = {}
        asked: list[dict[str, str]] = []
        while follow not in asked and len(asked) < MAXIMUM_PAGES:
            asked.append(follow)
            answer = self._connection.ask(operation, reference, bucket, Prefix=prefix, **follow) or {}
            entries = answer.get(LISTINGS[operation], ())
            yield entries
            count += len(entries)
            if count > MAXIMUM_OBJECTS:
                raise SourceError(f"{reference}: more than {MAXIMUM_OBJECTS} objects", hint="name a longer prefix")
            follow = following(operation, answer, reference)
            if not follow:
                return
        raise endless(reference)

    def _near(self, bucket: str, key: str, reference: Reference) -> str:
        folder = folder_of(key)
        try:
            answer = self._connection.ask("list_objects_v2", reference, bucket, Prefix=folder, MaxKeys=12) or {}
        except SourceDeniedError:
            return ""
        where = self._connection.where()
        names = [key_of(entry, reference, where=where) for entry in answer.get("Contents", ())]
        return near(names, folder=folder, place=bucket)


def _parts(reference: Reference) -> tuple[str, str]:
    """Bucket and key; the key is empty for a whole bucket."""
    bucket, key = split(
        reference,
        holder="bucket",
        example="s3://BUCKET/KEY or s3://BUCKET/PREFIX/",
        way_out="; an object with such a key must be copied",
    )
    if {".", ".."} & set(key.split("/")):
        raise ManifestError(
            f"{reference}: a part of it is '.' or '..', which a URL cannot keep",
            hint="write the key without it; an object that really has such a key must be copied to another",
        )
    return bucket, key
