"""Publishing: complete under its name, or not there."""

import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from manifests.errors import BusyError, DiskFullError, StorageError
from manifests.locks import FileLock
from manifests.publish import Batch, publish, publish_new, publishing, sweep, translated


def test_a_published_file_is_read_only_and_alone(tmp_path: Path) -> None:
    publish(tmp_path / "deep" / "file", b"content")
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["file"]
    assert stat.S_IMODE((tmp_path / "deep" / "file").stat().st_mode) == 0o444


def test_an_exception_leaves_nothing_and_keeps_the_old(tmp_path: Path) -> None:
    publish(tmp_path / "file", b"old")
    with pytest.raises(ZeroDivisionError), publishing(tmp_path / "file") as stream:
        stream.write(b"new" * (1 // 0))
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_bytes() == b"old"


def test_a_batch_is_there_after_its_sync(tmp_path: Path) -> None:
    batch = Batch()
    for number in range(5):
        batch.publish(tmp_path / str(number % 2) / str(number), b"x" * number)
    batch.sync()
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == ["0", "1", "2", "3", "4"]


def test_the_leftover_of_a_killed_writer_is_swept_and_a_living_one_stays(tmp_path: Path) -> None:
    script = (
        "import sys, time\nfrom pathlib import Path\nfrom manifests.publish import publishing\n"
        "with publishing(Path(sys.argv[1])) as stream:\n"
        "    stream.write(b'half')\n    print('ready', flush=True)\n    time.sleep(60)\n"
    )
    writer = subprocess.Popen([sys.executable, "-c", script, tmp_path / "file"], stdout=subprocess.PIPE)
    assert writer.stdout is not None
    writer.stdout.readline()
    sweep(tmp_path)
    assert len(list(tmp_path.iterdir())) == 1
    writer.kill()
    writer.wait()
    writer.stdout.close()
    deadline = time.monotonic() + 5
    while list(tmp_path.iterdir()) and time.monotonic() < deadline:
        sweep(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_its_own_error() -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    full = Path("/dev/full")
    with pytest.raises(DiskFullError, match="no space left"), translated(full), full.open("wb", buffering=0) as stream:
        stream.write(b"x")


def test_a_folder_that_may_not_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match="file"):
        publish(tmp_path / "file" / "below", b"")


def test_a_second_exclusive_lock_is_refused_and_shared_ones_are_not(tmp_path: Path) -> None:
    with FileLock(tmp_path / "lock", exclusive=False, busy="busy"):
        with FileLock(tmp_path / "lock", exclusive=False, busy="busy"):
            pass
        with pytest.raises(BusyError, match="busy"), FileLock(tmp_path / "lock", exclusive=True, busy="busy"):
            pass
    with FileLock(tmp_path / "lock", exclusive=True, busy="busy"):
        pass


def test_a_private_file_is_never_readable_by_others(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        with publishing(tmp_path / "key", mode=0o600):
            modes = {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
            assert modes == {0o600}
    finally:
        os.umask(old)


@pytest.mark.parametrize("links", [True, False], ids=["links", "no links"])
def test_a_new_file_never_takes_the_place_of_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, links: bool
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    if not links:
        monkeypatch.setattr(os, "link", refuse)
    assert publish_new(tmp_path / "key", b"first", mode=0o600)
    assert not publish_new(tmp_path / "key", b"second")
    assert (tmp_path / "key").read_bytes() == b"first"
    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["key"]


def test_what_a_killed_writer_of_a_new_file_left_is_swept_by_the_next(tmp_path: Path) -> None:
    (tmp_path / ".key.deadbeef.partial").write_bytes(b"half a secret")
    assert publish_new(tmp_path / "key", b"whole")
    assert [path.name for path in tmp_path.iterdir()] == ["key"]
