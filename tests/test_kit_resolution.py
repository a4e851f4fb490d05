"""Which wheels a kit gets, out of indexes and folders, for a machine that is not this one."""

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from hashlib import sha256
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from bundler.http import Client
from bundler.kits.constraints import Constraints, constraints_of
from bundler.kits.metadata import requirements_of
from bundler.kits.resolution import resolve
from bundler.kits.target import Target
from bundler.pip_settings import PackageIndexes
from bundler.settings import Settings
from bundler.sources.base import Found, Local, Remote
from bundler.sources.package_pages import WheelName
from loopback import Request, hasty, serving
from manifests.digest import Digest
from manifests.errors import (
    DigestMismatchError,
    ManifestError,
    SourceDeniedError,
    SourceError,
    SourceNotFoundError,
    SourceUnreachableError,
)
from manifests.progress import Silent
from manifests.store import Store
from real_models import cache
from wheels import Index, wheel

LINUX, ARM, WINDOWS = "manylinux_2_28_x86_64", "manylinux_2_28_aarch64", "win_amd64"


def described(name: str, version: str, *requires: str, python: str = "", extras: Sequence[str] = ()) -> str:
    """METADATA."""
    lines = ["Metadata-Version: 2.4", f"Name: {name}", f"Version: {version}"]
    lines += [f"Requires-Dist: {text}" for text in requires] + [f"Provides-Extra: {extra}" for extra in extras]
    return "\n".join([*lines, *([f"Requires-Python: {python}"] if python else []), "", "A text.\n"])


def wheels(
    name: str,
    version: str,
    *requires: str,
    tags: Sequence[str] = ("py3-none-any",),
    python: str = "",
    extras: Sequence[str] = (),
) -> dict[str, bytes]:
    """Wheels of one version by file name, one for each of `tags`."""
    text = described(name, version, *requires, python=python, extras=extras)
    return {f"{name}-{version}-{tag}.whl": wheel(name, version, metadata=text, tag=tag.encode()) for tag in tags}


class Notes(Silent):
    """Keeps what was told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def note(self, text: str) -> None:
        self.told.append(text)


class Maker:
    """Resolves with a store of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.notes = Notes()

    def __call__(
        self,
        *roots: str,
        indexes: Sequence[str] = (),
        find_links: Sequence[str] = (),
        platform: str = LINUX,
        python: str = "3.11",
        constraints: Constraints | None = None,
    ) -> tuple[Found, ...]:
        packages = PackageIndexes(tuple(indexes), tuple(find_links))
        settings: Settings = hasty(self.folder / "store", packages=packages)
        with Store.open(settings.store) as store, Client(settings) as client:
            return resolve(
                [Requirement(root) for root in roots],
                Target.parse(platform, python),
                packages=packages,
                client=client,
                store=store,
                reporter=self.notes,
                constraints=constraints,
                asked_by="the test",
            )

    def names(self, files: dict[str, bytes], *roots: str, platform: str = LINUX, python: str = "3.11") -> list[str]:
        """File names of the wheels out of a folder with `files`."""
        links = [str(self.written("links", files))]
        return [found.path for found in self(*roots, find_links=links, platform=platform, python=python)]

    def written(self, name: str, files: dict[str, bytes]) -> Path:
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        for file, content in files.items():
            (folder / file).write_bytes(content)
        return folder


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


HOSTILE = {
    "another folder": "app-99.0-1%2F..%2F..%2Fx-py3-none-any.whl",
    "a folder": "app-99.0-1%2Fx-py3-none-any.whl",
    "a new line": "app-99.0-1%0Ax-py3-none-any.whl",
    "an escape": "app-99.0-1%1B%5B2Jx-py3-none-any.whl",
    "another way to write": "app-99.0-1%E2%80%AEx-py3-none-any.whl",
    "a backslash": "app-99.0-1%5Cx-py3-none-any.whl",
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_name_that_would_leave_its_folder_or_move_a_cursor_is_refused_before_anything(
    maker: Maker, case: str
) -> None:
    page = f'<a href="../../files/{HOSTILE[case]}#sha256={"ab" * 32}">a wheel</a>'
    asked: list[str] = []

    def answer(request: Request) -> None:
        asked.append(request.path)
        request.send(page.encode(), Content_Type="text/html")

    with serving(answer) as url, pytest.raises(SourceError, match="whose name is not one") as caught:
        maker("app", indexes=[f"{url}/simple"])
    assert asked == ["/simple/app/"]
    assert "manifest" not in caught.value.hint
    assert str(caught.value).isprintable()


def test_an_odd_name_of_another_project_is_no_obstacle(maker: Maker) -> None:
    odd = ("other-1.0-1\nx-py3-none-any.whl", f"app-2.0-1{'x' * 200}-py3-none-any.whl")
    files = wheels("app", "1.0") | dict.fromkeys(odd, b"")
    assert maker.names(files, "app") == ["app-1.0-py3-none-any.whl"]


def test_a_page_on_this_disk_has_a_bound_too(maker: Maker, tmp_path: Path) -> None:
    (tmp_path / "simple" / "app").mkdir(parents=True)
    with (tmp_path / "simple" / "app" / "index.html").open("wb") as stream:
        stream.truncate((64 << 20) + 1)
    with pytest.raises(SourceError, match=r"index\.html has more than 67108864 bytes"):
        maker("app", indexes=[(tmp_path / "simple").as_uri()])


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


def error_of(maker: Maker, files: dict[str, bytes], *roots: str, platform: str = LINUX) -> SourceError:
    with pytest.raises(SourceError) as caught:
        maker.names(files, *roots, platform=platform)
    return caught.value


def test_what_has_no_wheel_for_the_target_is_named_with_who_asks_and_what_there_is(maker: Maker) -> None:
    files = (
        wheels("app", "1.0", "middle") | wheels("middle", "1.0", "native>=2")
        | wheels("native", "2.0", tags=["cp312-cp312-win_amd64", f"cp311-cp311-{LINUX}"])
        | wheels("native", "1.0", tags=[f"cp311-cp311-{LINUX}"]) | {"native-2.1.tar.gz": b""}
    )  # fmt: skip
    error = error_of(maker, files, "app", platform=ARM)
    assert isinstance(error, SourceNotFoundError)
    assert error.message == (
        f"native>=2 has no wheel for {ARM}, Python 3.11; asked for by middle 1.0, for app 1.0, for the test"
    )
    assert error.facts == {"native 2.1 has": "an sdist"}
    assert "--find-links" in error.hint
    assert "--platform" in error.hint


def test_of_what_there_is_the_wheels_of_the_targets_machine_are_told_first(maker: Maker) -> None:
    tags = ["cp39-cp39-win32", "cp311-cp311-manylinux_2_34_aarch64", "cp311-cp311-win_amd64"]
    error = error_of(maker, wheels("native", "2.0", tags=tags), "native", platform=ARM)
    assert error.facts == {"native 2.0 has": f"{tags[1]}, {tags[2]}, {tags[0]}"}


def test_a_wheel_of_another_python_is_said_to_be_that(maker: Maker) -> None:
    index = Index(wheels("app", "1.0"), requires_python={"app-1.0-py3-none-any.whl": ">=3.13"})
    with serving(index.answer) as url, pytest.raises(SourceNotFoundError) as caught:
        maker("app", indexes=[f"{url}/simple"])
    assert caught.value.facts == {"app 1.0 has": "py3-none-any for Python >=3.13"}


def test_a_distribution_that_nobody_has_is_named_with_who_asks(maker: Maker) -> None:
    error = error_of(maker, wheels("app", "1.0", "nowhere"), "app")
    assert error.message == (
        "nowhere is in none of 1 indexes and find-links folders; asked for by app 1.0, for the test"
    )
    assert isinstance(error, SourceNotFoundError)


def test_a_version_that_nobody_has_is_told_with_those_that_are_there(maker: Maker) -> None:
    error = error_of(maker, wheels("app", "1.0") | wheels("app", "1.10"), "app>=2")
    assert error.message == "no version of app is as asked: app>=2 (for the test)"
    assert error.hint == "there are: 1.10, 1.0"


def test_a_conflict_is_told_with_the_chain_of_those_who_ask(maker: Maker) -> None:
    files = (
        wheels("app", "1.0", "middle") | wheels("middle", "1.0", "shared<2") | wheels("other", "3.0", "shared>=2")
        | wheels("shared", "1.0") | wheels("shared", "2.0")
    )  # fmt: skip
    error = error_of(maker, files, "app", "other")
    assert error.exit_code == SourceError.exit_code
    assert error.message.startswith("these do not go together: ")
    assert "shared<2 (for middle 1.0, for app 1.0, for the test)" in error.message
    assert "shared>=2 (for other 3.0, for the test)" in error.message


def test_once_versions_were_given_up_what_only_old_ones_need_is_no_error(maker: Maker) -> None:
    files = (
        wheels("app", "3.0", "shared>=2") | wheels("app", "2.0", "gone") | wheels("app", "1.0", "shared")
        | wheels("shared", "1.0") | wheels("shared", "2.0") | {"gone-1.0.tar.gz": b""}
    )  # fmt: skip
    assert maker.names(files, "app", "shared<2") == ["app-1.0-py3-none-any.whl", "shared-1.0-py3-none-any.whl"]
    assert any("app 3.0 cannot be taken because of" in told for told in maker.notes.told)


BROKEN = {
    "no requirement": (described("app", "2.0", "what is==this"), "cannot be understood"),
    "no version": ("Metadata-Version: 2.1\nName: app\nVersion: newest\n", "cannot be understood"),
    "another name": (described("other", "2.0"), "says of itself that it is other 2.0"),
    "another version": (described("app", "2.1"), "says of itself that it is app 2.1"),
    "too deep": (described("app", "2.0", f"x; {'(' * 3000}os_name == 'a'{')' * 3000}"), "cannot be understood"),
    "nested": (
        described("app", "2.0", f"x; os_name == 'a'{' and (os_name == str' * 500}{')' * 500}".replace("str", "'a'")),
        "cannot be understood",
    ),
    "nested a little": (
        described("app", "2.0", f"x; os_name == 'a'{' and (os_name>str' * 51}{')' * 51}".replace("str", "'a'")),
        "more than 50 parentheses",
    ),
    "no answer": (described("app", "2.0", "x; sys_platform ~= 'linux'"), "a marker that has no answer"),
    "no such variable": (described("app", "2.0", "x; 'dev' in dependency_groups"), "cannot be understood"),
    "too many": (described("app", "2.0", *(f"x{number}" for number in range(1001))), "it has 1001 requirements"),
    "too long": (described("app", "2.0", f"x; os_name == '{'a' * 1000}'"), "at most 1000 are read"),
    "a long python": (described("app", "2.0", python=">=3" + ",>=3" * 300), "at most 1000 are read"),
    "an address": (described("app", "2.0", "x @ https://user:word@host.example/x.whl"), "asked for by an address"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_version_whose_metadata_is_of_no_use_is_passed_over_or_named(maker: Maker, case: str) -> None:
    text, told = BROKEN[case]
    broken = {"app-2.0-py3-none-any.whl": wheel("app", "2.0", metadata=text)}
    assert maker.names(wheels("app", "1.0") | broken, "app") == ["app-1.0-py3-none-any.whl"]
    error = error_of(maker, broken, "app==2.0")
    assert told in error.message
    assert "app 2.0, for the test" in error.message
    assert "word" not in error.message + "".join(maker.notes.told)


@pytest.mark.parametrize(("named", "told"), [("99.0.0", "99"), ("99", "99.0"), ("1.0rc1", "1.0-RC.1"), ("1.0", "v1.0")])
def test_a_version_that_metadata_spells_in_another_way_is_the_same(maker: Maker, named: str, told: str) -> None:
    name = f"app-{named}-py3-none-any.whl"
    assert maker.names({name: wheel("app", named, metadata=described("app", told))}, "app") == [name]
    assert not maker.notes.told


def test_requirements_of_a_size_that_happens_are_read(maker: Maker) -> None:
    nested = f"beta; {'(' * 49}os_name == 'posix'{')' * 49}"
    files = wheels("app", "1.0", nested, *(f"x{number}; os_name == 'nt'" for number in range(900)))
    assert len(maker.names(files | wheels("beta", "1.0"), "app")) == 2


def test_only_so_many_wheels_of_one_distribution_are_fetched_to_look_into_them(maker: Maker) -> None:
    files = wheels("holds", "1.0", "shared<2") | wheels("shared", "1.0")
    for number in range(60):
        files |= wheels("app", f"1.{number}", "shared>=2")
    index = Index(files)
    with (
        serving(index.answer) as url,
        pytest.raises(SourceError, match="app: 50 of its versions") as caught,
    ):
        maker("app", "holds", "shared==1.0", indexes=[f"{url}/simple"])
    assert "--constraint" in caught.value.hint
    assert len([path for path in index.asked if path.startswith("/files/app")]) == 50


def test_only_so_many_versions_of_one_distribution_are_looked_into(maker: Maker) -> None:
    files = wheels("shared", "1.0")
    for number in range(501):
        files |= wheels("app", f"1.{number}", "shared>=2")
    error = error_of(maker, files, "app", "shared==1.0")
    assert error.message == (
        "app: 500 of its versions were read for what they need, and none of them goes with the others"
    )


def test_a_puzzle_that_is_given_up_names_what_did_not_go_together(maker: Maker) -> None:
    files: dict[str, bytes] = {}
    for name in range(9):  # nine that must all differ, in eight ways: the classic that no search sees through
        for version in range(8):
            asks = [f"p{other}!={version}" for other in range(9) if other != name]
            files |= wheels(f"p{name}", f"{version}", *asks)
    error = error_of(maker, files, *(f"p{name}" for name in range(9)))
    assert error.message.startswith("no answer after 2000 choices of versions; what did not go together last: p")
    assert "(for p" in error.message


@pytest.mark.parametrize("content", [b"", b"no zip", wheel("app", "1.0")[:-30]])
def test_a_wheel_that_is_none_is_named(maker: Maker, content: bytes) -> None:
    assert "app-1.0-py3-none-any.whl" in error_of(maker, {"app-1.0-py3-none-any.whl": content}, "app").message


def test_metadata_that_is_longer_than_any_honest_one_is_not_read(maker: Maker) -> None:
    content = wheel("app", "1.0", metadata=described("app", "1.0") + "x" * (5 << 20))
    assert "METADATA has" in error_of(maker, {"app-1.0-py3-none-any.whl": content}, "app").message
    index = Index({"app-1.0-py3-none-any.whl": b""}, metadata={"app-1.0-py3-none-any.whl": b"x" * (5 << 20)})
    with serving(index.answer) as url, pytest.raises(SourceError, match="more than 4194304 bytes"):
        maker("app", indexes=[f"{url}/simple"])


def test_without_a_digest_nothing_comes_over_the_network(maker: Maker) -> None:
    name = "app-1.0-py3-none-any.whl"
    for metadata in ({}, {name: described("app", "1.0").encode()}):
        index = Index(wheels("app", "1.0"), digests={name: None}, metadata=metadata)
        with serving(index.answer) as url, pytest.raises(SourceError, match="gives no sha256"):
            maker("app", indexes=[f"{url}/simple"])
        assert f"/files/{name}" not in index.asked


def test_a_wheel_that_is_not_what_the_index_says_is_refused(maker: Maker) -> None:
    name = "app-1.0-py3-none-any.whl"
    index = Index(wheels("app", "1.0"), digests={name: "ab" * 32})
    with serving(index.answer) as url, pytest.raises(DigestMismatchError, match=name):
        maker("app", indexes=[f"{url}/simple"])


ANSWERS: dict[str, tuple[Callable[[Request], None], type[SourceError]]] = {
    "busy": (lambda request: request.send(b"", status=503), SourceUnreachableError),
    "locked": (lambda request: request.send(b"", status=401), SourceDeniedError),
    "no index": (lambda request: request.send(b"{", Content_Type="application/vnd.pypi.simple.v1+json"), SourceError),
}


@pytest.mark.parametrize("case", ANSWERS)
def test_an_index_that_does_not_answer_well_is_an_error_of_its_kind(maker: Maker, case: str) -> None:
    answer, kind = ANSWERS[case]
    with serving(answer) as url, pytest.raises(SourceError) as caught:
        maker("app", indexes=[f"{url}/simple"])
    assert type(caught.value) is kind


def test_an_index_that_is_not_there_is_told_once_and_not_for_every_distribution(maker: Maker) -> None:
    with serving(lambda request: request.send(b"", status=503)) as url, pytest.raises(SourceUnreachableError) as caught:
        maker("app", "beta", "zeta", indexes=[f"{url}/simple"])
    assert caught.value.message.startswith("app: ")
    assert "beta" not in caught.value.message


def test_a_program_in_memory_is_asked_for_by_what_it_requires() -> None:
    text = described(
        "Our.Program", "0.1", "always>=1", "served; extra == 'serve'", "win; sys_platform == 'win32'",
        "built; extra == 'build'", extras=["serve", "build"],
    ).encode()  # fmt: skip
    target = Target.parse(LINUX, "3.11")
    assert [str(one) for one in requirements_of(text, ["Serve"], target, subject="ours")] == ["always>=1", "served"]
    with pytest.raises(ManifestError, match="ours has no extra sreve") as caught:
        requirements_of(text, ["sreve"], target, subject="ours")
    assert caught.value.hint == "there are: build, serve"
    with pytest.raises(SourceError, match="cannot be understood"):
        requirements_of(b"no metadata", [], target, subject="ours")


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


def test_a_wheel_of_another_digest_is_refused_by_name(maker: Maker) -> None:
    links = str(maker.written("links", wheels("app", "1.0")))
    constraints = constraints_of(f"app==1.0 --hash=sha256:{'ab' * 32}", "old/requirements.txt")
    with pytest.raises(DigestMismatchError) as caught:
        maker("app", find_links=[links], constraints=constraints)
    assert caught.value.subject == "app-1.0-py3-none-any.whl"
    assert "old/requirements.txt" in caught.value.message


def test_a_version_of_the_constraints_that_is_gone_is_told(maker: Maker) -> None:
    links = str(maker.written("links", wheels("app", "1.1")))
    constraints = constraints_of(f"app==1.0 --hash=sha256:{'ab' * 32}", "requirements.txt")
    with pytest.raises(SourceNotFoundError, match=r"and requirements\.txt wants 1\.0"):
        maker("app", find_links=[links], constraints=constraints)


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


GOOD = f"--hash=sha256:{'ab' * 32}"


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("app", "not NAME==VERSION"),
        (f"app>=1 {GOOD}", "not NAME==VERSION"),
        (f"app==1.* {GOOD}", "not NAME==VERSION"),
        (f"app==one {GOOD}", "not NAME==VERSION"),
        (f"app[x]==1 {GOOD}", "not NAME==VERSION"),
        ("app==1", "has no --hash"),
        (f"app==1 ; python_version < '3' {GOOD}", "is not understood here"),
        ("app==1 --hash=md5:abcd", "is not understood here"),
        ("app==1 --hash=sha256:abcd", "is not understood here"),
        (f"app==1 {GOOD} --no-binary app", "'--no-binary' is not understood here"),
        ("--index-url https://host.example/simple", "not NAME==VERSION"),
        ("-r more.txt", "not NAME==VERSION"),
        ("app @ https://host.example/app.whl", "not NAME==VERSION"),
        (f"beta==1 {GOOD}", "beta a second time"),
    ],
)
def test_what_is_no_requirements_file_of_a_kit_is_refused_with_its_line(line: str, told: str) -> None:
    with pytest.raises(ManifestError) as caught:
        constraints_of(f"beta==1.0 \\\n {GOOD}\n{line}\n", "requirements.txt")
    assert caught.value.message.startswith("requirements.txt, line 3: ")
    assert told in caught.value.message


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
