"""S3 when it goes wrong: what the server refuses, says badly or never stops saying, and that no secret is told."""

import base64
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Lock
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from bucket_server import KEY, SECRET, bucket_server, forget_credentials, listed, of, set_credentials
from bundler.resolve import fetch_locked, resolve
from bundler.sources.base import Found
from bundler.sources.reference import Reference
from bundler.sources.s3 import BucketSource
from loopback import HASTE, Request, serving
from manifests.digest import Digest
from manifests.errors import (
    ManifestError,
    NamingError,
    SourceDeniedError,
    SourceError,
    SourceNotFoundError,
    SourceUnreachableError,
)  # fmt: skip
from manifests.manifest import parse
from manifests.progress import Silent
from manifests.store import Store
from slow_proxy import slow_proxy


@pytest.fixture(autouse=True)
def _nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forget_credentials(tmp_path, monkeypatch)


@pytest.fixture
def signed_in(monkeypatch: pytest.MonkeyPatch) -> None:
    set_credentials(monkeypatch)


def once(url: str | None, text: str) -> tuple[Found, ...]:
    """The listing, asked for without a second try."""
    settings = of(url, patience=replace(HASTE, attempts=1))
    return BucketSource(settings).list(Reference.parse(text, Path()), {})


def refusing(status: int, code: str, more: str = "") -> Callable[[Request], None]:
    body = f"<Error><Code>{code}</Code><Message>{SECRET}</Message>{more}</Error>".encode()
    return lambda request: request.send(body, status=status, Content_Type="application/xml")


@pytest.mark.parametrize("text", ["s3://b/org/", "s3://b/org/m.bin"], ids=["prefix", "key"])
@pytest.mark.parametrize(
    ("status", "code", "family", "way_out"),
    [
        (403, "AccessDenied", SourceDeniedError, "AWS_PROFILE"),
        (403, "InvalidAccessKeyId", SourceDeniedError, "AWS_ACCESS_KEY_ID"),
        (403, "SignatureDoesNotMatch", SourceDeniedError, "AWS_SECRET_ACCESS_KEY"),
        (403, "RequestTimeTooSkewed", SourceDeniedError, "set the clock"),
        (400, "ExpiredToken", SourceDeniedError, "log in again"),
        (400, "InvalidToken", SourceDeniedError, "AWS_PROFILE"),
        (503, "SlowDown", SourceUnreachableError, "try again later"),
        (500, "InternalError", SourceUnreachableError, "try again later"),
        (404, "NoSuchBucket", SourceNotFoundError, ""),
    ],
)
def test_a_refusal_is_told_with_its_reason_and_the_way_out(
    signed_in: None, text: str, status: int, code: str, family: type[SourceError], way_out: str
) -> None:
    with serving(refusing(status, code)) as url, pytest.raises(family) as caught:
        once(url, text)
    assert type(caught.value) is family
    assert way_out in caught.value.hint
    assert status >= 404 or code in str(caught.value)
    assert SECRET not in f"{caught.value} {caught.value.hint}"


@pytest.mark.parametrize("status", [400, 301])
def test_a_bucket_of_another_region_is_told_with_the_variable_that_boto3_reads(signed_in: None, status: int) -> None:
    more = "<Region>eu-north-1</Region>"
    with serving(refusing(status, "AuthorizationHeaderMalformed", more)) as url, pytest.raises(SourceError) as caught:
        once(url, "s3://b/org/")
    assert "the bucket is in eu-north-1" in caught.value.hint
    assert "AWS_DEFAULT_REGION" in caught.value.hint


def test_a_region_that_is_none_is_told(signed_in: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "not a region!")
    with pytest.raises(SourceError, match="cannot be the name of one") as caught:
        once(None, "s3://b/org/")
    assert "AWS_DEFAULT_REGION" in caught.value.hint


def test_a_server_that_asks_to_slow_down_is_asked_again(signed_in: None) -> None:
    asked: list[str] = []

    def answer(request: Request) -> None:
        asked.append(request.path)
        if len(asked) == 1:
            refusing(503, "SlowDown")(request)
        else:
            request.send(b"abc", ETag="e")

    with serving(answer) as url:
        assert [found.size for found in listed(url, "s3://b/m.bin")] == [3]


@pytest.mark.parametrize("text", ["s3://b/org/", "s3://b/org/m.bin"])
def test_offline_asks_neither_the_endpoint_nor_whoever_has_the_credentials(
    monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    asked: list[str] = []
    with serving(lambda request: asked.append(request.path)) as url:
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{url}/credentials")
        source = BucketSource(of(url, offline=True))
        for ask in (source.list, source.find):
            with pytest.raises((SourceUnreachableError, ManifestError)) as caught:
                ask(Reference.parse(text, Path()), {})
            assert isinstance(caught.value, ManifestError) or "--offline" in str(caught.value)
    assert asked == []


def test_an_answer_without_end_is_given_up_while_it_comes(signed_in: None) -> None:
    sent = 0

    def answer(request: Request) -> None:
        nonlocal sent
        request.head(200, Content_Type="application/xml", Connection="close")
        request.wfile.write(b"<ListBucketResult>")
        for _ in range(1024):
            sent += request.wfile.write(b" " * 1024**2)

    with serving(answer) as url, pytest.raises(SourceError, match="is not S3's"):
        once(url, "s3://b/org/")
    assert sent < 64 * 1024**2


def test_an_answer_that_breaks_off_is_no_answer(signed_in: None) -> None:
    def answer(request: Request) -> None:
        request.head(200, Transfer_Encoding="chunked", Connection="close")
        request.wfile.write(b"40\r\n<ListBucketResult>")
        request.close_connection = True

    with serving(answer) as url, pytest.raises(SourceUnreachableError, match="no answer"):
        once(url, "s3://b/org/")


def test_a_role_gives_its_credentials_by_the_address_that_a_container_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    role = {"AccessKeyId": KEY, "SecretAccessKey": SECRET, "Token": "t", "Expiration": "2999-01-01T00:00:00Z"}
    with (
        bucket_server(tmp_path, f"{KEY},{SECRET}") as bucket,
        serving(lambda request: request.send(json.dumps(role).encode(), Content_Type="application/json")) as url,
    ):
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{url}/credentials")
        assert [found.path for found in listed(bucket.url, "s3://models/org/m/")] == ["config.json", "onnx/model.onnx"]


def test_a_profile_names_its_endpoint_and_messages_name_it_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws" / "credentials").write_text(
        f"[team]\naws_access_key_id = {KEY}\naws_secret_access_key = {SECRET}\n"
    )
    monkeypatch.setenv("AWS_PROFILE", "team")
    with bucket_server(tmp_path, f"{KEY},{SECRET}") as bucket:
        (tmp_path / ".aws" / "config").write_text(f"[profile team]\nendpoint_url = {bucket.url}\n")
        assert len(once(None, "s3://models/org/m/")) == 2
        with pytest.raises(SourceNotFoundError, match=bucket.url.removeprefix("http://")):
            once(None, "s3://nothere/x")


@dataclass
class Checked:
    """A bucket that keeps checksums: objects by key; what its listing and its answers to HEAD say of each."""

    objects: dict[str, bytes]
    composite: frozenset[str] = frozenset()
    closed: frozenset[str] = frozenset()
    lies: dict[str, str] = field(default_factory=dict)
    """By key, an ETag that is no longer that of the listing."""
    heads: list[str] = field(default_factory=list)
    at_once: int = 0
    _now: int = 0
    _guard: Lock = field(default_factory=Lock)

    def answer(self, request: Request) -> None:
        parts = urlsplit(request.path)
        if "list-type" in parse_qs(parts.query, keep_blank_values=True):
            rows = "".join(self._row(key) for key in sorted(self.objects))
            request.send(f"<ListBucketResult>{rows}</ListBucketResult>".encode())
            return
        key = unquote(parts.path).removeprefix("/b/")
        if request.command == "HEAD":
            self._head(request, key)
        else:
            request.send(self.objects[key], ETag=f'"{key}"')

    def _row(self, key: str) -> str:
        kind = "COMPOSITE" if key in self.composite else "FULL_OBJECT"
        said = f"<ChecksumAlgorithm>SHA256</ChecksumAlgorithm><ChecksumType>{kind}</ChecksumType>"
        named = f'<Key>{key}</Key><ETag>"{key}"</ETag><Size>{len(self.objects[key])}</Size>'
        return f"<Contents>{named}{said if key.endswith('.bin') else ''}</Contents>"

    def _head(self, request: Request, key: str) -> None:
        with self._guard:
            self.heads.append(key)
            self._now += 1
            self.at_once = max(self.at_once, self._now)
        time.sleep(0.01)
        if key in self.closed:
            request.send(b"", status=403)
        else:
            raw = Digest.of(self.objects[key]).raw
            text = base64.b64encode(raw).decode() + ("-2" if key in self.composite else "")
            etag = self.lies.get(key, f'"{key}"')
            request.send(self.objects[key], ETag=etag, x_amz_checksum_sha256=text)
        with self._guard:
            self._now -= 1


def test_the_digests_that_a_bucket_keeps_are_asked_for_and_only_those(signed_in: None) -> None:
    objects = {f"org/{number:02}.bin": b"%d" % number for number in range(30)}
    bucket = Checked({**objects, "org/readme.txt": b"text"}, composite=frozenset({"org/03.bin"}))
    with serving(bucket.answer) as url:
        found = {f"org/{each.path}": each.digest for each in listed(url, "s3://b/org/")}
    assert found == {
        key: None if key in {"org/03.bin", "org/readme.txt"} else Digest.of(content)
        for key, content in bucket.objects.items()
    }
    assert set(bucket.heads) == set(objects) - {"org/03.bin"} | {"org/00.bin"}
    assert 1 < bucket.at_once <= 8


RAW = base64.b64encode(Digest.of(b"a").raw).decode()


@pytest.mark.parametrize(
    ("headers", "is_known"),
    [
        ({"x_amz_checksum_sha256": RAW}, True),
        ({"x_amz_checksum_sha256": RAW, "x_amz_checksum_type": "FULL_OBJECT"}, True),
        ({"x_amz_checksum_sha256": RAW, "x_amz_checksum_type": "COMPOSITE"}, False),
        ({"x_amz_checksum_sha256": f"{RAW}-2"}, False),
        ({"x_amz_checksum_sha256": RAW[:-8]}, False),
        ({"x_amz_checksum_sha256": "no base64!"}, False),
        ({"x_amz_checksum_crc64nvme": "AAAAAAAAAAA="}, False),
    ],
)
def test_a_checksum_is_a_digest_only_if_it_is_of_the_whole_object(
    signed_in: None, headers: dict[str, str], is_known: bool
) -> None:
    with serving(lambda request: request.send(b"a", ETag="e", **headers)) as url:
        (found,) = listed(url, "s3://b/m.bin")
    assert found.digest == (Digest.of(b"a") if is_known else None)


def test_what_is_locked_is_asked_for_once_and_not_once_for_each_file(tmp_path: Path, signed_in: None) -> None:
    bucket = Checked({f"org/{name}.txt": name.encode() for name in "abcde"})
    manifest = parse({"name": "line", "models": [{"id": "org/m", "source": "s3://b/org/"}]})
    with serving(bucket.answer) as url:
        with Store.open(tmp_path / "store") as store:
            lock = resolve(
                manifest, base=Path(), store=store, settings=of(url, store.path), previous=None, upgrade=False,
                reporter=Silent(),
            )  # fmt: skip
        bucket.heads.clear()
        with Store.open(tmp_path / "empty") as store:
            settings = of(url, store.path, threads=1)
            fetch_locked(lock, base=Path(), store=store, settings=settings, reporter=Silent())
            assert all(store.find(file.digest) for _, file in lock.files())
    assert len(bucket.heads) == 1


def test_a_lock_of_a_bucket_that_keeps_digests_fetches_no_object(tmp_path: Path, signed_in: None) -> None:
    bucket = Checked({"org/a.bin": b"a", "org/b.bin": b"b"})
    gets: list[str] = []

    def answer(request: Request) -> None:
        gets.extend([request.path] if request.command == "GET" and "list-type" not in request.path else [])
        bucket.answer(request)

    manifest = parse({"name": "line", "models": [{"id": "org/m", "source": "s3://b/org/"}]})
    with serving(answer) as url, Store.open(tmp_path / "store") as store:
        lock = resolve(
            manifest, base=Path(), store=store, settings=of(url, store.path), previous=None, upgrade=False,
            reporter=Silent(),
        )  # fmt: skip
    assert [file.digest for _, file in lock.files()] == [Digest.of(b"a"), Digest.of(b"b")]
    assert gets == []


def test_a_digest_is_not_that_of_an_object_that_changed_since_it_was_listed(signed_in: None) -> None:
    bucket = Checked({"org/a.bin": b"a", "org/b.bin": b"b"}, lies={"org/b.bin": '"other"'})
    with serving(bucket.answer) as url:
        assert [found.digest for found in listed(url, "s3://b/org/")] == [Digest.of(b"a"), None]


def test_an_object_that_may_not_be_looked_at_has_no_digest_and_its_neighbours_do(signed_in: None) -> None:
    bucket = Checked({"org/a.bin": b"a", "org/b.bin": b"b"}, closed=frozenset({"org/b.bin"}))
    with serving(bucket.answer) as url:
        assert [found.digest for found in listed(url, "s3://b/org/")] == [Digest.of(b"a"), None]


@pytest.mark.parametrize("key", ["org//b.txt", "org/./b.txt", "org/../b.txt", "org/x\\b.txt", "org/con/x.txt"])
def test_a_key_that_no_path_can_be_is_named_and_may_be_left_out(tmp_path: Path, signed_in: None, key: str) -> None:
    bucket = Checked({"org/a.txt": b"a", key: b"b"})

    def lock(**more: object) -> list[str]:
        manifest = parse({"name": "line", "models": [{"id": "org/m", "source": "s3://b/org/", **more}]})
        with serving(bucket.answer) as url, Store.open(tmp_path / "store") as store:
            made = resolve(
                manifest, base=Path(), store=store, settings=of(url, store.path), previous=None, upgrade=False,
                reporter=Silent(),
            )  # fmt: skip
        return [file.path for _, file in made.files()]

    with pytest.raises(NamingError) as caught:
        lock()
    assert key.removeprefix("org/").rpartition("\\")[2] in str(caught.value)
    assert lock(include=["a.txt"]) == ["a.txt"]


@pytest.mark.parametrize("text", ["s3://b/a/../b", "s3://b/./b", "s3://b/.."])
def test_a_part_that_a_url_would_lose_is_refused(text: str) -> None:
    with pytest.raises(ManifestError, match="which a URL cannot keep"):
        listed("http://127.0.0.1:1", text)


LINE = "name: line\nmodels:\n  - {id: org/m, source: s3://models/org/m/}\n  - {id: x/y, source: s3://models/%s}\n"


@pytest.mark.parametrize(("key", "code"), [("single.bin", 0), ("gone.bin", 21)])
def test_no_secret_and_no_signature_is_written_or_said(tmp_path: Path, key: str, code: int) -> None:
    folder = tmp_path / "work"
    folder.mkdir()
    (folder / "line.yaml").write_text(LINE % key)
    with bucket_server(tmp_path, f"{KEY},{SECRET}") as bucket:
        variables = {
            "HOME": str(folder), "BUNDLE_STORE": str(folder / "store"), "AWS_ENDPOINT_URL": bucket.url,
            "AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET,
        }  # fmt: skip
        command = [sys.executable, "-m", "bundler", "lock", "line.yaml", "--json"]
        ran = subprocess.run(
            command, cwd=folder, env={**os.environ, **variables}, capture_output=True, text=True, check=False
        )
    assert ran.returncode == code, ran.stderr
    written = b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
    said = (ran.stdout + ran.stderr).encode() + written
    assert code or b"s3://models/single.bin" in written
    assert not any(word in said for word in (b"X-Amz", SECRET.encode(), KEY.encode()))


def test_a_lock_that_was_killed_goes_on_where_it_ended(tmp_path: Path) -> None:
    content = random.Random(7).randbytes(6_000_000)
    folder = tmp_path / "work"
    folder.mkdir()
    (folder / "line.yaml").write_text("name: line\nmodels: [{id: org/m, source: s3://models/org/m/}]\n")
    with (
        bucket_server(tmp_path, f"{KEY},{SECRET}", files={"org/m/weights.bin": content}) as bucket,
        slow_proxy(*bucket.address, rate=4e6) as proxy,
    ):
        variables = {
            "HOME": str(folder), "BUNDLE_STORE": str(folder / "store"), "AWS_ENDPOINT_URL": proxy.url,
            "AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET,
        }  # fmt: skip
        command = [sys.executable, "-m", "bundler", "lock", "line.yaml", "-q"]
        with subprocess.Popen(command, cwd=folder, env={**os.environ, **variables}) as process:
            while proxy.sent < len(content) // 2 and process.poll() is None:
                time.sleep(0.01)
            process.kill()
        assert not (folder / "line.lock.json").exists()
        subprocess.run(command, cwd=folder, env={**os.environ, **variables}, check=True)
        assert proxy.sent < 1.5 * len(content)
    lock = json.loads((folder / "line.lock.json").read_text())
    assert lock["models"][0]["packages"][0]["files"][0]["sha256"] == Digest.of(content).hex
