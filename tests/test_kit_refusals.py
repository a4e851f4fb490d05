"""What gives no kit: wheels that nobody has, that do not go together or lie; and the words that say so."""

from collections.abc import Callable
from pathlib import Path

import pytest

from bundler.kits.constraints import constraints_of
from bundler.kits.metadata import requirements_of
from bundler.kits.target import Target
from loopback import Request, serving
from manifests.errors import (
    DigestMismatchError,
    ManifestError,
    SourceDeniedError,
    SourceError,
    SourceNotFoundError,
    SourceUnreachableError,
)
from resolving import ARM, LINUX, Maker, described, error_of, wheels
from wheels import Index, wheel


@pytest.fixture
def maker(tmp_path: Path) -> Maker:
    return Maker(tmp_path)


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


def test_a_page_on_this_disk_has_a_bound_too(maker: Maker, tmp_path: Path) -> None:
    (tmp_path / "simple" / "app").mkdir(parents=True)
    with (tmp_path / "simple" / "app" / "index.html").open("wb") as stream:
        stream.truncate((64 << 20) + 1)
    with pytest.raises(SourceError, match=r"index\.html has more than 67108864 bytes"):
        maker("app", indexes=[(tmp_path / "simple").as_uri()])


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
