"""The file system under a folder: what it can hold, whether it is still there tomorrow, and how much is free.

* What kind it is comes from the kernel's list of mounts; where there is none, it is unknown, and that is no fault.
* `judge` knows only facts: a file system that is not here can be judged all the same.
"""

import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from manifests.finding import Finding, Subject

MOUNTS: Final = Path("/proc/self/mountinfo")
LITTLE: Final = 1 << 30
"""Bytes free under which there is a warning."""
TOO_LITTLE: Final = 64 << 20
FEW_FILES: Final = 10_000
TOO_FEW_FILES: Final = 100
UNKNOWN: Final = "unknown"

_MOUNTS_LIMIT: Final = 16 << 20
_ESCAPE: Final = re.compile(r"\\([0-7]{3})")
_TEMPORARY: Final = (Path("/tmp"), Path("/var/tmp"))  # noqa: S108 - looked for, not written to
_MEMORY: Final = frozenset({"tmpfs", "ramfs"})
_WITHOUT_LINKS: Final = frozenset({"vfat", "msdos", "exfat"})
_READ_ONLY_KINDS: Final = frozenset({"squashfs", "iso9660", "udf", "erofs"})
_ON_A_NETWORK: Final = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "9p", "ceph", "fuse.sshfs", "fuse.glusterfs", "lustre"}
)
_FOREIGN: Final = frozenset({"ntfs", "ntfs3", "fuseblk", "hfsplus"})
ROOT_ELSEWHERE: Final = "name a folder on a disk, as in `--root /var/lib/bundle`, and install there"
STORE_ELSEWHERE: Final = "name a folder on a disk with --store or BUNDLE_STORE"


@dataclass(frozen=True, slots=True)
class Filesystem:
    """What is under a folder. Sizes are bytes; `free_files` is None where names are not counted."""

    path: Path
    kind: str
    free: int
    free_files: int | None
    read_only: bool
    writable: bool
    """Whether this user may write to the folder."""


def look(subject: Subject, path: Path, *, elsewhere: str) -> Iterator[Finding]:
    """The findings about the file system under `path`, or under the folder in which it would be made.

    `elsewhere` is how to name another place.
    """
    yield from judge(subject, observe(path, _mounts()), elsewhere=elsewhere)


def observe(path: Path, mounts: str) -> Filesystem:
    """The facts, `mounts` being the kernel's list. Errors: `OSError`."""
    folder = Path(os.path.realpath(path))
    while not os.path.exists(folder) and folder != folder.parent:  # noqa: PTH110 - False for what may not be seen
        folder = folder.parent
    kind, options = _mounted(folder, mounts)
    free, free_files = _free(folder)
    return Filesystem(
        path=Path(os.path.realpath(path)),
        kind=kind,
        free=free,
        free_files=free_files,
        read_only="ro" in options,
        writable=os.access(folder, os.W_OK | os.X_OK),
    )


def judge(subject: Subject, found: Filesystem, *, elsewhere: str) -> Iterator[Finding]:
    """What these facts mean for a root or a store."""
    yield _judge_kind(subject, found, elsewhere)
    if found.kind not in _MEMORY and any(each in (found.path, *found.path.parents) for each in _TEMPORARY):
        yield subject.warning(
            f"{subject.name}-under-tmp",
            f"{found.path} lies where the system clears away: it may be gone after a reboot",
            fix=elsewhere,
        )
    if found.read_only and found.kind not in _READ_ONLY_KINDS:
        yield subject.note(f"{subject.name}-mounted-read-only", "mounted read-only: it can be read, and nothing added")
    if found.writable and not found.read_only:
        yield _judge_space(subject, found)
        yield from _judge_names(subject, found)


def _judge_kind(subject: Subject, found: Filesystem, elsewhere: str) -> Finding:
    name = subject.name
    if found.kind in _MEMORY:
        return subject.warning(
            f"{name}-on-tmpfs", f"{found.path} is on {found.kind}: it is gone after a reboot", fix=elsewhere
        )
    if found.kind == "overlay":
        return subject.warning(
            f"{name}-on-overlay",
            f"{found.path} is in the upper layer of an overlay: a container's is gone with the container",
            fix="mount a volume there, as in `docker run -v bundle:/var/lib/bundle …`",
        )
    if found.kind in _WITHOUT_LINKS:
        return subject.warning(
            f"{name}-without-links",
            f"{found.kind} has no links and no owners: every file is a copy, and vfat holds none over 4 GB",
            fix=elsewhere,
        )
    if found.kind in _ON_A_NETWORK:
        return subject.note(
            f"{name}-on-network", f"{found.kind} is another machine's disk: locks and speed depend on it"
        )
    if found.kind in _FOREIGN:
        return subject.note(f"{name}-on-foreign", f"{found.kind} keeps owners and links only by its mount's options")
    if found.kind in _READ_ONLY_KINDS:
        return subject.note(
            f"{name}-on-image", f"{found.kind} is read-only by nature: it can be read, and nothing added"
        )
    return subject.fine(f"{name}-filesystem", f"{found.path} is on a file system of kind {found.kind}")


def _judge_space(subject: Subject, found: Filesystem) -> Finding:
    said = f"{found.free / 1e9:.1f} GB free" if found.free >= 10**9 else f"{found.free / 1e6:.0f} MB free"
    if found.free >= LITTLE:
        return subject.fine(f"{subject.name}-space", said)
    fix = f"free some space, or move it to a larger disk: {found.path}"
    if found.free < TOO_LITTLE:
        return subject.problem(f"{subject.name}-full", f"the disk is as good as full: {said}", fix=fix)
    return subject.warning(f"{subject.name}-space", f"little room: {said}", fix=fix)


def _judge_names(subject: Subject, found: Filesystem) -> Iterator[Finding]:
    if found.free_files is None or found.free_files >= FEW_FILES:
        return
    what = f"the file system can hold {found.free_files} further files"
    fix = "remove many small files there (`df -i` shows it), or make a file system with more inodes"
    if found.free_files < TOO_FEW_FILES:
        yield subject.problem(f"{subject.name}-inodes", what, fix=fix)
    else:
        yield subject.warning(f"{subject.name}-inodes", what, fix=fix)


def _mounts() -> str:
    try:
        with MOUNTS.open("rb") as stream:
            return stream.read(_MOUNTS_LIMIT).decode("utf-8", "surrogateescape")
    except OSError:  # another system than Linux, or a container that hides it
        return ""


def _mounted(folder: Path, mounts: str) -> tuple[str, frozenset[str]]:
    """Kind and options of what is mounted over `folder`; of two at one place, the later one covers the earlier."""
    best: tuple[int, str, frozenset[str]] = (-1, UNKNOWN, frozenset())
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        fields, rest = before.split(" "), after.split(" ")
        if len(fields) < 6 or len(rest) < 3:
            continue
        point = Path(_ESCAPE.sub(lambda match: chr(int(match[1], 8)), fields[4]))
        if point in (folder, *folder.parents) and len(point.parts) >= best[0]:
            best = len(point.parts), rest[0], frozenset(fields[5].split(",")) | frozenset(rest[2].split(","))
    return best[1], best[2]


def _free(folder: Path) -> tuple[int, int | None]:
    """Bytes and names that this user may still add."""
    if sys.platform == "win32":
        import shutil  # noqa: PLC0415 - only there

        return shutil.disk_usage(folder).free, None
    status = os.statvfs(folder)
    return status.f_bavail * status.f_frsize, status.f_favail if status.f_files else None
