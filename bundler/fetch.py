"""Downloads that survive: resumed after a kill at any byte, tried again when broken off, read as they come.

* What was resumed and then has a wrong digest is asked for once more, whole, before it is called wrong.
* One process at a time: what was fetched stays locked until its owner has taken it (`Fetched`), so that nobody writes
  what another one reads.
* Hashing, and whatever else a reader does, goes on beside the download, in a thread of its own (`following`).
"""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, overload

from bundler.fetching.asking import Asking, Ranges, Request
from bundler.fetching.claims import Claim
from bundler.fetching.following import Follower, Hashed, R, Reader, hashed
from bundler.fetching.partial import Partial, Version
from bundler.fetching.room import check_room
from bundler.fetching.transfer import Transfer, Whole
from bundler.http import Client
from manifests.digest import Digest
from manifests.errors import BusyError, DigestMismatchError
from manifests.progress import Reporter

__all__ = [
    "Claim",
    "Fetched",
    "Ranges",
    "Reader",
    "Request",
    "Version",
    "check_room",
    "download",
    "forget_finished",
    "is_claimed",
]


@dataclass(frozen=True, slots=True)
class Fetched(Generic[R]):
    """A whole file at `path`, and what its reader gave.

    Nobody else writes there until its owner calls `claim.discard`, or `claim.release` to keep it.
    """

    path: Path
    size: int
    version: Version
    read: R
    claim: Claim

    @property
    def digest(self) -> Digest:
        """Of the whole file."""
        return self.read.digest


@overload
def download(client: Client, request: Request, reporter: Reporter) -> Fetched[Hashed]: ...
@overload
def download(client: Client, request: Request, reporter: Reporter, reader: Reader[R]) -> Fetched[R]: ...
def download(client: Client, request: Request, reporter: Reporter, reader: Reader[Any] = hashed) -> Fetched[Any]:
    """The file that `request` names, whole and with its digest compared; its claim is the caller's to end.

    `reader` gets it as a stream while it comes, with its size, in another thread; it may be called anew when the
    download starts over, and says with a `DigestMismatchError` what is not as promised. Without one, only the digest is
    made.

    Errors: `DigestMismatchError`, `SourceUnreachableError` (what came is kept), other `SourceError`; `BusyError` while
    another process has the same download; `DiskFullError` before the first byte if there is no room; the reader's own.
    """
    partial = Partial(request.target)
    claim = Claim.take(partial.lock, partial.forget, subject=request.subject)
    asking = Asking(client, request, reporter)
    follower = Follower(request.target, reader, asking.check_running)
    try:
        whole, read = _persisted(asking, Transfer(asking, partial, follower), follower)
    except _WrongError as wrong:
        claim.discard()
        raise wrong.error from None
    except BaseException:
        claim.release()
        raise
    finally:
        follower.abandon()
        reporter.finished(request.subject)
    return Fetched(request.target, whole.size, whole.version, read, claim)


def forget_finished(target: Path) -> None:
    """Remove what an earlier run left of a download that nobody needs any more, unless another process is at it."""
    partial = Partial(target)
    if partial.exists():
        with suppress(BusyError):
            Claim.take(partial.lock, partial.forget, subject=target.name).discard()


def is_claimed(target: Path) -> bool:
    """Whether another process is downloading to `target` at this moment."""
    partial = Partial(target)
    try:
        Claim.take(partial.lock, partial.forget, subject=target.name).release()
    except BusyError:
        return True
    return False


class _WrongError(Exception):
    """What came is not what was promised, and no other try would help. Never leaves `download`."""

    def __init__(self, error: DigestMismatchError) -> None:
        self.error = error
        super().__init__(str(error))


def _persisted(asking: Asking, transfer: Transfer, follower: Follower[R]) -> tuple[Whole, R]:
    """Two rounds at most: the second one only if the first was put together out of several attempts."""
    while True:
        whole = asking.client.persist(transfer.attempt, subject=asking.request.subject)
        try:
            return whole, _compared(follower.end(whole.size), asking.request)
        except DigestMismatchError as error:
            if transfer.is_last_round or not transfer.resumed:
                raise _WrongError(error) from error
        transfer.begin_last_round()


def _compared(read: R, request: Request) -> R:
    if request.digest is not None and read.digest != request.digest:
        raise DigestMismatchError(subject=request.subject, expected=request.digest, actual=read.digest)
    return read
