"""A bundle into an OCI registry and out of it: a real one, real tools beside ours, and processes that are killed."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bundler.assemble import Signers
from bundler.registry.address import Address
from bundler.registry.pull import Pulled, pull
from bundler.registry.push import Pushed, push
from bundler.settings import Registries, Settings
from crashing import killed_at
from factory import Workshop, elliptic_signer, put, tree
from loopback import Request
from manifests import envelope, errors, statement
from manifests.digest import Digest
from manifests.errors import (
    BusyError,
    DamagedError,
    DiskFullError,
    FormatError,
    ManifestError,
    SourceDeniedError,
    SourceError,
    SourceNotFoundError,
    StorageError,
    UnsupportedFormatError,
)
from manifests.progress import Silent
from registry_server import (
    PASSWORD,
    USER,
    Fake,
    Registry,
    Wire,
    calm,
    fake_registry,
    logged_in,
    registry_server,
    wire_to,
)


def noise(length: int, seed: int) -> bytes:
    """Bytes that no codec shrinks, quickly made."""
    return random.Random(seed).randbytes(length)


MODELS: Mapping[str, Mapping[str, bytes]] = {
    f"acme/{name}": {"weights.bin": noise(1_500_000, number), "readme.txt": b"hello\n"}
    for number, name in enumerate(["one", "two", "three", "four"])
}
SMALL: Mapping[str, Mapping[str, bytes]] = {"acme/tiny": {"a.bin": noise(3000, 9)}}


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    with registry_server(tmp_path / "registry") as running:
        yield running


@pytest.fixture
def fake() -> Iterator[Fake]:
    with fake_registry() as running:
        yield running


def built(workshop: Workshop, *, folder: bool = False, models: Mapping[str, Mapping[str, bytes]] = MODELS) -> Path:
    name = "folder.bundle" if folder else "tar.bundle"
    return workshop.build(workshop.lock(models), name=name, folder=folder).path


def address(host: str, rest: str = "") -> Address:
    return Address.parse(f"oci://{host}/models/line{rest}")


def pushed(bundle: Path, host: str, rest: str = "", **changes: object) -> Pushed:
    return push(bundle, address(host, rest), calm(bundle.parent / "store", **changes), Silent(), piece=256 << 10)


def pulled(host: str, out: Path, rest: str = ":line-1", *, folder: bool = False, **changes: object) -> Pulled:
    return pull(address(host, rest), out, calm(out.parent / "store", **changes), Silent(), folder=folder)


def content_of(bundle: Path) -> object:
    """All bytes of a bundle, whatever its form, with what else is in the folder."""
    return tree(bundle) if bundle.is_dir() else bundle.read_bytes()


def strays(folder: Path, name: str) -> list[str]:
    """What lies beside a bundle under a name made from its own."""
    return [path.name for path in folder.iterdir() if path.name.startswith(f".{name}")]


def typed(*arguments: object, home: Path, **variables: str) -> "subprocess.Popen[str]":
    """`bundle …`, begun."""
    cleared = {name: value for name, value in os.environ.items() if name not in {"REGISTRY_AUTH_FILE", "DOCKER_CONFIG"}}
    return subprocess.Popen(
        [sys.executable, "-m", "bundler", *map(str, arguments)],
        env={**cleared, "HOME": str(home), "XDG_RUNTIME_DIR": "", "XDG_CONFIG_HOME": "", **variables},
        cwd=home,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(process: "subprocess.Popen[str]", code: int = 0) -> tuple[str, str]:
    out, err = process.communicate(timeout=60)
    assert process.returncode == code, f"{process.returncode}\n{out}\n{err}"
    return out, err


@pytest.mark.parametrize("into", ["tar", "folder"])
@pytest.mark.parametrize("out_of", ["tar", "folder"])
def test_what_is_pulled_is_what_was_built_in_either_form(
    workshop: Workshop, registry: Registry, out_of: str, into: str
) -> None:
    bundle = built(workshop, folder=out_of == "folder")
    done = pushed(bundle, registry.host)
    out = workshop.folder / "out"
    back = pulled(registry.host, out, folder=into == "folder")
    assert content_of(out) == content_of(built(workshop, folder=into == "folder"))
    assert not strays(workshop.folder, "out")
    assert (back.digest, back.size, back.blobs) == (done.digest, done.size, done.blobs - 1)
    assert back.statement.line == "line"
    assert str(done.address) == f"oci://{registry.host}/models/line:line-1"


def test_files_have_the_modes_that_build_gives_them(workshop: Workshop, registry: Registry) -> None:
    def modes(bundle: Path) -> list[int]:
        return [path.stat().st_mode for path in sorted(bundle.rglob("*")) or [bundle]]

    for folder in (False, True):
        bundle = built(workshop, folder=folder)
        pushed(bundle, registry.host)
        out = workshop.folder / f"out-{folder}"
        pulled(registry.host, out, folder=folder)
        assert modes(out) == modes(bundle)


def test_a_second_push_sends_nothing(workshop: Workshop, registry: Registry) -> None:
    assert pushed(built(workshop), registry.host).sent == 8
    mark = registry.mark()
    again = pushed(built(workshop, folder=True), registry.host)
    assert (again.sent, again.sent_bytes, again.blobs, again.moved) == (0, 0, 8, "")
    assert registry.requests("POST", "PATCH", "PUT", since=mark) == []
    assert len(registry.requests("HEAD", since=mark)) == 9


def test_a_newer_bundle_brings_only_what_is_new(workshop: Workshop, registry: Registry) -> None:
    pushed(built(workshop), registry.host)
    pulled(registry.host, workshop.folder / "out", folder=True)
    models = {**MODELS, "acme/two": {"weights.bin": noise(1_500_000, 77), "readme.txt": b"hello\n"}}
    newer = workshop.build(workshop.lock(models, sequence=2), name="newer.bundle").path
    done = pushed(newer, registry.host)
    assert done.sent == 4  # envelope, attachments, index, one pack
    mark = registry.mark()
    back = pulled(registry.host, workshop.folder / "out", ":line-2", folder=True)
    assert back.fetched == 3  # all of these but the envelope
    assert len(registry.requests("GET", since=mark)) < 8
    expected = workshop.build(workshop.lock(models, sequence=2), name="newer-folder", folder=True).path
    assert tree(workshop.folder / "out") == tree(expected)


def test_the_tag_can_be_chosen_and_a_digest_asked_for(workshop: Workshop, registry: Registry) -> None:
    bundle = built(workshop, models=SMALL)
    done = pushed(bundle, registry.host, ":stable")
    assert str(done.address).endswith(":stable")
    for rest in (":stable", f"@{done.digest}", f":nonsense@{done.digest}"):
        pulled(registry.host, workshop.folder / "out", rest)
        assert (workshop.folder / "out").read_bytes() == bundle.read_bytes()


def test_a_tag_that_moves_is_told(workshop: Workshop, registry: Registry) -> None:
    first = pushed(built(workshop, models=SMALL), registry.host, ":stable")
    other = workshop.build(workshop.lock({"acme/other": {"a": b"b"}}), name="other").path
    assert pushed(other, registry.host, ":stable").moved == str(first.digest)


def test_what_is_pulled_verifies_and_installs(workshop: Workshop, registry: Registry) -> None:
    pushed(built(workshop), registry.host)
    out = workshop.folder / "out.bundle"
    pulled(registry.host, out)
    key = workshop.folder / "key.pub.pem"
    key.write_bytes(elliptic_signer().key.pem)
    said, _ = ended(typed("verify", out, "--key", key, home=workshop.folder))
    assert "line 1: intact; signed by" in said
    root = workshop.site()
    put(out, root)
    installed = next(path for path in sorted(root.path.rglob("weights.bin")) if "acme/one" in path.as_posix())
    assert installed.read_bytes() == MODELS["acme/one"]["weights.bin"]


class TestOtherTools:
    def skopeo(self, *arguments: object) -> bytes:
        if shutil.which("skopeo") is None:
            pytest.skip("skopeo is not installed: that it gives the same digests is not proved by this run")
        command = ["skopeo", "--insecure-policy", *map(str, arguments)]
        return subprocess.run(command, check=True, capture_output=True).stdout

    @pytest.mark.parametrize("form", ["oci", "oci-archive"])
    def test_skopeo_copies_the_same_digest_there_and_we_read_it(
        self, workshop: Workshop, registry: Registry, form: str
    ) -> None:
        bundle = built(workshop, folder=form == "oci")
        there = f"docker://{registry.host}/models/line:copied"
        self.skopeo("copy", "--dest-tls-verify=false", f"{form}:{bundle}:line-1", there)
        manifest = self.skopeo("inspect", "--raw", "--tls-verify=false", there)
        back = pulled(registry.host, workshop.folder / "out", ":copied")
        assert back.digest == Digest.of(manifest)
        assert (workshop.folder / "out").read_bytes() == built(workshop).read_bytes()
        assert pushed(bundle, registry.host).digest == back.digest

    def test_skopeo_reads_what_we_pushed(self, workshop: Workshop, registry: Registry) -> None:
        bundle = built(workshop, folder=True)
        pushed(bundle, registry.host)
        copy = workshop.folder / "copy"
        self.skopeo("copy", "--src-tls-verify=false", f"docker://{registry.host}/models/line:line-1", f"oci:{copy}:x")
        assert tree(copy / "blobs") == tree(bundle / "blobs")

    @pytest.fixture
    def oras(self, registry: Registry) -> Iterator[Any]:
        client = pytest.importorskip("oras.client").OrasClient(hostname=registry.host, insecure=True)
        with closing(client.session):
            yield client

    def test_oras_pulls_what_we_pushed(self, workshop: Workshop, registry: Registry, oras: Any) -> None:
        from oras.layout import NewLayoutFromRegistry

        bundle, copy = built(workshop, folder=True), workshop.folder / "copy"
        pushed(bundle, registry.host)
        NewLayoutFromRegistry(provider=oras, target=f"{registry.host}/models/line:line-1", path=str(copy), tag="line-1")
        assert tree(copy / "blobs") == tree(bundle / "blobs")

    def test_we_pull_what_oras_pushed(self, workshop: Workshop, registry: Registry, oras: Any) -> None:
        from oras.layout import NewLayout

        bundle = built(workshop, folder=True)
        there = f"{registry.host}/models/line:by-oras"
        NewLayout(str(bundle)).push_to_registry(provider=oras, target=there, tag="line-1")
        back = pulled(registry.host, workshop.folder / "out", ":by-oras")
        assert (workshop.folder / "out").read_bytes() == built(workshop).read_bytes()
        again = pushed(bundle, registry.host)
        assert (again.digest, again.sent) == (back.digest, 0)


class TestKilled:
    @pytest.fixture
    def wire(self, registry: Registry) -> Iterator[Wire]:
        with wire_to(registry.host) as wire:
            yield wire

    def settle(self, work: Path) -> None:
        """Return when what was on the wire has been read."""
        sizes: list[int] = []
        while len(sizes) < 4 or len(set(sizes[-4:])) > 1:
            time.sleep(0.1)
            with suppress(FileNotFoundError):  # it landed at this moment
                sizes.append(sum(path.stat().st_size for path in work.rglob("*/downloads/*")))

    def kill(self, wire: Wire, *arguments: object, home: Path) -> None:
        process = typed(*arguments, home=home)
        assert wire.stopped.wait(30), process.communicate()
        self.settle(home / ".out.pull")
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL

    @pytest.mark.parametrize("sent", [1000, 1_000_000, 3_500_000, 6_000_000])
    def test_a_push_that_is_killed_goes_on(self, workshop: Workshop, registry: Registry, wire: Wire, sent: int) -> None:
        bundle = built(workshop)
        wire.stop_after["up"] = sent
        self.kill(wire, "push", bundle, f"oci://{wire.host}/models/line", home=workshop.folder)
        with pytest.raises(SourceNotFoundError):
            pulled(registry.host, workshop.folder / "out")
        there = sum(path.name == "data" for path in (registry.storage).rglob("data") if "blobs/sha256" in str(path))
        done = pushed(bundle, registry.host)
        assert done.sent == 8 - there
        pulled(registry.host, workshop.folder / "out")
        assert (workshop.folder / "out").read_bytes() == bundle.read_bytes()

    @pytest.mark.parametrize("form", ["tar", "folder"])
    @pytest.mark.parametrize("came", [1000, 60_000, 1_000_000, 3_500_000, 6_000_000])
    def test_a_pull_that_is_killed_goes_on(
        self, workshop: Workshop, registry: Registry, wire: Wire, came: int, form: str
    ) -> None:
        pushed(built(workshop), registry.host)
        out = workshop.folder / "out"
        wire.stop_after["down"] = came
        self.kill(
            wire, "pull", f"oci://{wire.host}/models/line:line-1", "-o", out, "--form", form, home=workshop.folder
        )
        assert not out.exists()
        downloads = workshop.folder.glob(".out.pull/*/downloads/*")
        held = sum(path.stat().st_size for path in downloads if not path.suffix)
        with wire_to(registry.host) as second:
            back = pulled(second.host, out, folder=form == "folder")
            assert second.passed["down"] < back.fetched_bytes - held + 200_000
        assert content_of(out) == content_of(built(workshop, folder=form == "folder"))
        assert not strays(workshop.folder, "out")

    def test_another_process_at_the_same_pull_is_waited_for(
        self, workshop: Workshop, registry: Registry, wire: Wire
    ) -> None:
        pushed(built(workshop), registry.host)
        wire.stop_after["down"] = 1_000_000
        out = workshop.folder / "out"
        process = typed("pull", f"oci://{wire.host}/models/line:line-1", "-o", out, home=workshop.folder)
        assert wire.stopped.wait(30)
        try:
            with pytest.raises(BusyError, match="another process is pulling"):
                pulled(registry.host, out)
        finally:
            process.kill()
            process.communicate()

    @pytest.mark.parametrize("form", ["tar", "folder"])
    @pytest.mark.parametrize("few", [True, pytest.param(False, marks=pytest.mark.heavy)])
    def test_a_pull_may_end_at_any_of_its_steps(
        self, workshop: Workshop, registry: Registry, form: str, few: bool
    ) -> None:
        folder = form == "folder"
        models = {"acme/one": MODELS["acme/one"]}
        bundle = built(workshop, folder=folder, models=models)
        pushed(bundle, registry.host)
        out = workshop.folder / "out"
        older = workshop.build(workshop.lock(SMALL), name="out", folder=folder).path
        before = content_of(older)
        calls = ("fsync", "replace", "rename", "unlink", "rmdir", "mkdir", "chmod", "truncate", "ftruncate")

        def run(point: int, target: Path) -> "subprocess.CompletedProcess[str]":
            body = f"""
from bundler.registry.address import Address
from bundler.registry.pull import pull
from bundler.settings import Settings
from manifests.progress import Silent
address = Address.parse({str(address(registry.host, ":line-1"))!r})
pull(address, Path({str(target)!r}), Settings(store=Path("unused")), Silent(), folder={folder})
"""
            environ = {**os.environ, "HOME": str(workshop.folder)}
            program = killed_at(str(point), calls, body)
            return subprocess.run(
                [sys.executable, "-c", program], env=environ, capture_output=True, text=True, check=False
            )

        steps = int(run(0, workshop.folder / "counted").stdout)
        assert steps > 20
        states = set()
        for point in [*range(3, steps - 8, 12), *range(steps - 7, steps + 1, 2)] if few else range(1, steps + 1):
            done = run(point, out)
            assert done.returncode in {0, -signal.SIGKILL}, done.stderr
            now = content_of(out) if out.exists() else None
            states.add("old" if now == before else "new" if now == content_of(bundle) else str(now)[:60])
        pulled(registry.host, out, folder=folder)
        assert states <= ({"old", "new", "None"} if folder else {"old", "new"})
        assert "old" in states
        assert content_of(out) == content_of(bundle)
        assert not strays(workshop.folder, "out")


class TestLogins:
    @pytest.fixture
    def closed(self, tmp_path: Path) -> Iterator[Registry]:
        with registry_server(tmp_path / "closed", login=True) as running:
            yield running

    def as_user(self, workshop: Workshop, host: str, password: str = PASSWORD) -> Registries:
        return Registries((logged_in(workshop.folder / ".docker" / "config.json", host, password=password),))

    def test_a_registry_with_a_password_takes_and_gives(self, workshop: Workshop, closed: Registry) -> None:
        bundle = built(workshop)
        logins = self.as_user(workshop, closed.host)
        pushed(bundle, closed.host, registries=logins)
        pulled(closed.host, workshop.folder / "out", registries=logins)
        assert (workshop.folder / "out").read_bytes() == bundle.read_bytes()

    @pytest.mark.parametrize("password", [None, "wrong-hush"])
    def test_without_the_right_one_it_is_said_and_nothing_is_left(
        self, workshop: Workshop, closed: Registry, password: str | None
    ) -> None:
        bundle = built(workshop, models=SMALL)
        logins = self.as_user(workshop, closed.host, password) if password else Registries()
        with pytest.raises(SourceDeniedError) as caught:
            pushed(bundle, closed.host, registries=logins)
        with pytest.raises(SourceDeniedError):
            pulled(closed.host, workshop.folder / "out", registries=logins)
        assert "login" in caught.value.hint
        assert "hush" not in str(caught.value) + caught.value.hint
        assert not strays(workshop.folder, "out")

    def test_the_program_finds_the_login_of_docker_and_shows_no_secret(
        self, workshop: Workshop, closed: Registry
    ) -> None:
        bundle = built(workshop, models=SMALL)
        self.as_user(workshop, closed.host)
        there = f"oci://{closed.host}/models/line"
        out, err = ended(typed("push", bundle, there, "--json", home=workshop.folder))
        assert json.loads(out)["sent"] == 5
        back, more = ended(typed("pull", f"{there}:line-1", "--json", home=workshop.folder))
        assert json.loads(back)["bundle"] == "line-1.bundle"
        assert (workshop.folder / "line-1.bundle").read_bytes() == bundle.read_bytes()
        assert PASSWORD not in out + err + back + more

    def test_tokens_that_live_for_a_second_are_enough(self, workshop: Workshop) -> None:
        bundle = built(workshop)
        with fake_registry(token_life=1.0) as fake:
            pushed(bundle, fake.host)
            fake.overrides["GET /v2/models/line/blobs"] = slowly(fake)
            pulled(fake.host, workshop.folder / "out", threads=1)
            assert len(fake.tokens) > 2
        assert (workshop.folder / "out").read_bytes() == bundle.read_bytes()


def slowly(fake: Fake) -> object:
    def answer(talk: Request) -> None:
        time.sleep(0.2)
        path = talk.path.partition("?")[0]
        if fake._may(talk):
            fake._get(talk, path, b"")
        else:
            talk.send(b"{}", status=401)

    return answer


class TestDamage:
    @pytest.mark.parametrize("folder", [False, True])
    def test_a_damaged_bundle_is_never_pushed(self, workshop: Workshop, registry: Registry, folder: bool) -> None:
        bundle = built(workshop, folder=folder)
        pack = bundle
        if folder:
            pack = max((bundle / "blobs" / "sha256").iterdir(), key=lambda path: path.stat().st_size)
        content = bytearray(pack.read_bytes())
        content[-1_000_000] ^= 1
        pack.write_bytes(content)
        with pytest.raises(DamagedError, match="was not sent"):
            pushed(bundle, registry.host)
        with pytest.raises(SourceNotFoundError):
            pulled(registry.host, workshop.folder / "out")

    @pytest.mark.parametrize("folder", [False, True])
    def test_a_damaged_bundle_of_that_name_gives_nothing(
        self, workshop: Workshop, registry: Registry, folder: bool
    ) -> None:
        bundle, out = built(workshop, folder=folder), workshop.folder / "out"
        pushed(bundle, registry.host)
        pulled(registry.host, out, folder=folder)
        packs = sorted((out / "blobs" / "sha256").iterdir(), key=lambda path: path.stat().st_size) if folder else [out]
        content = bytearray(packs[-1].read_bytes())
        content[-1_000_000] ^= 1
        packs[-1].write_bytes(content)
        back = pulled(registry.host, out, folder=folder)
        assert back.fetched == 1
        assert content_of(out) == content_of(bundle)

    def test_what_a_killed_pull_began_to_write_is_swept(self, workshop: Workshop, registry: Registry) -> None:
        done = pushed(built(workshop), registry.host)
        work = workshop.folder / ".out.pull" / f"{done.digest.hex[:32]}-folder" / "bundle"
        (work / "blobs" / "sha256").mkdir(parents=True)
        for folder in (work, work / "blobs" / "sha256"):
            (folder / ".index.json.0123abcd.partial").write_bytes(b"begun")
        (workshop.folder / ".out.pull" / "of-another-manifest").mkdir()
        (workshop.folder / ".out.pull" / "a-file").write_bytes(b"of somebody")
        (workshop.folder / ".out.pull" / "a-link").symlink_to(workshop.folder / "store")
        pulled(registry.host, workshop.folder / "out", folder=True)
        assert content_of(workshop.folder / "out") == content_of(built(workshop, folder=True))
        assert not strays(workshop.folder, "out")
        assert list((workshop.folder / "store").iterdir())

    def test_what_a_killed_pull_left_is_not_believed(self, workshop: Workshop, registry: Registry) -> None:
        bundle = built(workshop)
        pushed(bundle, registry.host)
        out = workshop.folder / "out"
        for form in (False, True):
            with wire_to(registry.host) as wire:
                wire.stop_after["down"] = 5_000_000
                word = "folder" if form else "tar"
                process = typed(
                    "pull", f"oci://{wire.host}/models/line:line-1", "-o", out, "--form", word, home=workshop.folder
                )
                assert wire.stopped.wait(30)
                process.kill()
                process.communicate()
            landed = [path for path in workshop.folder.glob(".out.pull/*/**/*") if path.is_file()]
            assert landed
            for path in landed:
                content = bytearray(path.read_bytes())
                if path.suffix != ".json" and len(content) > 2000:
                    for place in range(1000, len(content), 1000):
                        content[place] ^= 1
                    path.chmod(0o644)
                    path.write_bytes(content)
            pulled(registry.host, out, folder=form)
            assert content_of(out) == content_of(built(workshop, folder=form))
            shutil.rmtree(out) if form else out.unlink()

    def test_a_blob_that_the_registry_lost_or_changed_leaves_no_bundle(
        self, workshop: Workshop, registry: Registry
    ) -> None:
        bundle = built(workshop, folder=True)
        pushed(bundle, registry.host)
        packs = sorted((bundle / "blobs" / "sha256").iterdir(), key=lambda path: path.stat().st_size)[-2:]
        whole = registry.blob(packs[0].name).read_bytes()
        registry.blob(packs[0].name).write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        with pytest.raises(SourceError):
            pulled(registry.host, workshop.folder / "out")
        assert not (workshop.folder / "out").exists()
        registry.blob(packs[0].name).write_bytes(whole)
        back = pulled(registry.host, workshop.folder / "out")
        assert back.fetched < back.blobs - 1


class TestHostile:
    """A registry that gives manifests of its own making."""

    @pytest.fixture
    def small(self, workshop: Workshop, fake: Fake) -> tuple[Path, dict[str, object]]:
        bundle = built(workshop, models=SMALL)
        pushed(bundle, fake.host)
        return bundle, json.loads(fake.manifests["line-1"])

    def canonical(self, document: object) -> bytes:
        return json.dumps(document, separators=(",", ":"), sort_keys=True).encode()

    @pytest.mark.parametrize(
        ("change", "kind"),
        [
            ({"artifactType": "application/vnd.other"}, FormatError),
            ({"artifactType": "application/vnd.offline-bundle.v2"}, UnsupportedFormatError),
            ({"schemaVersion": 3}, FormatError),
            ({"annotations": {"a": "b"}}, FormatError),
            ({"layers": []}, FormatError),
            ({"layers": "many"}, SourceError),
        ],
    )
    def test_a_manifest_that_is_none_of_ours_is_refused(
        self,
        workshop: Workshop,
        fake: Fake,
        small: tuple[Path, dict[str, object]],
        change: dict[str, object],
        kind: type[Exception],
    ) -> None:
        fake.manifests["line-1"] = self.canonical({**small[1], **change})
        with pytest.raises(kind):
            pulled(fake.host, workshop.folder / "out")
        assert not (workshop.folder / "out").exists()
        assert not strays(workshop.folder, "out")

    @pytest.mark.usefixtures("small")
    @pytest.mark.parametrize("size", [-1, 0, 1 << 62, (256 << 20) + 1, "big"])
    @pytest.mark.parametrize("layer", [0, 1, 2, 3])
    def test_a_size_that_no_bundle_has_is_refused_before_anything_is_fetched(
        self, workshop: Workshop, fake: Fake, layer: int, size: object
    ) -> None:
        document = json.loads(fake.manifests["line-1"])
        document["layers"][layer]["size"] = size
        fake.manifests["line-1"] = self.canonical(document)
        with pytest.raises((FormatError, SourceError, DiskFullError)):
            pulled(fake.host, workshop.folder / "out")
        assert not (workshop.folder / "out").exists()

    def test_layers_that_were_swapped_or_doubled_are_refused(
        self, workshop: Workshop, fake: Fake, small: tuple[Path, dict[str, object]]
    ) -> None:
        layers = json.loads(fake.manifests["line-1"])["layers"]
        for wrong in ([*layers[:3], *layers[3:], layers[3]], [layers[0], layers[2], layers[1], *layers[3:]]):
            fake.manifests["line-1"] = self.canonical({**small[1], "layers": wrong})
            with pytest.raises((FormatError, SourceError)):
                pulled(fake.host, workshop.folder / "out")

    @pytest.mark.usefixtures("small")
    @pytest.mark.parametrize("line", ["../outside/x", "/{folder}/outside/x", "", "Line", "a\nb", "."])
    def test_a_line_that_is_no_name_names_no_file(
        self, workshop: Workshop, fake: Fake, monkeypatch: pytest.MonkeyPatch, line: str
    ) -> None:
        document = json.loads(fake.manifests["line-1"])
        outer = envelope.decode(fake.blobs[document["layers"][0]["digest"]])
        told = line.format(folder=workshop.folder)
        lying = envelope.encode(statement.encode(replace(statement.decode(outer.payload), line=told)), outer.signatures)
        fake.blobs[str(Digest.of(lying))] = lying
        document["layers"][0] |= {"digest": str(Digest.of(lying)), "size": len(lying)}
        fake.manifests["line-1"] = self.canonical(document)
        here = workshop.folder / "here"
        here.mkdir()
        monkeypatch.chdir(here)
        with pytest.raises(FormatError, match="cannot name a bundle line"):
            pull(address(fake.host, ":line-1"), None, calm(workshop.folder / "store"), Silent())
        assert not list(here.iterdir())
        assert not (workshop.folder / "outside").exists()

    @pytest.mark.usefixtures("small")
    def test_a_pack_of_another_bundle_is_refused_in_the_end(self, workshop: Workshop, fake: Fake) -> None:
        document = json.loads(fake.manifests["line-1"])
        fake.blobs[str(Digest.of(b"another pack"))] = b"another pack"
        document["layers"][3] |= {"digest": str(Digest.of(b"another pack")), "size": 12}
        fake.manifests["line-1"] = self.canonical(document)
        with pytest.raises(FormatError, match="disagree about packs"):
            pulled(fake.host, workshop.folder / "out")
        assert not (workshop.folder / "out").exists()
        assert not strays(workshop.folder, "out")

    @pytest.mark.parametrize(
        "document",
        [
            {"mediaType": "application/vnd.oci.image.index.v1+json", "manifests": []},
            {
                "manifests": [
                    {"digest": "sha256:1", "size": 1, "platform": {"os": "linux", "architecture": "amd64"}},
                    {"digest": "sha256:2", "size": 1, "platform": {"os": "linux", "architecture": "arm64"}},
                ]
            },
        ],
    )
    def test_a_list_of_manifests_is_refused_by_its_platforms(
        self, workshop: Workshop, fake: Fake, document: dict[str, object]
    ) -> None:
        fake.manifests["line-1"] = self.canonical(document)
        with pytest.raises(SourceError, match="list of") as caught:
            pulled(fake.host, workshop.folder / "out")
        if document["manifests"]:
            assert "linux/amd64 @sha256:1, linux/arm64 @sha256:2" in caught.value.hint


class TestMisuse:
    def test_a_missing_tag_is_told_with_those_that_are_there(self, workshop: Workshop, registry: Registry) -> None:
        pushed(built(workshop, models=SMALL), registry.host)
        for rest in (":line-7", ""):
            with pytest.raises(SourceNotFoundError) as caught:
                pulled(registry.host, workshop.folder / "out", rest)
            assert caught.value.hint == "there are: line-1"

    def test_a_push_goes_to_a_tag_only(self, workshop: Workshop) -> None:
        for rest in (f"@sha256:{'0' * 64}", ":v1/file"):
            with pytest.raises(ManifestError, match="pushed to a tag"):
                pushed(built(workshop, models=SMALL), "localhost:1", rest)

    def test_what_is_no_bundle_is_not_pushed(self, workshop: Workshop) -> None:
        stray = workshop.folder / "notes.txt"
        stray.write_text("hello")
        with pytest.raises(FormatError):
            pushed(stray, "localhost:1")

    def test_nothing_but_a_bundle_is_replaced(self, workshop: Workshop, registry: Registry) -> None:
        pushed(built(workshop, models=SMALL), registry.host)
        (workshop.folder / "mine").mkdir()
        (workshop.folder / "mine" / "file").write_text("precious")
        (workshop.folder / "file").write_text("precious")
        for name, folder in (("mine", False), ("mine", True), ("file", False), ("file", True)):
            with pytest.raises(StorageError):
                pulled(registry.host, workshop.folder / name, folder=folder)
        assert (workshop.folder / "mine" / "file").read_text() == (workshop.folder / "file").read_text() == "precious"

    def test_a_stray_in_the_way_of_the_working_folder_is_named(self, workshop: Workshop, registry: Registry) -> None:
        pushed(built(workshop, models=SMALL), registry.host)
        (workshop.folder / ".out.pull").symlink_to(workshop.folder / "store")
        with pytest.raises(StorageError, match="in the way"):
            pulled(registry.host, workshop.folder / "out")

    def test_a_full_disk_is_told_before_the_first_blob(
        self, workshop: Workshop, registry: Registry, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pushed(built(workshop), registry.host)
        real = shutil.disk_usage
        monkeypatch.setattr(shutil, "disk_usage", lambda path: real(path)._replace(free=20 << 20))
        with pytest.raises(DiskFullError, match="are needed to pull it"):
            pulled(registry.host, workshop.folder / "out")

    def test_a_registry_elsewhere_is_spoken_to_without_tls_only_if_that_is_typed(
        self, workshop: Workshop, registry: Registry
    ) -> None:
        bundle = built(workshop, models=SMALL)
        elsewhere = f"oci://{registry.host.replace('127.0.0.1', '127.1')}/models/line:v1"
        _, err = ended(typed("push", bundle, elsewhere, home=workshop.folder), errors.SourceUnreachableError.exit_code)
        assert "no TLS connection" in err
        assert "--plain-http" in err
        ended(typed("push", bundle, elsewhere, "--plain-http", home=workshop.folder))
        ended(typed("pull", elsewhere, "--plain-http", "-o", "out", home=workshop.folder))
        assert (workshop.folder / "out").read_bytes() == bundle.read_bytes()

    def test_a_mirror_answers_for_a_registry_that_cannot_be_reached(
        self, workshop: Workshop, registry: Registry
    ) -> None:
        bundle = built(workshop, models=SMALL)
        pushed(bundle, registry.host)
        there = "oci://registry.example.invalid/models/line:line-1"
        mirror = f"https://registry.example.invalid=http://{registry.host}"
        ended(typed("pull", there, "--mirror", mirror, "-o", "out", home=workshop.folder))
        assert (workshop.folder / "out").read_bytes() == bundle.read_bytes()
        ended(typed("pull", there, "-o", "second", home=workshop.folder, BUNDLE_MIRRORS=mirror))
        assert (workshop.folder / "second").read_bytes() == bundle.read_bytes()

    @pytest.mark.parametrize(
        ("arguments", "code", "told"),
        [
            (("push", "tar.bundle", "registry.example.com/line"), 2, "does not begin with oci://"),
            (("push", "tar.bundle", "oci://registry.example.com"), 2, "not an address"),
            (("push", "tar.bundle", "oci://h/a:v1/file"), 2, "pushed to a tag"),
            (("push", "missing.bundle", "oci://localhost:1/a"), errors.FormatError.exit_code, "no such file"),
            (("pull", "oci://h/a:v1/file"), 2, "as a whole"),
            (("pull", "oci://Host/Line:v1"), 2, "capital letters"),
            (("pull", "oci://user:hush@h/a:v1"), 2, "docker login"),
        ],
    )
    def test_what_is_typed_wrong_is_told_with_the_way_out(
        self, workshop: Workshop, arguments: tuple[str, ...], code: int, told: str
    ) -> None:
        built(workshop, models=SMALL)
        out, err = ended(typed(*arguments, home=workshop.folder), code)
        assert told in err
        assert "hush" not in out + err
        assert "Traceback" not in err


def test_a_bundle_without_a_signature_can_be_carried_too(workshop: Workshop, registry: Registry) -> None:
    bundle = workshop.build(workshop.lock(SMALL), signers=Signers.of(), name="unsigned").path
    pushed(bundle, registry.host)
    pulled(registry.host, workshop.folder / "out")
    assert (workshop.folder / "out").read_bytes() == bundle.read_bytes()


def test_progress_is_told_once_for_every_byte(workshop: Workshop, registry: Registry) -> None:
    class Counting(Silent):
        def __init__(self) -> None:
            self.totals: dict[str, int] = {}
            self.done: dict[str, int] = {}

        def started(self, name: str, total: int | None) -> None:
            self.totals[name] = total or 0
            self.done.setdefault(name, 0)

        def advanced(self, name: str, size: int) -> None:
            self.done[name] += size

    bundle = built(workshop)
    settings = replace(calm(workshop.folder / "store"))
    assert isinstance(settings, Settings)
    up, down = Counting(), Counting()
    push(bundle, address(registry.host), settings, up, piece=256 << 10)
    pull(address(registry.host, ":line-1"), workshop.folder / "out", settings, down)
    assert up.totals == up.done
    assert down.totals == down.done
    assert "line-1 pack 4 of 4" in up.done
    assert USER not in str(up.done)
