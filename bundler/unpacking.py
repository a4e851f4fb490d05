"""The members of an archive, into the store in one pass over it: a compressed tar has no other way that is quick."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO

from bundler import encode
from bundler.sources import archive
from bundler.sources.reference import member_path
from manifests.digest import Digest
from manifests.store import Store


def unpack(
    whole: BinaryIO,
    inner: Sequence[str],
    store: Store,
    container: Digest,
    wanted: Callable[[str], bool],
    *,
    subject: str,
) -> tuple[str, ...]:
    """Every name below the folder or archive that `inner` leads to, sorted; what is `wanted` is in the store then.

    `whole` is the archive `container`. The store remembers each member that it takes, so that nobody opens the archive
    for it again. Errors: `SourceError` for a wanted member that is no regular file, or a damaged archive.
    """
    *outer, folder = inner if inner and inner[-1].endswith("/") else (*inner, "")
    spool: Path = store.path / "partial"
    names: list[str] = []
    with archive.walk(whole, outer, subject=subject, spool=spool) as entries:
        for entry in entries:
            if not entry.name.startswith(folder):
                continue
            names.append(entry.name.removeprefix(folder))
            if not wanted(names[-1]):
                continue
            with entry.open() as member:
                recipe = encode.add(store, member.stream, size=member.size, subject=f"{subject} {entry.name}")
            store.record_member(container, member_path((*outer, entry.name)), recipe.digest)
    return tuple(sorted(names))
