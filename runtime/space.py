"""Free space: asked about before the first byte is written, so that a full disk is an answer and no accident."""

import shutil
from pathlib import Path
from typing import Final

from manifests.errors import DiskFullError, size
from manifests.publish import translated

_MARGIN: Final = 16 << 20
"""Bytes that are left free for names and small files."""


def check_space(needed: int, folder: Path, *, purpose: str, hint: str) -> None:
    """`DiskFullError` if `needed` bytes have no room where `folder` is, or is to be made."""
    with translated(folder):
        there = next(each for each in (folder, *folder.parents) if each.exists())
        free = shutil.disk_usage(there).free
    if needed + _MARGIN > free:
        raise DiskFullError(
            f"{size(needed)} are to be {purpose}, {size(free)} are free in {folder}, {size(_MARGIN)} must stay free",
            hint=hint,
            facts={"needed": needed, "free": free, "stays_free": _MARGIN},
        )
