"""What one manifest fetched, another does not fetch again; and what one process fetches, another waits for."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event

import pytest

from builders import Builder, files, model
from loopback import Request, hasty, serving
from manifests.digest import Digest
from manifests.errors import SourceError
from manifests.lock import Lock
from slow_proxy import slow_proxy


@dataclass
class Site:
    """A server of one file, and what it was asked."""

    content: bytes = b"weights" * 1000
    etag: str = '"1"'
    refuses_head: bool = False
    asked: list[str] = field(default_factory=list)
    url: str = ""

    def answer(self, request: Request) -> None:
        self.asked.append(request.command)
        if self.refuses_head and request.command == "HEAD":
            request.send(b"", status=405)
            return
        headers = {"Last_Modified": "Sat, 21 Nov 2026 10:00:00 GMT"}
        if self.etag:
            request.send_file(self.content, etag=self.etag, **headers)
        else:
            request.send(self.content, **headers)


@contextmanager
def site_of(site: Site) -> Iterator[Site]:
    with serving(site.answer) as url:
        site.url = f"{url}/w.bin"
        yield site


@pytest.fixture
def site() -> Iterator[Site]:
    with site_of(Site()) as running:
        yield running


@pytest.fixture
def builder(tmp_path: Path) -> Builder:
    return Builder(tmp_path, hasty(tmp_path / "store"))


def digest_of(lock: Lock) -> Digest:
    (file,) = files(lock)
    return file.digest


def test_another_manifest_asks_only_whether_it_is_still_the_same(builder: Builder, site: Site) -> None:
    first = builder.lock(model(files={"a": site.url}))
    assert site.asked == ["GET"]
    second = builder.lock(model(id="other", files={"b": site.url}))
    assert site.asked == ["GET", "HEAD"]
    assert digest_of(first) == digest_of(second)
    assert files(first)[0].pin == files(second)[0].pin != {}


def test_a_file_that_changed_is_fetched(builder: Builder, site: Site) -> None:
    builder.lock(model(files={"a": site.url}))
    site.content, site.etag = b"other weights", '"2"'
    assert digest_of(builder.lock(model(id="other", files={"b": site.url}))) == Digest.of(b"other weights")
    assert site.asked == ["GET", "HEAD", "GET"]


def test_the_lock_is_the_same_whether_it_was_remembered_or_not(builder: Builder, site: Site) -> None:
    asked = model(files={"a": site.url})
    assert builder.lock(asked) == builder.lock(asked) == builder.elsewhere().lock(asked)


def test_an_upgrade_and_a_check_ask_without_fetching(builder: Builder, site: Site) -> None:
    asked = model(files={"a": site.url})
    lock = builder.lock(asked)
    assert builder.lock(asked, previous=lock, upgrade=True) == lock
    assert site.asked == ["GET", "HEAD"]


@pytest.mark.parametrize(
    "site",
    [Site(etag=""), Site(etag='W/"1"'), Site(refuses_head=True)],
    ids=["no ETag", "a weak ETag", "no HEAD"],
)
def test_what_its_source_does_not_vouch_for_is_fetched_again(builder: Builder, site: Site) -> None:
    with site_of(site):
        for name in ("one", "two"):
            builder.lock(model(id=name, files={"a": site.url}))
    assert site.asked.count("GET") == 2


def test_an_equal_etag_of_another_address_is_nothing(builder: Builder, site: Site) -> None:
    with site_of(Site(content=b"others")) as other:
        builder.lock(model(files={"a": site.url}))
        assert digest_of(builder.lock(model(files={"a": other.url}))) == Digest.of(b"others")


def test_what_the_store_lost_is_fetched_again(builder: Builder, site: Site) -> None:
    lock = builder.lock(model(files={"a": site.url}))
    (builder.settings.store / "blobs/sha256" / digest_of(lock).hex[:2] / digest_of(lock).hex).unlink()
    assert digest_of(builder.lock(model(id="other", files={"b": site.url}))) == digest_of(lock)
    assert site.asked.count("GET") == 2


def started(folder: Path, name: str, url: str, store: Path) -> "subprocess.Popen[str]":
    (folder / f"{name}.yaml").write_text(f"name: {name}\nmodels: [{{id: {name}, files: {{w.bin: '{url}'}}}}]\n")
    command = [sys.executable, "-m", "bundler", "lock", str(folder / f"{name}.yaml"), "--store", str(store)]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_two_processes_that_want_one_file_download_it_once(tmp_path: Path) -> None:
    begun = Event()
    content = b"x" * 3_000_000
    asked: list[str] = []

    def answer(request: Request) -> None:
        asked.append(request.command)
        begun.set()
        request.send_file(content, etag='"1"')

    with serving(answer) as url:
        port = int(url.rpartition(":")[2])
        with slow_proxy("127.0.0.1", port, rate=1_500_000) as door:
            one = started(tmp_path, "one", f"{door.url}/w.bin", tmp_path / "store")
            assert begun.wait(30)
            two = started(tmp_path, "two", f"{door.url}/w.bin", tmp_path / "store")
            told = [process.communicate(timeout=60)[1] for process in (one, two)]
    assert (one.returncode, two.returncode) == (0, 0), told
    assert asked.count("GET") == 1


def test_who_waits_goes_on_where_a_killed_process_left(tmp_path: Path) -> None:
    content = b"y" * 3_000_000

    def answer(request: Request) -> None:
        request.send_file(content, etag='"1"')

    with serving(answer) as url, slow_proxy("127.0.0.1", int(url.rpartition(":")[2]), rate=1_500_000) as door:
        one = started(tmp_path, "one", f"{door.url}/w.bin", tmp_path / "store")
        deadline = time.monotonic() + 30
        while door.sent < 1_000_000 and time.monotonic() < deadline:
            time.sleep(0.01)
        two = started(tmp_path, "two", f"{door.url}/w.bin", tmp_path / "store")
        while "waiting for that" not in (line := two.stderr.readline() if two.stderr else "") and line:
            pass
        one.kill()
        one.communicate()
        assert two.wait(60) == 0, two.communicate()
        two.communicate()
        assert door.sent < 4_000_000


@pytest.mark.parametrize(
    ("path", "kind", "refused"),
    [
        ("w.onnx", "text/html; charset=utf-8", True),
        ("w.onnx", "application/xhtml+xml", True),
        ("card.html", "text/html", False),
        ("w.onnx", "text/plain", False),
    ],
)
def test_a_sign_in_page_is_no_file(builder: Builder, path: str, kind: str, refused: bool) -> None:
    page = b"<html>Please sign in</html>"

    def answer(request: Request) -> None:
        request.send(page, Content_Type=kind)

    with serving(answer) as url:
        if refused:
            with pytest.raises(SourceError, match="gives a web page in place of a file"):
                builder.lock(model(files={"w": f"{url}/{path}"}))
            known = {"from": f"{url}/{path}", "sha256": Digest.of(page).hex}
            assert digest_of(builder.lock(model(files={"w": known}))) == Digest.of(page)
        else:
            assert digest_of(builder.lock(model(files={"w": f"{url}/{path}"}))) == Digest.of(page)


def test_a_length_that_no_disk_holds_is_no_length(builder: Builder) -> None:
    def answer(request: Request) -> None:
        request.head(200, Content_Length="9" * 5000, ETag='"1"')
        request.wfile.write(b"x")
        request.close_connection = True

    with serving(answer) as url, pytest.raises(SourceError):
        builder.lock(model(files={"w": f"{url}/w"}))
