"""The version of this program."""

from importlib.metadata import PackageNotFoundError, version
from typing import Final

_DISTRIBUTION: Final = "offline-bundle"
UNKNOWN: Final = "(unknown: not installed by pip)"


def program_version() -> str:
    """The version that was installed; where none was, as in a copy of the sources, a word that says so."""
    try:
        return version(_DISTRIBUTION)
    except PackageNotFoundError:
        return UNKNOWN
