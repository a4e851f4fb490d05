"""How this program came here: its version, and the folder of a kit's installer if one put it there."""

import shlex
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

from manifests.kit import INSTALLER

_DISTRIBUTION: Final = "offline-bundle"
_MARKER: Final = ".offline-bundle"
_ENVIRONMENTS: Final = "environments"
UNKNOWN: Final = "(unknown: not installed by pip)"


def program_version() -> str:
    """The version that was installed; where none was, as in a copy of the sources, a word that says so."""
    try:
        return version(_DISTRIBUTION)
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
