"""`bundle export`: plain folders that clients read on another host, whole or not there."""

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

from crashing import killed_at
from doctoring import is_administrator, mounted
from factory import Workshop, elliptic_signer, incompressible, put, tree
from manifests.digest import Digest
from manifests.errors import BundleError, CorruptStoreError, DiskFullError, StorageError, UnknownModelError
from manifests.lock import Lock, LockedModel
from manifests.manifest import LAYOUTS
from manifests.naming import slug
from manifests.progress import Silent
from onnx_files import detector_model
from runtime import export as exporting
from runtime import generations
from runtime.export import Exported, export
from runtime.root import Root

WEIGHTS = incompressible(400_000)
FILES = {"weights.bin": WEIGHTS, "config/a.json": b"{}\n", "same.json": b"{}\n"}


@pytest.fixture
def site(workshop: Workshop) -> Root:
    """A root with a repository, an id that is none, and a detector that inference-models takes."""
    graph = detector_model(np.zeros((1, 6, 21), np.float32), metadata={"names": "{0: 'face', 1: 'hand'}"})
    onnx = workshop.package({"weights.onnx": graph}, "onnxfp32", backend="onnx", quantization="fp32")
    plain, deep = workshop.package(FILES), workshop.package({"x": b"1"})
    models = (
        LockedModel(id="acme/one", aliases=("one-640",), task="raw", packages=(plain,)),
        LockedModel(id="deep/er/still", task="raw", packages=(deep,)),
        LockedModel(id="faces/1", task="object-detection", architecture="yolov8", packages=(onnx,)),
    )
    root = workshop.site()
    put(workshop.build(Lock(format=1, line="line", sequence=1, models=models)).path, root)
    return root


def take(names: str | list[str], target: Path, layout: str, root: Root) -> Exported:
    """Export quietly."""
    return export([names] if isinstance(names, str) else names, target, layout, root, reporter=Silent())


def times(folder: Path) -> dict[Path, int]:
    """When each thing was written last."""
    return {path: path.lstat().st_mtime_ns for path in folder.rglob("*")}


def leftovers(folder: Path) -> list[Path]:
    """Whatever is there under a temporary name."""
    return list(folder.rglob("*.partial"))


def copied(way: str, source: Path, target: Path) -> Path:
    """The folder as it arrives on another host."""
    commands = {
        "moved": ["mv", source, target],
        "cp": ["cp", "-a", source, target],
        "rsync": ["rsync", "-aH", f"{source}/", target],
    }
    if shutil.which(str(commands[way][0])) is None:
        pytest.skip(f"{way} is not on this machine")
    subprocess.run(commands[way], check=True)
    return target


@pytest.mark.parametrize("way", ["moved", "cp", "rsync"])
def test_huggingface_hub_reads_an_export_from_elsewhere_after_the_root_is_gone(
    site: Root, tmp_path: Path, way: str
) -> None:
    take("acme/one", tmp_path / "out", "huggingface", site)
    hub = copied(way, tmp_path / "out", tmp_path / "else where")
    shutil.rmtree(site.path)
    shutil.rmtree(tmp_path / "out", ignore_errors=True)
    folder = Path(snapshot_download("acme/one", cache_dir=hub, local_files_only=True))
    assert {name: (folder / name).read_bytes() for name in FILES} == FILES
    scanned = scan_cache_dir(hub)
    assert [repository.repo_id for repository in scanned.repos] == ["acme/one"]
    assert not scanned.warnings


def test_a_plain_folder_has_the_files_and_its_signature_lies_outside_of_it(site: Root, tmp_path: Path) -> None:
    take("acme/one", tmp_path / "out", "directory", site)
    assert tree(tmp_path / "out" / "acme/one") == FILES
    key = tmp_path / "key.pub.pem"
    key.write_bytes(elliptic_signer().key.pem)
    folder = copied("cp", tmp_path / "out", tmp_path / "elsewhere")
    signature = folder / ".signatures/acme/one/files.sig"
    tool = Path(sys.executable).with_name("model_signing")
    command = [tool, "verify", "key", folder / "acme/one", "--signature", signature, "--public_key", key]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0
    (folder / "acme/one/weights.bin").write_bytes(b"other")
    assert subprocess.run(command, capture_output=True, check=False).returncode != 0


def test_the_inference_layout_has_the_record_and_every_file_that_it_names(site: Root, tmp_path: Path) -> None:
    take("faces/1", tmp_path / "out", "inference", site)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["models-cache", "offline-weights-registry"]
    record = json.loads((tmp_path / f"out/offline-weights-registry/{slug('faces/1')}.json").read_text())
    (package,) = record["packages"]
    for artefact in package["artifacts"]:
        path = tmp_path / "out/models-cache" / slug("faces/1") / package["package_id"] / artefact["file_handle"]
        assert hashlib.md5(path.read_bytes()).hexdigest() == artefact["md5_hash"]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_an_export_is_the_generation_s_own_tree(site: Root, tmp_path: Path, layout: str) -> None:
    name, inside = {
        "directory": ("acme/one", "plain/acme"),
        "huggingface": ("acme/one", "plain/hub/models--acme--one"),
        "inference": ("faces/1", "roboflow/models-cache"),
    }[layout]
    take(name, tmp_path / "out", layout, site)
    assert tree(tmp_path / "out" / Path(inside).name) == tree(site.generation(1) / inside)


def test_an_export_shares_nothing_with_the_root_and_its_owner_may_change_it(site: Root, tmp_path: Path) -> None:
    before = tree(site.path)
    inodes = {path.stat().st_ino for path in site.path.rglob("*") if path.is_file()}
    for layout in ("directory", "huggingface"):
        take("acme/one", tmp_path / layout, layout, site)
        for path in (tmp_path / layout).rglob("*"):
            assert path.is_dir() or path.stat().st_ino not in inodes
            assert path.is_symlink() or path.stat().st_mode & 0o777 == (0o755 if path.is_dir() else 0o644)
    (tmp_path / "directory/acme/one/weights.bin").write_bytes(b"mine")
    assert tree(site.path) == before


def test_an_alias_and_its_id_are_one_model(site: Root, tmp_path: Path) -> None:
    done = take(["one-640", "acme/one", "one-640"], tmp_path / "out", "directory", site)
    assert [model.id for model in done.models] == ["acme/one"]
    assert tree(tmp_path / "out" / "acme/one") == FILES


@pytest.mark.parametrize("layout", ["directory", "huggingface"])
def test_a_second_export_writes_nothing_and_says_so(site: Root, tmp_path: Path, layout: str) -> None:
    assert take("acme/one", tmp_path / "out", layout, site).changed
    before = times(tmp_path)
    again = take("acme/one", tmp_path / "out", layout, site)
    assert not again.changed
    assert (again.models[0].files, again.models[0].written) == (0, 0)
    assert times(tmp_path) == before


def test_what_lies_beside_stays_and_what_is_missing_comes_back(site: Root, tmp_path: Path) -> None:
    (tmp_path / "out/acme/other").mkdir(parents=True)
    (tmp_path / "out/acme/other/x").write_bytes(b"beside")
    take("acme/one", tmp_path / "out", "directory", site)
    (tmp_path / "out/acme/one/.weights.bin.lock").write_bytes(b"")
    (tmp_path / "out/acme/one/config/a.json").unlink()
    done = take(["acme/one", "deep/er/still"], tmp_path / "out", "directory", site)
    assert [model.files for model in done.models] == [1, 2]
    found = tree(tmp_path / "out")
    assert found["acme/other/x"] == b"beside"
    assert found["acme/one/config/a.json"] == b"{}\n"
    assert found["acme/one/.weights.bin.lock"] == b""


def put_in_the_way(folder: Path, what: str) -> None:
    place = folder / "deep/er/still/x"
    place.parent.mkdir(parents=True)
    if what == "a file":
        place.write_bytes(b"2")
    elif what == "a longer file":
        place.write_bytes(b"1 and more")
    elif what == "a folder":
        place.mkdir()
    elif what == "a link":
        place.symlink_to("/etc/hostname")
    elif what == "a file for a folder":
        place.parent.rmdir()
        place.parent.write_bytes(b"x")
    elif what == "a folder that is a link":
        place.parent.rmdir()
        (folder / "elsewhere").mkdir()
        place.parent.symlink_to(folder / "elsewhere")


@pytest.mark.parametrize(
    "what", ["a file", "a longer file", "a folder", "a link", "a file for a folder", "a folder that is a link"]
)
def test_what_is_in_the_way_is_named_before_anything_is_written(site: Root, tmp_path: Path, what: str) -> None:
    put_in_the_way(tmp_path / "out", what)
    before = tree(tmp_path / "out")
    with pytest.raises(StorageError, match=r"deep/er/still/x is in the way") as caught:
        take(["acme/one", "deep/er/still"], tmp_path / "out", "directory", site)
    assert "nothing was written" in caught.value.hint
    assert tree(tmp_path / "out") == before


@pytest.mark.parametrize("harm", ["changed", "shortened", "lost"])
def test_a_blob_that_rotted_is_named_with_the_way_out_and_nothing_of_its_model_stays(
    site: Root, tmp_path: Path, harm: str
) -> None:
    blob = site.blob(Digest.of(WEIGHTS))
    blob.unlink()
    if harm != "lost":
        blob.write_bytes(b"\0" + WEIGHTS[1:] if harm == "changed" else WEIGHTS[:-1])
    with pytest.raises(CorruptStoreError, match=r"acme/one/weights\.bin of acme/one") as caught:
        take(["deep/er/still", "acme/one"], tmp_path / "out", "directory", site)
    assert "--recheck" in caught.value.hint
    assert "line-1" in caught.value.hint
    assert caught.value.facts["blob"] == str(blob)
    assert not (tmp_path / "out/acme").exists()
    assert tree(tmp_path / "out/deep") == {"er/still/x": b"1"}
    assert not leftovers(tmp_path / "out")


@pytest.mark.parametrize(
    ("names", "layout", "error", "words"),
    [
        (["acme/on"], "directory", UnknownModelError, "no model 'acme/on'"),
        (["acme/one", "nothing"], "directory", UnknownModelError, "no model 'nothing'"),
        (["deep/er/still"], "huggingface", UnknownModelError, "its id is not one of a repository"),
        (["acme/one"], "inference", UnknownModelError, "vision models"),
    ],
)
def test_what_cannot_be_exported_is_said_before_anything_is_written(
    site: Root, tmp_path: Path, names: list[str], layout: str, error: type[BundleError], words: str
) -> None:
    with pytest.raises(error, match=words) as caught:
        take(names, tmp_path / "out", layout, site)
    assert caught.value.hint
    assert not (tmp_path / "out").exists()


def test_a_model_without_a_layout_is_shown_with_those_that_it_has(site: Root, tmp_path: Path) -> None:
    with pytest.raises(UnknownModelError) as caught:
        take("deep/er/still", tmp_path / "out", "huggingface", site)
    assert caught.value.facts == {"layouts": "directory"}
    assert "--layout directory" in caught.value.hint


def test_a_layout_that_the_manifest_left_out_is_said_to_be(workshop: Workshop, tmp_path: Path) -> None:
    package = workshop.package({"x": b"1"})
    model = LockedModel(id="acme/one", task="raw", packages=(package,), layouts=("directory",))
    root = workshop.site()
    put(workshop.build(Lock(format=1, line="line", sequence=1, models=(model,))).path, root)
    with pytest.raises(UnknownModelError, match="its manifest left it out"):
        take("acme/one", tmp_path / "out", "huggingface", root)


@pytest.mark.parametrize("place", ["", "out", "current/plain", "generations/1"])
def test_a_folder_inside_of_the_root_is_refused(site: Root, place: str) -> None:
    before = tree(site.path)
    with pytest.raises(StorageError, match="lies in the root"):
        take("acme/one", site.path / place, "directory", site)
    assert tree(site.path) == before


@pytest.mark.parametrize(
    ("names", "layout", "target", "inside"),
    [
        ("acme/one", "directory", "", "acme"),
        ("acme/one", "directory", "", "acme/one/config"),
        (["deep/er/still", "acme/one"], "directory", "elsewhere/..", "acme"),
        ("acme/one", "directory", "link", "acme"),
        ("acme/one", "huggingface", "", "models--acme--one"),
        ("faces/1", "inference", "", "models-cache"),
    ],
)
def test_names_that_would_lie_in_a_root_below_the_target_are_refused(
    site: Root, tmp_path: Path, names: str | list[str], layout: str, target: str, inside: str
) -> None:
    around = tmp_path / "around"
    (around / "elsewhere").mkdir(parents=True)
    (around / "link").symlink_to(around)
    (around / inside).parent.mkdir(parents=True, exist_ok=True)
    site.path.rename(around / inside)
    before = tree(around)
    with pytest.raises(StorageError, match="lies in the root"):
        take(names, around / target, layout, Root(around / inside))
    assert tree(around) == before


def test_beside_a_root_in_the_target_there_is_room(site: Root, tmp_path: Path) -> None:
    take("acme/one", site.path.parent, "directory", site)
    assert tree(site.path.parent / "acme/one") == FILES


class Planting(Silent):
    """Somebody else, who is busy in the target between the plan and the first byte."""

    def __init__(self, place: Path, leads_to: Path) -> None:
        self.place, self.leads_to = place, leads_to

    def started(self, name: str, total: int | None) -> None:  # noqa: ARG002 - the observer's signature
        """Plant a link."""
        self.place.symlink_to(self.leads_to)


@pytest.mark.parametrize("place", ["acme", "acme/one"])
def test_a_link_that_is_planted_while_an_export_runs_is_not_followed(site: Root, tmp_path: Path, place: str) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out" / place).parent.mkdir(parents=True)
    reporter = Planting(tmp_path / "out" / place, tmp_path / "elsewhere")
    with pytest.raises(StorageError, match="a link that was not there before") as caught:
        export(["acme/one"], tmp_path / "out", "directory", site, reporter=reporter)
    assert caught.value.hint
    assert list((tmp_path / "elsewhere").iterdir()) == []
    assert not leftovers(tmp_path / "out")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_is_made_in_a_folder_that_hands_down_its_group_hands_it_down(
    site: Root, tmp_path: Path, layout: str
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out").chmod(0o2775)
    take("faces/1" if layout == "inference" else "acme/one", tmp_path / "out", layout, site)
    folders = [path for path in (tmp_path / "out").rglob("*") if path.is_dir()]
    assert folders
    assert {path.stat().st_mode & 0o7777 for path in folders} == {0o2755}


@pytest.mark.parametrize("kind", ["a pipe", "a file", "a link"])
def test_what_is_no_folder_under_a_temporary_name_is_neither_opened_nor_removed(
    site: Root, tmp_path: Path, kind: str
) -> None:
    place = tmp_path / "out" / ".bundle-export.aaaaaaaa.partial"
    place.parent.mkdir()
    (tmp_path / "mine").mkdir()
    if kind == "a pipe":
        os.mkfifo(place)
    elif kind == "a file":
        place.write_text("mine")
    else:
        place.symlink_to(tmp_path / "mine")
    before = signal.signal(signal.SIGALRM, lambda *_: pytest.fail("it waits for a writer"))
    signal.alarm(20)
    try:
        take("acme/one", tmp_path / "out", "directory", site)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    assert os.path.lexists(place)
    assert (tmp_path / "mine").is_dir()


def test_a_link_that_leads_to_itself_is_no_folder(site: Root, tmp_path: Path) -> None:
    (tmp_path / "out").symlink_to("out")
    with pytest.raises(StorageError, match="is no folder"):
        take("acme/one", tmp_path / "out", "directory", site)
    with pytest.raises(StorageError, match="out/below"):
        take("acme/one", tmp_path / "out" / "below", "directory", site)


def test_a_target_that_is_a_file_is_refused_and_stays(site: Root, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    with pytest.raises(StorageError, match="is no folder"):
        take("acme/one", tmp_path / "out", "directory", site)
    assert (tmp_path / "out").read_text() == "mine"


def test_a_full_disk_is_said_before_the_first_file(site: Root, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(exporting.shutil, "disk_usage", lambda _: usage._replace(free=1_000_000))
    with pytest.raises(DiskFullError, match=r"1\.0 MB are free") as caught:
        take("acme/one", tmp_path / "new" / "out", "directory", site)
    assert "nothing was written" in caught.value.hint
    assert not (tmp_path / "new").exists()
    (tmp_path / "there").mkdir()
    with pytest.raises(DiskFullError, match=r"1\.0 MB are free"):
        take("acme/one", tmp_path / "there", "directory", site)
    assert tree(tmp_path / "there") == {}
    assert (tmp_path / "there").is_dir()


def test_where_there_are_no_links_the_snapshot_has_the_files_and_takes_space_once(
    site: Root, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "symlink", refuse)
    take("acme/one", tmp_path / "out", "huggingface", site)
    found = tree(tmp_path / "out")
    assert not [name for name in found if "/blobs/" in name]
    assert [content for content in found.values() if content == WEIGHTS] == [WEIGHTS]
    folder = Path(snapshot_download("acme/one", cache_dir=tmp_path / "out", local_files_only=True))
    assert {name: (folder / name).read_bytes() for name in FILES} == FILES
    assert not take("acme/one", tmp_path / "out", "huggingface", site).changed


def test_what_another_export_is_writing_is_not_swept(site: Root, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    left = tmp_path / "out" / ".bundle-export.00000000.partial"
    left.mkdir()
    with exporting._staging(tmp_path / "out") as busy:
        (busy / "x").write_bytes(b"x")
        take("acme/one", tmp_path / "out", "directory", site)
        assert (busy / "x").exists()
        assert not left.exists()
    assert not leftovers(tmp_path / "out")


KILLED = killed_at(
    "sys.argv[4]",
    ("fsync", "rename", "replace", "mkdir", "symlink", "fchmod"),
    """
from manifests.progress import Silent
from runtime.export import export
from runtime.root import Root
export([sys.argv[3]], Path(sys.argv[2]), sys.argv[5], Root(Path(sys.argv[1])), reporter=Silent())
""",
)


@pytest.mark.parametrize(
    ("name", "layout"), [("acme/one", "directory"), ("acme/one", "huggingface"), ("faces/1", "inference")]
)
def test_killed_anywhere_no_file_lacks_a_byte_and_the_next_export_goes_on(
    site: Root, tmp_path: Path, name: str, layout: str
) -> None:
    def attempt(target: Path, point: int) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", KILLED, site.path, target, name, str(point), layout]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    done = attempt(tmp_path / "whole", -1)
    assert done.returncode == 0, done.stderr
    whole, points = tree(tmp_path / "whole"), int(done.stdout)
    assert points > 12
    for point in range(1, points + 1, max(1, points // 10)):
        target = tmp_path / f"out{point}"
        assert attempt(target, point).returncode == -signal.SIGKILL
        seen = {path: content for path, content in tree(target).items() if not path.startswith(".bundle-export.")}
        assert seen.items() <= whole.items()
        take(name, target, layout, site)
        assert tree(target) == whole
        assert not leftovers(target)


def bundle(*arguments: object, code: int = 0) -> str:
    """The program: its stdout, or what it says when it fails as it should."""
    command = [sys.executable, "-m", "bundler", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout if code == 0 else done.stderr


def test_the_command_says_what_it_did_and_what_clients_need(site: Root, tmp_path: Path) -> None:
    given = ("export", "acme/one", tmp_path / "a b", "--layout", "huggingface", "--root", site.path)
    assert f"HF_HUB_CACHE='{tmp_path}/a b'" in bundle(*given)
    assert "nothing to do" in bundle(*given)
    document = json.loads(bundle(*given, "--json"))
    assert document["models"] == [{"id": "acme/one", "files": 0, "bytes": 0}]
    assert document["variables"]["HF_HUB_CACHE"] == str(tmp_path / "a b")
    assert not document["changed"]


def failed(*arguments: object, code: int) -> str:
    """The message and the hint in the document that a failing program prints."""
    command = [sys.executable, "-m", "bundler", *map(str, arguments), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    error = json.loads(done.stdout)["error"]
    assert error["exit_code"] == code
    assert "Traceback" not in done.stderr
    assert "[Errno" not in error["message"]
    return f"{error['message']}\n{error['hint']}"


@is_administrator
def test_a_disk_that_takes_no_more_names_is_full(site: Root, tmp_path: Path) -> None:
    with mounted(tmp_path / "small", "-t", "tmpfs", "-o", "nr_inodes=10", "tmpfs") as small:
        given = ("export", "acme/one", "--layout", "huggingface", "--root", site.path)
        assert "no space left" in failed(*given, small / "new" / "out", code=DiskFullError.exit_code)
        assert list(small.iterdir()) == []


@is_administrator
def test_a_disk_that_nothing_can_be_written_to_is_said_to_be(site: Root, tmp_path: Path) -> None:
    with mounted(tmp_path / "sealed", "-t", "tmpfs", "-o", "ro", "tmpfs") as sealed:
        for place in (sealed, sealed / "new"):
            given = ("export", "acme/one", place, "--layout", "directory", "--root", site.path)
            assert "Read-only file system" in failed(*given, code=StorageError.exit_code)


def test_a_folder_below_a_file_is_refused(site: Root, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    given = ("export", "acme/one", tmp_path / "file" / "below", "--layout", "directory", "--root", site.path)
    assert "file/below" in failed(*given, code=StorageError.exit_code)
    assert (tmp_path / "file").read_text() == "mine"


def test_the_home_of_a_user_whom_nobody_knows_is_a_plain_name(site: Root, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "bundler", "export", "acme/one", "~nobody-of-this-name/x"]
    command += ["--layout", "directory", "--root", str(site.path)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert tree(tmp_path / "~nobody-of-this-name/x/acme/one") == FILES


def test_an_empty_folder_name_is_not_this_folder(site: Root, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "bundler", "export", "acme/one", ""]
    command += ["--layout", "directory", "--root", str(site.path)]
    before = tree(tmp_path)
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert "DIR is empty" in done.stderr
    assert tree(tmp_path) == before


def test_what_a_manifest_may_ask_for_is_what_there_is() -> None:
    assert tuple(generations.LAYOUTS) == LAYOUTS


def test_a_wrong_line_is_answered_with_usage(site: Root, tmp_path: Path) -> None:
    assert "--layout" in bundle("export", "acme/one", tmp_path / "out", "--root", site.path, code=2)
    assert "Missing" in bundle("export", "acme/one", "--layout", "directory", "--root", site.path, code=2)
    assert "flat" in bundle("export", "acme/one", tmp_path, "--layout", "flat", "--root", site.path, code=2)
    assert not (tmp_path / "out").exists()
