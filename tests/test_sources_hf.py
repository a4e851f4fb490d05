"""Repositories of a hub, by the API that its own client speaks."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bundler.fetch import Request, download
from bundler.http import Client
from bundler.settings import Hub as HubSettings
from bundler.sources.base import Found, Remote
from bundler.sources.hf import HubSource
from bundler.sources.reference import Reference
from hub_server import COMMIT, Hub, git_sha1, hub_of
from loopback import hasty
from manifests.digest import Digest
from manifests.errors import ManifestError, SourceDeniedError, SourceError, SourceNotFoundError
from manifests.progress import Silent

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
        with pytest.raises(SourceNotFoundError, match="Invalid credentials"):
            listed(hub, token="hf_wrong")


def test_a_gated_repository_is_refused_with_the_way_in(tmp_path: Path) -> None:
    with hub_of(Hub(FILES, LARGE, gated="manual", token="hf_x")) as hub:
        (found,) = listed(hub, "hf://org/model/config.json")
        assert found.gated
        assert isinstance(found.place, Remote)
        with Client(hasty(tmp_path)) as client, pytest.raises(SourceDeniedError, match="gated") as caught:
            download(client, Request(found.place.url, tmp_path / "part", "config.json"), Silent())
    assert "accept its conditions" in caught.value.hint


def test_the_token_goes_to_the_hub_and_not_to_where_it_redirects(tmp_path: Path) -> None:
    with hub_of(Hub(FILES, LARGE, token="hf_x")) as hub:
        settings = HubSettings(hub.url, "hf_x")
        with Client(hasty(tmp_path, hub=settings)) as client:
            reference = Reference.parse("hf://org/model/onnx/model.onnx", Path())
            found = HubSource(settings, client).find(reference, {})
            assert isinstance(found.place, Remote)
            done = download(client, Request(found.place.url, tmp_path / "part", "m", digest=found.digest), Silent())
            done.claim.release()
    assert done.path.read_bytes() == FILES["onnx/model.onnx"]
    sent = {path: headers.get("Authorization") for _, path, headers in hub.asked}
    assert sent[f"/org/model/resolve/{COMMIT}/onnx/model.onnx"] == "Bearer hf_x"
    assert sent["/large/onnx/model.onnx"] is None


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


def test_an_answer_that_is_not_of_the_api_is_an_error_of_the_source() -> None:
    hub = Hub(FILES)
    hub._revision = lambda request, _: request.send(b'{"sha": 1}')  # type: ignore[method-assign]
    with hub_of(hub), pytest.raises(SourceError, match="not what its API promises"):
        listed(hub)


def test_the_hub_of_these_tests_speaks_to_the_real_client(tmp_path: Path) -> None:
    script = "import sys, huggingface_hub as h; print(h.snapshot_download('org/model', cache_dir=sys.argv[1]))"
    with hub_of(Hub(FILES, LARGE)) as hub:
        environ = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HUB_DISABLE_XET": "1", "HF_HOME": str(tmp_path)}
        environ.pop("HF_TOKEN", None)
        command = [sys.executable, "-c", script, str(tmp_path / "cache")]
        ran = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    snapshot = Path(ran.stdout.strip().splitlines()[-1])
    assert snapshot.name == COMMIT
    assert {name: (snapshot / name).read_bytes() for name in FILES} == FILES
