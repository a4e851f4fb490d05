"""Buckets that speak S3: `s3://BUCKET/KEY` is one object, `s3://BUCKET/PREFIX/` every object below it.

Owns listing, credentials and signing, by boto3 and so by its rules (AWS_* variables, profiles, roles); the bytes come
by the ordinary client through a signed URL, which lives for one run and is in no message, log or lock.
* Without a slash at its end, an object of that name wins over a prefix.
* Where there are no credentials, nothing is signed.
* The pin is the object's version where the bucket keeps versions, and its ETag: one only says whether to look again.
* What was locked out of a prefix stays as it was locked until an upgrade is asked for, whatever lies there now.
* Every listing has a bound, in objects and in pages; one that breaks off is an error, never a shorter listing.
* An answer that is not S3's (a login page, a broken listing) is told as that.
"""

import base64
import binascii
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock
from typing import Any, Final

from bundler.settings import Settings
from bundler.sources.base import Found, Remote
from bundler.sources.reference import Reference, unescape
from bundler.sources.urls import host_of
from manifests.digest import Digest
from manifests.errors import (
    ManifestError,
    MissingExtraError,
    SourceDeniedError,
    SourceError,
    SourceNotFoundError,
    SourceUnreachableError,
    listing,
    printable,
)  # fmt: skip

MAXIMUM_OBJECTS: Final = 100_000
"""Objects below a prefix."""
MAXIMUM_PAGES: Final = 1_000
"""Pages of one listing: some servers give less than the usual 1000 objects in each, and an empty one counts too."""
_MAXIMUM_PAGE: Final = 16 * 1024**2
"""Bytes of a page that are parsed: 1000 of the longest keys are 4 MiB."""
_EXPIRES: Final = 12 * 3600
"""Seconds that a signed URL is good for: a slow download is resumed by the next run with a new one."""
_ATTEMPTS: Final = 4
_DENIED: Final = frozenset({401, 403})
_NO_VERSION: Final = "null"
_ENTRIES: Final = {"list_objects_v2": "Contents", "list_object_versions": "Versions"}
"""Where the answer of each listing has its entries."""
_LISTING: Final = re.compile(rb"\s*(?:<\?xml[^>]{0,200}>\s*)?<(?:\w+:)?(?:List\w*Result|Error)[\s/>]")
"""How the body of an answer begins: some servers name both listings alike."""
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
_GARBLED: Final = "Garbled"
"""Marks an answer of status 200 that botocore takes for one of 500, because it is not XML."""
_FOREIGN: Final = "is AWS_ENDPOINT_URL the address of an S3 server, and does no login page answer for it?"
_CREDENTIALS: Final = "credentials come from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or from AWS_PROFILE"


@dataclass(frozen=True, slots=True)
class _Object:
    """An object as its bucket describes it."""

    key: str
    size: int
    etag: str = ""
    version: str = ""
    digest: Digest | None = None

    @property
    def pin(self) -> dict[str, str]:
        named = {"etag": self.etag, "version-id": self.version}
        return {name: value for name, value in named.items() if value}


class BucketSource:
    """The buckets of AWS, or of the endpoint that the settings name."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._guard = Lock()
        self._session: Any = None
        self._clients: dict[str, Any] = {}
        self._regions: dict[str, str] = {}
        self._signs = True

    def find(self, reference: Reference, pin: Mapping[str, str]) -> Found:
        """The object; one pinned by its version as it was then.

        Errors: `SourceNotFoundError` names what lies near; `SourceDeniedError`; `SourceUnreachableError`.
        """
        bucket, key = _parts(reference)
        if not key or key.endswith("/"):
            raise ManifestError(f"{reference} is a prefix, and a file is asked for", hint=f"{reference.container}KEY")
        found = self._head(bucket, key, pin.get("version-id", ""), reference)
        if found is None:
            near = self._near(bucket, key, reference)
            raise SourceNotFoundError(f"{reference}: bucket {bucket} has no such object", hint=near)
        return self._found(reference, bucket, found, name=key.rpartition("/")[2])

    def list(self, reference: Reference, pin: Mapping[str, str]) -> tuple[Found, ...]:
        """Every object below the prefix, by its path there; or the one object. A `pin` keeps what was locked."""
        bucket, key = _parts(reference)
        if key and not key.endswith("/"):
            single = self._head(bucket, key, pin.get("version-id", ""), reference)
            if single is not None:
                kept = _Object(key, single.size) if pin and not single.version else single
                return (self._found(reference, bucket, kept, name=key.rpartition("/")[2]),)
            key += "/"
        objects = tuple(found for found in self._objects(bucket, key, reference) if not found.key.endswith("/"))
        if not objects:
            near = self._near(bucket, key.rstrip("/"), reference)
            raise SourceNotFoundError(f"{reference}: bucket {bucket} has nothing there", hint=near)
        if pin:  # a file that was locked stays as it is if no other pin is held against it
            objects = tuple(_Object(found.key, found.size) for found in objects)
        elif self._keeps_versions(bucket, objects[0], reference):
            objects = self._versions(bucket, key, reference) or objects
        names = {found.key.removeprefix(key): found for found in objects}
        return tuple(
            self._found(reference.child(name), bucket, names[name], name=name)
            for name in sorted(names)
        )  # fmt: skip

    def _found(self, reference: Reference, bucket: str, found: _Object, *, name: str) -> Found:
        named = {"Bucket": bucket, "Key": found.key} | ({"VersionId": found.version} if found.version else {})
        with self._translated(reference, bucket):
            url = self._client(bucket).generate_presigned_url("get_object", Params=named, ExpiresIn=_EXPIRES)
        return Found(reference, name, Remote(url), size=found.size, digest=found.digest, pin=found.pin)

    def _head(self, bucket: str, key: str, version: str, reference: Reference) -> _Object | None:
        named = {"Bucket": bucket, "Key": key} | ({"VersionId": version} if version else {})
        answer = self._ask("head_object", reference, bucket, ChecksumMode="ENABLED", **named)
        if answer is None:
            return None
        if not answer.get("ETag") and str(answer.get("ContentType", "")).startswith("text/html"):
            raise self._foreign(reference)
        return _Object(
            key,
            _size(answer, "ContentLength", reference),
            str(answer.get("ETag", "")),
            _version(answer),
            _digest(answer),
        )

    def _keeps_versions(self, bucket: str, first: _Object, reference: Reference) -> bool:
        answer = self._ask("head_object", reference, bucket, Bucket=bucket, Key=first.key)
        return bool(answer and _version(answer))

    def _objects(self, bucket: str, prefix: str, reference: Reference) -> Iterator[_Object]:
        for entries in self._pages("list_objects_v2", bucket, prefix, reference):
            for entry in entries:
                yield _Object(self._key(entry, reference), _size(entry, "Size", reference), str(entry.get("ETag", "")))

    def _versions(self, bucket: str, prefix: str, reference: Reference) -> tuple[_Object, ...]:
        """The objects with their versions; none where listing them is not allowed."""
        try:
            return tuple(
                _Object(key, _size(entry, "Size", reference), str(entry.get("ETag", "")), _version(entry))
                for entries in self._pages("list_object_versions", bucket, prefix, reference)
                for entry in entries
                if entry.get("IsLatest") and not (key := self._key(entry, reference)).endswith("/")
            )
        except SourceDeniedError:
            return ()

    def _pages(
        self, operation: str, bucket: str, prefix: str, reference: Reference
    ) -> Iterator[Sequence[Mapping[str, Any]]]:
        """What a listing has, page by page; the answers of the two that there are differ in their names only."""
        count = 0
        following: dict[str, str] = {}
        asked: list[dict[str, str]] = []
        while following not in asked and len(asked) < MAXIMUM_PAGES:
            asked.append(following)
            answer = self._ask(operation, reference, bucket, Bucket=bucket, Prefix=prefix, **following) or {}
            entries = answer.get(_ENTRIES[operation], ())
            yield entries
            count += len(entries)
            _bounded(count, reference)
            following = _following(operation, answer, reference)
            if not following:
                return
        raise SourceError(f"{reference}: the endpoint's listing does not end", hint=_FOREIGN)

    def _near(self, bucket: str, key: str, reference: Reference) -> str:
        folder = key.rpartition("/")[0]
        named = {"Bucket": bucket, "Prefix": f"{folder}/" if folder else "", "MaxKeys": 12}
        try:
            answer = self._ask("list_objects_v2", reference, bucket, **named) or {}
        except SourceDeniedError:
            return ""
        names = [self._key(entry, reference) for entry in answer.get("Contents", ())]
        return f"there are: {printable(listing(names))}" if names else f"nothing is below {printable(folder) or bucket}"

    def _ask(self, operation: str, reference: Reference, bucket: str, **named: object) -> dict[str, Any] | None:
        """The answer to one question; None where there is no such object."""
        try:
            from botocore.exceptions import ClientError  # noqa: PLC0415 - boto3 is slow
        except ModuleNotFoundError as error:
            raise MissingExtraError("boto3", "build") from error
        with self._translated(reference, bucket):
            client = self._client(bucket)
            try:
                with self._understood(reference):
                    answer: dict[str, Any] = getattr(client, operation)(**named)
            except ClientError as error:
                code = str(error.response.get("Error", {}).get("Code", ""))
                if _status(error) == 404 and code != "NoSuchBucket":
                    return None
                raise
        headers = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {})
        if region := headers.get("x-amz-bucket-region"):
            self._regions[bucket] = region
        return answer

    def _client(self, bucket: str) -> Any:
        """A client for the region where the bucket is said to be: a signature is for one region."""
        with self._guard:
            region = self._regions.get(bucket, "")
            if region not in self._clients:
                self._clients[region] = self._connect(region)
            return self._clients[region]

    def _connect(self, region: str) -> Any:
        import boto3  # noqa: PLC0415 - boto3 is slow to import
        from botocore import UNSIGNED  # noqa: PLC0415
        from botocore.config import Config  # noqa: PLC0415

        patience, certificates = self._settings.patience, self._settings.certificates
        if self._session is None:
            self._session = boto3.Session()
        self._signs = self._session.get_credentials() is not None
        client = self._session.client(
            "s3",
            region_name=region or None,
            endpoint_url=self._settings.buckets.endpoint,
            verify=str(certificates) if certificates else None,
            config=Config(
                signature_version="s3v4" if self._signs else UNSIGNED,
                connect_timeout=patience.connect,
                read_timeout=patience.stall,
                retries={"total_max_attempts": min(_ATTEMPTS, patience.attempts), "mode": "standard"},
            ),
        )
        for operation in ("ListObjectsV2", "ListObjectVersions"):
            client.meta.events.register_first(f"before-parse.*.{operation}", _check_body)  # runs before that of `s3.*`
        return client

    @contextmanager
    def _understood(self, reference: Reference) -> Iterator[None]:
        """What botocore's parser stumbles over in an answer, as an error of the source."""
        from botocore.exceptions import BotoCoreError  # noqa: PLC0415 - boto3 is slow to import
        from botocore.parsers import ResponseParserError  # noqa: PLC0415

        try:
            yield
        except BotoCoreError:  # some are a ValueError too
            raise
        except (ResponseParserError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise self._foreign(reference) from error

    def _foreign(self, reference: Reference) -> SourceError:
        return SourceError(f"{reference}: the answer of {self._where()} is not S3's", hint=_FOREIGN)

    def _key(self, entry: Mapping[str, Any], reference: Reference) -> str:
        key = entry.get("Key")
        if not isinstance(key, str) or not key:
            raise self._foreign(reference)
        return key

    @contextmanager
    def _translated(self, reference: Reference, bucket: str) -> Iterator[None]:
        """What boto3 raises, as an error of the source, in words that quote no credential."""
        from botocore import exceptions  # noqa: PLC0415 - boto3 is slow to import

        try:
            yield
        except exceptions.ClientError as error:
            raise self._refusal(error, reference, bucket) from error
        except exceptions.ParamValidationError as error:
            raise ManifestError(f"{reference}: {bucket!r} cannot be the name of a bucket") from error
        except exceptions.SSLError as error:
            raise SourceUnreachableError(
                f"{reference}: no TLS connection to {self._where()}",
                hint="for a CA of your own, name its certificates in REQUESTS_CA_BUNDLE or SSL_CERT_FILE",
            ) from error
        except (exceptions.HTTPClientError, exceptions.ConnectionError, exceptions.EndpointConnectionError) as error:
            raise SourceUnreachableError(
                f"{reference}: no answer from {self._where()}",
                hint="AWS_ENDPOINT_URL names an endpoint other than that of AWS; what was fetched is kept",
            ) from error
        except (
            exceptions.ProfileNotFound, exceptions.NoCredentialsError, exceptions.PartialCredentialsError,
            exceptions.CredentialRetrievalError, exceptions.TokenRetrievalError, exceptions.SSOError,
            exceptions.UnauthorizedSSOTokenError,
        ) as error:  # fmt: skip
            told = f"{reference}: the credentials cannot be had ({type(error).__name__})"
            raise SourceDeniedError(told, hint=_CREDENTIALS) from error
        except exceptions.BotoCoreError as error:
            raise SourceError(f"{reference}: {type(error).__name__} from the S3 client") from error
        except ValueError as error:  # its words quote the URL of a profile's endpoint
            hint = "look at AWS_ENDPOINT_URL, AWS_REGION and the endpoint_url of the profile"
            raise SourceError(f"{reference}: the S3 client cannot use its settings", hint=hint) from error

    def _refusal(self, error: Any, reference: Reference, bucket: str) -> SourceError:
        """The error for an answer that is none."""
        status, code = _status(error), printable(str(error.response.get("Error", {}).get("Code", "")))[:60]
        if error.response.get(_GARBLED):
            return self._foreign(reference)
        if code == "NoSuchBucket":
            return SourceNotFoundError(f"{reference}: {self._where()} has no bucket {bucket}")
        told = f"{reference}: {self._where()} answered {status}" + (f" ({code})" if not code.isdecimal() else "")
        if status >= 500 or code in {"SlowDown", "RequestTimeout"}:
            return SourceUnreachableError(told, hint="try again later: what was fetched is kept")
        if code == "RequestTimeTooSkewed":
            return SourceDeniedError(told, hint="set the clock of this machine: signatures name the time")
        expired = code in {"ExpiredToken", "InvalidToken", "TokenRefreshRequired"}
        if status in _DENIED or expired or (status == 400 and not self._signs):  # some call the missing signature bad
            held = "" if self._signs else "no credentials were found, so nothing was signed; "
            return SourceDeniedError(told, hint=held + _CREDENTIALS)
        return SourceError(told, hint="AWS_REGION names the bucket's region" if status in {301, 400} else "")

    def _where(self) -> str:
        endpoint = self._settings.buckets.endpoint
        return host_of(endpoint) if endpoint else "the S3 endpoint"


def _parts(reference: Reference) -> tuple[str, str]:
    """Bucket and key; the key is empty for a whole bucket."""
    bucket, _, key = unescape(reference.location).partition("/")
    if not bucket:
        raise ManifestError(f"{reference} names no bucket", hint="s3://BUCKET/KEY or s3://BUCKET/PREFIX/")
    if "//" in f"/{key}":
        raise ManifestError(
            f"{reference}: an empty name between two slashes",
            hint="one slash each: s3://BUCKET/KEY or s3://BUCKET/PREFIX/",
        )
    return bucket, key


def _check_body(response_dict: Mapping[str, Any], customized_response_dict: dict[str, Any], **_: object) -> None:
    """Called by botocore with the answer to a listing, before it makes an error 500 of one that is not XML."""
    if response_dict["status_code"] != 200:
        return
    body = response_dict["body"]
    if len(body) > _MAXIMUM_PAGE or not _LISTING.match(body.removeprefix(_BYTE_ORDER_MARK)):
        raise ValueError("not a listing")
    customized_response_dict[_GARBLED] = b"<Error" not in body[:500]


def _status(error: Any) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _following(operation: str, answer: Mapping[str, Any], reference: Reference) -> dict[str, str]:
    """What asks for the next page of a listing; empty behind the last."""
    if not answer.get("IsTruncated"):
        return {}
    if operation == "list_object_versions":
        named = {"KeyMarker": answer.get("NextKeyMarker"), "VersionIdMarker": answer.get("NextVersionIdMarker")}
    else:
        named = {"ContinuationToken": answer.get("NextContinuationToken")}
    following = {name: value for name, value in named.items() if value}
    if next(iter(named)) not in following:
        raise SourceError(f"{reference}: the endpoint's listing breaks off: it has more, and does not say from where")
    return following


def _size(answer: Mapping[str, Any], key: str, reference: Reference) -> int:
    size = answer.get(key)
    if not isinstance(size, int) or size < 0:
        raise SourceError(f"{reference}: the bucket gives no size for it")
    return size


def _version(answer: Mapping[str, Any]) -> str:
    version = str(answer.get("VersionId") or "")
    return "" if version == _NO_VERSION else version


def _digest(answer: Mapping[str, Any]) -> Digest | None:
    """The SHA-256 of the whole object, where it was uploaded with one; of parts it says nothing."""
    text = str(answer.get("ChecksumSHA256") or "")
    if "-" in text or answer.get("ChecksumType") == "COMPOSITE":
        return None
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    return Digest(raw) if len(raw) == 32 else None


def _bounded(count: int, reference: Reference) -> None:
    if count > MAXIMUM_OBJECTS:
        raise SourceError(f"{reference}: more than {MAXIMUM_OBJECTS} objects", hint="name a longer prefix")
