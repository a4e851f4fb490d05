"""The program as a person uses it: everyday trouble, each with its words, its hint and its exit code."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from factory import elliptic_signer, incompressible
from manifests import errors
from onnx_files import detector_model

MANIFEST = """\
name: line
models:
  - id: acme/one
    files:
      weights.bin: ./weights.bin
      readme.txt: ./readme.txt
"""


@dataclass
class Host:
    """A machine with a folder, on which `bundle` is typed."""

    folder: Path

    def bundle(self, *arguments: object, code: int = 0, **variables: str) -> str:
        """Run the program; its stdout (or, when it fails as it should, its stderr)."""
        done = self.start(*arguments, **variables)
        out, err = done.communicate(timeout=120)
        assert done.returncode == code, f"exit {done.returncode}\n{out}\n{err}"
        return out if code == 0 else err

    def start(self, *arguments: object, **variables: str) -> subprocess.Popen[str]:
        """Begin to run the program."""
        home = {
            "HOME": str(self.folder),
            "BUNDLE_HOME": str(self.folder / "site"),
            "BUNDLE_STORE": str(self.folder / "store"),
        }
        return subprocess.Popen(
            [sys.executable, "-m", "bundler", *map(str, arguments)],
            cwd=self.folder,
            env={**os.environ, **home, **variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


@pytest.fixture
def host(tmp_path: Path) -> Host:
    (tmp_path / "weights.bin").write_bytes(incompressible(3_000_000))
    (tmp_path / "readme.txt").write_text("hello\n")
    (tmp_path / "line.yaml").write_text(MANIFEST)
    return Host(tmp_path)


@pytest.fixture
def ready(host: Host) -> Host:
    """A host with a key, a bundle and a root of trust."""
    host.bundle("keygen", "-o", "line.pem", "--no-passphrase")
    host.bundle("build", "line.yaml", "--key", "line.pem", "-o", "line.bundle", "-q")
    host.bundle("trust", "init", "--key", "line.pub.pem")
    return host


def test_the_road_from_a_folder_to_a_folder(ready: Host) -> None:
    ready.bundle("verify", "line.bundle")
    ready.bundle("install", "line.bundle")
    assert (ready.folder / "site/current/plain/acme/one/readme.txt").read_text() == "hello\n"
    listed = json.loads(ready.bundle("list", "--json"))
    assert [model["id"] for model in listed["models"]] == ["acme/one"]


def test_build_without_a_lock_writes_one_and_says_so(host: Host) -> None:
    host.bundle("keygen", "-o", "line.pem", "--no-passphrase")
    started = host.start("build", "line.yaml", "--key", "line.pem")
    _, err = started.communicate(timeout=60)
    assert "commit it" in err
    assert (host.folder / "line.lock.json").exists()
    assert (host.folder / "line-1.bundle").exists()


def test_the_sequence_rises_when_the_content_changed_and_only_then(host: Host) -> None:
    numbers = []
    for content in ("hello\n", "hello\n", "changed\n"):
        (host.folder / "readme.txt").write_text(content)
        numbers.append(json.loads(host.bundle("lock", "line.yaml", "--upgrade", "--json", "-q"))["sequence"])
    assert numbers == [1, 1, 2]


def test_lock_check_tells_what_moved(host: Host) -> None:
    host.bundle("lock", "line.yaml")
    host.bundle("lock", "line.yaml", "--check")
    (host.folder / "readme.txt").write_text("changed\n")
    said = host.bundle("lock", "line.yaml", "--check", code=errors.LockOutdatedError.exit_code)
    assert "readme.txt" in said
    assert "weights.bin" not in said


def test_a_manifest_that_outgrew_its_lock_is_not_built(ready: Host) -> None:
    (ready.folder / "line.yaml").write_text(MANIFEST.replace("acme/one", "acme/two"))
    said = ready.bundle("build", "line.yaml", "--key", "line.pem", code=errors.LockOutdatedError.exit_code)
    assert "bundle lock line.yaml" in said


def test_an_unknown_key_is_named_with_file_line_and_what_was_meant(host: Host) -> None:
    (host.folder / "line.yaml").write_text(MANIFEST.replace("    files:", "    tsk: raw\n    files:"))
    said = host.bundle("lock", "line.yaml", code=errors.ManifestError.exit_code)
    assert "line.yaml:4" in said
    assert "`tsk`" in said
    assert "task" in said


def test_a_file_that_is_not_there_is_named(host: Host) -> None:
    (host.folder / "readme.txt").unlink()
    said = host.bundle("lock", "line.yaml", code=errors.SourceNotFoundError.exit_code)
    assert "readme.txt" in said
    assert not (host.folder / "line.lock.json").exists()


def test_a_digest_that_differs_is_refused(host: Host) -> None:
    (host.folder / "line.yaml").write_text(
        MANIFEST.replace("./readme.txt", "{from: ./readme.txt, sha256: " + "ab" * 32 + "}")
    )
    assert "expected" in host.bundle("lock", "line.yaml", code=errors.DigestMismatchError.exit_code)


def test_a_file_that_changed_since_the_lock_leaves_no_bundle(host: Host) -> None:
    host.bundle("keygen", "-o", "line.pem", "--no-passphrase")
    host.bundle("lock", "line.yaml")
    (host.folder / "readme.txt").write_text("other\n")
    shutil.rmtree(host.folder / "store")
    host.bundle("build", "line.yaml", "--key", "line.pem", code=errors.DigestMismatchError.exit_code)
    assert not list(host.folder.glob("*.bundle"))


def test_the_verdicts_have_their_own_words_and_codes(ready: Host, tmp_path: Path) -> None:
    (tmp_path / "other.pub.pem").write_bytes(elliptic_signer(9).key.pem)
    said = ready.bundle("verify", "line.bundle", "--key", "other.pub.pem", code=errors.UnknownKeyError.exit_code)
    assert "signed by an unknown key" in said
    courier = ready.start("verify", "line.bundle", BUNDLE_HOME=str(tmp_path / "none"))
    out, _ = courier.communicate(timeout=60)
    assert courier.returncode == errors.UncomparedError.exit_code
    assert "compared with no trusted key" in out


def test_a_flip_is_damage_and_installs_nothing(ready: Host) -> None:
    path = ready.folder / "line.bundle"
    whole = path.read_bytes()
    path.write_bytes(whole[:-9000] + bytes([whole[-9000] ^ 1]) + whole[-8999:])
    said = ready.bundle("install", "line.bundle", code=errors.DamagedError.exit_code)
    assert "carry the bundle again" in said
    ready.bundle("list", code=errors.NotARootError.exit_code)


def test_install_without_a_root_of_trust_says_how_to_make_one(ready: Host, tmp_path: Path) -> None:
    said = ready.bundle("install", "line.bundle", "--root", tmp_path / "new", code=errors.NoRootOfTrustError.exit_code)
    assert "bundle trust init --key KEY.pub.pem" in said


def test_a_second_install_says_so(ready: Host) -> None:
    ready.bundle("install", "line.bundle")
    assert "nothing to do" in ready.bundle("install", "line.bundle")


def test_a_second_root_of_trust_is_refused(ready: Host) -> None:
    ready.bundle("trust", "init", "--key", "line.pub.pem", code=errors.TrustError.exit_code)


def test_a_private_key_does_not_become_a_root_of_trust(ready: Host, tmp_path: Path) -> None:
    said = ready.bundle(
        "trust", "init", "--key", "line.pem", "--root", tmp_path / "n", code=errors.KeyFileError.exit_code
    )
    assert "private key" in said
    assert not (tmp_path / "n").exists()


def test_keys_are_never_overwritten_and_a_locked_one_needs_its_passphrase(host: Host) -> None:
    host.bundle("keygen", "-o", "k.pem", BUNDLE_KEY_PASSPHRASE="open sesame")
    assert b"ENCRYPTED" in (host.folder / "k.pem").read_bytes()
    host.bundle("keygen", "-o", "k.pem", "--no-passphrase", code=errors.KeyFileError.exit_code)
    host.bundle("build", "line.yaml", "--key", "k.pem", "-q", BUNDLE_KEY_PASSPHRASE="open sesame")
    wrong = {"code": errors.KeyFileError.exit_code}
    host.bundle("build", "line.yaml", "--key", "k.pem", "-q", BUNDLE_KEY_PASSPHRASE="wrong", **wrong)  # type: ignore[arg-type]


def test_only_a_bundle_is_ever_replaced(ready: Host) -> None:
    (ready.folder / "foreign").mkdir()
    (ready.folder / "foreign" / "precious").write_text("x")
    for name in ("line.pem", "line.yaml", "weights.bin", "foreign", "."):
        for form in ("tar", "folder"):
            ready.bundle(
                "build",
                "line.yaml",
                "--key",
                "line.pem",
                "-o",
                name,
                "--form",
                form,
                code=errors.StorageError.exit_code,
            )
    assert b"PRIVATE" in (ready.folder / "line.pem").read_bytes()
    assert (ready.folder / "foreign" / "precious").exists()
    ready.bundle("build", "line.yaml", "--key", "line.pem", "-o", "line.bundle", "-q")


@pytest.mark.parametrize("name", ["other.json", "other.toml"])
def test_a_manifest_in_json_or_toml_is_locked_and_built(ready: Host, name: str) -> None:
    forms = {
        "other.json": '{"name": "line", "models": [{"id": "acme/one", "files": {"readme.txt": "./readme.txt"}}]}',
        "other.toml": 'name = "line"\n[[models]]\nid = "acme/one"\nfiles = {"readme.txt" = "./readme.txt"}\n',
    }
    (ready.folder / name).write_text(forms[name])
    ready.bundle("build", name, "--key", "line.pem", "-o", "other.bundle", "-q")
    ready.bundle("build", "other.lock.json", "--key", "line.pem", "-o", "other.bundle", "-q")


def test_a_damaged_store_is_mended_by_the_build_itself(ready: Host) -> None:
    chunks = [path for path in (ready.folder / "store" / "chunks").rglob("*") if path.is_file()]
    before = (ready.folder / "line.bundle").read_bytes()
    for path in chunks:
        path.chmod(0o644)
        path.write_bytes(path.read_bytes()[:-1] + b"?")
    ready.bundle("build", "line.yaml", "--key", "line.pem", "-o", "line.bundle")
    assert (ready.folder / "line.bundle").read_bytes() == before


def test_a_folder_with_other_things_does_not_become_a_root(ready: Host) -> None:
    (ready.folder / "mine").mkdir()
    (ready.folder / "mine" / "thesis.txt").write_text("x")
    ready.bundle("trust", "init", "--key", "line.pub.pem", "--root", "mine", code=errors.NotARootError.exit_code)
    wrong = ["trust", "init", "--key", "line.pub.pem", "--threshold", "2", "--root", "new"]
    ready.bundle(*wrong, code=errors.KeyFileError.exit_code)
    assert not (ready.folder / "new").exists()


def test_hostile_metadata_of_a_graph_breaks_no_build(ready: Host) -> None:
    answers = np.zeros((1, 6, 21), np.float32)
    for names, imgsz in (
        ("{0:'a','b':'c'}", "[64, 64]"),
        ("{0:'\\ud800'}", "[64, 64]"),
        ("{0:'a\\nb',1:'c'}", "[64, 64]"),
        ("{0:'a',1:'c'}", "[1e999, 640]"),
        ("[" * 3000, "(" * 3000),
    ):
        graph = detector_model(answers, metadata={"names": names, "imgsz": imgsz})
        (ready.folder / "best.onnx").write_bytes(graph)
        (ready.folder / "o.yaml").write_text(
            "name: o\nmodels:\n  - {id: f/1, task: object-detection, architecture: yolov8,"
            " files: {weights.onnx: ./best.onnx}}\n"
        )
        ready.bundle("lock", "o.yaml", "--upgrade", "-q")
        ready.bundle("build", "o.yaml", "--key", "line.pem", "-o", "o.bundle", "-q")


def test_an_error_with_json_is_a_document_too(host: Host) -> None:
    started = host.start("list", "--json")
    out, _ = started.communicate(timeout=60)
    assert json.loads(out)["error"]["exit_code"] == started.returncode == errors.NotARootError.exit_code


@pytest.mark.parametrize("after", [0.25, 0.5, 0.8, 1.2])
def test_a_killed_build_leaves_no_bundle_and_the_next_one_is_whole(host: Host, after: float) -> None:
    (host.folder / "weights.bin").write_bytes(incompressible(20_000_000))
    host.bundle("keygen", "-o", "line.pem", "--no-passphrase")
    started = host.start("build", "line.yaml", "--key", "line.pem", "-o", "line.bundle", "-q")
    time.sleep(after)
    started.send_signal(signal.SIGKILL)
    started.communicate()
    if (host.folder / "line.bundle").exists():
        host.bundle("verify", "line.bundle", "--key", "line.pub.pem", "-q")
    host.bundle("build", "line.yaml", "--key", "line.pem", "-o", "line.bundle", "-q")
    host.bundle("verify", "line.bundle", "--key", "line.pub.pem", "-q")
    assert not list(host.folder.glob(".line.bundle.*"))


def test_the_same_lock_gives_the_same_bytes_in_another_folder(ready: Host, tmp_path: Path) -> None:
    other = tmp_path / "elsewhere"
    other.mkdir()
    for name in ("line.yaml", "line.lock.json", "weights.bin", "readme.txt", "line.pem"):
        shutil.copy(ready.folder / name, other)
    again = Host(other)
    again.bundle("build", "line.lock.json", "--key", "line.pem", "-o", "line.bundle", "-q", TZ="Asia/Tokyo", LC_ALL="C")
    assert (other / "line.bundle").read_bytes() == (ready.folder / "line.bundle").read_bytes()


def test_init_writes_a_manifest_that_locks(host: Host) -> None:
    graph = detector_model(np.zeros((1, 6, 21), np.float32), metadata={"task": "detect", "description": "YOLOv8n"})
    (host.folder / "best.onnx").write_bytes(graph)
    (host.folder / "folder").mkdir()
    (host.folder / "folder" / "best.pt").write_bytes(b"x")
    host.bundle("init", "best.onnx", "folder", "-o", "made.yaml")
    text = (host.folder / "made.yaml").read_text()
    assert "task: object-detection" in text
    assert "architecture: yolov8" in text
    assert "export it to ONNX" in text
    assert json.loads(host.bundle("lock", "made.yaml", "--json", "-q"))["files"] == 2
    host.bundle("init", "best.onnx", "-o", "made.yaml", code=errors.StorageError.exit_code)


@pytest.fixture
def detecting(host: Host) -> Host:
    """A site with a small detector."""
    answer = np.zeros((1, 6, 21), np.float32)
    answer[0, :, 0] = [32, 24, 16, 8, 0.9, 0.1]
    metadata = {"names": "{0: 'face', 1: 'hand'}", "task": "detect"}
    (host.folder / "best.onnx").write_bytes(detector_model(answer, metadata=metadata))
    (host.folder / "line.yaml").write_text(
        "name: line\nmodels:\n  - id: faces/1\n    aliases: [faces-64]\n    task: object-detection\n"
        "    architecture: yolov8\n    files:\n      weights.onnx: ./best.onnx\n"
    )
    host.bundle("keygen", "-o", "line.pem", "--no-passphrase")
    host.bundle("build", "line.yaml", "--key", "line.pem", "-o", "line.bundle", "-q")
    host.bundle("trust", "init", "--key", "line.pub.pem")
    host.bundle("install", "line.bundle", "-q")
    return host


def picture(host: Host) -> Path:
    import cv2

    path = host.folder / "picture.png"
    cv2.imwrite(str(path), np.full((64, 64, 3), 90, np.uint8))
    return path


def test_infer_by_id_alias_and_folder_draws_what_it_found(detecting: Host) -> None:
    path = picture(detecting)
    folder = json.loads(detecting.bundle("models", "show", "faces/1", "--json"))["packages"][0]["directory"]
    for name in ("faces/1", "faces-64", folder):
        found = json.loads(detecting.bundle("infer", name, path, "--draw", "out.png", "--json"))
        assert [prediction["class"] for prediction in found[0]["predictions"]] == ["face"]
    assert (detecting.folder / "out.png").read_bytes().startswith(b"\x89PNG")


def test_infer_of_an_unknown_model_lists_what_there_is(detecting: Host) -> None:
    said = detecting.bundle("infer", "face/1", picture(detecting), code=errors.UnknownModelError.exit_code)
    assert "faces-64, faces/1" in said
    assert "did you mean" in said


def test_infer_on_something_that_is_no_picture_says_so(detecting: Host) -> None:
    said = detecting.bundle("infer", "faces/1", "readme.txt", code=errors.InvalidInputError.exit_code)
    assert "readme.txt" in said
    detecting.bundle("infer", "faces/1", "absent.jpg", code=errors.InvalidInputError.exit_code)


def test_an_address_beyond_loopback_is_not_served(detecting: Host) -> None:
    assert "loopback only" in detecting.bundle("serve", "--host", "0.0.0.0", code=2)


def test_env_is_what_a_shell_can_eval(ready: Host) -> None:
    ready.bundle("install", "line.bundle", "-q")
    script = f'eval "$({sys.executable} -m bundler env)" && ls "$HF_HUB_CACHE" && printf %s "$OFFLINE_MODE"'
    environment = {**os.environ, "BUNDLE_HOME": str(ready.folder / "site")}
    done = subprocess.run(["sh", "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "models--acme--one\nTrue"


def test_every_command_has_help_with_an_example(host: Host) -> None:
    from bundler.commands.main import COMMANDS

    for name in COMMANDS:
        said = host.bundle(name, "--help")
        assert "Usage: bundle" in said
        if name not in {"trust", "models"}:
            assert "Example: " in said or 'eval "$(bundle env)"' in said


def test_a_root_is_found_through_the_variables_of_the_clients(ready: Host) -> None:
    ready.bundle("install", "line.bundle", "-q")
    inside = str(ready.folder / "site" / "current" / "roboflow")
    started = ready.start("list", "--json", BUNDLE_HOME="", INFERENCE_HOME=inside)
    out, err = started.communicate(timeout=60)
    assert started.returncode == 0, err
    assert json.loads(out)["models"]
