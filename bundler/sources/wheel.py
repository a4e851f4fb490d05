"""The METADATA of a wheel, taken out of it within bounds: for its licences, and for what it requires."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

from bundler.licenses import MAXIMUM_METADATA
from bundler.sources import archive
from bundler.sources.archive import Member
from manifests.errors import SourceError

METADATA: Final = ".dist-info/METADATA"
"""How its name ends; and how the store remembers it among the members of a wheel."""


@contextmanager
def open_metadata(wheel: BinaryIO, *, subject: str, spool: Path) -> Iterator[tuple[str, Member]]:
    """The full name of METADATA and its open member. Errors: `SourceError` if there is none, or too much of it."""
    name = archive.find_name(wheel, METADATA, subject=subject)
    if name is None:
        raise SourceError(f"{subject} is not a wheel: it has no METADATA")
    with archive.open_member(wheel, [name], subject=subject, spool=spool) as member:
        if member.size > MAXIMUM_METADATA:
            raise SourceError(f"{subject}: its METADATA has {member.size} bytes")
        yield name, member
