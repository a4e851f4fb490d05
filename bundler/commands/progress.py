"""What a person sees of long work: bars on a terminal, JSON lines for a program, else only the notes. On stderr."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any, Final, Self

import click
from tqdm import tqdm

from bundler.commands.output import is_terminal, talk
from manifests.errors import printable
from manifests.progress import Reporter, Silent

_STRIDE: Final = 4 << 20
"""Bytes between two JSON lines on the same work."""


@contextmanager
def reporter(*, quiet: bool, as_json: bool) -> Iterator[Reporter]:
    """The reporter that fits: none if `quiet`, JSON lines if `as_json`, bars if stderr is a terminal, else notes."""
    if quiet:
        yield Silent()
    elif as_json:
        yield JsonLines()
    elif is_terminal():
        with Bars() as bars:
            yield bars
    else:
        yield Notes()


class Notes(Silent):
    """Only what a person may want to read."""

    def note(self, text: str) -> None:
        """One line on stderr."""
        talk(text)


class JsonLines:
    """One JSON document a line: `started`, `advanced` (every few megabytes), `finished`, `note`."""

    def __init__(self) -> None:
        self._guard = Lock()
        self._untold: dict[str, int] = {}

    def expected(self, files: int, size: int | None) -> None:
        """How much is to come."""
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
        _emit(event="note", text=text)


class Bars:
    """A bar a piece of work: bytes, rate, time to go. Told from any thread; leaving it closes what is open."""

    def __init__(self) -> None:
        self._guard = Lock()
        self._bars: dict[str, tqdm[Any]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for name in list(self._bars):
            self.finished(name)

    def expected(self, files: int, size: int | None) -> None:
        """Nothing: each piece of work has its own bar."""

    def started(self, name: str, total: int | None) -> None:
        """A new bar; one that is there already begins again."""
        with self._guard:
            if (bar := self._bars.get(name)) is not None:
                bar.reset(total=total)
                return
            self._bars[name] = tqdm(
                total=total, desc=printable(name), unit="B", unit_scale=True, leave=False, dynamic_ncols=True
            )

    def advanced(self, name: str, size: int) -> None:
        """The bar grows."""
        with self._guard:
            if (bar := self._bars.get(name)) is not None:
                bar.update(size)

    def finished(self, name: str) -> None:
        """The bar goes."""
        with self._guard:
            if (bar := self._bars.pop(name, None)) is not None:
                bar.close()

    def note(self, text: str) -> None:
        """A line above the bars."""
        with self._guard, tqdm.external_write_mode():
            talk(text)


def _emit(**event: object) -> None:
    click.echo(json.dumps(event), err=True)
