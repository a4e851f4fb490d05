"""Putting a blob under another name: a hard link where the file system allows it, else a reflink, else a copy.

* Whatever way is taken, the name has the blob's bytes; the way is counted, so that a disk plan can be honest.
"""

import os
import shutil
import sys
from collections import Counter
from enum import StrEnum
from pathlib import Path
from typing import Final

from manifests.publish import LINK_REFUSED, translated

_MODE: Final = 0o644
_FICLONE: Final = 0x40049409


class Way(StrEnum):
    """How a name came to have its bytes."""

    HARD_LINK = "hard link"
    REFLINK = "reflink"
    COPY = "copy"


class Placer:
    """Places blobs, and counts the ways."""

    def __init__(self) -> None:
        self.ways: Counter[Way] = Counter()

    def link(self, source: Path, target: Path) -> None:
        """Give `source` the further name `target`, without taking space if that can be had."""
        with translated(target):
            try:
                os.link(source, target)
                self.ways[Way.HARD_LINK] += 1
            except OSError as error:
                if error.errno not in LINK_REFUSED:
                    raise
                self._duplicate(source, target)

    def copy(self, source: Path, target: Path) -> None:
        """A copy of its own, that a client may rewrite in place; on the disk when this returns."""
        with translated(target):
            self._duplicate(source, target)

    def _duplicate(self, source: Path, target: Path) -> None:
        with source.open("rb") as reader, target.open("xb") as writer:
            if _reflinked(reader.fileno(), writer.fileno()):
                self.ways[Way.REFLINK] += 1
            else:
                shutil.copyfileobj(reader, writer, 1 << 20)
                self.ways[Way.COPY] += 1
            writer.flush()
            if sys.platform != "win32":
                os.fchmod(writer.fileno(), _MODE)
            os.fsync(writer.fileno())


def _reflinked(source: int, target: int) -> bool:
    if sys.platform == "win32":
        return False
    import fcntl  # noqa: PLC0415 - does not exist on Windows

    try:
        fcntl.ioctl(target, _FICLONE, source)
    except OSError:
        return False
    return True
