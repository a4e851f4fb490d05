"""What S3 says of objects: its answers as checked values, and nothing that asks.

* An answer that is not S3's (a login page, a broken listing) is told as that.
* A digest is that of the whole object, or there is none: a checksum of the checksums of parts is no digest.
* A listing that breaks off is an error, never a shorter listing.
"""

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

from bundler.sources.prefixes import pin_of
from bundler.sources.reference import Reference
from manifests.digest import Digest
from manifests.errors import SourceError

LISTINGS: Final = {"list_objects_v2": "Contents", "list_object_versions": "Versions"}
"""Where the answer of each listing has its entries."""
GARBLED: Final = "Garbled"
"""Marks an answer of status 200 that botocore takes for one of 500, because it is not XML."""
_LISTING: Final = re.compile(rb"\s*(?:<\?xml[^>]{0,200}>\s*)?<(?:\w+:)?(?:List\w*Result|Error)[\s/>]")
"""How the body of an answer begins: some servers name both listings alike."""
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
_NO_VERSION: Final = "null"
_COMPOSITE: Final = "COMPOSITE"
_FOREIGN: Final = "is AWS_ENDPOINT_URL the address of an S3 server, and does no login page answer for it?"


@dataclass(frozen=True, slots=True)
class Object:
    """An object as its bucket describes it. `has_sha256` says that the bucket has a SHA-256 of it, to be asked for."""

    key: str
    size: int
    etag: str = ""
    version: str = ""
    digest: Digest | None = None
    has_sha256: bool = False

    @classmethod
    def of_entry(cls, entry: Mapping[str, Any], reference: Reference, *, where: str) -> Self:
        """One entry of a listing."""
        algorithms = entry.get("ChecksumAlgorithm") or ()
        return cls(
            key_of(entry, reference, where=where),
            _size(entry, "Size", reference),
            str(entry.get("ETag", "")),
            _version(entry),
            has_sha256="SHA256" in algorithms and entry.get("ChecksumType") != _COMPOSITE,
        )

    @classmethod
    def of_head(cls, key: str, answer: Mapping[str, Any], reference: Reference, *, where: str) -> Self:
        """The answer to a question for one object."""
        if not answer.get("ETag") and str(answer.get("ContentType", "")).startswith("text/html"):
            raise foreign(reference, where=where)
        size, etag = _size(answer, "ContentLength", reference), str(answer.get("ETag", ""))
        return cls(key, size, etag, _version(answer), _digest(answer))

    @property
    def pin(self) -> dict[str, str]:
        """For the lock."""
        return pin_of(etag=self.etag, version=self.version)

    def is_as(self, other: "Object") -> bool:
        """Whether `other` describes the same bytes, as far as both say."""
        return (self.size, self.etag, self.version or other.version) == (other.size, other.etag, other.version)


def foreign(reference: Reference, *, where: str) -> SourceError:
    """The error for an answer that does not come from an S3 server."""
    return SourceError(f"{reference}: the answer of {where} is not S3's", hint=_FOREIGN)


def endless(reference: Reference) -> SourceError:
    """The error for a listing that goes on for ever."""
    return SourceError(f"{reference}: the endpoint's listing does not end", hint=_FOREIGN)


def key_of(entry: Mapping[str, Any], reference: Reference, *, where: str) -> str:
    """The key of an entry of a listing."""
    key = entry.get("Key")
    if not isinstance(key, str) or not key:
        raise foreign(reference, where=where)
    return key


def following(operation: str, answer: Mapping[str, Any], reference: Reference) -> dict[str, str]:
    """What asks for the next page of a listing; empty behind the last."""
    if not answer.get("IsTruncated"):
        return {}
    if operation == "list_object_versions":
        named = {"KeyMarker": answer.get("NextKeyMarker"), "VersionIdMarker": answer.get("NextVersionIdMarker")}
    else:
        named = {"ContinuationToken": answer.get("NextContinuationToken")}
    asked = {name: value for name, value in named.items() if value}
    if next(iter(named)) not in asked:
        raise SourceError(f"{reference}: the endpoint's listing breaks off: it has more, and does not say from where")
    return asked


def check_body(response_dict: Mapping[str, Any], customized_response_dict: dict[str, Any], **_: object) -> None:
    """Called by botocore with the answer to a listing, before it makes an error 500 of one that is not XML."""
    if response_dict["status_code"] != 200:
        return
    body = response_dict["body"]
    if not _LISTING.match(body.removeprefix(_BYTE_ORDER_MARK)):
        raise ValueError("not a listing")
    customized_response_dict[GARBLED] = b"<Error" not in body[:500]


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
    if "-" in text or answer.get("ChecksumType") == _COMPOSITE:
        return None
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    return Digest(raw) if len(raw) == 32 else None
