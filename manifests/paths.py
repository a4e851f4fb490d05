"""Paths of files inside a package: what every file system and client of the road can hold.

* A checked path is relative, POSIX, NFC, and can be joined to a folder without leaving it.
* Two paths of one tree never meet on a disk that folds case or normalises Unicode.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Final

from manifests.errors import NamingError, printable

MAXIMUM_PART: Final = 200
"""Bytes of one part: room for the suffixes that clients add, below the 255 of most file systems."""
MAXIMUM_PATH: Final = 900
"""Bytes of a whole path."""

_FORBIDDEN: Final = re.compile(r'[\x00-\x1f\x7f<>:"|?*\\]')
_WINDOWS_DEVICE: Final = re.compile(r"(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(\..*)?", re.IGNORECASE)


def checked_path(text: str) -> str:
    """`text` if it is a safe relative path; a `NamingError` that says why if not."""
    if reason := _objection(text):
        raise NamingError(f"path {printable(text)!r} {reason}", hint="rename the file in the manifest")
    return text


def check_tree(paths: Iterable[str], *, subject: str) -> None:
    """`NamingError` if two of `paths` would be one file somewhere, or if one is a folder of another."""
    for one, other in clashes(paths):
        if fold(one) == fold(other):
            raise NamingError(f"{subject}: {one!r} and {other!r} are one name where case does not count")
        raise NamingError(f"{subject}: {one!r} is a file, and a folder of {other!r}")


def clashes(paths: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Pairs of which the first, case apart, is the second or a folder of it. Sorted by parts, such are neighbours."""
    ordered = sorted((fold(path).split("/"), path) for path in paths)
    for (inner, one), (outer, other) in pairwise(ordered):
        if outer[: len(inner)] == inner:
            yield one, other


def fold(text: str) -> str:
    """The key under which two names clash: case-folded and normalised."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())


def _objection(text: str) -> str:
    if not text or len(text.encode("utf-8", "replace")) > MAXIMUM_PATH:
        return f"must have 1 to {MAXIMUM_PATH} bytes"
    if unicodedata.normalize("NFC", text) != text:
        return "is not in Unicode's normal form C"
    for part in text.split("/"):
        if part in {"", ".", ".."}:
            return "must be relative, with no empty part and no '.' or '..'"
        if _FORBIDDEN.search(part) or not part.isprintable():
            return "has a character that some file system or terminal cannot hold"
        if part[-1] in ". " or part[0] == " ":
            return "has a part that begins or ends in a space, or ends in a dot"
        if _WINDOWS_DEVICE.fullmatch(part):
            return "has a part that is a device name on Windows"
        if len(part.encode()) > MAXIMUM_PART:
            return f"has a part of more than {MAXIMUM_PART} bytes"
    return ""
