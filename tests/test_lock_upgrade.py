"""What moves in a lock, and what `bundle lock` tells of it."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from msgspec import structs

from builders import Builder, model
from bundler.commands.lock import command
from bundler.locking import Locking
from bundler.settings import Hub as HubSettings
from hub_server import Hub, hub_of
from loopback import Request, hasty, serving
from manifests import lock as locks
from manifests.errors import ManifestError
from manifests.lock import mapped
from manifests.progress import Silent

PAGE = "name: line\nmodels:\n" + "".join(f"  - {{id: {name}, files: {{w.bin: URL/{name}}}}}\n" for name in ("a", "b/1"))


class Site:
    """A server whose files change, a manifest of two of them, and its lock."""

    def __init__(self, folder: Path, url: str, contents: dict[str, bytes]) -> None:
        self.contents = contents
        self.manifest = folder / "line.yaml"
        self.manifest.write_text(PAGE.replace("URL", url))
        self.lock = folder / "line.lock.json"
        self._store = folder / "store"

    def run(self, *words: str) -> Result:
        return CliRunner().invoke(command, [str(self.manifest), "--store", str(self._store), *words])

    def move(self) -> None:
        for name in self.contents:
            self.contents[name] += b" moved"

    def digests(self) -> list[str]:
        locked = json.loads(self.lock.read_text())
        return [package["files"][0]["sha256"] for model in locked["models"] for package in model["packages"]]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    contents = {"/a": b"one", "/b/1": b"two"}
    asked: list[str] = []

    def answer(request: Request) -> None:
        asked.append(request.path)
        request.send(contents[request.path], ETag=f'"{len(contents[request.path])}"')

    with serving(answer) as url:
        made = Site(tmp_path, url, contents)
        assert made.run().exit_code == 0
        made.move()
        yield made


def test_nothing_moves_by_itself(site: Site) -> None:
    before = site.digests()
    told = site.run()
    assert "unchanged" in told.stdout
    assert site.digests() == before


def test_an_upgrade_of_one_id_leaves_the_others(site: Site) -> None:
    before = site.digests()
    told = site.run("--upgrade", "b/1")
    assert told.exit_code == 0
    after = site.digests()
    assert after[0] == before[0]
    assert after[1] != before[1]
    assert f"  b/1 files w.bin: sha256:{before[1][:12]}… -> sha256:{after[1][:12]}…" in told.stdout
    assert "  a " not in told.stdout


def test_an_upgrade_of_all_shows_all_old_and_new(site: Site) -> None:
    before = site.digests()
    told = json.loads(site.run("--upgrade", "--json").stdout)
    pairs = {entry["name"]: (entry["old"], entry["new"]) for entry in told["moved"]}
    after = site.digests()
    assert pairs["a files w.bin"] == (f"sha256:{before[0]}", f"sha256:{after[0]}")
    assert pairs["b/1 files w.bin"] == (f"sha256:{before[1]}", f"sha256:{after[1]}")
    assert told["sequence"] == 2


def test_more_than_a_screen_of_changes_is_cut_and_says_so(site: Site) -> None:
    models = "".join(f"  - {{id: n{n}, files: {{w.bin: ./w{n}}}}}\n" for n in range(30))
    for n in range(30):
        (site.manifest.parent / f"w{n}").write_text(str(n))
    site.manifest.write_text(site.manifest.read_text() + models)
    told = site.run()
    assert len(told.stdout.splitlines()) == 23
    assert "more: --json has them all" in told.stdout


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("a",), "IDs say what --upgrade lets move"),
        (("--upgrade", "nobody"), "has no nobody"),
        (("--upgrade", "a", "--check"), "--check writes nothing"),
    ],
)
def test_ids_that_say_nothing_are_refused(site: Site, words: tuple[str, ...], told: str) -> None:
    result = site.run(*words)
    assert result.exit_code != 0
    assert told in (str(result.exception) if result.exit_code == 1 else result.output)


def test_check_names_what_moved_and_writes_nothing(site: Site) -> None:
    before = site.lock.read_bytes()
    result = site.run("--check")
    assert result.exception is not None
    assert "is not what the sources give now" in str(result.exception)
    assert site.lock.read_bytes() == before


def test_a_lock_that_lies_elsewhere_finds_files_of_odd_folders(tmp_path: Path) -> None:
    """In a source, `#`, `!` and `%` mean something."""
    folder = tmp_path / "a#b!c%23d"
    folder.mkdir()
    (folder / "w.bin").write_bytes(b"w")
    (folder / "line.yaml").write_text(f"name: line\nmodels: [{{id: m, files: {{a: w.bin, b: '{tmp_path}/x%23/y'}}}}]\n")
    (tmp_path / "x#").mkdir()
    (tmp_path / "x#" / "y").write_bytes(b"y")
    target = tmp_path / "out" / "line.lock.json"
    target.parent.mkdir()
    settings = hasty(tmp_path / "store")
    locked = Locking(folder / "line.yaml", target, settings, Silent()).run(check=False, upgrade=False, sequence=None)
    assert (
        not Locking(folder / "line.yaml", target, settings, Silent())
        .run(check=True, upgrade=False, sequence=None)
        .changed
    )
    Builder(target.parent, hasty(tmp_path / "empty")).fetch(locked.lock)


def test_a_lock_is_not_among_the_files_that_it_locks(tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(b"w")
    (tmp_path / "line.yaml").write_text("name: line\nmodels: [{id: m, source: .}]\n")
    locking = Locking(tmp_path / "line.yaml", tmp_path / "line.lock.json", hasty(tmp_path / "s" / "store"), Silent())
    locking.run(check=False, upgrade=False, sequence=None)
    with pytest.raises(ManifestError, match="is the lock itself") as caught:
        locking.run(check=False, upgrade=False, sequence=None)
    assert "exclude: [line.lock.json]" in caught.value.hint


def test_a_package_of_which_a_hand_moved_a_part_is_asked_for_anew(tmp_path: Path) -> None:
    with hub_of(Hub({"one": b"1", "two": b"2"})) as hub:
        builder = Builder(tmp_path, replace(hasty(tmp_path / "store"), hub=HubSettings(hub.url, None)))
        wanted = model(source="hf://org/model")
        lock = builder.lock(wanted)
        broken = mapped(lock, lambda file: structs.replace(file, source=file.source.replace("/two", "/zwei")))
        assert builder.lock(wanted, previous=broken).models == lock.models


@pytest.mark.parametrize("ids", [("files", "files"), ("files", "FILES")])
def test_a_lock_with_two_packages_of_one_id_is_refused(tmp_path: Path, ids: tuple[str, str]) -> None:
    """As a merge of two branches makes it."""
    builder = Builder(tmp_path, hasty(tmp_path / "store"))
    builder.write("w.bin", b"w")
    lock = builder.lock(model(source="w.bin"))
    package = lock.models[0].packages[0]
    packages = tuple(structs.replace(package, id=each) for each in ids)
    twice = structs.replace(lock, models=(structs.replace(lock.models[0], packages=packages),))
    with pytest.raises(ManifestError, match="two packages of one id"):
        locks.decode(locks.encode(twice), subject="line.lock.json")
