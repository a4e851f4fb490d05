"""One file over several connections: in parts, exactly those that were asked for, kept through kills, never mixed."""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from bundler.fetch import Fetched, Ranges, Request, check_room, download
from bundler.fetching.answers import Part
from bundler.fetching.partial import Partial, Version
from bundler.fetching.spans import Span, Spans
from bundler.http import Client
from bundler.settings import Patience
from loopback import HASTE, hasty, serving
from loopback import Request as Asked
from manifests.digest import Digest
from manifests.errors import (
    DigestMismatchError,
    DiskFullError,
    SourceDeniedError,
    SourceError,
    SourceNotFoundError,
    SourceUnreachableError,
)
from manifests.progress import Silent
from misbehaving_server import (
    Answer,
    Change,
    ChangeUnsaid,
    Chunked,
    Claim,
    Cut,
    Drip,
    Endless,
    Fault,
    Gzip,
    Hangup,
    IgnoreRange,
    NewEtag,
    PartAsWhole,
    Stall,
    WrongPart,
    misbehaving,
)

CONTENT = random.Random(11).randbytes(300_000)
OTHER = random.Random(12).randbytes(300_000)
PARTS = Ranges(least=100_000, segment=20_000, connections=3)
WHOLE = Ranges(least=1 << 40)
SEEDS = pytest.mark.parametrize("seeds", [range(30), pytest.param(range(30, 200), marks=pytest.mark.heavy)])
"""Servers with a list of troubles each; other numbers try others."""
KILLED = """
import os, signal, sys
from io import FileIO
from pathlib import Path
from bundler.fetch import Ranges, Request, download
from bundler.fetching import ranged
from bundler.http import Client
from bundler.settings import Settings
from manifests.progress import Silent
url, folder, kind, point = sys.argv[1], Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])
count = 0

def torn(write, content):
    global count
    count += 1
    if count == point:
        write(content[: len(content) // 2])
        os.kill(os.getpid(), signal.SIGKILL)
    return write(content)

class Killing(FileIO):
    def write(self, content):
        return torn(super().write, content)

if kind == "bytes":
    ranged.FileIO = Killing
else:
    from bundler.fetching import partial
    ranged.record = lambda journal, span: torn(journal.write, partial._SPAN.pack(*span))
with Client(Settings(store=folder)) as client:
    ranges = Ranges(least=100_000, segment=20_000, connections=3)
    download(client, Request(url, folder / "part", "weights.bin", size=300_000, ranges=ranges), Silent())
"""


def fetch(url: str, folder: Path, *, patience: Patience = HASTE, **known: object) -> Fetched:
    with Client(hasty(folder, patience=patience)) as client:
        request = Request(url, folder / "part", "weights.bin", **{"ranges": PARTS, **known})  # type: ignore[arg-type]
        done = download(client, request, Silent())
        done.claim.release()
        return done


def asked(requests: list[dict[str, str]]) -> list[str]:
    return sorted(headers.get("Range", "all") for headers in requests)


def test_a_large_file_comes_in_parts_each_asked_for_once(tmp_path: Path) -> None:
    with misbehaving(CONTENT) as server:
        done = fetch(server.url, tmp_path, size=len(CONTENT))
        assert done.path.read_bytes() == CONTENT
        assert asked(server.requests) == sorted(f"bytes={at}-{at + 19_999}" for at in range(0, 300_000, 20_000))
        assert all(headers.get("If-Range") == server.etag for headers in server.requests[1:])
        assert server.sent == len(CONTENT)


def test_where_the_size_was_not_known_the_whole_answer_gives_the_first_part(tmp_path: Path) -> None:
    with misbehaving(CONTENT) as server:
        assert fetch(server.url, tmp_path).path.read_bytes() == CONTENT
        assert "Range" not in server.requests[0]
        assert len(server.requests) == 15


@pytest.mark.parametrize("known", [True, False])
def test_without_a_strong_validator_it_comes_whole(tmp_path: Path, *, known: bool) -> None:
    with misbehaving(CONTENT, with_etag=False) as server:
        assert fetch(server.url, tmp_path, size=len(CONTENT) if known else None).path.read_bytes() == CONTENT
        assert server.sent <= len(CONTENT) + 20_000


def test_a_small_file_comes_whole(tmp_path: Path) -> None:
    with misbehaving(CONTENT[:99_999]) as server:
        assert fetch(server.url, tmp_path, size=99_999).path.read_bytes() == CONTENT[:99_999]
        assert asked(server.requests) == ["all"]


FAULTS: dict[str, tuple[Fault, type[SourceError] | None]] = {
    "cut": (Cut(7_000), None),
    "cut before the first byte": (Cut(0), None),
    "503": (Answer(503), None),
    "429 with Retry-After": (Answer(429, {"Retry-After": "0"}), None),
    "stall": (Stall(5_000, 3.0), None),
    "hangup": (Hangup(), None),
    "too large a Content-Length": (Claim(500), None),
    "a part without a length": (Chunked(), None),
    "a part without a length, cut": (Chunked(1), None),
    "slow, but steady": (Drip(5, 0.1), None),
    "another range": (WrongPart(), None),
    "the whole file instead": (IgnoreRange(), None),
    "a part called whole": (PartAsWhole(), None),
    "another ETag once": (NewEtag(), None),
    "changed": (Change(OTHER), None),
    "changed, whatever If-Range says": (ChangeUnsaid(OTHER), None),
    "changed to a smaller one": (Change(OTHER[:150_000]), None),
    "416": (Answer(416, {"Content-Range": "bytes */1000"}), None),
    "gzip": (Gzip(), SourceError),
    "404": (Answer(404), SourceNotFoundError),
    "403": (Answer(403), SourceDeniedError),
    "endless": (Endless(), SourceError),
}


@pytest.mark.parametrize("before", [0, 1, 14])
@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_in_any_part_is_mended_or_named(tmp_path: Path, name: str, before: int) -> None:
    fault, error = FAULTS[name]
    nothing = [Drip(1, 0.0)] * before
    with misbehaving(CONTENT, *nothing, fault) as server:
        if error is not None and not (name == "endless" and before == 0):
            with pytest.raises(error):
                fetch(server.url, tmp_path)
        elif error is None:
            assert fetch(server.url, tmp_path).path.read_bytes() == server.content


@pytest.mark.parametrize("ranges", [PARTS, WHOLE], ids=["parts", "whole"])
def test_two_hundred_cuts_at_random_bytes_leave_a_right_file(tmp_path: Path, ranges: Ranges) -> None:
    chance = random.Random(200)
    longest = 15_000 if ranges is PARTS else 1_500
    with misbehaving(CONTENT, *(Cut(chance.randrange(1, longest)) for _ in range(200))) as server:
        patience = replace(HASTE, attempts=30)
        assert fetch(server.url, tmp_path, ranges=ranges, patience=patience).path.read_bytes() == CONTENT
        assert server.sent == len(CONTENT)
        assert ranges is PARTS or not server.faults


def troubles(chance: random.Random) -> list[Fault]:
    kinds = [
        lambda: Cut(chance.randrange(30_000)),
        lambda: Answer(chance.choice([429, 500, 502, 503, 504, 408])),
        lambda: Answer(chance.choice([404, 403, 416])),
        lambda: Change(chance.choice([CONTENT, OTHER, OTHER[:120_000], OTHER[:7]])),
        lambda: Claim(chance.randrange(1, 10_000)),
        lambda: Chunked(chance.choice([None, 0, 1, 2])),
        Gzip,
        IgnoreRange,
        PartAsWhole,
        WrongPart,
        Hangup,
        NewEtag,
        lambda: Drip(3, 0.001),
        lambda: ChangeUnsaid(chance.choice([CONTENT, OTHER])),
    ]
    likely = [0, 0, 0, 0, 1, 1, 3, 4, 5, 7, 8, 9, 10, 11, 12, 13]
    chosen = [*likely, *([2, 6] if chance.random() < 0.2 else [])]
    return [kinds[chance.choice(chosen)]() for _ in range(chance.randrange(1, 14))]


@pytest.mark.parametrize("ranges", [PARTS, WHOLE], ids=["parts", "whole"])
@pytest.mark.parametrize("promised", [True, False], ids=["digest known", "digest unknown"])
@SEEDS
def test_whatever_a_server_does_no_corrupt_file_is_called_right(
    tmp_path: Path, seeds: range, ranges: Ranges, *, promised: bool
) -> None:
    counts = {"right": 0, "refused": 0}
    versions = {CONTENT, OTHER, OTHER[:120_000], OTHER[:7]}
    for seed in seeds:
        folder = tmp_path / str(seed)
        folder.mkdir()
        chance = random.Random(seed)
        closing = chance.random() < 0.2
        with misbehaving(CONTENT, *troubles(chance), closing=closing) as server:
            try:
                digest = Digest.of(CONTENT) if promised else None
                done = fetch(server.url, folder, ranges=ranges, digest=digest)
            except SourceError:
                counts["refused"] += 1
            else:
                content = done.path.read_bytes()
                assert content in ({CONTENT} if promised else versions)
                assert done.digest == Digest.of(content)
                counts["right"] += 1
    print(counts)
    assert min(counts.values()) > len(seeds) // 30, counts


def unchecked(_: Part, __: object) -> None:
    """Every answer is right."""


MIXED: dict[str, list[Fault]] = {
    "another range": [WrongPart()],
    "changed": [ChangeUnsaid(OTHER)],
}


@pytest.mark.parametrize("name", MIXED)
def test_without_the_comparison_of_answers_files_are_mixed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """The mutant: what `Part.check` keeps out is really there, so the sweeps above would see it gone."""
    only = replace(PARTS, connections=1)
    before = [Drip(1, 0.0)] * 5
    with misbehaving(CONTENT, *before, *MIXED[name]) as server:
        assert fetch(server.url, tmp_path, ranges=only).path.read_bytes() == server.content
    monkeypatch.setattr(Part, "check", unchecked)
    (tmp_path / "mutant").mkdir()
    with misbehaving(CONTENT, *before, *MIXED[name]) as server:
        content = fetch(server.url, tmp_path / "mutant", ranges=only).path.read_bytes()
    assert len(content) == len(CONTENT)
    assert content not in {CONTENT, OTHER}


@pytest.mark.parametrize("kind", ["bytes", "journal"])
@pytest.mark.parametrize("point", [1, 2, 5, 8, 11, 15])
def test_killed_at_any_write_it_goes_on_with_what_is_missing(tmp_path: Path, kind: str, point: int) -> None:
    with misbehaving(CONTENT) as server:
        command = [sys.executable, "-c", KILLED, server.url, str(tmp_path), kind, str(point)]
        assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
        time.sleep(0.1)  # the server answers what was asked before the kill
        held = Partial(tmp_path / "part").held(compared=False)
        kept = held.spans.size if held else 0
        assert kept >= (point - 1) * 20_000 if kind == "journal" else kept < len(CONTENT)
        server.sent = 0
        assert fetch(server.url, tmp_path, size=len(CONTENT)).path.read_bytes() == CONTENT
        assert server.sent == len(CONTENT) - kept


def test_a_beginning_that_came_over_one_connection_is_gone_on_with_in_parts(tmp_path: Path) -> None:
    with misbehaving(CONTENT, Cut(110_000), *[Answer(503)] * 3) as server:
        with pytest.raises(SourceUnreachableError):
            fetch(server.url, tmp_path, ranges=WHOLE)
        assert fetch(server.url, tmp_path).path.read_bytes() == CONTENT
        assert server.sent == len(CONTENT)
        assert "bytes=110000-129999" in asked(server.requests)


def test_a_file_that_was_whole_is_asked_whether_it_is_still_the_same(tmp_path: Path) -> None:
    with misbehaving(CONTENT) as server:
        fetch(server.url, tmp_path)
        server.requests.clear()
        assert fetch(server.url, tmp_path).path.read_bytes() == CONTENT
        assert asked(server.requests) == ["bytes=299999-299999"]
        server.content = OTHER
        assert fetch(server.url, tmp_path).path.read_bytes() == OTHER


def damaged(path: Path, content: bytes) -> None:
    path.chmod(0o644)
    path.write_bytes(content)


@pytest.mark.parametrize("journal", [b"", b"x" * 16, b"\xff" * 32, b"\0" * 15])
def test_a_journal_that_says_nothing_sensible_starts_over(tmp_path: Path, journal: bytes) -> None:
    with misbehaving(CONTENT) as server:
        path = fetch(server.url, tmp_path).path
        damaged(path.with_name("part.spans"), journal)
        assert fetch(server.url, tmp_path).path.read_bytes() == CONTENT


def test_bytes_that_a_power_cut_lost_lead_to_one_fresh_download(tmp_path: Path) -> None:
    with misbehaving(CONTENT) as server:
        path = fetch(server.url, tmp_path).path
        path.write_bytes(CONTENT[:50_000] + b"\0" * 250_000)
        server.requests.clear()
        assert fetch(server.url, tmp_path, digest=Digest.of(CONTENT)).path.read_bytes() == CONTENT
        assert asked(server.requests)[-1] == "bytes=299999-299999"


def test_with_no_digest_to_tell_parts_of_another_run_of_the_machine_are_not_trusted(tmp_path: Path) -> None:
    with misbehaving(CONTENT) as server:
        path = fetch(server.url, tmp_path).path
        state = path.with_name("part.json")
        damaged(state, state.read_bytes().replace(b'"boot": "', b'"boot": "earlier '))
        path.write_bytes(b"\0" * 300_000)
        assert fetch(server.url, tmp_path).path.read_bytes() == CONTENT


def test_another_file_than_was_promised_is_refused_and_not_kept(tmp_path: Path) -> None:
    with misbehaving(OTHER) as server, pytest.raises(DigestMismatchError):
        fetch(server.url, tmp_path, digest=Digest.of(CONTENT))
    assert list(tmp_path.iterdir()) == []


def test_what_no_retry_would_change_ends_the_other_connections_at_once(tmp_path: Path) -> None:
    over = threading.Event()

    def answer(request: Asked) -> None:
        if request.headers.get("Range") == "bytes=20000-39999":
            request.send(b"", status=404)
            return
        head = {"ETag": '"1"', "Content_Range": "bytes 0-19999/300000", "Content_Length": "20000"}
        request.head(206, **head)
        request.wfile.write(b"x" * 100)
        over.wait(20)

    with serving(answer) as url:
        begun = time.monotonic()
        with pytest.raises(SourceNotFoundError):
            fetch(
                url, tmp_path, size=300_000, patience=replace(HASTE, stall=60.0), ranges=replace(PARTS, connections=2)
            )
        assert time.monotonic() - begun < 5
        over.set()


def test_all_connections_end_at_once_when_it_is_stopped(tmp_path: Path) -> None:
    reached, over = threading.Semaphore(0), threading.Event()

    def answer(request: Asked) -> None:
        first, last = request.headers["Range"].removeprefix("bytes=").split("-")
        span = f"bytes {first}-{last}/300000"
        request.head(206, ETag='"1"', Content_Range=span, Content_Length="20000")
        request.wfile.write(b"x" * 100)
        reached.release()
        over.wait(20)

    with serving(answer) as url, Client(hasty(tmp_path, patience=replace(HASTE, stall=60.0))) as client:
        job = Request(url, tmp_path / "part", "weights.bin", size=300_000, ranges=PARTS)
        with ThreadPoolExecutor(1) as pool:
            done = pool.submit(download, client, job, Silent())
            assert all(reached.acquire(timeout=10) for _ in range(3))
            time.sleep(0.1)
            begun = time.monotonic()
            client.stop()
            with pytest.raises(SourceUnreachableError, match="stopped"):
                done.result(timeout=15)
            assert time.monotonic() - begun < 5
        over.set()


INTERRUPTED = """
import sys
from pathlib import Path
from bundler.fetch import Ranges, Request, download
from bundler.http import Client
from bundler.settings import Settings
from manifests.progress import Silent
folder = Path(sys.argv[2])
try:
    with Client(Settings(store=folder)) as client:
        ranges = Ranges(least=100_000, segment=20_000, connections=3)
        download(client, Request(sys.argv[1], folder / "part", "weights.bin", ranges=ranges), Silent())
except KeyboardInterrupt:
    sys.exit(130)
"""


def test_an_interrupt_ends_every_connection_and_keeps_what_came(tmp_path: Path) -> None:
    with misbehaving(CONTENT, *[Drip(1, 0.0)] * 3, *[Stall(10_000, 30.0)] * 3) as server:
        process = subprocess.Popen([sys.executable, "-c", INTERRUPTED, server.url, str(tmp_path)])
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline and server.sent < 90_000:
            time.sleep(0.01)
        time.sleep(0.2)
        begun = time.monotonic()
        os.kill(process.pid, signal.SIGINT)
        assert process.wait(20) == 130
        assert time.monotonic() - begun < 5
        server.sent = 0
        assert fetch(server.url, tmp_path).path.read_bytes() == CONTENT
        assert server.sent == len(CONTENT) - 90_000


def test_a_server_that_lets_one_connection_in_at_a_time_is_waited_for(tmp_path: Path) -> None:
    alone = threading.Lock()
    with misbehaving(CONTENT) as server:

        def answer(request: Asked) -> None:
            if not alone.acquire(blocking=False):
                request.send(b"", status=429)
                return
            try:
                server.answer(request)
            finally:
                alone.release()

        with serving(answer) as url:
            patience = replace(HASTE, attempts=50)
            assert fetch(url, tmp_path, patience=patience).path.read_bytes() == CONTENT


def test_a_credential_is_made_anew_for_each_try_and_stays_at_its_origin(tmp_path: Path) -> None:
    seen: list[str | None] = []
    tokens = iter(range(1000))
    with misbehaving(CONTENT) as other:

        def answer(request: Asked) -> None:
            seen.append(request.headers["Authorization"])
            request.send(b"", status=302, Location=other.url)

        with serving(answer) as url:
            fetch(url, tmp_path, size=len(CONTENT), authorization=lambda: f"Bearer {next(tokens)}")
    assert sorted(seen) == sorted(f"Bearer {number}" for number in range(15))
    assert not any("Authorization" in headers for headers in other.requests)


@pytest.mark.parametrize("ranges", [PARTS, WHOLE], ids=["parts", "whole"])
def test_an_address_whose_signature_runs_out_is_signed_anew_for_each_try(tmp_path: Path, ranges: Ranges) -> None:
    used: list[str] = []
    signatures = iter(range(1000))
    with misbehaving(CONTENT, *[Cut(90_000)] * 3) as server:

        def answer(request: Asked) -> None:
            signature = request.path.partition("sig=")[2]
            used.append(signature)
            if used.count(signature) > 1:
                request.send(b"", status=403)
            else:
                server.answer(request)

        with serving(answer) as url:
            known = {"size": len(CONTENT), "ranges": ranges}
            done = fetch(url, tmp_path, **known, fresh=lambda: f"{url}/weights.bin?sig={next(signatures)}")
            assert done.path.read_bytes() == CONTENT
            assert len(used) > 3
            with pytest.raises(SourceDeniedError):
                fetch(f"{url}/weights.bin?sig=0", tmp_path, **known)


@pytest.mark.parametrize("copies", [0, 1])
def test_room_is_asked_for_before_the_first_byte(tmp_path: Path, copies: int) -> None:
    def answer(request: Asked) -> None:
        request.head(200, Content_Length=str(10**15), ETag='"1"')
        request.wfile.write(b"x" * 1000)

    with (
        serving(answer) as url,
        pytest.raises(DiskFullError, match=f"{10**6 * (1 + copies)}.0 GB are needed") as caught,
    ):
        fetch(url, tmp_path, copies=copies)
    assert int(caught.value.facts["free"]) < 10**15
    assert [path.name for path in tmp_path.iterdir()] == ["part.lock"]


def test_room_is_asked_for_on_the_disk_of_a_folder_that_is_not_there_yet(tmp_path: Path) -> None:
    check_room(tmp_path / "new" / "store", 1, subject="all files")
    with pytest.raises(DiskFullError, match="all files"):
        check_room(tmp_path / "new" / "store", 10**15, subject="all files")


def test_a_body_without_an_end_is_given_up_while_the_disk_has_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bundler.fetching import transfer

    monkeypatch.setattr(transfer, "_STEP", 1 << 20)
    monkeypatch.setattr(transfer, "_RESERVE", 10**15)
    with misbehaving(CONTENT, Endless()) as server, pytest.raises(DiskFullError):
        fetch(server.url, tmp_path)


@pytest.mark.parametrize("seed", range(20))
def test_spans_are_the_bytes_that_were_added(seed: int) -> None:
    chance, spans, truth = random.Random(seed), Spans(), set[int]()
    for _ in range(30):
        start = chance.randrange(100)
        span = Span(start, min(100, start + chance.randrange(12)))
        spans.add(span)
        truth |= set(range(*span))
        assert {byte for each in spans for byte in range(*each)} == truth
        assert (spans.size, spans.end) == (len(truth), max(truth, default=-1) + 1)
        assert spans.reach == next(byte for byte in range(101) if byte not in truth)
        gaps = [byte for gap in spans.gaps(100, most=7) for byte in range(*gap)]
        assert gaps == sorted(set(range(100)) - truth)
    assert list(Spans(reversed(list(spans)))) == list(spans)


def test_of_a_partial_file_that_is_shorter_than_its_journal_nothing_is_held(tmp_path: Path) -> None:
    with misbehaving(CONTENT) as server:
        path = fetch(server.url, tmp_path).path
        os.truncate(path, 100_000)
        assert Partial(path).held(compared=True) is None
        assert fetch(server.url, tmp_path).version == Version(server.etag, "", 300_000)
