"""Whether there is room on a disk, asked before the first byte is written."""

import shutil
from pathlib import Path

from manifests.errors import DiskFullError
from manifests.errors import size as readable
from manifests.publish import translated


def check_room(folder: Path, size: int, *, subject: str) -> None:
    """Return if `size` more bytes fit onto the disk of `folder`, which need not exist yet; else `DiskFullError`."""
    place = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    with translated(place):
        free = shutil.disk_usage(place).free
    if size > free:
        raise DiskFullError(
            f"{subject}: {readable(size)} are needed on the disk of {folder}, and {readable(free)} are free",
            hint="free some space, or name a store on a larger disk with --store, and run the same command again",
            facts={"needed": size, "free": free},
        )
