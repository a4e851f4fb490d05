"""The builder's store: chunks once, recipes last, damage noticed."""

import errno
import hashlib
import io
import threading
from pathlib import Path

import pytest

from bundler import encode
from factory import Workshop, incompressible
from manifests import codecs
from manifests.codecs import Codec
from manifests.digest import Digest
from manifests.errors import (
    BusyError,
    CorruptStoreError,
    DamagedError,
    DigestMismatchError,
    StorageError,
    UnsupportedFormatError,
)
from manifests.locks import FileLock
from manifests.publish import publish
from manifests.recipe import decode as decode_recipe
from manifests.recipe import encode as encode_recipe
from manifests.store import Store, looking

CONTENT = incompressible(9_500_000) + bytes(5_000_000)


def add(store: Store, content: bytes) -> Digest:
    return encode.add(store, io.BytesIO(content), size=len(content), subject="x").digest


def chunk_files(store: Store) -> list[Path]:
    return [path for path in (store.path / "chunks").rglob("*") if path.is_file()]


def test_what_goes_in_comes_out(workshop: Workshop) -> None:
    for content in (CONTENT, b"", b"x"):
        assert b"".join(workshop.store.read(add(workshop.store, content))) == content


def test_every_name_that_a_client_uses_is_computed(workshop: Workshop) -> None:
    recipe = workshop.store.get(add(workshop.store, b"hello\n"))
    assert recipe.digest.hex == hashlib.sha256(b"hello\n").hexdigest()
    assert recipe.md5 == hashlib.md5(b"hello\n").digest()
    assert recipe.git_sha1.hex() == "ce013625030ba8dba906f756967f9e9ca394464a"  # git hash-object


def test_a_blob_twice_is_stored_once(workshop: Workshop) -> None:
    add(workshop.store, CONTENT)
    before = sorted(chunk_files(workshop.store))
    add(workshop.store, CONTENT)
    assert sorted(chunk_files(workshop.store)) == before


def test_another_digest_than_promised_is_refused_and_not_in_the_store(workshop: Workshop) -> None:
    with pytest.raises(DigestMismatchError):
        encode.add(workshop.store, io.BytesIO(b"x"), size=1, subject="x", expected=Digest.of(b"y"))
    assert workshop.store.find(Digest.of(b"x")) is None


def test_a_shorter_stream_than_promised_is_refused(workshop: Workshop) -> None:
    with pytest.raises(DigestMismatchError, match="2 bytes"):
        encode.add(workshop.store, io.BytesIO(b"x"), size=2, subject="x")


@pytest.mark.parametrize("damage", ["flip", "truncate", "empty", "remove"])
def test_a_damaged_chunk_is_noticed_removed_and_made_anew(workshop: Workshop, damage: str) -> None:
    digest = add(workshop.store, CONTENT)
    victim = max(chunk_files(workshop.store), key=lambda path: path.stat().st_size)
    content = victim.read_bytes()
    victim.unlink()
    if damage != "remove":
        changed = {"flip": content[:-1] + bytes([content[-1] ^ 1]), "truncate": content[:-9], "empty": b""}[damage]
        publish(victim, changed)
    with pytest.raises(CorruptStoreError):
        list(workshop.store.read(digest))
    assert workshop.store.find(digest) is None
    assert b"".join(workshop.store.read(add(workshop.store, CONTENT))) == CONTENT


def test_a_damaged_recipe_is_a_missing_one(workshop: Workshop) -> None:
    digest = add(workshop.store, b"abc")
    path = next(path for path in (workshop.store.path / "blobs").rglob("*") if path.is_file())
    publish(path, path.read_bytes()[:-1])
    assert workshop.store.find(digest) is None


def test_a_recipe_comes_back_and_a_flip_does_not(workshop: Workshop) -> None:
    recipe = workshop.store.get(add(workshop.store, CONTENT))
    raw = encode_recipe(recipe)
    assert decode_recipe(raw, subject="x") == recipe
    for place in range(0, len(raw), 3):
        with pytest.raises(CorruptStoreError):
            decode_recipe(raw[:place] + bytes([raw[place] ^ 1]) + raw[place + 1 :], subject="x")


def test_a_member_is_remembered_while_its_blob_is_here(workshop: Workshop) -> None:
    container, digest = Digest.of(b"wheel"), add(workshop.store, b"member")
    assert workshop.store.find_member(container, "a/b.onnx") is None
    workshop.store.record_member(container, "a/b.onnx", digest)
    assert workshop.store.find_member(container, "a/b.onnx") == digest
    for path in chunk_files(workshop.store):
        path.unlink()
    assert workshop.store.find_member(container, "a/b.onnx") is None


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"digest":"x","member":"m"}', b"x" * 70_000])
def test_a_damaged_record_of_a_member_is_a_missing_one(workshop: Workshop, content: bytes) -> None:
    container, digest = Digest.of(b"wheel"), add(workshop.store, b"member")
    workshop.store.record_member(container, "m", digest)
    (path,) = (path for path in (workshop.store.path / "members").rglob("*") if path.is_file())
    publish(path, content)
    assert workshop.store.find_member(container, "m") is None
    workshop.store.record_member(container, "m", digest)
    assert workshop.store.find_member(container, "m") == digest


def test_a_folder_in_the_place_of_a_recipe_is_named(workshop: Workshop) -> None:
    digest = add(workshop.store, b"abc")
    path = next(path for path in (workshop.store.path / "blobs").rglob("*") if path.is_file())
    path.unlink()
    path.mkdir()
    with pytest.raises(StorageError, match=path.name) as caught:
        workshop.store.find(digest)
    assert "store verify" in caught.value.hint


def test_a_whole_chunk_that_decodes_to_something_else_is_removed(workshop: Workshop) -> None:
    one, two = add(workshop.store, b"a" * 500), add(workshop.store, b"b" * 500)
    first, second = (workshop.store.get(each).chunks[0].digest.hex() for each in (one, two))
    victim = next(path for path in chunk_files(workshop.store) if path.name == first)
    publish(victim, next(path for path in chunk_files(workshop.store) if path.name == second).read_bytes())
    with pytest.raises(CorruptStoreError):
        list(workshop.store.read(one))
    assert workshop.store.find(one) is None
    assert b"".join(workshop.store.read(two)) == b"b" * 500


def test_a_chunk_that_cannot_be_opened_just_now_is_not_removed(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = add(workshop.store, CONTENT)
    before = chunk_files(workshop.store)
    chunk = workshop.store.get(digest).chunks[0]

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as short:
        short.setattr(Path, "open", refuse)
        for look in (workshop.store.head, workshop.store.chunk):
            with pytest.raises(StorageError, match="Too many open files") as caught:
                look(chunk)
            assert not isinstance(caught.value, CorruptStoreError)
    assert chunk_files(workshop.store) == before


def test_a_recipe_under_another_name_is_a_missing_one(workshop: Workshop) -> None:
    add(workshop.store, b"abc")
    path = next(path for path in (workshop.store.path / "blobs").rglob("*") if path.is_file())
    other = Digest.of(b"other")
    publish(workshop.store.path / "blobs/sha256" / other.hex[:2] / other.hex, path.read_bytes())
    assert workshop.store.find(other) is None


def test_opening_waits_for_who_looks_whether_it_is_alone(tmp_path: Path) -> None:
    Store.open(tmp_path).close()
    alone = FileLock(tmp_path / "lock", exclusive=True, busy="")
    alone.acquire()
    threading.Timer(0.5, alone.release).start()
    Store.open(tmp_path).close()


def test_opening_does_not_wait_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Store.open(tmp_path).close()
    monkeypatch.setattr("manifests.store._PATIENCE", 0.2)
    with FileLock(tmp_path / "lock", exclusive=True, busy=""):
        with pytest.raises(BusyError, match="being cleaned") as caught:
            Store.open(tmp_path)
        assert "wait" in caught.value.hint
        with pytest.raises(BusyError), looking(tmp_path):
            pass


def test_a_newer_store_is_left_alone(tmp_path: Path) -> None:
    publish(tmp_path / "store.json", b'{"format":2}')
    with pytest.raises(UnsupportedFormatError):
        Store.open(tmp_path)


def test_a_chunk_that_does_not_shrink_stays_raw() -> None:
    assert codecs.encode(incompressible(5000)).codec is Codec.RAW
    encoded = codecs.encode(b"a" * 5000)
    assert encoded.codec is Codec.ZSTD
    assert codecs.decode(Codec.ZSTD, encoded.content, 5000) == b"a" * 5000


@pytest.mark.parametrize("declared", [4999, 5001, 1])
def test_a_frame_that_declares_another_length_is_not_decoded(declared: int) -> None:
    with pytest.raises(DamagedError):
        codecs.decode(Codec.ZSTD, codecs.encode(b"a" * 5000).content, declared)


def test_frames_with_tricks_are_refused() -> None:
    import zstandard

    frame = codecs.encode(b"a" * 5000).content
    undeclared = zstandard.ZstdCompressor(write_content_size=False).compress(b"a" * 5000)
    checked = zstandard.ZstdCompressor(write_checksum=True).compress(b"a" * 5000)
    for trick in (checked, frame + frame, frame + b"x", frame[:-1], undeclared, b"", b"\x28\xb5\x2f\xfd"):
        with pytest.raises(DamagedError):
            codecs.decode(Codec.ZSTD, trick, 5000)
