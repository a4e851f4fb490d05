"""Kits: `kits/<id>/<package>/`, as `bundle kit` wrote them; the installer in there runs where it lies."""

from collections.abc import Iterator

from manifests.content import Package, Wheels
from runtime.layouts.base import Entry, Generated, Linked
from runtime.lines import Line, signature_key


def folder(item: Wheels, package: Package) -> str:
    """Where the files of a kit lie, relative to the generation."""
    return f"kits/{item.id}/{package.id}"


def entries(item: Wheels, line: Line) -> Iterator[Entry]:
    """The files of every kit, and its signature."""
    for package in item.packages:
        for file in package.files:
            yield Linked(f"{folder(item, package)}/{file.path}", file.digest, file.size)
        signature = line.signatures.get(signature_key(item, package))
        if signature is not None:
            yield Generated(f"signatures/{item.id}/{package.id}.sig", signature.encode())
