"""What a layout is: a function from a model to names. It touches no disk; `generations` carries it out.

* Every path is relative to the generation. Symbolic links are relative and stay within one model's folder.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

from manifests.content import Item, Model, Package
from manifests.digest import Digest
from runtime.lines import Line, signature_key


@dataclass(frozen=True, slots=True)
class Linked:
    """A name for a blob. One that is `copied` shares nothing with it, however large: clients write to it."""

    path: str
    digest: Digest
    size: int
    copied: bool = False


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


def signed_files(item: Item, line: Line, folder: Callable[[Package], str]) -> Iterator[Entry]:
    """The files of every package, in the `folder` that is its own; its signature lies outside of what it signs."""
    for package in item.packages:
        for file in package.files:
            yield Linked(f"{folder(package)}/{file.path}", file.digest, file.size)
        signature = line.signatures.get(signature_key(item, package))
        if signature is not None:
            yield Generated(f"signatures/{item.id}/{package.id}.sig", signature.encode())
