"""One blob on its way into a registry: in pieces, so that a connection that breaks costs one of them.

* Every byte is hashed before it is sent, and nothing is committed whose bytes are not those that name it.
* After a break the registry is asked how much it has. One that cannot say, or takes no pieces, gets the blob anew; so
  does Docker's own, which gives up an upload whose connection broke within a piece.
* A mebibyte is all that is held in memory: what a break asks for again is read again.
"""

import hashlib
import re
from collections import deque
from collections.abc import Callable, Iterator
from typing import Final, Protocol
from urllib.parse import urlencode, urlsplit

from bundler.http import BrokenOffError, Content
from bundler.registry.transport import Answer, Repository
from manifests.digest import Digest
from manifests.errors import DamagedError
from manifests.progress import Reporter
from manifests.wrapper import Part

PIECE: Final = 16 << 20
_MAXIMUM_PIECE: Final = 64 << 20
"""What no registry can make it: a break would cost too much."""
_READ: Final = 1 << 20
_RANGE: Final = re.compile(r"(?:bytes=)?0-(?P<last>[0-9]+)")
_BEGUN: Final = frozenset({202})
_TAKEN: Final = frozenset({201, 202, 204})
_STATED: Final = frozenset({200, 202, 204})
_COMMITTED: Final = frozenset({200, 201, 204})
_LOST: Final = frozenset({400, 404, 405, 409, 410, 416})
_NO_PIECES: Final = frozenset({400, 404, 405, 409, 410, 411, 413, 415, 416})


class Reading(Protocol):
    """Gives `length` bytes of the blob from `offset` on."""

    def __call__(self, offset: int, length: int, /) -> bytes:
        """Exactly these bytes."""


class Upload:
    """A blob that is sent. `attempt` goes on where the last one ended."""

    def __init__(
        self, repository: Repository, blob: Part, read: Reading, reporter: Reporter, *, subject: str, piece: int = PIECE
    ) -> None:
        self._repository = repository
        self._blob = blob
        self._read = read
        self._reporter = reporter
        self._subject = subject
        self._size = piece
        self._takes_pieces = True
        self._furthest = 0
        self._reset()

    def run(self) -> bool:
        """Send the blob. False if the registry had it. Errors: `SourceError` and its kinds; `DamagedError`."""
        if self._repository.has(self._blob, subject=self._subject):
            return False
        self._reporter.started(self._subject, self._blob.size)
        try:
            self._repository.client.persist(self._attempt, subject=self._subject)
        finally:
            self._reporter.finished(self._subject)
        return True

    def _reset(self) -> None:
        self._location: str | None = None
        self._start = 0
        """Where the piece begins that is on its way; `_hasher` has seen what is before it."""
        self._sent = 0
        self._hasher = self._read_hasher = hashlib.sha256()
        self._is_doubtful = False

    @property
    def _is_whole(self) -> bool:
        """Whether it goes in one body."""
        return self._blob.size <= self._size or not self._takes_pieces

    @property
    def _end(self) -> int:
        """Where the piece ends that is on its way."""
        return min(self._start + self._size, self._blob.size)

    def _attempt(self) -> None:
        """One run at it. Errors: `BrokenOffError`; it counts as progress only beyond the furthest byte so far."""
        before = self._furthest
        try:
            if self._is_doubtful:
                self._look_again()
            self._send()
        except BrokenOffError as broken:
            self._is_doubtful = True
            raise BrokenOffError(broken.reason, wait=broken.wait, progressed=self._furthest > before) from broken

    def _send(self) -> None:
        if self._is_doubtful and self._location is None and self._repository.has(self._blob, subject=self._subject):
            return  # the answer to its last byte was lost, and nothing else
        self._is_doubtful = False
        while not self._is_sent():
            self._reset()
            self._takes_pieces = False

    def _is_sent(self) -> bool:
        """Begin or go on, to the end. False if the registry takes no pieces."""
        if self._location is None:
            begun = self._ask("POST", f"{self._repository.base}/blobs/uploads/", accepted=_BEGUN)
            self._location = begun.location(subject=self._subject)
            self._size = _piece_size(begun, self._size)
        while not self._is_whole and self._start < self._blob.size:
            if not self._send_piece():
                return False
        self._commit(whole=self._is_whole)
        return True

    def _send_piece(self) -> bool:
        """The next piece, or the rest of one. False if the registry takes none."""
        start, end = self._sent, self._end
        if start == end:  # only the answer was lost
            deque(self._bytes(end), maxlen=0)
        else:
            answer = self._ask(
                "PATCH",
                self._place(),
                headers={"Content-Range": f"{start}-{end - 1}", "Content-Length": str(end - start)},
                content=lambda: self._bytes(end),
                accepted=_TAKEN | _NO_PIECES,
            )
            if answer.status in _NO_PIECES:
                return False
            self._location = answer.location(subject=self._subject)
            self._advance(end)
        self._start, self._hasher = end, self._read_hasher
        return True

    def _commit(self, *, whole: bool) -> None:
        url = self._place()
        place = urlsplit(url)
        query = "&".join(part for part in (place.query, urlencode({"digest": str(self._blob.digest)})) if part)
        answer = self._repository.ask_once(
            "PUT",
            place._replace(query=query).geturl(),
            subject=self._subject,
            headers={"Content-Length": str(self._blob.size)} if whole else None,
            content=(lambda: self._bytes(self._blob.size)) if whole else bytes,
            accepted=_COMMITTED if whole else _COMMITTED | _LOST,
        )
        if answer.status in _LOST:
            self._reset()
            self._takes_pieces = False
            raise BrokenOffError(f"{self._repository.address.host} does not take together what came in pieces")
        if whole:
            self._advance(self._blob.size)

    def _bytes(self, end: int) -> Iterator[bytes]:
        """What was not sent before `end`; what is not whole here breaks the connection before its last byte.

        All of the piece is read and hashed, also what the registry has of it.
        """
        hasher = self._hasher.copy()
        for offset in range(self._start, end, _READ):
            content = self._read(offset, min(_READ, end - offset))
            hasher.update(content)
            if offset + len(content) == self._blob.size:
                self._compare(hasher.digest())
            if fresh := content[max(0, self._sent - offset) :]:
                yield fresh
        self._read_hasher = hasher

    def _compare(self, digest: bytes) -> None:
        if digest != self._blob.digest.raw:
            raise DamagedError(
                f"{self._blob.name} is damaged, and was not sent",
                hint="carry the bundle again, or build it anew",
                facts={"expected": self._blob.digest, "actual": Digest(digest)},
            )

    def _look_again(self) -> None:
        """Ask how much has arrived; what cannot be told from it begins anew."""
        if self._location is None or self._is_whole:
            self._reset()
            self._is_doubtful = True
            return
        answer = self._ask("GET", self._location, accepted=_STATED | _LOST)
        match = _RANGE.fullmatch(answer.headers.get("Range", "").strip()) if answer.status in _STATED else None
        arrived = int(match["last"]) + 1 if match else 0
        if not self._start <= arrived <= self._end or arrived <= 1:  # `0-0` may mean none
            self._reset()
            self._is_doubtful = True
            return
        if answer.headers.get("Location"):
            self._location = answer.location(subject=self._subject)
        self._advance(arrived)

    def _advance(self, sent: int) -> None:
        self._sent = sent
        if sent > self._furthest:
            self._reporter.advanced(self._subject, sent - self._furthest)
            self._furthest = sent

    def _place(self) -> str:
        if self._location is None:
            raise AssertionError("an upload was begun")
        return self._location

    def _ask(
        self,
        method: str,
        url: str,
        *,
        accepted: frozenset[int],
        headers: dict[str, str] | None = None,
        content: Callable[[], Content] = bytes,
    ) -> Answer:
        return self._repository.ask_once(
            method,
            url,
            subject=self._subject,
            headers=headers,
            content=None if method == "GET" else content,
            accepted=accepted,
        )


def _piece_size(begun: Answer, wanted: int) -> int:
    """What the registry takes: its least, if that is more than was wanted and can be held."""
    told = begun.headers.get("OCI-Chunk-Min-Length", "")
    return max(wanted, min(int(told[:12]), _MAXIMUM_PIECE)) if told.isdecimal() and told.isascii() else wanted
