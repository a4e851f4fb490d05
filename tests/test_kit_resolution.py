"""Which wheels a kit gets, out of indexes and folders, for a machine that is not this one."""

import os
from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from bundler.http import Client
from bundler.kits.constraints import constraints_of
from bundler.kits.metadata import requirements_of
from bundler.kits.resolution import resolve
from bundler.kits.target import Target
from bundler.settings import Settings
from bundler.sources.base import Found, Local, Remote
from bundler.sources.package_pages import WheelName
from loopback import Request, serving
from manifests.digest import Digest
from manifests.errors import (
    DigestMismatchError,
    SourceNotFoundError,
)
from manifests.progress import Silent
from manifests.store import Store
from real_models import cache
from resolving import ARM, LINUX, WINDOWS, Maker, described, wheels
from wheels import Index, wheel


@pytest.fixture
def maker(tmp_path: Path) -> Maker:
    return Maker(tmp_path)


def test_everything_that_is_needed_comes_once_and_sorted(maker: Maker) -> None:
    files = wheels("app", "1.0", "Zeta", "beta>=1") | wheels("zeta", "2.0", "beta") | wheels("beta", "1.5")
    assert maker.names(files, "app", "beta") == [
        "app-1.0-py3-none-any.whl", "beta-1.5-py3-none-any.whl", "zeta-2.0-py3-none-any.whl"
    ]  # fmt: skip


@pytest.mark.parametrize("offered", [False, True])
@pytest.mark.parametrize("as_json", [False, True])
def test_an_index_gives_wheels_with_place_digest_and_reference(maker: Maker, *, as_json: bool, offered: bool) -> None:
    index = Index(wheels("app", "1.0", "beta") | wheels("beta", "1.5"), as_json=as_json)
    if offered:
        index.metadata = {
            "app-1.0-py3-none-any.whl": described("app", "1.0", "beta").encode(),
            "beta-1.5-py3-none-any.whl": described("beta", "1.5").encode(),
        }
    with serving(index.answer) as url:
        app, beta = maker("app", indexes=[f"{url}/simple"])
        assert maker("app", indexes=[f"{url}/simple"]) == (app, beta)
    assert (str(app.reference), app.path) == ("pypi://app==1.0/app-1.0-py3-none-any.whl", "app-1.0-py3-none-any.whl")
    assert app.place == Remote(f"{url}/files/{app.path}")
    assert app.digest == Digest.of(index.files[app.path])
    assert app.size == (len(index.files[app.path]) if as_json else None)
    fetched = [path for path in index.asked if path.endswith(".whl")]
    assert sorted(fetched) == ([] if offered else [f"/files/{app.path}", f"/files/{beta.path}"])


def test_a_wheel_that_was_read_for_its_metadata_is_in_the_store(maker: Maker, tmp_path: Path) -> None:
    with serving(Index(wheels("app", "1.0")).answer) as url:
        (app,) = maker("app", indexes=[f"{url}/simple"])
    with Store.open(tmp_path / "store") as store:
        assert app.digest is not None
        assert store.find(app.digest) is not None


def test_metadata_that_the_index_offers_is_compared_with_its_digest(maker: Maker) -> None:
    name = "app-1.0-py3-none-any.whl"
    index = Index(wheels("app", "1.0"), metadata={name: b"another"}, digests={f"{name}.metadata": "ab" * 32})
    with (
        serving(index.answer) as url,
        pytest.raises(DigestMismatchError, match=r"whl\.metadata"),
    ):
        maker("app", indexes=[f"{url}/simple"])


def test_metadata_that_the_index_promised_and_lacks_is_read_out_of_the_wheel(maker: Maker) -> None:
    name = "app-1.0-py3-none-any.whl"
    index = Index(wheels("app", "1.0"), metadata={name: b""})

    def answer(request: Request) -> None:
        if request.path.endswith(".metadata"):
            request.send(b"", status=404)
        else:
            index.answer(request)

    with serving(answer) as url:
        assert [found.path for found in maker("app", indexes=[f"{url}/simple"])] == [name]


NATIVE = ("cp311-cp311-manylinux_2_17_x86_64", "cp311-cp311-manylinux_2_28_x86_64", "cp311-cp311-win_amd64",
          "cp311-cp311-manylinux_2_34_x86_64", "cp38-abi3-manylinux_2_28_aarch64", "cp312-cp312-manylinux_2_28_x86_64",
          "cp311-cp311-musllinux_1_2_x86_64", "cp311-cp311-linux_x86_64", "py3-none-any")  # fmt: skip


@pytest.mark.parametrize(
    ("platform", "python", "tag"),
    [
        (LINUX, "3.11", "cp311-cp311-manylinux_2_28_x86_64"),
        ("manylinux_2_27_x86_64", "3.11", "cp311-cp311-manylinux_2_17_x86_64"),
        ("manylinux_2_39_x86_64", "3.11", "cp311-cp311-manylinux_2_34_x86_64"),
        ("manylinux_2_16_x86_64", "3.11", "cp311-cp311-linux_x86_64"),
        (LINUX, "3.12", "cp312-cp312-manylinux_2_28_x86_64"),
        (LINUX, "3.13", "py3-none-any"),
        (ARM, "3.13", "cp38-abi3-manylinux_2_28_aarch64"),
        (WINDOWS, "3.11", "cp311-cp311-win_amd64"),
        ("macosx_11_0_arm64", "3.11", "py3-none-any"),
    ],
)
def test_the_best_wheel_for_the_target_is_taken(maker: Maker, platform: str, python: str, tag: str) -> None:
    files = wheels("app", "1.0", tags=NATIVE)
    assert maker.names(files, "app", platform=platform, python=python) == [f"app-1.0-{tag}.whl"]


def test_among_equal_tags_the_highest_build_is_taken(maker: Maker) -> None:
    files = wheels("app", "1.0", tags=["py3-none-any", "2-py3-none-any", "10-py3-none-any"])
    assert maker.names(files, "app") == ["app-1.0-10-py3-none-any.whl"]


def test_the_newest_version_with_a_wheel_for_the_target_is_taken(maker: Maker) -> None:
    files = wheels("app", "1.0") | wheels("app", "2.0", tags=["cp311-cp311-win_amd64"]) | {"app-3.0.tar.gz": b""}
    assert maker.names(files, "app") == ["app-1.0-py3-none-any.whl"]
    assert maker.names(files, "app", platform=WINDOWS) == ["app-2.0-cp311-cp311-win_amd64.whl"]


VERSIONS = ("0.9", "1.0", "1.1", "2.0rc1")


@pytest.mark.parametrize(
    ("asked", "version"),
    [("app", "1.1"), ("app<1.1", "1.0"), ("app==1.*", "1.1"), ("app~=1.0", "1.1"), ("app==2.0rc1", "2.0rc1"),
     ("app>=2.0rc1", "2.0rc1"), ("app>1.1", "2.0rc1"), ("app!=1.1", "1.0"), ("app>=1.0", "1.1")],
)  # fmt: skip
def test_versions_and_prereleases_are_chosen_as_pip_chooses(maker: Maker, asked: str, version: str) -> None:
    files: dict[str, bytes] = {}
    for one in VERSIONS:
        files |= wheels("app", one)
    assert maker.names(files, asked) == [f"app-{version}-py3-none-any.whl"]


def test_a_yanked_version_is_taken_only_if_it_is_named_and_then_told(maker: Maker) -> None:
    index = Index(wheels("app", "1.0") | wheels("app", "1.1"), yanked={"app-1.1-py3-none-any.whl": "broken"})
    with serving(index.answer) as url:
        assert maker("app", indexes=[f"{url}/simple"])[0].path == "app-1.0-py3-none-any.whl"
        assert maker("app==1.1", indexes=[f"{url}/simple"])[0].path == "app-1.1-py3-none-any.whl"
        with pytest.raises(SourceNotFoundError, match=r"is yanked: app>1\.0") as caught:
            maker("app>1.0", indexes=[f"{url}/simple"])
    assert "exactly app==1.1" in caught.value.hint
    assert any("is yanked: broken" in told for told in maker.notes.told)


def test_markers_are_those_of_the_target(maker: Maker) -> None:
    files = wheels(
        "app", "1.0", "winonly; sys_platform == 'win32'", "old; python_version < '3.12'", "late; extra == 'x'",
        "arm; platform_machine == 'aarch64'",
    )  # fmt: skip
    for name in ("winonly", "old", "late", "arm"):
        files |= wheels(name, "1.0")
    assert [name.partition("-")[0] for name in maker.names(files, "app")] == ["app", "old"]
    assert [name.partition("-")[0] for name in maker.names(files, "app", platform=WINDOWS, python="3.13")] == [
        "app", "winonly",
    ]  # fmt: skip
    assert [name.partition("-")[0] for name in maker.names(files, "app", platform=ARM)] == ["app", "arm", "old"]
    assert maker.names(files, "app", "winonly; sys_platform == 'win32'")[-1].startswith("old")


def test_extras_bring_what_they_require_and_extras_of_others(maker: Maker) -> None:
    files = (
        wheels("app", "1.0", "base", "one[More_Things]; extra == 'serve'", "two; extra == 'other'", extras=["serve"])
        | wheels("one", "1.0", "deep; extra == 'more-things'", extras=["more-things"])
        | wheels("deep", "1.0") | wheels("base", "1.0") | wheels("two", "1.0")
    )  # fmt: skip
    assert [name.partition("-")[0] for name in maker.names(files, "app[serve]")] == ["app", "base", "deep", "one"]
    assert [name.partition("-")[0] for name in maker.names(files, "app")] == ["app", "base"]


def test_an_extra_is_of_the_version_that_is_taken(maker: Maker) -> None:
    files = (
        wheels("app", "1.0", "one; extra == 'x'", extras=["x"])
        | wheels("app", "2.0", "two; extra == 'x'", extras=["x"])
        | wheels("one", "1.0") | wheels("two", "1.0") | wheels("holds", "1.0", "app<2")
    )  # fmt: skip
    assert maker.names(files, "app[x]", "holds") == [
        "app-1.0-py3-none-any.whl", "holds-1.0-py3-none-any.whl", "one-1.0-py3-none-any.whl"
    ]  # fmt: skip


def test_an_extra_that_does_not_exist_is_told_and_no_obstacle(maker: Maker) -> None:
    assert maker.names(wheels("app", "1.0"), "app[none]") == ["app-1.0-py3-none-any.whl"]
    assert maker.notes.told == ["app 1.0 has no extra none"]


def test_requires_python_is_that_of_the_target(maker: Maker) -> None:
    files = wheels("app", "1.0") | wheels("app", "2.0", python=">=3.12")
    assert maker.names(files, "app") == ["app-1.0-py3-none-any.whl"]
    assert maker.names(files, "app", python="3.12") == ["app-2.0-py3-none-any.whl"]


def test_what_an_index_says_of_pythons_spares_the_wheel(maker: Maker) -> None:
    name = "app-2.0-py3-none-any.whl"
    for as_json in (False, True):
        index = Index(wheels("app", "1.0") | wheels("app", "2.0"), as_json=as_json, requires_python={name: "<4,>=3.12"})
        with serving(index.answer) as url:
            assert maker("app", indexes=[f"{url}/simple"])[0].path == "app-1.0-py3-none-any.whl"
        assert f"/files/{name}" not in index.asked


def test_an_older_version_is_taken_where_the_newest_do_not_go_together(maker: Maker) -> None:
    files = (
        wheels("app", "1.0", "shared<2") | wheels("app", "2.0", "shared>=2")
        | wheels("other", "1.0", "shared<2") | wheels("shared", "1.0") | wheels("shared", "2.0")
    )  # fmt: skip
    assert maker.names(files, "app", "other") == [
        "app-1.0-py3-none-any.whl", "other-1.0-py3-none-any.whl", "shared-1.0-py3-none-any.whl"
    ]  # fmt: skip


def test_find_links_come_first_and_then_the_indexes_in_order(maker: Maker, tmp_path: Path) -> None:
    name = "app-1.0-py3-none-any.whl"
    one, two = (Index(wheels("app", "1.0", python=f">=3.{minor}")).write(tmp_path / str(minor)) for minor in (1, 2))
    first, second = maker("app", indexes=[one, two]), maker("app", indexes=[two, one])
    assert first[0].digest != second[0].digest
    links = maker.written("links", wheels("app", "1.0"))
    assert maker("app", indexes=[one], find_links=[str(links)])[0].place == Local(links / name)


def test_a_wheel_of_ones_own_that_a_newer_one_of_an_index_outruns_is_told(maker: Maker, tmp_path: Path) -> None:
    index = Index(wheels("app", "9.0") | wheels("beta", "1.0") | wheels("zeta", "1.0")).write(tmp_path / "index")
    links = str(maker.written("links", wheels("app", "1.0") | wheels("app", "1.1") | wheels("beta", "1.0")))
    maker("app", "beta", "zeta", indexes=[index], find_links=[links])
    assert maker.notes.told == ["app 1.1 of find-links is passed over: 9.0 of an index is newer"]


def test_an_odd_name_of_another_project_is_no_obstacle(maker: Maker) -> None:
    odd = ("other-1.0-1\nx-py3-none-any.whl", f"app-2.0-1{'x' * 200}-py3-none-any.whl")
    files = wheels("app", "1.0") | dict.fromkeys(odd, b"")
    assert maker.names(files, "app") == ["app-1.0-py3-none-any.whl"]


def test_a_folder_with_wheels_for_another_machine_does_not_hide_the_index(maker: Maker, tmp_path: Path) -> None:
    links = maker.written("links", wheels("app", "1.0", tags=["cp311-cp311-win_amd64"]))
    index = Index(wheels("app", "1.0", tags=[f"cp311-cp311-{LINUX}"])).write(tmp_path / "index")
    assert maker("app", indexes=[index], find_links=[str(links)])[0].path == f"app-1.0-cp311-cp311-{LINUX}.whl"


def test_the_same_indexes_give_the_same_wheels_in_whatever_order_is_asked(maker: Maker) -> None:
    files: dict[str, bytes] = {}
    for number in range(6):
        asks = [f"p{other}>=1" for other in range(6) if other != number]
        files |= wheels(f"p{number}", "1.0", *asks) | wheels(f"p{number}", "1.1", *reversed(asks))
    names = [f"p{number}" for number in range(6)]
    assert maker.names(files, *names) == maker.names(files, *reversed(names)) == maker.names(files, "p3")


@pytest.mark.parametrize(("named", "told"), [("99.0.0", "99"), ("99", "99.0"), ("1.0rc1", "1.0-RC.1"), ("1.0", "v1.0")])
def test_a_version_that_metadata_spells_in_another_way_is_the_same(maker: Maker, named: str, told: str) -> None:
    name = f"app-{named}-py3-none-any.whl"
    assert maker.names({name: wheel("app", named, metadata=described("app", told))}, "app") == [name]
    assert not maker.notes.told


def test_requirements_of_a_size_that_happens_are_read(maker: Maker) -> None:
    nested = f"beta; {'(' * 49}os_name == 'posix'{')' * 49}"
    files = wheels("app", "1.0", nested, *(f"x{number}; os_name == 'nt'" for number in range(900)))
    assert len(maker.names(files | wheels("beta", "1.0"), "app")) == 2


def lines_of(found: Sequence[Found], files: dict[str, bytes]) -> str:
    """A requirements.txt as a kit has it."""
    return "".join(
        f"{one.reference.location.partition('/')[0]} \\\n    --hash=sha256:{sha256(files[one.path]).hexdigest()}\n"
        for one in found
    )


@pytest.mark.parametrize("served", [False, True])
def test_with_the_requirements_of_an_earlier_kit_the_same_wheels_come_out(maker: Maker, *, served: bool) -> None:
    old = wheels("app", "1.0", "beta") | wheels("beta", "1.0")
    new = old | wheels("app", "1.1", "beta") | wheels("beta", "2.0rc1") | wheels("beta", "2.0")
    with serving(Index(new).answer) as url:
        places = {"indexes": [f"{url}/simple"]} if served else {"find_links": [str(maker.written("new", new))]}
        first = maker("app", find_links=[str(maker.written("old", old))])
        again = maker("app", constraints=constraints_of(lines_of(first, old), "requirements.txt"), **places)
        assert [one.path for one in again] == [one.path for one in first]
        assert all(one.digest == Digest.of(old[one.path]) for one in again)
        assert [one.path for one in maker("app", **places)] != [one.path for one in first]


def test_of_two_wheels_the_one_that_the_constraints_know_is_taken(maker: Maker, tmp_path: Path) -> None:
    other = maker.written("other", wheels("app", "1.0", python=">=3"))
    files = wheels("app", "1.0", tags=["py3-none-any", f"cp311-cp311-{LINUX}"])
    links = maker.written("links", files)
    text = f"app==1.0 --hash=sha256:{sha256(files['app-1.0-py3-none-any.whl']).hexdigest()}"
    constraints = constraints_of(text, "requirements.txt")
    (found,) = maker("app", find_links=[str(other), str(links)], constraints=constraints)
    assert found.place == Local(links / "app-1.0-py3-none-any.whl")


def test_constraints_ask_for_nothing(maker: Maker) -> None:
    links = str(maker.written("links", wheels("app", "1.0") | wheels("beta", "1.0")))
    constraints = constraints_of(f"beta==1.0 --hash=sha256:{'ab' * 32}", "requirements.txt")
    assert [one.path for one in maker("app", find_links=[links], constraints=constraints)] == [
        "app-1.0-py3-none-any.whl"
    ]


def test_a_requirements_file_is_read_as_pip_reads_it() -> None:
    one, two = "ab" * 32, "CD" * 32
    text = (
        f"# a kit \\\n\nApp_Name == 1.0  --hash=sha256:{one} --hash=sha256:{two}  # why\n"
        f"beta==2.0+cpu \\\r\n  --hash=sha256:{one} \\\n  --hash sha256:{two}\\\n"
    )
    pins = constraints_of(text, "requirements.txt").pins
    assert {name: str(pin.version) for name, pin in pins.items()} == {"app-name": "1.0", "beta": "2.0+cpu"}
    both = frozenset(Digest(bytes.fromhex(text)) for text in (one, two))
    assert [pin.digests for pin in pins.values()] == [both, both]


@pytest.mark.real
@pytest.mark.parametrize("python", ["3.11", "3.13"])
def test_our_own_program_resolves_for_every_platform_that_is_promised(python: str) -> None:
    settings = replace(Settings.read(os.environ), store=cache() / "store")
    metadata = (distribution("offline-bundle").read_text("METADATA") or "").encode()
    names: dict[str, set[str]] = {}
    for platform in (LINUX, ARM, WINDOWS):
        target = Target.parse(platform, python)
        roots = [*requirements_of(metadata, ["serve", "cpu"], target, subject="offline-bundle"), Requirement("pip")]
        with Store.open(settings.store) as store, Client(settings) as client:
            found = resolve(roots, target, packages=settings.packages, client=client, store=store, reporter=Silent())
        told = [WheelName.find(one.path) for one in found]
        assert all(wheel is not None and wheel.tags & set(target.tags) for wheel in told)
        assert all(one.digest is not None for one in found)
        names[platform] = {wheel.project for wheel in told if wheel is not None}
    assert {"pip", "numpy", "onnxruntime", "starlette", "uvicorn", "zstandard"} <= names[LINUX]
    assert names[WINDOWS] - names[LINUX] == {"colorama"}
    assert names[LINUX] == names[ARM]
    assert not {"uvloop", "boto3", "requests"} & names[LINUX]
