"""Objects of an S3 server: a real one, with keys and without; and what its client is told of versions and regions."""

import json
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from bucket_server import FILES, KEY, SECRET, Bucket, bucket_server, forget_credentials, listed, of, set_credentials
from bundler.fetch import Request as Download
from bundler.fetch import download
from bundler.http import Client
from bundler.resolve import fetch_locked, resolve
from bundler.settings import Settings
from bundler.sources.base import Found, Remote
from bundler.sources.reference import Reference
from bundler.sources.s3 import BucketSource, buckets
from loopback import Request, hasty, serving
from manifests.digest import Digest
from manifests.errors import (
    BundleError,
    ManifestError,
    SourceDeniedError,
    SourceError,
    SourceNotFoundError,
    SourceUnreachableError,
)  # fmt: skip
from manifests.lock import Lock
from manifests.manifest import parse
from manifests.progress import Silent
from manifests.store import Store


@pytest.fixture(autouse=True)
def _nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forget_credentials(tmp_path, monkeypatch)


@pytest.fixture
def signed_in(monkeypatch: pytest.MonkeyPatch) -> None:
    set_credentials(monkeypatch)


@pytest.fixture
def bucket(tmp_path: Path, signed_in: None) -> Iterator[Bucket]:
    with bucket_server(tmp_path, f"{KEY},{SECRET}") as running:
        yield running


def fetched(found: Found, folder: Path) -> bytes:
    assert isinstance(found.place, Remote)
    with Client(hasty(folder)) as client:
        done = download(client, Download(found.place.url, folder / "part", found.path), Silent())
        done.claim.release()
    return done.path.read_bytes()


@pytest.mark.parametrize("text", ["s3://models/org/m/", "s3://models/org/m"])
def test_a_prefix_is_every_object_below_it(bucket: Bucket, tmp_path: Path, text: str) -> None:
    config, model = listed(bucket.url, text)
    assert (config.path, model.path) == ("config.json", "onnx/model.onnx")
    assert str(model.reference) == "s3://models/org/m/onnx/model.onnx"
    assert model.size == 7000
    assert fetched(model, tmp_path) == FILES["org/m/onnx/model.onnx"]


def test_a_whole_bucket_is_a_prefix_too(bucket: Bucket) -> None:
    assert [found.path for found in listed(bucket.url, "s3://models")] == sorted(FILES)


@pytest.mark.parametrize("text", ["s3://models/single.bin", "s3://models/a %231%21.bin"])
def test_a_key_is_one_object_whatever_its_name(bucket: Bucket, tmp_path: Path, text: str) -> None:
    (found,) = listed(bucket.url, text)
    again = BucketSource(of(bucket.url)).find(Reference.parse(text, Path()), {})
    assert found.path == again.path
    assert set(found.pin) == {"etag"}
    assert fetched(found, tmp_path) == FILES[found.path]


def test_a_listing_of_many_pages_is_whole_and_one_without_end_is_refused(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = bucket.folder / "many"
    folder.mkdir()
    for number in range(1203):
        (folder / f"{number:04}.bin").write_bytes(b"")
    assert len(listed(bucket.url, "s3://models/many/")) == 1203
    monkeypatch.setattr(buckets, "MAXIMUM_OBJECTS", 1100)
    with pytest.raises(SourceError, match="more than 1100 objects"):
        listed(bucket.url, "s3://models/many/")


def test_a_public_bucket_needs_no_credentials(tmp_path: Path) -> None:
    with bucket_server(tmp_path) as bucket:
        (found,) = listed(bucket.url, "s3://models/single.bin")
        assert isinstance(found.place, Remote)
        assert "X-Amz" not in found.place.url
        assert fetched(found, tmp_path) == b"one"


@pytest.mark.parametrize(
    ("text", "family", "words", "way_out"),
    [
        ("s3://nothere/x", SourceNotFoundError, "has no bucket nothere", ""),
        ("s3://nothere/x/", SourceNotFoundError, "has no bucket nothere", ""),
        ("s3://models/gone.bin", SourceNotFoundError, "has nothing there", "single.bin"),
        ("s3://models/org/x/", SourceNotFoundError, "has nothing there", "org/m/config.json"),
        ("s3://models/no/where/", SourceNotFoundError, "has nothing there", "nothing is below no"),
        ("s3:///x", ManifestError, "names no bucket", "s3://BUCKET/KEY"),
        ("s3://models//org/m", ManifestError, "an empty name between two slashes", "one slash each"),
        ("s3://models//", ManifestError, "an empty name between two slashes", "one slash each"),
        ("s3://models/org//m/", ManifestError, "an empty name between two slashes", "one slash each"),
        ("s3://UPPER CASE/x", ManifestError, "cannot be the name of a bucket", ""),
    ],
)
def test_what_is_not_there_is_said_with_what_is(
    bucket: Bucket, text: str, family: type[BundleError], words: str, way_out: str
) -> None:
    with pytest.raises(family, match=words) as caught:
        listed(bucket.url, text)
    assert way_out in caught.value.hint


def test_a_prefix_is_no_file_and_a_missing_file_names_its_neighbours(bucket: Bucket) -> None:
    source = BucketSource(of(bucket.url))
    with pytest.raises(ManifestError, match="a file is asked for"):
        source.find(Reference.parse("s3://models/org/", Path()), {})
    with pytest.raises(SourceNotFoundError, match="no such object") as caught:
        source.find(Reference.parse("s3://models/org/m/confg.json", Path()), {})
    assert "org/m/config.json" in caught.value.hint


@pytest.mark.parametrize(
    ("environ", "way_out"),
    [
        ({}, "no credentials were found"),
        ({"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": "hush-wrong"}, "AWS_PROFILE"),
        ({"AWS_ACCESS_KEY_ID": "AKIDOTHER", "AWS_SECRET_ACCESS_KEY": SECRET}, "AWS_PROFILE"),
        ({"AWS_ACCESS_KEY_ID": KEY}, "AWS_SECRET_ACCESS_KEY"),
        ({"AWS_PROFILE": "nobody"}, "AWS_PROFILE"),
    ],
)
def test_without_the_right_keys_the_bucket_is_closed_and_no_secret_is_told(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch, environ: dict[str, str], way_out: str
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SourceDeniedError) as caught:
        listed(bucket.url, "s3://models/single.bin")
    assert way_out in caught.value.hint
    assert not any(secret in f"{caught.value} {caught.value.hint}" for secret in (SECRET, "hush"))


def test_the_credentials_of_a_profile_are_found(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws" / "credentials").write_text(
        f"[team]\naws_access_key_id = {KEY}\naws_secret_access_key = {SECRET}\n"
    )
    monkeypatch.setenv("AWS_PROFILE", "team")
    assert len(listed(bucket.url, "s3://models/org/m/")) == 2


def test_an_endpoint_that_does_not_answer_is_unreachable(signed_in: None) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with pytest.raises(SourceUnreachableError, match=f"no answer from 127.0.0.1:{port}"):
        listed(f"http://127.0.0.1:{port}", "s3://models/x")


def test_the_signature_is_in_no_text(bucket: Bucket) -> None:
    (found,) = listed(bucket.url, "s3://models/single.bin")
    assert isinstance(found.place, Remote)
    assert "X-Amz-Signature" in found.place.url
    for text in (repr(found), repr(found.place), found.key, str(found.reference), str(dict(found.pin))):
        assert "X-Amz" not in text
        assert SECRET not in text


def locked(bucket: Bucket, store: Store, source: str, previous: Lock | None = None, *, upgrade: bool = False) -> Lock:
    manifest = parse({"name": "line", "models": [{"id": "org/m", "source": source}]})
    return resolve(
        manifest, base=Path(), store=store, settings=of(bucket.url, store.path), previous=previous, upgrade=upgrade,
        reporter=Silent(),
    )  # fmt: skip


@pytest.mark.parametrize("source", ["s3://models/org/m/", "s3://models/org/m", "s3://models/single.bin"])
def test_a_lock_is_stable_stays_until_an_upgrade_and_then_moves(bucket: Bucket, tmp_path: Path, source: str) -> None:
    with Store.open(tmp_path / "store") as store:
        first = locked(bucket, store, source)
        assert locked(bucket, store, source, first) == first
        assert locked(bucket, store, source) == first
        (bucket.folder / "single.bin").write_bytes(b"two")
        (bucket.folder / "org/m/config.json").write_bytes(b"[]")
        assert locked(bucket, store, source, first) == first
        moved = locked(bucket, store, source, first, upgrade=True)
    assert moved.sequence == 2
    assert "X-Amz" not in json.dumps(str(first))
    text = str(first) + bucket.log.read_text()
    assert SECRET not in text


def test_an_empty_store_is_filled_from_the_lock_and_a_changed_object_is_noticed(bucket: Bucket, tmp_path: Path) -> None:
    with Store.open(tmp_path / "store") as store:
        lock = locked(bucket, store, "s3://models/org/m")
    with Store.open(tmp_path / "other") as store:
        fetch_locked(lock, base=Path(), store=store, settings=of(bucket.url, store.path), reporter=Silent())
        assert store.find(Digest.of(FILES["org/m/onnx/model.onnx"]))
    (bucket.folder / "org/m/config.json").write_bytes(b"[]")
    with Store.open(tmp_path / "third") as store, pytest.raises(SourceError, match=r"config\.json: expected sha256"):
        fetch_locked(lock, base=Path(), store=store, settings=of(bucket.url, store.path), reporter=Silent())


@dataclass
class Versioned:
    """A bucket that keeps versions, as its protocol shows it: one key, its versions oldest first."""

    versions: list[bytes]
    region: str = ""
    listing_allowed: bool = True
    asked: list[str] = field(default_factory=list)

    def answer(self, request: Request) -> None:
        parts = urlsplit(request.path)
        query = parse_qs(parts.query, keep_blank_values=True)
        self.asked.append(f"{request.path} {request.headers.get('Authorization', '')}")
        headers = {"x_amz_bucket_region": self.region} if self.region else {}
        if "list-type" in query or "versions" in query:
            self._list(request, versions="versions" in query, **headers)
            return
        number = int(query["versionId"][0].removeprefix("v")) if "versionId" in query else len(self.versions) - 1
        if not unquote(parts.path).endswith("/org/m.bin") or number >= len(self.versions):
            request.send(b"", status=404, **headers)
            return
        content = self.versions[number]
        request.send(content, ETag=f'"e{number}"', x_amz_version_id=f"v{number}", **headers)

    def _list(self, request: Request, *, versions: bool, **headers: str) -> None:
        if versions and not self.listing_allowed:
            request.send(b"<Error><Code>AccessDenied</Code></Error>", status=403)
            return
        last = len(self.versions) - 1
        if versions:
            rows = "".join(
                f"<Version><Key>org/m.bin</Key><VersionId>v{n}</VersionId><IsLatest>{str(n == last).lower()}</IsLatest>"
                f'<ETag>"e{n}"</ETag><Size>{len(content)}</Size></Version>'
                for n, content in enumerate(self.versions)
            )
            request.send(f"<ListVersionsResult>{rows}</ListVersionsResult>".encode(), **headers)
            return
        row = f'<Contents><Key>org/m.bin</Key><ETag>"e{last}"</ETag><Size>{len(self.versions[-1])}</Size></Contents>'
        request.send(f"<ListBucketResult>{row}</ListBucketResult>".encode(), **headers)


@pytest.mark.parametrize("source", ["s3://b/org/m.bin", "s3://b/org/"])
def test_where_versions_are_kept_the_locked_one_is_fetched(tmp_path: Path, signed_in: None, source: str) -> None:
    kept = Versioned([b"old", b"first"])
    with serving(kept.answer) as url:
        bucket = Bucket(url, tmp_path, tmp_path / "log")
        with Store.open(tmp_path / "store") as store:
            lock = locked(bucket, store, source)
        (file,) = lock.models[0].packages[0].files
        assert file.pin == {"etag": '"e1"', "version-id": "v1"}
        kept.versions.append(b"newer")
        with Store.open(tmp_path / "other") as store:
            fetch_locked(lock, base=Path(), store=store, settings=of(url, store.path), reporter=Silent())
            assert store.find(Digest.of(b"first"))


def test_where_versions_may_not_be_listed_the_etag_is_the_pin(tmp_path: Path, signed_in: None) -> None:
    kept = Versioned([b"first"], listing_allowed=False)
    with serving(kept.answer) as url:
        (found,) = listed(url, "s3://b/org/")
    assert found.pin == {"etag": '"e0"'}


def test_a_url_is_signed_for_the_region_that_the_bucket_names(tmp_path: Path, signed_in: None) -> None:
    with serving(Versioned([b"first"], region="eu-north-1").answer) as url:
        (found,) = listed(url, "s3://b/org/m.bin")
    assert isinstance(found.place, Remote)
    assert "eu-north-1" in found.place.url


@pytest.mark.parametrize("name", ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"])
def test_the_endpoint_is_where_the_environment_says(tmp_path: Path, name: str) -> None:
    environ = {"HOME": str(tmp_path), "PIP_CONFIG_FILE": os.devnull}
    assert Settings.read(environ).buckets.endpoint is None
    assert Settings.read({**environ, name: "http://127.0.0.1:9000/"}).buckets.endpoint == "http://127.0.0.1:9000"
    with pytest.raises(SourceError, match=name) as caught:
        Settings.read({**environ, name: "http://user:hush@[x"})
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize("name", ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"])
@pytest.mark.parametrize("user", ["user:hush@", "hush@", "@"])
def test_an_endpoint_with_a_password_is_refused_and_not_quoted(tmp_path: Path, name: str, user: str) -> None:
    environ = {"HOME": str(tmp_path), "PIP_CONFIG_FILE": os.devnull, name: f"http://{user}127.0.0.1:9000"}
    with pytest.raises(SourceError, match=f"{name}: .* no user or password") as caught:
        Settings.read(environ)
    assert "AWS_ACCESS_KEY_ID" in caught.value.hint
    assert "hush" not in f"{caught.value} {caught.value.hint}"


ROW = "<Contents><Key>org/m.bin</Key><ETag>e</ETag><Size>3</Size></Contents>"
TRUNCATED = "<IsTruncated>true</IsTruncated>"
NOT_ITS = "is not S3's"


def listing_of(rows: str, root: str = "ListBucketResult") -> str:
    return f"<{root}>{rows}</{root}>"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        pytest.param(listing_of("<Contents><Size>3</Size></Contents>"), NOT_ITS, id="no key"),
        pytest.param(listing_of("<Contents><Key></Key><Size>3</Size></Contents>"), NOT_ITS, id="an empty key"),
        pytest.param(listing_of("<Contents><Key>org/x</Key><Size>abc</Size></Contents>"), NOT_ITS, id="size"),
        pytest.param(listing_of(ROW.replace("<Size>", "<LastModified>never</LastModified><Size>")), NOT_ITS, id="time"),
        pytest.param(listing_of("<Contents><Key>a</Key><Key>b</Key></Contents>"), NOT_ITS, id="two keys"),
        pytest.param(listing_of("<Contents><Key>org/x</Key></Contents>"), "gives no size", id="no size"),
        pytest.param(listing_of(ROW)[:-9], NOT_ITS, id="broken off"),
        pytest.param("garbage", NOT_ITS, id="garbage"),
        pytest.param("", NOT_ITS, id="nothing"),
        pytest.param(listing_of(ROW + " " * 17 * 1024**2), NOT_ITS, id="too long"),
        pytest.param("<!DOCTYPE html><html><body><br>Log in</body></html>", NOT_ITS, id="a login page"),
        pytest.param("<html><body>Log in</body></html>", NOT_ITS, id="a login page that is XML"),
        pytest.param(listing_of(ROW + TRUNCATED), "breaks off", id="more, and no token"),
    ],
)
def test_an_answer_that_is_not_s3_is_told_as_that(signed_in: None, body: str, words: str) -> None:
    with serving(lambda request: request.send(body.encode())) as url, pytest.raises(SourceError, match=words) as caught:
        listed(url, "s3://b/org/")
    assert "500" not in str(caught.value)
    assert "try again" not in caught.value.hint


def test_a_login_page_is_no_object(signed_in: None) -> None:
    with (
        serving(lambda request: request.send(b"<html>Log in</html>", Content_Type="text/html")) as url,
        pytest.raises(SourceError, match=NOT_ITS),
    ):
        listed(url, "s3://b/org/m.bin")


def test_an_error_inside_an_answer_of_200_is_still_one_to_try_again(signed_in: None) -> None:
    body = b"<Error><Code>InternalError</Code></Error>"
    with (
        serving(lambda request: request.send(body)) as url,
        pytest.raises(SourceUnreachableError, match="InternalError") as caught,
    ):
        listed(url, "s3://b/org/")
    assert "try again" in caught.value.hint


@pytest.mark.parametrize(("repeats", "most"), [(True, 2), (False, 20)])
def test_a_listing_of_empty_pages_ends(
    signed_in: None, monkeypatch: pytest.MonkeyPatch, repeats: bool, most: int
) -> None:
    monkeypatch.setattr(buckets, "MAXIMUM_PAGES", 20)
    asked: list[str] = []

    def answer(request: Request) -> None:
        asked.append(request.path)
        token = 1 if repeats else len(asked)
        request.send(listing_of(f"{TRUNCATED}<NextContinuationToken>t{token}</NextContinuationToken>").encode())

    with serving(answer) as url, pytest.raises(SourceError, match="does not end"):
        listed(url, "s3://b/org/")
    assert len(asked) == most


def test_a_listing_of_versions_that_breaks_off_is_not_taken_for_whole(signed_in: None) -> None:
    row = "<Version><Key>org/m.bin</Key><VersionId>v1</VersionId><IsLatest>true</IsLatest><Size>3</Size></Version>"

    def answer(request: Request) -> None:
        if "versions" in parse_qs(urlsplit(request.path).query, keep_blank_values=True):
            request.send(listing_of(row + TRUNCATED, "ListVersionsResult").encode())
        elif "list-type" in request.path:
            request.send(listing_of(ROW).encode())
        else:
            request.send(b"abc", ETag="e", x_amz_version_id="v1")

    with serving(answer) as url, pytest.raises(SourceError, match="breaks off"):
        listed(url, "s3://b/org/")
