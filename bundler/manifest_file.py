"""A manifest from its file: YAML, TOML or JSON, told apart by the suffix.

* Errors of a YAML manifest name the line, and for a misspelt key the one that was probably meant.
* Foreign text has bounds: its size, and how much its aliases unfold. Only plain values are made of it.
"""

import json
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Final, TypeAlias

from msgspec.structs import fields

from manifests.errors import ManifestError, MissingExtraError, NamingError, printable
from manifests.manifest import (
    FileRequest,
    KitRequest,
    Manifest,
    ModelRequest,
    PackageRequest,
    ProfileRequest,
    WorkflowRequest,
    parse,
)

MAXIMUM_SIZE: Final = 1 << 20
"""Bytes of a manifest."""
_KEYS: Final = sorted(
    {
        field.encode_name
        for kind in (Manifest, ModelRequest, PackageRequest, FileRequest, KitRequest, ProfileRequest, WorkflowRequest)
        for field in fields(kind)
    }
)
LineOf: TypeAlias = Callable[[Mapping[str, str]], int | None]


def load(path: Path) -> Manifest:
    """The manifest in `path`.

    Errors: `ManifestError` and `NamingError` that begin with the file and, in YAML, the line; `MissingExtraError` for
    YAML without PyYAML.
    """
    value, line_of = _read(path)
    try:
        _refuse_half_characters(value, path.name)
    except RecursionError as error:
        raise ManifestError(f"{path.name}: nested too deeply") from error
    try:
        return parse(value)
    except ManifestError as error:
        kind = NamingError if isinstance(error, NamingError) else ManifestError
        line = line_of(error.facts)
        where = f"{path.name}:{line}" if line is not None else _key_named(path.name, error.facts.get("key", "$"))
        message = f"{where}: {error.message}{_meant(error.facts)}"
        raise kind(message, hint=error.hint, facts=error.facts) from error


def _read(path: Path) -> tuple[object, LineOf]:
    """The plain value, and what knows its lines."""
    if path.is_dir():
        raise ManifestError(f"{path} is a folder", hint="name the manifest in it; `bundle init` writes one")
    suffix = path.suffix.lower()
    if suffix not in {".yaml", ".yml", ".toml", ".json"}:
        raise ManifestError(f"{path.name}: a manifest is a .yaml, .toml or .json file")
    text = _text(path)
    if suffix in {".yaml", ".yml"}:
        try:
            from bundler import yaml_document  # noqa: PLC0415 - TOML and JSON work without PyYAML
        except ModuleNotFoundError as error:
            raise MissingExtraError("PyYAML", "build") from error
        document = yaml_document.parse(text, subject=path.name)
        return document.value, document.line_of
    try:
        if suffix == ".toml":
            return tomllib.loads(text), _no_line
        return json.loads(text, object_pairs_hook=_unique), _no_line
    except (ValueError, RecursionError) as error:
        raise ManifestError(f"{path.name}: not valid {suffix[1:].upper()}: {error}") from error


def _text(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            content = stream.read(MAXIMUM_SIZE + 1)
        if len(content) > MAXIMUM_SIZE:
            raise ManifestError(f"{path.name}: more than {MAXIMUM_SIZE} bytes, which no manifest needs")
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ManifestError(f"{path.name}: not UTF-8 text") from error
    except OSError as error:
        raise ManifestError(f"{path}: {error.strerror}", hint="`bundle init` writes a manifest") from error


def _refuse_half_characters(value: object, name: str) -> None:
    """JSON and YAML can write half of a surrogate pair, which no file can hold."""
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise ManifestError(f"{name}: {printable(value)!r} has half of a character in it") from error
    elif isinstance(value, Mapping):
        for pair in value.items():
            _refuse_half_characters(pair, name)
    elif isinstance(value, list | tuple):
        for entry in value:
            _refuse_half_characters(entry, name)


def _unique(pairs: Sequence[tuple[str, object]]) -> dict[str, object]:
    mapping = dict(pairs)
    for key in mapping:
        if sum(other == key for other, _ in pairs) > 1:
            raise ValueError(f"the key {key!r} occurs twice")
    return mapping


def _no_line(facts: Mapping[str, str]) -> None:  # noqa: ARG001 - TOML and JSON readers keep no lines
    return None


def _key_named(name: str, key: str) -> str:
    inner = re.sub(r"^\$\.?", "", key)
    return f"{name}: {inner}" if inner else name


def _meant(facts: Mapping[str, str]) -> str:
    """`; did you mean …?` for a key that nobody knows."""
    close = get_close_matches(facts.get("unknown", ""), _KEYS, n=1)
    return f"; did you mean `{close[0]}`?" if close else ""
