"""The record of which blob a member of an archive was: a file of the store that only saves work.

* It carries the member's own name, because the file's name is only a digest of that.
"""

import hashlib
from typing import Final

from manifests import canonical
from manifests.digest import Digest
from manifests.errors import FormatError

MAXIMUM_SIZE: Final = 64 << 10
"""Bytes of a record."""


def encode(member: str, digest: Digest) -> bytes:
    """The record of which blob `member` of an archive is."""
    return canonical.encode({"digest": str(digest), "member": member})


def decode(content: bytes, *, subject: str) -> tuple[str, Digest]:
    """The member and its blob. Errors: `FormatError`."""
    value = canonical.decode(content, limit=MAXIMUM_SIZE, subject=subject)
    member, digest = (value.get("member"), value.get("digest")) if isinstance(value, dict) else (None, None)
    if not isinstance(member, str) or not isinstance(digest, str):
        raise FormatError(f"{subject}: not the record of a member")
    return member, Digest.parse(digest)


def name_of(member: str) -> str:
    """The name of a member's record."""
    return hashlib.sha256(member.encode()).hexdigest()
