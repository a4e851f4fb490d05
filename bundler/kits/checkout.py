"""The files of the program out of an editable install: a checkout, in which anything may lie beside them.

* Taken are Python files, and the other files that the program has, by their names; never a symbolic link.
* What editors, caches and desktops leave is passed over; any other file is an error, for it may be somebody's secret.
* The description of the last install must still be that of `pyproject.toml`.
"""

import email
import importlib.metadata
import json
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, Final
from urllib.parse import urlsplit
from urllib.request import url2pathname

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from manifests.errors import SourceError
from manifests.publish import translated

_OURS: Final = re.compile(
    r".+\.py|(bundler|manifests|runtime)/py\.typed"
    r"|bundler/kits/installer/(README\.txt|install\.sh|install\.ps1)"
    r"|manifests/FORMAT\.md|manifests/decisions/[0-9]{4}-[a-z0-9-]+\.md|manifests/examples/(Dockerfile|[a-z]+\.yaml)"
)
_COMPILED: Final = frozenset({".pyc", ".pyo"})
_EDITORS: Final = frozenset({".bak", ".orig", ".rej", ".swo", ".swp"})
_AGAIN: Final = "describe it anew: pip install -e . in that folder"


def find(distribution: importlib.metadata.Distribution) -> Path | None:
    """The folder that `distribution` is an editable install of, by pip's note on its origin (PEP 610)."""
    try:
        origin = json.loads(distribution.read_text("direct_url.json") or "{}")
    except ValueError:
        return None
    facts = origin.get("dir_info") if isinstance(origin, dict) else None
    if not isinstance(facts, dict) or facts.get("editable") is not True:
        return None
    return Path(url2pathname(urlsplit(str(origin.get("url"))).path)).resolve()


def files(folder: Path, package: str) -> Iterator[tuple[str, bytes]]:
    """Path and content of each file of a package. Errors: `SourceError` for one that is not the program's."""
    with translated(folder):
        yield from _files(folder / package, PurePosixPath(package))


def _files(folder: Path, name: PurePosixPath) -> Iterator[tuple[str, bytes]]:
    with os.scandir(folder) as entries:
        found = sorted(entries, key=lambda entry: entry.name)
    for entry in found:
        path = name / entry.name
        if is_leftover(path):
            continue
        if entry.is_symlink():
            raise SourceError(f"{entry.path} is a symbolic link, and a kit takes files only", hint="remove it")
        if entry.is_dir():
            yield from _files(folder / entry.name, path)
        elif entry.is_file() and _OURS.fullmatch(str(path)):
            yield str(path), read(folder / entry.name)
        else:
            raise SourceError(
                f"{entry.path} is not a file of this program, and would go along in the kit",
                hint="move it out of the folder; what the program has are Python files and few others",
            )


def is_leftover(path: PurePosixPath) -> bool:
    """Whether `path` is a compiled file, or what editors and desktops leave."""
    hidden = any(part == "__pycache__" or part.startswith(".") for part in path.parts)
    return hidden or path.suffix in _COMPILED | _EDITORS or path.name.endswith("~")


def read(path: Path) -> bytes:
    """The whole file. Errors: `StorageError`."""
    with translated(path):
        return path.read_bytes()


def check_description(folder: Path, metadata: bytes) -> None:
    """`SourceError` if the METADATA of the install is not what `pyproject.toml` says by now."""
    path = folder / "pyproject.toml"
    try:
        wanted = _described(tomllib.loads(read(path).decode())["project"])
        installed = _installed(metadata)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise SourceError(f"{path} or its last install cannot be understood: {error}", hint=_AGAIN) from error
    for what, value in wanted.items():
        if installed[what] != value:
            raise SourceError(f"{path} has another {what} than at its last install", hint=_AGAIN)


def _described(project: Mapping[str, Any]) -> dict[str, object]:
    """What `pyproject.toml` says, in the words of METADATA."""
    extras: Mapping[str, list[str]] = project.get("optional-dependencies", {})
    required = [Requirement(text) for text in project.get("dependencies", ())]
    for extra, texts in extras.items():
        required += [_of_extra(Requirement(text), canonicalize_name(extra)) for text in texts]
    return _facts(project["version"], project.get("requires-python", ""), required, extras)


def _of_extra(requirement: Requirement, extra: str) -> Requirement:
    condition = f"({requirement.marker}) and " if requirement.marker else ""
    requirement.marker = None
    return Requirement(f"{requirement} ; {condition}extra == '{extra}'")


def _installed(metadata: bytes) -> dict[str, object]:
    fields = email.message_from_bytes(metadata)
    required = [Requirement(str(text)) for text in fields.get_all("Requires-Dist", [])]
    extras = dict.fromkeys(map(str, fields.get_all("Provides-Extra", [])))
    return _facts(str(fields["Version"]), str(fields.get("Requires-Python", "")), required, extras)


def _facts(
    version: str, pythons: str, requirements: list[Requirement], extras: Mapping[str, object]
) -> dict[str, object]:
    return {
        "version": Version(version),
        "range of Pythons": SpecifierSet(pythons),
        "list of dependencies": frozenset(map(_spelled, requirements)),
        "list of extras": frozenset(map(canonicalize_name, extras)),
    }


def _spelled(requirement: Requirement) -> tuple[object, ...]:
    """What is compared of a requirement: builders set the parentheses of a marker in ways of their own."""
    marker = re.sub("[()]", "", str(requirement.marker or ""))
    name, extras = canonicalize_name(requirement.name), frozenset(map(canonicalize_name, requirement.extras))
    return name, extras, requirement.specifier, requirement.url, marker
