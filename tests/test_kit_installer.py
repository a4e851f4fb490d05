"""The installer of a kit: what it refuses, what it leaves alone, and that the old program answers till the new does."""

import ast
import importlib.util
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

import numpy as np
import pytest

from factory import Workshop, elliptic_signer, tree
from kit_factory import HERE, PYTHON, small_kit
from manifests.digest import Digest
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
    said = site.install(other, code=1)
    for words in ("for Python 3.99", "for win_amd64", "stray.txt is no part of this kit"):
        assert words in said
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
    assert f"this kit needs Python {PYTHON}." in done.stderr
    (programs / "python3").write_text("#!/bin/sh\nexit 1\n")
    (programs / "python3").chmod(0o755)
    done = subprocess.run(shell, env=variables, capture_output=True, text=True, check=False)
    assert f"this kit needs Python {PYTHON}, and python3 is another" in done.stderr
    (programs / f"python{PYTHON}").symlink_to(sys.executable)
    done = subprocess.run([*shell, "--check"], env=variables, capture_output=True, text=True, check=False)
    assert "this machine can run it" in done.stdout


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


def rename_program(kit: Path) -> None:
    described = json.loads((kit / "kit.json").read_text())
    (kit / "kit.json").write_text(json.dumps({**described, "program": "../../x"}, indent=2))


FILES: list[tuple[str, Callable[[Path], object], str]] = [
    ("one bit", damage, "is damaged: copy the kit again"),
    ("missing", lambda kit: (kit / "requirements.txt").unlink(), "requirements.txt is missing"),
    ("unlisted", lambda kit: (kit / "wheels" / "more.whl").write_text("x"), "wheels/more.whl is no part of this kit"),
    ("unlisted folder", lambda kit: (kit / "x").symlink_to("/etc"), "x is no part of this kit"),
    ("a link", link, "README.txt is damaged"),
    ("the list", lambda kit: (kit / "SHA256SUMS").write_text("x"), "SHA256SUMS cannot be read"),
    ("no list", lambda kit: (kit / "SHA256SUMS").unlink(), "SHA256SUMS cannot be read|not a whole kit"),
    (
        "description",
        lambda kit: (kit / "kit.json").write_text(json.dumps({"python": PYTHON}, indent=2)),
        "kit.json|not a whole kit",
    ),
    ("a name", rename_program, "names that cannot be"),
]


@pytest.mark.parametrize(("change", "words"), [row[1:] for row in FILES], ids=[row[0] for row in FILES])
def test_a_kit_that_is_not_whole_is_refused_and_the_file_named(
    tmp_path: Path, kit: Path, site: Site, change: Callable[[Path], object], words: str
) -> None:
    copy = shutil.copytree(kit, tmp_path / "copy")
    change(copy)
    said = site.install(copy, code=1)
    assert any(word in said for word in words.split("|")), said
    assert not site.place.exists()


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


def test_a_finished_environment_that_was_broken_since_is_made_anew(kit: Path, site: Site) -> None:
    site.install(kit)
    (program,) = site.place.glob("environments/*/lib/python*/site-packages/bundler/tool.py")
    program.unlink()
    assert "making" in site.install(kit)
    assert site.answer() == "1.0"


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
    offline(bundle, "trust", "init", "--key", tmp_path / "kit" / "trust" / "line.pub.pem", *root)
    offline(bundle, "install", carried, *root)
    answer = json.loads(offline(bundle, "infer", "sum/1", tmp_path / "in.npz", "--json", *root))
    assert answer[0]["outputs"][0]["data"] == [2.0, 2.0]
