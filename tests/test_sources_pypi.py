"""Wheels out of package indexes, as pip is configured to know them."""

import base64
from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path

import pytest

from bundler.http import Client
from bundler.pip_settings import PackageIndexes
from bundler.resolve import resolve
from bundler.sources.base import Found, Local, Remote
from bundler.sources.pypi import PackageSource
from bundler.sources.reference import Reference
from loopback import Request, hasty, serving
from manifests.digest import Digest
from manifests.errors import DigestMismatchError, ManifestError, SourceDeniedError, SourceError, SourceNotFoundError
from manifests.lock import Lock
from manifests.manifest import parse
from manifests.progress import Silent
from manifests.store import Store
from wheels import Index, wheel

ANY = "tiny-1.0-py3-none-any.whl"
LINUX = "tiny-1.0-cp311-cp311-manylinux_2_28_x86_64.whl"
ARM = "tiny-1.0-cp311-cp311-manylinux_2_28_aarch64.whl"
CONTENT = wheel(tiny__model=b"weights")


def find(
    *indexes: str,
    text: str = "pypi://tiny==1.0",
    find_links: Sequence[str] = (),
    pin: dict[str, str] | None = None,
) -> Found:
    packages = PackageIndexes(indexes, tuple(find_links))
    with Client(hasty(Path("unused"), packages=packages)) as client:
        return PackageSource(packages, client).find(Reference.parse(text, Path()), pin or {})


@pytest.mark.parametrize("as_json", [False, True])
def test_an_index_gives_a_wheel_and_its_digest(*, as_json: bool) -> None:
    with serving(Index({ANY: CONTENT, "tiny-1.1-py3-none-any.whl": b""}, as_json=as_json).answer) as url:
        found = find(f"{url}/simple")
    assert found.place == Remote(f"{url}/files/{ANY}")
    assert found.digest is not None
    assert found.digest.hex == sha256(CONTENT).hexdigest()
    assert found.pin == {"wheel": ANY, "sha256": found.digest.hex}
    assert found.size == (len(CONTENT) if as_json else None)


def test_an_index_may_be_a_folder(tmp_path: Path) -> None:
    found = find(Index({ANY: CONTENT}).write(tmp_path))
    assert isinstance(found.place, Local)
    assert found.place.path.read_bytes() == CONTENT
    assert found.digest is not None


@pytest.mark.parametrize("as_url", [False, True])
def test_find_links_may_be_a_folder_of_wheels(tmp_path: Path, *, as_url: bool) -> None:
    (tmp_path / ANY).write_bytes(CONTENT)
    found = find(find_links=[tmp_path.as_uri() if as_url else str(tmp_path)])
    assert found.place == Local(tmp_path / ANY)


def test_find_links_may_be_a_page() -> None:
    with serving(Index({ANY: CONTENT}).answer) as url:
        assert find(find_links=[f"{url}/simple/tiny/"]).place == Remote(f"{url}/files/{ANY}")


def test_find_links_come_first_and_then_the_indexes_in_order(tmp_path: Path) -> None:
    one, two = (Index({ANY: wheel(which=bytes([number]))}).write(tmp_path / str(number)) for number in (1, 2))
    assert find(one, two).digest != find(two, one).digest
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / ANY).write_bytes(CONTENT)
    assert find(one, two, find_links=[str(tmp_path / "links")]).place == Local(tmp_path / "links" / ANY)


def test_the_next_index_is_asked_where_the_first_lacks_the_version(tmp_path: Path) -> None:
    old = Index({"tiny-0.9-py3-none-any.whl": b""}).write(tmp_path / "old")
    with serving(Index({ANY: CONTENT}).answer) as url:
        assert find(old, f"{url}/none", f"{url}/simple").pin["wheel"] == ANY


def test_a_name_is_found_however_it_is_spelled(tmp_path: Path) -> None:
    found = find(Index({ANY: CONTENT}).write(tmp_path), text="pypi://Tiny==1.0.0")
    assert found.pin["wheel"] == ANY


@pytest.mark.parametrize("requirement", ["tiny", "tiny>=1", "tiny==1.*", "tiny==", "==1", "tiny==1/x.exe", "t y==1"])
def test_only_exact_versions_are_taken(requirement: str) -> None:
    with pytest.raises(ManifestError, match="an exact version is needed"):
        find(text=f"pypi://{requirement}")


def test_a_version_that_nobody_has_names_those_that_are_there(tmp_path: Path) -> None:
    with pytest.raises(SourceNotFoundError) as caught:
        find(Index({ANY: CONTENT}).write(tmp_path), text="pypi://tiny==2.0")
    assert caught.value.hint == "there are: 1.0"


def test_a_project_that_nobody_has_is_not_found() -> None:
    with serving(Index({}).answer) as url, pytest.raises(SourceNotFoundError, match="none of 1 indexes"):
        find(f"{url}/simple")


def test_a_wheel_for_every_platform_wins(tmp_path: Path) -> None:
    assert find(Index({LINUX: b"", ANY: CONTENT, ARM: b""}).write(tmp_path)).pin["wheel"] == ANY


def test_the_latest_build_of_a_wheel_wins(tmp_path: Path) -> None:
    names = ["tiny-1.0-2-py3-none-any.whl", "tiny-1.0-10-py3-none-any.whl", ANY]
    assert find(Index(dict.fromkeys(names, b"")).write(tmp_path)).pin["wheel"] == names[1]


def test_the_only_wheel_is_taken_whatever_machine_this_is(tmp_path: Path) -> None:
    assert find(Index({ARM: b"arm"}).write(tmp_path)).pin["wheel"] == ARM


def test_among_several_platforms_the_manifest_must_choose(tmp_path: Path) -> None:
    index = Index({LINUX: b"linux", ARM: b"arm"}).write(tmp_path)
    with pytest.raises(SourceError, match="several platforms") as caught:
        find(index)
    assert f"pypi://tiny==1.0/{ARM}" in caught.value.hint
    assert find(index, text=f"pypi://tiny==1.0/{LINUX}").pin["wheel"] == LINUX
    with pytest.raises(SourceNotFoundError):
        find(index, text=f"pypi://tiny==1.0/{ANY}")


@pytest.mark.parametrize("as_json", [False, True])
def test_an_sdist_is_refused_with_the_reason(*, as_json: bool) -> None:
    with serving(Index({"tiny-1.0.tar.gz": b"", "tiny-1.1.zip": b""}, as_json=as_json).answer) as url:
        for version in ("1.0", "1.1"):
            with pytest.raises(SourceError, match="running its code") as caught:
                find(f"{url}/simple", text=f"pypi://tiny=={version}")
            assert "a version that has a wheel" in caught.value.hint


@pytest.mark.parametrize("name", ["tiny-1.0.tar.gz", "tiny-1.0.zip"])
def test_an_sdist_that_is_named_is_refused_with_the_reason_before_anybody_is_asked(name: str) -> None:
    with pytest.raises(ManifestError, match="running its code"):
        find(text=f"pypi://tiny==1.0/{name}")


def test_an_sdist_beside_a_wheel_is_passed_over() -> None:
    with serving(Index({"tiny-1.0.tar.gz": b"", ARM: b"arm"}).answer) as url:
        assert find(f"{url}/simple").pin["wheel"] == ARM


@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.parametrize(("reason", "told"), [("broken", "broken"), ("", "no reason given")])
def test_a_yanked_wheel_is_taken_with_a_warning_that_is_no_part_of_its_pin(
    reason: str, told: str, *, as_json: bool
) -> None:
    with serving(Index({ANY: CONTENT}, as_json=as_json, yanked={ANY: reason}).answer) as url:
        found = find(f"{url}/simple")
    assert set(found.pin) == {"wheel", "sha256"}
    assert f"is yanked: {told}" in found.warnings[0]


@pytest.mark.parametrize("as_json", [False, True])
def test_a_yanked_wheel_is_not_chosen_where_the_version_has_another(*, as_json: bool) -> None:
    names = ["tiny-1.0-2-py3-none-any.whl", ANY]
    index = Index(dict.fromkeys(names, b"x"), as_json=as_json, yanked={names[0]: "broken"})
    with serving(index.answer) as url:
        found = find(f"{url}/simple")
        named = find(f"{url}/simple", text=f"pypi://tiny==1.0/{names[0]}")
    assert (found.pin["wheel"], found.warnings) == (ANY, ())
    assert named.warnings


class Notes(Silent):
    """Keeps what was told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def note(self, text: str) -> None:
        self.told.append(text)


def locked(url: str, folder: Path, notes: Silent) -> Lock:
    manifest = parse({"name": "line", "models": [{"id": "t", "files": {"w": "pypi://tiny==1.0#tiny/model"}}]})
    settings = hasty(folder / "store", packages=PackageIndexes((f"{url}/simple",)))
    with Store.open(settings.store) as store:
        return resolve(
            manifest, base=Path(), store=store, settings=settings, previous=None, upgrade=False, reporter=notes
        )


def test_a_lock_says_that_a_wheel_is_yanked(tmp_path: Path) -> None:
    notes = Notes()
    with serving(Index({ANY: CONTENT}, yanked={ANY: "broken"}).answer) as url:
        lock = locked(url, tmp_path, notes)
    assert [text for text in notes.told if "is yanked: broken" in text]
    assert [file.digest for _, file in lock.files()] == [Digest.of(b"weights")]


@pytest.mark.parametrize("as_json", [False, True])
def test_a_wheel_that_is_not_what_the_index_says_is_refused(tmp_path: Path, *, as_json: bool) -> None:
    index = Index({ANY: CONTENT}, as_json=as_json, digests={ANY: "ab" * 32})
    with serving(index.answer) as url, pytest.raises(DigestMismatchError, match="expected sha256:abab"):
        locked(url, tmp_path, Silent())


def test_a_digest_of_another_kind_is_none() -> None:
    with (
        serving(page(f"../files/{ANY}#md5={'ab' * 16}")) as url,
        pytest.raises(SourceError, match="gives no sha256"),
    ):
        find(f"{url}/simple")


def test_without_any_digest_nothing_comes_over_the_network() -> None:
    with serving(Index({ANY: CONTENT}, digests={ANY: None}).answer) as url:
        with pytest.raises(SourceError, match="gives no sha256"):
            find(f"{url}/simple")
        assert find(f"{url}/simple", text=f"pypi://tiny==1.0#sha256={'ab' * 32}").pin == {"wheel": ANY}


def test_a_pin_finds_the_same_wheel_again(tmp_path: Path) -> None:
    index = Index({LINUX: b"linux", ARM: b"arm", ANY: CONTENT}).write(tmp_path)
    pin = {"wheel": ARM, "sha256": sha256(b"arm").hexdigest()}
    assert find(index, pin=pin).pin == pin


def test_a_pin_passes_over_an_index_that_has_another_wheel_of_that_name(tmp_path: Path) -> None:
    one, two = (Index({ANY: wheel(which=bytes([number]))}).write(tmp_path / str(number)) for number in (1, 2))
    pin = dict(find(two).pin)
    assert find(one, two, pin=pin).pin == pin
    with pytest.raises(SourceNotFoundError):
        find(one, pin=pin)


@pytest.mark.parametrize("body", [b"[]", b"", b"<html>", b"\xff", b"[" * 100_000])
def test_a_page_that_is_no_index_says_so(body: bytes) -> None:
    def answer(request: Request) -> None:
        request.send(body, Content_Type="application/vnd.pypi.simple.v1+json")

    with serving(answer) as url, pytest.raises(SourceError, match="not a page of a package index"):
        find(f"{url}/simple")


def test_credentials_of_an_index_go_to_it_and_are_shown_nowhere() -> None:
    word = "Basic " + base64.b64encode(b"user:pass word").decode()
    index = Index({ANY: CONTENT}, allow=lambda request: request.headers.get("Authorization") == word)
    with serving(index.answer) as url:
        found = find(url.replace("://", "://user:pass%20word@") + "/simple")
        with pytest.raises(SourceDeniedError) as caught:
            find(url.replace("://", "://user:wrong@") + "/simple")
    assert "pass" not in repr(found) + str(found.pin)
    assert isinstance(found.place, Remote)
    assert "user" not in found.place.url
    assert "wrong" not in str(caught.value)


def page(*links: str) -> Callable[[Request], None]:
    """What answers with a page of these links."""
    text = "".join(f'<a href="{link}">{link.rpartition("/")[2]}</a>' for link in links)
    return lambda request: request.send(text.encode(), Content_Type="text/html")


def test_a_page_of_the_network_points_to_no_file_of_this_machine(tmp_path: Path) -> None:
    (tmp_path / ANY).write_bytes(CONTENT)
    with serving(page((tmp_path / ANY).as_uri())) as url:
        with pytest.raises(SourceError, match="points to a file of this machine"):
            find(f"{url}/simple")
        with pytest.raises(SourceError, match="points to a file of this machine"):
            find(find_links=[f"{url}/page.html"])


def test_a_page_may_have_links_of_other_kinds() -> None:
    links = ["mailto:someone", f"ftp://example.org/{ANY}", f"../files/{ANY}#sha256={sha256(CONTENT).hexdigest()}"]
    with serving(page(*links)) as url:
        assert isinstance(find(f"{url}/simple").place, Remote)


@pytest.mark.parametrize("as_url", [False, True])
def test_find_links_may_name_a_wheel_itself(tmp_path: Path, *, as_url: bool) -> None:
    path = tmp_path / ANY
    path.write_bytes(CONTENT)
    assert find(find_links=[path.as_uri() if as_url else str(path)]).place == Local(path)


def test_find_links_may_be_the_address_of_a_wheel() -> None:
    found = find(find_links=[f"http://user:word@127.0.0.1/x/{ANY}#sha256={sha256(CONTENT).hexdigest()}"])
    assert found.place == Remote(f"http://127.0.0.1/x/{ANY}")
    assert found.digest is not None
    assert found.digest.hex == sha256(CONTENT).hexdigest()


@pytest.mark.parametrize("host", ["http://h:999999", "http://h:port"])
def test_an_address_in_a_page_that_is_none_is_an_error_of_the_source(tmp_path: Path, host: str) -> None:
    with serving(page(f"{host}/{ANY}#sha256={'ab' * 32}")) as url:
        place = find(f"{url}/simple").place
    assert isinstance(place, Remote)
    with Client(hasty(tmp_path)) as client, pytest.raises(SourceError, match="not a URL"):
        client.open(place.url, subject="w", headers={})


def test_a_page_with_a_broken_address_is_an_error_of_the_source() -> None:
    with serving(page(f"http://[bad/{ANY}")) as url, pytest.raises(SourceError):
        find(f"{url}/simple")


@pytest.mark.parametrize("digest", ["", "zz", "ab"])
def test_a_pin_that_is_no_digest_is_told_as_such(digest: str) -> None:
    with (
        serving(Index({ANY: wheel(a=b"a")}).answer) as url,
        pytest.raises(ManifestError, match="no digest") as caught,
    ):
        find(f"{url}/simple", pin={"wheel": ANY, "sha256": digest})
    assert "--upgrade" in caught.value.hint
