"""A kit whose files are in the store: read and checked before a lock names it, and again before a bundle carries it."""

from collections.abc import Sequence

from manifests import kit
from manifests.errors import FormatError, ManifestError
from manifests.kit import DESCRIPTION, SUMS, Kit
from manifests.lock import LockedFile
from manifests.store import Store


def read(files: Sequence[LockedFile], store: Store, *, subject: str) -> Kit:
    """The kit that `files` are: every file is the one that `SHA256SUMS` names, and no other is there.

    Errors: `ManifestError` that begins with `subject`; `CorruptStoreError` where the store lacks one of the two.
    """
    digests = {file.path: file.digest for file in files}
    for name in (DESCRIPTION, SUMS):
        if name not in digests:
            raise ManifestError(f"{subject} is no kit: it has no {name}", hint="`bundle kit -o DIR` makes one")
    try:
        return kit.check(
            digests,
            description=store.read_whole(digests[DESCRIPTION], limit=kit.MAXIMUM_DESCRIPTION),
            sums=store.read_whole(digests[SUMS], limit=kit.MAXIMUM_SUMS),
            subject=subject,
        )
    except FormatError as error:
        raise ManifestError(error.message, hint=error.hint or "make the kit anew: `bundle kit -o DIR`") from error
