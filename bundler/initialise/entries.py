"""What a manifest will say of a model, before it is text.

* Values and notes may hold whatever a file or its name says: only `text` writes them, and escapes them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

CHOOSE = "the name that clients ask for: choose it"


@dataclass(frozen=True, slots=True)
class Noted:
    """A value and the comment behind it."""

    value: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Package:
    """One loadable variant: `files` maps each path to its source; `notes` stand above it."""

    files: Mapping[str, str]
    backend: str = ""
    quantization: Noted | None = None
    id: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Model:
    """One model: a `source`, or `packages`. `id` is what it would like to be called; `notes` stand above it.

    A task without a value is the source's to say; with `unpack`, the source is an archive and its members the files.
    """

    id: str
    task: Noted
    architecture: Noted | None = None
    license: Noted | None = None
    source: str = ""
    include: tuple[Noted, ...] = ()
    exclude: tuple[Noted, ...] = ()
    unpack: bool = False
    packages: tuple[Package, ...] = ()
    notes: tuple[str, ...] = ()
    numbered: bool = True
    """Whether the id gets a number at its end, as clients write versions: `vehicles/1`."""
    id_note: str = CHOOSE


@dataclass(frozen=True, slots=True)
class Item:
    """A file that was found: its path in what was named, its size in bytes, and how a manifest names it."""

    path: str
    size: int
    source: str
    read: Callable[[int], bytes | None] = field(repr=False)
    """Its first bytes, at most so many; None where they cannot be had."""
    local: Path | None = None

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rpartition("/")[2]

    @property
    def folder(self) -> str:
        """The path without its last part; empty at the top."""
        return self.path.rpartition("/")[0]

    @property
    def stem(self) -> str:
        """The name without its last suffix."""
        return self.name.rpartition(".")[0] or self.name

    @property
    def suffix(self) -> str:
        """The last suffix in small letters, with its dot."""
        return Path(self.name).suffix.lower()


@dataclass(frozen=True, slots=True)
class Tree:
    """A folder, prefix or repository: its files sorted by path, and what of it was left aside, with the reason.

    `whole` says whether a manifest may name it as one `source`; `name` is what it is called, as a model might be.
    """

    source: str
    name: str
    files: tuple[Item, ...]
    left_out: tuple[str, ...] = ()
    hidden: tuple[str, ...] = ()
    """Files that a `source` would carry and nobody wants: they are excluded by pattern."""
    whole: bool = True


@dataclass(frozen=True, slots=True)
class Draft:
    """A manifest to be: its text, files that it needs beside it, and what a person should hear."""

    text: str
    beside: Mapping[str, bytes] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
