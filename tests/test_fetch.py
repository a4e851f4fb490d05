"""Downloads: resumed, tried again, compared, and never mixed from two versions of a file."""

import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from bundler.fetch import Fetched, Request, download, forget_finished
from bundler.fetching import claims as module
from bundler.http import Client
from bundler.pip_settings import PackageIndexes
from bundler.settings import Hub, Patience
from bundler.together import together
from loopback import HASTE, hasty, serving
from loopback import Request as Asked
from manifests.digest import Digest
from manifests.errors import (
    BusyError,
    DigestMismatchError,
    DiskFullError,
    ManifestError,
    SourceDeniedError,
    SourceError,
    SourceNotFoundError,
    SourceUnreachableError,
)
from manifests.locks import FileLock
from manifests.progress import Silent
from misbehaving_server import (
    Answer,
    Change,
    Chunked,
    Claim,
    Cut,
    Gzip,
    IgnoreRange,
    PartAsWhole,
    Stall,
    WrongPart,
    misbehaving,
)

CONTENT = random.Random(1).randbytes(300_000)
OTHER = random.Random(2).randbytes(280_000)
DOWNLOAD = """
import sys
from pathlib import Path
from bundler.fetch import Request, download
from bundler.http import Client
from bundler.settings import Settings
from manifests.progress import Silent
folder = Path(sys.argv[2])
with Client(Settings(store=folder)) as client:
    download(client, Request(sys.argv[1], folder / "part", "weights.bin"), Silent())
"""


class Recording(Silent):
    """A reporter that remembers."""

    def note(self, text: str) -> None:
        self.events.append(("note", text))

    def __init__(self) -> None:
        self.events: list[tuple[object, ...]] = []

    def started(self, name: str, total: int | None) -> None:
        self.events.append(("started", name, total))

    def advanced(self, name: str, size: int) -> None:
        self.events.append(("advanced", name, size))

    def finished(self, name: str) -> None:
        self.events.append(("finished", name))


def fetch(
    url: str, folder: Path, *, patience: Patience = HASTE, reporter: Silent | None = None, **known: object
) -> Fetched:
    with Client(hasty(folder, patience=patience)) as client:
        request = Request(url, folder / "part", "weights.bin", **known)  # type: ignore[arg-type]
        done = download(client, request, reporter or Silent())
        done.claim.release()
        return done


def test_a_whole_file_comes_with_its_digest_size_and_version(tmp_path: Path) -> None:
    with misbehaving(CONTENT) as server:
        done = fetch(server.url, tmp_path)
        assert (done.digest, done.size, done.path.read_bytes()) == (Digest.of(CONTENT), len(CONTENT), CONTENT)
        assert done.version.pin == {"etag": server.etag}
        assert server.requests[0]["Accept-Encoding"] == "identity"


def test_an_empty_file_is_a_file(tmp_path: Path) -> None:
    with misbehaving(b"") as server:
        assert fetch(server.url, tmp_path).digest == Digest.of(b"")


@pytest.mark.parametrize("seed", range(5))
def test_a_download_cut_at_random_bytes_goes_on_where_it_ended(tmp_path: Path, seed: int) -> None:
    cuts = [Cut(random.Random(seed * 100 + number).randrange(1, 60_000)) for number in range(8)]
    with misbehaving(CONTENT, *cuts) as server:
        done = fetch(server.url, tmp_path, digest=Digest.of(CONTENT))
    assert done.path.read_bytes() == CONTENT
    starts = [int(headers.get("Range", "bytes=0-")[6:-1]) for headers in server.requests]
    assert starts[0] == 0
    assert all(before < after for before, after in pairwise(starts))


def test_a_download_goes_on_after_its_process_was_killed(tmp_path: Path) -> None:
    with misbehaving(CONTENT, Cut(100_000), *[Answer(503)] * 3) as server:
        with pytest.raises(SourceUnreachableError):
            fetch(server.url, tmp_path)
        assert fetch(server.url, tmp_path).path.read_bytes() == CONTENT
    assert server.requests[-1]["Range"].startswith("bytes=")


@pytest.mark.parametrize("kept", [0, 1, 150_000, 299_999, 300_000])
def test_any_number_of_bytes_may_have_been_written_when_the_kill_came(tmp_path: Path, kept: int) -> None:
    with misbehaving(CONTENT) as server:
        path = fetch(server.url, tmp_path).path
        path.write_bytes(CONTENT[:kept])
        assert fetch(server.url, tmp_path).digest == Digest.of(CONTENT)


def test_a_killed_process_leaves_what_the_next_one_goes_on_from(tmp_path: Path) -> None:
    with misbehaving(CONTENT, Stall(200_000, 30.0)) as server:
        command = [sys.executable, "-c", DOWNLOAD, server.url, str(tmp_path)]
        with subprocess.Popen(command) as process:
            deadline = time.monotonic() + 20
            while time.monotonic() < deadline and size_of(tmp_path / "part") < 100_000:
                time.sleep(0.01)
            process.kill()
        assert fetch(server.url, tmp_path).path.read_bytes() == CONTENT
    assert int(server.requests[1]["Range"][6:-1]) >= 100_000


def size_of(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


@pytest.mark.parametrize("end_after", [0, 1, 7])
def test_a_file_of_unknown_length_is_whole_or_tried_again(tmp_path: Path, end_after: int) -> None:
    with misbehaving(CONTENT, Chunked(end_after), Chunked()) as server:
        assert fetch(server.url, tmp_path).path.read_bytes() == CONTENT
    assert len(server.requests) == 2


def test_a_version_that_was_not_written_whole_starts_over(tmp_path: Path) -> None:
    with misbehaving(CONTENT) as server:
        path = fetch(server.url, tmp_path).path
        beside = path.with_name("part.json")
        beside.chmod(0o644)
        beside.write_bytes(b'{"etag"')
        path.write_bytes(b"other bytes")
        assert fetch(server.url, tmp_path).digest == Digest.of(CONTENT)


def test_a_file_that_changed_midway_starts_over_and_is_never_mixed(tmp_path: Path) -> None:
    with misbehaving(CONTENT, Cut(100_000), Change(OTHER)) as server:
        assert fetch(server.url, tmp_path).path.read_bytes() == OTHER


def test_a_file_that_became_shorter_than_what_is_here_starts_over(tmp_path: Path) -> None:
    with misbehaving(CONTENT, Cut(200_000)) as server:
        server.faults.append(Answer(416, {"Content-Range": "bytes */1000"}))
        assert fetch(server.url, tmp_path).path.read_bytes() == CONTENT


def test_without_anything_to_tell_versions_apart_it_starts_over(tmp_path: Path) -> None:
    with misbehaving(CONTENT, Cut(200_000), with_etag=False) as server:
        assert fetch(server.url, tmp_path).path.read_bytes() == CONTENT
    assert all("Range" not in headers for headers in server.requests)


def test_a_server_that_ignores_ranges_sends_the_whole_file_again(tmp_path: Path) -> None:
    with misbehaving(CONTENT, Cut(100_000), IgnoreRange()) as server:
        assert fetch(server.url, tmp_path).path.read_bytes() == CONTENT


def test_a_part_under_the_status_of_a_whole_file_is_a_part(tmp_path: Path) -> None:
    with misbehaving(CONTENT, Cut(100_000), PartAsWhole()) as server:
        assert fetch(server.url, tmp_path).path.read_bytes() == CONTENT
    assert len(server.requests) == 2


def test_a_part_that_was_not_asked_for_is_thrown_away(tmp_path: Path) -> None:
    with misbehaving(CONTENT, Cut(100_000), WrongPart()) as server:
        assert fetch(server.url, tmp_path).path.read_bytes() == CONTENT


def test_what_was_resumed_and_is_wrong_is_asked_for_once_more_whole(tmp_path: Path) -> None:
    with misbehaving(CONTENT) as server:
        path = fetch(server.url, tmp_path).path
        path.write_bytes(b"\0" * 1000)
        assert fetch(server.url, tmp_path, digest=Digest.of(CONTENT)).path.read_bytes() == CONTENT


def test_another_file_than_was_promised_is_refused_and_not_kept(tmp_path: Path) -> None:
    with misbehaving(OTHER) as server, pytest.raises(DigestMismatchError):
        fetch(server.url, tmp_path, digest=Digest.of(CONTENT))
    assert not (tmp_path / "part").exists()


def test_another_size_than_was_promised_is_refused_before_it_is_fetched(tmp_path: Path) -> None:
    with misbehaving(OTHER) as server, pytest.raises(DigestMismatchError, match="300000 bytes"):
        fetch(server.url, tmp_path, size=len(CONTENT))


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_a_passing_failure_is_tried_again(tmp_path: Path, status: int) -> None:
    with misbehaving(CONTENT, Answer(status), Answer(status)) as server:
        assert fetch(server.url, tmp_path).digest == Digest.of(CONTENT)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, SourceError),
        (401, SourceDeniedError),
        (403, SourceDeniedError),
        (404, SourceNotFoundError),
        (410, SourceNotFoundError),
    ],
)
def test_a_lasting_failure_is_not_tried_again(tmp_path: Path, status: int, kind: type[SourceError]) -> None:
    with misbehaving(CONTENT, Answer(status)) as server, pytest.raises(kind) as caught:
        fetch(server.url, tmp_path)
    assert len(server.requests) == 1
    assert type(caught.value) is kind


def test_a_storm_of_503_ends_in_an_error_that_says_how_often(tmp_path: Path) -> None:
    with (
        misbehaving(CONTENT, *[Answer(503)] * 50) as server,
        pytest.raises(SourceUnreachableError, match=r"503 \(4 tries\)"),
    ):
        fetch(server.url, tmp_path)
    assert len(server.requests) == 4


def test_a_server_that_always_claims_too_much_is_given_up(tmp_path: Path) -> None:
    with misbehaving(CONTENT, *[Claim(500)] * 50, with_etag=False) as server, pytest.raises(SourceUnreachableError):
        fetch(server.url, tmp_path)


def test_retry_after_is_honoured(tmp_path: Path) -> None:
    with misbehaving(CONTENT, Answer(429, {"Retry-After": "4"})) as server:
        with pytest.raises(SourceUnreachableError, match="asks to wait 4 s"):
            fetch(server.url, tmp_path, patience=replace(HASTE, longest_wait=3.0))
        assert fetch(server.url, tmp_path).digest == Digest.of(CONTENT)


def test_a_date_in_retry_after_counts_from_the_date_of_the_server(tmp_path: Path) -> None:
    dates = {"Retry-After": "Wed, 01 Jan 2020 01:00:00 GMT", "Date": "Wed, 01 Jan 2020 00:00:00 GMT"}

    def answer(asked: Asked) -> None:
        asked.send_response_only(503)
        for name, value in {**dates, "Content-Length": "0"}.items():
            asked.send_header(name, value)
        asked.end_headers()

    with serving(answer) as url, pytest.raises(SourceUnreachableError, match="asks to wait 3600 s"):
        fetch(url, tmp_path)


def test_a_stalled_connection_is_broken_off_and_resumed(tmp_path: Path) -> None:
    with misbehaving(CONTENT, Stall(100_000, 3.0)) as server:
        assert fetch(server.url, tmp_path).digest == Digest.of(CONTENT)


@pytest.mark.parametrize("head", [None, {"Content_Length": "1000"}, {"Connection": "close"}])
def test_a_stalled_download_ends_at_once_when_it_is_stopped(tmp_path: Path, head: dict[str, str] | None) -> None:
    asked, over = threading.Event(), threading.Event()

    def answer(request: Asked) -> None:
        if head is not None:
            request.head(200, **head)
            request.wfile.write(b"x")
        asked.set()
        over.wait(20)

    with serving(answer) as url, Client(hasty(tmp_path, patience=replace(HASTE, stall=60.0))) as client:
        job = Request(url, tmp_path / "part", "weights.bin")
        with ThreadPoolExecutor(1) as pool:
            done = pool.submit(download, client, job, Silent())
            assert asked.wait(10)
            time.sleep(0.1)
            begun = time.monotonic()
            client.stop()
            with pytest.raises(SourceUnreachableError, match="stopped"):
                done.result(timeout=15)
            assert time.monotonic() - begun < 5
        over.set()


def test_a_wait_that_the_server_asks_for_is_told(tmp_path: Path) -> None:
    reporter = Recording()
    with (
        misbehaving(CONTENT, Answer(429, {"Retry-After": "1"})) as server,
        Client(hasty(tmp_path), reporter) as client,
    ):
        download(client, Request(server.url, tmp_path / "part", "weights.bin"), reporter).claim.release()
    (note,) = (str(event[1]) for event in reporter.events if event[0] == "note")
    assert note.endswith("answered 429; waiting 1 s, as it asks")


def test_nobody_listening_is_unreachable_and_the_host_is_named(tmp_path: Path) -> None:
    with serving(lambda _: None) as url:
        pass
    with pytest.raises(SourceUnreachableError, match=rf"{url[7:]}: connection failed .* \(4 tries\)"):
        fetch(url, tmp_path)


@pytest.mark.parametrize("location", ["http://[bad/", "http://a:99999999/", "http://a:abc/x", "http://[::1/"])
def test_a_redirect_to_what_is_no_url_is_an_error_of_the_source(tmp_path: Path, location: str) -> None:
    with misbehaving(CONTENT, Answer(302, {"Location": location})) as server, pytest.raises(SourceError):
        fetch(server.url, tmp_path)


@pytest.mark.parametrize("url", ["http://h:99999/x", "http://h:abc/x", "http://[bad/", "http:///x", "http://h/\nx"])
def test_what_is_no_url_is_an_error_of_the_source(tmp_path: Path, url: str) -> None:
    with pytest.raises(SourceError, match="not a URL"):
        fetch(url, tmp_path)


def test_a_next_page_that_is_no_url_is_an_error_of_the_source(tmp_path: Path) -> None:
    def answer(asked: Asked) -> None:
        asked.send(b"", Link='<http://[bad>; rel="next"')

    with serving(answer) as url, Client(hasty(tmp_path)) as client, pytest.raises(SourceError, match="no URL"):
        client.document(url, subject="page", limit=10)


def test_the_proxy_that_pip_was_told_of_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with misbehaving(CONTENT) as proxy:
        packages = PackageIndexes(indexes=(), proxy=proxy.url.removesuffix("/weights.bin"))
        with Client(hasty(tmp_path, packages=packages)) as client:
            done = download(client, Request("http://nowhere.invalid/w", tmp_path / "part", "w"), Silent())
            assert done.path.read_bytes() == CONTENT
            done.claim.release()
        monkeypatch.setenv("NO_PROXY", "nowhere.invalid")
        with (
            Client(hasty(tmp_path, packages=packages)) as client,
            pytest.raises(SourceUnreachableError, match=r"nowhere\.invalid"),
        ):
            client.document("http://nowhere.invalid/w", subject="w", limit=10)


def test_an_encoding_that_nobody_asked_for_is_refused(tmp_path: Path) -> None:
    with misbehaving(CONTENT, Gzip()) as server, pytest.raises(SourceError, match="gzip"):
        fetch(server.url, tmp_path)


def test_credentials_follow_no_redirect_to_another_origin(tmp_path: Path) -> None:
    with misbehaving(CONTENT) as other:
        home = {"requests": []}

        def answer(asked: Asked) -> None:
            home["requests"].append(dict(asked.headers))
            asked.send(b"", status=302, Location=other.url)

        with serving(answer) as url, Client(hasty(tmp_path, hub=Hub(url, "secret"))) as client:
            download(client, Request(f"{url}/file", tmp_path / "part", "file"), Silent()).claim.release()
    assert home["requests"][0]["Authorization"] == "Bearer secret"
    assert "Authorization" not in other.requests[0]
    assert "Cookie" not in other.requests[0]


def test_messages_name_neither_password_nor_query(tmp_path: Path) -> None:
    with misbehaving(CONTENT, Answer(404)) as server, pytest.raises(SourceNotFoundError) as caught:
        fetch(server.url.replace("://", "://user:hunter2@") + "?sig=hunter3", tmp_path)
    assert "hunter" not in str(caught.value)
    assert "/weights.bin" in str(caught.value)


def test_a_file_that_was_fetched_stays_claimed_until_its_owner_is_done(tmp_path: Path) -> None:
    with misbehaving(CONTENT) as server, Client(hasty(tmp_path)) as client:
        request = Request(server.url, tmp_path / "part", "weights.bin")
        done = download(client, request, Silent())
        with pytest.raises(BusyError):
            download(client, request, Silent())
        forget_finished(done.path)
        assert done.path.read_bytes() == CONTENT
        done.claim.discard()
    assert list(tmp_path.iterdir()) == []


def test_a_lock_that_its_holder_removed_meanwhile_is_no_claim(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    removed = iter([True, False, False])
    lock = module.try_lock

    def late(descriptor: int, *, exclusive: bool) -> bool:
        if next(removed):
            (tmp_path / "part.lock").unlink()
        return lock(descriptor, exclusive=exclusive)

    monkeypatch.setattr(module, "try_lock", late)
    claim = module.Claim.take(tmp_path / "part.lock", lambda: None, subject="x")
    with pytest.raises(BusyError):
        module.Claim.take(tmp_path / "part.lock", lambda: None, subject="x")
    claim.release()


def test_two_processes_do_not_write_one_download(tmp_path: Path) -> None:
    with (
        FileLock(tmp_path / "part.lock", exclusive=True, busy=""),
        misbehaving(CONTENT) as server,
        pytest.raises(BusyError),
    ):
        fetch(server.url, tmp_path)


def test_progress_is_told_with_what_was_there_before(tmp_path: Path) -> None:
    reporter = Recording()
    with misbehaving(CONTENT) as server:
        path = fetch(server.url, tmp_path).path
        path.write_bytes(CONTENT[:100_000])
        fetch(server.url, tmp_path, reporter=reporter)
    assert reporter.events[:2] == [("started", "weights.bin", 300_000), ("advanced", "weights.bin", 100_000)]
    assert sum(event[2] for event in reporter.events if event[0] == "advanced") == 300_000  # type: ignore[misc]
    assert reporter.events[-1] == ("finished", "weights.bin")


def failing(error: BaseException) -> Callable[[], int]:
    def job() -> int:
        raise error

    return job


def test_one_file_that_fails_does_not_lose_the_others() -> None:
    done: list[int] = []
    jobs = [lambda n=n: done.append(n) for n in range(5)]
    with pytest.raises(SourceNotFoundError, match="gone"):
        together([failing(SourceNotFoundError("gone")), *jobs], threads=2, stop=lambda: None)
    assert sorted(done) == [0, 1, 2, 3, 4]


def test_all_files_that_fail_are_listed() -> None:
    errors = [SourceNotFoundError("a: gone"), SourceDeniedError("b: denied", hint="set HF_TOKEN")]
    with pytest.raises(SourceError, match="2 files failed") as caught:
        together([failing(error) for error in errors], threads=2, stop=lambda: None)
    assert caught.value.facts == {"a": "gone", "b": "denied"}
    assert caught.value.hint == "set HF_TOKEN"


def test_files_that_fail_alike_fail_as_that(tmp_path: Path) -> None:
    for kind in (SourceNotFoundError, SourceDeniedError, SourceUnreachableError, ManifestError):
        with pytest.raises(kind, match="2 files failed") as caught:
            together([failing(kind("a")), failing(kind("b"))], threads=2, stop=lambda: None)
        assert caught.value.facts == {"1": "a", "2": "b"}
    mismatches = [DigestMismatchError(subject=name, expected="x", actual="y") for name in "ab"]
    with pytest.raises(DigestMismatchError, match="2 files failed") as wrong:
        together([failing(error) for error in mismatches], threads=2, stop=lambda: None)
    assert wrong.value.facts == {"a": "expected x, got y", "b": "expected x, got y"}
    hinted = [SourceDeniedError("a: no", hint="set A"), SourceDeniedError("b: no", hint="set B")]
    with pytest.raises(SourceDeniedError) as denied:
        together([failing(error) for error in hinted], threads=2, stop=lambda: None)
    assert denied.value.facts == {"a": "no (hint: set A)", "b": "no (hint: set B)"}


def test_a_full_disk_ends_everything_at_once() -> None:
    stopped = threading.Event()
    with pytest.raises(DiskFullError):
        together([failing(DiskFullError("full")), lambda: stopped.wait(5)], threads=2, stop=stopped.set)
    assert stopped.is_set()


def test_certificates_that_do_not_exist_are_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="do not exist"):
        Client(replace(hasty(tmp_path), certificates=tmp_path / "none.pem"))


def test_a_server_that_speaks_no_tls_is_unreachable(tmp_path: Path) -> None:
    with serving(lambda _: None) as url, pytest.raises(SourceUnreachableError, match="TLS"):
        fetch(url.replace("http:", "https:"), tmp_path)
