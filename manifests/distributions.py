"""What is installed in this Python: names and versions out of the metadata. Nothing is imported."""

import re
from collections.abc import Sequence
from importlib.metadata import distributions
from pathlib import Path


def installed(path: Sequence[Path] | None = None) -> dict[str, str]:
    """Version by normalised name, of what lies in the folders `path`, by default those of this Python.

    Of two with one name the first counts, as on import; one whose metadata cannot be read is left out.
    """
    found: dict[str, str] = {}
    each = distributions() if path is None else distributions(path=[str(folder) for folder in path])
    for distribution in each:
        try:
            names, versions = (distribution.metadata.get_all(field) or [] for field in ("Name", "Version"))
        except (TypeError, AttributeError, KeyError, UnicodeDecodeError):  # a folder that a broken uninstall left empty
            continue
        for name, version in zip(names, versions, strict=False):
            found.setdefault(normalised(name), version)
    return found


def normalised(name: str) -> str:
    """The one spelling of a distribution's name."""
    return re.sub(r"[-_.]+", "-", name).lower()


def release(version: str) -> tuple[int, ...]:
    """The numbers that a version begins with: `(2, 13, 0)` for `2.13.0+cpu`; none for what is no version."""
    match = re.match(r"\d+(?:\.\d+)*", version)
    return tuple(int(part) for part in match[0].split(".")) if match else ()
