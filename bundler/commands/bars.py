"""Bars on a terminal: one for each piece of work that lasts, and one for all that was announced.

* Never more bars than the terminal has lines: the newest are shown, the rest counts in the total alone.
* Work that is over in a moment gets no bar: ten thousand small files are not slowed down by drawing them.
"""

import os
import sys
import time
from collections.abc import Callable
from threading import Lock
from typing import Any, Final, Self

from tqdm import tqdm

from bundler.commands.output import talk
from bundler.commands.tally import Tally, Work
from manifests.errors import printable

_MOMENT: Final = 0.2
"""Seconds that work lasts before it gets a bar."""
_FRAME: Final = 0.1
"""Seconds between two drawings."""
_NUMBERS: Final = 56
"""Columns that a bar's numbers take, and a little bar."""
_GAP: Final = "..."
_SPARE: Final = 2
"""Lines of the terminal that no bar takes: for the prompt, and for what is said above."""


class Bars:
    """Told from any thread. A context manager: leaving it closes what is open."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._guard = Lock()
        self._tally = Tally()
        self._due = 0.0
        """When the bars are drawn again: not at every call, of which there are thousands a second."""
        self._shown: dict[str, tqdm[Any]] = {}
        self._passed_over: set[str] = set()
        self._total: tqdm[Any] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self._guard:
            for bar in (*self._shown.values(), self._total):
                if bar is not None:
                    bar.close()
            self._shown.clear()
            self._total = None

    def expected(self, files: int, size: int | None) -> None:
        """The total appears, or grows."""
        with self._guard:
            self._tally.expected(files, size, self._clock())
            self._draw_total()

    def started(self, name: str, total: int | None) -> None:
        """Work begins; if it has a bar already, that begins again."""
        with self._guard:
            self._tally.started(name, total, self._clock())
            if (bar := self._shown.get(name)) is not None:
                bar.total = total
                bar.reset(total=total)

    def advanced(self, name: str, size: int) -> None:
        """The bars grow, and appear for work that lasts."""
        with self._guard:
            self._tally.advanced(name, size)
            if (now := self._clock()) >= self._due:
                self._draw(now)

    def finished(self, name: str) -> None:
        """The bar goes; the total too, after the last file."""
        with self._guard:
            self._tally.finished(name)
            self._passed_over.discard(name)
            if (bar := self._shown.pop(name, None)) is not None:
                bar.close()
            if not self._tally.announced:
                self._draw_total()
            elif (now := self._clock()) >= self._due:
                self._draw(now)

    def note(self, text: str) -> None:
        """A line above the bars."""
        with self._guard, tqdm.external_write_mode():
            talk(text)

    def _draw(self, now: float) -> None:
        self._due = now + _FRAME
        for work in self._tally.works.values():
            if (bar := self._shown.get(work.name)) is not None:
                bar.update(work.done - bar.n)
            elif now - work.since >= _MOMENT:
                self._show(work)
        self._draw_total()

    def _show(self, work: Work) -> None:
        room = max(_screen()[1] - _SPARE - 1, 1)
        if len(self._shown) >= room:
            if work.name in self._passed_over:
                return
            oldest = next(iter(self._shown))
            self._shown.pop(oldest).close()
            self._passed_over.add(oldest)
        self._shown[work.name] = _bar(work.name, work.total, work.done)

    def _draw_total(self) -> None:
        """The total says what the tally does, and goes when the tally has ended."""
        tally = self._tally
        if not tally.announced:
            if self._total is not None:
                self._total.close()
                self._total = None
            return
        if self._total is None:
            self._total = _bar("total", tally.total, 0)
        self._total.total = tally.total
        self._total.set_postfix_str(f"{tally.done_files}/{tally.files} files", refresh=False)
        self._total.update(tally.done - self._total.n)


def shortened(name: str, width: int) -> str:
    """`name` in at most `width` characters: what goes is in the middle, because both ends tell names apart."""
    if len(name) <= width:
        return name
    room = width - len(_GAP)
    return f"{name[: room - room // 2]}{_GAP}{name[len(name) - room // 2 :]}"


def _bar(name: str, total: int | None, done: int) -> "tqdm[Any]":
    width = max(_screen()[0] - _NUMBERS, 8)
    return tqdm(
        total=total,
        initial=done,
        desc=shortened(printable(name), width),
        unit="B",
        unit_scale=True,
        leave=False,
        dynamic_ncols=True,
        miniters=0,
        mininterval=0,
    )


def _screen() -> tuple[int, int]:
    """Columns and lines of the terminal that the bars are on; the usual ones if nobody says."""
    try:
        columns, lines = os.get_terminal_size(sys.stderr.fileno())
    except (OSError, ValueError):
        return 80, 24
    return columns or 80, lines or 24
