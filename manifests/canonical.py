"""Canonical JSON: one spelling per value, so that bytes can be compared and signed.

* Keys sorted by code point, no white space, UTF-8 with no escapes beyond what JSON demands, no floats.
* `decode` refuses every other spelling of the same value, duplicate keys included.
"""

import json
from typing import Final, NoReturn, TypeAlias, TypeVar

import msgspec

from manifests.errors import FormatError, UnsupportedFormatError

Json: TypeAlias = "bool | int | str | list[Json] | dict[str, Json] | None"
T = TypeVar("T")

MAXIMUM_INTEGER: Final = 2**63 - 1


def encode(value: object) -> bytes:
    """The canonical bytes of `value`: JSON values or msgspec structs. Floats are refused."""
    plain = msgspec.to_builtins(value)
    _refuse_floats(plain)
    return json.dumps(plain, ensure_ascii=False, separators=(",", ":"), sort_keys=True).encode()


def encode_for_people(value: object) -> bytes:
    """The same value, indented and with a last newline: for files that people read and commit."""
    plain = msgspec.to_builtins(value)
    _refuse_floats(plain)
    return (json.dumps(plain, ensure_ascii=False, indent=2, sort_keys=True) + "\n").encode()


def decode(content: bytes, *, limit: int, subject: str) -> Json:
    """The value of canonical `content`, at most `limit` bytes; `FormatError` for any other spelling."""
    value = decode_any_spelling(content, limit=limit, subject=subject)
    if encode(value) != content:
        raise FormatError(f"{subject}: not canonical JSON")
    return value


def decode_any_spelling(content: bytes, *, limit: int, subject: str) -> Json:
    """The value of JSON `content` without floats or duplicate keys, whatever its white space."""
    if len(content) > limit:
        raise FormatError(f"{subject}: {len(content)} bytes, and at most {limit} are allowed")
    try:
        value: Json = json.loads(
            content.decode("utf-8"),
            object_pairs_hook=_unique,
            parse_float=_refuse_number,
            parse_constant=_refuse_number,
        )
        json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{subject}: not valid JSON: {error}") from error
    return value


def decode_as(content: bytes, kind: type[T], *, limit: int, subject: str) -> T:
    """Canonical `content` as a msgspec struct; unknown, missing or mistyped fields are a `FormatError`."""
    return convert(decode(content, limit=limit, subject=subject), kind, subject=subject)


def refuse_newer(value: Json, known: int, *, subject: str) -> None:
    """`UnsupportedFormatError` for a document whose `format` is above `known`, before anything else of it is read."""
    version = value.get("format") if isinstance(value, dict) else None
    if isinstance(version, int) and version > known:
        raise UnsupportedFormatError(f"{subject}: format {version}; this program reads up to {known}")


def convert(value: object, kind: type[T], *, subject: str) -> T:
    """`value` as a msgspec struct, or a `FormatError` that names the key path."""
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise FormatError(f"{subject}: {error}") from error


def _unique(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    mapping = dict(pairs)
    if len(mapping) != len(pairs):
        raise ValueError("a key occurs twice")
    return mapping


def _refuse_number(text: str) -> NoReturn:
    raise ValueError(f"only whole numbers are allowed, not {text}")


def _refuse_floats(value: object) -> None:
    if isinstance(value, float):
        raise FormatError(f"canonical JSON has no floats: {value}")
    if isinstance(value, int) and not -MAXIMUM_INTEGER <= value <= MAXIMUM_INTEGER:
        raise FormatError(f"a number does not fit 64 bits: {value}")
    if isinstance(value, dict):
        for key, inner in value.items():
            _refuse_floats(key)
            _refuse_floats(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            _refuse_floats(inner)
