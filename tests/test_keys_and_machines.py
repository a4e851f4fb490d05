"""The README's table "Keys and machines", each row typed as it stands there; and what changes with a bundle, told."""

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from bundler.doctor import program
from bundler.installation import install_line, kit_place
from onnx_files import detector_model
from readme import section

TABLE = section("Recipes").split("**Keys and machines**")[1]


@dataclass
class Hosts:
    """A builder and a site in one folder, on which `bundle` is typed."""

    folder: Path

    def bundle(self, *words: object, code: int = 0) -> str:
        variables = {"HOME": str(self.folder), "BUNDLE_STORE": str(self.folder / "store"), "PATH": "/usr/bin:/bin"}
        done = subprocess.run(
            [sys.executable, "-m", "bundler", *map(str, words)],
            cwd=self.folder,
            env=variables,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    def line(self, *models: str, name: str = "line") -> Path:
        """A manifest of these models, each a file of its own."""
        rows = []
        for model in models:
            (self.folder / f"{model}.bin").write_text(model)
            rows.append({"id": model, "source": f"./{model}.bin"})
        path = self.folder / f"{name}.json"
        path.write_text(json.dumps({"name": name, "models": rows}))
        return path

    def built(self, *keys: str, name: str = "line") -> Path:
        options = [word for key in keys for word in ("--key", f"{key}.pem")]
        out = self.folder / f"{name}.bundle"
        self.bundle("build", f"{name}.json", *options, "-o", out)
        return out


@pytest.fixture
def hosts(tmp_path: Path) -> Hosts:
    """With two keys, a bundle of two models signed by the first, and a site that trusts it and has it."""
    made = Hosts(tmp_path)
    for key in ("one", "two"):
        made.bundle("keygen", "-o", f"{key}.pem", "--no-passphrase")
    made.line("a", "b")
    made.bundle("trust", "init", "--key", "one.pub.pem", "--root", "site")
    made.bundle("install", made.built("one"), "--root", "site")
    return made


def test_a_lost_key_is_replaced_and_what_is_installed_stays(hosts: Hosts) -> None:
    assert "remove `ROOT/trust/root.json`, and `bundle trust init --key NEW.pub.pem`" in TABLE
    refused = hosts.bundle("trust", "init", "--key", "two.pub.pem", "--root", "site", code=40)
    assert "trust/root.json" in refused
    (hosts.folder / "site" / "trust" / "root.json").unlink()
    hosts.bundle("trust", "init", "--key", "two.pub.pem", "--root", "site")
    assert "a  " in hosts.bundle("list", "--root", "site")
    hosts.line("a", "b", "c")
    hosts.bundle("lock", "line.json")
    told = hosts.bundle("install", hosts.built("one"), "--root", "site", code=42)
    assert "signed by an unknown key" in told
    hosts.bundle("install", hosts.built("two"), "--root", "site")
    assert "c  " in hosts.bundle("list", "--root", "site")


def test_an_unknown_key_is_named_by_the_words_that_its_owner_reads_out(hosts: Hosts) -> None:
    words = json.loads(hosts.bundle("trust", "show", "--root", "site", "--json"))["keys"][0]["words"]
    hosts.bundle("trust", "init", "--key", "two.pub.pem", "--root", "other")
    assert words in hosts.bundle("install", "line.bundle", "--root", "other", code=42)
    assert words in hosts.bundle("inspect", "line.bundle")


def test_a_site_may_trust_two_builders_or_want_both(hosts: Hosts) -> None:
    assert "`bundle trust init --key one.pub.pem --key two.pub.pem`" in TABLE
    both = ("--key", "one.pub.pem", "--key", "two.pub.pem")
    hosts.bundle("trust", "init", *both, "--root", "either")
    for key in ("one", "two"):
        hosts.bundle("verify", hosts.built(key), "--root", "either")
    hosts.bundle("trust", "init", *both, "--threshold", "2", "--root", "together")
    told = hosts.bundle("install", hosts.built("one"), "--root", "together", code=42)
    assert "signed by too few keys that are trusted here" in told
    hosts.bundle("install", hosts.built("one", "two"), "--root", "together")


@pytest.mark.parametrize("command", [("rsync", "-aH"), ("cp", "-a")], ids=["rsync", "cp"])
def test_a_copied_root_is_a_root(hosts: Hosts, command: tuple[str, ...]) -> None:
    assert "`rsync -aH ROOT/ HOST:ROOT/` or `cp -a`" in TABLE
    if shutil.which(command[0]) is None:
        pytest.skip(f"no {command[0]} on this machine")
    subprocess.run([*command, f"{hosts.folder}/site/.", hosts.folder / "twin"], check=True)
    assert "problem 0" in hosts.bundle("doctor", "--root", "twin")
    assert "nothing to do" in hosts.bundle("install", "line.bundle", "--root", "twin", "--recheck")


def test_a_model_that_the_line_has_no_more_is_told(hosts: Hosts) -> None:
    hosts.line("a")
    hosts.bundle("lock", "line.json")
    assert "no longer in line: b" in hosts.bundle("install", hosts.built("one"), "--root", "site")


def test_a_folder_that_is_shown_outlives_the_next_install(hosts: Hosts) -> None:
    shown = hosts.bundle("models", "show", "a", "--root", "site")
    assert f"{hosts.folder}/site/current/plain/a" in shown


def test_a_detector_that_would_be_carried_as_raw_is_told_before_it_crosses(hosts: Hosts) -> None:
    import numpy as np

    answer = np.zeros((1, 6, 84), np.float32)
    (hosts.folder / "best.onnx").write_bytes(detector_model(answer, metadata={"task": "detect"}))
    manifest = {
        "name": "eyes",
        "models": [{"id": "eyes/1", "files": {"weights.onnx": "./best.onnx"}, "backend": "onnx"}],
    }
    (hosts.folder / "eyes.json").write_text(json.dumps(manifest))
    told = hosts.bundle("build", "eyes.json", "--key", "one.pem")
    assert "its graph says object-detection" in told


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    """The environment of a kit, as its installer makes one in a folder with a space in its name."""
    place = tmp_path / "the program"
    (place / "environments" / "0.1.0-12345678").mkdir(parents=True)
    (place / ".offline-bundle").touch()
    return place / "environments" / "0.1.0-12345678"


def test_a_program_out_of_a_kit_knows_where_the_next_one_goes(
    environment: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert kit_place(environment) == environment.parent.parent
    assert kit_place(environment.parent) is None
    assert install_line(Path("kit")) == "sh kit/install.sh"
    monkeypatch.setattr(sys, "prefix", str(environment))
    assert install_line(Path("kit")) == f"sh kit/install.sh '{environment.parent.parent}'"


def test_the_command_that_a_kits_installer_made_is_this_program(
    environment: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = environment.parent.parent / "bin"
    folder.mkdir()
    (folder / "bundle").write_text("#!/bin/sh\n# bundler.commands.main\n")
    (folder / "bundle").chmod(0o755)
    monkeypatch.setattr(sys, "prefix", str(environment))
    assert [found.code for found in program.look({"PATH": str(folder)})] == ["program"]
    (absent,) = program.look({"PATH": "/nowhere"})
    assert f"add {folder} to PATH" in absent.fix
