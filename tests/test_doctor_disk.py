"""What `doctor` finds of the disk under a site, its links, and what each user may do there."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from doctoring import NOBODY, as_user, bad, become, is_administrator, look, mounted, open_the_way
from factory import Workshop, put
from manifests.finding import Verdict
from runtime.doctor import filesystem, links, marker
from runtime.doctor.filesystem import Filesystem
from runtime.root import Root

# File systems


@is_administrator
def test_a_root_on_tmpfs_is_gone_after_a_reboot(workshop: Workshop, bundle: Path) -> None:
    with mounted(workshop.folder / "site", "-t", "tmpfs", "-o", "size=2g,mode=755", "tmpfs"):
        put(bundle, workshop.site())
        found = look(workshop.folder / "site")
    assert bad(found) == {"root-on-tmpfs"}
    assert "reboot" in found["root-on-tmpfs"].what


@is_administrator
def test_a_root_in_the_upper_layer_of_a_container_goes_with_it(workshop: Workshop, bundle: Path) -> None:
    layers = {name: workshop.folder / name for name in ("lowerdir", "upperdir", "workdir")}
    for layer in layers.values():
        layer.mkdir()
    options = ",".join(f"{name}={layer}" for name, layer in layers.items())
    with mounted(workshop.folder / "site", "-t", "overlay", "-o", options, "overlay"):
        put(bundle, workshop.site())
        found = look(workshop.folder / "site")
    assert bad(found) == {"root-on-overlay"}
    assert "docker run -v" in found["root-on-overlay"].fix


@is_administrator
@pytest.mark.parametrize(
    ("options", "code", "verdict"),
    [
        ("size=32m,mode=755", "root-full", Verdict.PROBLEM),
        ("size=500m", "root-space", Verdict.WARNING),
        ("size=2g,nr_inodes=60", "root-inodes", Verdict.PROBLEM),
        ("size=2g,nr_inodes=5000", "root-inodes", Verdict.WARNING),
    ],
)
def test_a_disk_that_is_nearly_full(workshop: Workshop, options: str, code: str, verdict: Verdict) -> None:
    with mounted(workshop.folder / "site", "-t", "tmpfs", "-o", options, "tmpfs"):
        found = look(workshop.site().path)
    assert found[code].verdict is verdict


@is_administrator
def test_a_root_mounted_read_only_serves_and_is_not_tried_for_links(place: Root, tmp_path: Path) -> None:
    with mounted(tmp_path / "seen", "--bind", "-o", "ro", str(place.path)) as seen:
        found = look(seen)
    assert not bad(found)
    assert {"root-mounted-read-only", "root-read-only", "links-not-tried"} <= set(found)
    assert "root-space" not in found


@is_administrator
def test_fat_has_no_links(workshop: Workshop, bundle: Path) -> None:
    if shutil.which("mkfs.vfat") is None:
        pytest.skip("there is no mkfs.vfat here: Debian's package is dosfstools")
    image = workshop.folder / "image"
    subprocess.run(["mkfs.vfat", "-C", image, "100000"], check=True, capture_output=True)
    with mounted(workshop.folder / "site", "-o", "loop", str(image)):
        put(bundle, workshop.site())
        found = look(workshop.folder / "site")
    assert {"root-without-links", "no-hard-links", "root-space"} <= bad(found)
    assert found["no-symbolic-links"].verdict is Verdict.NOTE
    assert found["generation"].verdict is Verdict.FINE


ROOMY = {"free": 1 << 40, "free_files": 1 << 20, "read_only": False, "writable": True}


@pytest.mark.parametrize(
    ("kind", "facts", "codes"),
    [
        ("ext4", {}, set()),
        ("unknown", {"free_files": None}, set()),
        ("ramfs", {}, {"root-on-tmpfs"}),
        ("overlay", {}, {"root-on-overlay"}),
        ("exfat", {}, {"root-without-links"}),
        ("nfs4", {}, set()),
        ("ntfs3", {}, set()),
        ("squashfs", {"read_only": True, "free": 0, "free_files": 0}, set()),
        ("ext4", {"free": 0, "writable": False}, set()),
        ("ext4", {"free": 63 << 20}, {"root-full"}),
        ("ext4", {"free": 64 << 20}, {"root-space"}),
        ("ext4", {"free_files": 0}, {"root-inodes"}),
        ("ext4", {"path": Path("/var/tmp/site")}, {"root-under-tmp"}),
        ("tmpfs", {"path": Path("/tmp/site")}, {"root-on-tmpfs"}),
    ],
)
def test_file_systems_that_are_not_here(kind: str, facts: dict[str, object], codes: set[str]) -> None:
    told = Filesystem(**{"path": Path("/srv/site"), "kind": kind, **ROOMY, **facts})  # type: ignore[arg-type]
    found = {each.code: each for each in filesystem.judge(marker.SUBJECT, told, elsewhere="elsewhere")}
    assert bad(found, but="") == codes


def test_the_kind_is_that_of_the_innermost_and_last_mount(tmp_path: Path) -> None:
    point = tmp_path / "a b"
    point.mkdir()
    escaped = str(point).replace(" ", "\\040")
    mounts = (
        "1 0 8:1 / / rw,relatime - ext4 /dev/sda1 rw\n"
        f"2 1 0:1 / {escaped} rw shared:1 master:2 - nfs4 server:/x rw\n"
        f"3 1 0:2 / {escaped} rw - tmpfs tmpfs ro\n"
        "not a line of this file\n"
    )
    inside = filesystem.observe(point / "not" / "yet", mounts)
    assert (inside.kind, inside.read_only) == ("tmpfs", True)
    assert filesystem.observe(tmp_path, mounts).kind == "ext4"
    assert filesystem.observe(tmp_path, "").kind == "unknown"


def test_links_are_tried_and_the_folder_goes(tmp_path: Path) -> None:
    tried = links.attempt(tmp_path)
    assert tried.hard
    assert tried.symbolic
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("found", "codes"),
    [
        (links.Links(hard=True, symbolic=True, reflink=False), {"links": Verdict.FINE}),
        (links.Links(hard=False, symbolic=True, reflink=True), {"no-hard-links": Verdict.NOTE}),
        (links.Links(hard=False, symbolic=True, reflink=False), {"no-hard-links": Verdict.WARNING}),
        (links.Links(hard=True, symbolic=False, reflink=False), {"no-symbolic-links": Verdict.NOTE}),
    ],
)
def test_what_missing_links_mean(found: links.Links, codes: dict[str, Verdict]) -> None:
    assert {each.code: each.verdict for each in links.judge(found)} == codes


@is_administrator
def test_a_root_over_two_file_systems(workshop: Workshop, bundle: Path) -> None:
    root = workshop.site()
    with mounted(root.generations, "-t", "tmpfs", "-o", "mode=755", "tmpfs"):
        put(bundle, root)
        assert bad(look(root.path)) == {"split-root"}


# Users


@is_administrator
def test_a_reader_is_told_that_reading_is_enough_to_serve(place: Root) -> None:
    found = as_user(NOBODY, place.path)
    assert "enough to infer and serve" in found["root-read-only"].what
    assert "root-of-another" in found
    assert "links-not-tried" in found
    assert not [each for each in found.values() if each.subject == "root" and each.verdict is Verdict.PROBLEM]


@is_administrator
def test_a_user_who_may_not_read_is_told_so_and_all_else_is_looked_at(place: Root) -> None:
    (place.path / "trust").chmod(0o700)
    (place.path / "generations" / "1").chmod(0o700)
    found = as_user(NOBODY, place.path)
    assert found["root-unreadable"].verdict is Verdict.PROBLEM
    assert "chmod" in found["root-unreadable"].fix
    assert "clock" in found


@is_administrator
def test_a_root_that_may_not_be_entered_at_all(place: Root) -> None:
    place.path.chmod(0o700)
    found = as_user(NOBODY, place.path)
    assert found["root-unreadable"].verdict is Verdict.PROBLEM
    assert "no-root" not in found
    assert "clock" in found


@is_administrator
def test_a_root_that_is_partly_another_users(place: Root) -> None:
    os.chown(place.path, NOBODY, NOBODY)
    found = as_user(NOBODY, place.path)
    assert found["root-partly-writable"].verdict is Verdict.WARNING
    assert "chown" in found["root-partly-writable"].fix


@is_administrator
def test_root_on_another_users_root_is_warned(place: Root) -> None:
    os.chown(place.path, NOBODY, NOBODY)
    found = look(place.path)["root-of-another"]
    assert found.verdict is Verdict.WARNING
    assert f"sudo -u '#{NOBODY}'" in found.fix


@is_administrator
@pytest.mark.parametrize(
    "name",
    [
        "generations",
        "generations/1",
        "generations/1/lines",
        "generations/1/lines/line.json",
        "generations/1/plain",
        "generations/1/plain/acme",
        "generations/1/plain/acme/one/weights.bin",
        "generations/1/plain/acme/one/readme.txt",
        "blobs",
        "root.json",
    ],
)
def test_whatever_a_reader_may_not_read_is_named_and_the_fix_opens_it(place: Root, name: str) -> None:
    shut = place.path / name
    shut.chmod(0o700 if shut.is_dir() else 0o600)
    found = as_user(NOBODY, place.path)
    assert found["root-unreadable"].verdict is Verdict.PROBLEM
    assert "generation" not in found or name in {"blobs", "root.json"}
    assert not {"no-root", "generation-damaged"} & found.keys()
    fix = found["root-unreadable"].fix.partition(": ")[2]
    several = name.endswith("weights.bin")  # which is the same file as its blob
    assert fix == f"chmod -R a+rX {place.path if several else shut}"
    subprocess.run(["sh", "-c", fix], check=True)
    assert not {"root-unreadable", "cannot-look"} & as_user(NOBODY, place.path).keys()


@is_administrator
def test_a_folder_above_the_root_that_is_closed_is_the_one_that_is_opened(workshop: Workshop, bundle: Path) -> None:
    (workshop.folder / "own").mkdir()
    root = workshop.site("own/site")
    put(bundle, root)
    open_the_way(root.path)
    (workshop.folder / "own").chmod(0o700)
    with become(NOBODY):
        found = look(root.path, but="onnxruntime")
    assert found["root-unreadable"].fix == f"as its owner: chmod a+x {workshop.folder / 'own'}"
    (workshop.folder / "own").chmod(0o711)
    with become(NOBODY):
        assert "root-unreadable" not in look(root.path, but="onnxruntime")


@is_administrator
def test_a_root_that_was_made_for_its_owner_alone_is_told_in_one_line(place: Root) -> None:
    for path in (place.generation(1) / "plain").rglob("*"):
        if path.is_file() and not path.is_symlink():
            path.chmod(0o600)
    found = as_user(NOBODY, place.path)
    assert found["root-unreadable"].what.endswith("more")
    subprocess.run(["sh", "-c", found["root-unreadable"].fix.partition(": ")[2]], check=True)
    assert "root-unreadable" not in as_user(NOBODY, place.path)


@is_administrator
def test_what_is_closed_is_told_once(place: Root) -> None:
    place.trust.chmod(0o700)
    place.state.chmod(0o700)
    told = as_user(NOBODY, place.path)
    assert not {"cannot-look", "no-root-of-trust"} & told.keys()
    assert {"trust", "state"} <= {Path(each).name for each in told["root-unreadable"].what.replace(",", "").split()}
