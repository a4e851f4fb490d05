"""From a manifest to a lock, and from a lock into the store."""

import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from builders import Builder, Line, Notes, files, model
from bundler.commands import lock as lock_command
from bundler.pip_settings import PackageIndexes
from bundler.resolve import fetch_locked
from bundler.settings import Hub as HubSettings
from hub_server import COMMIT, Hub, hub_of
from loopback import hasty, serving
from manifests import lock as locks
from manifests.digest import Digest
from manifests.errors import (
    DigestMismatchError,
    LockOutdatedError,
    ManifestError,
    NamingError,
    SourceError,
    SourceNotFoundError,
    SourceUnreachableError,
)
from manifests.lock import Lock, LockedFile, LockedModel, LockedPackage, same_content
from manifests.progress import Silent
from manifests.store import Store
from misbehaving_server import Answer, misbehaving
from onnx_files import Tensor, onnx_model
from wheels import Index, wheel

WHEEL = "tiny-1.0-py3-none-any.whl"
ONE = "pypi://tiny==1.0#tiny/one.bin"
TWO = "pypi://tiny==1.0#tiny/two.bin"
ABC = Digest.of(b"abc")


ONE_FILE = "  - {id: one, files: {a.bin: ./a.bin}}"
OTHER_FILE = "  - {id: other, files: {b.bin: ./b.bin}}"


@pytest.fixture
def line(builder: Builder) -> Line:
    made = Line(builder)
    for name in ("a.bin", "b.bin"):
        builder.write(name, name.encode())
    return made


@pytest.fixture
def builder(tmp_path: Path) -> Builder:
    return Builder(tmp_path, hasty(tmp_path / "store"))


def licensed_model(text: str) -> bytes:
    tensor = Tensor("x", [1])
    return onnx_model([], [tensor], [tensor], metadata={"license": text})


def test_a_local_file_is_locked_by_its_content(builder: Builder) -> None:
    builder.write("a.bin", b"abc")
    (file,) = files(builder.lock(model(files={"weights.bin": "./a.bin"})))
    assert file == LockedFile(
        path="weights.bin",
        sha256=ABC.hex,
        size=3,
        source="./a.bin",
    )


def test_a_lock_names_no_place_of_one_machine(builder: Builder) -> None:
    builder.write("a.bin", b"abc")
    lock = builder.lock(model(files={"a.bin": str(builder.folder / "a.bin")}))
    assert str(builder.folder).encode() not in locks.encode(lock)


def test_a_lock_can_be_read_back(builder: Builder) -> None:
    builder.write("a.bin", b"abc")
    lock = builder.lock(model(files={"weights.bin": "./a.bin"}))
    assert locks.decode(locks.encode(lock), subject="lock") == lock


@pytest.mark.parametrize(
    ("paths", "backend", "package"),
    [
        (["weights.onnx", "names.txt"], "onnx", "onnx"),
        (["best.onnx"], "onnx", "onnx"),
        (["weights.onnx", "other.onnx"], "onnx", "onnx"),
        (["one.onnx", "two.onnx"], None, "files"),
        (["model.safetensors"], None, "files"),
    ],
)
def test_the_backend_is_onnx_where_the_files_leave_no_doubt(
    builder: Builder, paths: list[str], backend: str | None, package: str
) -> None:
    builder.write("x", b"x")
    (locked,) = builder.lock(model(files=dict.fromkeys(paths, "./x"))).models[0].packages
    assert (locked.backend, locked.id) == (backend, package)


def test_two_packages_that_would_have_one_id_are_refused(builder: Builder) -> None:
    builder.write("x", b"x")
    packages = [{"files": {"a.onnx": "./x"}}, {"backend": "onnx", "files": {"b.bin": "./x"}}]
    with pytest.raises(ManifestError, match="two packages would have one id"):
        builder.lock(model(packages=packages))


def test_a_folder_becomes_one_package(builder: Builder) -> None:
    for name in ("config.json", "onnx/model.onnx", "notes.md"):
        builder.write(f"folder/{name}", name.encode())
    lock = builder.lock(model(source="./folder", include=["*.json", "onnx/"], exclude=["notes*"]))
    assert [(file.path, file.source) for file in files(lock)] == [
        ("config.json", "./folder/config.json"),
        ("onnx/model.onnx", "./folder/onnx/model.onnx"),
    ]
    builder.elsewhere().fetch(lock)


def test_patterns_that_choose_nothing_are_refused(builder: Builder) -> None:
    builder.write("folder/a.bin", b"")
    with pytest.raises(SourceNotFoundError, match="choose none of the 1 files"):
        builder.lock(model(source="./folder", include=["*.json"]))


def test_a_file_in_a_folder_that_no_disk_elsewhere_holds_is_refused(builder: Builder) -> None:
    builder.write("folder/aux.txt", b"")
    with pytest.raises(NamingError):
        builder.lock(model(source="./folder"))


def test_a_member_alone_can_be_the_source_of_a_model(builder: Builder) -> None:
    builder.write("a.whl", wheel(tiny__one=b"1"))
    (file,) = files(builder.lock(model(source="./a.whl#tiny/one")))
    assert (file.path, file.source, file.size) == ("one", "./a.whl#tiny/one", 1)


def test_an_onnx_file_says_its_licence(builder: Builder) -> None:
    builder.write("m.onnx", licensed_model("AGPL-3.0"))
    lock = builder.lock(model(license="LicenseRef-bought", files={"m.onnx": "./m.onnx"}))
    assert lock.models[0].licenses == ("LicenseRef-bought", "AGPL-3.0")


def test_a_wheel_is_downloaded_once_however_many_members_are_taken(builder: Builder) -> None:
    index = Index({WHEEL: wheel(tiny__one_bin=b"", **{"tiny__one.bin": b"1", "tiny__two.bin": b"22"})})
    with serving(index.answer) as url:
        here = builder.using(packages=PackageIndexes((f"{url}/simple",)))
        lock = here.lock(model(files={"one": ONE, "two": TWO}))
        here.lock(model(files={"one": ONE, "two": TWO}))
        here.fetch(lock)
        assert index.asked.count(f"/files/{WHEEL}") == 1
        here.elsewhere().fetch(lock)
        assert index.asked.count(f"/files/{WHEEL}") == 2
    assert [file.size for file in files(lock)] == [1, 2]
    assert lock.models[0].licenses == ("MIT",)
    assert list((builder.folder / "store/partial").iterdir()) == []


def test_the_lock_is_the_same_whatever_the_store_held_before(builder: Builder) -> None:
    content = wheel(**{"tiny__one.bin": licensed_model("AGPL-3.0")})
    here = builder.using(packages=PackageIndexes((Index({WHEEL: content}).write(builder.folder / "index"),)))
    asked = model(files={"one.onnx": ONE})
    first = here.lock(asked)
    assert here.lock(asked) == first
    assert here.elsewhere().lock(asked) == first
    assert first.models[0].licenses == ("MIT", "AGPL-3.0")


def test_a_wheel_that_is_not_what_its_index_promises_is_refused(builder: Builder) -> None:
    index = Index({WHEEL: wheel(**{"tiny__one.bin": b"1"})}, digests={WHEEL: "ab" * 32})
    with serving(index.answer) as url, pytest.raises(DigestMismatchError):
        builder.using(packages=PackageIndexes((f"{url}/simple",))).lock(model(files={"one": ONE}))


def test_a_member_that_is_not_there_names_what_is_near(builder: Builder) -> None:
    folder = Index({WHEEL: wheel(**{"tiny__one.onnx": b"1"})}).write(builder.folder / "index")
    with pytest.raises(SourceNotFoundError, match=r"no member tiny/one\.bin"):
        builder.using(packages=PackageIndexes((folder,))).lock(model(files={"one": ONE}))


def test_the_first_source_that_answers_gives_the_file(builder: Builder) -> None:
    builder.write("third.bin", b"abc")
    reporter = Notes()
    with misbehaving(b"abc", Answer(404)) as server:
        sources = [server.url, "./none.bin", "./third.bin"]
        (file,) = files(builder.lock(model(files={"a.bin": {"from": sources}}), reporter=reporter))
    assert file.source == "./third.bin"
    assert len(reporter.notes) == 2


def test_one_digest_holds_for_every_source(builder: Builder) -> None:
    builder.write("wrong.bin", b"wrong")
    builder.write("right.bin", b"abc")
    entry = {"from": ["./wrong.bin", "./right.bin"], "sha256": ABC.hex}
    assert files(builder.lock(model(files={"a.bin": entry})))[0].source == "./right.bin"
    with pytest.raises(DigestMismatchError):
        builder.elsewhere().lock(model(files={"a.bin": {"from": "./wrong.bin", "sha256": ABC.hex}}))


def test_two_digests_for_one_file_are_refused(builder: Builder) -> None:
    entry = {"from": f"./a.bin#sha256={'ab' * 32}", "sha256": "cd" * 32}
    with pytest.raises(ManifestError, match="2 different digests"):
        builder.lock(model(files={"a.bin": entry}))


def test_all_that_fails_is_told_at_once_and_the_rest_is_kept(builder: Builder) -> None:
    builder.write("good.bin", b"abc")
    asked = model(files={"a": "./none.bin", "b": "./nothing.bin", "c": "./good.bin"})
    with pytest.raises(SourceError, match="2 files failed") as caught:
        builder.lock(asked)
    assert list(caught.value.facts) == ["m a", "m b"]
    assert "none.bin does not exist" in caught.value.facts["m a"]
    assert "nothing.bin does not exist" in caught.value.facts["m b"]
    with Store.open(builder.settings.store) as store:
        assert store.find(ABC) is not None


def test_what_cannot_be_listed_does_not_hide_what_else_fails(builder: Builder) -> None:
    builder.write("good.bin", b"abc")
    builder.write("a.tar", b"no archive")
    asked = (
        model(id="a", source="./nowhere"),
        model(id="b", source="./a.tar", unpack=True),
        model(id="c", files={"w": "./none.bin"}),
        model(id="d", files={"w": "./good.bin"}),
    )
    with pytest.raises(SourceError, match="3 files failed") as caught:
        builder.lock(*asked)
    assert list(caught.value.facts) == ["a", "b", "c w"]
    with Store.open(builder.settings.store) as store:
        assert store.find(ABC) is not None


def test_the_sequence_rises_with_the_content_and_only_then(builder: Builder) -> None:
    builder.write("a.bin", b"one")
    asked = model(files={"a.bin": "./a.bin"})
    first = builder.lock(asked)
    assert first.sequence == 1
    assert builder.lock(asked, previous=first) == first
    builder.write("a.bin", b"two")
    second = builder.lock(asked, previous=first)
    assert second.sequence == 2
    assert builder.lock(asked, previous=second, sequence=9).sequence == 9


def test_another_line_begins_at_one(builder: Builder) -> None:
    builder.write("a.bin", b"one")
    asked = model(files={"a.bin": "./a.bin"})
    previous = Lock(format=locks.FORMAT, line="other", sequence=7, models=builder.lock(asked).models)
    assert builder.lock(asked, previous=previous).sequence == 1


def test_a_pin_stays_until_an_upgrade_is_asked_for(builder: Builder) -> None:
    with misbehaving(b"one") as server:
        asked = model(files={"a.bin": server.url})
        first = builder.lock(asked)
        server.content = b"two"
        assert builder.lock(asked, previous=first) == first
        assert len(server.requests) == 1
        upgraded = builder.lock(asked, previous=first, upgrade=True)
        assert upgraded.sequence == 2
        assert files(upgraded)[0].pin == {"etag": server.etag}


def test_a_digest_that_the_manifest_now_gives_moves_a_pin(builder: Builder) -> None:
    with misbehaving(b"one") as server:
        first = builder.lock(model(files={"a.bin": server.url}))
        server.content = b"abc"
        entry = {"from": server.url, "sha256": ABC.hex}
        assert files(builder.lock(model(files={"a.bin": entry}), previous=first))[0].sha256 == ABC.hex


def test_a_repository_is_locked_at_its_commit(builder: Builder) -> None:
    content = {"config.json": b"{}", "model.onnx": b"weights" * 100}
    with hub_of(Hub(content, frozenset({"model.onnx"}), gated="auto")) as hub:
        here = builder.using(hub=HubSettings(hub.url))
        asked = model(source="hf://org/model@main")
        lock = here.lock(asked)
        (locked,) = lock.models
        assert (locked.commit, locked.gated, locked.licenses) == (COMMIT, True, ("apache-2.0",))
        assert [(file.path, file.lfs, file.source) for file in files(lock)] == [
            ("config.json", False, "hf://org/model@main/config.json"),
            ("model.onnx", True, "hf://org/model@main/model.onnx"),
        ]
        assert not any(path.startswith("/large/") for _, path, _ in hub.asked)
        here.fetch(lock)
        before = len(hub.asked)
        here.fetch(lock)
        assert len(hub.asked) == before


def test_a_commit_stays_until_an_upgrade_is_asked_for(builder: Builder) -> None:
    with hub_of(Hub({"config.json": b"{}"})) as hub:
        here = builder.using(hub=HubSettings(hub.url))
        asked = model(source="hf://org/model")
        first = here.lock(asked)
        hub.asked.clear()
        assert here.lock(asked, previous=first) == first
        assert [path for _, path, _ in hub.asked if "/resolve/" in path] == []
        hub.commit, hub.files = "f" * 40, {"config.json": b"[]"}
        upgraded = here.lock(asked, previous=first, upgrade=True)
    assert (upgraded.models[0].commit, upgraded.sequence) == ("f" * 40, 2)


@pytest.mark.parametrize("name", ["config.json", "model.onnx"])
def test_a_hub_that_sends_other_bytes_than_it_names_is_refused(builder: Builder, name: str) -> None:
    content = {"config.json": b"{}", "model.onnx": b"weights"}
    with hub_of(Hub(content, frozenset({"model.onnx"}), lies={name: b"forged!"[: len(content[name])]})) as hub:
        here = builder.using(hub=HubSettings(hub.url))
        with pytest.raises(DigestMismatchError):
            here.fetch(here.lock(model(source="hf://org/model")))


def test_a_local_file_that_changed_since_it_was_locked_is_refused(builder: Builder) -> None:
    builder.write("a.bin", b"one")
    lock = builder.lock(model(files={"a.bin": "./a.bin"}))
    builder.write("a.bin", b"two")
    builder.fetch(lock)
    with pytest.raises(DigestMismatchError) as caught:
        builder.elsewhere().fetch(lock)
    assert "bundle lock" in caught.value.hint


def test_an_archive_stays_when_the_work_fails_and_is_not_fetched_again(builder: Builder) -> None:
    content = wheel(**{"tiny__one.bin": b"1"})
    index = Index({WHEEL: content})
    with serving(index.answer) as url:
        here = builder.using(packages=PackageIndexes((f"{url}/simple",)))
        with pytest.raises(SourceNotFoundError):
            here.lock(model(files={"one": ONE, "two": "./none"}))
        here.lock(model(files={"one": ONE}))
    assert index.asked.count(f"/files/{WHEEL}") == 1


def test_an_unreachable_source_is_named_with_the_file(builder: Builder) -> None:
    with misbehaving(b"abc", *[Answer(503)] * 9) as server, pytest.raises(SourceUnreachableError, match=r"m a\.bin"):
        builder.lock(model(files={"a.bin": server.url}))


def test_one_address_in_two_places_is_downloaded_once(builder: Builder) -> None:
    with misbehaving(b"abc") as server:
        asked = [{"id": name, "files": {"w.bin": server.url}} for name in ("one", "two")]
        assert {file.sha256 for file in files(builder.lock(*asked))} == {ABC.hex}
    assert len(server.requests) == 1


def test_two_models_may_come_from_one_repository(builder: Builder) -> None:
    with hub_of(Hub({"config.json": b"{}"})) as hub:
        here = builder.using(hub=HubSettings(hub.url))
        lock = here.lock(*({"id": name, "source": "hf://org/model"} for name in ("one", "two")))
    assert len(files(lock)) == 2
    assert len([path for _, path, _ in hub.asked if "/resolve/" in path]) == 1


def test_one_address_is_a_file_and_an_archive_at_once(builder: Builder) -> None:
    content = wheel(**{"tiny__one.bin": b"1"})
    with misbehaving(content) as server:
        asked = model(files={"whole.whl": server.url, "one": f"{server.url}#tiny/one.bin", "two": server.url})
        assert sorted(file.size for file in files(builder.lock(asked))) == [1, len(content), len(content)]


OTHER_PROCESS = """
import sys
from pathlib import Path
from bundler.fetch import Request, download
from bundler.http import Client
from bundler.settings import Settings
from manifests.errors import BusyError
from manifests.progress import Silent
target = Path(sys.argv[2])
try:
    with Client(Settings(store=target.parent)) as client:
        download(client, Request(sys.argv[1], target, "w"), Silent())
except BusyError:
    print("busy")
"""


def test_what_was_fetched_stays_locked_until_it_is_in_the_store(
    builder: Builder, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bundler import encode

    said: list[str] = []
    add = encode.add

    def watched(store: Store, *arguments: object, **named: object) -> object:
        (partial,) = (path for path in (store.path / "partial").iterdir() if not path.suffix)
        command = [sys.executable, "-c", OTHER_PROCESS, server.url, str(partial)]
        said.append(subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip())
        return add(store, *arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(encode, "add", watched)
    with misbehaving(wheel(**{"tiny__one.bin": b"1"})) as server:
        builder.lock(model(files={"a.bin": server.url}))
        builder.lock(model(files={"one": f"{server.url}#tiny/one.bin"}))
    assert said == ["busy", "busy"]


def test_nothing_is_left_of_downloads_that_are_finished(builder: Builder) -> None:
    content = wheel(**{"tiny__one.bin": b"1"})
    with misbehaving(content) as server, misbehaving(b"abc", *[Answer(503)] * 9) as dead:
        with pytest.raises(SourceError):
            builder.lock(model(files={"one": f"{server.url}#tiny/one.bin", "two": dead.url}))
        partial = builder.folder / "store/partial"
        assert {path.suffix for path in partial.iterdir()} == {"", ".json", ".lock"}
        dead.faults.clear()
        builder.lock(model(files={"one": f"{server.url}#tiny/one.bin", "two": dead.url}))
    assert list(partial.iterdir()) == []


@pytest.mark.parametrize("dead", ["gone", "wrong", "./wrong.bin"])
def test_the_source_that_is_chosen_does_not_depend_on_the_store(builder: Builder, dead: str) -> None:
    builder.write("wrong.bin", b"wrong")
    with misbehaving(b"wrong", *([Answer(404)] * 9 if dead == "gone" else [])) as bad, misbehaving(b"abc") as good:
        first = dead if dead.startswith("./") else bad.url
        asked = model(files={"a.bin": {"from": [first, good.url], "sha256": ABC.hex}})
        locked = builder.lock(asked)
        assert files(locked)[0].source == good.url
        assert builder.lock(asked) == locked


def test_a_licence_that_the_manifest_no_longer_names_is_gone(builder: Builder) -> None:
    with hub_of(Hub({"config.json": b"{}"}, gated="auto")) as hub:
        here = builder.using(hub=HubSettings(hub.url))
        first = here.lock(model(source="hf://org/model", license="LicenseRef-old"))
        second = here.lock(model(source="hf://org/model", license="LicenseRef-new"), previous=first)
    assert first.models[0].licenses == ("LicenseRef-old", "apache-2.0")
    assert second.models[0].licenses == ("LicenseRef-new", "apache-2.0")
    assert second.models[0].gated
    assert second.sequence == 2


def test_a_model_is_gated_only_as_long_as_a_file_of_it_is(builder: Builder) -> None:
    builder.write("a.bin", b"abc")
    with hub_of(Hub({"config.json": b"{}"}, gated="auto")) as hub, misbehaving(b"x") as server:
        here = builder.using(hub=HubSettings(hub.url))
        first = here.lock(model(files={"c.json": "hf://org/model/config.json", "x": server.url}))
        assert first.models[0].gated
        assert not here.lock(model(files={"x": server.url}), previous=first).models[0].gated


def test_the_order_of_the_models_does_not_raise_the_sequence(line: Line) -> None:
    line.write(ONE_FILE, OTHER_FILE)
    assert line.run().lock.sequence == 1
    line.write(OTHER_FILE, ONE_FILE)
    assert line.run().lock.sequence == 1


def test_a_sequence_that_does_not_rise_with_the_content_is_refused(line: Line) -> None:
    line.write(ONE_FILE)
    assert line.run(sequence=5).lock.sequence == 5
    assert line.run(sequence=5).lock.sequence == 5
    line.builder.write("a.bin", b"changed")
    for sequence in (4, 5):
        with pytest.raises(ManifestError, match=r"not that of line 5, and a site .* would refuse") as caught:
            line.run(sequence=sequence)
        assert "--sequence 6" in caught.value.hint
    assert line.run(sequence=6).lock.sequence == 6


@pytest.mark.parametrize(
    ("changed", "fact"),
    [
        ("  - {id: one, task: embedding, files: {a.bin: ./a.bin}}", "one task"),
        ("  - {id: one, aliases: [uno], files: {a.bin: ./a.bin}}", "one aliases"),
        ("  - {id: one, license: MIT, files: {a.bin: ./a.bin}}", "one licenses"),
        ("  - {id: one, files: {b.bin: ./b.bin}}", "one files a.bin"),
    ],
)
def test_check_compares_the_whole_lock_and_names_what_differs(line: Line, changed: str, fact: str) -> None:
    line.write(ONE_FILE)
    line.run()
    assert not line.run(check=True).changed
    line.write(changed)
    with pytest.raises(LockOutdatedError, match="the manifest was changed") as caught:
        line.run(check=True)
    assert fact in caught.value.facts
    assert "--upgrade" not in caught.value.hint


def test_check_tells_a_source_that_moved_from_a_manifest_that_changed(line: Line) -> None:
    with misbehaving(b"one") as server:
        line.write(f"  - {{id: one, files: {{a.bin: '{server.url}'}}}}")
        line.run()
        server.content = b"two"
        with pytest.raises(LockOutdatedError, match="not what the sources give") as caught:
            line.run(check=True)
    assert "--upgrade" in caught.value.hint
    assert "one files a.bin" in caught.value.facts


def lock_typed(line: Line, *arguments: str) -> tuple[int, str]:
    """Exit code and words of `bundle lock`, as it is typed."""
    manifest, store = str(line.builder.folder / line.manifest), str(line.builder.settings.store)
    done = CliRunner().invoke(lock_command.command, [manifest, "--store", store, *arguments])
    return done.exit_code, done.output


def test_check_never_says_that_it_wrote(line: Line) -> None:
    line.write(ONE_FILE)
    assert "written: line 1" in lock_typed(line)[1]
    assert "up to date: line 1" in lock_typed(line, "--check")[1]


@pytest.mark.parametrize("other", [["--upgrade"], ["--sequence", "3"]])
def test_check_goes_with_nothing_that_writes(line: Line, other: list[str]) -> None:
    line.write(ONE_FILE)
    code, said = lock_typed(line, "--check", *other)
    assert code == 2
    assert "--check writes nothing" in said


@pytest.mark.parametrize("content", [b"", b"{", b'{"format": 1}', b"\xff"])
def test_a_damaged_lock_is_named_with_the_way_out(line: Line, content: bytes) -> None:
    line.write(ONE_FILE)
    line.builder.write(line.target, content)
    with pytest.raises(ManifestError, match=r"line\.lock\.json: ") as caught:
        line.run()
    assert caught.value.hint == "remove it, or give --sequence N to write it anew"
    assert line.run(sequence=7).lock.sequence == 7
    assert line.run().lock.sequence == 7


def test_a_lock_with_an_id_that_is_none_is_named(line: Line) -> None:
    line.write(ONE_FILE)
    line.run()
    path = line.builder.folder / line.target
    line.builder.write(line.target, path.read_bytes().replace(b'"one"', b'"hub/x"'))
    with pytest.raises(ManifestError, match=r"line\.lock\.json: id"):
        line.run()


def test_a_lock_that_lies_elsewhere_finds_its_files_from_there(builder: Builder) -> None:
    (builder.folder / "deep/er").mkdir(parents=True)
    (builder.folder / "link").symlink_to("deep/er")
    line = Line(builder, "link/line.yaml", "out/line.lock.json")
    builder.write("deep/er/a.bin", b"abc")
    builder.write("deep/b.whl", wheel(tiny__one=b"1"))
    line.write(f"  - {{id: one, files: {{a: ./a.bin, b: '../b.whl#tiny/one', c: {builder.folder}/deep/er/a.bin}}}}")
    locked = line.run().lock
    assert [file.source for file in files(locked)] == ["../deep/er/a.bin", "../deep/b.whl#tiny/one", "../deep/er/a.bin"]
    assert not line.run().changed
    with Store.open(builder.folder / "new store") as store:
        out = builder.folder / "out"
        fetch_locked(locked, base=out, store=store, settings=builder.settings, reporter=Silent())
        assert store.find(ABC) is not None


def test_all_sources_of_one_file_that_lack_it_are_one_answer(builder: Builder) -> None:
    with pytest.raises(SourceNotFoundError) as caught:
        builder.lock(model(files={"a.bin": {"from": ["./none.bin", "./nothing.bin"]}}))
    assert str(caught.value).startswith("m a.bin: 2 sources failed: ")
    with misbehaving(b"wrong") as one, misbehaving(b"false") as two, pytest.raises(DigestMismatchError) as mismatch:
        builder.lock(model(files={"a.bin": {"from": [one.url, two.url], "sha256": ABC.hex}}))
    assert str(mismatch.value).count("m a.bin") == 1


def test_an_etag_beside_a_digest_that_agrees_is_no_change(tmp_path: Path) -> None:
    def locked(pin: dict[str, str]) -> Lock:
        file = LockedFile(path="w.bin", sha256="ab" * 32, size=1, source="https://host/w.bin", pin=pin)
        model = LockedModel(id="a/b", task="raw", packages=(LockedPackage(id="files", files=(file,)),))
        return Lock(format=1, line="line", sequence=1, models=(model,))

    assert same_content(locked({"etag": '"1"'}), locked({"last-modified": "yesterday"}))
    assert same_content(locked({}), locked({"etag": '"1"'}))
    assert not same_content(locked({"commit": "1"}), locked({"commit": "2"}))
