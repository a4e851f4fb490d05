"""Workflows that bundles brought, as they lie in the active generation."""

from dataclasses import dataclass
from pathlib import Path

from runtime import generations
from runtime.layouts import workflows as layout
from runtime.root import Root


@dataclass(frozen=True, slots=True)
class InstalledWorkflow:
    """One workflow of a bundle line, and its file."""

    line: str
    id: str
    path: Path


def installed(root: Root) -> tuple[InstalledWorkflow, ...]:
    """The workflows of the active generation; none before the first install. Errors: `CorruptStoreError`."""
    number = root.current()
    if number is None:
        return ()
    return tuple(
        InstalledWorkflow(name, item.id, root.generation(number) / layout.folder(item, package) / package.files[0].path)
        for name, line in sorted(generations.read(root, number).items())
        for item in line.content.workflows
        for package in item.packages
    )
