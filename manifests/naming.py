"""Ids, aliases, package ids and line names: the rules that both sides apply, and what clients derive from them.

* An id is one to eight parts of `[A-Za-z0-9._-]`, joined by `/`; it is a safe path as it stands.
* No id is the folder of another, and no two meet where case does not count.
"""

import hashlib
import re
from collections.abc import Iterable
from typing import Final

from manifests.errors import NamingError, printable
from manifests.paths import checked_path, clashes, fold

RESERVED: Final = frozenset(
    {
        "_file_locks", "auto-resolution-cache", "hf_home", "hub", "models-cache",
        "offline-weights-registry", "shared-blobs", "usage.db", "workflow",
    }
)  # fmt: skip
"""First parts that some client keeps for itself in the folder where models lie."""

_PART: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_LINE: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
_PACKAGE: Final = re.compile(r"[A-Za-z0-9]{1,64}")
_HANDLE_PART: Final = re.compile(r"[A-Za-z0-9._-]+")
_REPOSITORY_PART: Final = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._-]*[A-Za-z0-9_])?")


def checked_id(text: str) -> str:
    """`text` if it can be the id or an alias of a model; else a `NamingError`."""
    parts = text.split("/")
    if not 1 <= len(parts) <= 8 or not all(_PART.fullmatch(part) for part in parts) or len(text) > 200:
        raise NamingError(
            f"id {printable(text)!r} is not usable",
            hint="one to eight parts of letters, digits, '.', '_', '-', joined by '/', as in vehicles/1",
        )
    if fold(parts[0]) in RESERVED:
        raise NamingError(
            f"id {text!r}: its first part is a name that a client keeps for itself", hint="choose another"
        )
    return checked_path(text)


def checked_line(text: str) -> str:
    """`text` if it can name a bundle line; else a `NamingError`."""
    if not _LINE.fullmatch(text) or text.endswith("."):
        raise NamingError(
            f"name {printable(text)!r} cannot name a bundle line",
            hint="1 to 63 of a-z, 0-9, '.', '_', '-', beginning with a letter or digit",
        )
    return checked_path(text)


def checked_package_id(text: str) -> str:
    """`text` if it can be a package id: letters and digits only, because a client drops any other."""
    if not _PACKAGE.fullmatch(text):
        raise NamingError(
            f"package id {printable(text)!r}: 1 to 64 letters and digits only", hint="for example onnxfp32"
        )
    return checked_path(text)


def check_ids(ids: Iterable[str]) -> None:
    """`NamingError` if two ids or aliases clash, or if one would be a folder inside another."""
    for one, other in clashes(ids):
        if fold(one) == fold(other):
            raise NamingError(f"ids {one!r} and {other!r} clash", hint="ids and aliases must differ in more than case")
        raise NamingError(f"ids {one!r} and {other!r}: the first would be a folder of the second")


def slug(model_id: str) -> str:
    """The directory that inference-models (0.34.6 and later) gives a model: `v2-<prefix>-<32 hex of BLAKE2s>`."""
    prefix = re.sub(r"[^A-Za-z0-9_-]+", "-", model_id)
    prefix = re.sub(r"[_-]{2,}", "-", prefix)[:48]
    return f"v2-{prefix}-{hashlib.blake2s(model_id.encode(), digest_size=16).hexdigest()}"


def is_repository(model_id: str) -> bool:
    """Whether a Hugging Face client takes `model_id` as a repository: `name` or `org/name`."""
    parts = model_id.split("/")
    return (
        len(parts) <= 2
        and len(model_id) <= 96
        and "--" not in model_id
        and ".." not in model_id
        and not model_id.endswith(".git")
        and all(_REPOSITORY_PART.fullmatch(part) for part in parts)
    )


def repository_folder(model_id: str) -> str:
    """The folder of a repository in a hub cache: `models--org--name`."""
    return "models--" + model_id.replace("/", "--")


def is_handle(path: str) -> bool:
    """Whether inference-models takes `path` as the name of an artefact of a package."""
    parts = path.split("/")
    return (
        all(_HANDLE_PART.fullmatch(part) for part in parts)
        and path != "model_config.json"
        and parts[0] not in {"model_dependencies", "dependencies"}
        and not (parts[-1].startswith(".") and parts[-1].endswith(".lock"))
    )
