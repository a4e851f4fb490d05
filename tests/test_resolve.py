"""From a manifest to a lock, and from a lock into the store."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from bundler.pip_settings import PackageIndexes
from bundler.resolve import fetch_locked, resolve
from bundler.settings import Hub as HubSettings
from bundler.settings import Settings
from hub_server import COMMIT, Hub, hub_of
from loopback import hasty, serving
from manifests import lock as locks
from manifests.digest import Digest
from manifests.errors import (
    DigestMismatchError,
    ManifestError,
    NamingError,
    SourceError,
    SourceNotFoundError,
    SourceUnreachableError,
)
from manifests.lock import Lock, LockedFile
from manifests.manifest import parse
from manifests.progress import Silent
from manifests.store import Store
from misbehaving_server import Answer, misbehaving
from onnx_files import Tensor, onnx_model
from wheels import Index, wheel

WHEEL = "tiny-1.0-py3-none-any.whl"
ONE = "pypi://tiny==1.0#tiny/one.bin"
TWO = "pypi://tiny==1.0#tiny/two.bin"
ABC = Digest.of(b"abc")


class Notes(Silent):
    """A reporter that keeps the notes."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


@dataclass
class Builder:
    """A folder with a manifest's files, a store, and settings."""

    folder: Path
    settings: Settings

    def write(self, name: str, content: bytes) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    def lock(
        self,
        *models: Mapping[str, object],
        previous: Lock | None = None,
        upgrade: bool = False,
        sequence: int | None = None,
        reporter: Silent | None = None,
    ) -> Lock:
        manifest = parse({"name": "line", "models": list(models)})
        with Store.open(self.settings.store) as store:
            return resolve(
                manifest,
                base=self.folder,
                store=store,
                settings=self.settings,
                previous=previous,
                upgrade=upgrade,
                sequence=sequence,
                reporter=reporter or Silent(),
            )

    def fetch(self, lock: Lock) -> None:
        with Store.open(self.settings.store) as store:
            fetch_locked(lock, base=self.folder, store=store, settings=self.settings, reporter=Silent())
            assert all(store.find(file.digest) for file in files(lock))

    def elsewhere(self) -> "Builder":
        """The same sources, and an empty store."""
        return Builder(self.folder, replace(self.settings, store=self.folder / "empty store"))

    def using(self, **changes: object) -> "Builder":
        return Builder(self.folder, replace(self.settings, **changes))  # type: ignore[arg-type]


@pytest.fixture
def builder(tmp_path: Path) -> Builder:
    return Builder(tmp_path, hasty(tmp_path / "store"))


def files(lock: Lock) -> list[LockedFile]:
    return [file for model in lock.models for package in model.packages for file in package.files]


def model(**changes: object) -> dict[str, object]:
    return {"id": "m", **changes}


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
    assert [path for path in (builder.folder / "store/partial").iterdir() if path.suffix != ".lock"] == []


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
    assert "none.bin" in str(caught.value)
    assert "nothing.bin" in str(caught.value)
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
