"""The root itself: whether there is one, and who led to it."""

import os
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from manifests import canonical
from manifests.errors import FormatError, NotARootError, UnsupportedFormatError
from manifests.finding import Finding
from runtime.doctor import access
from runtime.root import FORMAT, TRUST_INIT, Root
from runtime.settings import MARKER, enclosing_root, lead

SUBJECT: Final = access.SUBJECT


def rule(given: Path | None, environ: Mapping[str, str]) -> str:
    """What led to the root: the words for a person."""
    return "--root" if given is not None else lead(environ)[1]


def is_there(path: Path) -> bool:
    """Whether `path` has the mark of a root that this user can see."""
    return os.path.isfile(path / MARKER)  # noqa: PTH113 - False, not an error, for a folder that may not be looked into


def look(path: Path, led: str) -> Iterator[Finding]:
    """Whether `path` is a root."""
    if (shut := access.closed(path)) or (shut := access.closed(path / MARKER)):
        yield access.unreadable(path, [shut])
        return
    if path.exists() and not path.is_dir():
        yield SUBJECT.problem("root-is-a-file", f"{path} ({led}) is a file", fix="name a folder with --root")
        return
    try:
        Root.open(path)
    except NotARootError:
        yield _missing(path, led)
    except UnsupportedFormatError as error:
        yield SUBJECT.problem("root-format", error.message, fix="bring the program that made it, or a newer one")
    except FormatError as error:
        marker, content = shlex.quote(str(path / MARKER)), canonical.encode({"format": FORMAT}).decode()
        fix = f"if the rest of it is whole: rm -f {marker} && printf '{content}' > {marker}"
        yield SUBJECT.problem("root-marker", f"the mark of the root is damaged: {error.message}", fix=fix)
    else:
        yield SUBJECT.fine("root", f"{path} ({led})")


def _missing(path: Path, led: str) -> Finding:
    if (outer := enclosing_root(path)) is not None:
        what = f"{path} ({led}) lies inside of the root {outer}, and is none itself"
        return SUBJECT.problem("root-above", what, fix=f"export BUNDLE_HOME={shlex.quote(str(outer))}")
    if path.is_dir() and any(path.iterdir()):
        what = f"{path} ({led}) has other things in it, and is not a root"
        return SUBJECT.problem("no-root", what, fix=f"name an empty or a new folder: {TRUST_INIT} --root FOLDER")
    other = "; or set BUNDLE_HOME to a root, or unset it" if led == "BUNDLE_HOME" else ""
    fix = f"{TRUST_INIT} --root {shlex.quote(str(path))}{other}"
    return SUBJECT.problem("no-root", f"there is no root at {path} ({led})", fix=fix)
