"""What a layout is: a function from a model to names. It touches no disk; `generations` carries it out.

* Every path is relative to the generation. Symbolic links are relative and stay within one model's folder.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

from manifests.content import Model
from manifests.digest import Digest
from runtime.lines import Line


@dataclass(frozen=True, slots=True)
class Linked:
    """A name for a blob."""

    path: str
    digest: Digest
    size: int


@dataclass(frozen=True, slots=True)
class Generated:
    """A small file that is made here: a copy of its own."""

    path: str
    content: bytes


@dataclass(frozen=True, slots=True)
class Pointer:
    """A symbolic link, and the blob that stands in its place where there are none."""

    path: str
    target: str
    instead: Linked


Entry: TypeAlias = Linked | Generated | Pointer


Layout: TypeAlias = Callable[[Model, Line], Iterator[Entry]]
"""One family of clients: everything that they look for, for one model."""
