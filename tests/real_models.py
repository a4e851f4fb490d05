"""Real models and pictures out of wheels, fetched once and kept outside the tree."""

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path


def wheel_member(requirement: str, member: str, sha256: str | None = None) -> Path:
    """A file of a wheel, such as `wheel_member("nudenet==3.4.2", "nudenet/320n.onnx", "c15d…")`.

    It is published into the cache by one rename, after its digest was compared: what lies there is whole and right.
    """
    path = cache() / requirement / member
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache()) as folder:
            fresh = Path(folder) / "member"
            with zipfile.ZipFile(_download(requirement, Path(folder))) as wheel:
                fresh.write_bytes(wheel.read(member))
            _check(fresh, sha256)
            fresh.replace(path)
    _check(path, sha256)
    return path


def cache() -> Path:
    """Where downloads of tests lie, outside of the tree."""
    home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    folder = Path(home) / "offline-bundle" / "tests"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _download(requirement: str, folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*command, "--no-deps", "--only-binary", ":all:", "--dest", str(folder), requirement], check=True)
    (wheel,) = folder.glob("*.whl")
    return wheel


def _check(path: Path, sha256: str | None) -> None:
    seen = hashlib.sha256(path.read_bytes()).hexdigest()
    assert sha256 in {None, seen}, f"{path.name} is {seen}, not {sha256}"
