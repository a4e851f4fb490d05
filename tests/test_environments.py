"""What each extra is enough for, proved in clean environments made from the wheel."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from factory import Workshop, elliptic_signer
from manifests.errors import MissingExtraError
from manifests.lock import Lock, LockedModel
from onnx_files import detector_model

PROJECT = Path(__file__).parent.parent
pytestmark = pytest.mark.environments


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, PROJECT]
    subprocess.run(pip, check=True)
    return next(folder.glob("*.whl"))


class Environment:
    """A virtual environment with the wheel and some extras, and nothing else."""

    def __init__(self, folder: Path, wheel: Path, extras: str) -> None:
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        self._bin = folder / "bin"
        requirement = f"{wheel}[{extras}]" if extras else str(wheel)
        pip = [self._bin / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", requirement]
        subprocess.run(pip, check=True)

    def bundle(self, *arguments: object, code: int = 0) -> str:
        """Run the installed program."""
        variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        done = subprocess.run(
            [self._bin / "bundle", *map(str, arguments)], capture_output=True, text=True, check=False, env=variables
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout if code == 0 else done.stderr


@pytest.fixture
def bundle(workshop: Workshop) -> Path:
    answer = np.zeros((1, 6, 21), np.float32)
    answer[0, :, 0] = [32, 24, 16, 8, 0.9, 0.1]
    package = workshop.package({"weights.onnx": detector_model(answer)}, "onnx", backend="onnx")
    model = LockedModel(id="faces/1", task="object-detection", architecture="yolov8", packages=(package,))
    (workshop.folder / "line.pub.pem").write_bytes(elliptic_signer().key.pem)
    return workshop.build(Lock(format=1, line="line", sequence=1, models=(model,))).path


def test_without_extras_it_verifies_and_installs_and_names_what_inference_needs(
    wheel: Path, bundle: Path, tmp_path: Path
) -> None:
    site = Environment(tmp_path / "venv", wheel, "")
    root, key = tmp_path / "site", bundle.with_name("line.pub.pem")
    site.bundle("verify", bundle, "--key", key)
    site.bundle("trust", "init", "--key", key, "--root", root)
    site.bundle("install", bundle, "--root", root)
    site.bundle("list", "--root", root)
    code = MissingExtraError.exit_code
    assert "offline-bundle[serve,cpu]" in site.bundle("infer", "faces/1", "x.png", "--root", root, code=code)
    assert "offline-bundle[serve,cpu]" in site.bundle("serve", "--root", root, code=code)
    (tmp_path / "line.yaml").write_text("name: line\nmodels: [{id: a/b, source: ./x}]\n")
    assert "offline-bundle[build]" in site.bundle("lock", tmp_path / "line.yaml", code=code)


def test_serve_and_cpu_are_enough_for_inference(wheel: Path, bundle: Path, tmp_path: Path) -> None:
    import cv2

    site = Environment(tmp_path / "venv", wheel, "serve,cpu")
    root = tmp_path / "site"
    site.bundle("trust", "init", "--key", bundle.with_name("line.pub.pem"), "--root", root)
    site.bundle("install", bundle, "--root", root)
    cv2.imwrite(str(tmp_path / "picture.png"), np.full((64, 64, 3), 90, np.uint8))
    found = json.loads(site.bundle("infer", "faces/1", tmp_path / "picture.png", "--root", root, "--json"))
    assert found[0]["predictions"]


def test_build_is_enough_for_building(wheel: Path, tmp_path: Path) -> None:
    builder = Environment(tmp_path / "venv", wheel, "build")
    (tmp_path / "x.bin").write_bytes(b"x")
    (tmp_path / "line.yaml").write_text("name: line\nmodels: [{id: a/b, source: ./x.bin}]\n")
    builder.bundle("keygen", "-o", tmp_path / "k.pem", "--no-passphrase")
    out, store = tmp_path / "out.bundle", tmp_path / "store"
    builder.bundle("build", tmp_path / "line.yaml", "--key", tmp_path / "k.pem", "-o", out, "--store", store)
    builder.bundle("inspect", out)
