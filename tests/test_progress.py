"""What a person or a program sees of long work."""

import json

import pytest

from bundler.commands.progress import Bars, JsonLines, Notes, reporter
from manifests.progress import Reporter, Silent


def work(observer: Reporter) -> None:
    observer.started("a.bin", 10_000_000)
    for _ in range(10):
        observer.advanced("a.bin", 1_000_000)
    observer.note("something\x1b[2J")
    observer.finished("a.bin")


def test_a_program_gets_json_lines_that_add_up(capsys: pytest.CaptureFixture[str]) -> None:
    work(JsonLines())
    captured = capsys.readouterr()
    events = [json.loads(line) for line in captured.err.splitlines()]
    assert captured.out == ""
    assert events[0] == {"event": "started", "name": "a.bin", "total": 10_000_000}
    assert sum(event.get("bytes", 0) for event in events) == 10_000_000
    assert len(events) < 10
    assert events[-1] == {"event": "finished", "name": "a.bin"}


def test_bars_go_when_their_work_ends(capsys: pytest.CaptureFixture[str]) -> None:
    with Bars() as bars:
        work(bars)
        bars.started("b.bin", None)
        bars.started("b.bin", 5)
        bars.advanced("never started", 1)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "a.bin" in captured.err
    assert "\x1b[2J" not in captured.err


def test_without_a_terminal_only_notes_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    with reporter(quiet=False, as_json=False) as observer:
        assert isinstance(observer, Notes)
        work(observer)
    assert capsys.readouterr().err == "something\\x1b[2J\n"


def test_quiet_is_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    with reporter(quiet=True, as_json=True) as observer:
        assert isinstance(observer, Silent)
        work(observer)
    assert capsys.readouterr() == ("", "")
