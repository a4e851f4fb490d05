"""A real S3 server with one bucket, `models`: rclone's; and what tests of S3 share."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from bundler.settings import Buckets, Settings
from bundler.sources.base import Found
from bundler.sources.reference import Reference
from bundler.sources.s3 import BucketSource
from loopback import hasty

KEY, SECRET = "AKIDEXAMPLE", "wJalrXUtnFEMI+hush/SECRET"
FILES = {
    "org/m/config.json": b"{}",
    "org/m/onnx/model.onnx": b"weights" * 1000,
    "single.bin": b"one",
    "a #1!.bin": b"x",
}


@dataclass
class Bucket:
    """A running S3 server and the folder of its one bucket, `models`."""

    url: str
    folder: Path
    log: Path

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        host, _, port = self.url.removeprefix("http://").partition(":")
        return host, int(port)


def forget_credentials(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No credentials of whoever runs the tests, and no question to a metadata service."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


def set_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """The right ones, by the variables."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)


def of(url: str | None, store: Path = Path("unused"), **changes: object) -> Settings:
    """Settings for the S3 server at `url`."""
    return hasty(store, buckets=Buckets(url), **changes)


def listed(url: str, text: str, **pin: str) -> tuple[Found, ...]:
    """What is at the source `text`."""
    return BucketSource(of(url)).list(Reference.parse(text, Path()), pin)


@contextmanager
def bucket_server(folder: Path, *keys: str, files: Mapping[str, bytes] = FILES) -> Iterator[Bucket]:
    """`rclone serve s3` over `served` in `folder`, with these files in it; without keys anybody may read.

    It looks at its folder anew for each request, which takes as long as the folder is full.
    """
    (folder / "served" / "models").mkdir(parents=True)
    for name, content in files.items():
        path = folder / "served" / "models" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    log = folder / ".rclone.log"
    program = str(Path(sys.executable).with_name("rclone"))
    command = [program, "serve", "s3", "--addr", "127.0.0.1:0", "--config", os.devnull, "--dir-cache-time", "0s"]
    command += [word for key in keys for word in ("--auth-key", key)]
    with log.open("wb") as stream:
        server = subprocess.Popen([*command, str(folder / "served")], stdout=stream, stderr=stream)
    try:
        yield Bucket(_address(log, server), folder / "served" / "models", log)
    finally:
        server.terminate()
        server.wait(10)


def _address(log: Path, server: "subprocess.Popen[bytes]") -> str:
    for _ in range(200):
        if said := re.search(r"http://127\.0\.0\.1:\d+", log.read_text()):
            return said[0]
        assert server.poll() is None, log.read_text()
        time.sleep(0.05)
    raise AssertionError(log.read_text())
