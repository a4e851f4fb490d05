"""Which bytes of a file are here: disjoint spans, in order."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple


class Span(NamedTuple):
    """The bytes from `start` up to, and without, `end`."""

    start: int
    end: int

    @property
    def size(self) -> int:
        """In bytes."""
        return self.end - self.start


class Spans:
    """A growing set of bytes. Few spans are expected at any time: those of a download's connections."""

    def __init__(self, spans: Iterable[Span] = ()) -> None:
        self._spans: list[Span] = []
        for span in sorted(spans):
            if self._spans and span.start <= self._spans[-1].end:
                last = self._spans.pop()
                span = Span(last.start, max(last.end, span.end))  # noqa: PLW2901 - the two are one now
            self._spans.append(span)

    def __iter__(self) -> Iterator[Span]:
        return iter(self._spans)

    def add(self, added: Span) -> None:
        """These bytes are here too."""
        if added.size:
            before = [span for span in self._spans if span.end < added.start]
            after = [span for span in self._spans if span.start > added.end]
            touched = [*self._spans[len(before) : len(self._spans) - len(after)], added]
            merged = Span(min(span.start for span in touched), max(span.end for span in touched))
            self._spans = [*before, merged, *after]

    @property
    def reach(self) -> int:
        """How many bytes are here from the beginning on, without a gap."""
        return self._spans[0].end if self._spans and self._spans[0].start == 0 else 0

    @property
    def size(self) -> int:
        """How many bytes are here."""
        return sum(span.size for span in self._spans)

    @property
    def end(self) -> int:
        """Behind the last byte that is here."""
        return self._spans[-1].end if self._spans else 0

    def gaps(self, size: int, *, most: int) -> Iterator[Span]:
        """What a file of `size` bytes still lacks, in pieces of `most` bytes, in order."""
        at = 0
        for span in [*self._spans, Span(size, size)]:
            while at < span.start:
                piece = Span(at, min(span.start, at + most))
                yield piece
                at = piece.end
            at = max(at, span.end)
