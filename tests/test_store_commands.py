"""`bundle store`: what is in it, whether it is whole, what may go, and what happens when several are at it at once."""

import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from bundler.assemble import Signers
from bundler.building import Building
from bundler.housekeeping import collecting, known, verifying
from bundler.housekeeping.collecting import Order, Part
from bundler.housekeeping.shelf import Shelf
from bundler.locking import Locking, lock_path
from bundler.settings import Settings
from crashing import killed_at
from factory import Workshop, elliptic_signer, incompressible
from manifests import codecs, lock
from manifests.digest import Digest
from manifests.errors import BusyError, CorruptStoreError, ManifestError, StorageError, UnsupportedFormatError
from manifests.locks import FileLock
from manifests.progress import Silent
from manifests.publish import publish
from manifests.store import Store
from test_commands import Host

WEIGHTS = incompressible(9_000_000)
TEXT = b"hello " * 900_000
DAMAGES = ("flip", "truncate", "empty", "remove")
OUTDATED = "v1-zstd1-1.0.0-fixed4m-blake3"
USAGE = 2


def manifest(name: str, models: dict[str, str]) -> str:
    """A manifest of raw models: id to the file that is its weights."""
    lines = [f"name: {name}", "models:"]
    for model, file in models.items():
        lines += [f"  - id: {model}", "    files:", f"      weights.bin: ./{file}", "      readme.txt: ./readme.txt"]
    return "\n".join(lines) + "\n"


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """A builder with two lines that share files."""
    (tmp_path / "one.bin").write_bytes(WEIGHTS)
    (tmp_path / "two.bin").write_bytes(WEIGHTS + TEXT)
    (tmp_path / "three.bin").write_bytes(TEXT)
    (tmp_path / "readme.txt").write_text("hello\n")
    (tmp_path / "first.yaml").write_text(manifest("first", {"acme/one": "one.bin", "acme/two": "two.bin"}))
    (tmp_path / "second.yaml").write_text(manifest("second", {"acme/two": "two.bin", "acme/three": "three.bin"}))
    return Host(tmp_path)


def build(host: Host, name: str, source: str = "") -> bytes:
    """The bundle of a line, built anew."""
    out = host.folder / f"{name}.bundle"
    out.unlink(missing_ok=True)
    building = Building(host.folder / (source or f"{name}.yaml"), Settings(store_of(host)), Silent())
    building.run(out, Signers.of(elliptic_signer()), folder=False)
    return out.read_bytes()


def relock(host: Host, name: str, store: Path | None = None) -> None:
    source = host.folder / f"{name}.yaml"
    settings = Settings(store or store_of(host))
    Locking(source, lock_path(source), settings, Silent()).run(check=False, upgrade=False, sequence=None)


def store_of(host: Host) -> Path:
    return host.folder / "store"


def answer(host: Host, *arguments: object, code: int = 0) -> dict[str, object]:
    """What a command prints for a program, whatever it ends with."""
    started = host.start("store", *arguments, "--json")
    out, err = started.communicate(timeout=60)
    assert started.returncode == code, out + err
    found: dict[str, object] = json.loads(out)
    return found


def store_files(host: Host, folder: str) -> list[Path]:
    return sorted(path for path in (host.folder / "store" / folder).rglob("*") if path.is_file())


def damage(path: Path, how: str, *, place: int | None = None) -> None:
    content = path.read_bytes()
    path.unlink()
    at = len(content) // 2 if place is None else place
    flipped = content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]
    if how != "remove":
        publish(path, {"flip": flipped, "truncate": content[:-9], "empty": b""}[how])


def order(workshop: Workshop, *locks: Path, **fields: object) -> Order:
    chosen = {"keep_days": 0, **fields}
    return Order(workshop.store.path, time.time() + 1, locks, **chosen)  # type: ignore[arg-type]


def locked(workshop: Workshop, name: str, models: dict[str, dict[str, bytes]]) -> Path:
    """A lock file, which the store knows."""
    made = workshop.lock(models, line=name)
    path = workshop.folder / f"{name}.lock.json"
    publish(path, lock.encode(made), mode=0o644)
    known.register(workshop.store.path, path, made)
    return path


def clean(asked: Order) -> collecting.Plan:
    return collecting.collect(asked, collecting.plan(asked), Silent())


# stats and path


def test_path_is_one_line_whether_the_store_is_there_or_not(host: Host) -> None:
    assert host.bundle("store", "path") == f"{host.folder / 'store'}\n"
    assert host.bundle("store", "path", "--store", "elsewhere") == f"{host.folder / 'elsewhere'}\n"
    assert not (host.folder / "store").exists()


def test_stats_say_what_dedup_and_compression_save(host: Host) -> None:
    build(host, "first")
    build(host, "second")
    found = answer(host, "stats")
    raw = len(WEIGHTS) + len(WEIGHTS + TEXT) + len(TEXT) + len(b"hello\n")
    assert found["raw_bytes"] == raw
    assert (found["blobs"], found["incomplete_blobs"], found["orphans"]) == (4, 0, {"files": 0, "bytes": 0})
    assert found["saved_by_dedup_bytes"] == 2 * codecs_chunk()
    assert 5_000_000 < found["saved_by_compression_bytes"] < 2 * len(TEXT)  # type: ignore[operator]
    stored = sum(path.stat().st_size for path in store_files(host, "chunks"))
    assert found["stored_bytes"] == stored
    locks = found["locks"]
    assert isinstance(locks, list)
    assert [(each["line"], each["files"], each["missing"]) for each in locks] == [("first", 3, 0), ("second", 3, 0)]
    assert found["indexes"]["files"] == 2  # type: ignore[index]
    assert f"encoder {codecs.profile()}" in host.bundle("store", "stats")


def codecs_chunk() -> int:
    from manifests.chunking import CHUNK

    return CHUNK


def test_stats_of_a_lock_say_what_is_still_to_fetch(host: Host, tmp_path: Path) -> None:
    build(host, "first")
    relock(host, "second", tmp_path / "other")
    found = answer(host, "stats", "--lock", "second.lock.json")["locks"]
    assert isinstance(found, list)
    assert [(each["line"], each["missing"]) for each in found] == [("first", 0), ("second", 1)]


def test_stats_and_verify_need_a_store_and_make_none(host: Host) -> None:
    for command in (["stats"], ["verify"], ["gc", "--yes"]):
        said = host.bundle("store", *command, code=StorageError.exit_code)
        assert "there is no store" in said
        assert "BUNDLE_STORE" in said
    assert not (host.folder / "store").exists()


def test_a_newer_store_is_refused_by_each(host: Host) -> None:
    publish(host.folder / "store/store.json", b'{"format":2}')
    for command in (["stats"], ["verify"], ["gc", "--all", "--yes"]):
        host.bundle("store", *command, code=UnsupportedFormatError.exit_code)


def test_looking_changes_nothing(host: Host) -> None:
    build(host, "first")
    before = {path: path.stat().st_mtime_ns for path in (host.folder / "store").rglob("*")}
    for command in (["stats"], ["verify"], ["verify", "--quick"], ["gc", "--dry-run"]):
        host.bundle("store", *command)
    assert {path: path.stat().st_mtime_ns for path in (host.folder / "store").rglob("*")} == before


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() != 0, reason="only root may become another user")
def test_another_user_may_look_and_not_clean(workshop: Workshop) -> None:
    path = locked(workshop, "line", {"acme/one": {"a": b"a"}})
    workshop.store.close()
    for folder in workshop.folder.parents:
        if folder.stat().st_uid == 0:
            folder.chmod(folder.stat().st_mode | 0o011)
    workshop.folder.chmod(0o755)
    os.setresuid(65534, 65534, 0)
    try:
        assert verifying.verify(workshop.store.path, Silent()).damaged == ()
        asked = order(workshop, path)
        with pytest.raises(StorageError):
            clean(asked)
    finally:
        os.setresuid(0, 0, 0)


# verify


@pytest.mark.parametrize("quick", [False, True])
@pytest.mark.parametrize("how", DAMAGES)
def test_verify_finds_a_damaged_chunk_and_the_next_build_gives_the_same_bundle(
    host: Host, how: str, *, quick: bool
) -> None:
    before = build(host, "first")
    victim = max(store_files(host, "chunks"), key=lambda path: path.stat().st_size)
    damage(victim, how)
    found = verifying.verify(store_of(host), Silent(), quick=quick)
    assert {each.kind.value for each in found.damaged} == ({"blob"} if how == "remove" else {"blob", "chunk"})
    assert any(each.name.startswith("first: acme/") for each in found.damaged)
    assert set(verifying.remove(found)) == {each.path for each in found.damaged}
    assert verifying.verify(store_of(host), Silent(), quick=quick).damaged == ()
    assert build(host, "first") == before
    assert verifying.verify(store_of(host), Silent()).damaged == ()


def test_verify_says_what_is_damaged_and_how_to_mend_it(host: Host) -> None:
    build(host, "first")
    victim = max(store_files(host, "chunks"), key=lambda path: path.stat().st_size)
    damage(victim, "flip")
    started = host.start("store", "verify")
    out, err = started.communicate(timeout=60)
    assert started.returncode == CorruptStoreError.exit_code
    assert "first: acme/" in out
    assert victim.name in out
    assert "--remove" in err
    assert victim.exists()
    found = answer(host, "verify", "--remove", code=CorruptStoreError.exit_code)["damaged"]
    assert isinstance(found, list)
    assert all(each["removed"] for each in found)
    assert "whole" in host.bundle("store", "verify", "--quick")


@pytest.mark.parametrize("how", DAMAGES)
def test_without_remove_the_next_build_mends_the_store_as_well(host: Host, how: str) -> None:
    before = build(host, "first")
    damage(max(store_files(host, "chunks"), key=lambda path: path.stat().st_size), how)
    assert build(host, "first") == before
    assert verifying.verify(store_of(host), Silent()).damaged == ()


def test_every_byte_of_a_chunk_file_counts(workshop: Workshop) -> None:
    workshop.lock({"acme/one": {"a": b"some bytes that shrink" * 9}})
    (victim,) = (path for path in (workshop.store.path / "chunks").rglob("*") if path.is_file())
    content = victim.read_bytes()
    for place in range(len(content)):
        if 9 <= place < 12:  # padding that nobody reads
            continue
        publish(victim, content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        assert [each.kind for each in verifying.verify(workshop.store.path, Silent()).damaged].count("chunk") == 1, (
            place
        )


def test_a_chunk_of_another_content_is_found_by_all_but_quick(workshop: Workshop) -> None:
    workshop.lock({"acme/one": {"a": b"a" * 500, "b": b"b" * 500}})
    one, two = (path for path in (workshop.store.path / "chunks").rglob("*") if path.is_file())
    publish(one, two.read_bytes())
    assert verifying.verify(workshop.store.path, Silent(), quick=True).damaged == ()
    found = verifying.verify(workshop.store.path, Silent()).damaged
    assert [each.kind for each in found] == [verifying.Kind.BLOB, verifying.Kind.CHUNK]
    assert len(verifying.remove(verifying.verify(workshop.store.path, Silent()))) == 2
    assert verifying.verify(workshop.store.path, Silent()).damaged == ()


def test_a_recipe_whose_whole_chunks_make_another_file_is_found(workshop: Workshop) -> None:
    from dataclasses import replace

    workshop.lock({"acme/one": {"a": b"a" * 500}})
    found = workshop.store.get(Digest.of(b"a" * 500))
    workshop.store.add_recipe(replace(found, digest=Digest.of(b"something else")))
    (only,) = verifying.verify(workshop.store.path, Silent()).damaged
    assert only.path.name == Digest.of(b"something else").hex
    assert verifying.remove(verifying.verify(workshop.store.path, Silent())) == (only.path,)
    assert workshop.store.find(Digest.of(b"a" * 500))


@pytest.mark.parametrize("place", ["blobs", "members", "indexes", "locks"])
@pytest.mark.parametrize("how", ["flip", "truncate", "empty", "renamed", "folder"])
def test_a_damaged_recipe_or_record_is_found_and_can_be_removed(workshop: Workshop, place: str, how: str) -> None:
    path = locked(workshop, "line", {"acme/one": {"a": b"a"}})
    workshop.build(lock.decode(path.read_bytes(), subject="x"))
    workshop.store.record_member(Digest.of(b"wheel"), "a", Digest.of(b"a"))
    victim = next(each for each in (workshop.store.path / place).rglob("*") if each.is_file())
    if how == "renamed":
        other = victim.with_name(victim.name[:2] + "0" * 62)
        victim.rename(other)
        victim = other
    elif how == "folder":
        victim.unlink()
        victim.mkdir()
    else:
        damage(victim, how, place=0)
    found = verifying.verify(workshop.store.path, Silent())
    assert [each.path for each in found.damaged] == [victim]
    assert verifying.remove(found) == (victim,)
    assert verifying.verify(workshop.store.path, Silent()).damaged == ()


def test_a_chunk_that_a_build_made_anew_meanwhile_is_not_removed(workshop: Workshop) -> None:
    workshop.lock({"acme/one": {"a": b"a"}})
    (victim,) = (path for path in (workshop.store.path / "chunks").rglob("*") if path.is_file())
    good = victim.read_bytes()
    damage(victim, "flip")
    found = verifying.verify(workshop.store.path, Silent())
    publish(victim, good)
    assert victim not in verifying.remove(found)
    assert victim.read_bytes() == good


def test_orphans_are_read_too_and_are_no_damage(workshop: Workshop) -> None:
    workshop.lock({"acme/one": {"a": b"a"}})
    for recipe in (workshop.store.path / "blobs/sha256").glob("*/*"):
        recipe.unlink()
    found = verifying.verify(workshop.store.path, Silent())
    assert (found.orphans, found.damaged) == (1, ())
    (victim,) = (path for path in (workshop.store.path / "chunks").rglob("*") if path.is_file())
    damage(victim, "flip")
    assert len(verifying.verify(workshop.store.path, Silent()).damaged) == 1


def test_blobs_of_another_libzstd_are_no_damage_but_dead_weight(host: Host) -> None:
    before = build(host, "first")
    live = next((host.folder / "store/chunks").iterdir())
    live.rename(live.with_name(OUTDATED))
    found = answer(host, "verify")
    assert (found["outdated_blobs"], found["damaged"]) == (3, [])
    assert answer(host, "stats")["outdated_blobs"] == 3
    assert "the next build encodes" in host.bundle("store", "stats")
    assert "store-outdated" in host.start("doctor", "--store", "store", "--json").communicate(timeout=60)[0]
    assert build(host, "first") == before
    assert answer(host, "gc", "--yes")["goes"]["profiles"]["files"] > 0  # type: ignore[index]
    assert not live.with_name(OUTDATED).exists()
    assert build(host, "first") == before


def test_after_another_libzstd_a_builder_without_its_sources_loses_nothing_to_gc(host: Host) -> None:
    before = build(host, "first")
    build(host, "second")
    live = next((host.folder / "store/chunks").iterdir())
    live.rename(live.with_name(OUTDATED))
    (host.folder / "second.lock.json").unlink()
    for name in ("one.bin", "two.bin", "three.bin", "readme.txt"):
        (host.folder / name).unlink()
    found = answer(host, "gc", "--yes", "--keep-days", "0")
    assert found["kept"]["outdated_chunks"]["files"] > 0  # type: ignore[index]
    assert found["goes"]["profiles"]["files"] > 0  # type: ignore[index]
    assert found["goes"]["recipes"]["files"] == 1  # type: ignore[index]
    assert build(host, "first") == before
    answer(host, "gc", "--yes", "--keep-days", "0")
    assert not live.with_name(OUTDATED).exists()
    assert build(host, "first") == before


def test_a_damaged_chunk_of_another_libzstd_is_fetched_and_not_encoded(host: Host) -> None:
    before = build(host, "first")
    live = next((host.folder / "store/chunks").iterdir())
    live.rename(live.with_name(OUTDATED))
    damage(max(store_files(host, "chunks"), key=lambda path: path.stat().st_size), "flip")
    assert build(host, "first") == before
    assert verifying.verify(store_of(host), Silent()).damaged == ()


def test_chunks_that_were_cut_otherwise_are_not_taken(host: Host) -> None:
    build(host, "first")
    live = next((host.folder / "store/chunks").iterdir())
    live.rename(live.with_name("v1-zstd1-1.0.0-other-blake3"))
    with Store.open(store_of(host)) as store:
        assert store.find(Digest.of(WEIGHTS)) is None
    assert answer(host, "gc", "--yes")["files"] == 0  # and kept all the same


def test_a_link_to_the_live_chunks_is_not_cleaned_as_an_outdated_folder(host: Host) -> None:
    before = build(host, "first")
    live = next((host.folder / "store/chunks").iterdir())
    live.with_name(OUTDATED).symlink_to(live)
    assert answer(host, "gc", "--yes")["files"] == 0
    assert build(host, "first") == before


def test_foreign_files_are_named_and_left_alone(host: Host) -> None:
    build(host, "first")
    store = host.folder / "store"
    strangers = ["photo.jpg", "blobs/sha256/ab/note.txt", "chunks/mine/x", "locks/x", "partial/x", "members/00/x"]
    for name in strangers:
        (store / name).parent.mkdir(parents=True, exist_ok=True)
        (store / name).write_text("x")
    os.mkfifo(store / "indexes" / ("0" * 64))
    (store / "chunks/loop").symlink_to(store)
    for arguments in (["verify"], ["stats"], ["gc", "--yes"]):
        found = {Path(path).relative_to(store).as_posix() for path in answer(host, *arguments)["foreign"]}  # type: ignore[attr-defined]
        assert {*strangers, "chunks/mine", "chunks/loop", f"indexes/{'0' * 64}"} - {"chunks/mine/x"} == found
    assert all((store / name).exists() for name in strangers)


# gc


def test_gc_keeps_what_the_locks_need_and_nothing_else(host: Host) -> None:
    first, second = build(host, "first"), build(host, "second")
    assert host.bundle("store", "gc").endswith("nothing to remove\n")
    (host.folder / "second.lock.json").unlink()
    assert answer(host, "gc", "--dry-run")["files"] == 0  # it may have been moved
    shown = host.bundle("store", "gc", "--dry-run", "--keep-days", "0")
    assert "second: acme/three" in shown
    assert "acme/two" not in shown
    assert "would remove" in shown
    assert "--yes" in host.bundle("store", "gc", "--keep-days", "0", code=USAGE)
    assert len(store_files(host, "blobs")) == 4
    host.bundle("store", "gc", "--yes", "--keep-days", "0")
    assert len(store_files(host, "blobs")) == 3
    found = answer(host, "stats")
    assert (found["orphans"], found["incomplete_blobs"]) == ({"files": 0, "bytes": 0}, 0)
    assert found["indexes"]["files"] == 1  # type: ignore[index]
    host.bundle("store", "verify")
    for name in ("one.bin", "two.bin", "readme.txt"):  # the first line needs nothing but the store
        (host.folder / name).rename(host.folder / f"away-{name}")
    assert build(host, "first") == first
    for name in ("one.bin", "two.bin", "readme.txt"):
        (host.folder / f"away-{name}").rename(host.folder / name)
    assert build(host, "second") == second


def test_a_lock_protects_what_it_says_now_and_not_what_it_said(host: Host) -> None:
    build(host, "first")
    (host.folder / "first.yaml").write_text(manifest("first", {"acme/one": "one.bin"}))
    relock(host, "first")
    assert "first: acme/two: 1 files" in host.bundle("store", "gc", "--yes")
    assert len(store_files(host, "blobs")) == 2


def test_a_lock_that_cannot_be_read_protects_what_it_was_built_from(host: Host) -> None:
    build(host, "first")
    path = host.folder / "first.lock.json"
    path.write_text("<<<<<<< ours\n" + path.read_text())
    assert host.bundle("store", "gc", "--yes", "--keep-days", "0").endswith("nothing to remove\n")


def test_gc_refuses_to_keep_nothing_unless_told(host: Host) -> None:
    build(host, "first")
    (host.folder / "first.lock.json").unlink()
    said = host.bundle("store", "gc", "--yes", "--keep-days", "0", code=ManifestError.exit_code)
    assert "first.lock.json" in said
    assert "--all" in said
    assert len(store_files(host, "blobs")) == 3
    host.bundle("store", "gc", "--all", code=USAGE)
    host.bundle("store", "gc", "--all", "--yes")
    assert store_files(host, "blobs") == store_files(host, "chunks") == []
    host.bundle("store", "gc", "--all", "first.lock.json", code=USAGE)


def test_named_locks_and_those_in_a_folder_are_kept(host: Host) -> None:
    build(host, "first")
    build(host, "second")
    kept = answer(host, "gc", host.folder, "--dry-run")
    assert (kept["files"], len(kept["kept"]["locks"])) == (0, 2)  # type: ignore[index, arg-type]
    shown = host.bundle("store", "gc", "second.lock.json", "--dry-run")
    assert "not kept" in shown
    assert "first: acme/one" in shown


def test_what_is_given_and_is_no_lock_is_refused(host: Host) -> None:
    build(host, "first")
    (host.folder / "empty").mkdir()
    (host.folder / "torn").mkdir()
    (host.folder / "torn/line.lock.json").write_text('{"format":1,')
    (host.folder / "foreign").mkdir()
    (host.folder / "foreign/other.lock.json").write_text('{"packages": []}')
    os.mkfifo(host.folder / "pipe.lock.json")
    for given in ("nowhere", "one.bin", "empty", "torn", "pipe.lock.json"):
        host.bundle("store", "gc", given, "--yes", code=ManifestError.exit_code)
    host.bundle("store", "gc", "foreign", "--yes", "--keep-days", "0", code=ManifestError.exit_code)
    assert len(store_files(host, "blobs")) == 3


def test_files_of_no_known_lock_stay_while_they_are_young(workshop: Workshop) -> None:
    path = locked(workshop, "line", {"acme/one": {"a": b"a"}})
    workshop.lock({"acme/two": {"b": b"b"}})
    workshop.store.close()
    young, old = order(workshop, path, keep_days=7), order(workshop, path)
    assert (collecting.plan(young).young_blobs, collecting.plan(young).total.files) == (1, 0)
    assert collecting.plan(old).amount(Part.RECIPES).files == 1


def test_a_member_stays_with_its_blob_and_a_wheels_metadata_with_the_member(workshop: Workshop) -> None:
    from bundler.sources.wheel import METADATA

    path = locked(workshop, "line", {"acme/one": {"a": b"a"}})
    workshop.lock({"acme/two": {"m": b"m", "x": b"x"}})
    for container, member, content in (
        (b"wheel", "a", b"a"),
        (b"wheel", METADATA, b"m"),
        (b"wheel", "x", b"x"),
        (b"other", METADATA, b"m"),
        (b"other", "x", b"x"),
    ):
        workshop.store.record_member(Digest.of(container), member, Digest.of(content))
    workshop.store.close()
    clean(order(workshop, path))
    with Store.open(workshop.store.path) as store:
        assert store.find_member(Digest.of(b"wheel"), "a") == Digest.of(b"a")
        assert store.find_member(Digest.of(b"wheel"), METADATA) == Digest.of(b"m")
        assert store.find(Digest.of(b"x")) is None
    left = [path for path in (workshop.store.path / "members").rglob("*") if path.is_file()]
    assert len(left) == 3  # METADATA of the other wheel names a blob that is here


def test_downloads_go_when_nobody_is_at_them_and_they_are_old(workshop: Workshop) -> None:
    path = locked(workshop, "line", {"acme/one": {"a": b"a"}})
    for key, age in (("old", 30), ("young", 1), ("claimed", 30)):
        target = workshop.store.partial(key)
        for suffix in ("", ".json", ".spans", ".lock"):
            each = target.with_name(target.name + suffix)
            each.write_bytes(b"x" * 100)
            os.utime(each, (time.time() - age * 86_400,) * 2)
    workshop.store.close()
    claimed = workshop.store.partial("claimed")
    with FileLock(claimed.with_name(f"{claimed.name}.lock"), exclusive=True, busy=""):
        clean(order(workshop, path, keep_days=7))
    left = {file.name[:64] for file in (workshop.store.path / "partial").iterdir()}
    assert left == {workshop.store.partial("young").name, claimed.name}


def test_what_killed_writers_left_goes_anywhere(workshop: Workshop) -> None:
    path = locked(workshop, "line", {"acme/one": {"a": b"a"}})
    folders = [next(workshop.store.path.glob("chunks/*/*")), next(workshop.store.path.glob("blobs/sha256/*"))]
    folders += [workshop.store.path / name for name in ("", "locks", "partial")]
    left = [folder / f".{'0' * 64}.0123abcd.partial" for folder in folders]
    for each in left:
        each.write_bytes(b"x")
    workshop.store.close()
    assert clean(order(workshop, path)).amount(Part.LEFTOVERS).files == len(left)
    assert not any(each.exists() for each in left)


def test_gc_is_busy_while_anything_uses_the_store_and_says_what_to_do(workshop: Workshop) -> None:
    path = locked(workshop, "line", {"acme/one": {"a": b"a"}})
    workshop.lock({"acme/two": {"b": b"b"}})
    asked = order(workshop, path)
    with pytest.raises(BusyError) as caught:  # the workshop's store is open
        clean(asked)
    assert "wait" in caught.value.hint
    workshop.store.close()
    assert clean(asked).total.files == 2


def test_a_build_that_starts_while_gc_runs_waits_for_it(host: Host) -> None:
    build(host, "first")
    with FileLock(host.folder / "store/lock", exclusive=True, busy=""):
        started = host.start("lock", "first.yaml")
        time.sleep(2)
        assert started.poll() is None
    _, err = started.communicate(timeout=60)
    assert started.returncode == 0, err


def test_only_what_was_shown_goes(workshop: Workshop) -> None:
    one, two = (locked(workshop, name, {f"acme/{name}": {"a": name.encode()}}) for name in ("one", "two"))
    workshop.store.close()
    agreed = collecting.plan(order(workshop))
    two.unlink()
    assert collecting.collect(order(workshop), agreed, Silent()).total.files == 0
    assert clean(order(workshop)).amount(Part.RECIPES).files == 1
    assert one.exists()


def test_gc_asks_on_a_terminal_and_takes_no_for_an_answer(host: Host) -> None:
    build(host, "first")
    build(host, "second")
    (host.folder / "second.lock.json").unlink()
    for reply, left in ((b"n\n", 4), (b"y\n", 3)):
        ours, theirs = pty.openpty()
        environ = {**os.environ, "HOME": str(host.folder), "BUNDLE_STORE": str(host.folder / "store")}
        command = [sys.executable, "-m", "bundler", "store", "gc", "--keep-days", "0"]
        with subprocess.Popen(
            command, cwd=host.folder, env=environ, stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as started:
            os.write(ours, reply)
            started.communicate(timeout=60)
        os.close(ours)
        os.close(theirs)
        assert len(store_files(host, "blobs")) == left


KILLED = """
import time
from pathlib import Path
from bundler.housekeeping.collecting import Order, collect, plan
from manifests.progress import Silent
order = Order(Path(sys.argv[1]), time.time() + 1, (Path(sys.argv[2]),), keep_days=0)
collect(order, plan(order), Silent())
"""


def test_gc_killed_anywhere_leaves_a_whole_store(workshop: Workshop) -> None:
    import shutil

    path = locked(workshop, "line", {"acme/one": {"a": b"a" * 9000, "both": b"both"}})
    workshop.lock({"acme/two": {"b": b"b" * 9000, "both": b"both", "c": b"c"}})
    workshop.store.record_member(Digest.of(b"wheel"), "b", Digest.of(b"b" * 9000))
    workshop.store.close()
    master, here = workshop.store.path, workshop.folder / "here"
    point, ended = 0, False
    while not ended:
        point += 1
        shutil.rmtree(here, ignore_errors=True)
        shutil.copytree(master, here)
        script = killed_at(str(point), ("unlink", "rmdir", "fsync"), KILLED)
        done = subprocess.run([sys.executable, "-c", script, here, path], capture_output=True, text=True, check=False)
        assert done.returncode in {0, -signal.SIGKILL}, done.stderr
        ended = done.returncode == 0
        assert verifying.verify(here, Silent()).damaged == (), point
        clean(Order(here, time.time() + 1, (path,), keep_days=0))
        assert verifying.verify(here, Silent()).orphans == 0
        assert len(list((here / "blobs/sha256").glob("*/*"))) == 2
    assert point > 8


def test_removing_chunks_first_would_be_caught(workshop: Workshop) -> None:
    """The check that the test above rests on: a recipe that outlives a chunk is seen."""
    locked(workshop, "line", {"acme/one": {"a": b"a"}})
    next(path for path in (workshop.store.path / "chunks").rglob("*") if path.is_file()).unlink()
    assert verifying.verify(workshop.store.path, Silent()).damaged


BUILDING = """
import sys, time
from pathlib import Path
from bundler.assemble import Signers
from bundler.building import Building
from bundler.settings import Settings
from factory import elliptic_signer
from manifests.progress import Silent
folder, name, rounds = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
for number in range(rounds):
    out = folder / f"{name}-{number}.bundle"
    building = Building(folder / f"{name}.yaml", Settings(folder / "store"), Silent())
    building.run(out, Signers.of(elliptic_signer()), folder=False)
    time.sleep(0.1)
"""
CLEANING = """
import sys, time
from pathlib import Path
from bundler.housekeeping.collecting import Order, collect, plan
from manifests.errors import BusyError
from manifests.progress import Silent
folder, removed = Path(sys.argv[1]), 0
while True:
    is_last = (folder / "done").exists()
    order = Order(folder / "store", time.time() + 1, (folder / "third.lock.json",), keep_days=0)
    try:
        removed += collect(order, plan(order), Silent()).total.files
    except BusyError:
        continue
    if is_last:
        break
print(removed)
"""


def test_two_builds_and_a_gc_share_one_store_without_harm(host: Host) -> None:
    """Each build is what it is alone, and fails never, while a third process removes everything whenever it can."""
    (host.folder / "third.yaml").write_text(manifest("third", {"acme/one": "readme.txt"}))
    expected = {name: build(host, name) for name in ("first", "second", "third")}
    rounds, environ = 8, {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}

    def start(script: str, *arguments: object) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", script, host.folder, *arguments]
        return subprocess.Popen(list(map(str, command)), env=environ, stdout=-1, stderr=-1, text=True)

    builds = [start(BUILDING, name, rounds) for name in ("first", "second")]
    cleaner = start(CLEANING)
    for started in builds:
        _, err = started.communicate(timeout=120)
        assert started.returncode == 0, err
    (host.folder / "done").touch()
    removed, err = cleaner.communicate(timeout=60)
    assert cleaner.returncode == 0, err
    assert int(removed) > 0
    for name in ("first", "second"):
        assert all((host.folder / f"{name}-{each}.bundle").read_bytes() == expected[name] for each in range(rounds))
    assert verifying.verify(store_of(host), Silent()).damaged == ()


# what gc must never take


def age(path: Path, days: float = 30) -> None:
    """Make a file of the store as old as that."""
    os.utime(path, (time.time() - days * 86_400,) * 2)


def test_the_lock_of_a_folder_that_was_renamed_protects_for_a_while(host: Host) -> None:
    build(host, "first")
    build(host, "second")
    for path in store_files(host, "blobs"):
        age(path)
    (host.folder / "second.lock.json").rename(host.folder / "moved.lock.json")
    shown = host.bundle("store", "gc", "--yes")
    assert "gone" in shown
    assert "nothing to remove" in shown
    for path in store_files(host, "locks"):
        age(path)
    assert answer(host, "gc", "--yes")["goes"]["recipes"]["files"] == 1  # type: ignore[index]


def test_a_gc_that_sees_a_lock_notes_that_it_was_there(workshop: Workshop) -> None:
    locked(workshop, "one", {"acme/one": {"a": b"a"}})
    locked(workshop, "two", {"acme/two": {"b": b"b"}})
    workshop.store.close()
    for path in (workshop.store.path / "locks").iterdir():
        age(path)
    clean(order(workshop, keep_days=7))
    (workshop.folder / "one.lock.json").unlink()
    assert clean(order(workshop, keep_days=7)).total.files == 0
    assert clean(order(workshop, keep_days=0)).amount(Part.RECIPES).files == 1


def test_a_lock_on_a_disk_that_is_not_mounted_protects_what_it_was_built_from(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    stick = workshop.folder / "stick"
    real: Callable[..., bool] = os.path.ismount
    made = workshop.lock({"acme/one": {"a": b"a"}})
    with monkeypatch.context() as mounted:
        mounted.setattr(os.path, "ismount", lambda path: os.fsencode(path) == os.fsencode(stick) or real(path))
        publish(stick / "line.lock.json", lock.encode(made))
        known.register(workshop.store.path, stick / "line.lock.json", made)
    locked(workshop, "other", {"acme/two": {"b": b"b"}})
    workshop.store.close()
    (stick / "line.lock.json").unlink()
    for path in (workshop.store.path / "locks").iterdir():
        age(path)
    planned = collecting.plan(order(workshop))
    assert planned.total.files == 0
    assert known.State.AWAY in {each.state for each in planned.kept_locks}


def test_another_branch_that_is_checked_out_costs_the_built_one_nothing(workshop: Workshop) -> None:
    path = locked(workshop, "line", {"acme/one": {"a": b"a"}})
    publish(path, lock.encode(workshop.lock({"acme/one": {"b": b"b"}})), mode=0o644)
    workshop.store.close()
    assert clean(order(workshop)).total.files == 0


@pytest.mark.parametrize("how", ["flip", "empty", "newer"])
def test_gc_guesses_nothing_where_the_record_of_a_lock_cannot_be_read(host: Host, how: str) -> None:
    build(host, "first")
    build(host, "second")
    record = store_files(host, "locks")[0]
    if how == "newer":
        publish(record, record.read_bytes().replace(b'"format":1', b'"format":2'))
    else:
        damage(record, how, place=0)
    code = UnsupportedFormatError.exit_code if how == "newer" else CorruptStoreError.exit_code
    said = host.bundle("store", "gc", "--yes", "--keep-days", "0", code=code)
    assert record.name in said
    assert "name the locks to keep" in said
    assert len(store_files(host, "blobs")) == 4
    assert answer(host, "gc", ".", "--yes", "--keep-days", "0")["files"] == 0
    host.bundle("store", "stats")


def test_a_given_folder_is_searched_to_its_end_through_links_and_in_any_case(host: Host) -> None:
    build(host, "first")
    build(host, "second")
    deep = host.folder.joinpath("tree", *"abcdefghijkl")
    deep.mkdir(parents=True)
    (host.folder / "first.lock.json").rename(deep / "FIRST.LOCK.JSON")
    (host.folder / "elsewhere").mkdir()
    (host.folder / "second.lock.json").rename(host.folder / "elsewhere/second.lock.json")
    (host.folder / "tree/link").symlink_to(host.folder / "elsewhere")
    (host.folder / "elsewhere/loop").symlink_to(host.folder / "tree")
    found = answer(host, "gc", "tree", "--yes", "--keep-days", "0")
    assert (found["goes"]["recipes"]["files"], len(found["kept"]["locks"])) == (0, 2)  # type: ignore[index, arg-type]


def test_a_known_lock_of_another_name_in_a_given_folder_is_kept(host: Host) -> None:
    build(host, "first")
    source = host.folder / "second.yaml"
    Locking(source, host.folder / "pins.json", Settings(store_of(host)), Silent()).run(
        check=False, upgrade=False, sequence=None
    )
    assert answer(host, "gc", ".", "--yes", "--keep-days", "0")["files"] == 0


def test_locks_of_another_store_are_refused(host: Host, tmp_path: Path) -> None:
    build(host, "first")
    relock(host, "second", tmp_path / "other")
    for name in ("two.bin", "readme.txt"):
        (host.folder / name).write_text("else")
    relock(host, "second", tmp_path / "other")
    said = host.bundle("store", "gc", "second.lock.json", "--yes", "--keep-days", "0", code=ManifestError.exit_code)
    assert "nothing of the store" in said
    assert len(store_files(host, "blobs")) == 3


def test_a_blob_that_lost_a_chunk_keeps_its_recipe_and_its_other_chunks(host: Host) -> None:
    build(host, "first")
    victim = max(store_files(host, "chunks"), key=lambda path: path.stat().st_size)
    content = victim.read_bytes()
    victim.unlink()  # or its disk is not mounted
    assert answer(host, "gc", "--yes", "--keep-days", "0")["files"] == 0
    publish(victim, content)
    assert verifying.verify(store_of(host), Silent()).damaged == ()


def test_what_a_build_uses_between_plan_and_gc_keeps_its_chunks(workshop: Workshop) -> None:
    path = locked(workshop, "line", {"acme/one": {"a": b"a"}})
    workshop.lock({"acme/two": {"b": b"b"}})
    orphan = next((workshop.store.path / "blobs").rglob(Digest.of(b"b").hex))
    content = orphan.read_bytes()
    orphan.unlink()
    agreed = collecting.plan(order(workshop, path))
    assert agreed.amount(Part.CHUNKS).files == 1
    publish(orphan, content)  # a build that found the chunk here
    workshop.store.close()
    assert collecting.collect(order(workshop, path), agreed, Silent()).total.files == 0
    assert verifying.verify(workshop.store.path, Silent()).damaged == ()


def test_planning_takes_no_lock_that_a_download_needs(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    path = locked(workshop, "line", {"acme/one": {"a": b"a"}})
    target = workshop.store.partial("x")
    target.with_name(f"{target.name}.lock").touch()
    asked: list[int] = []
    monkeypatch.setattr(collecting, "try_lock", lambda *_, **__: asked.append(1) or True)
    collecting.plan(order(workshop, path))
    assert not asked
    workshop.store.close()
    clean(order(workshop, path))
    assert asked


def test_the_index_of_a_line_without_a_lock_stays_while_it_is_young(workshop: Workshop) -> None:
    path = locked(workshop, "line", {"acme/one": {"a": b"a"}})
    workshop.build(workshop.lock({"acme/one": {"a": b"a"}}, line="other"))
    workshop.store.close()
    assert collecting.plan(order(workshop, path, keep_days=7)).amount(Part.INDEXES).files == 0
    assert collecting.plan(order(workshop, path)).amount(Part.INDEXES).files == 1


def test_a_lock_is_known_before_a_waiting_gc_gets_the_store(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    real, held = known.register, []

    def register(store: Path, path: Path, made: lock.Lock) -> None:
        with pytest.raises(BusyError), FileLock(store / "lock", exclusive=True, busy=""):
            pass
        held.append(path)
        real(store, path, made)

    monkeypatch.setattr("bundler.locking.register", register)
    relock(host, "first")
    assert held == [host.folder / "first.lock.json"]


def test_many_days_are_refused_without_a_traceback(host: Host) -> None:
    host.bundle("store", "gc", "--keep-days", "9" * 400, code=USAGE)


# what a build and verify must never take


def test_a_blob_that_a_build_mended_meanwhile_is_not_removed(host: Host) -> None:
    build(host, "first")
    damage(max(store_files(host, "chunks"), key=lambda path: path.stat().st_size), "flip")
    found = verifying.verify(store_of(host), Silent())
    build(host, "first")
    assert verifying.remove(found) == ()
    assert len(store_files(host, "blobs")) == 3


def test_two_damaged_chunks_of_one_blob_are_mended_by_one_build(host: Host) -> None:
    before = build(host, "first")
    for victim in sorted(store_files(host, "chunks"), key=lambda path: path.stat().st_size)[-2:]:
        damage(victim, "flip")
    assert build(host, "first") == before
    assert verifying.verify(store_of(host), Silent()).damaged == ()


def test_a_build_whose_damaged_source_is_gone_says_so(host: Host) -> None:
    build(host, "first")
    damage(max(store_files(host, "chunks"), key=lambda path: path.stat().st_size), "flip")
    (host.folder / "one.bin").unlink()
    (host.folder / "two.bin").unlink()
    host.bundle("keygen", "-o", "key.pem", "--no-passphrase")
    said = host.bundle("build", "first.yaml", "--key", "key.pem", "-o", "x.bundle", code=21)
    assert "one.bin" in said or "two.bin" in said
    assert "Traceback" not in said
    assert not (host.folder / "x.bundle").exists()


# the locks that are known


def test_a_path_that_is_no_text_is_remembered_as_well(workshop: Workshop) -> None:
    made = workshop.lock({"acme/one": {"a": b"a"}})
    path = workshop.folder / os.fsdecode(b"li\xffne.lock.json")
    publish(path, lock.encode(made))
    known.register(workshop.store.path, path, made)
    (found,) = known.known(Shelf(workshop.store.path))
    assert (found.path.name, found.state) == (path.name, known.State.THERE)


def test_one_lock_is_one_record_however_often_it_is_used(host: Host) -> None:
    build(host, "first")
    (before,) = store_files(host, "locks")
    inode = before.stat().st_ino
    os.utime(before, (0, 0))
    (host.folder / "link").symlink_to(host.folder)
    build(host, "first", "link/first.lock.json")
    assert [path.stat().st_ino for path in store_files(host, "locks")] == [inode]
    assert before.stat().st_mtime > time.time() - 60  # when it was last used


def test_the_path_of_a_lock_is_in_no_bundle(host: Host) -> None:
    content = build(host, "first")
    assert str(host.folder).encode() not in content
    assert str(host.folder).encode().hex().encode() not in content


def test_a_chunk_is_not_read_to_tell_its_size(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    from bundler.housekeeping import stats

    workshop.lock({"acme/one": {"a": b"a"}})
    opened: list[str] = []
    real: Callable[..., object] = Path.open
    monkeypatch.setattr(Path, "open", lambda self, *a, **k: (opened.append(str(self)), real(self, *a, **k))[1])
    assert stats.stats(workshop.store.path).blobs == 1
    assert not [path for path in opened if "/chunks/" in path]
