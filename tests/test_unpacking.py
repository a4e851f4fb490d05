"""Whole archives and patterns as the source of a model."""

import gzip
import io
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from builders import Builder, files, model
from loopback import Request, hasty, serving
from manifests.errors import ManifestError, NamingError, SourceError, SourceNotFoundError
from manifests.lock import Lock
from test_archive import KINDS, special, tarred, zipped

TREE = {"top__a.onnx": b"weights" * 999, "top__sub__b.txt": b"b", "top__c.txt": b"", "other.md": b"#"}
PACKED: dict[str, Callable[[bytes], bytes]] = {"zip": lambda _: zipped(**TREE), **KINDS}


@pytest.fixture
def builder(tmp_path: Path) -> Builder:
    return Builder(tmp_path, hasty(tmp_path / "store"))


@contextmanager
def counting(content: bytes) -> Iterator[tuple[str, list[str]]]:
    """A server of one content, and the paths that it was asked for."""
    seen: list[str] = []

    def answer(request: Request) -> None:
        seen.append(request.path)
        request.send(content, ETag='"1"')

    with serving(answer) as url:
        yield url, seen


def paths(lock: Lock) -> dict[str, str]:
    return {file.path: file.source for file in files(lock)}


@pytest.mark.parametrize("kind", PACKED)
def test_a_whole_archive_becomes_the_files_of_a_model(builder: Builder, kind: str) -> None:
    builder.write("m.bin", PACKED[kind](tarred(**TREE)))
    lock = builder.lock(model(source="m.bin", unpack=True))
    assert paths(lock) == {
        "other.md": "m.bin#other.md",
        "top/a.onnx": "m.bin#top/a.onnx",
        "top/c.txt": "m.bin#top/c.txt",
        "top/sub/b.txt": "m.bin#top/sub/b.txt",
    }
    builder.elsewhere().fetch(lock)


def test_a_folder_of_an_archive_is_taken_without_its_name(builder: Builder) -> None:
    builder.write("m.tar", tarred(**TREE))
    lock = builder.lock(model(source="m.tar#top/", unpack=True, exclude=["*.txt"]))
    assert paths(lock) == {"a.onnx": "m.tar#top/a.onnx"}
    builder.elsewhere().fetch(lock)


def test_an_archive_inside_an_archive_is_unpacked(builder: Builder) -> None:
    inner = gzip.compress(tarred(**TREE))
    builder.write("m.zip", zipped(**{"in.tar.gz": inner}))
    lock = builder.lock(model(source="m.zip#in.tar.gz!top/", unpack=True, include=["sub/"]))
    assert paths(lock) == {"sub/b.txt": "m.zip#in.tar.gz!top/sub/b.txt"}
    builder.elsewhere().fetch(lock)


def test_a_remote_archive_is_downloaded_once_to_lock_and_once_to_fetch(builder: Builder) -> None:
    content = gzip.compress(tarred(**TREE))
    with counting(content) as (url, seen):
        lock = builder.lock(model(source=f"{url}/m.tar.gz#top/", unpack=True))
        assert len(seen) == 1
        builder.elsewhere().fetch(lock)
        assert len(seen) == 2
    assert len(files(lock)) == 3


def test_an_unchanged_manifest_does_not_ask_for_its_archive_again(builder: Builder) -> None:
    with counting(tarred(**TREE)) as (url, seen):
        wanted = model(source=f"{url}/m.tar", unpack=True)
        lock = builder.lock(wanted)
        assert builder.lock(wanted, previous=lock) == lock
        assert len(seen) == 1


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE], ids=["link", "hard link", "pipe"]
)
def test_what_is_no_file_is_refused_unless_it_is_left_out(builder: Builder, kind: bytes) -> None:
    builder.write("m.tar", special(kind, "bad"))
    with pytest.raises(SourceError, match="bad is no regular file"):
        builder.lock(model(source="m.tar", unpack=True))
    plain = io.BytesIO(special(kind, "bad"))
    with tarfile.open(fileobj=plain, mode="a") as made:
        made.addfile(tarfile.TarInfo("good"))
    builder.write("m.tar", plain.getvalue())
    assert set(paths(builder.lock(model(source="m.tar", unpack=True, exclude=["bad"])))) == {"good"}


@pytest.mark.parametrize("name", ["../up", "/root", "a/../../b", "con", "a\nb"])
def test_a_member_whose_name_is_no_path_is_refused(builder: Builder, name: str) -> None:
    builder.write("m.tar", tarred(**{name: b"x"}))
    with pytest.raises((NamingError, ManifestError)):
        builder.lock(model(source="m.tar", unpack=True))


def test_two_members_of_one_name_are_refused(builder: Builder) -> None:
    twice = io.BytesIO(tarred(a=b"1"))
    with tarfile.open(fileobj=twice, mode="a") as made:
        made.addfile(tarfile.TarInfo("a"))
    builder.write("m.tar", twice.getvalue())
    with pytest.raises(SourceError, match="two members are called a"):
        builder.lock(model(source="m.tar", unpack=True))


def test_patterns_that_choose_no_member_name_what_is_there(builder: Builder) -> None:
    builder.write("m.tar", tarred(**TREE))
    with pytest.raises(SourceNotFoundError, match="choose none of the 4 members") as caught:
        builder.lock(model(source="m.tar", unpack=True, include=["*.pt"]))
    assert "other.md" in caught.value.hint
    with pytest.raises(SourceNotFoundError, match="none of the 0 members"):
        builder.lock(model(source="m.tar#nothing/", unpack=True))


def test_what_is_no_archive_cannot_be_unpacked(builder: Builder) -> None:
    builder.write("m.tar", b"weights" * 999)
    with pytest.raises(SourceError, match="no archive"):
        builder.lock(model(source="m.tar", unpack=True))


def test_a_folder_of_an_archive_is_no_file(builder: Builder) -> None:
    builder.write("m.tar", tarred(**TREE))
    for wanted in (model(source="m.tar#top/"), model(files={"a": "m.tar#top/"})):
        with pytest.raises(ManifestError, match="is a folder of an archive") as caught:
            builder.lock(wanted)
        assert "unpack: true" in caught.value.hint


def test_unpack_belongs_to_a_source(builder: Builder) -> None:
    with pytest.raises(ManifestError, match="`unpack` takes the members of a `source`"):
        builder.lock(model(files={"a": "m.tar#a"}, unpack=True))


def test_a_large_archive_is_read_once_however_many_members_it_has(builder: Builder) -> None:
    """Read once for each, 3000 members would take minutes."""
    builder.write("m.tar.gz", gzip.compress(tarred(**{f"d__{n}": b"%d" % n * 500 for n in range(3000)}), 1))
    lock = builder.lock(model(source="m.tar.gz#d/", unpack=True, include=["1*"]))
    assert len(files(lock)) == 1111
    builder.elsewhere().fetch(lock)


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("w/*.onnx", {"a.onnx": "w/a.onnx", "b.onnx": "w/b.onnx"}),
        ("w/[a]*", {"a.onnx": "w/a.onnx"}),
        ("./w/?.onnx", {"a.onnx": "w/a.onnx", "b.onnx": "w/b.onnx"}),
        ("w/**/*.txt", {"sub/c.txt": "w/sub/c.txt"}),
        ("w/*/c.txt", {"sub/c.txt": "w/sub/c.txt"}),
        ("*/a.onnx", {"w/a.onnx": "w/a.onnx"}),
        ("w/odd*name", {"odd*name": "w/odd*name"}),
    ],
)
def test_a_pattern_names_what_it_finds_from_its_last_plain_folder(
    builder: Builder, pattern: str, found: dict[str, str]
) -> None:
    for name in ("w/a.onnx", "w/b.onnx", "w/sub/c.txt", "w/odd*name", "w/.git/x.onnx"):
        builder.write(name, name.encode())
    if pattern.startswith("w/odd"):
        (builder.folder / "w" / "oddname").write_bytes(b"not this one")
        with pytest.raises(NamingError):  # the one file of that very name, which no other disk could hold
            builder.lock(model(source=pattern))
        return
    lock = builder.lock(model(source=pattern))
    assert {path: source.removeprefix("./") for path, source in paths(lock).items()} == found
    builder.elsewhere().fetch(lock)


def test_a_pattern_that_matches_nothing_names_what_is_there(builder: Builder) -> None:
    builder.write("w/a.onnx", b"a")
    with pytest.raises(SourceNotFoundError, match=r"matches no file") as caught:
        builder.lock(model(source="w/*.pt"))
    assert "a.onnx" in caught.value.hint
    with pytest.raises(SourceNotFoundError, match="does not exist"):
        builder.lock(model(source="v/*.pt"))


def test_a_pattern_follows_no_link_out_of_its_folder(builder: Builder) -> None:
    builder.write("secret", b"s")
    builder.write("w/a.onnx", b"a")
    (builder.folder / "w" / "b.onnx").symlink_to("../secret")
    with pytest.raises(SourceError, match="leads out of its folder"):
        builder.lock(model(source="w/*.onnx"))


def test_a_pattern_is_no_single_file(builder: Builder) -> None:
    builder.write("w/a.onnx", b"a")
    with pytest.raises(SourceNotFoundError):
        builder.lock(model(files={"a": "w/*.onnx"}))
