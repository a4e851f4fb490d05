"""`bundle manual`: pages that real readers of man pages show without a complaint, and that say what the help says."""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from bundler import manual
from bundler.commands.main import COMMANDS, cli
from bundler.installation import UNKNOWN
from factory import tree
from manifests.errors import families

PROJECT = Path(__file__).parent.parent
SETTINGS = ("bundler/settings.py", "bundler/pip_settings.py", "runtime/settings.py")
LISTED_BY_STAR = {"AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "PIP_CONFIG_FILE"}


def context(command: click.Command = cli) -> click.Context:
    return click.Context(command, info_name="bundle", **cli.context_settings)


PAGES = list(manual.pages(context(), version="1.2.3"))


def program(name: str) -> str:
    """The path of a reader of man pages; without it the test is skipped, and says so."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"no {name} on this machine")
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All pages, as the program writes them."""
    out = tmp_path_factory.mktemp("man") / "man1"
    bundle("manual", "-o", out)
    return out


def bundle(*arguments: object, code: int = 0) -> str:
    command = [sys.executable, "-m", "bundler", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout if code == 0 else done.stderr


def commands(command: click.Command = cli, name: str = "bundle") -> Iterator[tuple[str, click.Command]]:
    """Every command, by the name of its page."""
    yield name, command
    if isinstance(command, click.Group):
        for inner in command.list_commands(context()):
            found = command.get_command(context(), inner)
            assert found is not None
            yield from commands(found, f"{name}-{inner}")


def test_there_is_a_page_for_every_command(folder: Path) -> None:
    assert {path.name for path in folder.iterdir()} == {f"{name}.1" for name, _ in commands()}
    assert {"bundle.1", "bundle-build.1", "bundle-trust-init.1"} <= {path.name for path in folder.iterdir()}


def test_groff_formats_every_page_without_a_warning(folder: Path) -> None:
    for path in sorted(folder.iterdir()):
        command = [program("groff"), "-man", "-Tutf8", "-ww", path]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, ""), path.name


def test_mandoc_finds_nothing_wrong_but_that_there_is_no_date(folder: Path) -> None:
    command = [program("mandoc"), "-T", "lint", "-W", "warning", *sorted(folder.iterdir())]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    said = (done.stdout + done.stderr).splitlines()
    assert [line for line in said if "missing date" not in line] == []  # a date would make two builds differ


def test_man_shows_what_a_person_would_type(folder: Path) -> None:
    shown = subprocess.run(
        [program("man"), "-P", "cat", "-M", folder.parent, "bundle-env"],
        env={"LC_ALL": "C.UTF-8", "PATH": "/usr/bin:/bin", "MANWIDTH": "100"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert shown.returncode == 0, shown.stderr
    plain = re.sub(r".\x08", "", shown.stdout)
    assert "bundle env [OPTIONS]" in plain
    assert 'eval "$(bundle env)"' in plain
    assert "bundle env --format powershell | Out-String | Invoke-Expression" in plain
    assert "--format [sh|powershell|cmd|docker|systemd|k8s]" in plain


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_has_its_sections_in_order(page: manual.Page) -> None:
    order = [
        "NAME", "SYNOPSIS", "DESCRIPTION", "COMMANDS", "OPTIONS", "EXAMPLE", "EXIT STATUS", "ENVIRONMENT", "SEE ALSO",
    ]  # fmt: skip
    titles = [title for title, _ in page.sections]
    assert titles == [title for title in order if title in titles]
    assert {"NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "EXIT STATUS", "ENVIRONMENT", "SEE ALSO"} <= set(titles)


@pytest.mark.parametrize(("name", "command"), list(commands()), ids=[name for name, _ in commands()])
def test_a_page_says_what_the_help_says(name: str, command: click.Command) -> None:
    page = next(page for page in PAGES if page.name == name)
    shown = " ".join(manual.text(page).split())
    for paragraph in (command.help or "").replace("\b", "").split("\n\n"):
        assert " ".join(paragraph.strip().removeprefix("Example:").split()) in shown
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert all(option in shown for option in parameter.opts)
            assert " ".join((parameter.help or "").split()) in shown


def test_every_leaf_has_an_example() -> None:
    for name, command in commands():
        if not isinstance(command, click.Group):
            page = next(page for page in PAGES if page.name == name)
            assert dict(page.sections)["EXAMPLE"], name


def test_exit_status_has_every_family() -> None:
    items = {block.term for block in dict(PAGES[0].sections)["EXIT STATUS"] if isinstance(block, manual.Item)}
    assert items == {"0", "2", "130"} | {str(each.exit_code) for each in families()}


def test_every_variable_that_the_settings_read_is_there_and_no_other() -> None:
    listed = {name for names in manual.ENVIRONMENT for name in names.split(", ")}
    for path in SETTINGS:
        read = set(re.findall(r'"([A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+|HOME)"', (PROJECT / path).read_text()))
        assert read - LISTED_BY_STAR <= listed, path
    everything = "".join(path.read_text() for side in ("bundler", "runtime") for path in (PROJECT / side).rglob("*.py"))
    sources = everything.replace((PROJECT / "bundler/manual.py").read_text(), "")
    for name in listed:
        assert name.removesuffix("*") in sources, name


def test_the_same_program_writes_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    bundle("manual", "-o", tmp_path)
    assert tree(tmp_path) == tree(folder)
    assert all(content.isascii() for content in tree(folder).values() if isinstance(content, bytes))


@click.command("hard")
@click.option("--x", help=".TH at the start, \\fB and \\n in the middle, 'quotes' \"both\" `too`, -1, ~ ^.")
def hard(*, x: str) -> None:
    r"""'Begins with a quote and goes on \fIlike this\fR with a \backslash and -- dashes.

    .SH NOT A SECTION

    \b
    .TP  as it is
    'br  too    \e and \(em
        indented — with a dash, naïve → 日本
    """


def test_nothing_in_a_help_text_is_read_as_roff(tmp_path: Path) -> None:
    (page,) = manual.pages(click.Context(hard, info_name="hard"), version="1")
    path = tmp_path / "hard.1"
    path.write_text(manual.roff(page), encoding="ascii")
    command = [program("groff"), "-man", "-Tutf8", "-ww", "-P-cbou", path]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    shown = " ".join(done.stdout.replace("\u2212", "-").split())
    for words in (
        "'Begins with a quote and goes on \\fIlike this\\fR with a \\backslash and -- dashes.",
        ".SH NOT A SECTION",
        ".TP as it is 'br too \\e and \\(em indented — with a dash, naïve → 日本",
        ".TH at the start, \\fB and \\n in the middle, 'quotes' \"both\" `too`, -1, ~ ^.",
    ):
        assert words in shown
    lint = subprocess.run(
        [program("mandoc"), "-T", "lint", "-W", "warning", path], capture_output=True, text=True, check=False
    )
    assert [line for line in lint.stdout.splitlines() if "missing date" not in line] == []


def test_a_page_in_plain_text_goes_to_stdout() -> None:
    shown = bundle("manual", "trust", "init")
    assert shown == manual.text(next(page for page in PAGES if page.name == "bundle-trust-init"))
    assert bundle("manual").startswith("NAME\n    bundle - Carry models")
    assert "\x08" not in shown
    assert all(len(line) <= 100 for line in shown.splitlines())


def test_a_command_with_a_folder_writes_its_own_pages(tmp_path: Path) -> None:
    assert bundle("manual", "trust", "-o", tmp_path / "new" / "man1").splitlines()
    names = sorted(path.name for path in (tmp_path / "new" / "man1").iterdir())
    assert names == ["bundle-trust-init.1", "bundle-trust-show.1", "bundle-trust.1"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(["instal"], "bundle instal"), (["trust", "nothing"], "bundle trust nothing"), (["list", "x"], "bundle list x")],
)
def test_a_command_that_there_is_not_is_named(arguments: list[str], words: str) -> None:
    assert words in bundle("manual", *arguments, code=2)


def test_the_proxies_that_requests_reads_are_in_the_manual() -> None:
    listed = {name for names in manual.ENVIRONMENT for name in names.split(", ")}
    assert {"HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY"} <= listed


def test_without_pip_s_record_of_the_program_the_manual_says_so(tmp_path: Path) -> None:
    for path in Path(click.__file__).parent.parent.iterdir():
        if not path.name.startswith("offline_bundle"):
            (tmp_path / path.name).symlink_to(path)
    start = "import sys; sys.path[:0] = sys.argv.pop().split(':'); from bundler.commands.main import main; main()"
    pages = tmp_path / "pages"
    command = [sys.executable, "-I", "-S", "-c", start, "manual", "list", "-o", pages, f"{PROJECT}:{tmp_path}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f'"bundle {UNKNOWN}"' in (pages / "bundle-list.1").read_text()
    assert f'"bundle {UNKNOWN}"' not in (manual.roff(PAGES[0]))


@pytest.mark.parametrize("spelled", ["~nobody-of-this-name/x", "~nobody-of-this-name"])
def test_the_home_of_a_user_whom_nobody_knows_is_a_plain_name(tmp_path: Path, spelled: str) -> None:
    command = [sys.executable, "-m", "bundler", "manual", "list", "-o", spelled]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / spelled / "bundle-list.1").exists()


def test_an_empty_folder_name_is_not_this_folder(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "bundler", "manual", "-o", ""]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "is empty" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("mine")
    bundle("manual", "-o", tmp_path / "x", code=2)
    assert (tmp_path / "x").read_text() == "mine"


def test_every_command_has_a_line_in_the_page_of_the_program() -> None:
    items = dict(PAGES[0].sections)["COMMANDS"]
    assert [block.term for block in items if isinstance(block, manual.Item)] == [f"bundle {name}" for name in COMMANDS]
