"""Workflows: where Roboflow's clients read them by id, and `workflows/<id>/` for people and for the signature.

* Regular files: those clients follow no link. Copies: a client that is not offline writes there what its service says
  by then, and must not write to a blob. The workspace `local` never asks a service, even online; the others are
  found without one by a client that is offline.
"""

from collections.abc import Iterator

from manifests.content import Package, Workflow
from runtime.layouts.base import Entry, Linked, signed_files
from runtime.lines import Line


def folder(item: Workflow, package: Package) -> str:  # noqa: ARG001 - a workflow has one package, and no folder for it
    """Where the file of a workflow lies, relative to the generation."""
    return f"workflows/{item.id}"


def entries(item: Workflow, line: Line) -> Iterator[Entry]:
    """The file of a workflow, under both names, and its signature."""
    yield from signed_files(item, line, lambda package: folder(item, package))
    for file in item.packages[0].files:
        yield Linked(f"roboflow/workflow/{item.parsed.cache_path}", file.digest, file.size, copied=True)
