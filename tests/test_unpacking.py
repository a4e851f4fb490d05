"""Whole archives and patterns as the source of a model."""

import gzip
import io
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

import pytest

from archives import KINDS, special, tarred, zipped
from builders import Builder, Notes, Recorder, files, model
from loopback import Request, hasty, serving
from manifests.errors import DigestMismatchError, ManifestError, NamingError, SourceError, SourceNotFoundError
from manifests.lock import Lock

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


HEADER_OF_B = 1024


@pytest.mark.parametrize("end", [HEADER_OF_B, HEADER_OF_B + 200, HEADER_OF_B + 512])
def test_a_tar_that_is_cut_short_is_no_smaller_tar(builder: Builder, end: int) -> None:
    builder.write("m.tar", tarred(a=b"a", b=b"b", c=b"c")[:end])
    for wanted in (model(files={"a": "m.tar#a"}), model(source="m.tar", unpack=True)):
        with pytest.raises(SourceError, match="damaged"):
            builder.lock(wanted)


@pytest.mark.parametrize("place", [HEADER_OF_B, HEADER_OF_B + 148, HEADER_OF_B + 300])
def test_a_tar_with_a_damaged_header_does_not_end_there(builder: Builder, place: int) -> None:
    content = bytearray(tarred(a=b"a", b=b"b", c=b"c"))
    content[place] ^= 1
    builder.write("m.tar", content)
    with pytest.raises(SourceError, match="damaged"):
        builder.lock(model(source="m.tar", unpack=True))


@pytest.mark.parametrize("place", [-5, -1])
def test_the_check_behind_the_end_of_a_compressed_tar_is_compared(builder: Builder, place: int) -> None:
    content = bytearray(gzip.compress(tarred(a=b"a")))
    content[place] ^= 1
    builder.write("m.tar.gz", content)
    with pytest.raises(SourceError, match="damaged"):
        builder.lock(model(source="m.tar.gz", unpack=True))


def test_the_digest_beside_unpack_is_that_of_the_archive(builder: Builder) -> None:
    content = tarred(**TREE)
    with counting(content) as (url, _):
        builder.write("m.tar", content)
        for source in ("m.tar", f"{url}/m.tar"):
            right, wrong = f"{source}#sha256={sha256(content).hexdigest()}", f"{source}#sha256={'0' * 64}"
            lock = builder.lock(model(source=right, unpack=True))
            assert len(files(lock)) == 4
            builder.elsewhere().fetch(lock)
            assert builder.lock(model(source=right, unpack=True), previous=lock) == lock
            with pytest.raises(DigestMismatchError):
                builder.lock(model(source=wrong, unpack=True))
    with pytest.raises(ManifestError, match="has no digest of its own"):
        builder.lock(model(source=f"m.tar#top/#sha256={'0' * 64}", unpack=True))


@pytest.mark.parametrize("fragment", ["member", f"sha256={'0' * 64}", "a.onnx"])
@pytest.mark.parametrize("source", ["w", "w/*.onnx"])
def test_a_member_or_a_digest_of_a_whole_folder_is_refused_and_not_passed_over(
    builder: Builder, source: str, fragment: str
) -> None:
    builder.write("w/a.onnx", b"a")
    builder.write("w/b.onnx", b"b")
    with pytest.raises(ManifestError, match="has several files"):
        builder.lock(model(source=f"{source}#{fragment}"))


def test_a_pattern_finds_nothing_behind_a_link_to_a_folder_outside(builder: Builder) -> None:
    builder.write("outside/secret.onnx", b"s")
    builder.write("w/sub/a.onnx", b"a")
    (builder.folder / "w" / "link").symlink_to("../outside")
    with pytest.raises(SourceError, match="leads out of its folder"):
        builder.lock(model(source="w/*/*.onnx"))
    assert list(paths(builder.lock(model(source="w/**/*.onnx")))) == ["sub/a.onnx"]


@pytest.mark.parametrize(
    ("pattern", "family", "words"),
    [
        ("w/**x", ManifestError, "alone between two slashes"),
        ("w/a.onnx/*.onnx", SourceNotFoundError, "matches no file"),
        ("w/*/../../secret*", SourceError, "leads out of its folder"),
        ("w/[", SourceNotFoundError, "matches no file"),
    ],
)
def test_a_pattern_that_cannot_be_is_told_as_such(
    builder: Builder, pattern: str, family: type[Exception], words: str
) -> None:
    builder.write("secret", b"s")
    builder.write("w/a.onnx", b"a")
    builder.write("w/sub/b.onnx", b"b")
    with pytest.raises(family, match=words):
        builder.lock(model(source=pattern))


def test_two_stars_at_the_end_are_all_files_below(builder: Builder) -> None:
    builder.write("w/a.onnx", b"a")
    builder.write("w/sub/.hidden", b"b")
    assert list(paths(builder.lock(model(source="w/**")))) == ["a.onnx", "sub/.hidden"]


def test_an_archive_counts_as_one_file_to_come_and_files_of_this_machine_as_none(builder: Builder) -> None:
    builder.write("local.bin", b"l" * 777)
    with counting(gzip.compress(tarred(**TREE))) as (url, _):
        unpacked, plain = model(source=f"{url}/m.tar.gz", unpack=True), model(id="n", source=f"{url}/plain.bin")
        members = model(id="p", files={name: f"{url}/m.tar.gz#{name}" for name in ("other.md", "top/c.txt")})
        locking = Recorder()
        lock = builder.lock(unpacked, plain, members, model(id="l", source="local.bin"), reporter=locking)
        assert locking.expectations == [(2, None)]
        fetching = Recorder()
        builder.elsewhere().fetch(lock, fetching)
        assert fetching.expectations == [(2, None)]
        assert len(set(fetching.ended)) == 2
        alone = Recorder()
        builder.elsewhere().lock(unpacked, reporter=alone)
        assert alone.expectations == []


def test_a_folder_that_is_not_there_names_those_that_are(builder: Builder) -> None:
    builder.write("m.tar", tarred(**TREE))
    with pytest.raises(SourceNotFoundError, match="has no folder models/") as caught:
        builder.lock(model(source="m.tar#models/", unpack=True))
    assert caught.value.hint == "there are: top/, top/sub/"


def test_nothing_of_a_damaged_archive_is_remembered(builder: Builder) -> None:
    builder.write("m.tar", tarred(**TREE)[:8704])
    with pytest.raises(SourceError):
        builder.lock(model(source="m.tar", unpack=True))
    assert not list((builder.settings.store / "members").rglob("*.json"))
    with pytest.raises(SourceError):
        builder.lock(model(files={"a": "m.tar#top/a.onnx"}))


def test_a_pattern_that_chooses_nothing_beside_others_that_do_is_told(builder: Builder) -> None:
    notes = Notes()
    builder.write("w/a.json", b"{}")
    builder.write("m.tar", tarred(**TREE))
    builder.lock(model(source="w", include=["*.json", "onx/*.onnx"]), reporter=notes)
    builder.lock(model(id="n", source="m.tar", unpack=True, include=["*.md", "*.pt"]), reporter=notes)
    assert notes.notes == ["m: `include` 'onx/*.onnx' chose no file", "n: `include` '*.pt' chose no file"]
