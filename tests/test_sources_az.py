"""Blobs of Azure's storage: a real server of it, with key, SAS and neither; and what its client is told of versions."""

import hashlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from azurite_server import ACCOUNT, FILES, KEY, Storage, azurite_server
from bundler import initialise
from bundler.fetch import Request as Download
from bundler.fetch import download
from bundler.http import Client
from bundler.resolve import fetch_locked, resolve
from bundler.settings import Azure, Settings
from bundler.sources import az, azure_account
from bundler.sources.az import BlobSource
from bundler.sources.base import Found, Remote
from bundler.sources.reference import Reference
from loopback import Request, hasty, serving
from manifests.digest import Digest
from manifests.errors import (
    BundleError,
    DigestMismatchError,
    ManifestError,
    MissingExtraError,
    SourceDeniedError,
    SourceError,
    SourceNotFoundError,
    SourceUnreachableError,
)  # fmt: skip
from manifests.lock import Lock
from manifests.manifest import parse
from manifests.progress import Silent
from manifests.store import Store
from slow_proxy import Proxy, slow_proxy
from tls_server import Authority, answering

OTHER_KEY = "aHVzaC13cm9uZy1rZXktb2YtYW5vdGhlci1hY2NvdW50"
ODD = ("a b.bin", "50%.bin", "#1.bin", "wow!.bin", "größe-模型.bin", "%23.bin", "a+b&c=d?.bin", "it's (1)~.bin")


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Storage]:
    """One server for all; a test that changes something has a container of its own."""
    with azurite_server(tmp_path_factory.mktemp("azurite")) as running:
        yield running


@pytest.fixture
def container(storage: Storage, request: pytest.FixtureRequest) -> str:
    """An empty container, private."""
    name = f"c{abs(hash(request.node.nodeid)):x}"
    storage.service.create_container(name)
    return name


def of(connection_string: str, store: Path = Path("unused"), **changes: object) -> Settings:
    return hasty(store, azure=Azure(connection_string=connection_string), **changes)


def listed(settings: Settings | str, text: str, **pin: str) -> tuple[Found, ...]:
    settings = of(settings) if isinstance(settings, str) else settings
    with Client(settings) as client:
        return BlobSource(settings, client).list(Reference.parse(text, Path()), pin)


def found(settings: Settings | str, text: str, **pin: str) -> Found:
    settings = of(settings) if isinstance(settings, str) else settings
    with Client(settings) as client:
        return BlobSource(settings, client).find(Reference.parse(text, Path()), pin)


def url_of(file: Found) -> str:
    assert isinstance(file.place, Remote)
    return file.place.url


def fetched(file: Found, folder: Path) -> bytes:
    with Client(hasty(folder)) as client:
        done = download(client, Download(url_of(file), folder / "part", file.path), Silent())
        done.claim.release()
    return done.path.read_bytes()


@pytest.mark.parametrize("text", ["az://models/org/m/", "az://models/org/m"])
def test_a_prefix_is_every_blob_below_it(storage: Storage, tmp_path: Path, text: str) -> None:
    config, model = listed(storage.by_key, text)
    assert (config.path, model.path) == ("config.json", "onnx/model.onnx")
    assert str(model.reference) == "az://models/org/m/onnx/model.onnx"
    assert model.size == 7000
    assert set(model.pin) == {"etag"}
    assert fetched(model, tmp_path) == FILES["org/m/onnx/model.onnx"]


def test_a_whole_container_is_a_prefix_too(storage: Storage) -> None:
    assert [file.path for file in listed(storage.by_key, "az://models")] == sorted(FILES)


def test_a_blob_wins_over_a_prefix_of_its_name(storage: Storage, container: str) -> None:
    storage.put({"m": b"blob", "m/x": b"below"}, container)
    assert [file.path for file in listed(storage.by_key, f"az://{container}/m")] == ["m"]
    assert [file.path for file in listed(storage.by_key, f"az://{container}/m/")] == ["x"]


@pytest.mark.parametrize("text", ["az://models/single.bin", "az://models/a %231%21.bin"])
def test_one_blob_is_found_alike_alone_and_in_a_listing(storage: Storage, tmp_path: Path, text: str) -> None:
    (one,) = listed(storage.by_key, text)
    again = found(storage.by_key, text)
    assert (one.path, one.pin, one.size) == (again.path, again.pin, again.size)
    everything = {file.path: file for file in listed(storage.by_key, "az://models")}
    assert everything[one.path].pin == one.pin
    assert fetched(one, tmp_path) == FILES[one.path]


def test_the_pin_of_a_blob_is_what_its_download_says_too(storage: Storage, tmp_path: Path) -> None:
    file = found(storage.by_key, "az://models/single.bin")
    with Client(hasty(tmp_path)) as client:
        done = download(client, Download(url_of(file), tmp_path / "part", file.path), Silent())
        done.claim.release()
    assert done.version.pin["etag"] == file.pin["etag"]


def test_the_md5_that_an_upload_left_is_known_alone_and_in_a_listing(storage: Storage) -> None:
    expected = hashlib.md5(b"one").digest()
    assert found(storage.by_key, "az://models/single.bin").md5 == expected
    assert {file.path: file for file in listed(storage.by_key, "az://models")}["single.bin"].md5 == expected


@pytest.mark.parametrize("way", ["key", "sas", "public"])
def test_a_name_may_be_any(storage: Storage, container: str, tmp_path: Path, way: str) -> None:
    storage.put({f"d/{name}": name.encode() for name in ODD}, container)
    if way == "public":
        storage.service.get_container_client(container).set_container_access_policy({}, public_access="container")
    sas = storage.by_sas(storage.sas(container=container))
    string = {"key": storage.by_key, "sas": sas, "public": storage.anonymous}[way]
    files = listed(string, f"az://{container}/d/")
    assert [file.path for file in files] == sorted(ODD)
    for number, file in enumerate(files):
        folder = tmp_path / str(number)
        folder.mkdir()
        assert fetched(file, folder) == file.path.encode()
        assert found(string, str(file.reference)).path == file.path


def test_a_listing_of_many_pages_is_whole_and_one_without_end_is_refused(
    storage: Storage, container: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage.put({f"many/{number:04}.bin": b"" for number in range(200)}, container)
    monkeypatch.setattr(az, "_PAGE", 30)
    assert len(listed(storage.by_key, f"az://{container}/many/")) == 200
    monkeypatch.setattr(az, "MAXIMUM_BLOBS", 100)
    with pytest.raises(SourceError, match="more than 100 blobs"):
        listed(storage.by_key, f"az://{container}/many/")


def test_what_stands_for_a_folder_is_no_blob(storage: Storage, container: str) -> None:
    storage.put({"m": b"", "m/sub": b""}, container, metadata={"hdi_isfolder": "true"})
    storage.put({"m/x": b"x", "m/sub/y": b"y", "m/empty/": b""}, container)
    assert [file.path for file in listed(storage.by_key, f"az://{container}/m")] == ["sub/y", "x"]
    with pytest.raises(SourceNotFoundError, match="no such blob"):
        found(storage.by_key, f"az://{container}/m")


@pytest.mark.parametrize("public_access", ["container", "blob"])
def test_a_public_container_needs_no_credentials(
    storage: Storage, container: str, tmp_path: Path, public_access: str
) -> None:
    storage.put({"x.bin": b"open"}, container)
    storage.service.get_container_client(container).set_container_access_policy({}, public_access=public_access)
    file = found(storage.anonymous, f"az://{container}/x.bin")
    assert "?" not in url_of(file)
    assert fetched(file, tmp_path) == b"open"


def test_a_sas_goes_on_as_it_is_and_a_key_makes_one_for_the_blob_alone(storage: Storage, tmp_path: Path) -> None:
    token = storage.sas()
    given = parse_qs(urlsplit(url_of(found(storage.by_sas(token), "az://models/single.bin"))).query)
    assert given == parse_qs(token)
    made = url_of(found(storage.by_key, "az://models/single.bin"))
    parameters = parse_qs(urlsplit(made).query)
    assert (parameters["sr"], parameters["sp"]) == (["b"], ["r"])
    elsewhere = made.replace("single.bin", "org/m/config.json")
    with Client(hasty(tmp_path)) as client, pytest.raises(SourceDeniedError) as caught:
        download(client, Download(elsewhere, tmp_path / "part", "x"), Silent())
    assert "sig" not in str(caught.value)


def test_a_sas_that_may_not_list_is_enough_for_one_blob(storage: Storage, tmp_path: Path) -> None:
    settings = of(storage.by_sas(storage.sas("r")))
    (file,) = listed(settings, "az://models/single.bin")
    assert fetched(file, tmp_path) == b"one"
    with pytest.raises(SourceDeniedError) as caught:
        listed(settings, "az://models/org/")
    assert "sp=rl" in caught.value.hint
    with pytest.raises(SourceNotFoundError, match="no such blob"):
        found(settings, "az://models/gone.bin")


@pytest.mark.parametrize(
    ("text", "family", "words", "way_out"),
    [
        ("az://nothere/x", SourceNotFoundError, "has no container nothere", ""),
        ("az://nothere/x/", SourceNotFoundError, "has no container nothere", ""),
        ("az://models/gone.bin", SourceNotFoundError, "has nothing there", "single.bin"),
        ("az://models/org/x/", SourceNotFoundError, "has nothing there", "org/m/config.json"),
        ("az://models/no/where/", SourceNotFoundError, "has nothing there", "nothing is below no"),
        ("az:///x", ManifestError, "names no container", "az://CONTAINER/PATH"),
        ("az://models//org/m", ManifestError, "an empty name between two slashes", "one slash each"),
        ("az://models/org//m/", ManifestError, "an empty name between two slashes", "one slash each"),
        ("az://UPPER CASE/x", ManifestError, "cannot be the name of a container", ""),
    ],
)
def test_what_is_not_there_is_said_with_what_is(
    storage: Storage, text: str, family: type[BundleError], words: str, way_out: str
) -> None:
    with pytest.raises(family, match=words) as caught:
        listed(storage.by_key, text)
    assert way_out in caught.value.hint


def test_a_prefix_is_no_file_and_a_missing_file_names_its_neighbours(storage: Storage) -> None:
    with pytest.raises(ManifestError, match="a file is asked for"):
        found(storage.by_key, "az://models/org/")
    with pytest.raises(SourceNotFoundError, match="no such blob") as caught:
        found(storage.by_key, "az://models/org/m/confg.json")
    assert "org/m/config.json" in caught.value.hint


def test_without_the_right_credentials_the_container_is_closed_and_no_secret_is_told(storage: Storage) -> None:
    expired, short = storage.sas(hours=-5), storage.sas()[:-12]
    cases = [
        (storage.anonymous, SourceError, "nothing was signed|to who signs nothing"),
        (storage.by_key.replace(KEY, OTHER_KEY), SourceDeniedError, "is the key this account's"),
        (storage.by_sas(expired), SourceDeniedError, "the SAS expired: it was good until"),
        (storage.by_sas(short), SourceDeniedError, "sp=rl"),
        (storage.by_sas(storage.sas(container="other")), SourceDeniedError, "in this container"),
    ]
    for string, family, way_out in cases:
        for ask in (listed, found):
            with pytest.raises(family) as caught:
                ask(string, "az://models/single.bin")
            assert re.search(way_out, caught.value.hint), (string, caught.value.hint)
            told = f"{caught.value!r} {caught.value} {caught.value.hint} {caught.value.__cause__}"
            assert caught.value.__suppress_context__
            assert not any(secret in told for secret in (KEY, OTHER_KEY, "sig=", expired, short))


@pytest.mark.parametrize(
    ("azure", "family", "words"),
    [
        (Azure(), SourceDeniedError, "no storage account"),
        (Azure(key=KEY), SourceDeniedError, "no storage account"),
        (Azure(account="x.example.org/", key=KEY), SourceError, "AZURE_STORAGE_ACCOUNT is not the name"),
        (Azure(account=ACCOUNT, key="hush hush"), SourceError, "AZURE_STORAGE_KEY: .* not base64"),
        (Azure(account=ACCOUNT, sas_token="hush"), SourceError, "AZURE_STORAGE_SAS_TOKEN: that is no SAS"),
        (Azure(account=ACCOUNT, sas_token="sv=1&sig=hush\n"), SourceError, "that is no SAS"),
        (Azure("hush"), SourceError, "is not a connection string"),
        (Azure(f"AccountKey={KEY};hush=1"), SourceError, "is not a connection string"),
        (Azure(f"AccountName={ACCOUNT};AccountKey=hush."), SourceError, "CONNECTION_STRING: .* not base64"),
        (Azure(f"AccountName={ACCOUNT};SharedAccessSignature=hush"), SourceError, "CONNECTION_STRING"),
        (Azure("BlobEndpoint=ftp://x/hush"), SourceError, "its endpoint is no web address"),
        (Azure("BlobEndpoint=http://user:hush@127.0.0.1:1/x"), SourceError, "its endpoint is no web address"),
        (Azure("BlobEndpoint=http://[hush"), SourceError, "CONNECTION_STRING"),
    ],
)
def test_settings_that_cannot_be_used_are_refused_unasked(azure: Azure, family: type[BundleError], words: str) -> None:
    with pytest.raises(family, match=words) as caught:
        listed(hasty(Path("unused"), azure=azure), "az://models/x")
    told = f"{caught.value} {caught.value.hint} {caught.value.__cause__}"
    assert not any(secret in told for secret in (KEY, "hush"))
    assert caught.value.hint


def test_the_account_is_what_the_environment_says(tmp_path: Path) -> None:
    environ = {"HOME": str(tmp_path), "PIP_CONFIG_FILE": os.devnull}
    assert Settings.read(environ).azure == Azure()
    environ |= {
        "AZURE_STORAGE_CONNECTION_STRING": "a hush",
        "AZURE_STORAGE_ACCOUNT": "b",
        "AZURE_STORAGE_KEY": "c hush",
        "AZURE_STORAGE_SAS_TOKEN": "d hush",
    }
    settings = Settings.read(environ)
    assert settings.azure == Azure("a hush", "b", "c hush", "d hush")
    assert "hush" not in repr(settings)


@pytest.mark.parametrize("azure", [Azure(account="models1", key=KEY), Azure(account="models1", sas_token="?sig=x")])
def test_an_account_that_is_named_is_asked_at_azure_by_https(azure: Azure) -> None:
    service = azure_account._by_names(azure, {})
    assert service.url.startswith("https://models1.blob.core.windows.net/")


def test_an_endpoint_that_does_not_answer_is_unreachable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    string = f"AccountName={ACCOUNT};AccountKey={KEY};BlobEndpoint=http://127.0.0.1:{port}/{ACCOUNT}"
    with pytest.raises(SourceUnreachableError, match=f"no answer from 127.0.0.1:{port}"):
        listed(string, "az://models/x")


def test_offline_nothing_is_asked() -> None:
    asked: list[str] = []
    with serving(lambda request: asked.append(request.path)) as url:
        string = f"AccountName={ACCOUNT};AccountKey={KEY};BlobEndpoint={url}/{ACCOUNT}"
        with pytest.raises(SourceUnreachableError, match="--offline"):
            listed(of(string, offline=True), "az://models/x")
    assert asked == []


def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "azure.storage.blob", None)
    with pytest.raises(MissingExtraError) as caught:
        listed("BlobEndpoint=http://127.0.0.1:1/x", "az://models/x")
    assert "offline-bundle[azure]" in caught.value.hint


def test_the_signature_is_in_no_text(storage: Storage) -> None:
    for string in (storage.by_key, storage.by_sas(storage.sas())):
        (file,) = listed(string, "az://models/single.bin")
        assert "sig=" in url_of(file)
        for text in (repr(file), repr(file.place), file.key, str(file.reference), str(dict(file.pin))):
            assert "sig" not in text


# Locks and builds


def locked(
    settings: Settings, store: Store, source: str, previous: Lock | None = None, *, upgrade: bool = False
) -> Lock:
    manifest = parse({"name": "line", "models": [{"id": "org/m", "source": source}]})
    return resolve(
        manifest, base=Path(), store=store, settings=settings, previous=previous, upgrade=upgrade, reporter=Silent()
    )


@pytest.mark.parametrize("path", ["org/m/", "org/m", "single.bin"])
def test_a_lock_is_stable_stays_until_an_upgrade_and_then_moves(
    storage: Storage, container: str, tmp_path: Path, path: str
) -> None:
    storage.put(FILES, container)
    source = f"az://{container}/{path}"
    with Store.open(tmp_path / "store") as store:
        settings = of(storage.by_key, store.path)
        first = locked(settings, store, source)
        assert locked(settings, store, source, first) == first
        assert locked(settings, store, source) == first
        storage.put({"single.bin": b"two", "org/m/config.json": b"[]"}, container)
        assert locked(settings, store, source, first) == first
        moved = locked(settings, store, source, first, upgrade=True)
    assert moved.sequence == 2
    assert "sig=" not in json.dumps(str(first))


def test_an_empty_store_is_filled_from_the_lock_and_a_changed_blob_is_noticed(
    storage: Storage, container: str, tmp_path: Path
) -> None:
    storage.put(FILES, container)
    with Store.open(tmp_path / "store") as store:
        lock = locked(of(storage.by_key, store.path), store, f"az://{container}/org/m")
    with Store.open(tmp_path / "other") as store:
        settings = of(storage.by_sas(storage.sas(container=container)), store.path)
        fetch_locked(lock, base=Path(), store=store, settings=settings, reporter=Silent())
        assert store.find(Digest.of(FILES["org/m/onnx/model.onnx"]))
    storage.put({"org/m/config.json": b"[]"}, container)
    with Store.open(tmp_path / "third") as store, pytest.raises(SourceError, match=r"config\.json: expected sha256"):
        fetch_locked(lock, base=Path(), store=store, settings=of(storage.by_key, store.path), reporter=Silent())


def test_a_wrong_digest_is_refused(storage: Storage, tmp_path: Path) -> None:
    with Store.open(tmp_path / "store") as store, pytest.raises(DigestMismatchError):
        locked(of(storage.by_key, store.path), store, f"az://models/single.bin#sha256={'0' * 64}")


def test_an_md5_that_the_bytes_do_not_have_is_refused(storage: Storage, container: str, tmp_path: Path) -> None:
    from azure.storage.blob import ContentSettings

    storage.put({"x.bin": b"one"}, container)
    blob = storage.service.get_blob_client(container, "x.bin")
    blob.set_http_headers(ContentSettings(content_md5=bytearray(hashlib.md5(b"two").digest())))
    with Store.open(tmp_path / "store") as store, pytest.raises(DigestMismatchError, match="md5"):
        locked(of(storage.by_key, store.path), store, f"az://{container}/x.bin")


@dataclass
class Desk:
    """A folder with a manifest, and the program run there."""

    folder: Path
    connection_string: str

    def environment(self) -> dict[str, str]:
        outside = {name: value for name, value in os.environ.items() if not name.startswith(("AZURE_", "BUNDLE_"))}
        ours = {"BUNDLE_STORE": str(self.folder / "store"), "AZURE_STORAGE_CONNECTION_STRING": self.connection_string}
        return outside | ours

    def start(self) -> "subprocess.Popen[str]":
        command = [sys.executable, "-m", "bundler", "lock", "line.yaml"]
        return subprocess.Popen(
            command, cwd=self.folder, env=self.environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def lock(self, code: int = 0) -> str:
        started = self.start()
        out, err = started.communicate(timeout=60)
        assert started.returncode == code, out + err
        return out + err


def killed_at(desk: Desk, proxy: Proxy, size: int) -> None:
    """Kill the program once so many bytes came."""
    started = desk.start()
    until = time.monotonic() + 30
    while proxy.sent < size:
        assert started.poll() is None, started.communicate()
        assert time.monotonic() < until
        time.sleep(0.01)
    started.send_signal(signal.SIGKILL)
    started.communicate()


@pytest.mark.parametrize("changed", [False, True])
def test_a_killed_download_goes_on_and_a_changed_blob_starts_over(
    storage: Storage, container: str, tmp_path: Path, *, changed: bool
) -> None:
    size = 6_000_000
    content = os.urandom(size)
    storage.put({"large.bin": content}, container)
    (tmp_path / "line.yaml").write_text(
        f"name: line\nmodels:\n  - id: org/m\n    files: {{weights.bin: 'az://{container}/large.bin'}}\n"
    )
    with slow_proxy("127.0.0.1", storage.port, rate=3_000_000) as proxy:
        desk = Desk(tmp_path, storage.by_key.replace(storage.endpoint, f"{proxy.url}/{ACCOUNT}"))
        killed_at(desk, proxy, size // 2)
        if changed:
            content = os.urandom(size)
            storage.put({"large.bin": content}, container)
        before = proxy.sent
        desk.lock()
        came = proxy.sent - before
    assert Digest.of(content).hex in (tmp_path / "line.lock.json").read_text()
    assert came > size if changed else came < size * 3 // 4


def test_no_secret_is_in_the_lock_nor_in_what_the_program_says(storage: Storage, tmp_path: Path) -> None:
    (tmp_path / "line.yaml").write_text("name: line\nmodels:\n  - {id: org/m, source: 'az://models/org/m'}\n")
    said = Desk(tmp_path, storage.by_key).lock() + (tmp_path / "line.lock.json").read_text()
    said += Desk(tmp_path, storage.by_sas(storage.sas())).lock()
    closed = Desk(tmp_path, storage.by_key.replace(KEY, OTHER_KEY))
    closed.folder = tmp_path / "closed"
    closed.folder.mkdir()
    (closed.folder / "line.yaml").write_text((tmp_path / "line.yaml").read_text())
    said += closed.lock(code=SourceDeniedError.exit_code)
    for path in sorted((tmp_path / "store").rglob("*.json")):
        said += path.read_text(errors="replace")
    assert "AZURE_STORAGE_KEY" in said
    assert not any(secret in said for secret in (KEY, OTHER_KEY, "sig=", "Traceback", "WARNING"))


def test_init_names_a_model_after_its_last_two_folders(tmp_path: Path) -> None:
    text = initialise.draft(["az://models/some/org/model"], name="line", folder=tmp_path).text
    assert "id: org/model" in text


# What Azurite does not do, as the protocol shows it

AZURE = {"x_ms_request_id": "1", "x_ms_version": "2025-01-05", "Content_Type": "application/xml"}


def settings_of(url: str, store: Path = Path("unused")) -> Settings:
    return of(f"AccountName=acct;AccountKey={OTHER_KEY};BlobEndpoint={url}/acct", store)


def page(rows: str, marker: str = "") -> bytes:
    text = f"<Blobs>{rows}</Blobs><NextMarker>{marker}</NextMarker>"
    text = f'<EnumerationResults ServiceEndpoint="http://x/" ContainerName="c">{text}</EnumerationResults>'
    return f'<?xml version="1.0" encoding="utf-8"?>{text}'.encode()


def row(name: str, size: object = 3) -> str:
    return (
        f"<Blob><Name>{name}</Name><Properties><Content-Length>{size}</Content-Length><Etag>0xE</Etag>"
        "<BlobType>BlockBlob</BlobType></Properties></Blob>"
    )


@dataclass
class Versioned:
    """A container that keeps versions: one blob, its versions oldest first."""

    versions: list[bytes]
    listing_allowed: bool = True
    asked: list[str] = field(default_factory=list)

    def answer(self, request: Request) -> None:
        parts = urlsplit(request.path)
        query = parse_qs(parts.query, keep_blank_values=True)
        self.asked.append(request.path)
        if "comp" in query:
            self._list(request, versions="versions" in query.get("include", [""])[0])
            return
        number = int(query["versionid"][0].removeprefix("v")) if "versionid" in query else len(self.versions) - 1
        if not unquote(parts.path).endswith("/org/m.bin") or number >= len(self.versions):
            request.send(b"", status=404, x_ms_error_code="BlobNotFound", **AZURE)
            return
        request.send(self.versions[number], ETag=f'"0x{number}"', x_ms_version_id=f"v{number}", **AZURE)

    def _list(self, request: Request, *, versions: bool) -> None:
        if versions and not self.listing_allowed:
            request.send(b"", status=403, x_ms_error_code="AuthorizationPermissionMismatch", **AZURE)
            return
        last = len(self.versions) - 1
        rows = [
            f"<Blob><Name>org/m.bin</Name><VersionId>v{n}</VersionId>"
            f"{'<IsCurrentVersion>true</IsCurrentVersion>' if n == last else ''}<Properties>"
            f"<Content-Length>{len(content)}</Content-Length><Etag>0x{n}</Etag>"
            "<BlobType>BlockBlob</BlobType></Properties></Blob>"
            for n, content in enumerate(self.versions)
        ]
        request.send(page("".join(rows) if versions else row("org/m.bin", len(self.versions[-1]))), **AZURE)


@pytest.mark.parametrize("source", ["az://c/org/m.bin", "az://c/org/"])
def test_where_versions_are_kept_the_locked_one_is_fetched(tmp_path: Path, source: str) -> None:
    kept = Versioned([b"old", b"first"])
    with serving(kept.answer) as url:
        with Store.open(tmp_path / "store") as store:
            lock = locked(settings_of(url, store.path), store, source)
        (file,) = lock.models[0].packages[0].files
        assert file.pin == {"etag": '"0x1"', "version-id": "v1"}
        kept.versions.append(b"newer")
        with Store.open(tmp_path / "other") as store:
            fetch_locked(lock, base=Path(), store=store, settings=settings_of(url, store.path), reporter=Silent())
            assert store.find(Digest.of(b"first"))
    assert any("sr=bv" in path for path in kept.asked)


def test_where_versions_may_not_be_listed_the_etag_is_the_pin(tmp_path: Path) -> None:
    with serving(Versioned([b"first"], listing_allowed=False).answer) as url:
        (file,) = listed(settings_of(url), "az://c/org/")
    assert set(file.pin) == {"etag"}


NOT_ITS = "is not Azure's"


@pytest.mark.parametrize(
    ("body", "headers", "words"),
    [
        pytest.param(page(row("", 3)), AZURE, NOT_ITS, id="no name"),
        pytest.param(page(row("org/x", "abc")), AZURE, NOT_ITS, id="size"),
        pytest.param(page(row("org/x", -1)), AZURE, NOT_ITS, id="a size below nothing"),
        pytest.param(page(row("org/x"))[:-9], AZURE, NOT_ITS, id="broken off"),
        pytest.param(b"garbage", AZURE, NOT_ITS, id="garbage"),
        pytest.param(b"", AZURE, NOT_ITS, id="nothing"),
        pytest.param(page(row("org/x") + " " * 33 * 1024**2), AZURE, NOT_ITS, id="too long"),
        pytest.param(b"<html><body>Log in</body></html>", {}, NOT_ITS, id="a login page"),
        pytest.param(b"<html><body>Log in</body></html>", AZURE, NOT_ITS, id="a page that says it is Azure"),
        pytest.param(page(row("org/x")), {}, NOT_ITS, id="another server's listing"),
    ],
)
def test_an_answer_that_is_not_azures_is_told_as_that(body: bytes, headers: dict[str, str], words: str) -> None:
    def answer(request: Request) -> None:
        request.send(body, **{"Content_Type": "application/xml"} | headers)

    with serving(answer) as url, pytest.raises(SourceError, match=words) as caught:
        listed(settings_of(url), "az://c/org/")
    assert "try again" not in caught.value.hint


def test_a_login_page_is_no_blob_and_no_redirect_is_followed() -> None:
    asked: list[str] = []

    def login(request: Request) -> None:
        asked.append(request.path)
        request.send(b"<html>Log in</html>", Content_Type="text/html")

    with serving(login) as there:
        with pytest.raises(SourceError, match=NOT_ITS):
            listed(settings_of(there), "az://c/org/m.bin")
        asked.clear()
        with (
            serving(lambda request: request.send(b"", status=302, Location=there)) as url,
            pytest.raises(SourceError, match=NOT_ITS),
        ):
            listed(settings_of(url), "az://c/org/m.bin")
    assert asked == []


@pytest.mark.parametrize("expiry", ["2020-01-01T00:00:00Z", "2020-01-01", "no time"])
@pytest.mark.parametrize("date", ["Sat, 21 Nov 2026 19:00:00 GMT", "Sat, 21 Nov 2026 19:00:00 -0000", "no date", ""])
def test_a_server_without_a_zone_or_a_clock_is_no_crash(expiry: str, date: str) -> None:
    is_known = "no" not in (expiry[:2], date[:2]) and date != ""
    assert azure_account._is_past(expiry, date) == is_known


def test_who_signs_nothing_asks_for_no_version() -> None:
    with serving(Versioned([b"first"]).answer) as url:
        (file,) = listed(of(f"BlobEndpoint={url}/acct"), "az://c/org/m.bin")
    assert set(file.pin) == {"etag"}
    assert "?" not in url_of(file)


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_busy_account_is_asked_again(status: int) -> None:
    asked: list[str] = []

    def answer(request: Request) -> None:
        asked.append(request.path)
        if len(asked) % 2:
            request.send(b"", status=status, x_ms_error_code="ServerBusy", **AZURE)
        else:
            request.send(page(row("org/b")), **AZURE)

    with serving(answer) as url:
        assert [file.path for file in listed(settings_of(url), "az://c/org/")] == ["b"]
    with (
        serving(lambda request: request.send(b"", status=status, **AZURE)) as url,
        pytest.raises(SourceUnreachableError, match=f"answered {status}") as caught,
    ):
        listed(settings_of(url), "az://c/org/")
    assert "try again" in caught.value.hint


@pytest.mark.parametrize(
    ("status", "code", "family"),
    [
        (401, "NoAuthenticationInformation", SourceDeniedError),
        (404, "ResourceNotFound", SourceNotFoundError),
        (409, "PublicAccessNotPermitted", SourceDeniedError),
    ],
)
def test_who_signs_nothing_hears_what_to_sign_with(status: int, code: str, family: type[SourceError]) -> None:
    def answer(request: Request) -> None:
        request.send(b"", status=status, x_ms_error_code=code, **AZURE)

    with serving(answer) as url, pytest.raises(family, match=code) as caught:
        listed(of(f"BlobEndpoint={url}/acct"), "az://c/org/m.bin")
    assert "AZURE_STORAGE_SAS_TOKEN" in caught.value.hint


def test_certificates_of_ones_own_are_heeded_and_a_signature_made_for_https_holds_there_only(tmp_path: Path) -> None:
    authority = Authority.make(tmp_path)
    with answering(Versioned([b"first"]).answer, authority=authority) as url:
        string = f"AccountName=acct;AccountKey={OTHER_KEY};BlobEndpoint={url}/acct"
        file = found(of(string, certificates=authority.path), "az://c/org/m.bin")
        assert parse_qs(urlsplit(url_of(file)).query)["spr"] == ["https"]
        with pytest.raises(SourceUnreachableError, match="no TLS connection") as caught:
            found(of(string), "az://c/org/m.bin")
    assert "REQUESTS_CA_BUNDLE" in caught.value.hint


@pytest.mark.parametrize(("repeats", "most"), [(True, 2), (False, 20)])
def test_a_listing_of_empty_pages_ends(monkeypatch: pytest.MonkeyPatch, repeats: bool, most: int) -> None:
    monkeypatch.setattr(az, "MAXIMUM_PAGES", 20)
    asked: list[str] = []

    def answer(request: Request) -> None:
        asked.append(request.path)
        request.send(page("", f"t{1 if repeats else len(asked)}"), **AZURE)

    with serving(answer) as url, pytest.raises(SourceError, match="does not end"):
        listed(settings_of(url), "az://c/org/")
    assert len(asked) == most


def test_a_blob_in_the_archive_says_so() -> None:
    with (
        serving(lambda request: request.send(b"x", x_ms_access_tier="Archive", **AZURE)) as url,
        pytest.raises(SourceError, match="archive tier") as caught,
    ):
        found(settings_of(url), "az://c/org/m.bin")
    assert "rehydrated" in caught.value.hint
