"""What `doctor` finds on the connected side: store, keys, settings, extras, and which `bundle` a person gets."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from bundler.commands.main import cli
from bundler.doctor import builder, configuration, extras, keys, program, store
from bundler.doctor.program import Program
from bundler.installation import installed
from bundler.settings import store_path
from bundler.signer import SoftwareSigner, generate
from doctoring import NOBODY, become, is_administrator, open_the_way
from factory import Workshop
from manifests.errors import FindingsError
from manifests.finding import Finding, Verdict, examine
from manifests.store import Store
from wheels import wheel

NO_PIP = {"PIP_CONFIG_FILE": os.devnull}


def by_code(found: Iterable[Finding]) -> dict[str, Finding]:
    return {each.code: each for each in found}


def bad(found: Iterable[Finding]) -> set[str]:
    """The codes of warnings and problems."""
    return {each.code for each in found if each.verdict in {Verdict.WARNING, Verdict.PROBLEM}}


def doctor(*arguments: object, **variables: str) -> Result:
    """Type `bundle doctor` where there is no root."""
    cleared = dict.fromkeys(
        ("BUNDLE_HOME", "BUNDLE_STORE", "INFERENCE_HOME", "MODEL_CACHE_DIR", "PYTHONPATH", "XDG_CACHE_HOME")
    )
    return CliRunner().invoke(cli, ["doctor", *map(str, arguments)], env={**cleared, **NO_PIP, **variables})


# Store


def test_a_store_in_use_is_fine(workshop: Workshop) -> None:
    workshop.build(workshop.lock({"acme/one": {"a": b"1"}}))
    found = by_code(store.look(workshop.store.path, wanted=True))
    assert set(found) == {"store", "store-writable"}


def test_looking_at_a_store_writes_nothing(workshop: Workshop) -> None:
    before = sorted(workshop.store.path.rglob("*"))
    list(store.look(workshop.store.path, wanted=True))
    list(store.look(workshop.folder / "none", wanted=True))
    assert sorted(workshop.store.path.rglob("*")) == before
    assert not (workshop.folder / "none").exists()


def test_unfinished_downloads_are_counted_and_empty_ones_are_not(workshop: Workshop) -> None:
    workshop.store.partial("one").write_bytes(b"x" * 1000)
    workshop.store.partial("two").write_bytes(b"")
    found = by_code(store.look(workshop.store.path, wanted=True))["partial-downloads"]
    assert found.what.startswith("unfinished downloads: 1, 1,000 bytes")
    assert found.verdict is Verdict.NOTE


@pytest.mark.parametrize(
    ("marker", "code"),
    [("{", "store-marker"), ("", "store-marker"), ('{"format":2}', "store-format"), ("[" * 5000, "store-marker")],
)
def test_a_store_that_this_program_does_not_open(workshop: Workshop, marker: str, code: str) -> None:
    path = workshop.store.path / "store.json"
    path.chmod(0o644)
    path.write_text(marker)
    assert by_code(store.look(workshop.store.path, wanted=True))[code].verdict is Verdict.PROBLEM


def test_the_mark_that_the_fix_writes_is_one_that_opens(workshop: Workshop) -> None:
    path = workshop.store.path / "store.json"
    path.unlink()
    path.write_text("{")
    path.chmod(0o444)  # as it was published
    fix = by_code(store.look(workshop.store.path, wanted=True))["store-marker"].fix
    subprocess.run(["sh", "-c", fix], check=True)
    Store.open(workshop.store.path).close()


def test_what_is_no_store(tmp_path: Path) -> None:
    assert set(by_code(store.look(tmp_path / "none", wanted=True))) == {"no-store"}
    (tmp_path / "photo.jpg").write_text("x")
    assert bad(store.look(tmp_path, wanted=True)) == {"no-store"}
    assert bad(store.look(tmp_path / "photo.jpg", wanted=True)) == {"store-is-a-file"}


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() != 0, reason="only root may become another user")
def test_a_store_of_another_user(workshop: Workshop) -> None:
    for folder in workshop.store.path.parents[:-1]:
        if folder.stat().st_uid == 0:
            folder.chmod(folder.stat().st_mode | 0o011)
    os.setresuid(65534, 65534, 0)
    try:
        here, above = (list(store.look(path, wanted=True)) for path in (workshop.store.path, workshop.folder / "none"))
    finally:
        os.setresuid(0, 0, 0)
    assert bad(here) == {"store-closed"}
    assert bad(above) == {"store-closed"}


@is_administrator
@pytest.mark.parametrize(("wanted", "verdict"), [(True, Verdict.PROBLEM), (False, Verdict.NOTE)])
def test_a_store_that_nobody_can_make_is_a_problem_only_if_somebody_wants_it(*, wanted: bool, verdict: Verdict) -> None:
    with become(NOBODY):  # whose home may well be /
        found = by_code(store.look(Path("/.cache/offline-bundle/store"), wanted=wanted))
    assert found["store-closed"].verdict is verdict


@is_administrator
def test_a_site_with_the_build_extra_and_no_home_has_no_problem_with_a_store(workshop: Workshop) -> None:
    root = workshop.site()
    open_the_way(root.path)
    doctor("--json", "--root", root.path, HOME="/")  # while everything may be imported
    with become(NOBODY):
        plain, named = (
            json.loads(doctor("--json", "--root", root.path, *options, HOME="/").stdout)["findings"]
            for options in ([], ["--store", "/store"])
        )
    assert {each["verdict"] for each in plain if each["subject"] == "store"} == {"note"}
    assert {each["code"]: each["verdict"] for each in named}["store-closed"] == "problem"


# Keys


def test_a_key_as_keygen_makes_it_is_fine(tmp_path: Path) -> None:
    generate(tmp_path / "line.pem", b"secret")
    assert set(by_code(keys.look(tmp_path, os.environ))) == {"keys"}


def test_a_key_without_passphrase_is_worth_knowing(tmp_path: Path) -> None:
    generate(tmp_path / "line.pem", None)
    assert by_code(keys.look(tmp_path, os.environ))["key-without-passphrase"].verdict is Verdict.NOTE


def test_a_key_that_others_may_read(tmp_path: Path) -> None:
    generate(tmp_path / "my line.pem", b"secret")
    (tmp_path / "my line.pem").chmod(0o640)
    found = by_code(keys.look(tmp_path, os.environ))["key-readable"]
    assert found.verdict is Verdict.WARNING
    subprocess.run(["sh", "-c", found.fix], cwd=tmp_path, check=True)
    assert not bad(keys.look(tmp_path, os.environ))


def test_a_pipe_that_is_named_as_a_key_is_passed_over(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.pem")
    script = "import sys; from pathlib import Path; from bundler.doctor import keys; print(*keys.look(Path.cwd(), {}))"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=60
    )
    assert "no-keys" in done.stdout


@pytest.mark.skipif(shutil.which("openssl") is None, reason="the fix is openssl's")
@pytest.mark.parametrize("name", ["line.pem", "my line.pem", "-rf.pem"])
def test_the_passphrase_that_the_fix_sets_protects_the_key(tmp_path: Path, name: str) -> None:
    generate(tmp_path / name, None)
    fix = by_code(keys.look(tmp_path, os.environ))["key-without-passphrase"].fix
    typed = fix.replace(" -out ", " -passout pass:secret -out ")  # what is asked for on the terminal
    subprocess.run(["sh", "-ec", typed], cwd=tmp_path, check=True, capture_output=True)
    assert set(by_code(keys.look(tmp_path, os.environ))) == {"keys"}
    assert SoftwareSigner.load(tmp_path / name, lambda: b"secret")


def test_a_key_that_is_named_as_an_option_is_mended_all_the_same(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    generate(tmp_path / "-rf.pem", b"secret")
    (tmp_path / "-rf.pem").chmod(0o644)
    git(tmp_path, "add", "--", "-rf.pem")
    found = by_code(keys.look(tmp_path, os.environ))
    for code in ("key-readable", "key-in-git"):
        subprocess.run(["sh", "-ec", found[code].fix], cwd=tmp_path, check=True, capture_output=True)
    assert set(by_code(keys.look(tmp_path, os.environ))) == {"keys"}


def git(folder: Path, *arguments: str) -> None:
    who = ("-c", "user.name=x", "-c", "user.email=x@example.org")
    subprocess.run(["git", *who, *arguments], cwd=folder, check=True, capture_output=True)


@pytest.mark.parametrize(("passphrase", "verdict"), [(None, Verdict.PROBLEM), (b"secret", Verdict.WARNING)])
def test_a_key_in_git_is_as_good_as_published(tmp_path: Path, passphrase: bytes | None, verdict: Verdict) -> None:
    git(tmp_path, "init", "-q")
    generate(tmp_path / "line.pem", passphrase)
    assert "key-in-git" not in by_code(keys.look(tmp_path, os.environ))
    git(tmp_path, "add", "line.pem")
    found = by_code(keys.look(tmp_path, os.environ))["key-in-git"]
    assert found.verdict is verdict
    subprocess.run(["sh", "-c", found.fix], cwd=tmp_path, check=True, capture_output=True)
    assert "key-in-git" not in by_code(keys.look(tmp_path, os.environ))


def test_looking_into_a_repository_starts_none_of_its_programs(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    generate(tmp_path / "line.pem", None)
    hook = tmp_path / "hook"
    hook.write_text(f"#!/bin/sh\ntouch {tmp_path}/started\n")
    hook.chmod(0o755)
    git(tmp_path, "config", "core.fsmonitor", str(hook))
    list(keys.look(tmp_path, os.environ))
    assert not (tmp_path / "started").exists()


def test_what_is_no_private_key_is_left_alone(tmp_path: Path) -> None:
    generate(tmp_path / "line.pem", None)
    (tmp_path / "line.pem").unlink()
    (tmp_path / "folder.pem").mkdir()
    (tmp_path / "dangling.pem").symlink_to("nowhere")
    (tmp_path / "noise.key").write_bytes(os.urandom(100_000))
    assert set(by_code(keys.look(tmp_path, os.environ))) == {"no-keys"}


# Configuration


def look(tmp_path: Path, **environ: str) -> dict[str, Finding]:
    return by_code(configuration.look({"HOME": str(tmp_path), **NO_PIP, **environ}))


def test_nothing_special_is_fine(tmp_path: Path) -> None:
    assert set(look(tmp_path)) == {"pip-settings", "hub-token"}


def test_one_fault_does_not_hide_the_other_and_no_secret_is_shown(tmp_path: Path) -> None:
    (tmp_path / "pip.conf").write_text("this is = no [configuration\nhush")
    found = look(tmp_path, PIP_CONFIG_FILE=str(tmp_path / "pip.conf"), HF_TOKEN="hush hush")
    assert bad(found.values()) == {"pip-settings", "hub-settings"}
    assert "hush" not in found["hub-settings"].what


def test_a_token_file_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / ".cache/huggingface/token").mkdir(parents=True)
    assert "cannot be read" in look(tmp_path)["hub-settings"].what
    assert "a token for the hub is here" in look(tmp_path, HF_TOKEN="hf_x")["hub-token"].what


def test_folders_and_certificates_that_are_not_there(tmp_path: Path) -> None:
    found = look(tmp_path, PIP_FIND_LINKS="/none/wheels", PIP_CERT="/none/ca.pem")
    assert bad(found.values()) == {"no-find-links", "no-certificates"}
    for name in ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"):
        assert name in look(tmp_path, **{name: "/none"})["no-certificates"].what
    assert not bad(look(tmp_path, SSL_CERT_FILE=str(tmp_path)).values())


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"REQUESTS_CA_BUNDLE": "/etc", "SSL_CERT_FILE": "/none"}, None),
        ({"REQUESTS_CA_BUNDLE": "/none", "SSL_CERT_FILE": "/etc"}, "REQUESTS_CA_BUNDLE"),
        ({"SSL_CERT_FILE": "/etc", "PIP_CERT": "/none"}, None),
        ({"PIP_CERT": "/etc", "CURL_CA_BUNDLE": "/none"}, None),
        ({"CURL_CA_BUNDLE": "/none"}, "CURL_CA_BUNDLE"),
        ({"SSL_CERT_FILE": "/none", "PIP_TIMEOUT": "soon"}, "SSL_CERT_FILE"),
    ],
)
def test_only_the_certificates_that_count_are_judged(tmp_path: Path, environ: dict[str, str], said: str | None) -> None:
    found = look(tmp_path, **environ)
    assert ("no-certificates" in found) is (said is not None)
    if said:
        assert said in found["no-certificates"].what


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("http://user:hush@proxy.example:3128", "requests go through proxy.example:3128"),
        ("proxy.example:3128", "requests go through proxy.example:3128"),
        ("socks5h://proxy.example", "requests go through proxy.example"),
        ("http://[::1", "not the address of a proxy"),
        ("http://proxy:hush", "not the address of a proxy"),
        ("ftp://proxy", "not the address of a proxy"),
        ("http://", "not the address of a proxy"),
    ],
)
def test_a_proxy_is_named_without_its_password(value: str, said: str) -> None:
    found = configuration.judge_proxy("HTTPS_PROXY", value)
    assert said in found.what
    assert "hush" not in found.what
    assert (found.verdict is Verdict.PROBLEM) is ("not the" in said)


def test_the_store_is_found_whatever_else_is_wrong(tmp_path: Path) -> None:
    environ = {"HOME": str(tmp_path), "PIP_TIMEOUT": "soon", "HF_TOKEN": "two words", "HF_ENDPOINT": "nonsense"}
    assert store_path(environ) == tmp_path / ".cache" / "offline-bundle" / "store"
    assert store_path({**environ, "BUNDLE_STORE": "/s"}) == Path("/s")


# Extras


def test_the_build_extra_of_this_environment_is_complete() -> None:
    found = by_code(extras.look(installed()))
    assert set(found) == {"build-extra", "zstandard"}
    assert not bad(found.values())


def test_a_part_of_the_build_extra_is_missing() -> None:
    present = {name: version for name, version in installed().items() if name != "boto3"}
    assert not extras.is_complete(present)
    found = by_code(extras.look(present))["no-build-extra"]
    assert "boto3" in found.what
    assert found.fix == "pip install 'offline-bundle[build]'"


def test_without_the_extra_nothing_that_needs_it_is_looked_at(tmp_path: Path) -> None:
    asked = builder.checks(tmp_path, wanted=True, folder=tmp_path, environ={"PIP_TIMEOUT": "soon"}, present={})
    assert "configuration" not in {each.subject for each in examine(asked)}


def test_the_extra_is_read_out_of_the_metadata() -> None:
    lines = [
        "click>=8",
        "PyYAML>=6.0.2; extra == 'build'",
        'zstandard==0.25.0 ; extra == "build"',
        "ruff; extra == 'dev'",
    ]
    assert extras.required(lines) == {"pyyaml": ">=6.0.2", "zstandard": "==0.25.0"}


@pytest.mark.parametrize(
    ("pinned", "version", "code"),
    [("==0.25.0", "0.25.0", "zstandard"), ("==0.25.0", "0.24.0", "zstandard-differs"), ("", "0.24.0", "zstandard")],
)
def test_another_zstandard_makes_other_bytes(pinned: str, version: str, code: str) -> None:
    (found,) = extras.judge_zstandard(pinned, version, (1, 5, 6))
    assert found.code == code
    assert "1.5.6" in found.what


# The name `bundle`


def foreign(folder: Path) -> Path:
    """The scripts folder of another distribution with a `bundle` command, put there by pip."""
    parts = {
        "gems.py": b"def main():\n    print('Could not locate Gemfile')\n",
        "gems-1.0.dist-info/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        "gems-1.0.dist-info/entry_points.txt": b"[console_scripts]\nbundle = gems:main\n",
        "gems-1.0.dist-info/RECORD": b"gems.py,,\n",
    }
    made = folder / "gems-1.0-py3-none-any.whl"
    made.write_bytes(wheel("gems", **parts))
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-index", "--no-deps", "--disable-pip-version-check"]
    subprocess.run([*pip, "--prefix", folder / "prefix", "--ignore-installed", made], check=True, capture_output=True)
    return folder / "prefix" / "bin"


def test_another_bundle_on_path_is_named_if_it_comes_first(tmp_path: Path) -> None:
    theirs, ours = str(foreign(tmp_path)), sysconfig.get_path("scripts")
    (found,) = program.look({"PATH": os.pathsep.join([theirs, ours])})
    assert found.code == "another-bundle"
    assert theirs in found.what
    assert f"{sys.executable} -m bundler" in found.fix
    (found,) = program.look({"PATH": os.pathsep.join([ours, theirs])})
    assert found.code == "program"


def test_what_is_no_program_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "a" / "bundle").mkdir(parents=True)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "bundle").write_text("no program")
    path = [str(tmp_path / name) for name in ("a", "b", "none")]
    (found,) = program.look({"PATH": os.pathsep.join(path)})
    assert found.code == "not-on-path"
    assert "-m bundler" in found.fix


def test_ours_of_another_python_is_worth_knowing() -> None:
    assert program.judge([Program(Path("/opt/bin/bundle"), is_ours=True, is_here=False)]).code == "another-python"


# The command


def test_a_builder_is_looked_at_and_a_site_is_not_where_there_is_no_root(tmp_path: Path) -> None:
    told = json.loads(doctor("--json", HOME=str(tmp_path), XDG_DATA_HOME=str(tmp_path), XDG_CACHE_HOME="").stdout)
    assert told["looked_at"] == {"builder": str(tmp_path / ".cache" / "offline-bundle" / "store")}
    assert {"store", "build", "configuration", "program", "onnxruntime"} <= {
        each["subject"] for each in told["findings"]
    }
    assert {each["code"] for each in told["findings"]} >= {"store-filesystem", "store-under-tmp"}


def test_a_broken_setting_is_a_finding_and_no_error(tmp_path: Path) -> None:
    done = doctor(HOME=str(tmp_path), XDG_DATA_HOME=str(tmp_path), PIP_TIMEOUT="soon", PIP_CONFIG_FILE="/none")
    assert done.exit_code == FindingsError.exit_code
    assert "pip's timeout is not a number" in done.stdout
    assert "looked at: no site, builder" in done.stdout.splitlines()[-1]
