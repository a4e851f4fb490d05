"""What the tests of `bundle doctor` share: looking, the codes of what was found, other users, mounts."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from bundler.commands.main import cli
from factory import NOW, Workshop, incompressible
from manifests.finding import Finding, Verdict, examine
from runtime.doctor import site

LATER = NOW + timedelta(days=1)
LARGE = incompressible(300_000)
NOBODY = 65534
PROJECT = Path(__file__).parent.parent
is_administrator = pytest.mark.skipif(
    sys.platform == "win32" or os.geteuid() != 0, reason="only root may mount, and become another user"
)


def small_bundle(workshop: Workshop) -> Path:
    """A bundle of one model, with a file that is linked and one that is copied."""
    return workshop.build(workshop.lock({"acme/one": {"weights.bin": LARGE, "readme.txt": b"hello\n"}})).path


def look(
    path: Path,
    environ: Mapping[str, str] | None = None,
    *,
    given: bool = True,
    now: datetime = LATER,
    present: Mapping[str, str] | None = None,
    but: str = "",
) -> dict[str, Finding]:
    """The findings of the site at `path`, by code, of all subjects but one."""
    asked = site.checks(path, given=path if given else None, environ=environ or {}, now=now, present=present or {})
    return {finding.code: finding for finding in examine(asked) if finding.subject != but}


def bad(found: Mapping[str, Finding], *, but: str = "root-under-tmp") -> set[str]:
    """The codes of warnings and problems, without the one that every test's folder brings."""
    return {code for code, each in found.items() if each.verdict in {Verdict.WARNING, Verdict.PROBLEM}} - {but}


def doctor(*arguments: object, **variables: str) -> Result:
    """Type `bundle doctor` with an environment that leads nowhere."""
    cleared = dict.fromkeys(
        ("BUNDLE_HOME", "BUNDLE_STORE", "INFERENCE_HOME", "MODEL_CACHE_DIR", "PYTHONPATH", "XDG_CACHE_HOME")
    )
    return CliRunner().invoke(cli, ["doctor", *map(str, arguments)], env={**cleared, **variables})


def snapshot(folder: Path) -> dict[str, tuple[int, int, int]]:
    """Every name below `folder` with mode, size and time, but for the time of `state`, where links are tried."""
    found = {}
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        time = 0 if path.is_dir() and path.name == "state" else status.st_mtime_ns
        found[path.relative_to(folder).as_posix()] = (status.st_mode, status.st_size, time)
    return found


def a_file(path: Path) -> Path:
    """A small file at `path`."""
    path.write_text("x")
    return path


@contextmanager
def mounted(point: Path, *arguments: str) -> Iterator[Path]:
    """A file system of its own at `point`."""
    point.mkdir(exist_ok=True)
    done = subprocess.run(["mount", *arguments, str(point)], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"this machine cannot mount: {done.stderr.strip()}")
    try:
        yield point
    finally:
        subprocess.run(["umount", "--lazy", point], check=True)


def open_the_way(root: Path) -> None:
    """Let everybody walk to `root`."""
    for folder in root.parents[:-1]:
        if folder.stat().st_uid == 0:
            folder.chmod(folder.stat().st_mode | 0o011)


@contextmanager
def become(number: int) -> Iterator[None]:
    """This process as another user."""
    groups = os.getgroups()
    os.setgroups([])
    os.setresgid(number, number, 0)
    os.setresuid(number, number, 0)
    try:
        yield
    finally:
        os.setresuid(0, 0, 0)
        os.setresgid(0, 0, 0)
        os.setgroups(groups)


def as_user(number: int, root: Path) -> dict[str, Finding]:
    """The findings of another user, who may walk to `root`."""
    open_the_way(root)
    with become(number):
        return look(root, but="onnxruntime")  # for which this Python is started, and it may be another user's
