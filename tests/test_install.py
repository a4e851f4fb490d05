"""Installing: all of it or nothing, every client's tree, one copy of each blob."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import scan_cache_dir, snapshot_download

from bundler.assemble import Signers
from crashing import killed_at
from factory import NOW, Workshop, elliptic_signer, incompressible, put, tree
from manifests.digest import Digest
from manifests.errors import (
    BusyError,
    CorruptStoreError,
    DamagedError,
    DiskFullError,
    NamingError,
    NoRootOfTrustError,
    NotARootError,
    RollbackError,
    StorageError,
    UnknownKeyError,
    UnknownModelError,
    UnsupportedFormatError,
)
from manifests.lock import Lock, LockedModel
from manifests.naming import slug
from manifests.progress import Silent
from onnx_files import detector_model
from runtime import install, ledger
from runtime.generations import open_catalogue
from runtime.root import Root

WEIGHTS = incompressible(6_000_000)
MODELS = {"acme/one": {"weights.bin": WEIGHTS, "config/a.json": b"{}\n"}, "two": {"copy.bin": WEIGHTS}}
CHANGED = {**MODELS, "two": {"copy.bin": WEIGHTS, "new.txt": b"new\n"}}


@pytest.fixture
def site(workshop: Workshop) -> Root:
    return workshop.site()


def state(root: Root) -> dict[str, object]:
    """All that an install may change, and its temporaries."""
    return {name: content for name, content in tree(root.path).items() if not name.startswith("state/")}


def test_the_files_are_where_plain_readers_look(workshop: Workshop, site: Root) -> None:
    done = put(workshop.build(workshop.lock(MODELS)).path, site)
    current = site.path / "current"
    assert (current / "plain/acme/one/weights.bin").read_bytes() == WEIGHTS
    assert (current / "plain/acme/one/config/a.json").read_bytes() == b"{}\n"
    assert (current / "plain/two/copy.bin").read_bytes() == WEIGHTS
    assert done.changed
    assert done.generation == 1


def test_equal_files_take_space_once(workshop: Workshop, site: Root) -> None:
    put(workshop.build(workshop.lock(MODELS)).path, site)
    blob = site.blob(Digest.of(WEIGHTS))
    names = [path for path in site.path.rglob("*") if path.is_file() and path.stat().st_ino == blob.stat().st_ino]
    assert len([path for path in names if not path.is_symlink()]) == 5  # blob, two plain folders, two hub blobs


def test_small_files_are_copies_that_a_client_may_rewrite(workshop: Workshop, site: Root) -> None:
    put(workshop.build(workshop.lock(MODELS)).path, site)
    path = site.path / "current/plain/acme/one/config/a.json"
    with path.open("r+b") as stream:
        stream.write(b"[]")
    assert site.blob(Digest.of(b"{}\n")).read_bytes() == b"{}\n"


def test_huggingface_hub_finds_the_snapshot(workshop: Workshop, site: Root) -> None:
    put(workshop.build(workshop.lock(MODELS)).path, site)
    hub = site.path / "current" / "plain" / "hub"
    folder = Path(snapshot_download("acme/one", cache_dir=hub, local_files_only=True))
    assert (folder / "weights.bin").read_bytes() == WEIGHTS
    scanned = scan_cache_dir(hub)
    assert {repository.repo_id for repository in scanned.repos} == {"acme/one", "two"}
    assert not scanned.warnings


def test_huggingface_hub_notices_a_snapshot_that_lacks_a_file(workshop: Workshop, site: Root) -> None:
    from huggingface_hub.errors import IncompleteSnapshotError

    put(workshop.build(workshop.lock(MODELS)).path, site)
    hub = site.path / "current" / "plain" / "hub"
    next(hub.glob("models--acme--one/snapshots/*/weights.bin")).unlink()
    with pytest.raises(IncompleteSnapshotError):
        snapshot_download("acme/one", cache_dir=hub, local_files_only=True)


def test_model_signing_verifies_every_package_with_none_of_our_code(workshop: Workshop, site: Root) -> None:
    put(workshop.build(workshop.lock(MODELS)).path, site)
    key = workshop.folder / "key.pub.pem"
    key.write_bytes(elliptic_signer().key.pem)
    tool = Path(sys.executable).with_name("model_signing")
    for name in MODELS:
        signature = site.path / "current/signatures" / name / "files.sig"
        folder = (site.path / "current/plain" / name).resolve()
        command = [tool, "verify", "key", folder, "--signature", signature, "--public_key", key]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    (site.path / "current/plain/two/extra").write_text("x")
    assert subprocess.run(command, capture_output=True, check=False).returncode != 0


def test_a_generation_is_whole_by_itself(workshop: Workshop, site: Root, tmp_path: Path) -> None:
    put(workshop.build(workshop.lock(MODELS)).path, site)
    before = tree(site.generation(1))
    shutil.copytree(site.generation(1), tmp_path / "elsewhere", symlinks=True)
    shutil.rmtree(site.path / "blobs")
    assert tree(tmp_path / "elsewhere") == before
    for path in (tmp_path / "elsewhere").rglob("*"):
        if path.is_symlink():
            assert path.resolve().is_relative_to((tmp_path / "elsewhere" / "plain" / "hub").resolve())


def test_two_sites_with_the_same_bundles_have_the_same_bytes(workshop: Workshop) -> None:
    bundle = workshop.build(workshop.lock(MODELS)).path
    one, other = workshop.site("one"), workshop.site("other")
    put(bundle, one)
    put(bundle, other)
    assert tree(one.generation(1)) == tree(other.generation(1))


def test_a_second_install_changes_nothing_and_says_so(workshop: Workshop, site: Root) -> None:
    bundle = workshop.build(workshop.lock(MODELS)).path
    put(bundle, site)
    before = state(site)
    again = put(bundle, site)
    assert not again.changed
    assert state(site) == before


def test_a_later_sequence_replaces_the_line_and_reuses_what_is_here(workshop: Workshop, site: Root) -> None:
    put(workshop.build(workshop.lock(MODELS)).path, site)
    done = put(workshop.build(workshop.lock(CHANGED, sequence=2), name="2").path, site)
    assert (done.generation, done.staged, done.reused > 6_000_000) == (2, len(b"new\n"), True)
    assert [entry.sequence for entry in ledger.read(site)] == [1, 2]


def test_an_older_bundle_is_refused_unless_the_operator_says_so(workshop: Workshop, site: Root) -> None:
    old = workshop.build(workshop.lock(MODELS), name="1").path
    put(workshop.build(workshop.lock(CHANGED, sequence=2), name="2").path, site)
    before = state(site)
    with pytest.raises(RollbackError, match="older"):
        put(old, site)
    assert state(site) == before
    assert put(old, site, allow_older=True).changed
    assert ledger.read(site)[-1].older_allowed


def test_the_floor_holds_when_the_ledger_is_lost(workshop: Workshop, site: Root) -> None:
    old = workshop.build(workshop.lock(MODELS), name="1").path
    put(workshop.build(workshop.lock(CHANGED, sequence=2), name="2").path, site)
    shutil.rmtree(site.ledger)
    with pytest.raises(RollbackError):
        put(old, site)


def test_another_bundle_under_the_same_number_is_refused(workshop: Workshop, site: Root) -> None:
    put(workshop.build(workshop.lock(MODELS)).path, site)
    other = workshop.build(workshop.lock(CHANGED), name="other").path
    for allow in (False, True):
        with pytest.raises(RollbackError, match="under one number"):
            put(other, site, allow_older=allow)


def test_lines_are_a_union_and_an_id_belongs_to_one_of_them(workshop: Workshop, site: Root) -> None:
    put(workshop.build(workshop.lock(MODELS)).path, site)
    put(workshop.build(workshop.lock({"three": {"x": b"3"}}, line="other"), name="o").path, site)
    assert {model.id for model in open_catalogue(site.path).models} == {"acme/one", "two", "three"}
    with pytest.raises(NamingError, match=r"line.*third"):
        put(workshop.build(workshop.lock({"Acme/One": {"x": b"3"}}, line="third"), name="t").path, site)
    with pytest.raises(NamingError):
        put(workshop.build(workshop.lock({"acme": {"x": b"3"}}, line="third"), name="t").path, site)
    assert len(open_catalogue(site.path).models) == 3


def test_without_a_root_of_trust_nothing_is_read_and_the_way_is_told(workshop: Workshop, tmp_path: Path) -> None:
    bundle = workshop.build(workshop.lock(MODELS)).path
    with pytest.raises(NoRootOfTrustError) as caught:
        put(bundle, Root(tmp_path / "nowhere"))
    assert "bundle trust init" in caught.value.hint
    assert not (tmp_path / "nowhere").exists()


def test_a_refused_bundle_leaves_the_root_as_it_was(workshop: Workshop, site: Root) -> None:
    bundle = workshop.build(workshop.lock(MODELS), signers=Signers.of(elliptic_signer(2))).path
    before = tree(site.path)
    with pytest.raises(UnknownKeyError):
        put(bundle, site)
    assert tree(site.path) == before


def test_a_damaged_pack_activates_nothing_and_the_next_install_goes_on(workshop: Workshop, site: Root) -> None:
    bundle = workshop.build(workshop.lock({"a": {"1": WEIGHTS}, "b": {"2": incompressible(5_000_000, 9)}})).path
    whole = bundle.read_bytes()
    place = len(whole) - 200_000
    bundle.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
    with pytest.raises(DamagedError, match="pack 2 of 2"):
        put(bundle, site)
    assert site.current() is None
    bundle.write_bytes(whole)
    assert put(bundle, site).reused == len(WEIGHTS)


def test_a_blob_that_was_changed_is_put_in_quarantine_and_staged_anew(workshop: Workshop, site: Root) -> None:
    put(workshop.build(workshop.lock(MODELS)).path, site)
    victim = site.blob(Digest.of(WEIGHTS))
    victim.unlink()
    victim.write_bytes(b"short")
    put(workshop.build(workshop.lock(CHANGED, sequence=2), name="2").path, site)
    assert victim.read_bytes() == WEIGHTS
    assert (site.quarantine / victim.name).read_bytes() == b"short"


def test_a_blob_without_its_recipe_is_proved_by_its_digest(workshop: Workshop, site: Root) -> None:
    put(workshop.build(workshop.lock(MODELS)).path, site)
    site.recipe(Digest.of(WEIGHTS)).unlink()
    done = put(workshop.build(workshop.lock(CHANGED, sequence=2), name="2").path, site)
    assert done.staged == len(b"new\n")
    assert site.recipe(Digest.of(WEIGHTS)).exists()


def test_a_full_disk_is_said_before_the_first_byte(
    workshop: Workshop, site: Root, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = workshop.build(workshop.lock(MODELS)).path
    usage = shutil.disk_usage(site.path)
    monkeypatch.setattr(install.shutil, "disk_usage", lambda _: usage._replace(free=1_000_000))
    with pytest.raises(DiskFullError, match=r"1\.0 MB are free"):
        put(bundle, site)
    assert not (site.path / "blobs").exists()


def test_two_installs_at_once_do_not_meet(workshop: Workshop, site: Root) -> None:
    bundle = workshop.build(workshop.lock(MODELS)).path
    with site.lock(), pytest.raises(BusyError, match="another command"):
        put(bundle, site)


def test_a_current_that_is_a_file_works_where_there_are_no_symbolic_links(workshop: Workshop, site: Root) -> None:
    put(workshop.build(workshop.lock(MODELS)).path, site)
    (site.path / "current").unlink()
    (site.path / "current").write_text("generations/1")
    assert site.current() == 1
    assert {model.id for model in open_catalogue(site.path).models} == {"acme/one", "two"}


def test_where_hard_links_are_refused_the_files_are_copied(
    workshop: Workshop, site: Root, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    done = put(workshop.build(workshop.lock(MODELS)).path, site)
    assert "hard link" not in done.ways
    assert (site.path / "current/plain/two/copy.bin").read_bytes() == WEIGHTS


def test_an_unknown_model_is_answered_with_what_there_is(workshop: Workshop, site: Root) -> None:
    with pytest.raises(NotARootError, match="nothing is installed"):
        open_catalogue(site.path)
    put(workshop.build(workshop.lock(MODELS)).path, site)
    with pytest.raises(UnknownModelError) as caught:
        open_catalogue(site.path).get("acme/on")
    assert "acme/one" in caught.value.hint
    assert caught.value.facts["installed"] == "acme/one, two"


def test_an_alias_leads_to_its_model(workshop: Workshop, site: Root) -> None:
    package = workshop.package({"x": b"1"})
    model = LockedModel(id="acme/one", aliases=("one-640",), task="raw", packages=(package,))
    put(workshop.build(Lock(format=1, line="line", sequence=1, models=(model,))).path, site)
    assert open_catalogue(site.path).get("one-640").id == "acme/one"


def test_the_inference_layout_has_the_record_that_makes_an_id_loadable(workshop: Workshop, site: Root) -> None:
    graph = detector_model(np.zeros((1, 6, 21), np.float32), metadata={"names": "{0: 'face', 1: 'hand'}"})
    onnx = workshop.package({"weights.onnx": graph}, "onnxfp32", backend="onnx", quantization="fp32")
    model = LockedModel(
        id="vehicles/1", task="object-detection", architecture="yolov8", aliases=("v-640",), packages=(onnx,)
    )
    put(workshop.build(Lock(format=1, line="line", sequence=1, models=(model,))).path, site)
    cache = site.path / "current" / "roboflow"
    record = json.loads((cache / "offline-weights-registry" / f"{slug('vehicles/1')}.json").read_text())
    assert record["requested_aliases"] == ["v-640"]
    (package,) = record["packages"]
    for artefact in package["artifacts"]:
        path = cache / "models-cache" / slug("vehicles/1") / package["package_id"] / artefact["file_handle"]
        assert hashlib.md5(path.read_bytes()).hexdigest() == artefact["md5_hash"]
        if artefact["file_handle"] == "class_names.txt":
            assert path.read_text() == "face\nhand\n"
    assert [artefact["file_handle"] for artefact in package["artifacts"]] == [
        "class_names.txt",
        "inference_config.json",
        "weights.onnx",
    ]
    assert package["onnx_package_details"]["opset"] == 17


KILLED = killed_at(
    "sys.argv[3]",
    ("fsync", "rename", "replace", "link", "mkdir", "symlink", "unlink"),
    """
from manifests import publish
from runtime import links
from factory import put
from runtime.root import Root
put(Path(sys.argv[1]), Root(Path(sys.argv[2])))
""",
)


def test_killed_at_any_sync_link_or_rename_the_old_or_the_new_state_is_active(
    workshop: Workshop, tmp_path: Path
) -> None:
    first = workshop.build(workshop.lock({"a": {"x": b"1", "y": incompressible(200_000)}}), name="1").path
    second = workshop.build(
        workshop.lock({"a": {"x": b"2", "y": incompressible(200_000, 2)}}, sequence=2), name="2"
    ).path
    pristine = workshop.site("pristine")
    put(first, pristine)
    old = {model.id: tree(model.packages[0].directory) for model in open_catalogue(pristine.path).models}
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}

    def attempt(root: Path, point: int) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", KILLED, str(second), str(root), str(point)]
        return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)

    shutil.copytree(pristine.path, tmp_path / "count", symlinks=True)
    done = attempt(tmp_path / "count", -1)
    assert done.returncode == 0, done.stderr
    points = int(done.stdout)
    assert points > 40
    new = {"a": tree(tmp_path / "count" / "current" / "plain" / "a")}
    outcomes = set()
    for point in range(1, points + 1, max(1, points // 24)):
        root = tmp_path / f"root{point}"
        shutil.copytree(pristine.path, root, symlinks=True)
        assert attempt(root, point).returncode == -signal.SIGKILL
        seen = {model.id: tree(model.packages[0].directory) for model in open_catalogue(root).models}
        assert seen in (old, new)
        outcomes.add("old" if seen == old else "new")
        put(second, Root(root))
        assert {m.id: tree(m.packages[0].directory) for m in open_catalogue(root).models} == new
        assert [entry.sequence for entry in ledger.read(Root(root))][-1] == 2
        leftovers = [path.name for path in root.rglob(".*.partial")]
        assert leftovers == []
        shutil.rmtree(root)
    assert outcomes == {"old", "new"}


def test_a_bundle_stripped_of_model_signatures_takes_none_away(workshop: Workshop, site: Root) -> None:
    lock = workshop.lock(MODELS)
    put(workshop.build(lock).path, site)
    before = tree(site.path / "current" / "signatures")
    stripped = workshop.build(lock, signers=Signers((elliptic_signer(),), None), name="stripped")
    assert not put(stripped.path, site).changed
    assert tree(site.path / "current" / "signatures") == before
    assert len(before) == 2


def test_a_file_deleted_from_the_generation_comes_back_with_a_second_install(workshop: Workshop, site: Root) -> None:
    bundle = workshop.build(workshop.lock(MODELS)).path
    put(bundle, site)
    for victim in ("plain/acme/one/weights.bin", "plain/acme/one/config/a.json", "plain/hub/models--two/refs/main"):
        (site.path / "current" / victim).unlink()
        assert put(bundle, site).changed
        assert (site.path / "current" / victim).exists()
    assert put(bundle, site).generation == 4


def test_a_blob_that_was_written_to_is_noticed_and_replaced(workshop: Workshop, site: Root) -> None:
    bundle = workshop.build(workshop.lock(MODELS)).path
    put(bundle, site)
    with (site.path / "current/plain/two/copy.bin").open("r+b") as stream:
        stream.seek(1_000_000)
        stream.write(b"not what was signed")
    done = put(bundle, site)
    assert done.changed
    assert done.staged == len(WEIGHTS)
    assert (site.path / "current/plain/two/copy.bin").read_bytes() == WEIGHTS
    assert (site.path / "current/plain/acme/one/weights.bin").read_bytes() == WEIGHTS


def test_recheck_notices_rot_that_left_no_trace(workshop: Workshop, site: Root) -> None:
    bundle = workshop.build(workshop.lock(MODELS)).path
    put(bundle, site)
    victim = site.blob(Digest.of(WEIGHTS))
    before = victim.stat()
    with victim.open("r+b") as stream:
        stream.write(b"rot")
    os.utime(victim, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert not put(bundle, site).changed
    done = install.install(bundle, site, allow_older=False, recheck=True, now=NOW, reporter=Silent())
    assert done.staged == len(WEIGHTS)
    assert (site.path / "current/plain/two/copy.bin").read_bytes() == WEIGHTS


def test_lost_blobs_of_another_line_are_named_and_both_lines_can_be_brought_back(
    workshop: Workshop, site: Root
) -> None:
    one = workshop.build(workshop.lock(MODELS), name="1").path
    two = workshop.build(workshop.lock({"three": {"x": incompressible(300_000, 5)}}, line="other"), name="2").path
    put(one, site)
    put(two, site)
    shutil.rmtree(site.path / "blobs")
    with pytest.raises(CorruptStoreError, match="'other'") as caught:
        put(one, site)
    assert "other-1" in caught.value.hint
    put(two, site)
    put(one, site)
    assert (site.path / "current/plain/two/copy.bin").read_bytes() == WEIGHTS


@pytest.mark.parametrize("how", ["dangling", "gone", "garbage"])
def test_a_current_that_leads_nowhere_is_mended_by_an_install_and_loses_no_line(
    workshop: Workshop, site: Root, how: str
) -> None:
    put(workshop.build(workshop.lock({"three": {"x": b"3"}}, line="other"), name="o").path, site)
    bundle = workshop.build(workshop.lock(MODELS)).path
    put(bundle, site)
    (site.path / "current").unlink()
    if how == "dangling":
        (site.path / "current").symlink_to("generations/77")
    elif how == "garbage":
        (site.path / "current").write_bytes(b"\xff\xfe")
    if how != "gone":
        with pytest.raises(StorageError):
            open_catalogue(site.path)
        put(bundle, site)
        assert {model.id for model in open_catalogue(site.path).models} == {"acme/one", "two", "three"}


def test_a_root_copied_with_its_links_followed_says_so(workshop: Workshop, site: Root, tmp_path: Path) -> None:
    put(workshop.build(workshop.lock(MODELS)).path, site)
    shutil.copytree(site.path, tmp_path / "copy", symlinks=False)
    with pytest.raises(CorruptStoreError, match="followed its links"):
        open_catalogue(tmp_path / "copy")


def test_a_damaged_old_generation_blocks_nothing(workshop: Workshop, site: Root) -> None:
    put(workshop.build(workshop.lock(MODELS), name="1").path, site)
    put(workshop.build(workshop.lock(CHANGED, sequence=2), name="2").path, site)
    (site.generation(1) / "lines" / "line.json").unlink()
    (site.generation(1) / "lines" / "line.json").write_bytes(b"{")
    done = put(workshop.build(workshop.lock(MODELS, sequence=3), name="3").path, site)
    assert done.changed


def test_a_damaged_ledger_entry_is_named_with_the_way_out(workshop: Workshop, site: Root) -> None:
    bundle = workshop.build(workshop.lock(MODELS)).path
    put(bundle, site)
    entry = next(site.ledger.iterdir())
    entry.unlink()
    entry.write_bytes(b"{")
    with pytest.raises(CorruptStoreError, match="00000001") as caught:
        put(bundle, site)
    assert "move this entry away" in caught.value.hint


def test_what_is_active_installs_again_whatever_came_after_it(workshop: Workshop, site: Root) -> None:
    old = workshop.build(workshop.lock(MODELS), name="1").path
    put(old, site)
    put(workshop.build(workshop.lock(CHANGED, sequence=2), name="2").path, site)
    put(old, site, allow_older=True)
    assert not put(old, site).changed


def test_an_older_install_killed_before_the_ledger_is_noted_by_the_next(workshop: Workshop, site: Root) -> None:
    old = workshop.build(workshop.lock(MODELS), name="1").path
    put(old, site)
    put(workshop.build(workshop.lock(CHANGED, sequence=2), name="2").path, site)
    put(old, site, allow_older=True)
    max(site.ledger.iterdir()).unlink()
    put(old, site)
    assert [(entry.sequence, entry.older_allowed) for entry in ledger.read(site)] == [(1, False), (2, False), (1, True)]


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_the_umask_decides_nothing(workshop: Workshop, umask: int) -> None:
    old = os.umask(umask)
    try:
        root = workshop.site("masked")
        put(workshop.build(workshop.lock(MODELS)).path, root)
    finally:
        os.umask(old)
    found = {path: path.stat().st_mode & 0o777 for path in root.path.rglob("*") if not path.is_symlink()}
    assert {mode for path, mode in found.items() if path.is_dir()} == {0o755}
    files = {mode for path, mode in found.items() if path.is_file() and not path.is_relative_to(root.state)}
    assert files <= {0o644, 0o444}


def test_a_generation_of_a_newer_program_is_left_alone(workshop: Workshop, site: Root) -> None:
    bundle = workshop.build(workshop.lock(MODELS)).path
    put(bundle, site)
    path = site.generation(1) / "lines" / "line.json"
    path.write_bytes(path.read_bytes().replace(b'"format":1', b'"format":2'))
    for act in (lambda: open_catalogue(site.path), lambda: put(bundle, site)):
        with pytest.raises(UnsupportedFormatError, match="format 2"):
            act()


def write_into(path: Path) -> None:
    """Change a large file in place, as a program with a bug would."""
    with path.open("r+b") as stream:
        stream.seek(500_000)
        stream.write(b"not what was signed")


def test_a_repair_killed_before_its_generation_is_built_is_finished_by_the_next_install(
    workshop: Workshop, site: Root, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = workshop.build(workshop.lock(MODELS)).path
    put(bundle, site)
    write_into(site.path / "current/plain/two/copy.bin")

    def full(*_: object) -> int:
        raise DiskFullError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(install.generations, "build", full)
        with pytest.raises(DiskFullError):
            put(bundle, site)
    assert put(bundle, site).changed
    assert (site.path / "current/plain/two/copy.bin").read_bytes() == WEIGHTS
    assert not put(bundle, site).changed


def test_going_back_to_an_older_bundle_never_activates_a_damaged_generation(workshop: Workshop, site: Root) -> None:
    one = workshop.build(workshop.lock(MODELS), name="1").path
    two = workshop.build(workshop.lock(CHANGED, sequence=2), name="2").path
    put(one, site)
    put(two, site)
    write_into(site.path / "current/plain/two/copy.bin")
    put(two, site)
    put(one, site, allow_older=True)
    assert (site.path / "current/plain/two/copy.bin").read_bytes() == WEIGHTS


def test_where_links_are_refused_a_damaged_copy_is_replaced_and_a_whole_one_is_not(
    workshop: Workshop, site: Root, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    bundle = workshop.build(workshop.lock(MODELS)).path
    put(bundle, site)
    assert not put(bundle, site).changed
    write_into(site.path / "current/plain/two/copy.bin")
    assert put(bundle, site).changed
    assert (site.path / "current/plain/two/copy.bin").read_bytes() == WEIGHTS


def test_without_its_pointer_a_root_loses_no_line(workshop: Workshop, site: Root) -> None:
    bundle = workshop.build(workshop.lock(MODELS)).path
    put(bundle, site)
    put(workshop.build(workshop.lock({"three": {"x": b"3"}}, line="other"), name="o").path, site)
    (site.path / "current").unlink()
    put(bundle, site)
    assert {model.id for model in open_catalogue(site.path).models} == {"acme/one", "two", "three"}


def test_a_copy_without_times_is_hashed_once_and_damage_in_it_found(
    workshop: Workshop, site: Root, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = workshop.build(workshop.lock(MODELS)).path
    put(bundle, site)
    write_into(site.blob(Digest.of(WEIGHTS)))
    copy = Root(workshop.folder / "copy")
    subprocess.run(["cp", "-r", "--preserve=links", "-P", site.path, copy.path], check=True)
    assert put(bundle, copy).staged == len(WEIGHTS)
    os.utime(copy.blob(Digest.of(WEIGHTS)), (2**33, 2**33))  # a clock that was wrong
    assert not put(bundle, copy).changed
    with monkeypatch.context() as patch:
        patch.setattr(install, "digest_of", lambda path: pytest.fail(f"{path} is hashed again"))
        assert not put(bundle, copy).changed


def test_recheck_compares_small_files_too(workshop: Workshop, site: Root) -> None:
    bundle = workshop.build(workshop.lock(MODELS)).path
    put(bundle, site)
    small = site.path / "current/plain/acme/one/config/a.json"
    small.write_bytes(b"[]\n")
    assert not put(bundle, site).changed
    done = install.install(bundle, site, allow_older=False, recheck=True, now=NOW, reporter=Silent())
    assert done.changed
    assert (site.path / "current/plain/acme/one/config/a.json").read_bytes() == b"{}\n"


def test_an_install_of_what_is_here_needs_no_space(
    workshop: Workshop, site: Root, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = workshop.build(workshop.lock(MODELS)).path
    put(bundle, site)
    usage = shutil.disk_usage(site.path)
    monkeypatch.setattr(install.shutil, "disk_usage", lambda _: usage._replace(free=0))
    assert not put(bundle, site).changed
