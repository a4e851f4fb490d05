"""What `doctor` finds on a site. Each situation is brought about for real where a machine can be brought to it."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from bundler.commands.main import cli
from factory import NOW, Workshop, edwards_signer, elliptic_signer, incompressible, put
from manifests.errors import CorruptStoreError, FindingsError
from manifests.finding import Finding, Subject, Verdict, examine, worst
from manifests.keyring import Keyring
from manifests.progress import Silent
from runtime.doctor import clients, clock, filesystem, links, providers, site, trust_state, variables
from runtime.doctor import root as root_
from runtime.doctor.distributions import installed, release
from runtime.doctor.filesystem import Filesystem
from runtime.environment import variables as variables_of
from runtime.install import install
from runtime.root import Root

LATER = NOW + timedelta(days=1)
LARGE = incompressible(300_000)
NOBODY = 65534
PROJECT = Path(__file__).parent.parent
is_administrator = pytest.mark.skipif(
    sys.platform == "win32" or os.geteuid() != 0, reason="only root may mount, and become another user"
)


@pytest.fixture
def bundle(workshop: Workshop) -> Path:
    return workshop.build(workshop.lock({"acme/one": {"weights.bin": LARGE, "readme.txt": b"hello\n"}})).path


@pytest.fixture
def place(workshop: Workshop, bundle: Path) -> Root:
    """A root with one line installed."""
    root = workshop.site()
    put(bundle, root)
    return root


def look(
    path: Path,
    environ: Mapping[str, str] | None = None,
    *,
    given: bool = True,
    now: datetime = LATER,
    present: Mapping[str, str] | None = None,
) -> dict[str, Finding]:
    """The findings of the site at `path`, by code."""
    asked = site.checks(path, given=path if given else None, environ=environ or {}, now=now, present=present or {})
    return {finding.code: finding for finding in examine(asked)}


def bad(found: Mapping[str, Finding], *, but: str = "root-under-tmp") -> set[str]:
    """The codes of warnings and problems, without the one that every test's folder brings."""
    return {code for code, each in found.items() if each.verdict in {Verdict.WARNING, Verdict.PROBLEM}} - {but}


def doctor(*arguments: object, **variables: str) -> Result:
    """Type `bundle doctor` with an environment that leads nowhere."""
    cleared = dict.fromkeys(("BUNDLE_HOME", "BUNDLE_STORE", "INFERENCE_HOME", "MODEL_CACHE_DIR", "PYTHONPATH"))
    return CliRunner().invoke(cli, ["doctor", *map(str, arguments)], env={**cleared, **variables})


def snapshot(folder: Path) -> dict[str, tuple[int, int, int]]:
    """Every name below `folder` with mode, size and time, but for the time of `state`, where links are tried."""
    found = {}
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        time = 0 if path.is_dir() and path.name == "state" else status.st_mtime_ns
        found[path.relative_to(folder).as_posix()] = (status.st_mode, status.st_size, time)
    return found


def test_a_healthy_root_has_nothing_worse_than_a_note(place: Root) -> None:
    found = look(place.path, variables_of(place))
    assert not bad(found)
    assert {"root", "root-writable", "links", "root-of-trust", "line", "generation", "clock", "variables"} <= set(found)


def test_looking_leaves_nothing_behind_and_changes_nothing(place: Root) -> None:
    before = snapshot(place.path)
    look(place.path)
    assert snapshot(place.path) == before


def test_looking_at_what_is_not_there_makes_nothing(tmp_path: Path) -> None:
    look(tmp_path / "none")
    doctor("--root", tmp_path / "none", "--store", tmp_path / "nowhere")
    assert list(tmp_path.iterdir()) == []


def _file(path: Path) -> Path:
    path.write_text("x")
    return path


def _other_things(path: Path) -> Path:
    path.mkdir()
    _file(path / "photo.jpg")
    return path


def _marked(text: str) -> object:
    def make(path: Path) -> Path:
        path.mkdir()
        (path / "root.json").write_text(text)
        return path

    return make


@pytest.mark.parametrize(
    ("make", "code", "said"),
    [
        (lambda path: path, "no-root", "there is no root"),
        (_file, "root-is-a-file", "is a file"),
        (_other_things, "no-root", "has other things in it"),
        (_marked('{"format":2}'), "root-format", "another format"),
        (_marked('{"form'), "root-marker", "damaged"),
        (_marked(""), "root-marker", "damaged"),
    ],
)
def test_what_is_no_root_is_told_with_what_to_type(tmp_path: Path, make, code: str, said: str) -> None:  # type: ignore[no-untyped-def]
    found = look(make(tmp_path / "site"))[code]
    assert found.verdict is Verdict.PROBLEM
    assert said in found.what
    assert found.fix


def test_a_folder_inside_of_a_root_leads_to_the_root(place: Root) -> None:
    found = look(place.path / "current")["root-above"]
    assert str(place.path) in found.fix


def test_the_mark_that_the_fix_writes_is_one_that_opens(place: Root) -> None:
    marker = place.path / "root.json"
    marker.chmod(0o644)
    marker.write_text("{}garbage")
    fix = look(place.path)["root-marker"].fix
    subprocess.run(["sh", "-c", fix.partition(": ")[2]], check=True)
    assert not bad(look(place.path))


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({"BUNDLE_HOME": "/x"}, "BUNDLE_HOME"),
        ({"INFERENCE_HOME": "{root}/current/roboflow"}, "INFERENCE_HOME"),
        ({"MODEL_CACHE_DIR": "{root}/current/roboflow"}, "MODEL_CACHE_DIR"),
        ({"MODEL_CACHE_DIR": "/tmp/cache"}, "the default place"),
        ({}, "the default place"),
    ],
)
def test_what_led_to_the_root_is_said(place: Root, environ: dict[str, str], words: str) -> None:
    environ = {name: value.format(root=place.path) for name, value in environ.items()}
    assert root_.rule(None, environ) == words
    assert root_.rule(place.path, environ) == "--root"


# What is active


def _lose_generations(root: Root) -> None:
    shutil.rmtree(root.generations)


def _lose_a_file(root: Root) -> None:
    (root.path / "current/plain/acme/one/readme.txt").unlink()


def _truncate(root: Root) -> None:
    os.truncate(root.path / "current/plain/acme/one/weights.bin", 1000)


def _lose_a_folder(root: Root) -> None:
    shutil.rmtree(root.path / "current/plain/acme")


def _tear_a_line(root: Root) -> None:
    path = root.path / "current/lines/line.json"
    path.chmod(0o644)
    path.write_text("{")


@pytest.mark.parametrize(
    ("harm", "codes"),
    [
        (_lose_generations, {"current-broken"}),
        (_lose_a_file, {"generation-damaged"}),
        (_lose_a_folder, {"generation-damaged"}),
        (_truncate, {"generation-damaged", "blobs-damaged"}),
        (_tear_a_line, {"generation-unreadable"}),
    ],
)
def test_a_damaged_generation_is_found_and_its_fix_mends_it(place: Root, bundle: Path, harm, codes: set[str]) -> None:  # type: ignore[no-untyped-def]
    harm(place)
    assert bad(look(place.path)) == codes
    install(bundle, place, allow_older=False, recheck=True, now=NOW, reporter=Silent())
    assert bad(look(place.path)) <= {"quarantine"}


def test_a_root_copied_through_its_links_is_named_as_such(place: Root, tmp_path: Path) -> None:
    subprocess.run(["cp", "-rL", place.path, tmp_path / "copy"], check=True)
    found = look(tmp_path / "copy")["current-broken"]
    assert "is a folder" in found.what
    assert "rsync -aH" in found.fix


def test_a_copy_that_kept_the_links_is_whole(place: Root, tmp_path: Path) -> None:
    subprocess.run(["cp", "-a", place.path, tmp_path / "copy"], check=True)
    assert not bad(look(tmp_path / "copy"))


def test_missing_blobs_are_a_warning_because_what_is_active_works(place: Root, bundle: Path) -> None:
    shutil.rmtree(place.path / "blobs")
    assert bad(look(place.path)) == {"blobs-missing"}
    install(bundle, place, allow_older=False, recheck=True, now=NOW, reporter=Silent())
    assert not bad(look(place.path))


def test_a_small_file_that_a_client_rewrote_is_tolerated(place: Root) -> None:
    path = place.path / "current/plain/acme/one/readme.txt"
    path.write_text("rewritten by a client, and longer")
    assert not bad(look(place.path))


def test_an_empty_root_is_told_to_install(workshop: Workshop) -> None:
    found = look(workshop.site().path)
    assert not bad(found)
    assert found["nothing-installed"].fix == "bundle install BUNDLE"


def test_what_was_set_aside_and_what_killed_installs_left(place: Root) -> None:
    place.quarantine.mkdir(parents=True)
    _file(place.quarantine / "ab")
    (place.generations / ".7.partial").mkdir()
    _file(place.path / "ledger" / ".00000002.json.0123abcd.partial")
    found = look(place.path)
    assert found["quarantine"].verdict is Verdict.WARNING
    assert "left 2 unfinished" in found["leftovers"].what


def test_leftovers_go_with_the_next_install_as_said(place: Root, bundle: Path) -> None:
    (place.generations / ".7.partial").mkdir()
    _file(place.path / "ledger" / ".00000002.json.0123abcd.partial")
    assert "leftovers" in look(place.path)
    put(bundle, place)
    assert "leftovers" not in look(place.path)


def test_what_a_running_install_writes_is_no_leftover(place: Root) -> None:
    (place.generations / ".7.partial").mkdir()
    with place.lock():
        found = look(place.path)
    assert "busy" in found
    assert "leftovers" not in found


# Trust and ledger


def test_no_root_of_trust_is_a_problem_with_the_command(place: Root) -> None:
    shutil.rmtree(place.trust)
    found = look(place.path)["no-root-of-trust"]
    assert found.verdict is Verdict.PROBLEM
    assert found.fix.startswith("bundle trust init --key")


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"format":1,"keys":[],"revoked":[],"threshold":1,"version":1}'])
def test_a_damaged_root_of_trust_is_a_problem(place: Root, text: str) -> None:
    path = place.trust / "root.json"
    path.chmod(0o644)
    path.write_text(text)
    assert bad(look(place.path)) == {"root-of-trust-damaged"}


def test_a_threshold_of_every_key_is_worth_knowing() -> None:
    keys = [elliptic_signer().key, edwards_signer().key]
    assert trust_state.judge_keys(Keyring.of(keys, threshold=2)).code == "every-key-needed"
    assert trust_state.judge_keys(Keyring.of(keys, threshold=1)).verdict is Verdict.FINE
    assert trust_state.judge_keys(Keyring.of(keys[:1])).verdict is Verdict.FINE


def test_a_trust_folder_that_anybody_may_write_to(place: Root) -> None:
    place.trust.chmod(0o777)
    assert bad(look(place.path)) == {"root-open-to-all"}


def test_a_site_that_was_taken_back_is_told(workshop: Workshop, place: Root) -> None:
    newer = workshop.build(workshop.lock({"acme/one": {"a": b"2"}}, sequence=2), name="2.bundle").path
    put(newer, place)
    assert look(place.path)["line"].what.startswith("line 2 is active")
    place.activate(1)
    found = look(place.path)["line-behind"]
    assert found.verdict is Verdict.NOTE
    assert "line 1 is active, and line 2 was here" in found.what


def test_a_line_that_is_gone_is_told() -> None:
    assert [each.code for each in trust_state.judge_lines({}, {"line": 3})] == ["line-gone"]


def test_a_damaged_ledger_is_a_problem(place: Root) -> None:
    (entry,) = place.ledger.glob("*.json")
    entry.chmod(0o644)
    entry.write_text("{")
    assert bad(look(place.path)) == {"ledger-damaged"}


# File systems


@contextmanager
def mounted(point: Path, *arguments: str) -> Iterator[Path]:
    point.mkdir(exist_ok=True)
    done = subprocess.run(["mount", *arguments, str(point)], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"this machine cannot mount: {done.stderr.strip()}")
    try:
        yield point
    finally:
        subprocess.run(["umount", "--lazy", point], check=True)


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
    found = {each.code: each for each in filesystem.judge(root_.SUBJECT, told, elsewhere="elsewhere")}
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


@contextmanager
def user(number: int, root: Path) -> Iterator[None]:
    """This process as another user, who may walk to `root`."""
    for folder in root.parents[:-1]:
        if folder.stat().st_uid == 0:
            folder.chmod(folder.stat().st_mode | 0o011)
    list(providers.look({}, {}))  # while this user may still import it
    groups = os.getgroups()
    os.setgroups([])
    os.setresgid(number, number, 0)
    os.setresuid(number, number, 0)
    try:
        yield
    finally:
        os.setresuid(0, 0, 0)
        os.setresgid(0, 0, 0)
        os.setgroups(groups)


def as_user(number: int, root: Path) -> dict[str, Finding]:
    """The findings of another user."""
    with user(number, root):
        return look(root)


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
    assert "cannot-look" in found
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


# Clock


@pytest.mark.parametrize(
    ("now", "last", "code"),
    [
        (datetime(1970, 1, 1, tzinfo=UTC), None, "clock-in-the-past"),
        (datetime(2026, 5, 1, tzinfo=UTC), None, "clock"),
        (datetime(2026, 5, 1, tzinfo=UTC), datetime(2026, 5, 2, tzinfo=UTC), "clock-before-last-install"),
        (datetime(2026, 5, 3, tzinfo=UTC), datetime(2026, 5, 2, tzinfo=UTC), "clock"),
        (datetime(2028, 5, 3, tzinfo=UTC), datetime(2026, 5, 2, tzinfo=UTC), "clock-far-ahead"),
    ],
)
def test_what_the_clock_says(now: datetime, last: datetime | None, code: str) -> None:
    assert clock.judge(now, last).code == code


def test_the_ledger_remembers_a_later_time_than_the_clock_says(place: Root) -> None:
    assert bad(look(place.path, now=NOW - timedelta(days=1))) == {"clock-before-last-install"}


# Variables


def test_all_variables_of_the_root_are_fine(place: Root) -> None:
    assert look(place.path, variables_of(place))["variables"].verdict is Verdict.FINE


def test_no_variable_at_all_is_a_note_with_the_line_to_type(place: Root) -> None:
    assert look(place.path)["variables-not-set"].fix == f'eval "$(bundle env --root {place.path})"'
    assert look(place.path, {"BUNDLE_HOME": str(place.path)}, given=False)["variables-not-set"].fix == (
        'eval "$(bundle env)"'
    )


@pytest.mark.parametrize(
    ("name", "value", "code", "said"),
    [
        ("BUNDLE_HOME", "/elsewhere", "variable-elsewhere", "bundle itself reads that folder"),
        ("INFERENCE_HOME", "/elsewhere", "variable-elsewhere", "inference-models reads that folder"),
        ("INFERENCE_HOME", "/elsewhere", "two-caches", "the server the other"),
        ("MODEL_CACHE_DIR", "/tmp/cache", "variable-elsewhere", "the inference server reads"),
        ("MODEL_CACHE_DIR", "/tmp/cache", "two-caches", "two places"),
        ("HF_HUB_CACHE", "/elsewhere", "variable-elsewhere", "huggingface_hub and transformers read"),
        ("AIM_CACHE_PATH", "/workspace/model-cache", "variable-elsewhere", "AIM reads"),
        ("HF_HUB_OFFLINE", "0", "variable-value", "ask the network first"),
        ("TRANSFORMERS_OFFLINE", "no", "variable-value", "asks the network first"),
        ("OFFLINE_MODE", "false", "variable-value", "asks the network for every model"),
        ("DISK_CACHE_CLEANUP", "True", "variable-value", "may delete"),
        ("ATOMIC_CACHE_WRITES_ENABLED", "False", "variable-value", "in place"),
        ("TRANSFORMERS_CACHE", "/elsewhere", "transformers-cache", "before 5"),
    ],
)
def test_a_variable_that_leads_elsewhere_names_who_follows(
    place: Root, name: str, value: str, code: str, said: str
) -> None:
    found = look(place.path, {**variables_of(place), name: value})[code]
    assert found.verdict is Verdict.WARNING
    assert said in found.what
    assert found.fix


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OFFLINE_MODE", "true"),
        ("HF_HUB_OFFLINE", "ON"),
        ("DISK_CACHE_CLEANUP", "0"),
        ("HF_HOME", "/anywhere"),
        ("HUGGINGFACE_HUB_CACHE", "/anywhere"),
    ],
)
def test_another_spelling_and_a_name_that_loses_are_no_conflict(place: Root, name: str, value: str) -> None:
    assert not bad(look(place.path, {**variables_of(place), name: value}))


def test_the_folder_of_the_active_generation_is_the_same_place(place: Root) -> None:
    environ = variables_of(place)
    environ["HF_HUB_CACHE"] = str(place.generation(1) / "plain" / "hub")
    assert not bad(look(place.path, environ))


def test_an_older_generation_is_told_apart_from_another_place(workshop: Workshop, place: Root) -> None:
    environ = {**variables_of(place), "AIM_CACHE_PATH": str(place.generation(1) / "plain")}
    put(workshop.build(workshop.lock({"acme/one": {"a": b"2"}}, sequence=2), name="2.bundle").path, place)
    assert "another generation" in look(place.path, environ)["variable-elsewhere"].what


@pytest.mark.parametrize("name", ["HF_HOME", "HUGGINGFACE_HUB_CACHE"])
def test_older_names_count_where_the_new_one_is_not_set(place: Root, name: str) -> None:
    assert name in look(place.path, {name: "/elsewhere"})["hub-elsewhere"].what


def test_the_home_of_the_hub_may_be_the_way_to_this_root(place: Root) -> None:
    assert not bad(look(place.path, {"HF_HOME": str(place.path / "current" / "plain")}))


def test_a_home_without_a_root(tmp_path: Path) -> None:
    found = look(tmp_path / "none", {"BUNDLE_HOME": str(tmp_path / "none")}, given=False)["no-root"]
    assert found.what.endswith("(BUNDLE_HOME)")
    assert "unset it" in found.fix


@pytest.mark.parametrize(
    ("files", "shadows"),
    [
        (["runtime.py"], True),
        (["bundler/__init__.py"], True),
        (["runtime/data.txt"], False),  # no module: a folder without __init__ loses to a package
        (["other.py"], False),
    ],
)
def test_a_pythonpath_that_shadows_this_program(tmp_path: Path, files: list[str], *, shadows: bool) -> None:
    for name in files:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        _file(tmp_path / name)
    environ = {"PYTHONPATH": os.pathsep.join([str(PROJECT), "", "/nonexistent", str(tmp_path)])}
    assert bool(list(variables.look_at_shadows(environ))) is shadows


# Clients and onnxruntime


def distribution(folder: Path, name: str, version: str) -> None:
    """What an installer leaves of a distribution's metadata."""
    made = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    made.mkdir(parents=True)
    (made / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")


def test_distributions_are_found_by_their_metadata(tmp_path: Path) -> None:
    distribution(tmp_path, "HuggingFace.Hub", "2.4.0")
    (tmp_path / "broken-1.0.dist-info").mkdir()  # what an uninstall that was killed leaves
    (tmp_path / "empty-1.0.dist-info").mkdir()
    _file(tmp_path / "empty-1.0.dist-info" / "METADATA")
    assert installed([tmp_path]) == {"huggingface-hub": "2.4.0"}
    assert release("2.13.0+cpu") == (2, 13, 0)
    assert release("nightly") == ()


@pytest.mark.parametrize(
    ("name", "version", "code"),
    [
        ("inference-models", "0.39.6", "client"),
        ("inference-models", "0.36.0", "client"),
        ("inference-models", "0.35.3", "client-too-old"),
        ("inference-models", "0.40.0", "client-newer"),
        ("inference-cpu", "1.8.3", "client"),
        ("huggingface_hub", "0.36.0", "client"),
        ("huggingface_hub", "2.5.0", "client-newer"),
        ("transformers", "4.57.0", "client-too-old"),
        ("tritonclient", "2.73.0", "client"),
        ("inference-sdk", "dev", "client-version"),
    ],
)
def test_a_clients_version_is_compared_with_those_tried(tmp_path: Path, name: str, version: str, code: str) -> None:
    distribution(tmp_path, name, version)
    found = {each.code for each in clients.look(installed([tmp_path]), clients.Site({}, {}, {}, ""))}
    assert code in found
    assert "no-clients" not in found


def test_whether_a_client_would_read_this_root_now(place: Root) -> None:
    present = {"huggingface-hub": "2.4.0", "inference-models": "0.39.6"}
    found = look(place.path, present=present)
    assert found["client-elsewhere"].fix.startswith('eval "$(bundle env --root')
    found = look(place.path, variables_of(place), present=present)
    assert found["client-reads"].what == "huggingface-hub would read this root: models 1"
    assert "client-elsewhere" not in found


def test_a_client_whose_layout_no_model_has(place: Root) -> None:
    there = clients.Site(variables_of(place), variables_of(place), {"directory": 1}, "")
    found = {each.code: each for each in clients.look({"inference-models": "0.39.6"}, there)}
    assert "layouts: [inference]" in found["no-layout"].fix


def test_model_signing_without_what_it_needs() -> None:
    there = clients.Site({}, {}, {}, "")
    assert "signing-without-openssl" in {each.code for each in clients.look({"model-signing": "1.1.1"}, there)}
    both = {"model-signing": "1.1.1", "pyopenssl": "25.0"}
    assert "signing-without-openssl" not in {each.code for each in clients.look(both, there)}


@pytest.mark.parametrize(
    ("names", "code"),
    [
        (["onnxruntime", "onnxruntime-gpu"], "two-onnxruntimes"),
        (["onnxruntime-openvino", "onnxruntime-directml", "onnxruntime"], "two-onnxruntimes"),
        (["onnxruntime", "onnxruntime-extensions"], "onnxruntime"),
        (["onnxruntime-gpu"], "onnxruntime"),
    ],
)
def test_two_onnxruntimes_break_each_other(tmp_path: Path, names: list[str], code: str) -> None:
    for name in names:
        distribution(tmp_path, name, "1.22.0")
    (found,) = providers.look_at_distributions(installed([tmp_path]))
    assert found.code == code
    assert (found.verdict is Verdict.PROBLEM) is (code == "two-onnxruntimes")
    if code == "two-onnxruntimes":
        assert all(name in found.fix for name in names)


CPU, BOTH = ("CPUExecutionProvider",), ("CUDAExecutionProvider", "CPUExecutionProvider")


@pytest.mark.parametrize(
    ("available", "asked", "gpu", "codes"),
    [
        (CPU, None, False, set()),
        (CPU, ("CUDAExecutionProvider", "CPUExecutionProvider"), False, {"provider-absent"}),
        (CPU, None, True, {"gpu-unused"}),
        (BOTH, None, True, set()),
        (BOTH, None, False, {"gpu-missing"}),
    ],
)
def test_what_providers_mean(
    available: tuple[str, ...], asked: tuple[str, ...] | None, codes: set[str], *, gpu: bool
) -> None:
    assert {each.code for each in providers.judge(available, asked, gpu=gpu)} == codes


def test_the_real_onnxruntime_is_asked() -> None:
    environ = {"ONNXRUNTIME_EXECUTION_PROVIDERS": "[CUDAExecutionProvider]", "PATH": ""}
    found = {each.code: each for each in providers.look(environ, {})}
    assert "CPUExecutionProvider" in found["providers"].what
    assert "CUDAExecutionProvider" in found["provider-absent"].what


@pytest.mark.parametrize(
    ("files", "code"),
    [
        ({"onnxruntime/__init__.py": ""}, "onnxruntime-broken"),  # what one of two leaves when the other is removed
        ({"onnxruntime/__init__.py": "import a_library_that_is_not_there"}, "onnxruntime-broken"),
        ({"onnxruntime.py": "raise OSError('libcudart.so: cannot open shared object file')"}, "onnxruntime-broken"),
    ],
)
def test_an_onnxruntime_that_cannot_be_used(tmp_path: Path, files: dict[str, str], code: str) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    script = "from runtime.doctor import providers; print(*(f.code for f in providers.look({}, {})))"
    path = os.pathsep.join([str(tmp_path), str(PROJECT)])
    done = subprocess.run(
        [sys.executable, "-c", script], env={"PYTHONPATH": path}, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [code]


# The command


def test_a_problem_has_an_exit_code_of_its_own(tmp_path: Path) -> None:
    done = doctor("--root", tmp_path / "none")
    assert done.exit_code == FindingsError.exit_code
    lines = done.stdout.splitlines()
    assert lines[0].startswith("problem  root: there is no root")
    assert lines[1].strip().startswith("bundle trust init")
    assert lines[-1].startswith("problem 1,")
    assert f"site {tmp_path / 'none'}" in lines[-1]


def test_no_problem_is_exit_code_nought_and_the_json_says_the_worst(place: Root) -> None:
    done = doctor("--root", place.path, "--json")
    told = json.loads(done.stdout)
    assert done.exit_code == 0
    assert told["worst"] == "warning"
    assert told["looked_at"]["site"] == str(place.path)
    assert all(each["fix"] for each in told["findings"] if each["verdict"] in {"warning", "problem"})
    order = [list(Verdict).index(Verdict(each["verdict"])) for each in told["findings"]]
    assert order == sorted(order)


def test_without_option_or_variable_a_root_is_found_where_clients_are_led(place: Root) -> None:
    environ = {name: value for name, value in variables_of(place).items() if name != "BUNDLE_HOME"}
    told = json.loads(doctor("--json", **environ).stdout)
    assert told["looked_at"]["site"] == str(place.path)


HOOK = """
import json, os, sys

seen = []


def watch(event, arguments):
    if event == "open" and isinstance(arguments[0], str):
        flags = arguments[2] if isinstance(arguments[2], int) else 0
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC) and arguments[0] != os.devnull:
            seen.append(arguments[0])
    elif event in {"socket.connect", "socket.getaddrinfo", "socket.sendto"}:
        seen.append(event)
    elif event in {"os.rename", "os.chmod", "os.chown", "os.utime"} and not isinstance(arguments[0], int):
        seen.append(str(arguments[0]))


sys.addaudithook(watch)
from bundler.commands.main import main

try:
    main(sys.argv[1:])
except SystemExit as end:
    assert end.code in {0, 80}, end.code
print(json.dumps(seen), file=sys.stderr)
"""


def test_nothing_is_written_but_the_trial_of_links_and_nobody_is_asked(place: Root, workshop: Workshop) -> None:
    watched = [sys.executable, "-B", "-c", HOOK]
    command = [*watched, "doctor", "--root", place.path, "--store", workshop.store.path, "--json"]
    done = subprocess.run(command, cwd=workshop.folder, capture_output=True, text=True, check=True)
    seen = json.loads(done.stderr.splitlines()[-1])
    assert seen, "the trial of links was not seen: the watch is blind"
    assert not [each for each in seen if not each.startswith(str(place.state / ".doctor."))]


# The value


def test_a_look_that_fails_hides_no_other() -> None:
    one, two, three = Subject("one"), Subject("two"), Subject("three")

    def denied() -> Iterator[Finding]:
        yield one.fine("first", "seen before it failed")
        raise PermissionError(13, "Permission denied", "/secret")

    def torn() -> Iterator[Finding]:
        raise CorruptStoreError("torn")

    found = examine([(one, denied), (two, torn), (three, lambda: [three.note("seen", "seen")])])
    assert [(each.subject, each.code) for each in found] == [
        ("two", "cannot-look"), ("one", "cannot-look"), ("three", "seen"), ("one", "first"),
    ]  # fmt: skip
    assert all(each.fix for each in found[:2])
    assert "/secret" in found[1].what
    assert worst(found) is Verdict.PROBLEM
    assert worst([]) is Verdict.FINE
