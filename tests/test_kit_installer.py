"""The installer of a kit: what it refuses, what it leaves alone, and that the old program answers till the new does."""

import ast
import errno
import importlib.util
import io
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import msgspec
import numpy as np
import pytest

from bundler.doctor import program
from bundler.kits import readme
from factory import Workshop, elliptic_signer, tree
from kit_factory import HERE, PYTHON, small_kit
from manifests.digest import Digest
from manifests.kit import decode, encode_sums
from manifests.lock import Lock, LockedModel
from onnx_files import Node, Tensor, onnx_model

PROJECT = Path(__file__).parent.parent
INSTALLER = PROJECT / "bundler" / "kits" / "installer"


def loaded() -> ModuleType:
    """`install.py`, which is a program and no module of ours."""
    spec = importlib.util.spec_from_file_location("kit_installer", INSTALLER / "install.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


installer = loaded()


@dataclass
class Site:
    """A machine with a Python, a home, and a folder for the program."""

    folder: Path
    place: Path

    def install(self, kit: Path, *arguments: object, code: int = 0, **variables: str) -> str:
        """Run a kit's `install.sh`: all that it says."""
        done = self.start(kit, *arguments, **variables)
        said, _ = done.communicate(timeout=120)
        assert done.returncode == code, said
        return said

    def start(self, kit: Path, *arguments: object, **variables: str) -> subprocess.Popen[str]:
        """Begin to run it."""
        given = [str(each) for each in arguments or (self.place,)]
        environment = {**os.environ, "HOME": str(self.folder), "PYTHON": sys.executable, **variables}
        return subprocess.Popen(
            ["sh", str(kit / "install.sh"), *given],
            cwd=self.folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def answer(self) -> str:
        """What the program says that is active; empty if there is none."""
        program = self.place / "bin" / "bundle"
        if not program.exists():
            return ""
        variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        done = subprocess.run([program, "--version"], env=variables, capture_output=True, text=True, check=True)
        return done.stdout.split()[-1]

    def environments(self) -> list[str]:
        folder = self.place / "environments"
        return sorted(each.name.partition("-")[0] for each in folder.iterdir()) if folder.exists() else []


@pytest.fixture
def site(tmp_path: Path) -> Site:
    (tmp_path / "home of a user").mkdir()
    return Site(tmp_path / "home of a user", tmp_path / "home of a user" / "the program")


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_kit(tmp_path_factory.mktemp("stick") / "my kit", keys={"line.pub.pem": elliptic_signer().key})


# --- the machine


def machine(**facts: object) -> object:
    """A machine that a kit for Linux on x86_64 and Python 3.11 runs on, but for these facts."""
    fitting: dict[str, object] = {
        "implementation": "CPython",
        "version": (3, 11),
        "bits": 64,
        "free_threaded": False,
        "system": "Linux",
        "processor": "x86_64",
        "libc": "glibc 2.36",
        "modules": frozenset({"venv", "zlib"}),
    }
    return installer.Machine(**{**fitting, **facts})


WINDOWS = {"system": "Windows", "processor": "AMD64", "libc": ""}


@pytest.mark.parametrize(
    ("facts", "target", "words"),
    [
        ({}, "manylinux_2_28_x86_64", ""),
        ({"libc": "glibc 2.28"}, "manylinux_2_28_x86_64", ""),
        ({"processor": "aarch64"}, "manylinux_2_28_aarch64", ""),
        (WINDOWS, "win_amd64", ""),
        ({"version": (3, 12)}, "manylinux_2_28_x86_64", "for Python 3.11, and .* is 3.12"),
        ({"version": (2, 7)}, "manylinux_2_28_x86_64", "PYTHON=/path/to/python"),
        ({"implementation": "PyPy"}, "manylinux_2_28_x86_64", "plain CPython, and .* is PyPy"),
        ({"free_threaded": True}, "manylinux_2_28_x86_64", "free-threaded"),
        ({"bits": 32}, "manylinux_2_28_x86_64", "64-bit"),
        ({"modules": frozenset({"zlib"})}, "manylinux_2_28_x86_64", "module venv"),
        ({"libc": "glibc 2.27"}, "manylinux_2_28_x86_64", "glibc 2.28 or later, and this machine has glibc 2.27"),
        ({"libc": "glibc 2.9"}, "manylinux_2_28_x86_64", "has glibc 2.9"),
        ({"libc": ""}, "manylinux_2_28_x86_64", "musl"),
        ({"processor": "aarch64"}, "manylinux_2_28_x86_64", "Linux on x86_64, and this machine is Linux on aarch64"),
        ({}, "win_amd64", "for win_amd64, and this machine is Linux on x86_64"),
        (WINDOWS, "manylinux_2_28_x86_64", "this machine is Windows on AMD64"),
        ({}, "macosx_11_0_arm64", "for macosx_11_0_arm64"),
        ({}, "amiga", "for amiga"),
    ],
)
def test_a_machine_that_a_kit_is_not_for_is_told_why(facts: dict[str, object], target: str, words: str) -> None:
    import re

    problems = installer.machine_problems("3.11", target, machine(**facts))
    assert len(problems) == bool(words), problems
    assert all(re.search(words, problem) for problem in problems)


def test_this_machine_is_one_that_its_own_kit_is_for() -> None:
    assert installer.machine_problems(PYTHON, HERE, installer.Machine.here()) == []


@pytest.mark.parametrize("version", [(3, 8), (3, 11)])
def test_an_older_python_can_read_the_installer(version: tuple[int, int]) -> None:
    ast.parse((INSTALLER / "install.py").read_text(), feature_version=version)


def test_a_kit_for_another_python_and_machine_names_all_that_is_wrong_and_makes_nothing(
    tmp_path: Path, site: Site
) -> None:
    other = small_kit(tmp_path / "kit", python="3.99", platform="win_amd64")
    (other / "stray.txt").write_text("stray")
    command = [sys.executable, "-I", str(other / "install.py"), str(site.place)]
    said = subprocess.run(command, capture_output=True, text=True, check=False).stderr
    for words in ("for Python 3.99", "for win_amd64", "stray.txt is no part of this kit"):
        assert words in said
    assert f"this kit needs Python 3.99: {sys.executable} is {PYTHON}\n" in site.install(other, code=1)
    assert not site.place.exists()


def test_without_the_right_python_install_sh_says_which_one_is_needed(tmp_path: Path, kit: Path) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("sed", "dirname", "sh"):
        (programs / name).symlink_to(str(shutil.which(name)))
    variables = {"PATH": str(programs), "HOME": str(tmp_path)}
    shell = [str(shutil.which("sh")), str(kit / "install.sh")]
    done = subprocess.run(shell, env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"this kit needs Python {PYTHON}: there is no python{PYTHON}, python3, python\n" in done.stderr
    (programs / "python3").write_text("#!/bin/sh\nexit 1\n")
    (programs / "python3").chmod(0o755)
    done = subprocess.run(shell, env=variables, capture_output=True, text=True, check=False)
    assert (
        f"this kit needs Python {PYTHON}: python3 does not work here; there is no python{PYTHON}, python" in done.stderr
    )
    (programs / f"python{PYTHON}").symlink_to(sys.executable)
    done = subprocess.run([*shell, "--check"], env=variables, capture_output=True, text=True, check=False)
    assert "this machine can run it" in done.stdout


@pytest.mark.parametrize(
    ("program", "words"),
    [
        (None, "there is no "),
        ("exit 1", " does not work here"),
        ("echo '\033[2J 3.11'", " does not work here"),
        ("echo 2.7", " is 2.7"),
        ("echo 3.6", " is 3.6"),
    ],
)
def test_a_python_that_is_named_and_is_none_or_another_is_said_in_a_sentence(
    tmp_path: Path, kit: Path, site: Site, program: str | None, words: str
) -> None:
    python = tmp_path / "a python"
    if program is not None:
        python.write_text(f'#!/bin/sh\ncase "$*" in *install.py*) echo "SyntaxError" ;; *) {program} ;; esac\n')
        python.chmod(0o755)
    said = site.install(kit, code=1, PYTHON=str(python))
    assert said.startswith(f"error: this kit needs Python {PYTHON}: ")
    assert words in said.splitlines()[0]
    assert f"PYTHON=/path/to/python{PYTHON}" in said
    assert "\x1b" not in said


def test_the_shell_script_is_plain() -> None:
    subprocess.run(["sh", "-n", INSTALLER / "install.sh"], check=True)
    if shellcheck := shutil.which("shellcheck"):
        subprocess.run([shellcheck, INSTALLER / "install.sh"], check=True)


# --- the files


def damage(kit: Path) -> None:
    wheel = next(kit.glob("wheels/pip-*"))
    content = bytearray(wheel.read_bytes())
    content[len(content) // 2] ^= 1
    wheel.write_bytes(content)


def link(kit: Path) -> None:
    (kit / "README.txt").rename(kit.parent / "elsewhere.txt")
    (kit / "README.txt").symlink_to(kit.parent / "elsewhere.txt")


def list_anew(kit: Path) -> None:
    """What a thorough attacker does: the list is right again, and only its digest is another."""
    names = [name for name, content in tree(kit).items() if isinstance(content, bytes) and name != "SHA256SUMS"]
    (kit / "SHA256SUMS").write_bytes(encode_sums({name: Digest.of((kit / name).read_bytes()) for name in names}))


def described(**facts: object) -> Callable[[Path], None]:
    """`kit.json` with other fields, and listed so."""

    def change(kit: Path) -> None:
        value = json.loads((kit / "kit.json").read_text())
        (kit / "kit.json").write_text(json.dumps({**value, **facts}, indent=2))
        list_anew(kit)

    return change


def no_list(kit: Path, *, instead: str) -> None:
    (kit / "SHA256SUMS").unlink()
    if instead == "pipe":
        os.mkfifo(kit / "SHA256SUMS")


def pipe(kit: Path) -> None:
    (kit / "requirements.txt").unlink()
    os.mkfifo(kit / "requirements.txt")


def cut_off(kit: Path, size: int) -> None:
    (kit / "kit.json").write_bytes((kit / "kit.json").read_bytes()[:size])


FILES: list[tuple[str, Callable[[Path], object], str]] = [
    ("one bit", damage, "is damaged: copy the kit again"),
    ("missing", lambda kit: (kit / "requirements.txt").unlink(), "requirements.txt is missing"),
    ("unlisted", lambda kit: (kit / "wheels" / "more.whl").write_text("x"), "wheels/more.whl is no part of this kit"),
    ("unlisted folder", lambda kit: (kit / "x").symlink_to("/etc"), "x is no part of this kit"),
    ("a link", link, "README.txt is damaged"),
    ("a pipe", pipe, "requirements.txt is damaged, it is no regular file"),
    ("the list", lambda kit: (kit / "SHA256SUMS").write_text("x"), "SHA256SUMS cannot be read"),
    ("a name twice", lambda kit: (kit / "SHA256SUMS").write_text(f"{'0' * 64}  a\n" * 2), "SHA256SUMS cannot be read"),
    (
        "a forged name",
        lambda kit: (kit / "SHA256SUMS").write_text(f"{'0' * 64}  a\x1b[2J\n"),
        "SHA256SUMS cannot be read",
    ),
    ("no list", lambda kit: no_list(kit, instead=""), "SHA256SUMS cannot be read"),
    ("a pipe for a list", lambda kit: no_list(kit, instead="pipe"), "SHA256SUMS cannot be read (is no regular file)"),
    ("description", lambda kit: cut_off(kit, 200), "kit.json is damaged"),
    (
        "no Python",
        lambda kit: cut_off(kit, 20),
        "kit.json, beside install.sh, is missing or damaged: copy the kit again",
    ),
    ("a program that leads out", described(program="../../x"), "kit.json does not describe this kit"),
    ("a forged line", described(program="1.0\nfingerprint  sha256:00"), "kit.json does not describe this kit"),
    ("half a character", described(platform="\ud800"), "kit.json does not describe this kit"),
    ("an extra", described(extras=["\x1b[2J"]), "kit.json does not describe this kit"),
    ("too large", described(size=float("inf"), wheels=[{"file": "x", "size": float("inf")}]), "does not describe this"),
    ("another wheel", described(wheels=[]), "kit.json does not describe this kit"),
]


@pytest.mark.parametrize(("change", "words"), [row[1:] for row in FILES], ids=[row[0] for row in FILES])
def test_a_kit_that_is_not_whole_is_refused_and_the_file_named(
    tmp_path: Path, kit: Path, site: Site, change: Callable[[Path], object], words: str
) -> None:
    copy = shutil.copytree(kit, tmp_path / "copy")
    change(copy)
    said = site.install(copy, code=1)
    assert words in said
    assert "Traceback" not in said
    assert said.isascii()
    assert "\x1b" not in said
    assert not (site.place / "environments").exists()
    assert not (site.place / ".kit.partial").exists()


def test_a_file_whose_name_would_write_to_the_terminal_is_named_in_harmless_letters(
    tmp_path: Path, kit: Path, site: Site
) -> None:
    copy = shutil.copytree(kit, tmp_path / "copy")
    forged = f"fingerprint  sha256:{'0' * 64}"
    (copy / f"a\x1b[2J\n{forged}").write_text("x")
    Path(os.fsdecode(os.fsencode(copy) + b"/\xff")).write_text("x")
    said = site.install(copy, code=1)
    assert "a\\x1b[2J\\nfingerprint" in said
    assert "\\udcff is no part of this kit" in said
    assert forged not in said.splitlines()
    assert "\x1b" not in said


def test_what_desktops_and_file_systems_leave_is_no_part_of_the_kit_and_no_fault(
    tmp_path: Path, kit: Path, site: Site
) -> None:
    copy = shutil.copytree(kit, tmp_path / "copy")
    for name in (".DS_Store", "Thumbs.db", "wheels/._numpy.whl", "System Volume Information/x", "desktop.ini"):
        (copy / name).parent.mkdir(exist_ok=True)
        (copy / name).write_text("x")
    (copy / "install.sh").chmod(0o644)  # as a FAT file system has it
    assert "the kit is whole" in site.install(copy, "--check")
    assert not site.place.exists()


def test_check_prints_the_fingerprint_and_changes_nothing(kit: Path, site: Site) -> None:
    said = site.install(kit, "--check")
    assert str(Digest.of((kit / "SHA256SUMS").read_bytes())) in said
    assert not site.place.exists()


# --- installing


def test_a_kit_is_installed_once_and_says_what_to_type_next(kit: Path, site: Site) -> None:
    before = tree(kit)
    said = site.install(kit)
    assert site.answer() == "1.0"
    assert said.splitlines()[-1] == f"  bundle trust init --key '{kit}/trust/line.pub.pem'"
    assert said.splitlines()[-2] == f"  export PATH='{site.place}/bin':\"$PATH\""
    assert elliptic_signer().key.fingerprint in said
    installed = tree(site.place)
    again = site.install(kit)
    assert "nothing to do" in again
    assert tree(site.place).keys() == installed.keys()
    assert tree(kit) == before
    assert not (site.folder / ".local").exists()


def test_an_upgrade_and_the_way_back(tmp_path: Path, kit: Path, site: Site) -> None:
    newer = small_kit(tmp_path / "newer", "2.0")
    site.install(kit)
    said = site.install(newer)
    assert site.answer() == "2.0"
    assert "to go back, run the installer of that kit" in said
    started = time.monotonic()
    assert "already installed" in site.install(kit)
    assert time.monotonic() - started < 5
    assert site.answer() == "1.0"
    assert site.environments() == ["1.0", "2.0"]


def test_a_pip_that_is_configured_to_nowhere_does_no_harm(kit: Path, site: Site) -> None:
    nowhere = (
        "[global]\nindex-url = http://127.0.0.1:1/\nfind-links = http://127.0.0.1:1/\nno-binary = :all:\ntarget = /x\n"
    )
    for name in (".config/pip/pip.conf", ".pip/pip.conf", "named.conf"):
        (site.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (site.folder / name).write_text(nowhere)
    variables = {
        "PIP_CONFIG_FILE": str(site.folder / "named.conf"),
        "PIP_TARGET": "/nowhere",
        "PIP_NO_BINARY": ":all:",
        "PIP_REQUIRE_VIRTUALENV": "maybe",
        "PYTHONPATH": "/nowhere",
        "PYTHONSTARTUP": "/nowhere",
    }
    site.install(kit, **variables)
    assert site.answer() == "1.0"


BROKEN = {
    "does not answer": "def main(): raise SystemExit('no such thing')\n",
    "says another version": "def main(): print('bundle, version 0.9')\n",
}


@pytest.mark.parametrize("main", BROKEN.values(), ids=BROKEN.keys())
def test_a_new_program_that_does_not_answer_is_not_switched_to(
    tmp_path: Path, kit: Path, site: Site, main: str
) -> None:
    site.install(kit)
    said = site.install(small_kit(tmp_path / "broken", "2.0", main=main), code=1)
    assert "nothing was switched" in said
    assert site.answer() == "1.0"
    assert site.environments() == ["1.0"]


def test_an_extra_that_cannot_be_loaded_is_not_switched_to(tmp_path: Path, site: Site) -> None:
    said = site.install(small_kit(tmp_path / "kit", extras=("cpu",)), code=1)
    assert "No module named 'onnxruntime'" in said
    assert site.answer() == ""


@pytest.mark.parametrize("moment", ["making", "pip", "unmarked"])
def test_killed_anywhere_the_old_program_answers_and_the_next_run_goes_on(
    tmp_path: Path, kit: Path, site: Site, moment: str
) -> None:
    newer = small_kit(tmp_path / "newer", "2.0")
    site.install(kit)
    began = {
        "making": lambda folder: folder.exists(),
        "pip": lambda folder: any(folder.glob("lib/python*/site-packages/bundler")),
        "unmarked": lambda folder: (folder / "kit.json").exists() or (folder / "bin" / "bundle").exists(),
    }[moment]
    started = site.start(newer)
    folder = site.place / "environments" / f"2.0-{Digest.of((newer / 'SHA256SUMS').read_bytes()).hex[:8]}"
    while not began(folder):
        assert started.poll() is None
        time.sleep(0.001)
    os.killpg(started.pid, signal.SIGKILL)
    started.communicate()
    assert site.answer() == "1.0"
    assert folder.exists()
    assert not (folder / "SHA256SUMS").exists()
    assert "removing what an installer that was stopped left" in site.install(newer)
    assert site.answer() == "2.0"


SICK = """
import os, time
from pathlib import Path
def main():
    home = Path(os.environ["HOME"])
    if (home / "sick").exists():
        raise SystemExit("no memory")
    while (home / "hang").exists():
        (home / "hanging").touch()
        time.sleep(0.02)
    print("bundle, version {version}")
"""
"""A program that does not answer while `sick` is there, and waits while `hang` is."""


def test_a_finished_environment_that_was_broken_since_is_replaced(kit: Path, site: Site) -> None:
    site.install(kit)
    (program,) = site.place.glob("environments/*/lib/python*/site-packages/bundler/tool.py")
    program.unlink()
    said = site.install(kit)
    assert "it stays until another has taken its place" in said
    assert "making" in said
    assert "stopped" not in said
    assert site.answer() == "1.0"
    (left,) = (site.place / "environments").iterdir()
    assert left.name.endswith("-2")
    assert "to go back" not in said
    assert "nothing to do" in site.install(kit)


def test_a_working_program_that_fails_for_a_moment_is_never_removed(tmp_path: Path, site: Site) -> None:
    """As it does where memory is short: what cannot be replaced stays."""
    kit = small_kit(tmp_path / "kit", main=SICK)
    site.install(kit)
    before = tree(site.place)
    (site.folder / "sick").touch()
    said = site.install(kit, code=1)
    assert "was installed, and now its program does not answer: no memory" in said
    assert "nothing was switched" in said
    assert tree(site.place) == before
    (site.folder / "sick").unlink()
    assert site.answer() == "1.0"
    assert "nothing to do" in site.install(kit)


def test_an_active_environment_without_its_mark_stays_until_another_answers(kit: Path, site: Site) -> None:
    site.install(kit)
    (environment,) = (site.place / "environments").iterdir()
    (environment / "SHA256SUMS").unlink()
    damaged = shutil.copytree(kit, site.folder / "damaged")
    damage(damaged)
    site.install(damaged, code=1)
    assert site.answer() == "1.0"
    site.install(kit)
    assert site.answer() == "1.0"
    assert not environment.exists()


# --- a medium that answers differently the second time, and signals


def wait_for(path: Path, started: subprocess.Popen[str]) -> None:
    while not path.exists():
        assert started.poll() is None, started.communicate()
        time.sleep(0.001)


def test_a_medium_that_is_swapped_after_it_was_compared_changes_nothing(tmp_path: Path, kit: Path, site: Site) -> None:
    """As a share or a stick with a will of its own may do."""
    evil = small_kit(tmp_path / "evil", "1.0", main="def main(): print('evil, version 6.66')\n")
    medium = shutil.copytree(kit, tmp_path / "medium")
    started = site.start(medium)
    wait_for(site.place / "environments", started)
    for name in ("wheels", "requirements.txt", "kit.json", "SHA256SUMS"):
        (medium / name).rename(tmp_path / f"good {name}")
        (evil / name).rename(medium / name)
    said, _ = started.communicate(timeout=60)
    assert started.returncode == 0, said
    assert site.answer() == "1.0"
    assert not (site.place / ".kit.partial").exists()


def test_a_stick_may_be_pulled_out_once_the_environment_is_being_made(tmp_path: Path, kit: Path, site: Site) -> None:
    medium = shutil.copytree(kit, tmp_path / "medium")
    started = site.start(medium)
    wait_for(site.place / "environments", started)
    medium.rename(tmp_path / "in the pocket")
    said, _ = started.communicate(timeout=60)
    assert started.returncode == 0, said
    assert elliptic_signer().key.fingerprint in said
    assert site.answer() == "1.0"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_ends_the_installer_and_what_it_began(tmp_path: Path, site: Site, number: signal.Signals) -> None:
    kit = small_kit(tmp_path / "kit", main=SICK)
    (site.folder / "hang").touch()
    started = site.start(kit)
    wait_for(site.folder / "hanging", started)
    started.send_signal(number)
    said, _ = started.communicate(timeout=20)  # the pipe ends with the last child that holds it
    assert started.returncode == 128 + number
    assert said.splitlines()[-1].startswith("stopped;")
    assert site.environments() == []
    assert not (site.place / ".kit.partial").exists()
    (site.folder / "hang").unlink()
    site.install(kit)
    assert site.answer() == "1.0"


def test_what_a_killed_installer_began_still_holds_the_folder(tmp_path: Path, site: Site) -> None:
    kit = small_kit(tmp_path / "kit", main=SICK)
    (site.folder / "hang").touch()
    started = site.start(kit)
    wait_for(site.folder / "hanging", started)
    started.kill()
    started.wait()
    assert "or what a killed one began" in site.install(kit, code=1)
    (site.folder / "hang").unlink()
    started.communicate()
    deadline = time.monotonic() + 20
    while "what a killed one began" in (again := site.start(kit)).communicate()[0]:
        assert time.monotonic() < deadline
    assert again.returncode == 0
    assert site.answer() == "1.0"


# --- the site's variables, and where to


def test_no_variable_and_no_folder_of_the_site_gets_into_the_program(tmp_path: Path, kit: Path, site: Site) -> None:
    site.install(kit)
    planted = tmp_path / "planted"
    planted.mkdir()
    for name in ("bundler", "manifests", "sitecustomize", "usercustomize", "os"):
        (planted / f"{name}.py").write_text("raise SystemExit('planted')\n")
    for name in ("PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "PYTHONUSERBASE"):
        variables = {**os.environ, name: str(planted)}
        command = [site.place / "bin" / "bundle"]
        done = subprocess.run(command, cwd=planted, env=variables, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (0, "bundle, version 1.0\n"), done.stderr


def test_the_launcher_gives_on_every_word_as_it_is_and_may_be_reached_through_a_link(
    tmp_path: Path, site: Site
) -> None:
    site.install(small_kit(tmp_path / "kit", main="import sys\ndef main(): print(' {version} ', sys.argv[1:])\n"))
    (tmp_path / "link").symlink_to(site.place / "bin" / "bundle")
    words = ["", "a b", "$HOME", "`x`", "*", "--", "'\""]
    done = subprocess.run([tmp_path / "link", *words], capture_output=True, text=True, check=True)
    assert done.stdout == f" 1.0  {words}\n"
    (found,) = program.observe({"PATH": str(site.place / "bin")})
    assert found.is_ours


def test_the_place_may_have_environments_in_its_own_name(kit: Path, site: Site, tmp_path: Path) -> None:
    place = tmp_path / "environments" / "x" / "bin" / "environments"
    site.install(kit, place)
    assert installer.active(place).startswith("1.0-")
    assert "nothing to do" in site.install(kit, place)


def test_a_link_that_an_earlier_installer_made_is_read_and_replaced(kit: Path, site: Site) -> None:
    site.install(kit)
    launcher = site.place / "bin" / "bundle"
    name = installer.active(site.place)
    launcher.unlink()
    launcher.symlink_to(f"../environments/{name}/bin/bundle")
    assert installer.active(site.place) == name
    assert "nothing to do" in site.install(kit)
    assert not launcher.is_symlink()


UNFIT = ["a:b", "a'b", 'a"b', "a`b", "a$b", "a\\b", "a\nb", "a\x1b[2Jb", os.fsdecode(b"a\xff")]


@pytest.mark.parametrize("name", UNFIT)
def test_a_folder_that_no_program_of_python_can_lie_in_is_refused_in_a_sentence(
    kit: Path, site: Site, tmp_path: Path, name: str
) -> None:
    said = site.install(kit, tmp_path / name, code=1)
    assert "a program of Python cannot lie there" in said
    assert "\x1b" not in said
    assert not os.path.lexists(tmp_path / name)


def test_a_folder_with_spaces_and_other_letters_is_fine(kit: Path, tmp_path: Path, site: Site) -> None:
    site.install(kit, tmp_path / "Program Files (é) & #1 %HOME% * ;")
    program = tmp_path / "Program Files (é) & #1 %HOME% * ;" / "bin" / "bundle"
    done = subprocess.run([program], capture_output=True, text=True, check=True)
    assert done.stdout == "bundle, version 1.0\n"


def test_an_empty_folder_name_is_refused_and_not_taken_for_none(kit: Path, site: Site) -> None:
    assert "DIR is empty" in site.install(kit, "", code=1)
    assert not (site.folder / ".local").exists()


@pytest.mark.parametrize("text", ["~no-such-user-here/x", "loop/x"])
def test_a_folder_that_leads_nowhere_is_refused_in_a_sentence(kit: Path, site: Site, text: str) -> None:
    (site.folder / "loop").symlink_to("loop")
    said = site.install(kit, text, code=1)
    assert "leads nowhere" in said
    assert "Traceback" not in said


def test_where_a_user_has_no_home_a_folder_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    import pwd

    free = next(number for number in range(54321, 65000) if number not in {each.pw_uid for each in pwd.getpwall()})
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr(os, "getuid", lambda: free)
    monkeypatch.setattr(os, "geteuid", lambda: free)
    with pytest.raises(installer.Refusal, match=r"leads nowhere .*name a folder"):
        installer.destination(None)


def test_the_folder_is_judged_by_where_it_really_is(tmp_path: Path, kit: Path, site: Site) -> None:
    """Above the kit's folder is not in it, and behind a link into it is."""
    copy = shutil.copytree(kit, tmp_path / "copy")
    before = tree(copy)
    (tmp_path / "link").symlink_to(copy)
    assert "lies in the kit" in site.install(copy, tmp_path / "link" / "sub", code=1)
    command = ["sh", "install.sh", "../there"]
    variables = {**os.environ, "PYTHON": sys.executable}
    subprocess.run(command, cwd=copy, env=variables, check=True, capture_output=True)
    assert (tmp_path / "there" / "bin" / "bundle").exists()
    assert tree(copy) == before


@pytest.mark.parametrize(
    ("number", "path", "words"),
    [
        (errno.ENOSPC, None, "free some space"),
        (errno.EDQUOT, "/there/x", "free some space"),
        (errno.EACCES, "/there/x", "that you may write to"),
        (errno.EROFS, "/there/x", "that you may write to"),
        (errno.EACCES, "/kit/wheels/x.whl", "copy the kit again"),
        (errno.EIO, "/kit/README.txt", "copy the kit again"),
        (errno.EEXIST, "/there", "name another folder"),
        (errno.EAGAIN, None, "the same command begins anew"),
    ],
)
def test_the_hint_is_about_what_is_wrong(number: int, path: str | None, words: str) -> None:
    assert words in installer.hint(OSError(number, "", path), Path("/kit"))


def test_a_wheel_that_cannot_be_read_is_to_be_copied_again(tmp_path: Path) -> None:
    (found,) = installer._compare(tmp_path / "x.whl", "wheels/x.whl", "0" * 64, io.BytesIO(), 1)
    assert found == "wheels/x.whl is damaged, it cannot be read: No such file or directory: copy the kit again"


def test_a_full_disk_is_an_error_in_words_that_leaves_nothing_half_made(kit: Path, site: Site) -> None:
    limited = ["sh", "-c", 'ulimit -f 200; exec sh "$0" "$1"', str(kit / "install.sh"), str(site.place)]
    variables = {**os.environ, "PYTHON": sys.executable}
    done = subprocess.run(limited, env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {site.place}: File too large\n\nhint: ")
    assert not (site.place / ".kit.partial").exists()


def test_what_is_said_comes_in_order_when_it_is_written_to_a_file(tmp_path: Path, kit: Path, site: Site) -> None:
    said = site.install(small_kit(tmp_path / "broken", main="def main(): raise SystemExit('no')\n"), code=1)
    assert [line.split()[0] for line in said.splitlines()] == ["kit", "fingerprint", "making", "error:", "nothing"]


def test_a_reader_that_goes_away_is_no_traceback(kit: Path, site: Site) -> None:
    script = f'sh "{kit}/install.sh" "{site.place}" | true'
    variables = {**os.environ, "PYTHON": sys.executable}
    done = subprocess.run(["sh", "-c", script], env=variables, capture_output=True, text=True, check=False)
    assert "Exception" not in done.stderr
    site.install(kit)
    assert site.answer() == "1.0"


def test_a_key_that_is_none_is_said_to_be_none(tmp_path: Path, kit: Path, site: Site) -> None:
    copy = shutil.copytree(kit, tmp_path / "copy")
    (copy / "trust" / "line.pub.pem").write_bytes(b"-----BEGIN\n\xff\xff=\n")
    list_anew(copy)
    assert "line.pub.pem  is not a key" in site.install(copy)


def test_a_folder_with_other_things_in_it_is_refused(kit: Path, site: Site) -> None:
    site.place.mkdir()
    (site.place / "photos").mkdir()
    assert "holds other things (photos)" in site.install(kit, code=1)
    assert sorted(path.name for path in site.place.iterdir()) == ["photos"]


@pytest.mark.parametrize("inner", ["", "wheels", "new"])
def test_nothing_is_installed_into_the_kit(tmp_path: Path, kit: Path, site: Site, inner: str) -> None:
    before = tree(kit)
    assert "lies in the kit" in site.install(kit, kit / inner, code=1)
    assert tree(kit) == before


def test_a_file_in_the_place_of_the_folder_is_an_error_in_words(kit: Path, site: Site) -> None:
    site.place.write_text("mine")
    said = site.install(kit, code=1)
    assert "error:" in said
    assert "Traceback" not in said
    assert site.place.read_text() == "mine"


def test_two_installers_at_once_do_not_meet(kit: Path, site: Site) -> None:
    first = site.start(kit)
    while not (site.place / "environments").exists():
        time.sleep(0.001)
    assert "another installer is at work" in site.install(kit, code=1)
    said, _ = first.communicate(timeout=60)
    assert first.returncode == 0, said
    assert site.answer() == "1.0"


# --- what people are told


def test_an_installer_that_was_altered_is_found_by_the_tools_that_the_page_names(tmp_path: Path, kit: Path) -> None:
    """Its list stays as it was, and so does the fingerprint: the second step is what finds it."""
    copy = shutil.copytree(kit, tmp_path / "copy")
    typed = readme.commands(decode((copy / "kit.json").read_bytes(), subject="kit"))

    def run(command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["sh", "-c", command], cwd=copy, capture_output=True, text=True, check=False)

    before = run(typed["sum"]).stdout
    assert run(typed["check"]).stdout == ""
    (copy / "install.sh").write_text("echo the kit is whole\n")
    assert run(typed["sum"]).stdout == before
    assert "install.sh: FAILED" in run(typed["check"]).stdout


@pytest.mark.parametrize("target", [HERE, "win_amd64"])
def test_both_comparisons_come_before_anything_of_the_kit_is_run(kit: Path, target: str) -> None:
    made = msgspec.structs.replace(decode((kit / "kit.json").read_bytes(), subject="kit"), platform=target)
    typed = readme.commands(made)
    page = readme.readme(made, {"line.pub.pem": elliptic_signer().key}).decode()
    told = "\n".join(readme.steps(made, Digest.of(b"")))
    for text in (page, told):
        lines = [line.strip() for line in text.splitlines()]
        check = [lines.index(line.strip()) for line in typed["check"].splitlines()]
        assert lines.index(typed["sum"]) < check[0] <= check[-1] < lines.index(typed["install"])
        assert max(map(len, text.splitlines())) <= 120
        assert "install." not in typed["sum"] + typed["check"]
    assert "not from the stick" in told
    assert Digest.of(b"").hex in told
    assert "read them from there, or from paper" in page


@pytest.mark.parametrize(
    ("target", "line"),
    [
        (HERE, """bundle trust init --key 'trust/Ann'"'"'s key; $(x).pub.pem' --key trust/line.pub.pem"""),
        ("win_amd64", "bundle trust init --key 'trust/Ann''s key; $(x).pub.pem' --key trust/line.pub.pem"),
    ],
)
def test_the_page_quotes_the_names_of_keys_as_the_shell_there_wants_it(kit: Path, target: str, line: str) -> None:
    made = msgspec.structs.replace(decode((kit / "kit.json").read_bytes(), subject="kit"), platform=target)
    key = elliptic_signer().key
    page = readme.readme(made, {"Ann's key; $(x).pub.pem": key, "line.pub.pem": key}).decode()
    assert line in map(str.strip, page.splitlines())


# --- the real thing


def offline(*command: object, **variables: str) -> str:
    """Run a command in an empty network namespace, or skip the test where the machine does not allow one."""
    done = subprocess.run(
        [sys.executable, PROJECT / "scripts" / "offline.py", *map(str, command)],
        capture_output=True, text=True, check=False, env={**os.environ, **variables},
    )  # fmt: skip
    if done.returncode == 125:
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.environments
def test_the_program_crosses_the_gap_and_runs_a_model_there(tmp_path: Path, workshop: Workshop) -> None:
    key = tmp_path / "line.pub.pem"
    key.write_bytes(elliptic_signer().key.pem)
    made = [sys.executable, "-m", "bundler", "kit", "-o", tmp_path / "kit", "--root-of-trust", key, "--python", PYTHON]
    made += ["--platform", f"manylinux_2_28_{platform.machine()}"]
    subprocess.run(made, check=True, env={**os.environ, "BUNDLE_STORE": str(tmp_path / "kits")})
    ends = [Tensor("a", ["n", 2]), Tensor("b", ["n", 2])]
    content = onnx_model([Node("Add", ["a", "b"], ["sum"])], ends, [Tensor("sum", ["n", 2])])
    package = workshop.package({"weights.onnx": content}, "onnx", backend="onnx")
    lock = Lock(format=1, line="line", sequence=1, models=(LockedModel(id="sum/1", task="raw", packages=(package,)),))
    carried = workshop.build(lock).path
    np.savez(tmp_path / "in.npz", a=np.ones((1, 2), np.float32), b=np.ones((1, 2), np.float32))
    offline("sh", tmp_path / "kit" / "install.sh", tmp_path / "there", PYTHON=sys.executable)
    bundle, root = tmp_path / "there" / "bin" / "bundle", ("--root", tmp_path / "site")
    assert "version" in offline(bundle, "--version")
    planted = tmp_path / "planted"
    planted.mkdir()
    for name in ("numpy", "click"):
        (planted / f"{name}.py").write_text("raise SystemExit('planted')\n")
    assert offline(bundle, "--help", PYTHONPATH=str(planted)).startswith("Usage: bundle [OPTIONS] COMMAND")
    completed = {"_BUNDLE_COMPLETE": "bash_complete", "COMP_WORDS": "bundle ins", "COMP_CWORD": "1"}
    assert "plain,install" in offline(bundle, **completed).splitlines()
    assert "_BUNDLE_COMPLETE=bash_complete" in offline(bundle, "completion", "bash")
    offline(bundle, "trust", "init", "--key", tmp_path / "kit" / "trust" / "line.pub.pem", *root)
    offline(bundle, "install", carried, *root)
    answer = json.loads(offline(bundle, "infer", "sum/1", tmp_path / "in.npz", "--json", *root))
    assert answer[0]["outputs"][0]["data"] == [2.0, 2.0]


# --- a folder that somebody else prepared


def of_another_user(place: Path) -> None:
    for path in (place, *place.rglob("*")):
        os.chown(path, 65534, 65534, follow_symlinks=False)


PREPARED: dict[str, tuple[Callable[[Path, Path], object], str]] = {
    "owned by another user": (lambda place, _: of_another_user(place), "belongs to another user"),
    "open to all": (lambda place, _: place.chmod(0o777), "may be written to by all"),
    "bin leads elsewhere": (lambda place, other: (place / "bin").symlink_to(other), "bin is no folder"),
    "environments lead elsewhere": (
        lambda place, other: (place / "environments").symlink_to(other),
        "environments is no folder",
    ),
    "a mark that is a link": (
        lambda place, other: (
            (place / ".offline-bundle").unlink(),
            (place / ".offline-bundle").symlink_to(other / "new"),
        ),
        "cannot be used",
    ),
    "a mark that is a pipe": (
        lambda place, _: ((place / ".offline-bundle").unlink(), os.mkfifo(place / ".offline-bundle")),
        "is no plain file",
    ),
}


@pytest.mark.parametrize("name", PREPARED)
def test_a_folder_that_another_user_prepared_is_neither_run_nor_written_through(
    name: str, kit: Path, site: Site, tmp_path: Path
) -> None:
    prepare, words = PREPARED[name]
    if name == "owned by another user" and os.geteuid() != 0:
        pytest.skip("only root can give a folder away")
    other = tmp_path / "other"
    other.mkdir()
    site.place.mkdir()
    (site.place / ".offline-bundle").touch()
    planted = site.place / "environments" / "planted"
    if name == "owned by another user":
        planted.mkdir(parents=True)
    prepare(site.place, other)
    assert words in site.install(kit, code=1)
    assert list(other.iterdir()) == []
    assert not (site.place / "bin" / "bundle").exists()


def test_an_old_environment_that_cannot_be_removed_is_in_nobodys_way(kit: Path, site: Site) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may remove everything")
    site.install(kit)
    (old,) = (site.place / "environments").iterdir()
    old.chmod(0o000)
    try:
        site.install(kit)
        site.install(kit)
        assert site.answer()
    finally:
        old.chmod(0o755)


@pytest.mark.parametrize("name", ["PYTHONEXECUTABLE", "__PYVENV_LAUNCHER__"])
def test_no_variable_makes_another_program_answer(kit: Path, site: Site, name: str) -> None:
    site.install(kit)
    done = subprocess.run(
        [site.place / "bin" / "bundle", "--version"],
        env={**os.environ, name: "/nowhere/python"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_others_may_not_hold_the_installers_lock(kit: Path, site: Site) -> None:
    site.install(kit)
    assert (site.place / ".offline-bundle").stat().st_mode & 0o777 == 0o600
