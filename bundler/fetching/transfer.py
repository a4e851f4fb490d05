"""The attempts at one file: over one connection or several, from the start or from where the last one ended.

* A file that changed at its source starts over. Parts of two versions are never mixed.
* A server that does not give parts as they are asked for is asked for the whole file, over one connection.
* Progress counts only beyond the furthest byte so far, so that no server can keep a download going for ever.
"""

from dataclasses import dataclass
from typing import Any, BinaryIO, Final

import requests

from bundler.fetching.answers import (
    Part,
    StartOverError,
    cut_short,
    is_part,
    range_of,
    refuse_page,
    starts_at,
    version_of,
)
from bundler.fetching.asking import Asking
from bundler.fetching.following import Follower
from bundler.fetching.partial import Held, Partial, Version
from bundler.fetching.ranged import First, RangedTransfer
from bundler.fetching.room import check_room
from bundler.fetching.spans import Span, Spans
from bundler.http import BrokenOffError, pieces
from bundler.sources.urls import shown
from manifests.errors import DigestMismatchError, SourceError
from manifests.publish import translated

_STEP: Final = 16 << 20
_RESERVE: Final = 1 << 30
"""Bytes that a body of unknown length leaves free: looked at every `_STEP` bytes, for it may have no end."""


@dataclass(frozen=True, slots=True)
class Whole:
    """All bytes are here."""

    size: int
    version: Version


class Transfer:
    """The attempts at one file, and what they have in common."""

    def __init__(self, asking: Asking, partial: Partial, follower: Follower[Any]) -> None:
        self._asking = asking
        self._request = asking.request
        self._partial = partial
        self._follower = follower
        self._furthest = 0
        self._may_range = True
        self.resumed = False
        """Whether some of the bytes are from an earlier attempt."""
        self.is_last_round = False

    def attempt(self) -> Whole:
        """One try, from where the last one ended. Errors: `BrokenOffError`, `SourceError`, `StorageError`."""
        try:
            held = self._held()
            if held is not None and (held.ranged or self._fits(held.version)):
                return self._go_on_ranged(held)
            return self._go_on(held) if held is not None else self._begin()
        except StartOverError as reason:
            self.start_over(ranges=reason.ranges)
            raise BrokenOffError(reason.reason) from reason

    def _held(self) -> Held | None:
        """What can be gone on with: of a file of another size than is wanted, nothing."""
        held = self._partial.held(compared=self._request.digest is not None)
        if held is not None and None not in {held.version.size, self._request.size}:
            return held if held.version.size == self._request.size else None
        return held

    def start_over(self, *, ranges: bool) -> None:
        """Forget what was fetched; ask for parts at once again only if `ranges`."""
        self._follower.abandon()
        self._partial.forget()
        self._may_range = self._may_range and ranges
        self.resumed = False

    def begin_last_round(self) -> None:
        """Fetch it once more, whole, because what was put together is wrong."""
        self.start_over(ranges=False)
        self.is_last_round = True

    def _fits(self, version: Version) -> bool:
        """Whether this file may come in parts at once: if they could be mixed up, only where the digest would tell."""
        is_strong = bool(version.etag and version.validator)
        is_safe = is_strong or bool(version.validator and self._request.digest)
        return self._may_range and is_safe and (version.size or 0) >= self._request.ranges.least

    def _begin(self) -> Whole:
        """With nothing here: the first part, if the size is known to be worth it, else the whole file."""
        part = Part(Version(size=self._request.size), Span(0, self._request.ranges.segment))
        is_part_asked = self._may_range and part.span.end < (self._request.size or 0) >= self._request.ranges.least
        with self._asking.open({"Range": part.headers["Range"]} if is_part_asked else {}) as response:
            if response.status_code == 416 or (is_part(response) and not is_part_asked):
                raise StartOverError(f"{shown(response.url)} sent another part than was asked for", ranges=False)
            version = version_of(response)
            self._check_size(version)
            if not is_part(response):
                return self._begin_whole(response, version)
            Part(version, part.span).check(response)
            if not self._fits(version):
                raise StartOverError(f"{shown(response.url)} does not tell versions apart", ranges=False)
            return self._begin_ranged(version, First(response, is_whole=False))

    def _begin_whole(self, response: requests.Response, version: Version) -> Whole:
        refuse_page(response, self._request)
        if self._fits(version) and response.headers.get("Accept-Ranges", "").strip().lower() == "bytes":
            return self._begin_ranged(version, First(response, is_whole=True))
        self._prepare(version, ranged=False)
        return self._receive(response, version, 0)

    def _begin_ranged(self, version: Version, first: First) -> Whole:
        self._prepare(version, ranged=True)
        return self._receive_ranged(Held(version, Spans(), ranged=True), first)

    def _prepare(self, version: Version, *, ranged: bool) -> None:
        """Before the first byte."""
        size = version.size if version.size is not None else self._request.size
        self._follower.abandon()
        self._partial.forget()
        self.resumed = False
        self._check_room(size or 0)
        self._partial.begin(version, ranged=ranged)

    def _go_on_ranged(self, held: Held) -> Whole:
        self._check_room((held.version.size or 0) - held.spans.size)
        if not held.ranged:
            self._partial.make_ranged(held)
        self.resumed = True
        return self._receive_ranged(held, None)

    def _receive_ranged(self, held: Held, first: First | None) -> Whole:
        size = held.version.size or 0
        self._asking.started(size, held=held.spans.size)
        self._follower.begin(held.spans, size)
        transfer = RangedTransfer(self._asking, self._partial, held, self._follower, furthest=self._furthest)
        try:
            with self._partial.open_journal() as journal:
                transfer.run(journal, first)
        finally:
            self._furthest = transfer.furthest
        return Whole(size, held.version)

    def _go_on(self, held: Held) -> Whole:
        """Ask for the rest, over one connection."""
        start = held.spans.reach
        with self._asking.open({"Range": f"bytes={start}-", "If-Range": held.version.validator}) as response:
            if response.status_code == 416:
                return self._beyond_the_end(response, held, start)
            version = version_of(response)
            self._check_size(version)
            if not is_part(response):
                return self._begin_whole(response, version)
            if not starts_at(response, held.version, start):
                raise StartOverError(f"{shown(response.url)} sent another part than was asked for", ranges=True)
            self._check_room((version.size or start) - start)
            self.resumed = True
            return self._receive(response, version, start)

    def _beyond_the_end(self, response: requests.Response, held: Held, start: int) -> Whole:
        """416: the server has nothing after our last byte, because we have all, or because the file became shorter."""
        if range_of(response) == f"bytes */{start}" and held.version.size in {None, start}:
            self.resumed = True
            return Whole(start, held.version)
        raise StartOverError(f"{shown(response.url)} has become shorter", ranges=True)

    def _receive(self, response: requests.Response, version: Version, start: int) -> Whole:
        total = version.size if version.size is not None else self._request.size
        self._asking.started(version.size, held=start)
        if version.size is not None:
            self._follower.begin(Spans([Span(0, start)]), version.size)
        target, before = self._partial.target, self._furthest
        with translated(target), target.open("r+b", buffering=0) as file:
            file.seek(start)
            try:
                self._copy(response, file, None if total is None else total - start)
                if total not in {None, file.tell()}:
                    raise cut_short(response, file.tell(), total or 0)
            except BrokenOffError as broken:
                self._furthest = max(before, file.tell())
                raise BrokenOffError(broken.reason, progressed=self._furthest > before) from broken
            return Whole(file.tell(), version)

    def _copy(self, response: requests.Response, file: BinaryIO, room: int | None) -> None:
        copied = 0
        for piece in pieces(response):
            self._asking.check_running()
            copied += len(piece)
            if room is None and copied // _STEP > (copied - len(piece)) // _STEP:
                check_room(self._partial.target.parent, _RESERVE, subject=self._request.subject)
            if room is not None and copied > room:
                raise SourceError(f"{self._request.subject}: {shown(response.url)} sends more than it announced")
            at, rest = file.tell(), memoryview(piece)
            while rest:
                rest = rest[file.write(rest) :]
            self._follower.add(Span(at, at + len(piece)))
            self._asking.advanced(len(piece))
        self._asking.check_running()  # a connection that was shut looks like the end of a file

    def _check_size(self, version: Version) -> None:
        if self._request.size is not None and version.size not in {None, self._request.size}:
            raise DigestMismatchError(
                subject=self._request.subject, expected=f"{self._request.size} bytes", actual=f"{version.size} bytes"
            )

    def _check_room(self, missing: int) -> None:
        needed = missing * (1 + self._request.copies)
        check_room(self._partial.target.parent, needed, subject=self._request.subject)
