"""What `doctor` finds on a site: its root, and what is active in it.

Each situation is brought about for real where a machine can be brought to it.
"""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from doctoring import a_file, bad, doctor, look, snapshot
from factory import NOW, Workshop, put
from manifests.finding import Verdict
from manifests.locks import try_lock
from manifests.progress import Silent
from runtime.doctor import marker
from runtime.environment import variables as variables_of
from runtime.install import install
from runtime.root import Root


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


def _other_things(path: Path) -> Path:
    path.mkdir()
    a_file(path / "photo.jpg")
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
        (a_file, "root-is-a-file", "is a file"),
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
    marker.unlink()
    marker.write_text("{}garbage")
    marker.chmod(0o444)  # as it was published
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
    assert marker.rule(None, environ) == words
    assert marker.rule(place.path, environ) == "--root"


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
    assert found["nothing-installed"].fix == f"bundle install BUNDLE --root {workshop.folder / 'site'}"


def test_what_was_set_aside_and_what_killed_installs_left(place: Root) -> None:
    place.quarantine.mkdir(parents=True)
    a_file(place.quarantine / "ab")
    (place.generations / ".7.partial").mkdir()
    a_file(place.path / "ledger" / ".00000002.json.0123abcd.partial")
    found = look(place.path)
    assert found["quarantine"].verdict is Verdict.WARNING
    assert "left 2 unfinished" in found["leftovers"].what


def test_leftovers_go_with_the_next_install_as_said(place: Root, bundle: Path) -> None:
    (place.generations / ".7.partial").mkdir()
    a_file(place.path / "ledger" / ".00000002.json.0123abcd.partial")
    assert "leftovers" in look(place.path)
    put(bundle, place)
    assert "leftovers" not in look(place.path)


def test_what_a_running_install_writes_is_no_leftover(place: Root) -> None:
    (place.generations / ".7.partial").mkdir()
    with place.lock():
        found = look(place.path)
    assert "busy" in found
    assert "leftovers" not in found


def test_a_marker_that_is_read_only_is_mended_by_its_owner_as_well(place: Root) -> None:
    marker = place.path / "root.json"
    marker.unlink()
    marker.write_text("{")
    marker.chmod(0o444)
    fix = look(place.path)["root-marker"].fix.partition(": ")[2]
    assert fix == f"rm -f {marker} && printf '{{\"format\":1}}' > {marker}"


def _lose_the_lines(root: Root) -> None:
    shutil.rmtree(root.path / "current/lines")


def _lose_one_line(root: Root) -> None:
    (root.path / "current/lines/line.json").unlink()


def _lose_current(root: Root) -> None:
    (root.path / "current").unlink()


def _lose_current_and_generations(root: Root) -> None:
    _lose_current(root)
    _lose_generations(root)


@pytest.mark.parametrize(
    ("harm", "code"),
    [
        (_lose_the_lines, "lines-lost"),
        (_lose_one_line, "lines-lost"),
        (_lose_current, "current-lost"),
        (_lose_current_and_generations, "current-lost"),
    ],
)
def test_lost_state_is_a_problem_and_its_fix_mends_it(
    place: Root, bundle: Path, harm: Callable[[Root], None], code: str
) -> None:
    harm(place)
    found = look(place.path)
    assert found[code].verdict is Verdict.PROBLEM
    assert f"bundle install BUNDLE --recheck --root {place.path}" in found[code].fix
    assert not {"generation", "nothing-installed"} & found.keys()
    install(bundle, place, allow_older=False, recheck=True, now=NOW, reporter=Silent())
    assert not bad(look(place.path))


def test_one_of_two_lines_lost_is_found(workshop: Workshop, place: Root) -> None:
    put(workshop.build(workshop.lock({"acme/two": {"a": b"2"}}, line="other"), name="other.bundle").path, place)
    assert "lines-lost" not in look(place.path)
    (place.path / "current/lines/other.json").unlink()
    assert "are left: line" in look(place.path)["lines-lost"].what


@pytest.mark.parametrize("name", ["ledger", "state", "recipes", "blobs"])
def test_a_file_where_a_folder_must_be_is_a_problem_and_its_fix_mends_it(place: Root, bundle: Path, name: str) -> None:
    (place.path / name).rename(place.path / f"{name}.old")
    a_file(place.path / name)
    found = look(place.path)
    assert str(place.path / name) in found["root-not-a-folder"].what
    assert not [each for each in found.values() if "this user cannot write" in each.what]
    subprocess.run(["sh", "-c", found["root-not-a-folder"].fix], check=True)
    install(bundle, place, allow_older=False, recheck=True, now=NOW, reporter=Silent())
    assert not bad(look(place.path))


def test_links_of_a_fresh_root_are_not_tried_and_nobody_is_blamed(workshop: Workshop) -> None:
    assert "no install has made" in look(workshop.site().path)["links-not-tried"].what


@pytest.mark.parametrize("name", ["generations", "generations/1", "blobs", "blobs/sha256", "recipes", "state", "."])
def test_a_place_that_anybody_may_write_to(place: Root, name: str) -> None:
    (place.path / name).chmod(0o777)
    found = look(place.path)["root-open-to-all"]
    assert str(place.path / name) in found.what
    subprocess.run(["sh", "-c", found.fix], check=True)
    assert not bad(look(place.path))


def test_weights_that_anybody_may_write_to(place: Root) -> None:
    (place.path / "current/plain/acme/one/weights.bin").chmod(0o666)
    assert "weights.bin" in look(place.path)["root-open-to-all"].what


def test_a_root_copied_without_its_hard_links_is_worth_knowing(place: Root, tmp_path: Path) -> None:
    assert "copied-files" not in look(place.path)
    subprocess.run(["cp", "-r", place.path, tmp_path / "copy"], check=True)
    found = look(tmp_path / "copy")["copied-files"]
    assert found.verdict is Verdict.NOTE
    assert "2 large files" in found.what  # one in the hub's layout, one beside it
    assert "600,000 bytes" in found.what


def test_what_a_killed_doctor_left_is_told_and_removed(place: Root) -> None:
    for name in (".doctor.abcd1234.partial", ".doctor.x"):
        (place.state / name).mkdir()
        a_file(place.state / name / "file")
    assert ".doctor.abcd1234.partial" in look(place.path)["doctor-leftovers"].what
    assert not list(place.state.glob(".doctor.*"))
    assert "doctor-leftovers" not in look(place.path)


def test_two_doctors_do_not_sweep_each_others_trial(place: Root) -> None:
    (place.state / ".doctor.abcd1234.partial").mkdir()
    descriptor = os.open(place.state, os.O_RDONLY)
    try:
        assert try_lock(descriptor, exclusive=True)
        assert "another `bundle doctor`" in look(place.path)["links-not-tried"].what
    finally:
        os.close(descriptor)
    assert (place.state / ".doctor.abcd1234.partial").is_dir()


@pytest.mark.parametrize(
    ("harm", "code"),
    [
        (_lose_a_file, "generation-damaged"),
        (_lose_generations, "current-broken"),
        (_tear_a_line, "generation-unreadable"),
        (_lose_current, "line-gone"),
    ],
)
def test_what_to_type_names_the_root_only_if_it_was_named(place: Root, harm: Callable[[Root], None], code: str) -> None:
    harm(place)
    assert f" --root {place.path}" in look(place.path)[code].fix
    assert "--root" not in look(place.path, {"BUNDLE_HOME": str(place.path)}, given=False)[code].fix
