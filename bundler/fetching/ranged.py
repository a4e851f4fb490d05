"""One file over several connections at once, each with a part of it at a time.

* Parts are asked for in order, so that the file grows from its beginning and a reader can follow closely.
* A connection that breaks off goes on where it ended; the others do not notice. New bytes on any of them count as
  progress of all. What no retry would change ends all of them.
* When `run` returns or raises, nobody writes into the file any more.
"""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import FileIO
from threading import Condition
from typing import Any, BinaryIO, Final

import requests

from bundler.fetching.answers import Part, cut_short
from bundler.fetching.asking import Asking
from bundler.fetching.following import Follower
from bundler.fetching.partial import Held, Partial, record
from bundler.fetching.spans import Span, Spans
from bundler.http import BrokenOffError, pieces
from bundler.sources.urls import shown
from manifests.errors import SourceError
from manifests.publish import translated

_NOTED: Final = 4 << 20
"""Bytes of each part under way that a kill may lose."""


@dataclass(frozen=True, slots=True)
class First:
    """An answer that is there already: the first part, or the whole file, of which only that is taken."""

    response: requests.Response
    is_whole: bool


class _OverError(Exception):
    """Another connection ended the download. Never leaves this module."""


@dataclass(slots=True)
class _Segment:
    """A part under way: its next byte, how far the journal knows, and what was here in all when it was last tried."""

    at: int
    end: int
    noted: int
    mark: int


class RangedTransfer:
    """What is missing of one version of a file."""

    def __init__(self, asking: Asking, partial: Partial, held: Held, follower: Follower[Any], *, furthest: int) -> None:
        self._asking = asking
        self._target = partial.target
        self._version = held.version
        self._follower = follower
        self._spans = Spans(held.spans)
        self._gaps = deque(_gaps(held, most=asking.request.ranges.segment))
        self._changed = Condition()
        self._receiving: set[requests.Response] = set()
        self._is_over = False
        self.furthest = furthest
        """Bytes that were here together, at most, in any version."""

    def run(self, journal: BinaryIO, first: First | None) -> None:
        """Fetch it all. Errors: `StartOverError`; `SourceError` and its kinds, after all retries; `StorageError`."""
        count = min(self._asking.request.ranges.connections, len(self._gaps))
        pool = ThreadPoolExecutor(count, thread_name_prefix="part")
        try:
            jobs = [pool.submit(self._work, journal, None if number else first) for number in range(count)]
            for job in wait(jobs, return_when=FIRST_EXCEPTION).done:
                job.result()
        finally:
            self._end()
            pool.shutdown(wait=False, cancel_futures=True)

    def _end(self) -> None:
        """Return when nobody receives any more. Who pauses before another try, finds then that all is over."""
        with self._changed:
            self._is_over = True
            for response in self._receiving:
                with suppress(ValueError, RuntimeError, OSError):  # it came to its end at this moment
                    response.raw.shutdown()
            while self._receiving:
                self._changed.wait()

    def _work(self, journal: BinaryIO, first: First | None) -> None:
        while (segment := self._next()) is not None:
            self._fetch(segment, journal, first)
            first = None

    def _next(self) -> _Segment | None:
        """The next part; the first worker, which begins first, gets the first one."""
        with self._changed:
            if self._is_over or not self._gaps:
                return None
            gap = self._gaps.popleft()
            return _Segment(gap.start, gap.end, noted=gap.start, mark=self.furthest)

    def _fetch(self, segment: _Segment, journal: BinaryIO, first: First | None) -> None:
        answers = iter([first] if first is not None else [])

        def attempt() -> None:
            try:
                answer = next(answers, None) or First(self._ask(segment), is_whole=False)
                with answer.response, self._in_use(answer.response), self._noting(segment, journal):
                    self._receive(answer, segment, journal)
            except BrokenOffError as broken:
                if segment.at < segment.end:
                    raise self._broken_off(broken, segment) from broken

        self._asking.client.persist(attempt, subject=self._asking.request.subject)

    def _ask(self, segment: _Segment) -> requests.Response:
        with self._changed:
            if self._is_over:
                raise _OverError
        part = Part(self._version, Span(segment.at, segment.end))
        response = self._asking.open(part.headers)
        try:
            part.check(response)
        except BaseException:
            response.close()
            raise
        return response

    @contextmanager
    def _in_use(self, response: requests.Response) -> Iterator[None]:
        """While this lasts, `_end` waits for it, and shuts the connection so that it need not wait long."""
        with self._changed:
            if self._is_over:
                raise _OverError
            self._receiving.add(response)
        try:
            yield
        finally:
            with self._changed:
                self._receiving.discard(response)
                self._changed.notify_all()

    @contextmanager
    def _noting(self, segment: _Segment, journal: BinaryIO) -> Iterator[None]:
        """However it ends, the journal knows of all that was written."""
        try:
            yield
        finally:
            self._note(segment, journal)

    def _receive(self, answer: First, segment: _Segment, journal: BinaryIO) -> None:
        begin, response = segment.at, answer.response
        with translated(self._target), FileIO(self._target, "r+") as file:
            file.seek(segment.at)
            for piece in pieces(response):
                self._asking.check_running()
                room = segment.end - segment.at
                if len(piece) > room and not answer.is_whole:
                    raise SourceError(
                        f"{self._asking.request.subject}: {shown(response.url)} sends more than it announced"
                    )
                self._write(file, memoryview(piece)[:room], segment)
                if segment.at - segment.noted >= _NOTED:
                    self._note(segment, journal)
                if answer.is_whole and segment.at == segment.end:
                    return
        self._asking.check_running()  # a connection that was shut looks like the end of a part
        if segment.at < segment.end:
            raise cut_short(response, segment.at - begin, segment.end - begin)

    def _write(self, file: FileIO, piece: memoryview, segment: _Segment) -> None:
        while piece:
            count = file.write(piece)
            span = Span(segment.at, segment.at + count)
            piece = piece[count:]
            segment.at = span.end
            with self._changed:
                self._spans.add(span)
                self.furthest = max(self.furthest, self._spans.size)
            self._follower.add(span)
            self._asking.advanced(count)

    def _note(self, segment: _Segment, journal: BinaryIO) -> None:
        if segment.noted < segment.at:
            with self._changed, translated(self._target):
                record(journal, Span(segment.noted, segment.at))
            segment.noted = segment.at

    def _broken_off(self, broken: BrokenOffError, segment: _Segment) -> BrokenOffError:
        with self._changed:
            progressed = self.furthest > segment.mark
            segment.mark = self.furthest
        return BrokenOffError(broken.reason, wait=broken.wait, progressed=progressed)


def _gaps(held: Held, *, most: int) -> list[Span]:
    """What is missing. If nothing is, the last byte: asking for it tells whether the file is still this one."""
    size = held.version.size or 0
    return list(held.spans.gaps(size, most=most)) or [Span(size - 1, size)]
