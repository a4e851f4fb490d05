"""What a person or a program sees of long work."""

import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from bundler.commands.bars import Bars, shortened
from bundler.commands.progress import JsonLines, Lines, Notes, reporter
from bundler.commands.tally import Rate, Tally
from factory import incompressible
from loopback import Request, serving
from manifests.progress import Reporter, Silent

GIGABYTE = 1_000_000_000


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def work(observer: Reporter) -> None:
    observer.expected(1, 10_000_000)
    observer.started("a.bin", 10_000_000)
    for _ in range(10):
        observer.advanced("a.bin", 1_000_000)
    observer.note("something\x1b[2J")
    observer.finished("a.bin")


# For a program


def test_a_program_gets_json_lines_that_add_up(capsys: pytest.CaptureFixture[str]) -> None:
    work(JsonLines())
    captured = capsys.readouterr()
    events = [json.loads(line) for line in captured.err.splitlines()]
    assert captured.out == ""
    assert events[0] == {"event": "expected", "files": 1, "total": 10_000_000}
    assert events[1] == {"event": "started", "name": "a.bin", "total": 10_000_000}
    assert sum(event.get("bytes", 0) for event in events) == 10_000_000
    assert len(events) < 10
    assert {"event": "note", "text": "something\x1b[2J"} in events
    assert events[-1] == {"event": "finished", "name": "a.bin"}


def test_json_lines_of_many_threads_stay_whole(capsys: pytest.CaptureFixture[str]) -> None:
    observer = JsonLines()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: many_steps(observer, f"file {number}", 2000, 10_000), range(8)))
    events = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert sum(event.get("bytes", 0) for event in events) == 8 * 2000 * 10_000


def many_steps(observer: Reporter, name: str, steps: int, size: int) -> None:
    observer.started(name, steps * size)
    for _ in range(steps):
        observer.advanced(name, size)
    observer.finished(name)


# The numbers


def test_work_that_begins_again_takes_its_bytes_back() -> None:
    tally = Tally()
    tally.expected(2, 100, 0.0)
    tally.started("a", 60, 0.0)
    tally.advanced("a", 50)
    tally.started("a", 70, 1.0)
    tally.advanced("a", 10)
    assert (tally.done, tally.works["a"].done, tally.works["a"].total) == (10, 10, 70)


def test_a_file_that_another_source_gives_counts_once() -> None:
    tally = Tally()
    tally.expected(2, 100, 0.0)
    tally.started("a", 60, 0.0)
    tally.advanced("a", 50)
    tally.finished("a")
    assert (tally.done_files, tally.done) == (1, 50)
    tally.started("a", 60, 1.0)
    assert (tally.done_files, tally.done) == (0, 0)
    tally.advanced("a", 60)
    tally.finished("a")
    assert (tally.done_files, tally.done, tally.announced) == (1, 60, True)


def test_announcements_add_up_until_all_has_ended_and_then_begin_anew() -> None:
    tally = Tally()
    tally.expected(1, 10, 0.0)
    tally.expected(2, 20, 0.0)
    assert (tally.files, tally.total) == (3, 30)
    for name in "abc":
        tally.started(name, 10, 0.0)
        tally.finished(name)
    assert not tally.announced
    tally.started("after", 1000, 0.0)
    tally.advanced("after", 1000)
    assert tally.done == 0
    tally.expected(1, None, 5.0)
    assert (tally.files, tally.total, tally.done_files, tally.since) == (1, None, 0, 5.0)
    tally.expected(1, 7, 6.0)
    assert (tally.files, tally.total, tally.since) == (2, None, 5.0)


def test_a_file_that_was_there_already_ends_without_beginning() -> None:
    tally = Tally()
    tally.expected(2, 20, 0.0)
    tally.finished("a")
    tally.finished("a")
    assert tally.done_files == 1
    assert tally.advanced("a", 5) is None


def test_the_total_is_never_less_than_what_is_done() -> None:
    tally = Tally()
    tally.expected(1, 10, 0.0)
    tally.started("archive", 50, 0.0)
    tally.advanced("archive", 50)
    assert (tally.done, tally.total) == (50, 50)


def test_a_rate_looks_back_half_a_minute_and_is_never_negative() -> None:
    rate = Rate(0, 0.0)
    assert rate.at(0, 0.0) == 0.0
    assert rate.at(3000, 1.0) == 3000.0
    assert rate.at(3000, 2.0) == 1500.0
    assert rate.at(4000, 32.0) == pytest.approx(1000 / 30)
    assert rate.at(0, 33.0) == 0.0


# Without a terminal


def test_without_a_terminal_short_work_says_only_its_notes(capsys: pytest.CaptureFixture[str]) -> None:
    with reporter(quiet=False, as_json=False) as observer:
        assert isinstance(observer, Lines)
        work(observer)
    assert capsys.readouterr() == ("", "something\\x1b[2J\n")


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_without_a_terminal_long_work_says_a_line_every_few_seconds(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    with Lines(clock) as observer:
        observer.expected(12, 4 * GIGABYTE)
        for name in "abcd":
            observer.started(name, GIGABYTE)
        for second in range(12):
            for name in "abcd":
                for _ in range(100):
                    observer.advanced(name, 200_000)
            if second == 7:
                observer.finished("a")
            clock.now += 1
        for name in "bcd":
            observer.finished(name)
    assert capsys.readouterr().err.splitlines() == [
        "fetched 0 of 12 files, 400.2 MB of 4.0 GB, 80.0 MB/s, 45 s left",
        "fetched 1 of 12 files, 760.0 MB of 4.0 GB, 76.0 MB/s, 43 s left",
        "fetched 4 of 12 files, 880.0 MB of 4.0 GB",
    ]


def test_the_last_line_comes_with_the_last_file_and_only_once(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with Lines(clock) as observer:
        observer.expected(2, None)
        observer.started("a", None)
        clock.now += 6
        observer.advanced("a", 1_200_000_000)
        observer.finished("a")
        observer.finished("b was there")
        observer.note("and then")
    assert capsys.readouterr().err.splitlines() == [
        "fetched 0 of 2 files, 1.2 GB, 200.0 MB/s",
        "fetched 2 of 2 files, 1.2 GB",
        "and then",
    ]


def test_many_small_files_are_seen_going_by(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with Lines(clock) as observer:
        observer.expected(9000, 9_000_000)
        for number in range(9000):
            clock.now = 1000 + number / 1000
            many_steps(observer, f"file {number}", 1, 1000)
    assert capsys.readouterr().err.splitlines() == [
        "fetched 5000 of 9000 files, 5.0 of 9.0 MB, 1.0 MB/s, 4 s left",
        "fetched 9000 of 9000 files, 9.0 MB",
    ]


def test_work_that_nobody_announced_is_called_by_its_name(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with Lines(clock) as observer:
        observer.started("install\x1b", 4 * GIGABYTE)
        for _ in range(14):
            clock.now += 1
            observer.advanced("install\x1b", 10_000_000)
        observer.finished("install\x1b")
    assert capsys.readouterr().err.splitlines() == [
        "install\\x1b: 50.0 MB of 4.0 GB, 10.0 MB/s, 7 min left",
        "install\\x1b: 100.0 MB of 4.0 GB, 10.0 MB/s, 6 min left",
        "install\\x1b: 140.0 MB of 4.0 GB",
    ]


def test_a_download_that_begins_again_has_no_rate_for_a_while(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with Lines(clock) as observer:
        observer.expected(1, GIGABYTE)
        observer.started("a", GIGABYTE)
        for size in (500_000_000, 1_000_000):
            clock.now += 5
            observer.advanced("a", size)
            observer.started("a", GIGABYTE)
        clock.now += 5
        observer.advanced("a", 1000)
    lines = capsys.readouterr().err.splitlines()
    assert lines[:2] == [
        "fetched 0 of 1 files, 500.0 MB of 1.0 GB, 100.0 MB/s, 5 s left",
        "fetched 0 of 1 files, 1.0 MB of 1.0 GB, 100.0 kB/s, 3 h left",
    ]
    assert lines[2] == "fetched 0 of 1 files, 1.0 kB of 1.0 GB, 67 bytes/s, 174 days left"


def test_quiet_is_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    with reporter(quiet=True, as_json=True) as observer:
        assert isinstance(observer, Silent)
        work(observer)
    assert capsys.readouterr() == ("", "")


def test_notes_alone_say_nothing_of_work(capsys: pytest.CaptureFixture[str]) -> None:
    work(Notes())
    assert capsys.readouterr() == ("", "something\\x1b[2J\n")


# On a terminal


def test_bars_go_when_their_work_ends(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with Bars(clock) as bars:
        work(bars)
        bars.started("b.bin", None)
        bars.started("b.bin", 5)
        clock.now += 1
        bars.advanced("b.bin", 1)
        bars.started("b.bin", 7)
        bars.advanced("never started", 1)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "a.bin" not in captured.err
    assert "b.bin" in captured.err
    assert "\x1b[2J" not in captured.err


def test_names_are_shortened_in_the_middle() -> None:
    assert shortened("short", 5) == "short"
    assert shortened("models/weights-00001-of-00009.safetensors", 20) == "models/we...etensors"
    for width in range(8, 50):
        assert len(shortened("x" * 45, width)) == min(width, 45)


def on_a_terminal(command: Sequence[str], *, lines: int, columns: int, **options: Any) -> str:
    """What `command` writes to its stderr, which is a terminal of that size."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
    seen = bytearray()

    def read() -> None:
        while True:
            try:
                seen.extend(os.read(ours, 1 << 16))
            except OSError:  # what Linux says when the other end is closed
                return

    with subprocess.Popen(command, stderr=theirs, stdout=subprocess.PIPE, **options) as process:
        os.close(theirs)
        reader = Thread(target=read)
        reader.start()
        out, _ = process.communicate(timeout=60)
        reader.join(timeout=10)
    os.close(ours)
    assert process.returncode == 0, (out, bytes(seen))
    return seen.decode()


MANY = """
import time
from bundler.commands.progress import reporter
names = [f"models/a name that is far too long for any line of this terminal/{n}.safetensors" for n in range(12)]
with reporter(quiet=False, as_json=False) as observer:
    observer.expected(12, 12_000_000)
    for name in names:
        observer.started(name, 1_000_000)
    for step in range(10):
        for name in names:
            observer.advanced(name, 90_000)
        time.sleep(0.06)
    observer.note("a note")
    for name in names:
        observer.finished(name)
"""


def test_bars_never_exceed_the_terminal_and_show_the_newest() -> None:
    text = on_a_terminal([sys.executable, "-c", MANY], lines=8, columns=100)
    climbs = [len(found) // 3 for found in re.findall(r"(?:\x1b\[A)+", text)]
    assert 4 <= max(climbs) <= 6
    assert {"7.saf", "11.saf"} <= set(re.findall(r"\d+\.saf", text))
    assert all(len(line) <= 100 for line in re.split(r"[\r\n]|\x1b\[A", text))
    assert "models/a name" in text
    assert "a note" in text
    assert "total:" in text
    assert "0/12 files" in text


class Slowly:
    """A server that gives a file in a second or so."""

    def __init__(self, content: bytes) -> None:
        self.content = content

    def __call__(self, request: Request) -> None:
        request.head(200, Content_Length=str(len(self.content)), ETag='"1"')
        if request.command == "HEAD":
            return
        for start in range(0, len(self.content), 200_000):
            request.wfile.write(self.content[start : start + 200_000])
            time.sleep(0.05)


def test_a_command_on_a_terminal_shows_the_file_and_the_total(tmp_path: Path) -> None:
    with serving(Slowly(incompressible(4_000_000))) as url:
        (tmp_path / "line.yaml").write_text(
            f"name: line\nmodels:\n  - id: acme/one\n    files:\n      weights.bin: {url}/weights.bin\n"
        )
        command = [sys.executable, "-m", "bundler", "lock", "line.yaml", "--store", "store"]
        environ = {**os.environ, "HOME": str(tmp_path)}
        text = on_a_terminal(command, lines=24, columns=100, cwd=tmp_path, env=environ)
    assert "total:" in text
    assert "0/1 files" in text
    assert "acme/one weights.bin:" in text
    assert "4.00M" in text
    assert "B/s" in text


# What it costs


@pytest.mark.parametrize("kind", [Bars, Lines, JsonLines])
def test_a_call_that_shows_nothing_costs_next_to_nothing(kind: type, capsys: pytest.CaptureFixture[str]) -> None:
    observer = kind()
    observer.expected(1, GIGABYTE)
    observer.started("a", GIGABYTE)

    def once() -> float:
        begun = time.process_time()
        for _ in range(5000):
            observer.advanced("a", 256)
        return (time.process_time() - begun) / 5000

    assert min(once() for _ in range(5)) < 10e-6
    observer.finished("a")
