"""The name `bundle` itself: which program a person gets who types it (Ruby has one too); and from where it is typed."""

import os
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bundler.installation import kit_place
from bundler.places import expanded
from manifests.finding import Finding, Subject

SUBJECT: Final = Subject("program")
_OURS: Final = b"bundler.commands.main"
_LIMIT: Final = 1 << 20
_NAMES: Final = ("bundle.exe", "bundle.cmd", "bundle.bat") if os.name == "nt" else ("bundle",)


@dataclass(frozen=True, slots=True)
class Program:
    """One `bundle` on PATH: whether it is this program, and whether it is this Python's."""

    path: Path
    is_ours: bool
    is_here: bool


def look(environ: Mapping[str, str]) -> Iterator[Finding]:
    """What typing `bundle` runs."""
    yield judge(list(observe(environ)))


def look_at_home(environ: Mapping[str, str]) -> Iterator[Finding]:
    """Whether this user has a home, and stands in a folder: what nobody names is looked for there."""
    try:
        Path.cwd()
    except OSError as error:
        what = f"the current folder cannot be used ({error.strerror}): names that are not absolute lead nowhere"
        yield SUBJECT.problem("no-folder", what, fix="cd /")
    if not environ.get("HOME") and expanded("~") == Path("~"):
        what = "HOME is not set, and this user has no entry in passwd: root and store have no default place"
        yield SUBJECT.warning("no-home", what, fix="export HOME=FOLDER; or name both with BUNDLE_HOME and BUNDLE_STORE")


def observe(environ: Mapping[str, str]) -> Iterator[Program]:
    """Every program on PATH that `bundle` could mean, in order."""
    scripts = {os.path.realpath(folder) for folder in _folders()}
    for text in environ.get("PATH", os.defpath).split(os.pathsep):
        for name in _NAMES:
            path = Path(text or ".") / name
            if os.path.isfile(path) and os.access(path, os.X_OK):  # noqa: PTH113 - False for a folder that may not be looked into
                yield Program(path, _is_ours(path), os.path.realpath(path.parent) in scripts)


def judge(found: list[Program]) -> Finding:
    """What the first of these means."""
    place = kit_place()
    instead = f"type `{f'{place}/bin/bundle' if place else f'{sys.executable} -m bundler'}` in its place"
    if not found:
        what = "`bundle` is not on PATH"
        return SUBJECT.note("not-on-path", what, fix=f"{instead}, or add {_folders()[0]} to PATH")
    first = found[0]
    if not first.is_ours:
        what = f"`bundle` is another program here: {first.path} (Ruby has one of that name)"
        return SUBJECT.warning("another-bundle", what, fix=f"{instead}, or put this one's folder first in PATH")
    if not first.is_here:
        what = f"`bundle` is {first.path}, of another Python than this one, {sys.executable}"
        return SUBJECT.note("another-python", what, fix=instead)
    return SUBJECT.fine("program", f"`bundle` is {first.path}")


def _folders() -> list[str]:
    """Where this program's `bundle` lies: where a kit's installer put it, which outlives updates; and beside Python."""
    place = kit_place()
    return [*([str(place / "bin")] if place else []), sysconfig.get_path("scripts")]


def _is_ours(path: Path) -> bool:
    """Whether the script starts this program: an installer writes the name of the function into it."""
    try:
        with path.open("rb") as stream:
            return _OURS in stream.read(_LIMIT)
    except OSError:
        return False
