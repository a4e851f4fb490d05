"""Requests on their worst day: addresses that two readers take apart differently, answers without an end, nonsense."""

import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import pytest

from bundler.http import BrokenOffError, Client
from bundler.mirrors import Mirror
from bundler.pip_settings import PackageIndexes
from bundler.settings import Hub, Settings
from bundler.together import together
from loopback import Request, hasty
from manifests.errors import (
    BusyError,
    SourceDeniedError,
    SourceError,
    SourceNotFoundError,
    SourceUnreachableError,
    StorageError,
)
from place_server import SECRET, get, headers_for, place, silence, told
from tls_server import NAME, Authority, answering

TRUSTED: Final = "trusted.example"


@pytest.fixture(autouse=True)
def _nothing_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    silence(monkeypatch, tmp_path)


@contextmanager
def listening(answer: Callable[[socket.socket], None]) -> Iterator[int]:
    """The port of a server that knows no protocol; `answer` gets each connection."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with suppress(OSError):
                while True:
                    opened, _ = server.accept()
                    with opened, suppress(OSError):
                        answer(opened)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        with suppress(OSError):
            server.shutdown(socket.SHUT_RDWR)
        server.close()
        thread.join()


class TestAddressesThatTwoReadersTakeApartDifferently:
    """A stranger writes the address: the page of an index, a `Link` header, a service's answer."""

    @pytest.mark.parametrize("between", ["\\@", "\\.x@", "/\\@", "?@", "#@"])
    def test_no_credential_goes_to_the_host_that_stands_first(self, between: str, tmp_path: Path) -> None:
        with place() as home:
            settings = hasty(tmp_path, **headers_for(f"http://{TRUSTED}", f"X-Api-Key: {SECRET}"))
            with suppress(SourceError):
                get(settings, f"{home.url}{between}{TRUSTED}/file")
        assert not any(map(told, home.asked))

    def test_nor_what_the_request_brings_for_its_own_origin(self, tmp_path: Path) -> None:
        with place() as home, pytest.raises(SourceError, match=r"it has a '\\' in its host"):
            get(hasty(tmp_path), f"{home.url}\\@{TRUSTED}/file", lambda: f"Bearer {SECRET}")
        assert home.asked == []

    def test_nor_over_a_redirect(self, tmp_path: Path) -> None:
        with place() as home, place() as other:
            home.then(302, Location=f"{other.url}\\@{TRUSTED}/file")
            settings = hasty(tmp_path, hub=Hub(f"http://{TRUSTED}", SECRET))
            with pytest.raises(SourceError, match=r"redirects to this: not a URL"):
                get(settings, f"{home.url}/file")
        assert other.asked == []

    def test_a_netrc_entry_is_for_the_host_that_is_asked(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "netrc").write_text(f"machine {TRUSTED} login user password {SECRET}\n")
        monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
        with place() as home, place() as other:
            home.then(302, Location=other.url.replace("://", f"://{TRUSTED}:@") + "/file")
            assert get(hasty(tmp_path), f"{home.url}/file") == b"content"
        assert not any(map(told, other.asked))


class TestRedirects:
    @pytest.mark.parametrize("method", ["GET", "PUT"])
    def test_the_body_of_one_is_not_read_to_its_end(self, method: str, tmp_path: Path) -> None:
        sent = 0

        def answer(request: Request) -> None:
            nonlocal sent
            if request.path == "/there":
                request.send(b"content")
                return
            request.close_connection = True
            request.head(302, Location="/there", Transfer_Encoding="chunked")
            with suppress(OSError):
                while sent < 256:
                    request.wfile.write(b"100000\r\n" + bytes(1 << 20) + b"\r\n")
                    sent += 1

        with (
            answering(answer) as url,
            Client(hasty(tmp_path)) as client,
            client.request(method, f"{url}/file", subject="file") as response,
        ):
            assert response.status_code == (200 if method == "GET" else 302)
        assert sent < 64  # of MB, most of them in the buffers of the system

    def test_one_with_a_short_body_keeps_its_connection(self, tmp_path: Path) -> None:
        ports = set()

        def answer(request: Request) -> None:
            ports.add(request.client_address[1])
            if request.path == "/there":
                request.send(b"content")
            else:
                request.send(b"it is over there", status=302, Location="/there")

        with answering(answer) as url, Client(hasty(tmp_path)) as client:
            for _ in range(5):
                assert client.document(f"{url}/file", subject="file", limit=100).content == b"content"
        assert len(ports) == 1

    def test_an_error_names_the_host_that_failed_and_whose_redirect_it_was(self, tmp_path: Path) -> None:
        with place() as home:
            home.answers += [(302, {"Location": "http://127.0.0.1:1/file"})] * 9
            words = rf"127\.0\.0\.1:1 \(a redirect of {re.escape(home.url.rpartition('/')[2])}\): connection failed"
            with pytest.raises(SourceUnreachableError, match=words):
                get(hasty(tmp_path), f"{home.url}/file")

    @pytest.mark.parametrize(
        "location",
        [f"http://user:{SECRET}@[::1", f"http://user:{SECRET}@host:99999/", "\udcff"],
    )
    def test_one_to_no_url_is_refused_and_not_quoted(self, location: str, tmp_path: Path) -> None:
        with place() as home:
            home.then(302, Location=location.encode("utf-8", "surrogateescape").decode("latin-1"))
            with pytest.raises(SourceError, match="cannot be asked: it redirects to") as caught:
                get(hasty(tmp_path), f"{home.url}/file")
        assert SECRET not in str(caught.value) + caught.value.hint

    def test_one_that_leads_nowhere_is_no_redirect(self, tmp_path: Path) -> None:
        with place() as home:
            home.then(302, Location="")
            with pytest.raises(SourceError, match="answered 302, which says nothing"):
                get(hasty(tmp_path), f"{home.url}/file")
        assert len(home.asked) == 1

    def test_of_one_that_comes_back_no_origin_gets_what_it_lost(self, tmp_path: Path) -> None:
        with place() as home, place() as other:
            home.then(302, Location=f"{other.url}/there")
            other.then(302, Location=f"{home.url}/back")
            assert get(hasty(tmp_path), f"{home.url}/file", lambda: f"Bearer {SECRET}") == b"content"
        assert [told(headers) for headers in (*home.asked, *other.asked)] == [True, False, False]

    def test_one_of_a_mirror_gets_no_credential_of_what_it_stands_for(self, tmp_path: Path) -> None:
        with place() as mirror, place() as other:
            mirror.then(302, Location=f"{other.url}/there")
            settings = hasty(
                tmp_path,
                mirrors=(Mirror(f"http://{TRUSTED}", mirror.url),),
                **headers_for(f"http://{TRUSTED}", f"X-Api-Key: {SECRET}"),
            )
            assert get(settings, f"http://{TRUSTED}/file", lambda: f"Bearer {SECRET}") == b"content"
        assert not any(map(told, (*mirror.asked, *other.asked)))


@pytest.mark.parametrize("path", ["../x", "%2e%2e/x", "%2e%2e%2fx", "..%2Fx", "%2e%2e%5cx", "a%2f..%2f..%2fx"])
def test_no_address_leads_upwards_out_of_a_mirror(path: str, tmp_path: Path) -> None:
    mirrors = (Mirror("https://example.org/models", "https://mirror.example/open"),)
    with Client(hasty(tmp_path, mirrors=mirrors)) as client:
        assert client.mirrored(f"https://example.org/models/{path}") == f"https://example.org/models/{path}"
        assert client.mirrored("https://example.org/models/..x/y..") == "https://mirror.example/open/..x/y.."


@pytest.mark.parametrize(
    "text",
    ["Mon, 01 Jan 99999999999999999999 00:00:00 GMT", "Mon, 01 Jan 2030 00:00:00 +999999999999999999999"],
)
def test_a_wait_until_a_date_that_no_calendar_has_is_the_ordinary_pause(text: str, tmp_path: Path) -> None:
    with place() as home:
        home.then(503, **{"Retry-After": text})
        assert get(hasty(tmp_path), home.url) == b"content"


class TestStopping:
    """Who waits for a connection that is being made is as quick to end as any other."""

    @pytest.mark.parametrize("way", ["handshake", "tunnel"])
    def test_a_connection_that_never_gets_ready_is_ended_at_once(
        self, way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        here, over = threading.Event(), threading.Event()

        def answer(opened: socket.socket) -> None:
            opened.recv(1)
            here.set()
            over.wait(20)

        with listening(answer) as port, Client(Settings(tmp_path, packages=PackageIndexes(()))) as client:
            url = f"https://127.0.0.1:{port}/file"
            if way == "tunnel":
                monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{port}")
                url = f"https://{NAME}/file"
            threading.Thread(target=lambda: here.wait(10) and client.stop(), daemon=True).start()
            begun = time.monotonic()
            with pytest.raises(SourceUnreachableError, match="stopped"):
                client.document(url, subject="file", limit=10)
            assert time.monotonic() - begun < 5
            over.set()

    def test_a_full_disk_ends_all_files_at_once_and_not_when_those_before_it_are_here(self) -> None:
        stopped = threading.Event()

        def full() -> None:
            raise StorageError("no space left")

        begun = time.monotonic()
        with pytest.raises(StorageError):
            together([lambda: stopped.wait(10), full], threads=2, stop=stopped.set)
        assert time.monotonic() - begun < 5

    def test_a_file_that_another_process_downloads_does_not_lose_the_others(self) -> None:
        done, stopped = threading.Event(), threading.Event()

        def busy() -> None:
            raise BusyError("another process is downloading it", hint="wait")

        with pytest.raises(BusyError, match="another process"):
            together([busy, lambda: stopped.wait(0.2) or done.set()], threads=2, stop=stopped.set)
        assert done.is_set()
        assert not stopped.is_set()

    def test_errors_are_told_in_the_order_of_the_files(self) -> None:
        first = threading.Event()

        def late() -> None:
            first.wait(10)
            raise SourceNotFoundError("one")

        def early() -> None:
            first.set()
            raise SourceNotFoundError("two")

        with pytest.raises(SourceNotFoundError, match="2 files failed") as caught:
            together([late, early], threads=2, stop=first.set)
        assert caught.value.facts == {"1": "one", "2": "two"}


class TestTlsAndProxies:
    def test_a_handshake_that_is_cut_is_tried_again(self, tmp_path: Path) -> None:
        connections = []

        def answer(opened: socket.socket) -> None:
            connections.append(opened.recv(65536))
            opened.shutdown(socket.SHUT_RDWR)

        with listening(answer) as port, pytest.raises(SourceUnreachableError, match=r"\(4 tries\)"):
            get(hasty(tmp_path), f"https://127.0.0.1:{port}/file")
        assert len(connections) == 4

    def test_a_certificate_that_nobody_trusts_is_asked_for_once(self, tmp_path: Path) -> None:
        authority = Authority.make(tmp_path / "authority")
        with place(authority) as home, Client(hasty(tmp_path)) as client:
            with pytest.raises(SourceUnreachableError, match="no TLS connection") as caught:
                client.open(f"{home.url}/file", subject="file", headers={})
            assert not isinstance(caught.value.__cause__, BrokenOffError)
        assert "REQUESTS_CA_BUNDLE" in caught.value.hint

    @pytest.mark.parametrize(
        ("proxy", "words"),
        [
            ("http://user:12/34@127.0.0.1:1", "not a URL"),
            ("http://u.ser:12/34@127.0.0.1:1", "not the address of a proxy"),
            ("http://user:12#34@proxy.example:1", "not a URL"),
            (f"http://user:{SECRET}@[::1", "not a URL"),
            (f"ftp://user:{SECRET}@127.0.0.1:1", "no proxy of HTTP"),
            ("http://127.0.0.1:99999", "not a URL"),
            ("http://", "not a URL"),
        ],
    )
    @pytest.mark.parametrize("told_by", ["environment", "pip"])
    def test_a_proxy_that_is_none_is_named_by_who_told_of_it_and_not_quoted(
        self, proxy: str, words: str, told_by: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        settings = hasty(tmp_path)
        if told_by == "pip":
            settings = hasty(tmp_path, packages=PackageIndexes((), proxy=proxy))
        else:
            monkeypatch.setenv("http_proxy", proxy)
        with pytest.raises(SourceError, match=f"{'pip' if told_by == 'pip' else 'http_proxy'}.*{words}") as caught:
            get(settings, f"http://{NAME}/file")
        said = str(caught.value) + caught.value.hint
        assert not {SECRET, "12", "34", "ser:"} & set(re.findall(r"hush-hush|12|34|ser:", said))

    def test_a_proxy_that_refuses_a_host_is_asked_once_and_its_word_is_told(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked = []

        def answer(opened: socket.socket) -> None:
            asked.append(opened.recv(65536))
            opened.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")

        with listening(answer) as port:
            monkeypatch.setenv("https_proxy", f"http://user:{SECRET}@127.0.0.1:{port}")
            with pytest.raises(SourceDeniedError, match=r"through the proxy 127\.0\.0\.1:\d+: the proxy answered 403"):
                get(hasty(tmp_path), f"https://{NAME}/file")
        assert len(asked) == 1

    def test_a_proxy_that_wants_a_password_for_plain_http_is_told_from_the_server(self, tmp_path: Path) -> None:
        with place() as home:
            home.then(407)
            with pytest.raises(SourceDeniedError, match="the proxy wants a password") as caught:
                get(hasty(tmp_path), f"{home.url}/file")
        assert "http://USER:PASSWORD@HOST:PORT" in caught.value.hint


class TestTheEnvironment:
    @pytest.mark.parametrize("seconds", ["inf", "1e300", "99999999999"])
    def test_a_timeout_that_no_system_can_wait_for_is_a_long_one(self, seconds: str, tmp_path: Path) -> None:
        read = Settings.read({"HOME": str(tmp_path), "PIP_CONFIG_FILE": "/dev/null", "PIP_TIMEOUT": seconds})
        with place() as home:
            assert get(hasty(tmp_path, patience=read.patience), home.url) == b"content"

    @pytest.mark.parametrize(
        "text",
        [
            f"[global]\n= https://user:{SECRET}@host/simple",
            f"index-url = https://user:{SECRET}@host/simple",
            f"[global]\nx = 1\nx = https://user:{SECRET}@host/simple",
            f"[https://user:{SECRET}@host/]\n[https://user:{SECRET}@host/]",
        ],
        ids=["no-sign", "no-section", "twice", "section-twice"],
    )
    def test_pip_s_configuration_is_not_quoted(self, text: str, tmp_path: Path) -> None:
        path = tmp_path / "pip.conf"
        path.write_text(text)
        with pytest.raises(SourceError, match=r"pip\.conf cannot be read: line \d") as caught:
            Settings.read({"HOME": str(tmp_path), "PIP_CONFIG_FILE": str(path)})
        assert SECRET not in str(caught.value) + caught.value.hint
        assert caught.value.__cause__ is None

    @pytest.mark.parametrize(
        "endpoint",
        ["ftp://host", f"https://user:{SECRET}@host", f"https://host/?token={SECRET}", "https://host\\@other"],
    )
    def test_a_hub_that_cannot_be_asked_is_refused_and_not_quoted(self, endpoint: str, tmp_path: Path) -> None:
        with pytest.raises(SourceError, match="HF_ENDPOINT") as caught:
            Settings.read({"HOME": str(tmp_path), "PIP_CONFIG_FILE": "/dev/null", "HF_ENDPOINT": endpoint})
        assert SECRET not in str(caught.value) + caught.value.hint

    def test_a_home_that_is_no_folder_has_no_token(self) -> None:
        assert Settings.read({"HOME": "/dev/null", "PIP_CONFIG_FILE": "/dev/null"}).hub.token is None
