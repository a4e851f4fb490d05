"""A folder replaced whole: old or new, whatever happens in between."""

import subprocess
import sys
from pathlib import Path

import pytest

from factory import tree
from manifests.errors import BusyError, StorageError
from manifests.folders import replacing_folder


def filled(folder: Path, text: str) -> None:
    with replacing_folder(folder) as fresh:
        (fresh / "file").write_text(text)


def test_a_folder_is_replaced_whole_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    for text in ("one", "two"):
        filled(tmp_path / "folder", text)
    assert tree(tmp_path) == {"folder/file": b"two"}


def test_a_block_that_fails_leaves_the_old_folder(tmp_path: Path) -> None:
    filled(tmp_path / "folder", "one")
    with pytest.raises(ZeroDivisionError), replacing_folder(tmp_path / "folder") as fresh:  # noqa: PT012 - the block is what fails
        (fresh / "file").write_text("two")
        raise ZeroDivisionError
    assert tree(tmp_path) == {"folder/file": b"one"}


def test_a_folder_that_was_set_aside_when_the_power_went_comes_back(tmp_path: Path) -> None:
    filled(tmp_path / ".folder.replaced", "old")
    with pytest.raises(ZeroDivisionError), replacing_folder(tmp_path / "folder"):
        raise ZeroDivisionError
    assert tree(tmp_path) == {"folder/file": b"old"}


@pytest.mark.parametrize("state", ["partial", "replaced"])
def test_a_link_that_somebody_planted_in_the_way_is_not_followed(tmp_path: Path, state: str) -> None:
    others = tmp_path / "others"
    others.mkdir()
    filled(tmp_path / "folder", "one")
    (tmp_path / f".folder.{state}").symlink_to(others)
    filled(tmp_path / "folder", "two")
    assert tree(tmp_path) == {"folder/file": b"two"}
    assert not (tmp_path / "folder").is_symlink()


def test_behind_a_link_the_folder_that_it_leads_to_is_replaced_again_and_again(tmp_path: Path) -> None:
    filled(tmp_path / "real", "one")
    (tmp_path / "link").symlink_to("real")
    for text in ("two", "three"):
        filled(tmp_path / "link", text)
    assert tree(tmp_path) == {"link": "-> real", "real/file": text.encode()}


def test_two_writers_of_one_folder_do_not_sweep_each_other(tmp_path: Path) -> None:
    with replacing_folder(tmp_path / "folder") as fresh:
        (fresh / "file").write_text("first")
        with pytest.raises(BusyError, match="another process is writing"):
            filled(tmp_path / "folder", "second")
    assert tree(tmp_path) == {"folder/file": b"first"}


def test_a_writer_that_was_killed_is_in_nobodys_way(tmp_path: Path) -> None:
    code = """
import sys, time
from pathlib import Path
from manifests.folders import replacing_folder
with replacing_folder(Path(sys.argv[1])) as fresh:
    (fresh / "half").write_text("x")
    print("writing", flush=True)
    time.sleep(60)
"""
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "folder")], stdout=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "writing\n"
        with pytest.raises(BusyError):
            filled(tmp_path / "folder", "mine")
        writer.kill()
    filled(tmp_path / "folder", "mine")
    assert tree(tmp_path) == {"folder/file": b"mine"}


@pytest.mark.parametrize("name", ["", "/"])
def test_what_has_no_name_of_its_own_is_not_replaced(name: str) -> None:
    with pytest.raises(StorageError, match="cannot be replaced as a whole"):
        filled(Path(name), "text")
