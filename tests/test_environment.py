"""`bundle env`: what each consumer really reads out of what is written for it."""

import csv
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path, PurePosixPath
from threading import Thread

import pytest
import yaml

from bundler.commands.env import FORMATS as OFFERED
from factory import Workshop, incompressible, put
from manifests.errors import NamingError, NotARootError
from runtime.environment import Environment, environment, mount_point, of_layout, variables
from runtime.environment_formats import FORMATS, SCRATCH, write
from runtime.root import Root

MODELS = {"acme/one": {"weights.bin": incompressible(300_000), "config/a.json": b"{}\n"}}
STRANGE = {
    "a space": "a b  c",
    "quotes": 'it\'s "so"',
    "typographic quotes": "it\u2019s \u2018so\u2019",
    "a dollar": "$HOME $(x) ${x} $$ `x`",
    "percent": "%n 100%% %PATH%",
    "backslashes": "a\\b\\n \\ c\\\\d",
    "other signs": "a;b&c|d<e>f!g^h*i?j#k=l,m:n{o}[p]~q",
    "unicode": "Mod\u00e8les \u30e2\u30c7\u30eb \U0001f40d",
    "a leading dash": "-x",
    "a trailing backslash": "x\\",
}
DOCKER = shutil.which("docker")
SYSTEMD = shutil.which("systemd-analyze")


def given(name: str) -> Environment:
    """An environment whose every value goes through a folder of this name."""
    place = f"/srv/{name}"
    values = {"BUNDLE_HOME": place, "HF_HUB_CACHE": f"{place}/current/plain/hub", "OFFLINE_MODE": "True"}
    return Environment(place, place, values)


def shell(program: str, text: str, names: Mapping[str, str]) -> dict[str, str]:
    """What a shell and a child of it see after reading `text`."""
    child = f"import json, os; print(json.dumps({{n: os.environ[n] for n in {list(names)!r}}}))"
    script = f'eval "$WRITTEN"\n{shlex.quote(sys.executable)} -c {shlex.quote(child)}'
    clean = {"WRITTEN": text, "PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"}
    done = subprocess.run([program, "-c", script], env=clean, capture_output=True, text=True, check=True)
    seen = json.loads(done.stdout)
    assert isinstance(seen, dict)
    return seen


@pytest.fixture
def site(workshop: Workshop) -> Root:
    root = workshop.site()
    put(workshop.build(workshop.lock(MODELS)).path, root)
    return root


@pytest.mark.parametrize("name", [*STRANGE.values(), "line\nfeed"], ids=[*STRANGE, "a line feed"])
@pytest.mark.parametrize("program", ["sh", "bash"])
def test_a_shell_reads_every_value_to_the_byte(program: str, name: str) -> None:
    found = given(name)
    assert shell(program, write("sh", found), found.values) == found.values


@pytest.mark.parametrize("name", STRANGE.values(), ids=STRANGE)
def test_a_pod_has_every_value_to_the_byte(name: str) -> None:
    found = given(name)
    pod = yaml.safe_load(write("k8s", found))
    assert set(pod) == {"containers", "volumes"}
    (container,) = pod["containers"]
    assert set(container) == {"name", "env", "volumeMounts"}
    assert {each["name"]: expanded(each["value"]) for each in container["env"]} == found.values
    assert all(set(each) == {"name", "value"} and isinstance(each["value"], str) for each in container["env"])
    mounts = {each["name"]: each for each in container["volumeMounts"]}
    volumes = {each.pop("name"): each for each in pod["volumes"]}
    assert mounts.keys() == volumes.keys()
    assert mounts["bundle-root"] == {"name": "bundle-root", "mountPath": found.inside, "readOnly": True}
    assert volumes["bundle-root"] == {"hostPath": {"path": found.host, "type": "Directory"}}
    assert volumes["bundle-scratch"] == {"emptyDir": {}}


def expanded(value: str) -> str:
    """A value as a kubelet passes it on: `$(NAME)` is a reference, `$$` a dollar, and any other `$` itself."""
    assert not re.search(r"(?<!\$)(?:\$\$)*\$\(", value), "a reference"
    return value.replace("$$", "$")


class _Daemon(BaseHTTPRequestHandler):
    """As much of a Docker daemon as `docker run` needs to say what it wants."""

    wanted: dict[str, object]

    def do_HEAD(self) -> None:
        self._answer(200, {})

    def do_GET(self) -> None:
        self._answer(200, {})

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers["Content-Length"]))
        type(self).wanted = json.loads(content)
        self._answer(409, {"message": "seen"})

    def _answer(self, status: int, document: object) -> None:
        content = json.dumps(document).encode()
        self.send_response(status)
        for name, value in {"Api-Version": "1.41", "Content-Type": "application/json"}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def asked_of_docker(folder: Path, text: str) -> dict[str, object]:
    """What the real client asks its daemon for, when the line in the file's comment is typed."""
    (folder / "bundle.env").write_text(text)
    line = next(each for each in text.splitlines() if each.startswith("# docker run")).removeprefix("# ")
    line = re.sub("IMAGE$", "some/image", line)
    handler = type("Handler", (_Daemon,), {})
    with HTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        clean = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "DOCKER_HOST": f"tcp://127.0.0.1:{server.server_port}",
        }
        done = subprocess.run(["sh", "-c", line], cwd=folder, env=clean, capture_output=True, text=True, check=False)
        server.shutdown()
    assert "seen" in done.stderr, done.stderr
    return handler.wanted  # type: ignore[attr-defined,no-any-return]


@pytest.mark.skipif(DOCKER is None, reason="no docker client here: its env-file is tested by the rules alone")
@pytest.mark.parametrize("name", STRANGE.values(), ids=STRANGE)
def test_docker_run_as_the_comment_shows_it_passes_every_value_to_the_byte(name: str, tmp_path: Path) -> None:
    found = given(name)
    if ":" in name:
        found = Environment(found.host, "/bundle", {"BUNDLE_HOME": "/bundle"})
    wanted = asked_of_docker(tmp_path, write("docker", found))
    assert dict(each.split("=", 1) for each in wanted["Env"]) == found.values  # type: ignore[attr-defined]
    assert wanted["HostConfig"]["NetworkMode"] == "none"  # type: ignore[index]
    (mount,) = wanted["HostConfig"]["Mounts"]  # type: ignore[index]
    assert mount == {"Type": "bind", "Source": found.host, "Target": found.inside, "ReadOnly": True}


@pytest.mark.parametrize("name", STRANGE.values(), ids=STRANGE)
def test_an_env_file_keeps_docker_s_rules(name: str) -> None:
    found = given(name)
    lines = write("docker", found).splitlines()
    pairs = [line.split("=", 1) for line in lines if not line.lstrip().startswith("#")]
    assert dict(pairs) == found.values
    (line,) = [line for line in lines if line.startswith("# docker run")]
    words = shlex.split(line)
    (fields,) = csv.reader([words[words.index("--mount") + 1]])
    assert fields == ["type=bind", f"source={found.host}", f"target={found.inside}", "readonly"]


@pytest.mark.skipif(SYSTEMD is None, reason="no systemd-analyze here: a drop-in is tested by the rules alone")
@pytest.mark.parametrize("name", STRANGE.values(), ids=STRANGE)
def test_systemd_reads_every_value_to_the_byte(name: str, tmp_path: Path) -> None:
    found = given(name)
    (tmp_path / "x.service").write_text("[Unit]\nDescription=x\n[Service]\nExecStart=/bin/true\n")
    (tmp_path / "x.service.d").mkdir()
    (tmp_path / "x.service.d" / "bundle.conf").write_text(write("systemd", found))
    clean = {**os.environ, "SYSTEMD_LOG_LEVEL": "debug", "SYSTEMD_UNIT_PATH": f"{tmp_path}:"}
    command = [SYSTEMD, "verify", "--man=no", "x.service"]
    done = subprocess.run(command, env=clean, capture_output=True, text=True, check=False)  # type: ignore[arg-type]
    assert done.returncode == 0, done.stderr
    assert "bundle.conf:" not in done.stderr, "it complains of a line"
    read = [line.strip().partition(": ") for line in done.stdout.splitlines()]
    assert dict(value.split("=", 1) for key, _, value in read if key == "Environment") == found.values
    assert [value for key, _, value in read if key == "ReadOnlyPaths"] == [found.inside]
    assert [value for key, _, value in read if key == "ReadWritePaths"] == [f"-{found.inside}/state"]
    assert {value for key, _, value in read if key == "IPAddressDeny"} == {"0.0.0.0/0", "::/0"}
    assert {value for key, _, value in read if key == "IPAddressAllow"} == {"127.0.0.0/8", "::1/128"}


@pytest.mark.parametrize("name", STRANGE.values(), ids=STRANGE)
def test_a_drop_in_undone_by_the_rules_of_systemd_syntax_is_what_was_meant(name: str) -> None:
    found, read = given(name), {}
    for line in write("systemd", found).splitlines():
        key, _, value = line.partition("=")
        if key == "Environment":
            assert value[0] == value[-1] == '"'
            word = re.sub(r"\\(.)", r"\1", value[1:-1])
            assert "%" not in word.replace("%%", "")
            name_, _, content = word.replace("%%", "%").partition("=")
            read[name_] = content
    assert read == found.values


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("a b", "$env:BUNDLE_HOME = '/srv/a b'"),
        ("it's", "$env:BUNDLE_HOME = '/srv/it''s'"),
        ("it\u2019s", "$env:BUNDLE_HOME = '/srv/it\u2019\u2019s'"),
        ('$HOME `n "x"', "$env:BUNDLE_HOME = '/srv/$HOME `n \"x\"'"),
    ],
)
def test_powershell_gets_single_quotes_doubled_and_nothing_else_changed(name: str, line: str) -> None:
    assert write("powershell", given(name)).splitlines()[0] == line


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("a b", 'set "BUNDLE_HOME=/srv/a b"'),
        ("100% & %PATH%", 'set "BUNDLE_HOME=/srv/100%% & %%PATH%%"'),
        ("a^b|c", 'set "BUNDLE_HOME=/srv/a^b|c"'),
    ],
)
def test_cmd_gets_percent_doubled_within_its_quotes(name: str, line: str) -> None:
    assert write("cmd", given(name)).splitlines()[0] == line


@pytest.mark.parametrize("target", ["cmd", "docker", "systemd", "k8s"])
@pytest.mark.parametrize("character", ["\n", "\r", "\x1b", "\x7f", "\u2028", "\u202e"])
def test_a_path_that_a_format_cannot_carry_is_refused_by_name(target: str, character: str) -> None:
    with pytest.raises(NamingError, match=f"--format {target} cannot carry"):
        write(target, given(f"a{character}b"))


def test_cmd_refuses_a_double_quote_and_everything_refuses_what_is_not_text() -> None:
    with pytest.raises(NamingError, match="double quote"):
        write("cmd", given('a"b'))
    for target in FORMATS:
        with pytest.raises(NamingError, match="utf-8"):
            write(target, given("a\udcffb"))


@pytest.mark.parametrize("target", ["docker", "k8s"])
def test_in_a_container_every_path_is_under_the_mount(site: Root, target: str) -> None:
    found = environment(site, mount=PurePosixPath("/models"), scratch=SCRATCH[target])
    paths = {value for value in found.values.values() if value.startswith("/")}
    assert all(value.split("/")[1] in {"models", "tmp"} for value in paths)
    assert str(site.path) not in "".join(found.values.values())
    assert found.host == str(site.path)
    assert found.values["HF_HOME"].startswith("/tmp/")


def test_values_name_folders_that_are_there(site: Root) -> None:
    values = variables(site)
    for name in ("BUNDLE_HOME", "HF_HUB_CACHE", "AIM_CACHE_PATH"):
        assert Path(values[name]).is_dir()
    assert Path(values["HF_HUB_CACHE"], "models--acme--one").is_dir()


@pytest.mark.parametrize(
    ("layout", "folder", "also"),
    [
        ("directory", "plain", set()),
        ("huggingface", "plain/hub", {"HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"}),
        ("inference", "roboflow", {"OFFLINE_MODE", "DISK_CACHE_CLEANUP", "ATOMIC_CACHE_WRITES_ENABLED"}),
    ],
)
def test_an_export_is_pointed_at_with_all_that_a_root_is(site: Root, layout: str, folder: str, also: set[str]) -> None:
    inside = str(site.path / "current" / folder)
    values = variables(site)
    leading = {name for name, value in values.items() if value == inside}
    assert leading
    exported = of_layout(layout, PurePosixPath("/exported"))
    assert exported == {name: values[name] for name in also} | dict.fromkeys(leading, "/exported")


def test_where_there_are_no_links_the_values_name_the_generation(site: Root) -> None:
    (site.path / "current").unlink()
    (site.path / "current").write_text("generations/1")
    assert variables(site)["AIM_CACHE_PATH"] == str(site.path / "generations/1/plain")
    inside = environment(site, mount=PurePosixPath("/bundle"))
    assert inside.values["AIM_CACHE_PATH"] == "/bundle/generations/1/plain"


def test_a_root_named_through_dots_is_named_plainly(site: Root) -> None:
    around = Root(site.path / ".." / site.path.name)
    assert environment(around).host == str(site.path.resolve())


@pytest.mark.parametrize("text", ["", "bundle", "./x", "/", "//", "/a/../b", "/a:b"])
def test_what_no_container_could_mount_at_is_refused(text: str) -> None:
    with pytest.raises(NamingError, match="mount point"):
        mount_point(text)


@pytest.mark.parametrize(
    "text", ["/tmp", "/tmp/", "//tmp", "/tmp/bundle-scratch", "/tmp/./bundle-scratch/", "/tmp/bundle-scratch/root"]
)
@pytest.mark.parametrize("target", ["docker", "k8s"])
def test_the_root_is_not_mounted_where_clients_write(target: str, text: str) -> None:
    with pytest.raises(NamingError, match="clients write to /tmp/bundle-scratch") as caught:
        mount_point(text, scratch=SCRATCH[target])
    assert "/bundle" in caught.value.hint


@pytest.mark.parametrize("text", ["/tmp/models", "/tmpx", "/tmp/bundle-scratch2", "/opt/tmp", "//bundle"])
def test_beside_where_clients_write_the_root_may_be_mounted(text: str) -> None:
    assert str(mount_point(text, scratch=SCRATCH["docker"])) == text.replace("//", "/")


@pytest.mark.parametrize("target", ["sh", "powershell", "cmd", "systemd"])
def test_a_mount_point_where_there_is_no_container_is_refused(site: Root, target: str) -> None:
    done = bundle("env", "--root", site.path, "--format", target, "--mount", "/nowhere")
    assert (done.returncode, done.stdout) == (2, "")
    assert f"--format {target}" in done.stderr


def test_what_no_user_but_the_owner_can_read_is_not_said_to_be_for_any(site: Root) -> None:
    places = [
        site.path,
        site.generations,
        site.generation(1) / "plain" / "acme",
        site.generation(1) / "plain" / "acme" / "one" / "weights.bin",
        site.generation(1) / "plain" / "acme" / "one" / "config" / "a.json",
    ]
    opening = shlex.join(["chmod", "-R", "a+rX", str(site.path)])
    for place in places:
        before = place.stat().st_mode
        place.chmod(before & 0o770)
        for target, user in (("docker", "--user"), ("k8s", "runAsUser")):
            shown = bundle("env", "--root", site.path, "--format", target).stdout
            assert f"Any {user} can" not in shown.replace("any --user", "Any --user"), place
            assert opening in shown, place
        subprocess.run(["sh", "-c", opening], check=True)
        assert place.stat().st_mode == before
        assert opening not in bundle("env", "--root", site.path, "--format", "docker").stdout


def test_the_comments_of_a_closed_root_spoil_no_format() -> None:
    for name in STRANGE.values():
        found = replace(given(name), readable=False)
        assert all(line.startswith("#") or "=" in line for line in write("docker", found).splitlines())
        assert yaml.safe_load(write("k8s", found)) == yaml.safe_load(write("k8s", given(name)))


@pytest.mark.parametrize("target", FORMATS)
def test_every_format_keeps_onnxruntime_from_calling_its_maker(site: Root, target: str) -> None:
    shown = bundle("env", "--root", site.path, "--format", target).stdout
    assert re.search(r"""ORT_DISABLE_TELEMETRY(=| = '|\n +value: ")1""", shown)


def test_every_user_can_read_what_a_container_mounts(workshop: Workshop) -> None:
    before = os.umask(0o077)
    try:
        root = workshop.site()
        put(workshop.build(workshop.lock(MODELS)).path, root)
    finally:
        os.umask(before)
    for path in [root.path, root.path / "generations", *root.generation(1).rglob("*")]:
        needed = 0o005 if path.is_dir() else 0o004
        assert path.stat().st_mode & needed == needed, path


def bundle(*arguments: object) -> subprocess.CompletedProcess[str]:
    """The program."""
    return subprocess.run(
        [sys.executable, "-m", "bundler", *map(str, arguments)], capture_output=True, text=True, check=False
    )


def test_the_command_writes_each_format_and_json_has_the_same_values(site: Root) -> None:
    for target in FORMATS:
        done = bundle("env", "--root", site.path, "--format", target)
        assert done.returncode == 0, done.stderr
        values = json.loads(bundle("env", "--root", site.path, "--format", target, "--json").stdout)
        for name in values:
            assert name in done.stdout
    assert bundle("env", "--root", site.path).stdout == bundle("env", "--root", site.path, "--format", "sh").stdout


def test_where_the_terminal_has_not_the_characters_a_shell_gets_an_error_and_a_file_gets_utf_8(
    workshop: Workshop,
) -> None:
    root = workshop.site("modèles")
    put(workshop.build(workshop.lock(MODELS)).path, root)
    poor = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    for target in ("sh", "k8s"):
        command = [sys.executable, "-m", "bundler", "env", "--root", root.path, "--format", target]
        done = subprocess.run(command, env=poor, capture_output=True, check=False)
        if target == "sh":
            assert done.returncode == NamingError.exit_code
            assert done.stdout == b""
        else:
            volume = yaml.safe_load(done.stdout.decode())["volumes"][0]
            assert volume["hostPath"]["path"] == str(root.path)


def test_the_command_offers_every_format_that_there_is() -> None:
    assert tuple(FORMATS) == OFFERED


def test_misuse_is_answered_with_the_way_out(site: Root, tmp_path: Path) -> None:
    assert bundle("env", "--root", site.path, "--format", "fish").returncode == 2
    docker = ("env", "--root", site.path, "--format", "docker")
    assert bundle(*docker, "--mount", "here").returncode == NamingError.exit_code
    assert bundle(*docker, "--mount", "").returncode == NamingError.exit_code
    assert bundle(*docker, "--mount", "/tmp").returncode == NamingError.exit_code
    assert bundle("env", "--root", tmp_path / "nowhere").returncode == NotARootError.exit_code
