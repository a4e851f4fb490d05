"""Whether one file of a store is what it was: why not, in words, or nothing.

Each of these reads one file, and holds no more of it than the file may be long.
"""

from collections.abc import Callable
from pathlib import Path

from bundler.housekeeping import known
from bundler.housekeeping.shelf import Entry
from manifests import chunk_file, index, member_record
from manifests.digest import ChunkAlgorithm
from manifests.errors import BundleError, CorruptStoreError, FormatError, StorageError, UnsupportedFormatError
from manifests.recipe import Recipe
from manifests.store import is_lost, read_file, read_recipe


def read_chunk(path: Path, algorithm: ChunkAlgorithm, digest: bytes) -> bytes:
    """The raw bytes of a chunk, encoded and raw digest compared. Errors: `CorruptStoreError`, also for unreadable."""
    head, encoded = chunk_file.decode(_content(path), algorithm)
    return chunk_file.raw(head, encoded, algorithm, digest)


def check_encoded(path: Path, algorithm: ChunkAlgorithm) -> None:
    """Compare the digest of the encoded bytes alone. Errors: as `read_chunk`."""
    chunk_file.decode(_content(path), algorithm)


def read_whole_recipe(entry: Entry) -> Recipe:
    """A recipe that is the one its name says. Errors: `CorruptStoreError`, also for unreadable."""
    try:
        found = read_recipe(entry.path)
    except OSError as error:
        raise _unread(entry.path, error) from error
    if found.digest.hex != entry.name:
        raise CorruptStoreError("it is another recipe than its name says")
    return found


def wrong_member(path: Path) -> str:
    """What is wrong with the record of an archive's member."""

    def check() -> None:
        member, _ = member_record.decode(read_file(path, limit=member_record.MAXIMUM_SIZE), subject="it")
        if member_record.name_of(member) != path.name:
            raise FormatError("it is another record than its name says")

    return _reason(check)


def wrong_index(path: Path) -> str:
    """What is wrong with a kept index. One that a newer program wrote is not judged."""

    def check() -> None:
        if index.decode(read_file(path, limit=index.MAXIMUM_SIZE)).content_digest.hex != path.name:
            raise FormatError("it is another index than its name says")

    return _reason(check)


def wrong_lock(path: Path) -> str:
    """What is wrong with the record of a lock. One that a newer program wrote is not judged."""
    return _reason(lambda: known.check(path))


def _content(path: Path) -> bytes:
    try:
        return read_file(path, limit=chunk_file.MAXIMUM_SIZE)
    except FileNotFoundError as error:
        raise CorruptStoreError("it is missing") from error
    except OSError as error:
        raise _unread(path, error) from error


def _reason(check: Callable[[], object]) -> str:
    try:
        check()
    except UnsupportedFormatError:
        return ""
    except BundleError as error:
        return error.message
    except FileNotFoundError:  # removed at this moment
        return ""
    except OSError as error:
        if not is_lost(error):
            raise _unread(None, error) from error
        return _told(error)
    return ""


def _unread(path: Path | None, error: OSError) -> StorageError:
    """A file that only this user, or this moment, cannot read is not damaged: nothing may be removed for that."""
    if is_lost(error):
        return CorruptStoreError(_told(error))
    return StorageError(f"{path or error.filename}: {error.strerror}", hint="run as the owner of the store")


def _told(error: OSError) -> str:
    return f"it cannot be read: {error.strerror}"
