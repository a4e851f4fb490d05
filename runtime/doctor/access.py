"""What this user may read of a root and write to, whose it is, and who else may write to it.

* Asked of the kernel, never tried: nothing is opened and nothing is made.
"""

import os
import shlex
import stat
import sys
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from manifests.errors import BundleError, listing
from manifests.finding import Finding, Subject
from runtime.root import Root
from runtime.settings import MARKER

SUBJECT: Final = Subject("root")
_MOST: Final = 3


def look(root: Root) -> Iterator[Finding]:
    """Whose the root is, and whether this user may read it and write to it."""
    if sys.platform != "win32":
        yield from judge_owner(root.path, root.path.stat().st_uid, os.geteuid())
        if unguarded := sorted(_open_to_all(root)):
            yield _unguarded(root, unguarded)
    places = [place for place in _folders(root) if os.path.lexists(place)]
    shut = {where for place in (*places, *_files(root)) if (where := closed(place))}
    if shut:
        yield unreadable(root.path, shut)
    for place in places:
        if closed(place) is None and not place.is_dir():
            name = shlex.quote(str(place))
            what = f"{place} is not a folder, and must be one: the next install fails there"
            yield SUBJECT.problem("root-not-a-folder", what, fix=f"mv {name} {name}.aside")
    yield from _judge_writing(root, [place for place in places if os.path.isdir(place)], is_readable=not shut)  # noqa: PTH112 - False for a folder that may not be looked into


def closed(path: Path) -> Path | None:
    """What this user may not enter on the way to `path`, or `path` if it may not be read; None if that can be done.

    None as well for what is not there.
    """
    real = Path(os.path.realpath(path))
    for folder in reversed(real.parents):
        if not os.access(folder, os.X_OK):
            return folder if os.path.isdir(folder) else None  # noqa: PTH112 - False for a folder that may not be looked into
    if not os.access(real, os.F_OK):
        return None
    return None if os.access(real, os.R_OK | (os.X_OK if real.is_dir() else 0)) else real


def unreadable(root: Path, shut: Collection[Path]) -> Finding:
    """That these places, in the root or above it, are closed to this user."""
    named = listing(map(str, sorted(shut)), most=_MOST)
    above = Path(os.path.commonpath(shut))
    is_inside = above.is_relative_to(os.path.realpath(root))
    how = f"chmod {'-R a+rX' if is_inside else 'a+x'} {shlex.quote(str(above))}"
    return SUBJECT.problem("root-unreadable", f"this user may not read {named}", fix=f"as its owner: {how}")


def judge_owner(path: Path, owner: int, user: int) -> Iterator[Finding]:
    """What the owner's number means to this user's."""
    if user == 0 and owner != 0:
        yield SUBJECT.warning(
            "root-of-another",
            f"{path} belongs to user {owner}: what is installed as root here, that user cannot change",
            fix=f"install as its owner: sudo -u '#{owner}' bundle …",
        )
    elif owner != user:
        yield SUBJECT.note("root-of-another", f"{path} belongs to user {owner}, and you are user {user}")


def _judge_writing(root: Root, folders: list[Path], *, is_readable: bool) -> Iterator[Finding]:
    denied = [folder for folder in folders if not os.access(folder, os.W_OK)]
    if denied == folders:
        yield SUBJECT.note("root-read-only", "this user may not write to it: enough to infer and serve, not to install")
    elif denied:
        yield SUBJECT.warning(
            "root-partly-writable",
            f"this user may write to the root, and not to {denied[0]}: the next install fails there",
            fix=f"give all of it to one user: sudo chown -R $(id -u) {shlex.quote(str(root.path))}",
        )
    elif is_readable:
        yield SUBJECT.fine("root-writable", "this user may read it and write to it")


def _unguarded(root: Root, places: list[Path]) -> Finding:
    named = listing(map(str, places), most=_MOST)
    what = f"every user of this machine may write to it, and could put keys and models there: {named}"
    return SUBJECT.warning("root-open-to-all", what, fix=f"chmod -R o-w {shlex.quote(str(root.path))}")


def _open_to_all(root: Root) -> set[Path]:
    """What everybody may write to: of the root's places, of its shards, and of the active generation."""
    places = {*_folders(root), *_files(root)}
    for shards in (root.recipes, root.blobs, root.generations):
        with suppress(OSError):  # not there, or out of this user's sight
            places.update(shards.iterdir())
    if (folder := _active(root)) is not None:
        for path, folders, files in os.walk(folder):
            places.update(Path(path, name) for name in (*folders, *files))
    return {place for place in places if _is_open(place)}


def _is_open(path: Path) -> bool:
    try:
        mode = path.lstat().st_mode
    except OSError:  # not there, or out of this user's sight
        return False
    return bool(mode & stat.S_IWOTH) and not stat.S_ISLNK(mode)


def _folders(root: Root) -> list[Path]:
    """The folders that an install writes to, and those that are read first."""
    folders = [root.path, root.generations, root.ledger, root.trust, root.state]
    folders += [root.blobs.parent, root.blobs, root.recipes]
    if (active := _active(root)) is not None:
        folders += [active, active / "lines"]
    return folders


def _files(root: Root) -> list[Path]:
    """The files that every command reads."""
    return [root.path / MARKER, root.trust_file]


def _active(root: Root) -> Path | None:
    try:
        number = root.current()
    except BundleError:  # `generation` has its own word on that
        return None
    return None if number is None else root.generation(number)
