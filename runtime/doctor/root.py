"""The root itself: whether there is one, who led to it, whose it is, and what this user may do there."""

import os
import shlex
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from manifests.errors import BundleError, FormatError, NotARootError, UnsupportedFormatError
from manifests.finding import Finding, Subject
from runtime.root import Root
from runtime.settings import MARKER, enclosing_root

SUBJECT: Final = Subject("root")
_CLIENT_VARIABLES: Final = ("INFERENCE_HOME", "MODEL_CACHE_DIR")
_MAKE: Final = "bundle trust init --key KEY.pub.pem"


def rule(given: Path | None, environ: Mapping[str, str]) -> str:
    """What led to the root: the words for a person."""
    if given is not None:
        return "--root"
    if environ.get("BUNDLE_HOME"):
        return "BUNDLE_HOME"
    for name in _CLIENT_VARIABLES:
        if (value := environ.get(name)) and enclosing_root(Path(value)):
            return name
    return "the default place"


def is_there(path: Path) -> bool:
    """Whether `path` has the mark of a root that this user can see."""
    return os.path.isfile(path / MARKER)  # noqa: PTH113 - False, not an error, for a folder that may not be looked into


def look(path: Path, led: str) -> Iterator[Finding]:
    """Whether `path` is a root."""
    try:
        if path.exists() and not path.is_dir():
            yield SUBJECT.problem("root-is-a-file", f"{path} ({led}) is a file", fix="name a folder with --root")
            return
        (path / MARKER).is_file()
    except PermissionError as error:
        yield _unreadable(path, Path(error.filename))
        return
    try:
        Root.open(path)
    except NotARootError:
        yield _missing(path, led)
    except UnsupportedFormatError as error:
        yield SUBJECT.problem("root-format", error.message, fix="bring the program that made it, or a newer one")
    except FormatError as error:
        fix = f"if the rest of it is whole: printf '{{\"format\":1}}' > {shlex.quote(str(path / MARKER))}"
        yield SUBJECT.problem("root-marker", f"the mark of the root is damaged: {error.message}", fix=fix)
    else:
        yield SUBJECT.fine("root", f"{path} ({led})")


def _missing(path: Path, led: str) -> Finding:
    if (outer := enclosing_root(path)) is not None:
        what = f"{path} ({led}) lies inside of the root {outer}, and is none itself"
        return SUBJECT.problem("root-above", what, fix=f"export BUNDLE_HOME={shlex.quote(str(outer))}")
    if path.is_dir() and any(path.iterdir()):
        what = f"{path} ({led}) has other things in it, and is not a root"
        return SUBJECT.problem("no-root", what, fix=f"name an empty or a new folder: {_MAKE} --root FOLDER")
    other = "; or set BUNDLE_HOME to a root, or unset it" if led == "BUNDLE_HOME" else ""
    fix = f"{_MAKE} --root {shlex.quote(str(path))}{other}"
    return SUBJECT.problem("no-root", f"there is no root at {path} ({led})", fix=fix)


def _unreadable(path: Path, closed: Path) -> Finding:
    fix = f"run as the owner, or let others read it: chmod -R a+rX {shlex.quote(str(path))}"
    return SUBJECT.problem("root-unreadable", f"this user may not read {closed}", fix=fix)


def look_at_access(root: Root) -> Iterator[Finding]:
    """Whose the root is, and whether this user may read it and write to it."""
    if sys.platform != "win32":
        yield from judge_owner(root.path, root.path.stat().st_uid, os.geteuid(), others_write=_others_write(root.path))
    places = [place for place in _places(root) if os.path.lexists(place)]
    unreadable = [place for place in places if not os.access(place, os.R_OK | (os.X_OK if place.is_dir() else 0))]
    if unreadable:
        yield _unreadable(root.path, unreadable[0])
    folders = [place for place in places if place.is_dir()]
    closed = [folder for folder in folders if not os.access(folder, os.W_OK)]
    if closed == folders:
        yield SUBJECT.note("root-read-only", "this user may not write to it: enough to infer and serve, not to install")
    elif closed:
        yield SUBJECT.warning(
            "root-partly-writable",
            f"this user may write to the root, and not to {closed[0]}: the next install fails there",
            fix=f"give all of it to one user: sudo chown -R $(id -u) {shlex.quote(str(root.path))}",
        )
    elif not unreadable:
        yield SUBJECT.fine("root-writable", "this user may read it and write to it")


def judge_owner(path: Path, owner: int, user: int, *, others_write: bool) -> Iterator[Finding]:
    """What the owner's number means to this user's."""
    if user == 0 and owner != 0:
        yield SUBJECT.warning(
            "root-of-another",
            f"{path} belongs to user {owner}: what is installed as root here, that user cannot change",
            fix=f"install as its owner: sudo -u '#{owner}' bundle …",
        )
    elif owner != user:
        yield SUBJECT.note("root-of-another", f"{path} belongs to user {owner}, and you are user {user}")
    if others_write:
        yield SUBJECT.warning(
            "root-open-to-all",
            "every user of this machine may write to it, and could put keys and models there",
            fix=f"chmod o-w {shlex.quote(str(path))} {shlex.quote(str(path / 'trust'))}",
        )


def _others_write(path: Path) -> bool:
    return any(each.exists() and each.stat().st_mode & 0o002 for each in (path, path / "trust"))


def _places(root: Root) -> list[Path]:
    """The folders that an install writes to, and the files that every command reads."""
    folders = [root.path, root.generations, root.ledger, root.trust, root.state]
    folders += [root.path / "blobs", root.path / "blobs" / "sha256", root.path / "recipes"]
    try:
        number = root.current()
    except BundleError:  # `generation` has its own word on that
        number = None
    if number is not None:
        folders += [root.generation(number), root.generation(number) / "lines"]
    return [*folders, root.path / MARKER, root.trust / "root.json"]
