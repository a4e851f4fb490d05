"""Readers that follow a download: in step with it, begun anew when it starts over, never right about wrong bytes."""

import hashlib
import io
import random
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import pytest

from bundler import encode
from bundler.fetch import Ranges, Request, download
from bundler.fetching.following import Hashed
from bundler.http import BrokenOffError, Client, pieces
from bundler.intake import Intake
from bundler.sources.base import Found, Remote
from bundler.sources.reference import Reference
from loopback import Request as Asked
from loopback import hasty, serving
from manifests.digest import Digest
from manifests.errors import DigestMismatchError, DiskFullError, SourceUnreachableError
from manifests.progress import Silent
from manifests.store import Store
from misbehaving_server import Change, Chunked, Claim, Cut, Drip, Fault, misbehaving

CONTENT = random.Random(21).randbytes(3_000_000)
OTHER = random.Random(22).randbytes(3_000_000)
PARTS = Ranges(least=1_000_000, segment=500_000, connections=2)
WHOLE = Ranges(least=1 << 40)
both = pytest.mark.parametrize("ranges", [PARTS, WHOLE], ids=["parts", "whole"])


class Reading:
    """A reader that remembers what it saw."""

    def __init__(self) -> None:
        self.seen: list[bytearray] = []
        self.some = threading.Event()

    def __call__(self, stream: BinaryIO, size: int) -> Hashed:
        seen = bytearray()
        self.seen.append(seen)
        while piece := stream.read(100_000):
            seen += piece
            if len(seen) >= 1_000_000:
                self.some.set()
        assert len(seen) == size
        return Hashed(Digest.of(bytes(seen)))


def read(url: str, folder: Path, reader: Reading, ranges: Ranges, **known: object) -> Hashed:
    with Client(hasty(folder)) as client:
        request = Request(url, folder / "part", "weights.bin", ranges=ranges, **known)  # type: ignore[arg-type]
        done = download(client, request, Silent(), reader)
        done.claim.release()
        return done.read


def test_a_reader_sees_the_first_bytes_before_the_last_ones_were_sent(tmp_path: Path) -> None:
    reader = Reading()

    def answer(request: Asked) -> None:
        request.head(200, Content_Length=str(len(CONTENT)))
        request.wfile.write(CONTENT[:2_000_000])
        assert reader.some.wait(10)
        request.wfile.write(CONTENT[2_000_000:])

    with serving(answer) as url:
        assert read(url, tmp_path, reader, WHOLE).digest == Digest.of(CONTENT)
    assert reader.seen == [CONTENT]


@both
def test_a_connection_that_breaks_off_does_not_begin_the_reader_anew(tmp_path: Path, ranges: Ranges) -> None:
    reader = Reading()
    with misbehaving(CONTENT, Cut(400_000), Cut(300_000), Cut(1)) as server:
        assert read(server.url, tmp_path, reader, ranges).digest == Digest.of(CONTENT)
    assert reader.seen == [CONTENT]


@both
def test_a_reader_begins_anew_when_the_file_changed(tmp_path: Path, ranges: Ranges) -> None:
    reader = Reading()
    with misbehaving(CONTENT, Cut(400_000), Change(OTHER)) as server:
        assert read(server.url, tmp_path, reader, ranges).digest == Digest.of(OTHER)
    assert len(reader.seen) == 2
    assert reader.seen[-1] == OTHER


def test_a_reader_begins_anew_when_what_was_resumed_is_wrong(tmp_path: Path) -> None:
    reader = Reading()
    with misbehaving(CONTENT) as server:
        read(server.url, tmp_path, Reading(), WHOLE)
        (tmp_path / "part").write_bytes(bytes(1_500_000))
        assert read(server.url, tmp_path, reader, WHOLE, digest=Digest.of(CONTENT)).digest == Digest.of(CONTENT)
    assert [bytes(seen) for seen in reader.seen] == [bytes(1_500_000) + CONTENT[1_500_000:], CONTENT]


def test_a_file_of_unknown_length_is_read_when_it_is_whole(tmp_path: Path) -> None:
    reader = Reading()
    with misbehaving(CONTENT, Chunked(20), Chunked()) as server:
        assert read(server.url, tmp_path, reader, WHOLE).digest == Digest.of(CONTENT)
    assert reader.seen == [CONTENT]


@pytest.mark.parametrize("size", [1, 65_535, 65_536, 1_000_000, 3_000_000])
@pytest.mark.parametrize("fault", [None, Chunked(), Cut(30_000), Claim(100), Drip(7, 0.01)], ids=str)
def test_each_piece_of_a_body_is_right_until_the_next_one_and_its_connection_serves_again(
    tmp_path: Path, size: int, fault: Fault | None
) -> None:
    content, came = CONTENT[:size], bytearray()
    with misbehaving(content, *([] if fault is None else [fault])) as server, Client(hasty(tmp_path)) as client:

        def receive() -> None:
            came.clear()
            with client.open(server.url, subject="w", headers={}) as response:
                for piece in pieces(response):
                    assert len(piece) <= 1 << 20
                    came.extend(piece)

        if isinstance(fault, Claim) or (isinstance(fault, Cut) and size > fault.after):
            with pytest.raises(BrokenOffError):
                receive()
            assert came == content[: fault.after if isinstance(fault, Cut) else size]
        else:
            receive()
            assert came == content
        client.persist(receive, subject="w")  # the server may have ended the connection that is asked first
        assert came == content


def test_of_a_body_no_more_is_read_than_its_server_announced(tmp_path: Path) -> None:
    def answer(request: Asked) -> None:
        request.head(200, Content_Length="100000")
        for place in (0, 70_000):
            request.wfile.write(CONTENT[place : place + 70_000])
            time.sleep(0.1)

    with (
        serving(answer) as url,
        Client(hasty(tmp_path)) as client,
        client.open(url, subject="w", headers={}) as response,
    ):
        assert b"".join(bytes(piece) for piece in pieces(response)) == CONTENT[:100_000]


def test_an_address_is_asked_for_anew_when_it_is_taken_into_the_store(store: Store) -> None:
    signed = iter(range(100))
    with misbehaving(CONTENT, Cut(1_000_000)) as server, Client(hasty(store.path)) as client:

        def answer(request: Asked) -> None:
            if request.path.endswith("sig=old"):
                request.send(b"", status=403)
            else:
                server.answer(request)

        with serving(answer) as url, Intake(store, client, Silent()) as intake:
            place = Remote(f"{url}/w?sig=old", fresh=lambda: f"{url}/w?sig={next(signed)}")
            taken = intake.take(replace(found(url), place=place), expected=None, subject="weights.bin")
    assert taken.recipe.digest == Digest.of(CONTENT)
    assert next(signed) == 2


class Failing(Reading):
    """A reader whose disk is full."""

    def __call__(self, stream: BinaryIO, _: int) -> Hashed:
        stream.read(200_000)
        raise DiskFullError("no space left")


@both
def test_a_reader_that_fails_ends_the_download_which_keeps_what_came(tmp_path: Path, ranges: Ranges) -> None:
    over = threading.Event()
    with misbehaving(CONTENT) as server:

        def answer(request: Asked) -> None:
            if len(server.requests) >= 2 or ranges is WHOLE:
                request.head(200, Content_Length=str(len(CONTENT)), ETag=server.etag)
                for place in range(0, len(CONTENT), 100_000):
                    request.wfile.write(CONTENT[place : place + 100_000])
                    over.wait(0.5)
            else:
                server.answer(request)

        begun = time.monotonic()
        with serving(answer) as url, pytest.raises(DiskFullError):
            read(url, tmp_path, Failing(), ranges)
        assert time.monotonic() - begun < 5
        over.set()
        assert read(server.url, tmp_path, Reading(), ranges).digest == Digest.of(CONTENT)


class Stuck(Reading):
    """A reader that never comes to an end of its own."""

    def __call__(self, stream: BinaryIO, _: int) -> Hashed:
        while True:
            stream.read(100_000)
            time.sleep(0.05)


def test_a_slow_reader_ends_when_the_client_is_stopped(tmp_path: Path) -> None:
    reader = Stuck()
    with misbehaving(CONTENT) as server, Client(hasty(tmp_path)) as client:
        threading.Timer(0.3, client.stop).start()
        with pytest.raises(SourceUnreachableError, match="stopped"):
            download(client, Request(server.url, tmp_path / "part", "weights.bin"), Silent(), reader)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "store") as opened:
        yield opened


def found(url: str, **known: object) -> Found:
    return Found(Reference("https", url.removeprefix("http:")), "weights.bin", Remote(url), **known)  # type: ignore[arg-type]


def test_a_download_is_in_the_store_after_one_pass_and_leaves_nothing_else(store: Store) -> None:
    with (
        misbehaving(CONTENT, Cut(1_000_000)) as server,
        Client(hasty(store.path)) as client,
        Intake(store, client, Silent()) as intake,
    ):
        taken = intake.take(found(server.url), expected=None, subject="weights.bin")
    assert taken.recipe.digest == Digest.of(CONTENT)
    assert taken.recipe.md5 == hashlib.md5(CONTENT).digest()
    assert b"".join(store.read(taken.recipe.digest)) == CONTENT
    assert list((store.path / "partial").iterdir()) == []


@pytest.mark.parametrize("known", [{"digest": Digest.of(OTHER)}, {"git_sha1": bytes(20)}])
def test_what_is_not_as_promised_gets_no_recipe(store: Store, known: dict[str, object]) -> None:
    with (
        misbehaving(CONTENT) as server,
        Client(hasty(store.path)) as client,
        Intake(store, client, Silent()) as intake,
        pytest.raises(DigestMismatchError),
    ):
        intake.take(found(server.url, **known), expected=None, subject="weights.bin")
    assert store.find(Digest.of(CONTENT)) is None


def test_a_stream_that_breaks_while_it_is_encoded_leaves_no_recipe(store: Store) -> None:
    class Broken(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            if self.tell() >= 2_000_000:
                raise SourceUnreachableError("broken")
            return super().read(min(size or 0, 500_000))

    with pytest.raises(SourceUnreachableError):
        encode.add(store, Broken(CONTENT * 3), size=len(CONTENT) * 3, subject="x")
    assert not list(store.path.glob("blobs/sha256/*/*"))
