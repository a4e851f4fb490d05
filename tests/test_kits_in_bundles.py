"""The program travels like a model: locked, signed, carried, installed; offered by the site, and never run by it."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from msgspec.structs import replace as replace_struct

from bundler.assemble import Built, Signers
from bundler.building import Building
from bundler.locking import Locking
from bundler.settings import Settings
from factory import Workshop, elliptic_signer, put, tree
from kit_files import kit_files, write_kit
from manifests import content, kit
from manifests.bundle import SealedBundle
from manifests.content import Content, File, KitPackage, Wheels
from manifests.errors import BundleError, CorruptStoreError, FormatError, ManifestError, NamingError, StorageError
from manifests.keyring import Keyring
from manifests.progress import Silent
from runtime import kits
from runtime.generations import open_catalogue

LINUX, WINDOWS = "manylinux_2_28_x86_64", "win_amd64"


def written(folder: Path, manifest: object) -> Path:
    path = folder / "line.json"
    path.write_text(json.dumps(manifest))
    return path


def built(folder: Path, manifest: object) -> Built:
    settings = replace(Settings.read({"HOME": str(folder)}), store=folder / "store")
    path = written(folder, manifest)
    Locking(path, folder / "line.lock.json", settings, Silent()).run(check=False, upgrade=False, sequence=None)
    signers = Signers.of(elliptic_signer())
    return Building(path, settings, Silent()).run(folder / "line.bundle", signers, folder=False)


@pytest.fixture
def carried(tmp_path: Path) -> Built:
    """A bundle with two kits, for two platforms, and nothing else."""
    write_kit(tmp_path / "linux", kit_files())
    write_kit(tmp_path / "windows", kit_files(platform=WINDOWS))
    return built(tmp_path, {"name": "program", "kits": [{"id": "program", "sources": ["./linux", "./windows"]}]})


def test_a_bundle_may_carry_nothing_but_kits(carried: Built, tmp_path: Path) -> None:
    root = Workshop(tmp_path / "site").site()
    done = put(carried.path, root)
    assert [(each.program, each.package.platform) for each in done.kits] == [("1.0", LINUX), ("1.0", WINDOWS)]
    assert done.models == ()
    assert not open_catalogue(root.path).models
    assert [each.package.id for each in kits.installed(root)] == ["manylinux228x8664py311", "winamd64py311"]


def test_what_lies_on_the_site_is_the_kit_and_runs_where_it_lies(carried: Built, tmp_path: Path) -> None:
    root = Workshop(tmp_path / "site").site()
    put(carried.path, root)
    linux, _ = kits.installed(root)
    assert tree(linux.directory) == tree(tmp_path / "linux")


def test_a_kit_is_unpacked_with_the_modes_of_a_kit(carried: Built, tmp_path: Path) -> None:
    root = Workshop(tmp_path / "site").site()
    put(carried.path, root)
    kits.unpack(kits.installed(root)[0], out := tmp_path / "kit")
    assert tree(out) == tree(tmp_path / "linux")
    assert (out / "install.sh").stat().st_mode & 0o777 == 0o755
    assert (out / "kit.json").stat().st_mode & 0o777 == 0o644
    kits.unpack(kits.installed(root)[1], out)
    assert tree(out) == tree(tmp_path / "windows")


def test_unpacking_replaces_a_kit_and_nothing_else(carried: Built, tmp_path: Path) -> None:
    root = Workshop(tmp_path / "site").site()
    put(carried.path, root)
    precious = tmp_path / "home" / "letters.txt"
    precious.parent.mkdir()
    precious.write_text("mine")
    for taken in (precious, precious.parent):
        with pytest.raises(StorageError, match="is not a kit"):
            kits.unpack(kits.installed(root)[0], taken)
    assert precious.read_text() == "mine"


def test_a_wheel_that_rotted_on_the_site_is_not_unpacked(carried: Built, tmp_path: Path) -> None:
    root = Workshop(tmp_path / "site").site()
    put(carried.path, root)
    linux, _ = kits.installed(root)
    wheel = next(linux.directory.glob("wheels/*"))
    wheel.chmod(0o644)
    wheel.write_bytes(b"a tampered wheel")
    with pytest.raises(CorruptStoreError, match="not the file that was signed"):
        kits.unpack(linux, tmp_path / "kit")
    assert [path for path in tmp_path.iterdir() if "kit" in path.name and path.name != "kits"] == []


def test_a_kit_that_only_a_newer_program_can_describe_is_installed_shown_and_unpacked(
    carried: Built, tmp_path: Path
) -> None:
    """What it is for stands in the index: this is how a site gets that newer program."""
    root = Workshop(tmp_path / "site").site()
    put(carried.path, root)
    described = kits.installed(root)[0].directory / "kit.json"
    described.chmod(0o644)
    described.write_text('{"format": 2}')
    (shown, _) = kits.installed(root)
    assert (shown.program, shown.package.platform, shown.package.python) == ("1.0", LINUX, "3.11")
    assert LINUX in run("list", "--root", root.path)


def test_each_kit_has_a_model_signature_of_its_own(carried: Built, tmp_path: Path) -> None:
    with SealedBundle.open(carried.path) as sealed:
        bundle = sealed.verify(Keyring.of([elliptic_signer().key]))
        (item,) = bundle.index.content.wheels
        for package in item.packages:
            assert bundle.model_signature(item, package)
    assert bundle.index.head.requires.kinds == ("wheels",)


def test_models_and_kits_travel_together_and_a_new_program_raises_the_sequence(tmp_path: Path) -> None:
    write_kit(tmp_path / "kit", kit_files())
    (tmp_path / "notes.txt").write_text("a file")
    manifest = {
        "name": "line",
        "models": [{"id": "notes", "source": "./notes.txt"}],
        "kits": [{"id": "program", "source": "./kit"}],
    }
    root = Workshop(tmp_path / "site").site()
    assert put(built(tmp_path, manifest).path, root).sequence == 1
    for path, text in kit_files(program="1.1").items():
        (tmp_path / "kit" / path).write_bytes(text)
    (tmp_path / "kit" / "wheels" / "offline_bundle-1.0-py3-none-any.whl").unlink()
    done = put(built(tmp_path, manifest).path, root)
    assert (done.sequence, done.models, done.kits[0].program) == (2, ("notes",), "1.1")
    assert [each.program for each in kits.installed(root)] == ["1.1"]


@pytest.mark.parametrize("line", ["../x", "/etc/passwd", "a//b", "wheels/\x1b[2J"])
def test_sums_that_name_what_no_kit_can_hold_are_refused_as_such(line: str, carried: Built, tmp_path: Path) -> None:
    """Also where an older kit is to be replaced: nothing of a stick is ever a path before it was looked at."""
    sums = f"{'0' * 64}  {line}\n".encode()
    with pytest.raises(FormatError):
        kit.decode_sums(sums, subject="SHA256SUMS")
    root = Workshop(tmp_path / "site").site()
    put(carried.path, root)
    (tmp_path / "linux" / kit.SUMS).write_bytes(sums)
    with pytest.raises(StorageError, match="is not a whole kit"):
        kits.unpack(kits.installed(root)[0], tmp_path / "linux")


SPOILED: dict[str, tuple[Callable[[dict[str, bytes]], object], str]] = {
    "no description": (lambda files: files.pop(kit.DESCRIPTION), "is no kit: it has no kit.json"),
    "no sums": (lambda files: files.pop(kit.SUMS), "is no kit: it has no SHA256SUMS"),
    "a wheel less": (lambda files: files.pop("wheels/offline_bundle-1.0-py3-none-any.whl"), "is missing"),
    "a file more": (lambda files: files.update(extra=b"x"), "extra is not in SHA256SUMS"),
    "another installer": (lambda files: files.update({kit.INSTALLER: b"rm -rf /\n"}), "install.sh is not the file"),
    "sums that are none": (lambda files: files.update({kit.SUMS: b"hello\n"}), "not a line of SHA256SUMS"),
    "a description that is none": (lambda files: files.update({kit.DESCRIPTION: b"[]"}), "kit.json"),
}


@pytest.mark.parametrize("name", SPOILED)
def test_a_folder_that_is_no_whole_kit_is_not_locked(name: str, tmp_path: Path) -> None:
    spoil, told = SPOILED[name]
    files = kit_files()
    spoil(files)
    write_kit(tmp_path / "kit", files)
    with pytest.raises(ManifestError, match=told):
        built(tmp_path, {"name": "line", "kits": [{"id": "program", "source": "./kit"}]})
    assert not (tmp_path / "line.lock.json").exists()


TOGETHER = {
    "two versions": ((kit_files(), kit_files(program="2.0", platform=WINDOWS)), "different versions"),
    "one platform twice": ((kit_files(), kit_files(wheel=b"another")), "two of its folders are for one platform"),
}


@pytest.mark.parametrize("name", TOGETHER)
def test_kits_of_one_item_are_one_version_for_different_platforms(name: str, tmp_path: Path) -> None:
    folders, told = TOGETHER[name]
    for number, files in enumerate(folders):
        write_kit(tmp_path / f"kit{number}", files)
    with pytest.raises(ManifestError, match=told):
        built(tmp_path, {"name": "line", "kits": [{"id": "program", "sources": ["./kit0", "./kit1"]}]})


MANIFESTS: dict[str, tuple[object, type[BundleError], str]] = {
    "nothing": ({"name": "line"}, ManifestError, "at least one model, or a kit"),
    "no source": ({"name": "line", "kits": [{"id": "a"}]}, ManifestError, "sources"),
    "an empty list": ({"name": "line", "kits": [{"id": "a", "sources": []}]}, ManifestError, "needs a `source`"),
    "both spellings": (
        {"name": "line", "kits": [{"id": "a", "source": "./a", "sources": ["./b"]}]},
        ManifestError,
        "unknown key `source`",
    ),
    "the id of a model": (
        {"name": "line", "models": [{"id": "A", "source": "./kit"}], "kits": [{"id": "a", "source": "./kit"}]},
        NamingError,
        "clash",
    ),
    "a reserved id": ({"name": "line", "kits": [{"id": "hub/x", "source": "./kit"}]}, NamingError, "keeps for itself"),
}


@pytest.mark.parametrize("name", MANIFESTS)
def test_a_wrong_request_for_a_kit_is_refused(name: str, tmp_path: Path) -> None:
    asked, kind, told = MANIFESTS[name]
    write_kit(tmp_path / "kit", kit_files())
    with pytest.raises(kind, match=told):
        built(tmp_path, asked)


def test_the_description_in_the_format_document_is_one() -> None:
    document = (Path(kit.__file__).parent / "FORMAT.md").read_text().split("## 9. A kit")[1]
    (example,) = re.findall(r"```json\n(.*?)```", document.split("## 10.")[0], re.DOTALL)
    described = kit.decode(example.encode(), subject="FORMAT.md")
    assert (described.platform, described.extras) == (LINUX, ("cpu", "serve"))
    for name in (kit.DESCRIPTION, kit.REQUIREMENTS, kit.INSTALLER, kit.SUMS, f"{kit.WHEELS}/", f"{kit.TRUST}/"):
        assert f"\n{name}" in document


def wheels(**changed: object) -> Content:
    file = File(path="kit.json", blob="sha256:" + "0" * 64, size=1, source="./kit.json", lfs=False)
    package = KitPackage(id="p", files=(file,), default=True, platform=LINUX, python="3.11")
    fields: dict[str, object] = {"id": "program", "program": "1.0", "packages": (package,)}
    item = Wheels(**{**fields, **changed})  # type: ignore[arg-type]
    return Content(line="line", sequence=1, items=(item,))


def test_an_item_of_wheels_is_read_back_as_it_was_written() -> None:
    assert content.decode(content.encode(wheels())) == wheels()
    assert b'"kind":"wheels"' in content.encode(wheels())


def test_a_hostile_item_of_wheels_is_refused() -> None:
    (package,) = wheels().items[0].packages
    assert isinstance(package, KitPackage)
    other = replace_struct(package, default=False)
    backend = replace_struct(package, backend="onnx")
    for changed in (
        {"id": "../etc"},
        {"program": ""},
        {"program": "1\x1b[2J"},
        {"packages": (replace_struct(package, platform="../x"),)},
        {"packages": (replace_struct(package, python=""),)},
        {"packages": ()},
        {"packages": (other,)},
        {"packages": (package, other)},
        {"packages": (backend,)},
    ):
        with pytest.raises(FormatError):
            content.decode(content.encode(wheels(**changed)))


def run(*arguments: object, code: int = 0) -> str:
    command = [sys.executable, "-m", "bundler", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_the_program_offers_a_kit_and_unpacks_the_one_that_is_asked_for(carried: Built, tmp_path: Path) -> None:
    root = Workshop(tmp_path / "site").site()
    assert f"bundle kit --from {root.path} -o kit" in run("install", carried.path, "--root", root.path)
    assert WINDOWS in run("list", "--root", root.path)
    out = tmp_path / "kit"
    several = run("kit", "--from", root.path, "-o", out, code=2)
    assert f"--platform {LINUX} --python 3.11; --platform {WINDOWS} --python 3.11" in several
    run("kit", "--from", root.path, "-o", out, "--platform", WINDOWS)
    assert tree(out) == tree(tmp_path / "windows")
    assert "no kits for that" in run("kit", "--from", root.path, "-o", out, "--python", "3.12", code=2)
    assert "takes a kit as it is" in run("kit", "--from", root.path, "-o", out, "--extra", "serve", code=2)
    assert tree(out) == tree(tmp_path / "windows")


def test_a_site_without_kits_says_so(tmp_path: Path) -> None:
    root = Workshop(tmp_path).site()
    assert "no bundle brought a kit" in run("kit", "--from", root.path, "-o", tmp_path / "kit", code=53)
    assert not (tmp_path / "kit").exists()
