"""What is seen of long work: bars on a terminal, JSON lines for a program, else a line now and then. On stderr."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Final, Self

import click

from bundler.commands.output import is_terminal, talk
from bundler.commands.tally import Rate, Tally, Work
from manifests.errors import size as shown_size
from manifests.progress import Reporter, Silent

_STRIDE: Final = 4 << 20
"""Bytes between two JSON lines on the same work."""
_PAUSE: Final = 5.0
"""Seconds between two lines for a person."""


@contextmanager
def reporter(*, quiet: bool, as_json: bool) -> Iterator[Reporter]:
    """The reporter that fits: none if `quiet`, JSON lines if `as_json`, bars if stderr is a terminal, else lines."""
    if quiet:
        yield Silent()
    elif as_json:
        yield JsonLines()
    elif is_terminal():
        from bundler.commands.bars import Bars

        with Bars() as bars:
            yield bars
    else:
        with Lines() as lines:
            yield lines


class Notes(Silent):
    """Only what a person may want to read."""

    def note(self, text: str) -> None:
        """One line on stderr."""
        talk(text)


class Lines:
    """Notes; and of work that lasts, a line every few seconds: a log is not flooded. Told from any thread.

    The last thing that a line was about gets one more when it ends, or when this context manager is left.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._guard = Lock()
        self._tally = Tally()
        self._next: float | None = None
        """When the next line is due; None while nothing has begun."""
        self._subject: Work | None = None
        """What the last line was about: one piece of work, or None for all that was announced."""
        self._rate: Rate | None = None
        """Of the subject; None if no line was about it."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self._guard:
            self._conclude()

    def expected(self, files: int, size: int | None) -> None:
        """How much is to come."""
        with self._guard:
            self._tally.expected(files, size, self._clock())
            self._begin()

    def started(self, name: str, total: int | None) -> None:
        """Work begins."""
        with self._guard:
            self._begin()
            self._tally.started(name, total, self._clock())

    def advanced(self, name: str, size: int) -> None:
        """A line, if one is due."""
        with self._guard:
            self._tally.advanced(name, size)
            if self._next is not None and (now := self._clock()) >= self._next:
                self._tell(now)

    def finished(self, name: str) -> None:
        """A line, if one is due; the last one, after the last file that was announced."""
        with self._guard:
            was_announced = self._tally.announced
            self._tally.finished(name)
            if not self._tally.announced:
                if was_announced and self._subject is None:
                    self._conclude()
            elif self._next is not None and (now := self._clock()) >= self._next:
                self._tell(now)

    def note(self, text: str) -> None:
        """One line on stderr."""
        with self._guard:
            talk(text)

    def _begin(self) -> None:
        if self._next is None:
            self._next = self._clock() + _PAUSE

    def _tell(self, now: float) -> None:
        newest = next(reversed(self._tally.works.values()), None)
        if newest is None and not self._tally.announced:
            return
        subject = None if self._tally.announced else newest
        if self._rate is None or subject is not self._subject:
            begun = self._tally.since if subject is None else subject.since
            self._subject, self._rate = subject, Rate(0, begun)
        done, total = self._numbers()
        rate = self._rate.at(done, now)
        parts = [self._state()]
        if rate:
            parts.append(f"{shown_size(round(rate))}/s")
            if total is not None and total > done:
                parts.append(f"{_duration((total - done) / rate)} left")
        talk(", ".join(parts))
        self._next = now + _PAUSE

    def _conclude(self) -> None:
        """How far the last thing came that a line was about."""
        if self._rate is not None:
            talk(self._state())
            self._rate = None

    def _numbers(self) -> tuple[int, int | None]:
        """Bytes done, and in all, if that is known."""
        subject = self._subject or self._tally
        return subject.done, subject.total

    def _state(self) -> str:
        amount = _of(*self._numbers())
        if self._subject is not None:
            return f"{self._subject.name}: {amount}"
        return f"fetched {self._tally.done_files} of {self._tally.files} files, {amount}"


class JsonLines:
    """One JSON document a line: `expected`, `started`, `advanced` (every few megabytes), `finished`, `note`."""

    def __init__(self) -> None:
        self._guard = Lock()
        self._untold: dict[str, int] = {}

    def expected(self, files: int, size: int | None) -> None:
        """How much is to come."""
        with self._guard:
            _emit(event="expected", files=files, total=size)

    def started(self, name: str, total: int | None) -> None:
        """Work begins; `total` in bytes, or null."""
        with self._guard:
            self._untold[name] = 0
            _emit(event="started", name=name, total=total)

    def advanced(self, name: str, size: int) -> None:
        """More bytes are done."""
        with self._guard:
            self._untold[name] = self._untold.get(name, 0) + size
            if self._untold[name] >= _STRIDE:
                _emit(event="advanced", name=name, bytes=self._untold[name])
                self._untold[name] = 0

    def finished(self, name: str) -> None:
        """Work has ended."""
        with self._guard:
            if rest := self._untold.pop(name, 0):
                _emit(event="advanced", name=name, bytes=rest)
            _emit(event="finished", name=name)

    def note(self, text: str) -> None:
        """A line for a person."""
        with self._guard:
            _emit(event="note", text=text)


def _of(done: int, total: int | None) -> str:
    """`1.2 of 4.0 GB`, `900.0 kB of 4.0 GB`; or what is done alone."""
    if total is None or total == done:
        return shown_size(done)
    number, _, unit = shown_size(done).partition(" ")
    whole = shown_size(total)
    return f"{number if whole.endswith(f' {unit}') else f'{number} {unit}'} of {whole}"


def _duration(seconds: float) -> str:
    """`33 s`, `4 min`, `5 h`, `3 days`: no more than an estimate deserves."""
    for limit, unit, name in ((100, 1, "s"), (100 * 60, 60, "min"), (48 * 3600, 3600, "h")):
        if seconds < limit:
            return f"{round(seconds / unit)} {name}"
    return f"{round(seconds / 86400)} days"


def _emit(**event: object) -> None:
    click.echo(json.dumps(event), err=True)
