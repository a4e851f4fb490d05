"""`bundle completion`: the real shells, with the script that the program prints."""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bundler.commands.main import COMMANDS
from factory import Workshop, put
from manifests.lock import Lock, LockedModel
from runtime.root import Root

WORDS = ["acme/one", "one-640", "two"]
ASK_BASH = """
eval "$(bundle completion bash)"
compopt() { printf 'compopt %s\\n' "$*"; }
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=()
_bundle_completion "$1"
for word in "${COMPREPLY[@]}"; do printf '%s\\n' "$word"; done
"""
ASK_FISH = """
bundle completion fish | source
complete -C "$argv"
"""
ASK_ZSH = """
compdef() { }
eval "$(bundle completion zsh)"
compadd() { print -rl -- $completions }
_describe() { print -rl -- ${completions_with_descriptions%%:*} }
_path_files() { print -r -- path_files $@ }
words=("$@"); CURRENT=$#
_bundle_completion
"""


@pytest.fixture
def site(workshop: Workshop) -> Root:
    models = (
        LockedModel(id="acme/one", aliases=("one-640",), task="raw", packages=(workshop.package({"x": b"1"}),)),
        LockedModel(id="two", task="raw", packages=(workshop.package({"x": b"2"}),)),
    )
    root = workshop.site("site with a space")
    put(workshop.build(Lock(format=1, line="line", sequence=1, models=models)).path, root)
    return root


@pytest.fixture
def clean(site: Root, tmp_path: Path) -> dict[str, str]:
    """An environment in which `bundle` is this program."""
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "bundle").write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m bundler "$@"\n')
    (programs / "bundle").chmod(0o755)
    path = f"{programs}:{os.environ['PATH']}"
    kept = {name: value for name, value in os.environ.items() if name in {"PYTHONPATH", "LANG", "LD_LIBRARY_PATH"}}
    return {**kept, "PATH": path, "HOME": str(tmp_path), "BUNDLE_HOME": str(site.path)}


def asked(shell: str, words: list[str], clean: dict[str, str]) -> list[str]:
    """What a shell offers for the last of `words`."""
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell} on this machine")
    command = {
        "bash": ["bash", "--norc", "-c", ASK_BASH, "bash", *words],
        "zsh": ["zsh", "-f", "-c", ASK_ZSH, "zsh", *words],
        "fish": ["fish", "--no-config", "-c", ASK_FISH, *words],
    }[shell]  # fmt: skip
    done = subprocess.run(command, env=clean, capture_output=True, text=True, check=False)
    assert done.stderr == "", done.stderr
    return [line.split("\t")[0] for line in done.stdout.splitlines() if line]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["bundle", "ex"], ["export"]),
        (["bundle", "infer", ""], WORDS),
        (["bundle", "infer", "acme/"], ["acme/one"]),
        (["bundle", "infer", "one"], ["one-640"]),
        (["bundle", "models", "show", ""], WORDS),
        (["bundle", "models", "explain", "t"], ["two"]),
        (["bundle", "models", "ex"], ["explain"]),
        (["bundle", "export", ""], WORDS),
        (["bundle", "export", "two", ""], ["acme/one", "one-640"]),
        (["bundle", "export", "--layout", "in"], ["inference"]),
        (["bundle", "env", "--format", "sy"], ["systemd"]),
        (["bundle", "models", "show", "absent"], []),
        (["bundle", "manual", "tr"], ["trust"]),
        (["bundle", "manual", "trust", ""], ["init", "show"]),
        (["bundle", "manual", "trust", "in"], ["init"]),
        (["bundle", "manual", "list", ""], []),
        (["bundle", "manual", "nothing", ""], []),
    ],
    ids=lambda value: " ".join(value) if value and value[0] == "bundle" else "",
)
def test_a_shell_offers_what_there_is(shell: str, words: list[str], offered: list[str], clean: dict[str, str]) -> None:
    assert sorted(asked(shell, words, clean)) == offered


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_offers_every_command(shell: str, clean: dict[str, str]) -> None:
    assert set(asked(shell, ["bundle", ""], clean)) == set(COMMANDS)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_manual_has_every_command_to_offer(shell: str, clean: dict[str, str]) -> None:
    assert set(asked(shell, ["bundle", "manual", ""], clean)) == set(COMMANDS)


def protocol(clean: dict[str, str], line: str, shell: str = "bash") -> subprocess.CompletedProcess[str]:
    """What the program answers to a shell's script, for the word that `line` ends in."""
    count = str(len(line.split(" ")) - 1)
    variables = {"COMP_WORDS": line, "COMP_CWORD": count, "_BUNDLE_COMPLETE": f"{shell}_complete"}
    return subprocess.run(["bundle"], env={**clean, **variables}, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("line", ["bundle infer ./pi", "bundle infer two ", "bundle infer two --draw=o"])
def test_paths_are_left_to_the_shell(clean: dict[str, str], line: str) -> None:
    assert protocol(clean, line).stdout.split(",")[0] == "file"


def test_a_folder_follows_when_every_model_is_named(clean: dict[str, str]) -> None:
    assert protocol(clean, "bundle export two acme/one one-640 ").stdout == "dir,\n"
    assert protocol(clean, "bundle export two ./o").stdout == "dir,./o\n"


@pytest.mark.parametrize("given", ["--root {}", "--root={}"])
@pytest.mark.parametrize("spelled", ["plain", "~/plain", "$HOME/plain", "${{HOME}}/plain"])
def test_the_root_of_the_line_is_the_one_that_counts(
    workshop: Workshop, clean: dict[str, str], given: str, spelled: str
) -> None:
    other = workshop.site("plain")
    put(workshop.build(workshop.lock({"three": {"x": b"3"}}, line="other"), name="o").path, other)
    place = str(other.path) if spelled == "plain" else spelled.format()
    assert protocol(clean, f"bundle infer {given.format(place)} ").stdout == "plain,three\n"


def broken(site: Root, harm: str) -> None:
    if harm == "no root":
        (site.path / "root.json").unlink()
    elif harm == "a root of a newer program":
        (site.path / "root.json").chmod(0o644)
        (site.path / "root.json").write_text('{"format":99}')
    elif harm == "nothing installed":
        (site.path / "current").unlink()
    elif harm == "a pointer that leads nowhere":
        (site.path / "current").unlink()
        (site.path / "current").symlink_to("generations/9")
    elif harm == "a line that is no JSON":
        (site.path / "current/lines/line.json").write_bytes(b"\xff{")
    elif harm == "a line of a newer program":
        (site.path / "current/lines/line.json").write_text('{"format":99}')


@pytest.mark.parametrize(
    "harm",
    [
        "no root",
        "a root of a newer program",
        "nothing installed",
        "a pointer that leads nowhere",
        "a line that is no JSON",
        "a line of a newer program",
    ],
)
def test_a_root_that_cannot_be_read_completes_to_nothing_and_says_nothing(
    site: Root, clean: dict[str, str], harm: str
) -> None:
    broken(site, harm)
    done = protocol(clean, "bundle models show ")
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "", "")


@pytest.mark.parametrize("root", ["~nobody-of-this-name/x", "/dev/null", "/dev/null/x", "''", "'", "\\"])
def test_a_strange_root_completes_to_nothing_and_says_nothing(clean: dict[str, str], root: str) -> None:
    done = protocol(clean, f"bundle models show --root {root} ")
    assert (done.returncode, done.stderr) == (0, "")


def test_offering_commands_imports_none_of_them(clean: dict[str, str]) -> None:
    script = (
        "import sys, click\n"
        "from bundler.commands.main import cli\n"
        "offered = cli.shell_complete(click.Context(cli, info_name='bundle'), '')\n"
        "assert all(item.help for item in offered)\n"
        "print(sorted(n for n in sys.modules if n.startswith(('bundler.commands.', 'runtime', 'numpy'))))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], env=clean, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['bundler.commands.main', 'bundler.commands.output']"


def test_the_manual_s_commands_are_offered_without_the_modules_behind_them(clean: dict[str, str]) -> None:
    script = (
        "import os, sys, atexit\n"
        "atexit.register(lambda: print(*sorted(n for n in sys.modules if n.startswith(('bundler.', 'runtime')))))\n"
        "from bundler.commands.main import main\n"
        "main([])\n"
    )
    variables = {"COMP_WORDS": "bundle manual tr", "COMP_CWORD": "2", "_BUNDLE_COMPLETE": "bash_complete"}
    done = subprocess.run(
        [sys.executable, "-c", script], env={**clean, **variables}, capture_output=True, text=True, check=True
    )
    offered, imported = done.stdout.splitlines()
    assert offered == "plain,trust"
    commands = ("bundler.commands", "bundler.commands.main", "bundler.commands.manual", "bundler.commands.output")
    assert tuple(imported.split()) == commands


def test_a_completion_needs_no_network_library_and_no_model_runtime(clean: dict[str, str]) -> None:
    script = (
        "import os, sys, atexit\n"
        "atexit.register(lambda: print(sorted({'requests', 'onnxruntime', 'cv2', 'boto3'} & set(sys.modules))))\n"
        "from bundler.commands.main import main\n"
        "main([])\n"
    )
    variables = {"COMP_WORDS": "bundle infer ", "COMP_CWORD": "2", "_BUNDLE_COMPLETE": "bash_complete"}
    done = subprocess.run(
        [sys.executable, "-c", script], env={**clean, **variables}, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == [*(f"plain,{word}" for word in WORDS), "[]"]


@pytest.mark.parametrize("arguments", [[], ["tcsh"], ["bash", "zsh"]])
def test_misuse_names_the_shells_or_the_argument(clean: dict[str, str], arguments: list[str]) -> None:
    done = subprocess.run(["bundle", "completion", *arguments], env=clean, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "bash" in done.stderr or "zsh" in done.stderr
