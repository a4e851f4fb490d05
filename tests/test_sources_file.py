"""Local files and folders."""

import os
from pathlib import Path

import pytest

from bundler.sources.base import Local
from bundler.sources.file import FileSource
from bundler.sources.reference import Reference
from manifests.errors import ManifestError, SourceDeniedError, SourceError, SourceNotFoundError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "model" / "sub").mkdir(parents=True)
    (tmp_path / "model" / "weights.onnx").write_bytes(b"weights")
    (tmp_path / "model" / "sub" / "names #1.txt").write_bytes(b"names")
    return tmp_path


def find(folder: Path, text: str) -> Path:
    found = FileSource(folder).find(Reference.parse(text, folder), {})
    assert isinstance(found.place, Local)
    return found.place.path


def names(folder: Path, text: str = "model") -> list[str]:
    return [found.path for found in FileSource(folder).list(Reference.parse(text, folder), {})]


def test_a_path_is_relative_to_the_manifest(folder: Path) -> None:
    assert find(folder, "./model/weights.onnx").read_bytes() == b"weights"


def test_a_folder_lists_its_files_and_each_can_be_found_by_itself(folder: Path) -> None:
    listed = FileSource(folder).list(Reference.parse("./model", folder), {})
    assert [found.path for found in listed] == ["sub/names #1.txt", "weights.onnx"]
    assert find(folder, str(listed[0].reference)).read_bytes() == b"names"


def test_a_single_file_lists_itself(folder: Path) -> None:
    assert names(folder, "model/weights.onnx") == ["weights.onnx"]


def test_what_is_not_there_names_what_is_near(folder: Path) -> None:
    with pytest.raises(SourceNotFoundError) as caught:
        find(folder, "model/weight.onnx")
    assert caught.value.hint == "did you mean weights.onnx?"


def test_a_folder_is_no_file(folder: Path) -> None:
    with pytest.raises(ManifestError, match="is a folder"):
        find(folder, "model")


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    with pytest.raises(SourceNotFoundError, match="empty"):
        names(tmp_path)


def test_a_link_that_stays_in_its_folder_is_followed(folder: Path) -> None:
    (folder / "model" / "best.onnx").symlink_to("weights.onnx")
    assert "best.onnx" in names(folder)


@pytest.mark.parametrize("target", ["../secret", "/etc/hostname", "sub/../../secret"])
def test_a_link_that_leads_out_of_its_folder_is_refused(folder: Path, target: str) -> None:
    (folder / "secret").write_bytes(b"secret")
    (folder / "model" / "link").symlink_to(target)
    with pytest.raises(SourceError, match="leads out of its folder"):
        names(folder)


def test_a_link_to_a_folder_is_refused(folder: Path) -> None:
    (folder / "model" / "again").symlink_to("sub")
    with pytest.raises(SourceError, match="a link to a folder"):
        names(folder)


def test_a_link_that_the_manifest_itself_names_may_lead_anywhere(folder: Path) -> None:
    (folder / "outside.bin").write_bytes(b"x")
    (folder / "model" / "link").symlink_to("../outside.bin")
    assert find(folder, "model/link").read_bytes() == b"x"


def test_a_pipe_is_no_file(folder: Path) -> None:
    os.mkfifo(folder / "model" / "pipe")
    with pytest.raises(SourceError, match="neither a file nor a folder"):
        names(folder)
    with pytest.raises(SourceError, match="neither a file nor a folder"):
        find(folder, "model/pipe")


def test_what_tools_leave_in_a_model_is_left_out(folder: Path) -> None:
    for path in (".git/config", ".cache/huggingface/x", "sub/.git/y"):
        (folder / "model" / path).parent.mkdir(parents=True)
        (folder / "model" / path).write_bytes(b"")
    assert names(folder) == ["sub/names #1.txt", "weights.onnx"]


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="whoever may read everything is never denied")
def test_a_file_that_may_not_be_read_is_denied(folder: Path) -> None:
    (folder / "model").chmod(0)
    with pytest.raises(SourceDeniedError):
        names(folder)
    (folder / "model").chmod(0o755)
