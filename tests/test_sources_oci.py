"""Model artifacts in a registry: what ORAS and ModelPack write, what is refused, and what a lock says of them."""

import hashlib
import io
import json
import os
import random
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path

import pytest

from bundler.http import Client
from bundler.registry.address import Address
from bundler.registry.push import push
from bundler.resolve import fetch_locked, resolve
from bundler.settings import Registries
from bundler.signer import generate
from bundler.sources.base import Found, Remote
from bundler.sources.oci import RegistrySource
from bundler.sources.reference import Reference
from factory import Workshop
from manifests.digest import Digest
from manifests.errors import DigestMismatchError, ManifestError, SourceDeniedError, SourceError, SourceNotFoundError
from manifests.lock import Lock
from manifests.manifest import parse
from manifests.progress import Silent
from manifests.store import Store
from registry_server import PASSWORD, USER, Fake, Registry, calm, fake_registry, logged_in, registry_server, wire_to

FILES = {"config.json": b"{}", "weights.onnx": b"weights" * 1000}
TITLE, FILEPATH = "org.opencontainers.image.title", "org.cncf.model.filepath"


@pytest.fixture
def fake() -> Iterator[Fake]:
    with fake_registry() as running:
        yield running


def layer(fake: Fake, content: bytes, media_type: str = "application/octet-stream", **annotations: str) -> object:
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    fake.blobs[digest] = content
    named = {name.replace("__", "."): value for name, value in annotations.items()}
    return {"digest": digest, "size": len(content), "mediaType": media_type, "annotations": named}


def titled(fake: Fake, path: str, content: bytes, media_type: str = "application/octet-stream") -> object:
    return layer(fake, content, media_type, **{TITLE: path})


def artifact(fake: Fake, *layers: object, tag: str = "v1", **more: object) -> str:
    """The digest of a manifest over these layers."""
    document = {"schemaVersion": 2, "mediaType": fake.media_type, "artifactType": "application/x", "layers": layers}
    content = json.dumps({**document, **more}).encode()
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    fake.manifests[tag] = fake.manifests[digest] = content
    return digest


def plain(fake: Fake, files: Mapping[str, bytes] = FILES, **more: object) -> str:
    return artifact(fake, *(titled(fake, path, content) for path, content in files.items()), **more)


def reference(host: str, rest: str) -> Reference:
    return Reference.parse(f"oci://{host}/models/m{rest}", Path())


def listed(host: str, rest: str = ":v1", pin: Mapping[str, str] | None = None) -> tuple[Found, ...]:
    with Client(calm(Path("unused"))) as client:
        return RegistrySource(Registries(), client).list(reference(host, rest), pin or {})


def found(host: str, rest: str = ":v1", pin: Mapping[str, str] | None = None) -> Found:
    with Client(calm(Path("unused"))) as client:
        return RegistrySource(Registries(), client).find(reference(host, rest), pin or {})


def locked(
    manifest: object, folder: Path, previous: Lock | None = None, *, upgrade: bool = False, **changes: object
) -> Lock:
    settings = calm(folder / "store", **changes)
    with Store.open(settings.store) as store:
        return resolve(
            parse(manifest),
            base=folder,
            store=store,
            settings=settings,
            previous=previous,
            upgrade=upgrade,
            reporter=Silent(),
        )


def fetched(lock: Lock, folder: Path, **changes: object) -> dict[str, bytes]:
    settings = calm(folder / "store", **changes)
    with Store.open(settings.store) as store:
        fetch_locked(lock, base=folder, store=store, settings=settings, reporter=Silent())
        return {file.path: store.read_whole(file.digest, limit=1 << 20) for _, file in lock.files()}


def manifest_for(host: str, rest: str = ":v1") -> object:
    return {"name": "line", "models": [{"id": "acme/one", "source": f"oci://{host}/models/m{rest}"}]}


class TestFiles:
    def test_every_titled_layer_is_a_file_with_its_digest_and_size(self, fake: Fake) -> None:
        digest = plain(fake)
        files = {each.path: each for each in listed(fake.host)}
        assert {path: each.size for path, each in files.items()} == {p: len(c) for p, c in FILES.items()}
        assert {path: each.digest for path, each in files.items()} == {p: Digest.of(c) for p, c in FILES.items()}
        assert {tuple(each.pin.items()) for each in files.values()} == {(("manifest", digest),)}
        assert str(files["config.json"].reference) == f"oci://{fake.host}/models/m:v1/config.json"
        assert fake.count("GET", "/blobs/") == 0

    def test_one_file_is_named_below_the_tag_or_alone(self, fake: Fake) -> None:
        plain(fake, {"a b/#x!.bin": b"x", "y": b"y"})
        assert found(fake.host, ":v1/a b/%23x%21.bin").digest == Digest.of(b"x")
        assert listed(fake.host, ":v1/y")[0].path == "y"
        plain(fake, {"only.bin": b"only"})
        assert found(fake.host).path == "only.bin"

    def test_a_digest_does_for_the_tag(self, fake: Fake) -> None:
        digest = plain(fake)
        assert len(listed(fake.host, f"@{digest}")) == 2
        assert found(fake.host, f"@{digest}/config.json").size == 2

    def test_a_member_is_taken_out_of_a_file(self, fake: Fake, tmp_path: Path) -> None:
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w") as tar:
            member = tarfile.TarInfo("in/weights.onnx")
            member.size = 7
            tar.addfile(member, io.BytesIO(b"weights"))
        plain(fake, {"all.tar": out.getvalue(), "other": b""})
        lock = locked(manifest_for(fake.host, ":v1/all.tar#in/weights.onnx"), tmp_path)
        assert fetched(lock, tmp_path) == {"weights.onnx": b"weights"}

    def test_what_model_pack_writes_is_read(self, fake: Fake) -> None:
        raw, tar = "application/vnd.cncf.model.weight.v1.raw", "application/vnd.cncf.model.doc.v1.tar+gzip"
        artifact(
            fake,
            layer(fake, b"w", raw, **{FILEPATH: "model.safetensors"}),
            layer(fake, b"d", tar, **{FILEPATH: "README.md"}),
            layer(fake, b"z", "application/vnd.cncf.model.code.v1.tar", **{FILEPATH: "code.tar"}),
        )
        assert [each.path for each in listed(fake.host)] == ["README.md.tar.gz", "code.tar", "model.safetensors"]

    def test_a_folder_that_oras_packed_is_told_from_a_file(self, fake: Fake) -> None:
        artifact(fake, layer(fake, b"t", **{TITLE: "folder", "io.deis.oras.content.unpack": "true"}))
        assert [each.path for each in listed(fake.host)] == ["folder.tar.gz"]

    def test_a_licence_that_the_manifest_names_is_kept(self, fake: Fake) -> None:
        plain(fake, annotations={"org.opencontainers.image.licenses": "Apache-2.0"})
        assert {each.licenses for each in listed(fake.host)} == {("Apache-2.0",)}

    def test_the_manifest_is_asked_for_once(self, fake: Fake) -> None:
        plain(fake)
        with Client(calm(Path("unused"))) as client:
            source = RegistrySource(Registries(), client)
            for path in FILES:
                source.find(reference(fake.host, f":v1/{path}"), {})
            source.list(reference(fake.host, ":v1"), {})
        assert len(fake.asked) == 1


class TestRefused:
    @pytest.mark.parametrize(
        ("rest", "kind", "told"),
        [
            (":v7", SourceNotFoundError, "there are: "),
            (":v1/missing", SourceNotFoundError, "config.json, weights.onnx"),
            (":v1", ManifestError, "/FILE; there are: config.json, weights.onnx"),
            ("", ManifestError, ":TAG"),
            (f"@sha256:{'0' * 64}", SourceNotFoundError, "there are: "),
            (":v1?x", ManifestError, "oci://HOST"),
        ],
    )
    def test_what_cannot_be_had_is_told_with_what_can(
        self, fake: Fake, rest: str, kind: type[SourceError], told: str
    ) -> None:
        plain(fake)
        with pytest.raises(kind) as caught:
            found(fake.host, rest)
        assert told in caught.value.hint

    def test_a_list_for_several_platforms_is_refused_by_their_names(self, fake: Fake) -> None:
        entry = {"digest": "sha256:1", "size": 1, "platform": {"os": "linux", "architecture": "arm64", "variant": "v8"}}
        artifact(fake, manifests=[entry])
        with pytest.raises(SourceError, match="list of 1") as caught:
            listed(fake.host)
        assert "linux/arm64/v8 @sha256:1" in caught.value.hint

    def test_a_container_image_is_no_model(self, fake: Fake) -> None:
        artifact(fake, layer(fake, b"l", "application/vnd.oci.image.layer.v1.tar+gzip"))
        with pytest.raises(SourceError, match="container image"):
            listed(fake.host)

    def test_layers_without_names_are_counted(self, fake: Fake) -> None:
        artifact(fake, layer(fake, b"l", "application/vnd.ollama.image.model"), artifactType="application/vnd.ollama")
        with pytest.raises(SourceError, match=r"1 layers without a name, in application/vnd\.ollama"):
            listed(fake.host)

    def test_one_of_our_bundles_is_no_source_and_the_way_is_told(self, fake: Fake, workshop: Workshop) -> None:
        bundle = workshop.build(workshop.lock({"acme/one": {"a": b"a"}})).path
        push(bundle, Address.parse(f"oci://{fake.host}/models/m:v1"), calm(workshop.folder / "store"), Silent())
        with pytest.raises(SourceError, match="one of our bundles") as caught:
            listed(fake.host)
        assert f"`bundle pull oci://{fake.host}/models/m:v1`" in caught.value.hint
        assert "`bundle export ID DIR --layout directory`" in caught.value.hint

    @pytest.mark.parametrize(
        "change",
        [
            {"layers": [{"digest": "sha512:00", "size": 1, "annotations": {TITLE: "a"}}]},
            {"layers": [{"digest": f"sha256:{'0' * 64}", "size": -1, "annotations": {TITLE: "a"}}]},
            {"layers": [{"digest": f"sha256:{'0' * 64}", "size": 10**300, "annotations": {TITLE: "a"}}]},
            {"layers": [{"digest": f"sha256:{'0' * 64}", "size": 1, "annotations": {TITLE: "a"}}] * 2},
            {"layers": [{"size": 1}]},
            {"layers": {}},
            {"layers": None},
            {"annotations": {"a": 1}},
        ],
    )
    def test_a_manifest_that_makes_no_sense_is_an_error(self, fake: Fake, change: dict[str, object]) -> None:
        artifact(fake, titled(fake, "a", b"a"), **change)
        with pytest.raises(SourceError):
            listed(fake.host)

    @pytest.mark.parametrize("path", ["../evil", "/etc/passwd", "a//b", "con", "a\x1b[31m", "x" * 300, ""])
    def test_a_name_that_no_file_can_have_reaches_no_disk(self, fake: Fake, path: str, tmp_path: Path) -> None:
        plain(fake, {path: b"x", "fine": b"y"})
        with pytest.raises((ManifestError, SourceError)) as caught:
            fetched(locked(manifest_for(fake.host), tmp_path), tmp_path)
        assert "\x1b" not in str(caught.value)
        assert "mapping" not in str(caught.value)


class TestLocks:
    def test_a_lock_needs_no_file_and_a_build_no_tag(self, fake: Fake, tmp_path: Path) -> None:
        plain(fake)
        lock = locked(manifest_for(fake.host), tmp_path)
        assert fake.count("GET", "/blobs/") == 0
        fake.manifests = {name: content for name, content in fake.manifests.items() if name.startswith("sha256:")}
        assert fetched(lock, tmp_path) == FILES

    def test_a_tag_that_moves_is_followed_only_by_an_upgrade(self, fake: Fake, tmp_path: Path) -> None:
        first = plain(fake)
        lock = locked(manifest_for(fake.host), tmp_path)
        second = plain(fake, {**FILES, "weights.onnx": b"new"})
        again = locked(manifest_for(fake.host), tmp_path, lock)
        assert {file.pin["manifest"] for _, file in again.files()} == {first}
        moved = locked(manifest_for(fake.host), tmp_path, again, upgrade=True)
        assert {file.pin["manifest"] for _, file in moved.files()} == {second}
        assert moved.sequence == 2

    def test_a_blob_that_is_another_is_refused(self, fake: Fake, tmp_path: Path) -> None:
        plain(fake)
        lock = locked(manifest_for(fake.host), tmp_path)
        digest = str(Digest.of(FILES["weights.onnx"]))
        fake.lies[digest] = b"w" * len(FILES["weights.onnx"])
        with pytest.raises(DigestMismatchError):
            fetched(lock, tmp_path)

    def test_the_lock_has_no_secret_and_the_build_logs_in(self, tmp_path: Path) -> None:
        with registry_server(tmp_path / "registry", login=True) as registry:
            logins = Registries((logged_in(tmp_path / "auth.json", registry.host),))
            oras_push(registry, tmp_path, login=True)
            manifest = manifest_for(registry.host)
            with pytest.raises(SourceDeniedError, match="wants to know who may read"):
                locked(manifest, tmp_path)
            lock = locked(manifest, tmp_path, registries=logins)
            assert PASSWORD not in repr(lock)
            assert fetched(lock, tmp_path, registries=logins) == FILES

    def test_what_oras_pushed_is_read(self, tmp_path: Path) -> None:
        with registry_server(tmp_path / "registry") as registry:
            oras_push(registry, tmp_path)
            lock = locked(manifest_for(registry.host), tmp_path)
            assert fetched(lock, tmp_path) == FILES

    def test_a_build_that_is_killed_goes_on_where_it_was(self, tmp_path: Path) -> None:
        weights = random.Random(1).randbytes(3_000_000)
        with registry_server(tmp_path / "registry") as registry, wire_to(registry.host) as wire:
            oras_push(registry, tmp_path, files={"weights.bin": weights})
            (tmp_path / "line.yaml").write_text(json.dumps(manifest_for(wire.host)))
            generate(tmp_path / "key.pem", None)
            home = {"HOME": str(tmp_path), "BUNDLE_STORE": str(tmp_path / "store")}

            def build() -> "subprocess.Popen[bytes]":
                command = [sys.executable, "-m", "bundler", "build", "line.yaml", "--key", "key.pem", "-q"]
                return subprocess.Popen(command, cwd=tmp_path, env={**os.environ, **home})

            wire.stop_after["down"] = 2_000_000
            with build() as process:
                assert wire.stopped.wait(30)
                time.sleep(0.5)
                process.kill()
            assert not list(tmp_path.glob("*.bundle"))
            before = wire.passed["down"]
            wire.stop_after.clear()
            wire.stopped.clear()
            with build() as process:
                assert process.wait(60) == 0
            assert (tmp_path / "line-1.bundle").stat().st_size > len(weights)
            assert wire.passed["down"] - before < 2_000_000

    def test_tokens_are_fetched_for_the_blobs_too(self, tmp_path: Path) -> None:
        with fake_registry(token_life=1.0) as fake:
            plain(fake)
            lock = locked(manifest_for(fake.host), tmp_path)
            assert fetched(lock, tmp_path) == FILES
            shown = [headers.get("Authorization") for _, path, headers in fake.asked if "/blobs/" in path]
        assert shown
        assert all(value is not None and value.startswith("Bearer ") for value in shown)


def oras_push(registry: Registry, folder: Path, *, login: bool = False, files: Mapping[str, bytes] = FILES) -> None:
    """The files as `models/m:v1`, by ORAS itself."""
    client = pytest.importorskip("oras.client").OrasClient(hostname=registry.host, insecure=True, auth_backend="basic")
    (folder / "files").mkdir()
    for name, content in files.items():
        (folder / "files" / name).write_bytes(content)
    with pytest.MonkeyPatch.context() as patch, closing(client.session):
        patch.chdir(folder / "files")
        if login:
            client.auth.set_basic_auth(USER, PASSWORD)
        client.push(f"{registry.host}/models/m:v1", files=sorted(files), disable_path_validation=True, quiet=True)


def test_a_found_file_shows_no_address_that_could_be_signed(fake: Fake) -> None:
    plain(fake)
    place = found(fake.host, ":v1/config.json").place
    assert isinstance(place, Remote)
    assert fake.host not in repr(place)
