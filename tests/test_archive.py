"""Members of archives: the right one, whole, and nothing from a forged one."""

import gzip
import io
import stat
import struct
import tarfile
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from archives import KINDS, special, tarred, zipped
from bundler.sources import archive
from manifests.errors import SourceError, SourceNotFoundError

WEIGHTS = bytes(range(256)) * 5000


def take(content: bytes, *members: str, spool: Path) -> bytes:
    with archive.open_member(io.BytesIO(content), members, subject="a", spool=spool) as member:
        taken = member.stream.read()
        assert len(taken) == member.size
        return taken


@pytest.mark.parametrize("kind", KINDS)
def test_a_member_of_a_tar_comes_whole(tmp_path: Path, kind: str) -> None:
    content = KINDS[kind](tarred(README=b"read", sub__weights=WEIGHTS, last=b"z"))
    assert take(content, "sub/weights", spool=tmp_path) == WEIGHTS


def test_a_member_of_a_zip_comes_whole(tmp_path: Path) -> None:
    assert take(zipped(README=b"read", sub__weights=WEIGHTS), "sub/weights", spool=tmp_path) == WEIGHTS


@pytest.mark.parametrize("outer", [zipped, tarred])
@pytest.mark.parametrize("inner", [zipped, tarred])
def test_archives_lie_inside_archives(tmp_path: Path, outer: Callable[..., bytes], inner: Callable[..., bytes]) -> None:
    content = outer(box=inner(lid=b"", weights=WEIGHTS))
    assert take(content, "box", "weights", spool=tmp_path) == WEIGHTS
    assert list(tmp_path.iterdir()) == []


def test_a_name_that_a_tar_writes_with_a_dot_is_found_without(tmp_path: Path) -> None:
    content = tarred(**{".__weights": b"w"})
    assert take(content, "weights", spool=tmp_path) == b"w"


@pytest.mark.parametrize("made", [zipped, tarred])
@pytest.mark.parametrize(
    ("asked", "hint"),
    [("weights.onnx", "sub/weights.onnx"), ("sub/weihgts.onnx", "sub/weights.onnx"), ("zzz", "there are")],
)
def test_a_member_that_is_not_there_names_what_is_near(
    tmp_path: Path, made: Callable[..., bytes], asked: str, hint: str
) -> None:
    with pytest.raises(SourceNotFoundError, match="has no member") as caught:
        take(made(**{"sub__weights.onnx": b"", "other": b""}), asked, spool=tmp_path)
    assert hint in caught.value.hint


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_members_of_one_name_are_refused(tmp_path: Path) -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as made:
        made.writestr("m", b"one")
        made.writestr("m", b"two")
    with pytest.raises(SourceError, match="2 members are called m"):
        take(out.getvalue(), "m", spool=tmp_path)
    twice = tarred(m=b"one")[:1024] + tarred(m=b"two")
    with pytest.raises(SourceError, match="2 members are called m"):
        take(twice, "m", spool=tmp_path)


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE])
def test_only_regular_files_come_out_of_a_tar(tmp_path: Path, kind: bytes) -> None:
    with pytest.raises(SourceError, match="no regular file"):
        take(special(kind), "m", spool=tmp_path)


def test_a_link_in_a_zip_is_refused(tmp_path: Path) -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as made:
        entry = zipfile.ZipInfo("m")
        entry.external_attr = (stat.S_IFLNK | 0o777) << 16
        made.writestr(entry, "/etc/passwd")
    with pytest.raises(SourceError, match="is a link"):
        take(out.getvalue(), "m", spool=tmp_path)


def test_an_encrypted_member_is_refused(tmp_path: Path) -> None:
    content = bytearray(zipped(m=b"secret"))
    content[content.index(b"PK\x01\x02") + 8] |= 1
    content[6] |= 1
    with pytest.raises(SourceError, match="encrypted"):
        take(bytes(content), "m", spool=tmp_path)


def test_a_zip_that_declares_less_than_it_unfolds_to_gives_no_more_than_declared(tmp_path: Path) -> None:
    content = bytearray(zipped(m=bytes(1_000_000)))
    central = content.index(b"PK\x01\x02")
    content[central + 24 : central + 28] = struct.pack("<I", 10)
    with pytest.raises(SourceError, match="damaged"):
        take(bytes(content), "m", spool=tmp_path)


def test_a_header_that_claims_gigabytes_is_refused_before_it_is_read(tmp_path: Path) -> None:
    entry = tarfile.TarInfo("m")
    entry.type, entry.size = tarfile.XHDTYPE, 7 << 30
    with pytest.raises(SourceError, match="longer than any honest one"):
        take(entry.tobuf(tarfile.USTAR_FORMAT) + bytes(10240), "m", spool=tmp_path)


def test_more_members_than_memory_holds_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "MAXIMUM_MEMBERS", 2)
    for made in (zipped, tarred):
        with pytest.raises(SourceError, match="more than 2 members"):
            take(made(a=b"", b=b"", c=b""), "a", spool=tmp_path)


def test_too_many_archives_inside_one_another_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="more than 4 archives"):
        take(zipped(a=b""), *"abcde", spool=tmp_path)


@pytest.mark.parametrize("content", [b"", b"not an archive, whatever its name says", gzip.compress(b"just text")])
def test_what_is_no_archive_says_so(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(SourceError, match="no archive that this program reads"):
        take(content, "m", spool=tmp_path)


def damaged(content: bytes) -> Sequence[bytes]:
    return [content[: len(content) // 2], content[:-700], content[:40] + bytes(30) + content[70:]]


@pytest.mark.parametrize(
    "content",
    [
        part
        for whole in (zipped(m=WEIGHTS), *(made(tarred(m=WEIGHTS)) for made in KINDS.values()))
        for part in damaged(whole)
    ],
)
def test_damage_is_an_error_of_the_source_or_changes_nothing(tmp_path: Path, content: bytes) -> None:
    try:
        taken = take(content, "m", spool=tmp_path)
    except SourceError:
        return
    assert taken == WEIGHTS or content.startswith(b"m\0")  # a plain tar checks its headers only


def test_the_metadata_of_a_wheel_is_found_by_its_place() -> None:
    wheel = zipped(**{"p__deep__x.dist-info__METADATA": b"", "p-1.dist-info__METADATA": b"Name: p"})
    assert archive.find_name(io.BytesIO(wheel), ".dist-info/METADATA", subject="w") == "p-1.dist-info/METADATA"
    assert archive.find_name(io.BytesIO(tarred(a=b"")), ".dist-info/METADATA", subject="t") is None
