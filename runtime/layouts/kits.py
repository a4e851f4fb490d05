"""Kits: `kits/<id>/<package>/`, as `bundle kit` wrote them; the installer in there runs where it lies."""

from collections.abc import Iterator
from functools import partial

from manifests.content import Package, Wheels
from runtime.layouts.base import Entry, signed_files
from runtime.lines import Line


def folder(item: Wheels, package: Package) -> str:
    """Where the files of a kit lie, relative to the generation."""
    return f"kits/{item.id}/{package.id}"


def entries(item: Wheels, line: Line) -> Iterator[Entry]:
    """The files of every kit, and its signature."""
    return signed_files(item, line, partial(folder, item))
