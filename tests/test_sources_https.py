"""Files at plain web addresses: fetched to be hashed, pinned by what their server calls the version."""

import base64
import json
import os
import random
import re
import shutil
import signal
import time
from pathlib import Path
from typing import Final

import pytest
from packaging.requirements import Requirement

from bundler.http import Client
from bundler.kits.resolution import resolve as resolve_kit
from bundler.kits.target import Target
from bundler.pip_settings import PackageIndexes
from bundler.resolve import fetch_locked, resolve
from bundler.settings import Settings
from loopback import hasty
from manifests.digest import Digest
from manifests.errors import DigestMismatchError, ManifestError, SourceNotFoundError, SourceUnreachableError
from manifests.lock import Lock, LockedFile
from manifests.manifest import parse
from manifests.progress import Silent
from manifests.store import Store
from misbehaving_server import Answer, Cut, misbehaving
from nginx_server import needs_nginx, nginx
from test_commands import Host
from tls_server import Authority

CONTENT = b"weights" * 20_000
LARGE: Final = random.Random(5).randbytes(6_000_000)
SECRET: Final = "hush-hush"
NOTHING: Final = {"PIP_CONFIG_FILE": os.devnull, "NETRC": os.devnull, "BUNDLE_HEADERS": "", "BUNDLE_MIRRORS": ""}


def lock_of(folder: Path, source: object) -> Lock:
    manifest = parse({"name": "n", "models": [{"id": "m", "files": {"weights.bin": source}}]})
    with Store.open(folder / "store") as store:
        return resolve(
            manifest,
            base=folder,
            store=store,
            settings=hasty(folder / "store"),
            previous=None,
            upgrade=False,
            reporter=Silent(),
        )


def only_file(lock: Lock) -> LockedFile:
    (file,) = lock.models[0].packages[0].files
    return file


def test_a_file_is_locked_with_its_etag(tmp_path: Path) -> None:
    with misbehaving(CONTENT) as server:
        file = only_file(lock_of(tmp_path, server.url))
        assert file.pin == {"etag": server.etag}
        assert (file.size, file.source) == (len(CONTENT), server.url)


def test_a_query_belongs_to_the_address(tmp_path: Path) -> None:
    with misbehaving(CONTENT) as server:
        assert only_file(lock_of(tmp_path, f"{server.url}?download=true")).source.endswith("?download=true")


def test_a_digest_in_the_manifest_is_enforced_and_is_all_the_pin(tmp_path: Path) -> None:
    with misbehaving(CONTENT) as server:
        digest = only_file(lock_of(tmp_path / "a", server.url)).sha256
        assert only_file(lock_of(tmp_path / "b", f"{server.url}#sha256={digest}")).pin == {}
        with pytest.raises(DigestMismatchError):
            lock_of(tmp_path / "c", {"from": server.url, "sha256": "ab" * 32})


def test_what_the_store_has_by_its_digest_is_not_asked_for(tmp_path: Path) -> None:
    with misbehaving(CONTENT) as server:
        digest = only_file(lock_of(tmp_path, server.url)).sha256
        lock_of(tmp_path, {"from": server.url, "sha256": digest})
    assert len(server.requests) == 1


def test_a_locked_file_is_fetched_again_and_compared(tmp_path: Path) -> None:
    with misbehaving(CONTENT, Cut(1000)) as server:
        lock = lock_of(tmp_path, server.url)
        with Store.open(tmp_path / "other") as store:
            fetch_locked(lock, base=tmp_path, store=store, settings=hasty(store.path), reporter=Silent())
            assert store.find(only_file(lock).digest) is not None
        server.content = CONTENT[:-1] + b"!"
        with Store.open(tmp_path / "third") as store, pytest.raises(DigestMismatchError):
            fetch_locked(lock, base=tmp_path, store=store, settings=hasty(store.path), reporter=Silent())


def test_what_is_gone_is_not_found(tmp_path: Path) -> None:
    with misbehaving(CONTENT, Answer(404)) as server, pytest.raises(SourceNotFoundError, match=r"weights\.bin"):
        lock_of(tmp_path, server.url)


def test_nothing_is_left_of_a_download_when_it_is_in_the_store(tmp_path: Path) -> None:
    with misbehaving(CONTENT) as server:
        lock_of(tmp_path, server.url)
    left = [path.name for path in (tmp_path / "store" / "partial").iterdir() if path.suffix != ".lock"]
    assert left == []


def test_a_password_in_an_address_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="would end up in the lock"):
        lock_of(tmp_path, "https://user:secret@example.org/x")


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """A machine with a key, whose files and store lie in `desk`."""
    (tmp_path / "desk").mkdir()
    found = Host(tmp_path / "desk")
    found.bundle("keygen", "-o", "line.pem", "--no-passphrase")
    return found


def asking(host: Host, **sources: str) -> None:
    """Write a manifest of one model with these files."""
    files = {name.replace("_", "."): source for name, source in sources.items()}
    manifest = {"name": "line", "models": [{"id": "acme/one", "files": files}]}
    (host.folder / "line.json").write_text(json.dumps(manifest))


def lock_file(host: Host) -> dict[str, object]:
    """The only file of the lock."""
    lock = json.loads((host.folder / "line.lock.json").read_bytes())
    (file,) = lock["models"][0]["packages"][0]["files"]
    return dict(file)


def secrets_below(folder: Path, *besides: str) -> list[Path]:
    """The files that hold the secret, as it is or encoded."""
    encoded = base64.b64encode(f"user:{SECRET}".encode())
    files = [path for path in folder.rglob("*") if path.is_file() and path.name not in besides]
    return [path for path in files if SECRET.encode() in (content := path.read_bytes()) or encoded in content]


@needs_nginx
class TestNginx:
    def test_a_file_is_locked_by_its_etag_built_and_never_asked_for_again(self, host: Host, tmp_path: Path) -> None:
        with nginx(tmp_path / "nginx") as server:
            (server.files / "weights.bin").write_bytes(CONTENT)
            asking(host, weights_bin=f"{server.url}/weights.bin")
            for _ in range(2):
                host.bundle("lock", "line.json", "-q", **NOTHING)
                host.bundle("build", "line.json", "--key", "line.pem", "-o", "line.bundle", "-q", **NOTHING)
            file = lock_file(host)
            assert file["source"] == f"{server.url}/weights.bin"
            assert set(file["pin"]) == {"etag", "last-modified"}  # type: ignore[call-overload]
            assert [line.split()[:3] for line in server.asked] == [["GET", "/weights.bin", "200"]]
        host.bundle("build", "line.lock.json", "--key", "line.pem", "-o", "again.bundle", "-q", "--offline", **NOTHING)
        assert (host.folder / "again.bundle").read_bytes() == (host.folder / "line.bundle").read_bytes()

    def test_a_file_that_its_server_would_compress_comes_as_it_is(self, tmp_path: Path) -> None:
        with nginx(tmp_path / "nginx", gzip=True) as server:
            (server.files / "weights.bin").write_bytes(CONTENT)
            file = only_file(lock_of(tmp_path, f"{server.url}/weights.bin"))
            assert file.size == len(CONTENT)
            assert server.asked[0].split()[4] == f"sent={len(CONTENT)}"

    def test_a_download_goes_on_after_its_process_was_killed(self, host: Host, tmp_path: Path) -> None:
        with nginx(tmp_path / "nginx", rate="2m") as server:
            (server.files / "weights.bin").write_bytes(LARGE)
            asking(host, weights_bin=f"{server.url}/weights.bin")
            with host.start("lock", "line.json", "-q", **NOTHING) as process:
                deadline = time.monotonic() + 30
                while time.monotonic() < deadline and held(host) < 1_000_000:
                    time.sleep(0.01)
                process.send_signal(signal.SIGKILL)
                process.communicate()
            had = held(host)
            host.bundle("lock", "line.json", "-q", **NOTHING)
            resumed = [int(found[1]) for line in server.asked if (found := re.search(r" 206 range=bytes=(\d+)-", line))]
        assert lock_file(host)["size"] == len(LARGE)
        assert resumed
        assert 0 < min(resumed) <= had

    def test_a_file_that_changed_meanwhile_is_fetched_anew_and_never_mixed(self, host: Host, tmp_path: Path) -> None:
        with nginx(tmp_path / "nginx", rate="2m") as server:
            path = server.files / "weights.bin"
            path.write_bytes(LARGE)
            asking(host, weights_bin=f"{server.url}/weights.bin")
            with host.start("lock", "line.json", "-q", **NOTHING) as process:
                deadline = time.monotonic() + 30
                while time.monotonic() < deadline and held(host) < 500_000:
                    time.sleep(0.01)
                process.send_signal(signal.SIGKILL)
                process.communicate()
            path.write_bytes(LARGE[::-1])
            os.utime(path, (1, 1))
            host.bundle("lock", "line.json", "-q", **NOTHING)
        with Store.open(host.folder / "store") as store:
            assert store.find(Digest.of(LARGE[::-1])) is not None
            assert store.find(Digest.of(LARGE)) is None

    @pytest.mark.parametrize("way", ["netrc", "headers"])
    def test_a_password_opens_it_and_is_nowhere_afterwards(self, host: Host, tmp_path: Path, way: str) -> None:
        with nginx(tmp_path / "nginx", password=("user", SECRET)) as server, nginx(tmp_path / "other") as other:
            (server.files / "weights.bin").write_bytes(CONTENT)
            asking(host, weights_bin=f"{server.url}/weights.bin")
            environ = {**NOTHING, **credentials(host, way, server.url, SECRET)}
            host.bundle("lock", "line.json", **environ)
            shutil.rmtree(host.folder / "store")
            host.bundle("build", "line.json", "--key", "line.pem", "-o", "line.bundle", **environ)
            assert other.asked == []
        assert secrets_below(host.folder, "netrc", "headers") == []

    @pytest.mark.parametrize("way", ["netrc", "headers", "none"])
    def test_a_wrong_password_is_denied_with_the_way_out_and_not_quoted(
        self, host: Host, tmp_path: Path, way: str
    ) -> None:
        with nginx(tmp_path / "nginx", password=("user", "another")) as server:
            (server.files / "weights.bin").write_bytes(CONTENT)
            asking(host, weights_bin=f"{server.url}/weights.bin")
            environ = {**NOTHING, **credentials(host, way, server.url, SECRET)}
            said = host.bundle("lock", "line.json", code=23, **environ)
            assert f"{server.url}/weights.bin answered 401" in said
            assert "netrc" in said
            assert "BUNDLE_HEADERS" in said
            assert SECRET not in said + host.bundle("lock", "line.json", "--json", code=23, **environ)
            assert len(server.asked) == 2
        assert secrets_below(host.folder, "netrc", "headers") == []

    def test_a_password_does_not_follow_a_redirect_to_another_host(self, host: Host, tmp_path: Path) -> None:
        with nginx(tmp_path / "other", password=("user", SECRET)) as other:
            elsewhere = other.url.replace("127.0.0.1", "localhost")
            with nginx(tmp_path / "nginx", password=("user", SECRET), redirect=f"{elsewhere}$uri") as server:
                (other.files / "moved").mkdir()
                (other.files / "moved" / "weights.bin").write_bytes(CONTENT)
                asking(host, weights_bin=f"{server.url}/moved/weights.bin")
                environ = {**NOTHING, **credentials(host, "netrc", server.url, SECRET)}
                said = host.bundle("lock", "line.json", code=23, **environ)
                assert f"{elsewhere}/moved/weights.bin answered 401" in said
                line = f"\nmachine localhost login user password {SECRET}\n"
                (host.folder / "netrc").write_text((host.folder / "netrc").read_text() + line)
                host.bundle("lock", "line.json", **environ)

    def test_a_certificate_of_an_authority_of_ones_own(self, host: Host, tmp_path: Path) -> None:
        authority = Authority.make(tmp_path / "authority")
        with nginx(tmp_path / "nginx", authority=authority) as server:
            (server.files / "weights.bin").write_bytes(CONTENT)
            asking(host, weights_bin=f"{server.url}/weights.bin")
            said = host.bundle("lock", "line.json", code=22, **NOTHING)
            assert "no TLS connection" in said
            assert "REQUESTS_CA_BUNDLE" in said
            host.bundle("lock", "line.json", **NOTHING, REQUESTS_CA_BUNDLE=str(authority.path))

    def test_what_is_not_there_is_not_found(self, tmp_path: Path) -> None:
        with nginx(tmp_path / "nginx") as server, pytest.raises(SourceNotFoundError, match="answered 404"):
            lock_of(tmp_path, f"{server.url}/weights.bin")

    def test_many_small_files_come_over_one_connection(self, tmp_path: Path) -> None:
        with nginx(tmp_path / "nginx") as server:
            (server.files / "small").write_bytes(b"x")
            with Client(Settings(store=tmp_path)) as client:
                for _ in range(1000):
                    assert client.document(f"{server.url}/small", subject="small", limit=1).content == b"x"
            assert len({line.rpartition("connection=")[2] for line in server.asked}) == 1


def held(host: Host) -> int:
    """How many bytes of a download are there."""
    folder = host.folder / "store" / "partial"
    return max((path.stat().st_size for path in folder.glob("*") if not path.suffix), default=0)


def credentials(host: Host, way: str, url: str, password: str) -> dict[str, str]:
    """Variables that lead to a file with the password."""
    if way == "none":
        return {}
    path = host.folder / way
    if way == "netrc":
        path.write_text(f"machine 127.0.0.1 login user password {password}\n")
        return {"NETRC": str(path)}
    encoded = base64.b64encode(f"user:{password}".encode()).decode()
    path.write_text(f"# a proof\n{url} Authorization: Basic {encoded}\n")
    path.chmod(0o600)
    return {"BUNDLE_HEADERS": str(path)}


class TestOffline:
    def test_every_file_that_is_missing_is_named_with_the_way_out(self, host: Host) -> None:
        with misbehaving(CONTENT) as server:
            asking(host, a_bin=f"{server.url}?a", b_bin=f"{server.url}?b")
            said = host.bundle("lock", "line.json", "--offline", code=22, **NOTHING)
            assert server.requests == []
            for name in ("a.bin", "b.bin"):
                assert f"acme/one {name}: the store does not have it, and --offline asks no network" in said
            assert "hint: run this once without --offline" in said
            host.bundle("lock", "line.json", **NOTHING)
            asked = len(server.requests)
            host.bundle("lock", "line.json", "--offline", **NOTHING)
            build = ("build", "line.lock.json", "--key", "line.pem", "--offline")
            host.bundle(*build, **NOTHING)
            said = host.bundle(*build, "--store", "empty", "-o", "other.bundle", code=22, **NOTHING)
            assert "the store does not have it, and --offline asks no network" in said
            assert not (host.folder / "other.bundle").exists()
            assert len(server.requests) == asked

    def test_files_of_this_machine_need_no_network(self, host: Host) -> None:
        (host.folder / "weights.bin").write_bytes(CONTENT)
        asking(host, weights_bin="./weights.bin")
        host.bundle("lock", "line.json", "--offline", **NOTHING)

    def test_a_package_of_a_kit_is_refused_by_name(self, tmp_path: Path) -> None:
        packages = PackageIndexes(("http://127.0.0.1:1/simple",))
        settings = hasty(tmp_path / "store", packages=packages, offline=True)
        with (
            Store.open(settings.store) as store,
            Client(settings) as client,
            pytest.raises(SourceUnreachableError, match=r"numpy: .* --offline asks no network"),
        ):
            resolve_kit(
                [Requirement("numpy")],
                Target.parse("manylinux_2_28_x86_64", "3.11"),
                packages=packages,
                client=client,
                store=store,
                reporter=Silent(),
                constraints=None,
                asked_by="the test",
            )


class TestMirror:
    @pytest.mark.parametrize("way", ["option", "variable", "both"])
    def test_the_lock_keeps_the_original_address(self, host: Host, way: str) -> None:
        with misbehaving(CONTENT) as server:
            asking(host, weights_bin="https://files.example/acme/weights.bin")
            good = f"https://files.example/acme={server.url.removesuffix('/weights.bin')}"
            option = () if way == "variable" else ("--mirror", good)
            variable = {"option": "", "variable": good, "both": "https://files.example/acme=http://127.0.0.1:1"}[way]
            environ = {**NOTHING, "BUNDLE_MIRRORS": variable}
            host.bundle("lock", "line.json", *option, **environ)
            assert lock_file(host)["source"] == "https://files.example/acme/weights.bin"
            assert "127.0.0.1" not in (host.folder / "line.lock.json").read_text()
            shutil.rmtree(host.folder / "store")
            host.bundle("build", "line.json", "--key", "line.pem", *option, **environ)
        assert len(server.requests) == 2

    def test_a_mirror_with_other_bytes_is_found_out(self, host: Host) -> None:
        with misbehaving(CONTENT) as server:
            asking(host, weights_bin=server.url)
            host.bundle("lock", "line.json", **NOTHING)
        shutil.rmtree(host.folder / "store")
        with misbehaving(CONTENT[::-1]) as mirror:
            pair = f"{server.url.removesuffix('/weights.bin')}={mirror.url.removesuffix('/weights.bin')}"
            said = host.bundle("build", "line.json", "--key", "line.pem", "--mirror", pair, code=24, **NOTHING)
        assert "expected sha256:" in said

    @pytest.mark.parametrize(
        "command", [("lock", "line.json"), ("build", "line.json", "--key", "line.pem"), ("kit", "-o", "kit")]
    )
    @pytest.mark.parametrize(
        ("texts", "words"),
        [
            (["nonsense"], "two URLs with a '='"),
            (["https://a.example=m.example"], "two URLs with a '='"),
            ([f"https://a.example=https://user:{SECRET}@m.example"], "~/.netrc"),
            (["https://a.example=https://m.example", "https://a.example=https://n.example"], "two mirrors"),
        ],
    )
    def test_nonsense_is_a_usage_error(
        self, host: Host, command: tuple[str, ...], texts: list[str], words: str
    ) -> None:
        options = [word for text in texts for word in ("--mirror", text)]
        said = host.bundle(*command, *options, code=2, **NOTHING)
        assert words in " ".join(said.split())
        assert SECRET not in said

    def test_nonsense_in_the_variable_is_an_error_that_names_it(self, host: Host) -> None:
        asking(host, weights_bin="https://files.example/w")
        said = host.bundle("lock", "line.json", code=20, **{**NOTHING, "BUNDLE_MIRRORS": "a=b"})
        assert "BUNDLE_MIRRORS: a mirror is two URLs" in said

    def test_a_kit_that_is_unpacked_asks_nobody(self, host: Host) -> None:
        (host.folder / "site").mkdir()
        for option in (["--offline"], ["--mirror", "https://a.example=https://m.example"]):
            said = host.bundle("kit", "-o", "kit", "--from", "site", *option, code=2, **NOTHING)
            assert "--from takes a kit as it is" in said
