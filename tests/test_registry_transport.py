"""What is said to an OCI registry: names, logins, tokens, uploads that break, and registries that lie."""

import base64
import hashlib
import json
import logging
import os
import random
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bundler.http import Client
from bundler.mirrors import Mirror
from bundler.registry import recognise
from bundler.registry.access import Access
from bundler.registry.address import Address
from bundler.registry.logins import Login, find_login
from bundler.registry.transport import Repository
from bundler.registry.upload import Upload
from bundler.settings import Settings
from loopback import Request, serving
from manifests.digest import Digest
from manifests.errors import (
    DamagedError,
    DigestMismatchError,
    ManifestError,
    SourceDeniedError,
    SourceError,
    SourceNotFoundError,
    SourceUnreachableError,
)
from manifests.progress import Silent
from manifests.wrapper import Part
from registry_server import PASSWORD, USER, Fake, calm, fake_registry, logged_in, registry_server, wire_to

HEX = "0" * 64
BASIC = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
LARGE = random.Random(1).randbytes(400_000)
PIECE = 64 << 10


@contextmanager
def repository(host: str, tmp_path: Path, *, writes: bool = False, login: bool = False) -> Iterator[Repository]:
    """`models/line` of a registry, as somebody who is logged in or is not."""
    logins = (logged_in(tmp_path / "auth.json", host),) if login else ()
    with Client(calm(tmp_path / "store")) as client:
        yield Repository(client, Address.parse(f"oci://{host}/models/line"), logins, writes=writes)


def upload(to: Repository, content: bytes, *, part: Part | None = None) -> bool:
    def read(offset: int, length: int) -> bytes:
        return content[offset : offset + length]

    return Upload(to, part or Part.of(content), read, Silent(), subject="pack 1", piece=PIECE).run()


def manifest_of(fake: Fake, tag: str = "v1", content: bytes = b'{"schemaVersion":2}') -> str:
    fake.manifests[tag] = content
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


class TestAddresses:
    @pytest.mark.parametrize(
        ("text", "host", "repository", "version", "path"),
        [
            ("oci://registry.example.com/line", "registry.example.com", "line", "", ""),
            ("oci://registry.example.com:5000/a/b:v1", "registry.example.com:5000", "a/b", "v1", ""),
            ("oci://Registry.Example.com/line:V1", "registry.example.com", "line", "V1", ""),
            (f"oci://h/a_b/c-d.e@sha256:{HEX}", "h", "a_b/c-d.e", f"sha256:{HEX}", ""),
            (f"oci://h/a:v1@sha256:{HEX}/x/y.bin", "h", "a", f"sha256:{HEX}", "x/y.bin"),
            ("oci://h/a:v1/x%23y", "h", "a", "v1", "x#y"),
            ("oci://[::1]:5000/a:v1", "[::1]:5000", "a", "v1", ""),
        ],
    )
    def test_an_address_has_a_host_a_repository_and_a_version(
        self, text: str, host: str, repository: str, version: str, path: str
    ) -> None:
        found = Address.parse(text)
        assert (found.host, found.repository, found.version, found.path) == (host, repository, version, path)

    @pytest.mark.parametrize(
        ("text", "told"),
        [
            ("oci://h", "HOST"),
            ("oci:///a:v1", "HOST"),
            ("oci://h/Line:v1", "capital letters"),
            ("oci://h:99999/a:v1", "HOST"),
            ("oci://h/a:v1 ", "HOST"),
            ("oci://h/a/../b:v1", "HOST"),
            ("oci://h/a@sha256:1234", "HOST"),
            (f"oci://h/a:{'t' * 129}", "HOST"),
            ("oci://h/a?x=1", "HOST"),
            ("oci://user:hush@h/a:v1", "docker login"),
            (f"oci://h/{'a' * 5000}", "HOST"),
        ],
    )
    def test_what_is_no_address_is_refused_with_the_way_out(self, text: str, told: str) -> None:
        with pytest.raises(ManifestError) as caught:
            Address.parse(text)
        assert told in caught.value.hint
        assert "hush" not in str(caught.value) + caught.value.hint

    @pytest.mark.parametrize(
        ("host", "scheme"),
        [
            ("localhost:5000", "http"),
            ("127.0.0.1", "http"),
            ("[::1]:5000", "http"),
            ("registry.example.com", "https"),
            ("127.0.0.1.example.com", "https"),
            ("localhost.example.com:80", "https"),
        ],
    )
    def test_only_this_machine_is_spoken_to_without_tls(self, host: str, scheme: str) -> None:
        assert Address.parse(f"oci://{host}/a").base(plain_http=False) == f"{scheme}://{host}/v2/a"
        assert Address.parse(f"oci://{host}/a").base(plain_http=True) == f"http://{host}/v2/a"


def write(path: Path, document: object) -> Path:
    path.write_text(json.dumps(document))
    return path


def auth(user: str, password: str = "hush") -> dict[str, str]:
    return {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}


class TestLogins:
    address = Address.parse("oci://h:5000/team/line")

    @pytest.mark.parametrize(
        ("auths", "user"),
        [
            ({"h:5000": auth("a")}, "a"),
            ({"https://h:5000/v1/": auth("a")}, "a"),
            ({"https://h:5000/v2/": auth("a")}, "a"),
            ({"h:5000": auth("a"), "h:5000/team": auth("b")}, "b"),
            ({"h:5000/team/line": auth("c"), "h:5000/team": auth("b")}, "c"),
            ({"h": auth("a"), "h:5001": auth("b"), "other": auth("c")}, None),
            ({"h:5000/teams": auth("a")}, None),
            ({}, None),
        ],
    )
    def test_the_longest_name_counts(self, tmp_path: Path, auths: object, user: str | None) -> None:
        found = find_login([write(tmp_path / "config.json", {"auths": auths})], self.address)
        assert (found.user if found else None) == user

    def test_the_first_file_that_knows_the_registry_counts(self, tmp_path: Path) -> None:
        files = [
            tmp_path / "missing.json",
            write(tmp_path / "other.json", {"auths": {"other": auth("x")}}),
            write(tmp_path / "one.json", {"auths": {"h:5000": auth("one")}}),
            write(tmp_path / "two.json", {"auths": {"h:5000": auth("two")}}),
        ]
        assert find_login(files, self.address) == Login("one", "hush")

    def test_a_password_may_have_colons_and_is_in_no_repr(self, tmp_path: Path) -> None:
        found = find_login([write(tmp_path / "c.json", {"auths": {"h:5000": auth("a", "x:hush:y")}})], self.address)
        assert found is not None
        assert found.password == "x:hush:y"
        assert "hush" not in repr(found)

    @pytest.mark.parametrize(
        "content",
        [
            b"hush",
            b'{"auths": {"h:5000": {"auth": "hush"}}}',
            b'{"auths": {"h:5000": {"auth": 7, "password": "hush"}}}',
            b'{"auths": {"h:5000": {"auth": "aHVzaA=="}}}',
            b'{"auths": {"h:5000": {"identitytoken": "hush"}}}',
            b"\xff\xfe" + b"hush",
            b" " * (1 << 20) + b"{}",
        ],
    )
    def test_a_file_that_says_nothing_is_an_error_that_does_not_quote_it(self, tmp_path: Path, content: bytes) -> None:
        path = tmp_path / "config.json"
        path.write_bytes(content)
        with pytest.raises(SourceError) as caught:
            find_login([path], self.address)
        assert str(path) in str(caught.value)
        assert "hush" not in str(caught.value) + caught.value.hint + str(caught.value.facts)

    def helper(self, folder: Path, monkeypatch: pytest.MonkeyPatch, body: str) -> None:
        path = folder / "docker-credential-test"
        path.write_text(f"#!{sys.executable}\nimport sys\nhost = sys.stdin.readline().strip()\n{body}\n")
        path.chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")

    @pytest.mark.parametrize("config", [{"credsStore": "test"}, {"credHelpers": {"h:5000": "test"}}])
    def test_a_helper_is_asked(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, config: object) -> None:
        body = 'import json; print(json.dumps({"ServerURL": host, "Username": host + sys.argv[1], "Secret": "hush"}))'
        self.helper(tmp_path, monkeypatch, body)
        found = find_login([write(tmp_path / "config.json", config)], self.address)
        assert found == Login("h:5000get", "hush")

    @pytest.mark.parametrize(
        "body",
        ["print('credentials not found in native keychain'); sys.exit(1)", "pass", "sys.stdin.close(); sys.exit(1)"],
    )
    def test_a_helper_that_knows_nothing_means_nobody(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str
    ) -> None:
        self.helper(tmp_path, monkeypatch, body)
        assert find_login([write(tmp_path / "config.json", {"credsStore": "test"})], self.address) is None

    @pytest.mark.parametrize(
        "body",
        [
            "print('hush')",
            "print('hush' * 100_000)",
            """print('{"Username": "<token>", "Secret": "hush"}')""",
            """print('{"Username": 7, "Secret": "hush"}')""",
        ],
    )
    def test_a_helper_that_talks_nonsense_is_an_error(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str
    ) -> None:
        self.helper(tmp_path, monkeypatch, body)
        with pytest.raises(SourceError) as caught:
            find_login([write(tmp_path / "config.json", {"credsStore": "test"})], self.address)
        assert "hush" not in str(caught.value)

    def test_a_helper_that_hangs_is_ended(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("bundler.registry.logins._PATIENCE", 0.3)
        self.helper(tmp_path, monkeypatch, "import time; time.sleep(60)")
        begun = time.monotonic()
        assert find_login([write(tmp_path / "config.json", {"credsStore": "test"})], self.address) is None
        assert time.monotonic() - begun < 20

    @pytest.mark.parametrize("name", ["not-there", "../evil", "a b"])
    def test_a_helper_that_is_not_there_is_named(self, tmp_path: Path, name: str) -> None:
        with pytest.raises(SourceDeniedError, match="docker-credential-"):
            find_login([write(tmp_path / "config.json", {"credHelpers": {"h:5000": name}})], self.address)

    def test_a_missing_store_matters_only_to_who_logged_in_with_it(self, tmp_path: Path) -> None:
        path = tmp_path / "config.json"
        assert find_login([write(path, {"credsStore": "not-there"})], self.address) is None
        with pytest.raises(SourceDeniedError, match="not on the PATH"):
            find_login([write(path, {"credsStore": "not-there", "auths": {"h:5000": {}}})], self.address)


class TestSettings:
    @pytest.mark.parametrize(
        ("environ", "expected"),
        [
            ({}, ["H/.config/containers/auth.json", "H/.docker/config.json"]),
            (
                {"XDG_RUNTIME_DIR": "/run/1", "XDG_CONFIG_HOME": "/c", "DOCKER_CONFIG": "/d"},
                ["/run/1/containers/auth.json", "/c/containers/auth.json", "/d/config.json"],
            ),
            ({"REGISTRY_AUTH_FILE": "/one.json", "DOCKER_CONFIG": "/d"}, ["/one.json"]),
        ],
    )
    def test_logins_are_looked_for_where_other_programs_keep_them(
        self, tmp_path: Path, environ: dict[str, str], expected: list[str]
    ) -> None:
        found = Settings.read({"HOME": str(tmp_path), **environ}).registries.logins
        assert [str(path).replace(str(tmp_path), "H") for path in found] == expected


class TestAsking:
    def test_nothing_is_sent_before_it_is_asked_for(self, tmp_path: Path) -> None:
        with fake_registry(login=BASIC) as fake, repository(fake.host, tmp_path, login=True) as asked:
            manifest_of(fake)
            asked.manifest("v1", subject="x")
            asked.manifest("v1", subject="x")
        assert [headers.get("Authorization") for _, _, headers in fake.asked] == [None, BASIC, BASIC]

    @pytest.mark.parametrize("login", [False, True])
    def test_a_refusal_says_who_should_log_in_where(self, tmp_path: Path, login: bool) -> None:
        with fake_registry(login="Basic other") as fake, repository(fake.host, tmp_path, login=login) as asked:
            with pytest.raises(SourceDeniedError) as caught:
                asked.manifest("v1", subject="x")
            assert f"docker login {fake.host}" in caught.value.hint
        assert ("refuses these credentials" in str(caught.value)) == login
        assert PASSWORD not in str(caught.value)
        assert len(fake.asked) <= 2

    def test_a_token_is_kept_until_a_little_before_its_end(self, tmp_path: Path) -> None:
        with fake_registry(login=BASIC, token_life=1.0) as fake, repository(fake.host, tmp_path, login=True) as asked:
            manifest_of(fake)
            for _ in range(3):
                asked.manifest("v1", subject="x")
            assert len(fake.tokens) == 1
            time.sleep(0.8)
            asked.manifest("v1", subject="x")
            assert len(fake.tokens) == 2
        assert fake.count("GET", "/manifests/") == 5  # the first one was refused, and no other
        url = next(path for _, path, _ in fake.asked if path.startswith("/token"))
        assert url == "/token?service=fake&scope=repository%3Amodels%2Fline%3Apull"
        assert {headers.get("Authorization") for _, path, headers in fake.asked if path.startswith("/v2")} == {
            None, "Bearer token-0", "Bearer token-1",
        }  # fmt: skip

    def test_a_token_that_is_refused_before_its_end_is_asked_for_anew(self, tmp_path: Path) -> None:
        with fake_registry(token_life=60.0) as fake, repository(fake.host, tmp_path) as asked:
            manifest_of(fake)
            asked.manifest("v1", subject="x")
            fake.tokens["token-0"] = 0
            asked.manifest("v1", subject="x")
            fake.tokens["token-1"] = 0
            content = b"bytes of a blob"
            fake.blobs[str(Digest.of(content))] = content
            asked.fetch(Part.of(content), tmp_path / "blob", Silent(), subject="a blob").claim.discard()
        assert len(fake.tokens) == 3

    def test_a_registry_that_refuses_every_token_is_left(self, tmp_path: Path) -> None:
        with (
            fake_registry(token_life=0.0001) as fake,
            repository(fake.host, tmp_path) as asked,
            pytest.raises(SourceDeniedError, match="wants to know who may read"),
        ):
            asked.manifest("v1", subject="x")
        assert len(fake.asked) < 10

    def test_a_push_asks_for_the_right_to_write(self, tmp_path: Path) -> None:
        with fake_registry(token_life=60.0) as fake, repository(fake.host, tmp_path, writes=True) as asked:
            upload(asked, b"content")
        assert any(path.endswith("pull%2Cpush") for _, path, _ in fake.asked)

    @pytest.mark.parametrize(
        "answer",
        [
            b"",
            b"[]",
            b'{"token": "hush\\nX: y"}',
            b'{"token": 7}',
            b'{"hush": 1}',
            b'{"token":"' + b"a" * 300_000 + b'"}',
            b'{"token":"hush","expires_in":1' + b"0" * 400 + b"}",
            b'{"token":"hush","x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        ],
    )
    def test_a_token_server_that_talks_nonsense_is_an_error(self, tmp_path: Path, answer: bytes) -> None:
        with fake_registry(token_life=60.0) as fake, repository(fake.host, tmp_path) as asked:
            fake.overrides["GET /token"] = lambda talk: talk.send(answer)
            with pytest.raises(SourceError) as caught:
                asked.manifest("v1", subject="x")
            assert "hush" not in str(caught.value)

    @pytest.mark.parametrize("realm", ["ftp://example.com/token", "token", "http://[", "http://u:p ss@h/"])
    def test_a_token_server_that_is_none_is_an_error(self, tmp_path: Path, realm: str) -> None:
        with (
            fake_registry(token_life=60.0, realm=realm) as fake,
            repository(fake.host, tmp_path) as asked,
            pytest.raises(SourceError),
        ):
            asked.manifest("v1", subject="x")

    def test_two_that_are_refused_at_once_share_one_token(self, tmp_path: Path) -> None:
        with fake_registry(token_life=60.0) as fake, Client(calm(tmp_path / "store")) as client:
            address = Address.parse(f"oci://{fake.host}/a")
            access = Access(client, address, lambda: None, writes=False, plain_http=False)
            challenge = f'Bearer realm="http://{fake.host}/token",service="fake"'
            for _ in range(2):
                assert access.answer(challenge, None)
                assert access.header() == "Bearer token-0"

    def test_a_registry_with_tls_gets_no_password_sent_without_it(self, tmp_path: Path) -> None:
        address = Address.parse("oci://registry.example.com/a")
        with Client(calm(tmp_path / "store")) as client:
            access = Access(client, address, lambda: Login(USER, PASSWORD), writes=False, plain_http=False)
            assert access.answer('Bearer realm="http://127.0.0.1:1/token",service="x"', None)
            with pytest.raises(SourceDeniedError, match="unprotected"):
                access.header()

    @pytest.mark.parametrize(
        ("registry", "plain_http", "realm"),
        [
            ("registry.example.com", True, "https://other.example.com/token"),
            ("registry.example.com:5000", True, "http://registry.example.com.evil.example/token"),
            ("localhost:5000", False, "https://other.example.com/token"),
            ("127.0.0.1:5000", False, "http://127.0.0.1@other.example.com/token"),
            ("[::1]:5000", False, "http://[::1:5000]/token"),
        ],
    )
    def test_a_token_server_elsewhere_gets_no_password_that_was_not_asked_for_over_tls(
        self, tmp_path: Path, registry: str, plain_http: bool, realm: str
    ) -> None:
        with Client(calm(tmp_path / "store", offline=True)) as client:
            address = Address.parse(f"oci://{registry}/a")
            access = Access(client, address, lambda: Login(USER, PASSWORD), writes=False, plain_http=plain_http)
            assert access.answer(f'Bearer realm="{realm}",service="x"', None)
            with pytest.raises(SourceDeniedError, match="without TLS") as caught:
                access.header()
        assert PASSWORD not in str(caught.value) + caught.value.hint

    @pytest.mark.parametrize(
        ("registry", "plain_http", "realm"),
        [
            ("registry.example.com", False, "https://auth.example.org/token"),
            ("registry.example.com:5000", True, "http://registry.example.com:5001/token"),
            ("localhost:5000", False, "http://127.0.0.1:5001/token"),
            ("[::1]:5000", False, "http://[::1]:5001/token"),
        ],
    )
    def test_a_token_server_that_may_be_asked_is_asked(
        self, tmp_path: Path, registry: str, plain_http: bool, realm: str
    ) -> None:
        with Client(calm(tmp_path / "store", offline=True)) as client:
            address = Address.parse(f"oci://{registry}/a")
            access = Access(client, address, lambda: Login(USER, PASSWORD), writes=False, plain_http=plain_http)
            assert access.answer(f'Bearer realm="{realm}",service="x"', None)
            with pytest.raises(SourceUnreachableError, match="offline"):  # the first thing that asking runs into
                access.header()

    def test_who_shows_no_password_may_be_sent_anywhere_for_a_token(self, tmp_path: Path) -> None:
        with fake_registry() as other, fake_registry(token_life=60.0) as fake:
            fake.realm = f"http://{other.host.replace('127.0.0.1', '127.1')}/token"
            other.overrides["GET /token"] = fake._give_token
            manifest_of(fake)
            with repository(fake.host, tmp_path) as asked:
                assert asked.manifest("v1", subject="x").content == b'{"schemaVersion":2}'
            with (
                repository(fake.host, tmp_path, login=True) as asked,
                pytest.raises(SourceDeniedError, match="without TLS"),
            ):
                asked.manifest("v1", subject="x")
        assert other.count("GET") == 1
        assert not any("Authorization" in headers for _, _, headers in other.asked)

    @pytest.mark.parametrize("status", [401, 403])
    def test_a_mirror_that_refuses_is_named_and_gets_no_password(self, tmp_path: Path, status: int) -> None:
        with fake_registry(login="Basic of-the-mirror") as fake:
            if status == 403:
                fake.overrides["GET /v2"] = lambda talk: talk.send(b"{}", status=403)
            logins = (logged_in(tmp_path / "auth.json", "registry.example.com"),)
            mirrors = (Mirror("https://registry.example.com", f"http://{fake.host}"),)
            with Client(calm(tmp_path / "store", mirrors=mirrors)) as client:
                asked = Repository(client, Address.parse("oci://registry.example.com/a"), logins)
                with pytest.raises(SourceDeniedError, match=fake.host) as caught:
                    asked.manifest("v1", subject="x")
            assert "BUNDLE_HEADERS" in caught.value.hint
        assert fake.count("GET") == 1
        assert not any("Authorization" in headers for _, _, headers in fake.asked)

    def test_two_whose_token_was_refused_early_both_get_another(self, tmp_path: Path) -> None:
        with fake_registry(token_life=60.0) as fake, Client(calm(tmp_path / "store")) as client:
            access = Access(client, Address.parse(f"oci://{fake.host}/a"), lambda: None, writes=False, plain_http=False)
            assert not access.renew()
            assert access.answer(f'Bearer realm="http://{fake.host}/token",service="fake"', None)
            access.header()
            assert access.renew()
            assert access.renew()
            assert access.header() == "Bearer token-1"

    @pytest.mark.parametrize("challenge", ["a" * 65_000, ", ".join(["Bearer", *["a" * 65_000] * 10])])
    def test_a_challenge_of_any_length_is_looked_at_quickly(self, tmp_path: Path, challenge: str) -> None:
        with Client(calm(tmp_path / "store")) as client:
            access = Access(client, Address.parse("oci://h/a"), lambda: None, writes=False, plain_http=False)
            begun = time.process_time()
            assert not access.answer(challenge, None)
            assert time.process_time() - begun < 2

    def test_a_redirect_to_another_host_carries_no_credentials(self, tmp_path: Path) -> None:
        content = b"bytes of a blob" * 100
        seen: list[dict[str, str]] = []

        def answer(request: Request) -> None:
            seen.append(dict(request.headers))
            request.send(content)

        with (
            serving(answer) as elsewhere,
            fake_registry(login=BASIC, redirect=elsewhere) as fake,
            repository(fake.host, tmp_path, login=True) as asked,
        ):
            manifest_of(fake)
            asked.manifest("v1", subject="x")
            fake.blobs[str(Digest.of(content))] = content
            done = asked.fetch(Part.of(content), tmp_path / "blob", Silent(), subject="a blob")
            assert done.path.read_bytes() == content
            done.claim.discard()
            assert asked.small_blob(Part.of(content), subject="a blob") == content
        assert len(seen) >= 2
        assert not any("Authorization" in headers for headers in seen)

    def test_an_upload_that_goes_on_at_another_host_carries_no_credentials(self, tmp_path: Path) -> None:
        with (
            fake_registry() as other,
            fake_registry(login=BASIC) as fake,
            repository(fake.host, tmp_path, writes=True, login=True) as asked,
        ):
            other.uploads["u"] = bytearray()
            place = f"http://{other.host}/v2/models/line/blobs/uploads/u"
            fake.manifests["v1"] = b"{}"
            asked.find_manifest("v1", subject="x")
            fake.overrides["POST /v2"] = lambda talk: talk.send(b"", status=202, Location=place)
            assert upload(asked, LARGE)
            assert list(other.blobs.values()) == [LARGE]
        assert not any("Authorization" in headers for _, _, headers in other.asked)

    def test_no_secret_reaches_the_log_of_anything(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.DEBUG)
        with fake_registry(login=BASIC, token_life=60.0) as fake, repository(fake.host, tmp_path, login=True) as asked:
            manifest_of(fake)
            asked.manifest("v1", subject="x")
        assert caplog.text
        for secret in (PASSWORD, BASIC, BASIC.split()[1], "token-0"):
            assert secret not in caplog.text


DEEP = b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}"


class TestHostileRegistries:
    def test_lists_in_lists_are_no_answer_wherever_they_stand(self, tmp_path: Path) -> None:
        with fake_registry() as fake, repository(fake.host, tmp_path) as asked:
            manifest_of(fake, content=DEEP)
            with pytest.raises(SourceError, match="no manifest"):
                recognise.look(asked.manifest("v1", subject="x"), subject="x")
            fake.overrides["GET /v2/models/line/tags"] = lambda talk: talk.send(DEEP)
            with pytest.raises(SourceNotFoundError):
                asked.manifest("v2", subject="x")
            fake.overrides["GET /v2/models/line/manifests"] = lambda talk: talk.send(DEEP, status=418)
            with pytest.raises(SourceError, match="418"):
                asked.manifest("v1", subject="x")
        (tmp_path / "config.json").write_bytes(DEEP)
        with pytest.raises(SourceError, match="not the JSON"):
            find_login([tmp_path / "config.json"], Address.parse("oci://h/a"))

    @pytest.mark.parametrize("told", ["\x1b[31mred", "sha256:1234", "", "latest"])
    def test_what_a_tag_names_is_a_digest_or_unknown(self, tmp_path: Path, told: str) -> None:
        with fake_registry() as fake, repository(fake.host, tmp_path) as asked:
            fake.overrides["HEAD /v2"] = lambda talk: talk.send(b"", Docker_Content_Digest=told)
            assert asked.find_manifest("v1", subject="x") == ""

    @pytest.mark.parametrize("status", [302, 307])
    def test_a_registry_that_keeps_its_blobs_elsewhere_has_them(self, tmp_path: Path, status: int) -> None:
        with fake_registry() as fake, repository(fake.host, tmp_path, writes=True) as asked:
            fake.overrides["HEAD /v2/models/line/blobs"] = lambda talk: talk.send(
                b"", status=status, Location="https://elsewhere.example.com/blob?signature=x"
            )
            assert not upload(asked, LARGE)

    def test_a_blob_that_is_there_with_another_length_is_told(self, tmp_path: Path) -> None:
        with fake_registry() as fake, repository(fake.host, tmp_path, writes=True) as asked:
            fake.blobs[str(Digest.of(LARGE))] = LARGE[:-1]
            with pytest.raises(SourceError, match=f"{len(LARGE) - 1} bytes instead of {len(LARGE)}"):
                upload(asked, LARGE)

    def test_a_manifest_beyond_the_bound_is_refused(self, tmp_path: Path) -> None:
        with fake_registry() as fake, repository(fake.host, tmp_path) as asked:
            manifest_of(fake, content=b" " * ((4 << 20) + 1))
            with pytest.raises(SourceError, match="more than 4194304 bytes"):
                asked.manifest("v1", subject="x")

    def test_a_manifest_that_is_another_than_was_named_is_refused(self, tmp_path: Path) -> None:
        with fake_registry() as fake, repository(fake.host, tmp_path) as asked:
            fake.manifests[f"sha256:{HEX}"] = b"{}"
            with pytest.raises(DigestMismatchError):
                asked.manifest(f"sha256:{HEX}", subject="x")
            fake.overrides["GET /v2"] = lambda talk: talk.send(b"{}", Docker_Content_Digest=f"sha256:{HEX}")
            with pytest.raises(DigestMismatchError):
                asked.manifest("v1", subject="x")

    @pytest.mark.parametrize("lie", [b"other bytes of", b"short", b"much longer than it should be"])
    def test_a_blob_that_is_another_than_was_named_is_refused(self, tmp_path: Path, lie: bytes) -> None:
        content = b"bytes of blobs"
        with fake_registry() as fake, repository(fake.host, tmp_path) as asked:
            fake.blobs[str(Digest.of(content))] = content
            fake.lies[str(Digest.of(content))] = lie
            with pytest.raises(SourceError):
                asked.small_blob(Part.of(content), subject="a blob")
            with pytest.raises(SourceError):
                asked.fetch(Part.of(content), tmp_path / "blob", Silent(), subject="a blob")

    @pytest.mark.parametrize(
        "answer",
        [
            json.dumps({"tags": [f"tag-{number}" for number in range(50_000)]}).encode(),
            json.dumps({"tags": ["t" * 100_000] * 5}).encode(),
            b'{"tags": ["' + b"x" * (5 << 20) + b'"]}',
            b'{"tags": null}',
            b'{"tags": {}}',
            b"nothing",
        ],
    )
    def test_a_hint_names_some_tags_however_many_there_are(self, tmp_path: Path, answer: bytes) -> None:
        with fake_registry() as fake, repository(fake.host, tmp_path) as asked:
            fake.overrides["GET /v2/models/line/tags"] = lambda talk: talk.send(answer)
            with pytest.raises(SourceNotFoundError) as caught:
                asked.manifest("v1", subject="x")
            assert len(caught.value.hint) < 2000

    @pytest.mark.parametrize("location", ["", "ftp://example.com/x", "http://[", "/\x7f"])
    def test_an_upload_that_goes_on_nowhere_is_an_error(self, tmp_path: Path, location: str) -> None:
        with fake_registry() as fake, repository(fake.host, tmp_path, writes=True) as asked:
            fake.overrides["POST /v2"] = lambda talk: talk.send(b"", status=202, Location=location)
            with pytest.raises(SourceError):
                upload(asked, LARGE)

    def test_what_the_registry_says_is_shown_short_and_printable(self, tmp_path: Path) -> None:
        words = json.dumps({"errors": [{"code": "X", "message": "\x1b[31mred" + "r" * 5000}]}).encode()
        with fake_registry() as fake, repository(fake.host, tmp_path) as asked:
            fake.overrides["GET /v2"] = lambda talk: talk.send(words, status=418)
            with pytest.raises(SourceError) as caught:
                asked.manifest("v1", subject="x")
        assert "\\x1b[31mred" in str(caught.value)
        assert len(str(caught.value)) < 600


class TestUploads:
    def test_a_large_blob_goes_in_pieces_and_a_small_one_at_once(self, tmp_path: Path) -> None:
        with fake_registry() as fake, repository(fake.host, tmp_path, writes=True) as asked:
            assert upload(asked, LARGE)
            assert upload(asked, b"small")
            assert not upload(asked, LARGE)
            assert sorted(fake.blobs.values()) == sorted([LARGE, b"small"])
        assert fake.count("PATCH") == -(-len(LARGE) // PIECE)
        assert fake.count("PUT") == 2
        assert {headers["Content-Range"] for method, _, headers in fake.asked if method == "PATCH"} >= {
            f"0-{PIECE - 1}", f"{PIECE}-{2 * PIECE - 1}",
        }  # fmt: skip

    def test_a_registry_that_takes_no_pieces_gets_it_at_once(self, tmp_path: Path) -> None:
        with fake_registry(takes_patch=False) as fake, repository(fake.host, tmp_path, writes=True) as asked:
            assert upload(asked, LARGE)
            assert list(fake.blobs.values()) == [LARGE]
        assert fake.count("PATCH") == 1

    def test_a_registry_that_takes_only_one_piece_gets_it_at_once(self, tmp_path: Path) -> None:
        with fake_registry() as fake, repository(fake.host, tmp_path, writes=True) as asked:

            def answer(talk: Request) -> None:
                status = 202 if fake.count("PATCH") == 1 else 416
                talk.send(b"", status=status, Location=talk.path)

            fake.overrides["PATCH /v2"] = answer
            assert upload(asked, LARGE)
            assert list(fake.blobs.values()) == [LARGE]

    def test_the_least_piece_that_a_registry_takes_is_kept_to(self, tmp_path: Path) -> None:
        with fake_registry() as fake, repository(fake.host, tmp_path, writes=True) as asked:
            place = "/v2/models/line/blobs/uploads/u"
            fake.uploads["u"] = bytearray()
            fake.overrides["POST /v2"] = lambda talk: talk.send(
                b"", status=202, Location=place, OCI_Chunk_Min_Length=str(3 * PIECE)
            )
            assert upload(asked, LARGE)
        assert fake.count("PATCH") == -(-len(LARGE) // (3 * PIECE))

    @pytest.mark.parametrize("method", ["POST", "PATCH", "PUT"])
    @pytest.mark.parametrize("content", [LARGE, b"small"])
    def test_an_answer_that_is_lost_costs_nothing_but_a_question(
        self, tmp_path: Path, method: str, content: bytes
    ) -> None:
        with fake_registry(loses={method}) as fake, repository(fake.host, tmp_path, writes=True) as asked:
            assert upload(asked, content)
            assert list(fake.blobs.values()) == [content]
        assert fake.count("PATCH") <= -(-len(LARGE) // PIECE)

    def test_an_upload_that_was_forgotten_begins_anew(self, tmp_path: Path) -> None:
        with fake_registry(loses={"PATCH"}) as fake, repository(fake.host, tmp_path, writes=True) as asked:

            def forget(talk: Request) -> None:
                fake.overrides.clear()
                fake.uploads.clear()
                talk.send(b"{}", status=404)

            fake.overrides["GET /v2/models/line/blobs/uploads"] = forget
            assert upload(asked, LARGE)
            assert list(fake.blobs.values()) == [LARGE]
        assert fake.count("POST") == 2

    @pytest.mark.parametrize("told", ["0-0", "0-99999999", "5-7", "nonsense", ""])
    def test_an_upload_whose_length_is_not_told_well_begins_anew(self, tmp_path: Path, told: str) -> None:
        with fake_registry(loses={"PATCH"}) as fake, repository(fake.host, tmp_path, writes=True) as asked:
            fake.overrides["GET /v2/models/line/blobs/uploads"] = lambda talk: talk.send(
                b"", status=204, Location=talk.path, Range=told
            )
            assert upload(asked, LARGE)
            assert list(fake.blobs.values()) == [LARGE]

    def test_pieces_that_do_not_come_together_are_sent_at_once(self, tmp_path: Path) -> None:
        with fake_registry() as fake, repository(fake.host, tmp_path, writes=True) as asked:

            def refuse(talk: Request) -> None:
                fake.overrides.clear()
                talk.send(b'{"errors":[{"code":"DIGEST_INVALID"}]}', status=400)

            fake.overrides["PUT /v2"] = refuse
            assert upload(asked, LARGE)
            assert list(fake.blobs.values()) == [LARGE]

    @pytest.mark.parametrize("content", [LARGE, b"small"])
    def test_bytes_that_were_changed_on_their_way_are_an_error_in_the_end(self, tmp_path: Path, content: bytes) -> None:
        words = b'{"errors":[{"code":"DIGEST_INVALID","message":"not these bytes"}]}'
        with fake_registry() as fake, repository(fake.host, tmp_path, writes=True) as asked:
            fake.overrides["PUT /v2"] = lambda talk: talk.send(words, status=400)
            with pytest.raises(SourceError, match="not these bytes"):
                upload(asked, content)

    @pytest.mark.parametrize("takes_patch", [True, False])
    @pytest.mark.parametrize("content", [LARGE, b"small"])
    def test_what_is_damaged_here_is_never_committed(self, tmp_path: Path, content: bytes, takes_patch: bool) -> None:
        damaged = content[:-1] + bytes([content[-1] ^ 1])
        with fake_registry(takes_patch=takes_patch) as fake, repository(fake.host, tmp_path, writes=True) as asked:
            with pytest.raises(DamagedError):
                upload(asked, damaged, part=Part.of(content))
            assert not fake.blobs
        assert all(len(held) < len(content) for held in fake.uploads.values())

    def test_a_push_holds_little_of_a_large_piece_in_memory(self, tmp_path: Path) -> None:
        asked_for: list[int] = []

        def read(offset: int, length: int) -> bytes:
            asked_for.append(length)
            return content[offset : offset + length]

        content = random.Random(2).randbytes(9 << 20)
        with fake_registry() as fake, repository(fake.host, tmp_path, writes=True) as asked:
            told = Upload(asked, Part.of(content), read, Silent(), subject="pack 1", piece=4 << 20)
            assert told.run()
            assert list(fake.blobs.values()) == [content]
        assert fake.count("PATCH") == 3
        assert max(asked_for) <= 1 << 20

    @pytest.mark.parametrize("cut", [1 << 19, 3 << 20, 5 << 20, (9 << 20) - 1000])
    def test_a_wire_that_is_cut_within_a_large_piece_costs_no_more_than_it(self, tmp_path: Path, cut: int) -> None:
        content = random.Random(2).randbytes(9 << 20)
        with fake_registry() as fake, wire_to(fake.host) as wire:
            wire.cuts = [cut]
            with repository(wire.host, tmp_path, writes=True) as asked:
                told = Upload(
                    asked,
                    Part.of(content),
                    lambda offset, length: content[offset : offset + length],
                    Silent(),
                    subject="pack 1",
                    piece=4 << 20,
                )
                assert told.run()
            assert not wire.cuts
            assert wire.passed["up"] < len(content) + (5 << 20)
            assert list(fake.blobs.values()) == [content]
        assert fake.count("POST") <= 2  # a registry that is still at the piece that was cut may not know its end

    def test_a_registry_that_answers_no_more_is_told_as_such(self, tmp_path: Path) -> None:
        with fake_registry() as fake, repository(fake.host, tmp_path, writes=True) as asked:
            fake.overrides["PATCH /v2"] = lambda talk: talk.send(b"", status=503)
            with pytest.raises(SourceUnreachableError, match="503"):
                upload(asked, LARGE)
        assert fake.count("PATCH") <= 4

    def test_a_wire_that_is_cut_costs_no_more_than_a_piece(self, tmp_path: Path) -> None:
        with fake_registry() as fake, wire_to(fake.host) as wire:
            wire.cuts = [300_000]
            with repository(wire.host, tmp_path, writes=True) as asked:
                assert upload(asked, LARGE)
            assert not wire.cuts
            assert list(fake.blobs.values()) == [LARGE]
            assert wire.passed["up"] < len(LARGE) + PIECE + 20_000
        assert fake.count("POST") == 1

    @pytest.mark.parametrize("cuts", [[150_000], [100_000, 100_000, 30_000], [500, 70_000, 300_000]])
    def test_a_wire_that_is_cut_is_survived_by_a_real_registry(self, tmp_path: Path, cuts: list[int]) -> None:
        with registry_server(tmp_path / "r") as real, wire_to(real.host) as wire:
            wire.cuts = list(cuts)
            with repository(wire.host, tmp_path, writes=True) as asked:
                assert upload(asked, LARGE)
                assert not upload(asked, LARGE)
            assert not wire.cuts
            assert real.blob(Digest.of(LARGE).hex).read_bytes() == LARGE


def test_one_that_is_offline_asks_no_registry(tmp_path: Path) -> None:
    with fake_registry() as fake, Client(calm(tmp_path / "store", offline=True)) as client:
        asked = Repository(client, Address.parse(f"oci://{fake.host}/models/line"), ())
        with pytest.raises(SourceUnreachableError, match="offline"):
            asked.manifest("v1", subject="x")
    assert not fake.asked
