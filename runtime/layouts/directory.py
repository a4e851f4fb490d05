"""Plain directories: `plain/<id>/` with the files of the default package, as AIM, vLLM and people expect them.

Further packages lie under `plain/.packages/<id>/<package>/`; model signatures under `signatures/`, outside of what they
sign, because an extra file inside would break it.
"""

from collections.abc import Iterator
from functools import partial
from typing import Final

from manifests.content import Model, Package
from runtime.layouts.base import Entry, signed_files
from runtime.lines import Line

NAME: Final = "directory"


def folder(model: Model, package: Package) -> str:
    """Where the files of a package lie, relative to the generation."""
    return f"plain/{model.id}" if package.default else f"plain/.packages/{model.id}/{package.id}"


def entries(model: Model, line: Line) -> Iterator[Entry]:
    """The files of every package, and its model signature."""
    return signed_files(model, line, partial(folder, model))
