"""Requests: what is asked of whom, what is followed, and when to try again."""

import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Final

import pytest

from bundler.http import BrokenOffError, Client, Content
from bundler.mirrors import Mirror
from bundler.settings import Hub
from loopback import HASTE, Request, hasty
from manifests.errors import SourceError, SourceNotFoundError, SourceUnreachableError
from place_server import SECRET, get, lines_for, place, silence, told
from tls_server import Authority, answering

FRAMING: Final = ("Content-Length", "Transfer-Encoding")


@pytest.fixture(autouse=True)
def _nothing_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    silence(monkeypatch, tmp_path)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.make(tmp_path_factory.mktemp("authority"))


class TestRedirects:
    def test_one_from_https_to_http_is_refused_before_anything_is_asked(
        self, tmp_path: Path, authority: Authority
    ) -> None:
        with place(authority) as home, place() as other:
            home.then(302, Location=f"{other.url}/plain")
            with pytest.raises(SourceError, match="redirect from https to http, which is refused"):
                get(hasty(tmp_path, certificates=authority.path), f"{home.url}/file")
        assert other.asked == []

    def test_one_from_http_to_https_is_followed_without_credentials(self, tmp_path: Path, authority: Authority) -> None:
        with place() as home, place(authority) as other:
            home.then(302, Location=f"{other.url}/safe")
            settings = hasty(tmp_path, certificates=authority.path, hub=Hub(home.url, SECRET))
            assert get(settings, f"{home.url}/file") == b"content"
        assert not told(other.asked[0])

    def test_a_circle_ends(self, tmp_path: Path) -> None:
        with place() as home:
            home.answers += [(302, {"Location": "/again"})] * 100
            with pytest.raises(SourceError, match="too many redirects"):
                get(hasty(tmp_path), home.url)
        assert len(home.asked) < 40

    @pytest.mark.parametrize("location", ["file:///etc/passwd", "ftp://127.0.0.1/x", "gopher://127.0.0.1:1/x"])
    def test_one_to_what_is_no_web_address_is_refused(self, tmp_path: Path, location: str) -> None:
        with place() as home:
            home.then(302, Location=location)
            with pytest.raises(SourceError, match="cannot be asked"):
                get(hasty(tmp_path), home.url)


class TestOffline:
    def test_nothing_at_all_is_asked(self, tmp_path: Path) -> None:
        with place() as home, Client(hasty(tmp_path, offline=True)) as client:
            for ask in (
                lambda: client.document(home.url, subject="weights.bin", limit=9),
                lambda: client.open(home.url, subject="weights.bin", headers={}),
                lambda: client.request("PUT", home.url, subject="weights.bin", content=b"x"),
            ):
                with pytest.raises(SourceUnreachableError, match=r"weights\.bin: .* --offline") as caught:
                    ask()
                assert "--offline" in caught.value.hint
        assert home.asked == []

    def test_no_name_is_looked_up(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(*arguments: object, **_: object) -> None:
            pytest.fail(f"looked up: {arguments}")

        monkeypatch.setattr(socket, "getaddrinfo", refuse)
        with pytest.raises(SourceUnreachableError, match="--offline"):
            get(hasty(tmp_path, offline=True), "https://files.example/w")


class TestMirrors:
    def test_its_credentials_are_those_of_its_own_origin(self, tmp_path: Path) -> None:
        with place() as home, place() as mirror:
            lines = (*lines_for(home.url, f"X-Key: {SECRET}"), *lines_for(mirror.url, "X-Key: m"))
            settings = hasty(tmp_path, headers=lines, hub=Hub(home.url, SECRET))
            get(
                replace(settings, mirrors=(Mirror(home.url, mirror.url),)),
                f"{home.url}/a/b?c=d",
                lambda: f"Bearer {SECRET}",
            )
        assert home.asked == []
        assert mirror.lines == ["GET /a/b?c=d"]
        assert mirror.asked[0]["X-Key"] == "m"
        assert not told(mirror.asked[0])

    def test_one_on_the_same_host_gets_what_the_request_brings(self, tmp_path: Path) -> None:
        with place() as home:
            settings = hasty(tmp_path, mirrors=(Mirror(f"{home.url}/old", f"{home.url}/new"),))
            get(settings, f"{home.url}/old/x", lambda: "token")
        assert (home.lines, home.asked[0]["Authorization"]) == (["GET /new/x"], "token")

    def test_its_redirects_are_followed_as_they_are(self, tmp_path: Path) -> None:
        with place() as home, place() as mirror, place() as third:
            mirror.then(302, Location=f"{third.url}/x")
            assert get(hasty(tmp_path, mirrors=(Mirror(home.url, mirror.url),)), f"{home.url}/a") == b"content"
        assert (home.lines, third.lines) == ([], ["GET /x"])

    def test_its_errors_name_it(self, tmp_path: Path) -> None:
        with place() as mirror:
            mirror.then(404)
            with pytest.raises(SourceNotFoundError, match=mirror.url):
                get(hasty(tmp_path, mirrors=(Mirror("https://files.example", mirror.url),)), "https://files.example/a")

    def test_one_that_is_not_there_is_told_from_what_it_stands_for(self, tmp_path: Path) -> None:
        with place() as mirror:
            pass
        settings = hasty(tmp_path, mirrors=(Mirror("https://files.example", mirror.url),))
        with pytest.raises(SourceUnreachableError, match=rf"{mirror.url[7:]} in place of files\.example: connection"):
            get(settings, "https://files.example/a")

    def test_what_is_written_goes_where_it_was_meant_to_go(self, tmp_path: Path) -> None:
        with (
            place() as home,
            place() as mirror,
            Client(hasty(tmp_path, mirrors=(Mirror(home.url, mirror.url),))) as client,
        ):
            client.request("PUT", f"{home.url}/a", subject="a", content=b"x", direct=True).close()
            client.request("HEAD", f"{home.url}/a", subject="a").close()
        assert (home.lines, mirror.lines) == (["PUT /a"], ["HEAD /a"])


class TestTrying:
    @pytest.mark.parametrize("status", [400, 402, 405, 409, 411, 418, 422, 431, 451])
    def test_what_a_retry_would_not_change_is_asked_once(self, tmp_path: Path, status: int) -> None:
        with place() as home:
            home.then(status, **{"Retry-After": "1"})
            with pytest.raises(SourceError, match=f"answered {status}"):
                get(hasty(tmp_path), home.url)
        assert len(home.asked) == 1

    @pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504, 599])
    def test_a_storm_passes_or_ends_in_an_error_with_the_number_of_tries(self, tmp_path: Path, status: int) -> None:
        with place() as home:
            home.answers += [(status, {})] * (HASTE.attempts - 1)
            assert get(hasty(tmp_path), home.url) == b"content"
            home.answers += [(status, {})] * HASTE.attempts
            with pytest.raises(SourceUnreachableError, match=rf"answered {status} \(4 tries\)") as caught:
                get(hasty(tmp_path), home.url)
        assert "try again later" in caught.value.hint

    @pytest.mark.parametrize(
        "headers",
        [
            {"Retry-After": "1"},
            {"Retry-After": "Wed, 01 Jan 2020 00:00:01 GMT", "Date": "Wed, 01 Jan 2020 00:00:00 GMT"},
        ],
        ids=["seconds", "date"],
    )
    def test_a_server_that_asks_to_wait_is_not_asked_before(self, tmp_path: Path, headers: dict[str, str]) -> None:
        with raw({"status": "503", **headers}) as (url, times):
            assert get(hasty(tmp_path), url) == b"content"
        assert 0.95 < times[1] - times[0] < 3

    @pytest.mark.parametrize(
        "headers",
        [
            {"Retry-After": "4"},
            {"Retry-After": "9" * 400},
            {"Retry-After": "Wed, 01 Jan 2020 00:00:04 GMT", "Date": "Wed, 01 Jan 2020 00:00:00 GMT"},
        ],
        ids=["seconds", "for-ever", "date"],
    )
    def test_a_server_that_asks_for_too_long_a_wait_is_given_up_at_once(
        self, tmp_path: Path, headers: dict[str, str]
    ) -> None:
        begun = time.monotonic()
        with (
            raw({"status": "429", **headers}) as (url, times),
            pytest.raises(SourceUnreachableError, match="asks to wait"),
        ):
            get(replace(hasty(tmp_path), patience=replace(HASTE, longest_wait=3.0)), url)
        assert time.monotonic() - begun < 5
        assert len(times) == 1

    @pytest.mark.parametrize("text", ["", "soon", "-5", "1.5", "Wed, 99 Jan 2020", "\u0664"])
    def test_a_wait_that_is_none_is_the_ordinary_pause(self, tmp_path: Path, text: str) -> None:
        begun = time.monotonic()
        with place() as home:
            home.then(503, **{"Retry-After": text.encode().decode("latin-1")})
            assert get(hasty(tmp_path), home.url) == b"content"
        assert time.monotonic() - begun < 5

    def test_many_that_were_sent_away_together_do_not_come_back_together(self, tmp_path: Path) -> None:
        gate = threading.Barrier(8)
        times: list[float] = []

        def answer(request: Request) -> None:
            times.append(time.monotonic())
            if len(times) <= 8:
                gate.wait(5)
                request.send(b"", status=503)
            else:
                request.send(b"content")

        settings = hasty(tmp_path, patience=replace(HASTE, first_pause=0.5, longest_pause=0.5, stall=5.0))
        with answering(answer) as url, Client(settings) as client, ThreadPoolExecutor(8) as pool:
            for _ in range(8):
                pool.submit(client.document, url, subject="f", limit=9)
        again = sorted(times)[8:]
        assert again[0] - times[7] > 0.2
        assert again[-1] - again[0] > 0.02

    @pytest.mark.parametrize("status", [206, 416])
    def test_a_part_of_a_document_is_none(self, tmp_path: Path, status: int) -> None:
        with place() as home:
            home.then(status)
            with pytest.raises(SourceError, match=f"answered {status} to no range"):
                get(hasty(tmp_path), home.url)

    def test_a_document_that_does_not_end_is_given_up_at_its_limit(self, tmp_path: Path) -> None:
        with place() as home, Client(hasty(tmp_path)) as client, pytest.raises(SourceError, match="more than 3 bytes"):
            client.document(home.url, subject="page", limit=3)


@contextmanager
def raw(first: dict[str, str]) -> Iterator[tuple[str, list[float]]]:
    """A server whose first answer has these headers and no others, not even a date of its own."""
    times: list[float] = []

    def answer(request: Request) -> None:
        times.append(time.monotonic())
        if len(times) > 1:
            request.send(b"content")
            return
        request.send_response_only(int(first["status"]))
        for name, value in {**first, "Content-Length": "0"}.items():
            request.send_header(name, value)
        request.end_headers()

    with answering(answer) as url:
        yield url, times


class TestAnyMethod:
    @pytest.mark.parametrize(
        ("content", "headers", "sent"),
        [
            (b"abc", {}, {"Content-Length": "3"}),
            (BytesIO(b"abc"), {}, {"Content-Length": "3"}),
            ([b"a", b"bc"], {}, {"Transfer-Encoding": "chunked"}),
            (iter([b"a", b"bc"]), {"content-length": "3"}, {"Content-Length": "3"}),
            ((b"a", b"bc"), {"Content-Length": "3"}, {"Content-Length": "3"}),
        ],
        ids=["bytes", "file", "pieces", "pieces-of-known-length", "tuple"],
    )  # fmt: skip
    @pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
    def test_content_is_sent_as_it_is(
        self, tmp_path: Path, method: str, content: object, headers: dict[str, str], sent: dict[str, str]
    ) -> None:
        if isinstance(content, BytesIO):
            content.seek(0)
        if not isinstance(content, bytes | BytesIO | list | tuple):
            content = iter([b"a", b"bc"])
        with place() as home, Client(hasty(tmp_path)) as client:
            home.then(201)
            named = {"Content-Type": "application/octet-stream", **headers}
            with client.request(method, f"{home.url}/up", subject="up", headers=named, content=content) as response:  # type: ignore[arg-type]
                assert (response.status_code, client.read(response, subject="up", limit=10)) == (201, b"content")
        assert (home.lines, home.bodies) == ([f"{method} /up"], [b"abc"])
        assert {name: home.asked[0][name] for name in FRAMING if name in home.asked[0]} == sent

    @pytest.mark.parametrize(
        ("content", "headers"),
        [(b"", {}), (BytesIO(), {}), ([], {"Content-Length": "0"})],
        ids=["bytes", "file", "pieces"],
    )
    def test_nothing_is_sent_with_its_length_too(
        self, tmp_path: Path, content: Content, headers: dict[str, str]
    ) -> None:
        with place() as home, Client(hasty(tmp_path)) as client:
            client.request("PUT", home.url, subject="up", headers=headers, content=content).close()
        assert {name: home.asked[0][name] for name in FRAMING if name in home.asked[0]} == {"Content-Length": "0"}

    @pytest.mark.parametrize("status", [200, 202, 204, 206, 304, 400, 401, 404, 416])
    def test_any_status_is_returned(self, tmp_path: Path, status: int) -> None:
        with place() as home, Client(hasty(tmp_path)) as client:
            home.then(status)
            with client.request("HEAD", home.url, subject="up") as response:
                assert response.status_code == status

    @pytest.mark.parametrize("status", [408, 429, 500, 503])
    def test_one_that_asks_to_come_back_is_broken_off(self, tmp_path: Path, status: int) -> None:
        with place() as home, Client(hasty(tmp_path)) as client:
            home.then(status, **{"Retry-After": "2"})
            with pytest.raises(BrokenOffError) as caught:
                client.request("PUT", home.url, subject="up", content=b"x")
            assert caught.value.wait == 2
            put = partial(client.request, "PUT", home.url, subject="up", content=b"x")
            with client.persist(put, subject="up") as done:
                assert done.status_code == 200

    def test_nobody_there_is_broken_off(self, tmp_path: Path) -> None:
        with place() as home:
            pass
        with Client(hasty(tmp_path)) as client, pytest.raises(BrokenOffError, match="connection failed"):
            client.request("POST", home.url, subject="up")

    @pytest.mark.parametrize("content", [b"abc", BytesIO(b"abc"), None])
    def test_a_redirect_within_the_origin_takes_method_and_content_along(self, tmp_path: Path, content: object) -> None:
        with place() as home, Client(hasty(tmp_path)) as client:
            home.then(307, Location="/there")
            client.request("PUT", home.url, subject="up", content=content, authorization=lambda: "t").close()  # type: ignore[arg-type]
        assert home.lines == ["PUT /", "PUT /there"]
        assert home.bodies == [b"abc" if content else b""] * 2
        assert [headers["Authorization"] for headers in home.asked] == ["t", "t"]

    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
    def test_a_redirect_to_another_origin_is_returned_and_not_followed(self, tmp_path: Path, status: int) -> None:
        with place() as home, place() as other, Client(hasty(tmp_path)) as client:
            for method in ("HEAD", "POST", "PUT", "PATCH"):
                home.then(status, Location=other.url)
                with client.request(method, home.url, subject="up", content=b"x") as response:
                    assert (response.status_code, response.headers["Location"]) == (status, other.url)
        assert other.asked == []

    def test_content_that_cannot_be_sent_twice_is_sent_once(self, tmp_path: Path) -> None:
        with place() as home, Client(hasty(tmp_path)) as client:
            home.then(307, Location="/there")
            with client.request("PUT", home.url, subject="up", content=iter([b"x"])) as response:
                assert response.status_code == 307
        assert home.bodies == [b"x"]

    def test_a_circle_ends(self, tmp_path: Path) -> None:
        with place() as home, Client(hasty(tmp_path)) as client:
            home.answers += [(307, {"Location": "/again"})] * 50
            with pytest.raises(SourceError, match="too many redirects"):
                client.request("POST", home.url, subject="up")

    def test_a_get_leaves_its_credentials_behind_at_a_redirect(self, tmp_path: Path) -> None:
        with place() as home, place() as other, Client(hasty(tmp_path)) as client:
            home.then(307, Location=other.url)
            client.request("GET", home.url, subject="blob", authorization=lambda: f"Bearer {SECRET}").close()
        assert [told(headers) for headers in (*home.asked, *other.asked)] == [True, False]


def test_many_small_files_share_one_connection(tmp_path: Path) -> None:
    clients: set[object] = set()

    def answer(request: Request) -> None:
        clients.add(request.client_address)
        request.send(b"content")

    with answering(answer) as url, Client(hasty(tmp_path)) as client:
        for number in range(300):
            client.document(f"{url}/{number}", subject="file", limit=10)
    assert len(clients) == 1
