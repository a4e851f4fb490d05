"""The air gap by machine: verify, install and infer with nothing that leaves loopback, watched, and cut off."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from factory import Workshop, elliptic_signer
from manifests.lock import Lock, LockedModel
from onnx_files import detector_model

OFFLINE = Path(__file__).parent.parent / "scripts" / "offline.py"

WATCHED = """
import os, sys
EVENTS = {"socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr", "socket.sendto",
          "socket.sendmsg", "socket.getnameinfo"}
def watch(event, arguments):
    if event in EVENTS and "127.0.0.1" not in repr(arguments) and "AF_UNIX" not in repr(arguments):
        os.write(2, f"LEFT THE MACHINE: {event} {arguments!r}\\n".encode())
        os._exit(99)
sys.addaudithook(watch)
bundle, key, root, picture = sys.argv[1:]
if bundle == "leave":
    import socket
    socket.create_connection(("192.0.2.1", 80), timeout=1)
from bundler.commands.main import _run
for arguments in (
    ["verify", bundle, "--key", key, "-q"],
    ["trust", "init", "--key", key, "--root", root],
    ["install", bundle, "--root", root, "-q"],
    ["list", "--root", root],
    ["infer", "faces/1", picture, "--root", root],
):
    code = _run(arguments)
    if code:
        sys.exit(code)
network = {"requests", "urllib3", "boto3", "botocore", "huggingface_hub", "httpx", "aiohttp"} & set(sys.modules)
if network:
    sys.exit(f"imported on the site: {network}")
"""


@pytest.fixture
def carried(workshop: Workshop) -> list[str]:
    """A bundle, its key, an empty root and a picture, as arguments."""
    import cv2

    answer = np.zeros((1, 6, 21), np.float32)
    answer[0, :, 0] = [32, 24, 16, 8, 0.9, 0.1]
    graph = detector_model(answer, metadata={"names": "{0: 'face', 1: 'hand'}"})
    package = workshop.package({"weights.onnx": graph}, "onnx", backend="onnx")
    model = LockedModel(id="faces/1", task="object-detection", architecture="yolov8", packages=(package,))
    bundle = workshop.build(Lock(format=1, line="line", sequence=1, models=(model,))).path
    key = workshop.folder / "line.pub.pem"
    key.write_bytes(elliptic_signer().key.pem)
    picture = workshop.folder / "picture.png"
    cv2.imwrite(str(picture), np.full((64, 64, 3), 90, np.uint8))
    return [str(bundle), str(key), str(workshop.folder / "site"), str(picture)]


def run(arguments: list[str], *prefix: str) -> subprocess.CompletedProcess[str]:
    command = [*prefix, sys.executable, "-c", WATCHED, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=dict(os.environ))


def test_verify_install_and_infer_ask_nothing_of_any_network(carried: list[str]) -> None:
    done = run(carried)
    assert done.returncode == 0, done.stderr
    assert "face" in done.stdout


def test_native_code_is_told_to_report_nothing_and_leaves_nothing_behind(carried: list[str], tmp_path: Path) -> None:
    """onnxruntime's telemetry, which no guard of Python's sees, begins with files in the user's home."""
    home = tmp_path / "home"
    home.mkdir()
    variables = {**os.environ, "HOME": str(home), "ORT_DISABLE_TELEMETRY": "0"}
    command = [sys.executable, "-c", WATCHED, *carried]
    subprocess.run(command, capture_output=True, check=True, env=variables)
    assert list(home.rglob("*")) == []


def test_the_watch_does_catch_what_leaves(carried: list[str]) -> None:
    done = run(["leave", *carried[1:]])
    assert done.returncode == 99
    assert "LEFT THE MACHINE" in done.stderr


def test_the_same_in_an_empty_network_namespace(carried: list[str]) -> None:
    if subprocess.run([sys.executable, OFFLINE, "--probe"], capture_output=True, check=False).returncode:
        pytest.skip("this machine allows no network namespaces: the watch above is all there is")
    done = run(carried, sys.executable, str(OFFLINE))
    assert done.returncode == 0, done.stderr
    assert "face" in done.stdout
