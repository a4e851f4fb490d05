"""How this program came here: its version, the folder of a kit's installer if one put it there; and what is beside it.

What is installed in this Python is known by its metadata. Nothing is imported.
"""

import re
import shlex
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, distributions, version
from pathlib import Path
from typing import Final

from manifests.kit import DISTRIBUTION, INSTALLER

_MARKER: Final = ".offline-bundle"
_ENVIRONMENTS: Final = "environments"
UNKNOWN: Final = "(unknown: not installed by pip)"


def program_version() -> str:
    """The version that was installed; where none was, as in a copy of the sources, a word that says so."""
    try:
        return version(DISTRIBUTION)
    except PackageNotFoundError:
        return UNKNOWN


def kit_place(prefix: Path | None = None) -> Path | None:
    """The folder that a kit's installer was given, if this program runs out of an environment in it; else None."""
    environment = Path(sys.prefix) if prefix is None else prefix
    place = environment.parent.parent
    is_one = environment.parent.name == _ENVIRONMENTS and (place / _MARKER).is_file()
    return place if is_one else None


def install_line(kit: Path) -> str:
    """What a person types to install the kit in a folder, to where this program lies if a kit brought it."""
    place = kit_place()
    return shlex.join(["sh", str(kit / INSTALLER), *([str(place)] if place else [])])


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
        for name, which in zip(names, versions, strict=False):
            found.setdefault(normalised(name), which)
    return found


def normalised(name: str) -> str:
    """The one spelling of a distribution's name."""
    return re.sub(r"[-_.]+", "-", name).lower()
