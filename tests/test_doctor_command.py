"""The command `bundle doctor`: exit codes, odd surroundings, what it writes and asks; and the findings as values."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from doctoring import PROJECT, become, doctor, is_administrator
from factory import Workshop
from manifests.errors import CorruptStoreError, FindingsError
from manifests.finding import Finding, Subject, Verdict, examine, seen, worst
from runtime.environment import variables as variables_of
from runtime.root import Root


def test_a_problem_has_an_exit_code_of_its_own(tmp_path: Path) -> None:
    done = doctor("--root", tmp_path / "none")
    assert done.exit_code == FindingsError.exit_code
    lines = done.stdout.splitlines()
    assert lines[0].startswith("problem  root: there is no root")
    assert lines[1].strip().startswith("bundle trust init")
    assert lines[-1].startswith("problem 1,")
    assert f"site {tmp_path / 'none'}" in lines[-1]


def test_no_problem_is_exit_code_nought_and_the_json_says_the_worst(place: Root) -> None:
    done = doctor("--root", place.path, "--json")
    told = json.loads(done.stdout)
    assert done.exit_code == 0
    assert told["worst"] == "warning"
    assert told["looked_at"]["site"] == str(place.path)
    assert all(each["fix"] for each in told["findings"] if each["verdict"] in {"warning", "problem"})
    order = [list(Verdict).index(Verdict(each["verdict"])) for each in told["findings"]]
    assert order == sorted(order)


def test_without_option_or_variable_a_root_is_found_where_clients_are_led(place: Root) -> None:
    environ = {name: value for name, value in variables_of(place).items() if name != "BUNDLE_HOME"}
    told = json.loads(doctor("--json", **environ).stdout)
    assert told["looked_at"]["site"] == str(place.path)


@pytest.mark.parametrize("options", [["--store", "~nosuchuser/x"], ["--root", "~nosuchuser/x"]])
def test_the_home_of_a_user_whom_nobody_knows_is_a_name_like_any_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    told = json.loads(doctor("--json", *options).stdout)
    assert str(tmp_path / "~nosuchuser" / "x") in told["looked_at"].values()


@is_administrator
def test_a_user_without_home_and_without_entry_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    doctor("--json", HOME=str(tmp_path))  # while everything may be imported
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.chdir("/")
    with become(54321):
        done = doctor("--json")
    found = {each["code"]: each for each in json.loads(done.stdout)["findings"]}
    assert "HOME is not set" in found["no-home"]["what"]
    assert {"store-closed", "pip-settings", "hub-token"} <= found.keys()


@pytest.mark.parametrize("options", [[], ["--root", "relative"], ["--store", "relative"]])
def test_a_current_folder_that_was_removed_is_a_finding(tmp_path: Path, options: list[str]) -> None:
    script = 'mkdir "$0" && cd "$0" && rmdir "$0" && exec "$@"'
    command = [sys.executable, "-c", "from bundler.commands.main import main; main()", "doctor", "--json", *options]
    environ = {**os.environ, "PYTHONPATH": str(PROJECT), "HOME": str(tmp_path)}
    done = subprocess.run(
        ["sh", "-c", script, tmp_path / "gone", *command], env=environ, capture_output=True, text=True, check=False
    )
    found = {each["code"]: each for each in json.loads(done.stdout)["findings"]}
    assert done.returncode == FindingsError.exit_code
    assert found["no-folder"]["fix"] == "cd /"
    assert {"onnxruntime", "program"} & found.keys()
    assert len(found) > 3


HOOK = """
import json, os, sys

seen = []


def watch(event, arguments):
    if event == "open" and isinstance(arguments[0], str):
        flags = arguments[2] if isinstance(arguments[2], int) else 0
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC) and arguments[0] != os.devnull:
            seen.append(arguments[0])
    elif event in {"socket.connect", "socket.getaddrinfo", "socket.sendto"}:
        seen.append(event)
    elif event in {"os.rename", "os.chmod", "os.chown", "os.utime"} and not isinstance(arguments[0], int):
        seen.append(str(arguments[0]))


sys.addaudithook(watch)
from bundler.commands.main import main

try:
    main(sys.argv[1:])
except SystemExit as end:
    assert end.code in {0, 80}, end.code
print(json.dumps(seen), file=sys.stderr)
"""


def test_nothing_is_written_but_the_trial_of_links_and_nobody_is_asked(place: Root, workshop: Workshop) -> None:
    watched = [sys.executable, "-B", "-c", HOOK]
    command = [*watched, "doctor", "--root", place.path, "--store", workshop.store.path, "--json"]
    done = subprocess.run(command, cwd=workshop.folder, capture_output=True, text=True, check=True)
    seen = json.loads(done.stderr.splitlines()[-1])
    assert seen, "the trial of links was not seen: the watch is blind"
    assert not [each for each in seen if not each.startswith(str(place.state / ".doctor."))]


# The value


def test_a_look_that_fails_hides_no_other() -> None:
    one, two, three = Subject("one"), Subject("two"), Subject("three")

    def denied() -> Iterator[Finding]:
        yield one.fine("first", "seen before it failed")
        raise PermissionError(13, "Permission denied", "/secret")

    def torn() -> Iterator[Finding]:
        raise CorruptStoreError("torn")

    found = examine([(one, denied), (two, torn), (three, lambda: [three.note("seen", "seen")])])
    assert [(each.subject, each.code) for each in found] == [
        ("two", "cannot-look"), ("one", "cannot-look"), ("three", "seen"), ("one", "first"),
    ]  # fmt: skip
    assert all(each.fix for each in found[:2])
    assert "/secret" in found[1].what
    assert worst(found) is Verdict.PROBLEM
    assert worst([]) is Verdict.FINE


@pytest.mark.parametrize("error", [ValueError("odd"), RuntimeError("odd"), KeyError("odd"), TypeError("odd")])
def test_a_look_that_fails_in_a_way_that_nobody_thought_of_hides_no_other(error: Exception) -> None:
    one, two = Subject("one"), Subject("two")

    def fails() -> Iterator[Finding]:
        yield one.fine("first", "seen before it failed")
        raise error

    found = examine([(one, fails), (two, lambda: [two.note("seen", "seen")])])
    assert [each.code for each in found] == ["cannot-look", "seen", "first"]
    assert "odd" in found[0].what
    failed: list[Finding] = []

    def see() -> int:
        raise error

    assert seen(one, see, instead=3, failed=failed) == 3
    assert failed == found[:1]


def test_what_two_looks_find_alike_is_said_once() -> None:
    one = Subject("one")
    assert len(examine([(one, lambda: [one.note("a", "b")]), (one, lambda: [one.note("a", "b")])])) == 1
