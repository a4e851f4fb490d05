"""What holds for every source, against its real server: it works, it resumes, it refuses, it keeps its secrets.

The README's table of sources is made of these tests.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from manifests.digest import Digest
from stands import STANDS, WRONG, Stand

SIZE = 6_000_000
CONTENT = random.Random(1).randbytes(SIZE)
FAST, SLOW = 1e9, 4e6
MISMATCH, DENIED = 24, 23


@dataclass
class Desk:
    """A builder's machine: a manifest, a key, a store, and nothing in the environment that a test did not put there."""

    folder: Path
    stand: Stand

    def __post_init__(self) -> None:
        self.write(self.stand.source)
        assert self.run("keygen", "-o", "k.pem", "--no-passphrase")[0] == 0

    def write(self, source: str) -> None:
        asked = {"source": source} if self.stand.is_model else {"files": {"w.bin": source}}
        file = {"name": "line", "models": [{"id": "m", **asked}]}
        (self.folder / "line.json").write_text(json.dumps(file))

    def start(self, *words: str, environ: Mapping[str, str] | None = None) -> "subprocess.Popen[str]":
        home = self.folder / "home"
        home.mkdir(exist_ok=True)
        own = {"HOME": str(home), "PATH": os.environ["PATH"], "BUNDLE_STORE": str(self.folder / "store")}
        return subprocess.Popen(
            [sys.executable, "-m", "bundler", *words],
            cwd=self.folder,
            env=own | dict(self.stand.environ if environ is None else environ),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *words: str, environ: Mapping[str, str] | None = None) -> tuple[int, str]:
        running = self.start(*words, environ=environ)
        out, told = running.communicate(timeout=120)
        return running.returncode, out + told

    def build(self, environ: Mapping[str, str] | None = None) -> tuple[int, str]:
        return self.run("build", "line.json", "--key", "k.pem", "-o", "out.bundle", environ=environ)

    @property
    def locked_digest(self) -> str:
        lock = json.loads((self.folder / "line.lock.json").read_text())
        return str(lock["models"][0]["packages"][0]["files"][0]["sha256"])

    @property
    def has_bundle(self) -> bool:
        return (self.folder / "out.bundle").exists()

    def blobs(self) -> set[str]:
        return {path.name for path in (self.folder / "store" / "blobs").rglob("*") if path.is_file()}


@pytest.fixture(params=STANDS)
def stand(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Stand]:
    served = tmp_path / "served"
    served.mkdir()
    with STANDS[request.param](served, CONTENT, FAST) as opened:
        yield opened


@pytest.fixture
def desk(stand: Stand, tmp_path: Path) -> Desk:
    (tmp_path / "desk").mkdir()
    return Desk(tmp_path / "desk", stand)


def test_a_file_comes_whole_into_a_bundle(desk: Desk) -> None:
    code, told = desk.build()
    assert code == 0, told
    assert desk.locked_digest == Digest.of(CONTENT).hex
    assert desk.run("verify", "out.bundle", "--key", "k.pub.pem")[0] == 0


def test_a_lock_is_the_same_each_time_and_its_check_agrees(desk: Desk) -> None:
    assert desk.run("lock", "line.json")[0] == 0
    lock = (desk.folder / "line.lock.json").read_bytes()
    code, told = desk.run("lock", "line.json", "--check")
    assert code == 0, told
    (desk.folder / "line.lock.json").unlink()
    assert desk.run("lock", "line.json", "--store", "another store")[0] == 0
    assert (desk.folder / "line.lock.json").read_bytes() == lock


def test_a_build_that_was_killed_goes_on_where_it_was(desk: Desk) -> None:
    door = desk.stand.door
    door.rate = SLOW
    killed = desk.start("build", "line.json", "--key", "k.pem", "-o", "out.bundle")
    deadline = time.monotonic() + 60
    while door.sent < SIZE // 2 and time.monotonic() < deadline:
        assert killed.poll() is None, killed.communicate()
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert not desk.has_bundle
    door.rate = FAST
    code, told = desk.build()
    assert code == 0, told
    assert desk.locked_digest == Digest.of(CONTENT).hex
    assert door.sent < 1.4 * SIZE


def test_another_digest_than_the_lock_names_is_refused(desk: Desk) -> None:
    assert desk.run("lock", "line.json")[0] == 0
    lock = desk.folder / "line.lock.json"
    wrong = Digest.of(b"another").hex
    lock.write_text(lock.read_text().replace(Digest.of(CONTENT).hex, wrong))
    code, told = desk.build()
    assert code == MISMATCH, told
    assert not desk.has_bundle
    assert wrong not in desk.blobs()


def test_a_file_that_was_exchanged_after_it_was_locked_is_refused(desk: Desk) -> None:
    assert desk.run("lock", "line.json")[0] == 0
    other = CONTENT[:-1] + bytes([CONTENT[-1] ^ 1])
    desk.stand.change(other)
    code, told = desk.run("build", "line.json", "--key", "k.pem", "-o", "out.bundle", "--store", "empty")
    assert 20 <= code < 30, told
    assert not desk.has_bundle
    assert Digest.of(other).hex not in desk.blobs()


def test_no_secret_is_written_or_told(desk: Desk) -> None:
    code, told = desk.build()
    assert code == 0, told
    told += desk.run("lock", "line.json", "--upgrade", "--json", "--store", "another")[1]
    desk.stand.change(b"something else")
    told += desk.run("lock", "line.json", "--check")[1]
    for secret in desk.stand.secrets:
        assert secret not in told
        written = [path for path in desk.folder.rglob("*") if path.is_file()]
        assert [path for path in written if secret.encode() in path.read_bytes()] == []


def test_without_credentials_the_source_says_what_it_wants(desk: Desk) -> None:
    code, told = desk.build(desk.stand.without)
    assert code == DENIED, told
    assert "hint:" in told
    assert not desk.has_bundle


def test_wrong_credentials_are_told_without_being_repeated(desk: Desk) -> None:
    code, told = desk.build(desk.stand.wrong)
    assert code == DENIED, told
    assert WRONG not in told


def test_offline_asks_nobody_and_the_store_is_enough(desk: Desk) -> None:
    door = desk.stand.door
    code, told = desk.run("lock", "line.json", "--offline")
    assert code == 22, told
    assert "--offline" in told
    assert door.sent == 0
    assert desk.build()[0] == 0
    before = door.sent
    (desk.folder / "out.bundle").unlink()
    code, told = desk.run("build", "line.json", "--key", "k.pem", "-o", "out.bundle", "--offline")
    assert code == 0, told
    assert door.sent == before
