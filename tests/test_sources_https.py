"""Files at plain web addresses: fetched to be hashed, pinned by what their server calls the version."""

from pathlib import Path

import pytest

from bundler.resolve import fetch_locked, resolve
from loopback import hasty
from manifests.errors import DigestMismatchError, ManifestError, SourceNotFoundError
from manifests.lock import Lock, LockedFile
from manifests.manifest import parse
from manifests.progress import Silent
from manifests.store import Store
from misbehaving_server import Answer, Cut, misbehaving

CONTENT = b"weights" * 20_000


def lock_of(folder: Path, source: object) -> Lock:
    manifest = parse({"name": "n", "models": [{"id": "m", "files": {"weights.bin": source}}]})
    with Store.open(folder / "store") as store:
        return resolve(
            manifest,
            base=folder,
            store=store,
            settings=hasty(folder / "store"),
            previous=None,
            upgrade=False,
            reporter=Silent(),
        )


def only_file(lock: Lock) -> LockedFile:
    (file,) = lock.models[0].packages[0].files
    return file


def test_a_file_is_locked_with_its_etag(tmp_path: Path) -> None:
    with misbehaving(CONTENT) as server:
        file = only_file(lock_of(tmp_path, server.url))
        assert file.pin == {"etag": server.etag}
        assert (file.size, file.source) == (len(CONTENT), server.url)


def test_a_query_belongs_to_the_address(tmp_path: Path) -> None:
    with misbehaving(CONTENT) as server:
        assert only_file(lock_of(tmp_path, f"{server.url}?download=true")).source.endswith("?download=true")


def test_a_digest_in_the_manifest_is_enforced_and_is_all_the_pin(tmp_path: Path) -> None:
    with misbehaving(CONTENT) as server:
        digest = only_file(lock_of(tmp_path / "a", server.url)).sha256
        assert only_file(lock_of(tmp_path / "b", f"{server.url}#sha256={digest}")).pin == {}
        with pytest.raises(DigestMismatchError):
            lock_of(tmp_path / "c", {"from": server.url, "sha256": "ab" * 32})


def test_what_the_store_has_by_its_digest_is_not_asked_for(tmp_path: Path) -> None:
    with misbehaving(CONTENT) as server:
        digest = only_file(lock_of(tmp_path, server.url)).sha256
        lock_of(tmp_path, {"from": server.url, "sha256": digest})
    assert len(server.requests) == 1


def test_a_locked_file_is_fetched_again_and_compared(tmp_path: Path) -> None:
    with misbehaving(CONTENT, Cut(1000)) as server:
        lock = lock_of(tmp_path, server.url)
        with Store.open(tmp_path / "other") as store:
            fetch_locked(lock, base=tmp_path, store=store, settings=hasty(store.path), reporter=Silent())
            assert store.find(only_file(lock).digest) is not None
        server.content = CONTENT[:-1] + b"!"
        with Store.open(tmp_path / "third") as store, pytest.raises(DigestMismatchError):
            fetch_locked(lock, base=tmp_path, store=store, settings=hasty(store.path), reporter=Silent())


def test_what_is_gone_is_not_found(tmp_path: Path) -> None:
    with misbehaving(CONTENT, Answer(404)) as server, pytest.raises(SourceNotFoundError, match=r"weights\.bin"):
        lock_of(tmp_path, server.url)


def test_nothing_is_left_of_a_download_when_it_is_in_the_store(tmp_path: Path) -> None:
    with misbehaving(CONTENT) as server:
        lock_of(tmp_path, server.url)
    left = [path.name for path in (tmp_path / "store" / "partial").iterdir() if path.suffix != ".lock"]
    assert left == []


def test_a_password_in_an_address_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="would end up in the lock"):
        lock_of(tmp_path, "https://user:secret@example.org/x")
