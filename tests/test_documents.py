"""Documents are executed or compared: exit codes, commands, files that they name."""

import json
import re
import subprocess
from pathlib import Path

import click
import pytest
import yaml

from bundler.commands.main import COMMANDS, cli
from manifests.errors import BundleError, families
from real_models import cache

PROJECT = Path(__file__).parent.parent
README = (PROJECT / "README.md").read_text()


def exit_codes() -> str:
    """The README's table, made from the classes."""
    rows = ["| code | class | what it means, and what to do |", "|---|---|---|", "| 0 | - | done |"]
    rows += ["| 2 | `UsageError` | the command line is wrong: `--help` |"]
    found = sorted(families(), key=lambda each: each.exit_code)
    rows += [f"| {each.exit_code} | `{each.__name__}` | {each.meaning} |" for each in found]
    rows += ["| 130 | - | interrupted from the keyboard |"]
    return "\n".join(rows)


def test_the_table_of_exit_codes_is_that_of_the_classes() -> None:
    assert exit_codes() in README


def test_every_class_has_a_code_of_its_own_and_a_meaning() -> None:
    codes = [each.exit_code for each in families()]
    assert len(set(codes)) == len(codes)
    assert all(each.meaning and "exit_code" in vars(each) for each in families() if each is not BundleError)


def test_the_docstring_of_the_errors_draws_the_whole_tree() -> None:
    from manifests import errors

    assert errors.__doc__ is not None
    for each in families():
        assert each.__name__ in errors.__doc__, each


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_in_the_readme(name: str) -> None:
    assert f"bundle {name}" in README


def test_every_option_that_the_readme_names_exists() -> None:
    context = click.Context(cli)
    known: dict[str, set[str]] = {}
    for name in COMMANDS:
        command = cli.get_command(context, name)
        inner = [command, *getattr(command, "commands", {}).values()]
        known[name] = {option for each in inner if each for parameter in each.params for option in parameter.opts}
    lines = re.findall(r"^bundle .*$", README, re.MULTILINE) + re.findall(r"`(bundle [a-z][^`]*)`", README)
    assert len(lines) > 50
    for line in lines:
        name = line.split()[1]
        for option in re.findall(r"(?<=\s)--?[a-z][a-z-]*", line):
            assert option in known.get(name, set()) | {"--help"}, line


def test_every_file_that_the_readme_names_exists() -> None:
    for name in re.findall(r"\]\((?!https?:)([^)#]+)\)", README):
        assert (PROJECT / name).exists(), name


def test_the_readme_shows_the_example_manifest_keys() -> None:
    from bundler.manifest_file import load

    for path in (PROJECT / "manifests" / "examples").glob("*.yaml"):
        if path.name != "kubernetes.yaml":
            assert load(path).models


def test_the_pod_of_the_examples_is_what_env_prints_the_parts_of() -> None:
    pod = yaml.safe_load((PROJECT / "manifests" / "examples" / "kubernetes.yaml").read_text())
    volumes = {volume["name"] for volume in pod["spec"]["volumes"]}
    mounts = [mount for each in pod["spec"]["containers"] for mount in each.get("volumeMounts", [])]
    assert {mount["name"] for mount in mounts} == volumes
    assert all(mount.get("readOnly") for mount in mounts if mount["name"] != "scratch")
    (served,) = (each for each in pod["spec"]["containers"] if each["name"] == "bundle")
    serve = cli.get_command(click.Context(cli), served["args"][0])
    assert serve is not None
    assert set(served["args"][1::2]) <= {option for parameter in serve.params for option in parameter.opts}


@pytest.mark.real
def test_the_demo_runs_and_its_second_run_fetches_nothing(tmp_path: Path) -> None:
    work = cache() / "demo"
    before = (PROJECT / "README.md").stat().st_mtime
    for number in range(2):
        command = [PROJECT / "scripts" / "demo", "--json", "--work", work]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        answer = json.loads(done.stdout)
        assert len(answer["predictions"]) == 5
        assert answer["largest_score_difference"] <= 0.02
        assert answer["largest_pixel_difference"] <= 3
        if number:
            assert not [path for path in (work / "store" / "partial").iterdir() if path.stat().st_size]
    assert (PROJECT / "README.md").stat().st_mtime == before
