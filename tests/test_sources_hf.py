"""Repositories of a hub, by the API that its own client speaks."""

from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import snapshot_download
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError

from bundler.fetch import Request as Download
from bundler.fetch import download
from bundler.http import Client
from bundler.resolve import fetch_locked, resolve
from bundler.settings import Hub as HubSettings
from bundler.settings import Settings
from bundler.sources import hf
from bundler.sources.base import Found, Remote
from bundler.sources.hf import HubSource
from bundler.sources.reference import Reference
from hub_server import COMMIT, Hub, git_sha1, hub_of
from loopback import Request, hasty, serving
from manifests.digest import Digest
from manifests.errors import ManifestError, SourceDeniedError, SourceError, SourceNotFoundError
from manifests.lock import Lock, LockedFile
from manifests.manifest import parse
from manifests.progress import Silent
from manifests.store import Store

FILES = {"config.json": b"{}", "onnx/model.onnx": b"weights" * 1000, "model.safetensors": b"tensors" * 1000}
LARGE = frozenset({"onnx/model.onnx", "model.safetensors"})


def listed(hub: Hub, text: str = "hf://org/model", token: str | None = None, **pin: str) -> tuple[Found, ...]:
    settings = HubSettings(hub.url, token)
    with Client(hasty(Path("unused"), hub=settings)) as client:
        return HubSource(settings, client).list(Reference.parse(text, Path()), pin)


@pytest.mark.parametrize("page_size", [1, 2, 1000])
def test_a_repository_lists_its_files_with_what_the_hub_says_of_them(page_size: int) -> None:
    with hub_of(Hub(FILES, LARGE, page_size=page_size)) as hub:
        config, model, _ = found = listed(hub)
    assert [file.path for file in found] == ["config.json", "model.safetensors", "onnx/model.onnx"]
    assert (config.digest, config.lfs, config.git_sha1) == (None, False, bytes.fromhex(git_sha1(b"{}")))
    assert (model.digest, model.lfs, model.size) == (Digest.of(FILES["model.safetensors"]), True, 7000)
    assert {file.licenses for file in found} == {("apache-2.0",)}
    assert {file.pin["commit"] for file in found} == {COMMIT}


@pytest.mark.parametrize("revision", ["main", COMMIT, "refs%2Fpr%2F1", "refs/pr/1"])
def test_a_revision_becomes_its_commit(revision: str) -> None:
    with hub_of(Hub(FILES, LARGE)) as hub:
        (found,) = listed(hub, f"hf://org/model@{revision}/config.json")
        assert found.place == Remote(f"{hub.url}/org/model/resolve/{COMMIT}/config.json")


def test_a_pin_is_followed_and_not_the_branch() -> None:
    with hub_of(Hub(FILES, LARGE)) as hub:
        listed(hub, "hf://org/model@gone", commit=COMMIT)
        assert hub.asked[0][1] == f"/api/models/org/model/revision/{COMMIT}"


def test_a_file_that_is_not_there_names_those_that_are() -> None:
    with hub_of(Hub(FILES)) as hub, pytest.raises(SourceNotFoundError, match=r"has no file model\.onnx") as caught:
        listed(hub, "hf://org/model/model.onnx")
    assert "onnx/model.onnx" in caught.value.hint


def test_a_revision_that_is_not_there_is_not_found_and_the_hub_says_why() -> None:
    with hub_of(Hub(FILES)) as hub, pytest.raises(SourceNotFoundError, match="Invalid rev id: v9"):
        listed(hub, "hf://org/model@v9")


def test_a_repository_that_is_not_there_or_private_is_not_found() -> None:
    with hub_of(Hub(FILES)) as hub, pytest.raises(SourceNotFoundError, match="Repository not found") as caught:
        listed(hub, "hf://org/other")
    assert caught.value.hint == "if it is private, set HF_TOKEN"


def test_a_private_repository_opens_with_the_token() -> None:
    with hub_of(Hub(FILES, token="hf_x")) as hub:
        assert len(listed(hub, token="hf_x")) == 3
        with pytest.raises(SourceDeniedError, match="Invalid credentials") as caught:
            listed(hub, token="hf_wrong")
        assert "HF_TOKEN" in caught.value.hint
        assert "hf_wrong" not in f"{caught.value} {caught.value.hint}"


def test_a_gated_repository_is_refused_with_the_way_in(tmp_path: Path) -> None:
    with hub_of(Hub(FILES, LARGE, gated="manual", token="hf_x")) as hub:
        (found,) = listed(hub, "hf://org/model/config.json")
        assert found.gated
        assert isinstance(found.place, Remote)
        with Client(hasty(tmp_path)) as client, pytest.raises(SourceDeniedError, match="gated") as caught:
            download(client, Download(found.place.url, tmp_path / "part", "config.json"), Silent())
    assert "accept its conditions" in caught.value.hint


def test_the_token_goes_to_the_hub_and_not_to_where_it_redirects(tmp_path: Path) -> None:
    with hub_of(Hub(FILES, LARGE, token="hf_x")) as hub:
        settings = HubSettings(hub.url, "hf_x")
        with Client(hasty(tmp_path, hub=settings)) as client:
            reference = Reference.parse("hf://org/model/onnx/model.onnx", Path())
            found = HubSource(settings, client).find(reference, {})
            assert isinstance(found.place, Remote)
            done = download(client, Download(found.place.url, tmp_path / "part", "m", digest=found.digest), Silent())
            done.claim.release()
    assert done.path.read_bytes() == FILES["onnx/model.onnx"]
    sent = {path: headers.get("Authorization") for _, path, headers in hub.asked}
    assert sent[f"/org/model/resolve/{COMMIT}/onnx/model.onnx"] == "Bearer hf_x"
    assert [word for path, word in sent.items() if path.startswith("/large/")] == [None]


@pytest.mark.parametrize("location", ["model", "org", "org/model@", "a/b@c@d", "/x"])
def test_what_is_no_repository_is_refused(location: str) -> None:
    with hub_of(Hub(FILES)) as hub, pytest.raises(ManifestError, match="not a file or repository"):
        listed(hub, f"hf://{location}")


def test_a_repository_is_no_file() -> None:
    with hub_of(Hub(FILES)) as hub, Client(hasty(Path("unused"))) as client, pytest.raises(ManifestError):
        HubSource(HubSettings(hub.url), client).find(Reference.parse("hf://org/model", Path()), {})


@pytest.mark.parametrize("commit", ["main", "", "../../etc"])
def test_a_hub_that_gives_no_commit_is_not_believed(commit: str) -> None:
    with hub_of(Hub(FILES, commit=commit)) as hub, pytest.raises(SourceError, match="gives no commit"):
        listed(hub)


def test_many_files_come_in_pages_and_a_list_without_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    files = {f"part/{number:04}.bin": b"%d" % number for number in range(1203)}
    with hub_of(Hub(files, page_size=500)) as hub:
        assert [found.path for found in listed(hub)] == sorted(files)
        assert sum("/tree/" in path for _, path, _ in hub.asked) == 3
        monkeypatch.setattr(hf, "MAXIMUM_FILES", 1000)
        with pytest.raises(SourceError, match="more than 1000 files"):
            listed(hub)


@pytest.mark.parametrize("repeats", [True, False])
def test_pages_that_lead_to_each_other_end(monkeypatch: pytest.MonkeyPatch, *, repeats: bool) -> None:
    monkeypatch.setattr(hf, "MAXIMUM_PAGES", 20)
    asked: list[str] = []

    def tree(request: Request, *_: str) -> None:
        asked.append(request.path)
        link = f"{hub.url}/api/models/org/model/tree/{COMMIT}?cursor={1 if repeats else len(asked)}"
        request.send(b"[]", Content_Type="application/json", Link=f'<{link}>; rel="next"')

    hub = Hub(FILES)
    hub._tree = tree  # type: ignore[method-assign]
    with hub_of(hub), pytest.raises(SourceError, match="does not end"):
        listed(hub)
    assert len(asked) == (2 if repeats else 20)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"<!DOCTYPE html><html><body>Log in</body></html>", "text/html"),
        (b'{"sha": 1}', "application/json"),
        (b'{"sha": "a", "cardData": {"a": ' + b"[" * 100_000, "application/json"),
        (b"\xff\xfe", "application/json"),
        (b"", "application/json"),
    ],
    ids=["a login page", "another type", "too deep", "not text", "nothing"],
)
@pytest.mark.parametrize("page", ["_revision", "_tree"])
def test_an_answer_that_is_not_of_the_api_is_an_error_of_the_source(page: str, body: bytes, kind: str) -> None:
    hub = Hub(FILES)
    setattr(hub, page, lambda request, *_: request.send(body, Content_Type=kind))
    with hub_of(hub), pytest.raises(SourceError, match="not what its API promises") as caught:
        listed(hub)
    assert "HF_ENDPOINT" in caught.value.hint


def locked(hub: Hub, store: Store, *, previous: Lock | None = None, upgrade: bool = False, **more: object) -> Lock:
    manifest = parse({"name": "line", "models": [{"id": "org/m", "source": "hf://org/model", **more}]})
    return resolve(
        manifest, base=Path(), store=store, settings=settings_for(hub, store.path), previous=previous, upgrade=upgrade,
        reporter=Silent(),
    )  # fmt: skip


def settings_for(hub: Hub, store: Path) -> Settings:
    return hasty(store, hub=HubSettings(hub.url, hub.token))


OTHER = "f" * 40


def test_a_branch_that_moves_between_the_listing_and_the_download_moves_nothing(tmp_path: Path) -> None:
    hub = Hub(FILES, LARGE)
    with hub_of(hub), Store.open(tmp_path / "store") as store:
        answer, moved = hub.answer, []

        def moving(request: Request) -> None:
            if "/resolve/" in request.path and not moved:
                moved.append(request.path)
                hub.push(OTHER, dict.fromkeys(FILES, b"newer"))
            answer(request)

        with serving(moving) as url:
            hub.url = url
            lock = locked(hub, store)
        assert moved
        assert lock.models[0].commit == COMMIT
        assert {file.path: file.digest for _, file in lock.files()} == {
            name: Digest.of(content) for name, content in FILES.items()
        }


def test_a_lock_is_of_its_commit_until_an_upgrade_is_asked_for(tmp_path: Path) -> None:
    with hub_of(Hub(FILES, LARGE)) as hub:
        with Store.open(tmp_path / "store") as store:
            first = locked(hub, store)
            hub.push(OTHER, {**FILES, "config.json": b"[]"})
            assert locked(hub, store, previous=first) == first
            moved = locked(hub, store, previous=first, upgrade=True)
        assert (moved.models[0].commit, moved.sequence) == (OTHER, 2)
        with Store.open(tmp_path / "empty") as store:
            settings = settings_for(hub, store.path)
            fetch_locked(first, base=Path(), store=store, settings=settings, reporter=Silent())
            assert store.find(Digest.of(FILES["config.json"]))


def test_the_other_protocol_of_a_hub_is_passed_over(tmp_path: Path) -> None:
    with hub_of(Hub(FILES, LARGE, has_xet=True)) as hub, Store.open(tmp_path / "store") as store:
        lock = locked(hub, store)
        fetch_locked(lock, base=Path(), store=store, settings=settings_for(hub, store.path), reporter=Silent())
        assert all(store.find(file.digest) for _, file in lock.files())
        assert not any("xet" in path for _, path, _ in hub.asked)


REVISIONS = ["main", COMMIT, "v1.0", "feature/one", "refs/pr/1"]


def real(hub: Hub, cache: Path, revision: str | None = None, token: str | None = None, **more: Any) -> Path:
    """What the hub's own client makes of the repository."""
    made = snapshot_download(
        hub.repository, revision=revision, endpoint=hub.url, token=token or False, cache_dir=cache, **more
    )
    return Path(made)


@pytest.mark.parametrize("revision", REVISIONS)
@pytest.mark.parametrize("token", [None, "hf_x"])
def test_the_hubs_own_client_gets_the_same_bytes_under_the_digests_of_our_lock(
    tmp_path: Path, revision: str, token: str | None
) -> None:
    names = frozenset({"main", "v1.0", "feature/one", "refs/pr/1"})
    with hub_of(Hub(FILES, LARGE, token=token, names=names)) as hub:
        snapshot = real(hub, tmp_path / "cache", revision, token)
        with Store.open(tmp_path / "store") as store:
            source = f"hf://org/model@{revision.replace('/', '%2F')}"
            lock = locked(hub, store, source=source)
            fetch_locked(lock, base=Path(), store=store, settings=settings_for(hub, store.path), reporter=Silent())
            ours = {file.path: _named(file, store) for _, file in lock.files()}
        theirs = {path.relative_to(snapshot).as_posix(): path.resolve() for path in snapshot.rglob("*.*")}
        assert snapshot.name == lock.models[0].commit == COMMIT
        assert ours == {name: (path.name, path.read_bytes()) for name, path in theirs.items()}
        to_storage = [headers for _, path, headers in hub.asked if path.startswith("/large/")]
    assert len(to_storage) >= 4
    assert not any("authorization" in {name.lower() for name in headers} for headers in to_storage)


def _named(file: LockedFile, store: Store) -> tuple[str, bytes]:
    """A file as a hub's cache holds it: under its SHA-256 where it is large, else under git's name."""
    recipe = store.find(file.digest)
    assert recipe is not None
    name = file.sha256 if file.lfs else recipe.git_sha1.hex()
    return name, store.read_whole(file.digest, limit=1 << 20)


@pytest.mark.parametrize(
    ("include", "exclude"), [(["*.onnx", "config.json"], []), ([], ["onnx/"]), (["onnx/"], []), (["*"], ["*.onnx"])]
)
def test_patterns_choose_what_the_hubs_own_client_chooses(
    tmp_path: Path, include: list[str], exclude: list[str]
) -> None:
    with hub_of(Hub(FILES, LARGE)) as hub, Store.open(tmp_path / "store") as store:
        ours = {file.path for _, file in locked(hub, store, include=include, exclude=exclude).files()}
        snapshot = real(hub, tmp_path / "cache", allow_patterns=include or None, ignore_patterns=exclude or None)
    assert ours == {path.relative_to(snapshot).as_posix() for path in snapshot.rglob("*.*")}


@pytest.mark.parametrize(
    ("hub", "text", "token", "theirs", "ours"),
    [
        (Hub(FILES), "org/other", None, RepositoryNotFoundError, SourceNotFoundError),
        (Hub(FILES), "org/other", "hf_x", RepositoryNotFoundError, SourceNotFoundError),
        (Hub(FILES), "org/model@v9", None, RevisionNotFoundError, SourceNotFoundError),
        (Hub(FILES), f"org/model@{OTHER}", None, RevisionNotFoundError, SourceNotFoundError),
        (Hub(FILES, token="hf_x"), "org/model", None, RepositoryNotFoundError, SourceNotFoundError),
        (Hub(FILES, token="hf_x"), "org/model", "hf_wrong", HfHubHTTPError, SourceDeniedError),
        (Hub(FILES, token="hf_x", gated="auto"), "org/model", None, GatedRepoError, SourceDeniedError),
        (Hub(FILES, token="hf_x", gated="auto"), "org/model", "hf_wrong", HfHubHTTPError, SourceDeniedError),
    ],
    ids=["missing", "missing, with a token", "revision", "commit", "private", "wrong token", "gated", "gated, wrong"],
)
def test_a_refusal_is_the_same_story_as_the_hubs_own_client_tells(
    tmp_path: Path, hub: Hub, text: str, token: str | None, theirs: type[Exception], ours: type[SourceError]
) -> None:
    repository, _, revision = text.partition("@")
    with hub_of(hub):
        with pytest.raises(theirs) as told:
            snapshot_download(
                repository, revision=revision or None, endpoint=hub.url, token=token or False, cache_dir=tmp_path / "c"
            )
        settings = hasty(tmp_path / "store", hub=HubSettings(hub.url, token))
        manifest = parse({"name": "line", "models": [{"id": "org/m", "source": f"hf://{text}"}]})
        with Store.open(tmp_path / "store") as store, pytest.raises(ours) as caught:
            resolve(
                manifest, base=Path(), store=store, settings=settings, previous=None, upgrade=False, reporter=Silent()
            )  # fmt: skip
    assert type(told.value) is theirs
    assert type(caught.value) is ours
    assert "hf_" not in str(caught.value) + caught.value.hint
    assert "HF_TOKEN" in caught.value.hint or "revision" in str(told.value).lower()
