"""The build extra: what of it is here, and whether libzstd is the one that makes the same bytes everywhere."""

import re
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, requires
from typing import Final

import zstandard

from bundler.installation import normalised
from manifests.errors import listing
from manifests.finding import Finding, Subject
from manifests.kit import DISTRIBUTION

SUBJECT: Final = Subject("build")

_REQUIREMENT: Final = re.compile(r"""([A-Za-z0-9._-]+)([^;]*); *extra *== *['"]build['"]""")
_INSTALL: Final = "pip install 'offline-bundle[build]'"


def look(present: Mapping[str, str]) -> Iterator[Finding]:
    """What of the extra is missing among `present`, which maps distributions to versions."""
    wanted = required()
    missing = [name for name in wanted if name not in present]
    if not wanted:
        yield SUBJECT.note("no-metadata", "this program was not installed by pip: what it needs cannot be said")
    elif missing:
        what = f"this machine cannot lock or build: missing are {listing(missing)}"
        yield SUBJECT.note("no-build-extra", what, fix=_INSTALL)
    else:
        yield SUBJECT.fine("build-extra", "this machine can lock and build")
    yield from judge_zstandard(wanted.get("zstandard", ""), zstandard.__version__, zstandard.ZSTD_VERSION)


def is_complete(present: Mapping[str, str]) -> bool:
    """Whether all of the extra is here."""
    return bool(wanted := required()) and wanted.keys() <= present.keys()


def required(lines: Sequence[str] | None = None) -> dict[str, str]:
    """What the extra asks for, name to version specifier, out of our own metadata; nothing if there is none."""
    if lines is None:
        try:
            lines = requires(DISTRIBUTION) or []
        except PackageNotFoundError:
            lines = []
    found = [match for line in lines if (match := _REQUIREMENT.fullmatch(line.strip()))]
    return {normalised(match[1]): match[2].strip() for match in found}


def judge_zstandard(pinned: str, version: str, libzstd: Sequence[int]) -> Iterator[Finding]:
    """Whether `version` is the pinned one: the bytes of a bundle depend on its libzstd."""
    library = ".".join(map(str, libzstd))
    if pinned.startswith("==") and pinned.removeprefix("==") != version:
        yield SUBJECT.warning(
            "zstandard-differs",
            f"zstandard {version} (libzstd {library}) is here, and {pinned} is pinned: "
            "bundles built here are right, and not the same bytes as elsewhere",
            fix=f"pip install 'zstandard{pinned}'",
        )
    else:
        yield SUBJECT.fine("zstandard", f"zstandard {version} with libzstd {library}")
