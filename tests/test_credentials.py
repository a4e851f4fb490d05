"""Credentials: they reach their origin, and no other place, message or log; proxies and certificates of one's own."""

import base64
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

from bundler.http import Client
from bundler.pip_settings import PackageIndexes
from bundler.settings import Hub, Settings
from loopback import HASTE, hasty
from manifests.errors import SourceDeniedError, SourceError, SourceNotFoundError, SourceUnreachableError
from place_server import BASIC, SECRET, Notes, get, headers_for, lines_for, place, silence, told
from tls_server import NAME, Authority, tunnel


@pytest.fixture(autouse=True)
def _nothing_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    silence(monkeypatch, tmp_path)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.make(tmp_path_factory.mktemp("authority"))


def by_netrc(url: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    (folder / "netrc").write_text(f"machine {url.split('/')[2].partition(':')[0]} login user password {SECRET}\n")
    monkeypatch.setenv("NETRC", str(folder / "netrc"))
    return {}


def by_header(url: str, _folder: Path, _monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    return headers_for(url, f"Authorization: Bearer {SECRET}")


def by_header_of_another_name(url: str, _folder: Path, _monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    return headers_for(url, f"X-Api-Key: {SECRET}", f"Cookie: session={SECRET}")


def by_hub_token(url: str, _folder: Path, _monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    return {"hub": Hub(url, SECRET)}


def by_index(url: str, _folder: Path, _monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    return {"packages": PackageIndexes((url.replace("://", f"://user:{SECRET}@") + "/simple",))}


def by_find_links(url: str, _folder: Path, _monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    return {"packages": PackageIndexes((), (url.replace("://", f"://user:{SECRET}@") + "/links",))}


def by_callable(_url: str, _folder: Path, _monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    return {}


KINDS: Final = (
    by_netrc, by_header, by_header_of_another_name, by_hub_token, by_index, by_find_links, by_callable,
)  # fmt: skip


REFUSALS: Final = (
    (401, SourceDeniedError), (403, SourceDeniedError), (400, SourceError), (404, SourceNotFoundError),
)  # fmt: skip
Kind = Callable[[str, Path, pytest.MonkeyPatch], dict[str, object]]


def own(kind: Kind) -> Callable[[], str] | None:
    return (lambda: f"Bearer {SECRET}") if kind is by_callable else None


class TestCredentials:
    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
    def test_they_reach_their_origin_and_follow_no_redirect_to_another(
        self, kind: Kind, status: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with place() as home, place() as other:
            settings = hasty(tmp_path, **kind(home.url, tmp_path, monkeypatch))
            home.then(status, Location=f"{other.named}/elsewhere")
            assert get(settings, f"{home.url}/file", own(kind)) == b"content"
        assert told(home.asked[0])
        assert not told(other.asked[0])
        assert not {"Authorization", "X-Api-Key", "Cookie", "Proxy-Authorization"} & set(other.asked[0])

    @pytest.mark.parametrize("kind", KINDS)
    def test_they_stay_over_a_redirect_within_their_origin(
        self, kind: Kind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with place() as home:
            settings = hasty(tmp_path, **kind(home.url, tmp_path, monkeypatch))
            home.then(302, Location="/there")
            get(settings, f"{home.url}/file", own(kind))
        assert [told(headers) for headers in home.asked] == [True, True]
        if kind is by_header_of_another_name:
            assert home.asked[1]["Cookie"] == f"session={SECRET}"

    @pytest.mark.parametrize("kind", KINDS)
    def test_a_refusal_a_storm_and_a_broken_answer_name_no_secret(
        self, kind: Kind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with place() as home:
            settings = hasty(tmp_path, **kind(home.url, tmp_path, monkeypatch))
            said = [repr(settings)]
            for status, error in REFUSALS:
                home.then(status)
                with pytest.raises(error) as caught:
                    get(settings, f"{home.url}/file?token={SECRET}", own(kind))
                said += [str(caught.value), caught.value.hint, repr(caught.value.to_dict())]
            notes = Notes()
            home.answers += [(503, {"Retry-After": "1"}), *[(503, {})] * 9]
            with Client(settings, notes) as client, pytest.raises(SourceUnreachableError) as gone:
                client.document(f"{home.url}/file", subject="file", limit=9, authorization=own(kind))
            said += [str(gone.value), gone.value.hint, *notes.told]
        assert notes.told
        assert all(map(told, home.asked))
        assert SECRET not in " ".join(said)
        assert BASIC not in " ".join(said)

    def test_another_origin_gets_its_own(self, tmp_path: Path) -> None:
        with place() as home, place() as other:
            lines = (*lines_for(home.url, "X-Key: ours"), *lines_for(other.url, "X-Key: theirs"))
            home.answers += [(302, {"Location": f"{other.url}/a"}), (200, {})]
            other.then(302, Location=f"{home.url}/back")
            get(hasty(tmp_path, headers=lines), f"{home.url}/file")
        assert [headers["X-Key"] for headers in (*home.asked, *other.asked)] == ["ours", "ours", "theirs"]

    def test_one_that_a_request_brings_does_not_come_back_after_a_detour(self, tmp_path: Path) -> None:
        with place() as home, place() as other:
            home.then(302, Location=f"{other.url}/a")
            other.then(302, Location=f"{home.url}/back")
            get(hasty(tmp_path), f"{home.url}/file", lambda: f"Bearer {SECRET}")
        assert [told(headers) for headers in (*home.asked, *other.asked)] == [True, False, False]

    def test_a_port_makes_another_origin_and_so_does_the_scheme(self, tmp_path: Path, authority: Authority) -> None:
        with place() as home, place(authority) as other:
            port = other.url.rpartition(":")[2]
            settings = hasty(
                tmp_path, certificates=authority.path, **headers_for(f"http://127.0.0.1:{port}", "X-Key: s")
            )
            get(settings, f"{home.url}/file")
            get(settings, f"{other.url}/file")
        assert "X-Key" not in home.asked[0] | other.asked[0]

    def test_a_line_of_the_header_file_wins_over_an_index_and_that_over_netrc(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with place() as home:
            by_netrc(home.url, tmp_path, monkeypatch)
            index = PackageIndexes((home.url.replace("://", "://index:b@"),))
            line = headers_for(home.url, "authorization: line")
            for settings in (hasty(tmp_path), hasty(tmp_path, packages=index), hasty(tmp_path, packages=index, **line)):
                get(settings, home.url)
            get(hasty(tmp_path, packages=index, **line), home.url, lambda: "own")
            get(hasty(tmp_path, packages=index, **line), home.url, lambda: None)
        expected = [BASIC, "Basic " + base64.b64encode(b"index:b").decode(), "line", "own", "line"]
        sent = [{name.title(): value for name, value in headers.items()} for headers in home.asked]
        assert [headers["Authorization"] for headers in sent] == expected

    def test_lines_of_other_names_go_along_with_what_netrc_says(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with place() as home:
            by_netrc(home.url, tmp_path, monkeypatch)
            get(hasty(tmp_path, **headers_for(home.url, "X-Gate: open", "X-Name: me")), home.url)
        assert [home.asked[0][name] for name in ("Authorization", "X-Gate", "X-Name")] == [BASIC, "open", "me"]

    def test_what_a_request_brings_is_asked_for_anew_at_each_try(self, tmp_path: Path) -> None:
        tokens = iter(["one", "two", "three"])
        with place() as home:
            home.answers += [(503, {}), (429, {})]
            get(hasty(tmp_path), home.url, lambda: next(tokens))
        assert [headers["Authorization"] for headers in home.asked] == ["one", "two", "three"]

    def test_a_token_that_no_header_can_hold_is_an_error_that_does_not_quote_it(self, tmp_path: Path) -> None:
        with place() as home, pytest.raises(SourceError, match="cannot be asked") as caught:
            get(hasty(tmp_path), home.url, lambda: f"Bearer {SECRET}\r\nX-Other: y")
        assert home.asked == []
        assert SECRET not in str(caught.value) + caught.value.hint


class TestNetrc:
    @pytest.mark.parametrize(
        "content",
        [f"password {SECRET}", f"machine 127.0.0.1 login u passwort {SECRET}", b"\xff" + SECRET.encode()],
    )
    def test_a_file_that_is_none_is_told_of_once_not_quoted_and_not_used(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str | bytes
    ) -> None:
        (tmp_path / "netrc").write_bytes(content if isinstance(content, bytes) else content.encode())
        monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
        notes = Notes()
        with place() as home, Client(hasty(tmp_path), notes) as client:
            for _ in range(3):
                client.document(home.url, subject="file", limit=9)
        (note,) = notes.told
        assert "no password is taken from it" in note
        assert SECRET not in note
        assert not any("Authorization" in headers for headers in home.asked)

    def test_it_is_found_in_the_home_and_has_a_default(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("NETRC")
        monkeypatch.setenv("HOME", str(tmp_path))
        (tmp_path / ".netrc").write_text(
            f"machine other.example login a password b\ndefault login user password {SECRET}\n"
        )
        with place() as home:
            get(hasty(tmp_path), home.url)
        assert home.asked[0]["Authorization"] == BASIC


class TestCertificatesAndProxies:
    def test_a_certificate_that_nobody_here_knows_is_refused_with_the_way_out(
        self, tmp_path: Path, authority: Authority
    ) -> None:
        with place(authority) as home, pytest.raises(SourceUnreachableError, match="no TLS connection") as caught:
            get(hasty(tmp_path), home.url)
        assert "REQUESTS_CA_BUNDLE" in caught.value.hint
        assert home.asked == []

    @pytest.mark.parametrize("variable", ["REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "CURL_CA_BUNDLE", "PIP_CERT"])
    def test_an_authority_of_ones_own_is_trusted(self, tmp_path: Path, authority: Authority, variable: str) -> None:
        environ = {"HOME": str(tmp_path), "PIP_CONFIG_FILE": os.devnull, variable: str(authority.path)}
        with place(authority) as home:
            assert get(replace(Settings.read(environ), patience=HASTE), home.url) == b"content"

    def test_an_authority_is_not_trusted_for_another_name(self, tmp_path: Path, authority: Authority) -> None:
        with place(authority) as home, pytest.raises(SourceUnreachableError, match="TLS"):
            get(hasty(tmp_path, certificates=authority.path), home.url.replace("127.0.0.1", "127.1"))

    @pytest.mark.parametrize("variable", ["https_proxy", "HTTPS_PROXY", "all_proxy"])
    def test_https_goes_through_the_proxy_of_the_environment_and_ends_at_the_server(
        self, tmp_path: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch, variable: str
    ) -> None:
        with place(authority) as home, tunnel(home.url) as proxy:
            monkeypatch.setenv(variable, proxy.url)
            settings = hasty(
                tmp_path, certificates=authority.path, **headers_for(f"https://{NAME}", f"X-Key: {SECRET}")
            )
            assert get(settings, f"https://{NAME}/file") == b"content"
        assert proxy.heads[0].startswith(f"CONNECT {NAME}:443 ")
        assert SECRET not in "".join(proxy.heads)
        assert home.asked[0]["X-Key"] == SECRET

    def test_the_password_of_a_proxy_goes_to_the_proxy_alone(
        self, tmp_path: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        password = base64.b64encode(f"user:{SECRET}".encode()).decode()
        with place(authority) as home, tunnel(home.url, password=password) as proxy:
            monkeypatch.setenv("HTTPS_PROXY", proxy.url.replace("://", f"://user:{SECRET}@"))
            home.then(302, Location="/there")
            assert get(hasty(tmp_path, certificates=authority.path), f"https://{NAME}/file") == b"content"
            monkeypatch.setenv("HTTPS_PROXY", proxy.url.replace("://", "://user:wrong-word@"))
            asked = len(proxy.heads)
            words = r"through the proxy 127\.0\.0\.1:\d+: the proxy answered 407"
            with pytest.raises(SourceDeniedError, match=words) as caught:
                get(hasty(tmp_path, certificates=authority.path), f"https://{NAME}/file")
        assert len(proxy.heads) == asked + 1  # a wrong password, again and again, may lock an account
        assert "http://USER:PASSWORD@HOST:PORT" in caught.value.hint
        assert not any(map(told, home.asked))
        assert "wrong-word" not in str(caught.value) + caught.value.hint

    def test_http_through_a_proxy_and_its_redirects_too(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        with place() as home, tunnel(home.url) as proxy:
            monkeypatch.setenv("http_proxy", proxy.url)
            home.then(302, Location="http://other.example/there")
            settings = hasty(tmp_path, **headers_for(f"http://{NAME}", f"X-Key: {SECRET}"))
            assert get(settings, f"http://{NAME}/file") == b"content"
        assert [head.split()[1] for head in proxy.heads] == [f"http://{NAME}/file", "http://other.example/there"]
        assert [told(headers) for headers in home.asked] == [True, False]

    def test_a_proxy_is_not_asked_for_what_is_excepted_even_behind_a_redirect(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with place() as home, tunnel(home.url) as proxy:
            for packages in (PackageIndexes(()), PackageIndexes((), proxy=proxy.url)):
                proxy.heads.clear()
                monkeypatch.setenv("http_proxy", proxy.url)
                monkeypatch.setenv("no_proxy", "127.0.0.1")
                home.then(302, Location=f"{home.url}/direct")
                assert get(hasty(tmp_path, packages=packages), f"http://{NAME}/file") == b"content"
                assert len(proxy.heads) == 1

    def test_the_proxy_of_pip_wins_over_that_of_the_environment(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
        with place() as home, tunnel(home.url) as proxy:
            get(hasty(tmp_path, packages=PackageIndexes((), proxy=proxy.url)), f"http://{NAME}/file")
        assert len(proxy.heads) == 1
