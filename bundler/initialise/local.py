"""Folders and files of this machine, as trees of what may be carried.

* Links are followed to files only, and nowhere beyond the folder that was named, but from a hub client's snapshot to
  the `blobs` of the same download. What is hidden, belongs to a tool, is a private key or was made by this program is
  left aside, and said.
* A tree is `whole` if `lock` would find in the folder exactly what was found here, or less by patterns of names. One in
  which the manifest itself will lie is none.
* A download of a hub's client is known by its folders, `models--ORG--NAME/snapshots/REVISION`.
"""

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Final

from bundler.initialise.entries import Item, Tree
from bundler.initialise.unwanted import MAXIMUM_KEY, holds_key, is_secret
from bundler.sources.reference import escape, relative
from manifests.errors import NamingError, SourceError, SourceNotFoundError
from manifests.lock import SUFFIX
from manifests.paths import checked_path, clashes
from manifests.publish import translated

MAXIMUM_FILES: Final = 100_000
_TOOLS: Final = frozenset({"__pycache__", "node_modules", "venv", "env", "__MACOSX", "site-packages"})
_CLUTTER: Final = frozenset({"Thumbs.db", "desktop.ini"})
_OURS: Final = (SUFFIX, ".bundle", ".pem", ".key")
"""Ends of names that this program writes, or that hold a private key."""
_CACHE: Final = "models--"


@dataclass
class _Walk:
    """What a walk gathers."""

    top: Path
    base: Path
    items: list[Item] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    hidden: list[str] = field(default_factory=list)
    caches: list[Path] = field(default_factory=list)
    whole: bool = True
    blobs: Path | None = None
    """Where the links of a hub client's snapshot lead."""

    def leave(self, name: str, *, whole: bool = False) -> None:
        self.left_out.append(name)
        self.whole = self.whole and whole


def trees(given: str, base: Path) -> list[Tree]:
    """What `given` names: a file or folder as a tree, and each download of a hub's client as one of its own.

    `base` is the manifest's folder. Errors: `SourceNotFoundError`, `StorageError`.
    """
    path = Path(given)
    if not path.exists():
        near = "it is a link to nothing" if path.is_symlink() else "name a file, a folder or a source"
        raise SourceNotFoundError(f"{given}: no such file or folder", hint=near)
    if path.is_file():
        return [Tree(_written(path, base), path.name, (_item(path, path.name, base),))]
    if not path.is_dir():
        raise SourceError(f"{given} is neither a file nor a folder")
    if (snapshot := _snapshot_above(path)) is not None:
        return [_snapshot(*snapshot, base)]
    walk = _Walk(path, base, whole=not base.resolve().is_relative_to(path.resolve()))
    with translated(path):
        _enter(walk, path)
    found = [_tree(walk)] if walk.items or not walk.caches else []
    snapshots = (_snapshot_of(cache) for cache in sorted(walk.caches))
    return found + [_snapshot(*snapshot, base) for snapshot in snapshots if snapshot is not None]


def is_repository_download(tree: Tree) -> bool:
    """Whether the tree is a snapshot out of a hub client's cache: its name is then that of the repository."""
    return not tree.whole and "/" in tree.name


def is_hidden(name: str) -> bool:
    """Whether a file of this name is no part of a model: hidden, a tool's, this program's, or a private key."""
    return name.startswith(".") or name in _CLUTTER or name.lower().endswith(_OURS) or is_secret(name)


def leads_out(path: Path, top: Path) -> bool:
    """Whether `path` is a link out of the folder `top`, and not one that a hub's client made."""
    snapshot = _snapshot_above(top)
    blobs = None if snapshot is None else snapshot[1].parent.parent / "blobs"
    return not _is_within(path, top, blobs)


def _is_within(path: Path, top: Path, blobs: Path | None) -> bool:
    target = path.resolve()
    return target.is_relative_to(top.resolve()) or (blobs is not None and target.is_relative_to(blobs.resolve()))


def _tree(walk: _Walk) -> Tree:
    items = sorted(walk.items, key=lambda item: item.path)
    clashing = {other for _, other in clashes(item.path for item in items)}
    for name in sorted(clashing):
        walk.leave(f"{name} (one name with another file where case does not count)")
    return Tree(
        _written(walk.top, walk.base),
        walk.top.absolute().name or "model",
        tuple(item for item in items if item.path not in clashing),
        tuple(sorted(walk.left_out)),
        tuple(sorted(walk.hidden)),
        walk.whole,
    )


def _enter(walk: _Walk, folder: Path) -> None:
    for path in sorted(folder.iterdir()):
        name = path.relative_to(walk.top).as_posix()
        if path.name.startswith(_CACHE) and path.is_dir() and not path.is_symlink():
            walk.caches.append(path)
            walk.whole = False
        elif path.is_symlink() and path.is_dir():
            walk.leave(f"{name}/ (a link to a folder)")
        elif path.is_dir():
            if path.name.startswith(".") or path.name in _TOOLS or path.suffix == ".bundle" or _is_environment(path):
                walk.leave(f"{name}/", whole=_is_unseen_by_lock(path, name))
            else:
                _enter(walk, path)
        else:
            _file(walk, path, name)


def _is_unseen_by_lock(path: Path, name: str) -> bool:
    """What the source of local files leaves out as well: `.git`, and what the hub's client leaves beside a download."""
    return path.name == ".git" or (name == ".cache" and all(inner.name == "huggingface" for inner in path.iterdir()))


def _is_environment(path: Path) -> bool:
    return (path / "pyvenv.cfg").is_file()


def _file(walk: _Walk, path: Path, name: str) -> None:
    if is_hidden(path.name):
        walk.hidden.append(name)
        walk.leave(name, whole=path.is_file() and not path.is_symlink())
        return
    if not path.exists() or not stat.S_ISREG(path.stat().st_mode):
        walk.leave(f"{name} (a link to nothing, or no file)")
        return
    try:
        checked_path(name)
    except NamingError:
        walk.leave(f"{name} (a name that not every file system can hold)")
        return
    if path.is_symlink() and not _is_within(path, walk.top, walk.blobs):
        walk.leave(f"{name} (a link that leads out of the folder)")
        return
    if path.stat().st_size <= MAXIMUM_KEY and holds_key(_head(path, MAXIMUM_KEY)):
        walk.hidden.append(name)
        walk.leave(f"{name} (a private key)", whole=not path.is_symlink())
        return
    walk.items.append(_item(path, name, walk.base))
    if len(walk.items) > MAXIMUM_FILES:
        raise SourceError(f"{walk.top}: more than {MAXIMUM_FILES} files", hint="name the folder of one model")


def _item(path: Path, name: str, base: Path) -> Item:
    return Item(name, path.stat().st_size, _written(path, base), partial(_head, path), path)


def _head(path: Path, limit: int) -> bytes | None:
    try:
        with path.open("rb") as stream:
            return stream.read(limit)
    except OSError:
        return None


def _written(path: Path, base: Path) -> str:
    """`path` as a manifest in `base` names it."""
    text = escape(relative(Path(os.path.abspath(path)), base))  # noqa: PTH100 - links in it stay, `..` do not
    return text if text.startswith("../") else f"./{text}"


def _snapshot_above(path: Path) -> tuple[str, Path] | None:
    """The repository and snapshot that `path` is: the folder of a repository, or of one of its snapshots."""
    absolute = Path(os.path.abspath(path))  # noqa: PTH100 - a snapshot is known by its place, not by its links
    if absolute.name.startswith(_CACHE):
        return _snapshot_of(absolute)
    if absolute.parent.name == "snapshots" and absolute.parent.parent.name.startswith(_CACHE):
        return _repository(absolute.parent.parent), absolute
    return None


def _snapshot_of(cache: Path) -> tuple[str, Path] | None:
    """The snapshot that `refs/main` names; else the last one there is."""
    snapshots = sorted(_folders(cache / "snapshots"))
    named = (_head(cache / "refs" / "main", 100) or b"").decode("ascii", "replace").strip()
    chosen = next((path for path in snapshots if path.name == named), snapshots[-1] if snapshots else None)
    return None if chosen is None else (_repository(cache), chosen)


def _folders(path: Path) -> Iterator[Path]:
    if path.is_dir() and not path.is_symlink():
        yield from (inner for inner in path.iterdir() if inner.is_dir() and not inner.is_symlink())


def _repository(cache: Path) -> str:
    return cache.name.removeprefix(_CACHE).replace("--", "/")


def _snapshot(repository: str, path: Path, base: Path) -> Tree:
    """A snapshot is made of links that lead out of its folder, which a `source` may not have: it is named by files."""
    walk = _Walk(path, base, whole=False, blobs=path.parent.parent / "blobs")
    with translated(path):
        _enter(walk, path)
    return replace(_tree(walk), name=repository, whole=False)
