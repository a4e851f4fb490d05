"""The builder's store: whether it is one, whether this user may write to it, and what lies unfinished in it."""

import os
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from bundler.housekeeping.shelf import Shelf
from manifests import canonical
from manifests.errors import FormatError, UnsupportedFormatError, listing
from manifests.finding import Finding, Subject
from manifests.store import FORMAT, MARKER, PARTIAL, check_marker

SUBJECT: Final = Subject("store")


def is_there(path: Path) -> bool:
    """Whether `path` has the mark of a store that this user can see."""
    return os.path.isfile(path / MARKER)  # noqa: PTH113 - False, not an error, for a folder that may not be looked into


def look(path: Path, *, wanted: bool) -> Iterator[Finding]:
    """Whether `path` is a store, or can become one, if it is `wanted`: a site that could build may never do so."""
    if path.exists() and not path.is_dir():
        yield SUBJECT.problem("store-is-a-file", f"{path} is a file", fix="name a folder with --store or BUNDLE_STORE")
    elif not path.is_dir() or not any(path.iterdir()):
        yield SUBJECT.note("no-store", f"there is no store at {path} yet; `bundle lock` makes it")
        yield from _above(path, wanted=wanted)
    elif not (path / MARKER).is_file():
        what = f"{path} has other things in it, and is not a store"
        yield SUBJECT.warning("no-store", what, fix="name an empty or a new folder with --store or BUNDLE_STORE")
    else:
        yield _format(path)
        yield _access(path)
        yield from _unfinished(path / PARTIAL)
        yield from _outdated(path)


def _format(path: Path) -> Finding:
    try:
        check_marker(path)
    except UnsupportedFormatError as error:
        fix = "name another with --store, or bring the newer program"
        return SUBJECT.problem("store-format", error.message, fix=fix)
    except FormatError as error:
        marker, mark = shlex.quote(str(path / MARKER)), canonical.encode({"format": FORMAT}).decode()
        what = f"the mark of the store is damaged: {error.message}; what else is in it checks itself"
        return SUBJECT.problem("store-marker", what, fix=f"rm -f {marker} && printf '{mark}' > {marker}")
    return SUBJECT.fine("store", str(path))


def _access(path: Path) -> Finding:
    folders = [each for each in (path, *(path / name for name in (PARTIAL, "chunks", "blobs"))) if each.exists()]
    if closed := [each for each in folders if not os.access(each, os.R_OK | os.W_OK | os.X_OK)]:
        fix = f"run as its owner, or name another store: sudo chown -R $(id -u) {shlex.quote(str(path))}"
        return SUBJECT.problem("store-closed", f"this user may not read or write {closed[0]}", fix=fix)
    return SUBJECT.fine("store-writable", "this user may read it and write to it")


def _above(path: Path, *, wanted: bool) -> Iterator[Finding]:
    folder = next(each for each in (path, *path.parents) if each.exists())
    if not os.access(folder, os.W_OK | os.X_OK):
        what, fix = f"this user may not make it: {folder} cannot be written to", "name one with --store or BUNDLE_STORE"
        if wanted:
            yield SUBJECT.problem("store-closed", what, fix=fix)
        else:
            yield SUBJECT.note("store-closed", what, fix=fix)


def _unfinished(folder: Path) -> Iterator[Finding]:
    if not folder.is_dir():
        return
    sizes = [size for entry in folder.iterdir() if entry.is_file() and (size := entry.stat().st_size)]
    if sizes:
        what = f"unfinished downloads: {len(sizes)}, {sum(sizes):,} bytes; the next lock or build goes on with them"
        yield SUBJECT.note(
            "partial-downloads",
            what,
            fix="those of the last 7 days stay when `bundle store gc` cleans the store",
        )


def _outdated(path: Path) -> Iterator[Finding]:
    """Chunks that another libzstd made are not carried: they would not be the same bytes."""
    if names := [folder.name for folder in Shelf(path).profiles() if not folder.live]:
        what = f"chunks of another libzstd: the next build encodes anew what it needs of {listing(names)}"
        yield SUBJECT.note("store-outdated", what, fix="bundle store gc --dry-run")
