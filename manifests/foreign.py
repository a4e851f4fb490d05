"""JSON that others write and read, carried as one text: floats and all, which canonical JSON has not.

* One spelling per value: keys sorted, no white space, shortest floats. `check` refuses every other.
* Bounded in size and depth before anything is made of it.
"""

import json
from typing import Final, NoReturn

from manifests.errors import FormatError

MAXIMUM_SIZE: Final = 1 << 20
"""Characters of a text."""
MAXIMUM_DEPTH: Final = 64


def encode(value: object) -> str:
    """The one spelling of `value`: plain JSON values, floats among them."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True, allow_nan=False)


def encode_for_people(value: object) -> bytes:
    """The same value as a file that people may read."""
    return (json.dumps(value, ensure_ascii=False, indent=2, sort_keys=True, allow_nan=False) + "\n").encode()


def decode(text: str | bytes, *, subject: str) -> object:
    """The value of JSON in any spelling; no key twice, no number that JSON lacks. Errors: `FormatError`."""
    if len(text) > MAXIMUM_SIZE:
        raise FormatError(f"{subject}: more than {MAXIMUM_SIZE} bytes")
    try:
        value: object = json.loads(text, object_pairs_hook=_unique, parse_constant=_refused)
        encode(value).encode()
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{subject}: not valid JSON: {error}") from error
    _check_depth(value, subject=subject)
    return value


def decode_object(text: str | bytes, *, subject: str) -> dict[str, object]:
    """The same for what must be an object."""
    value = decode(text, subject=subject)
    if not isinstance(value, dict):
        raise FormatError(f"{subject}: not a JSON object")
    return value


def check(text: str, *, subject: str) -> None:
    """`FormatError` unless `text` is the one spelling of an object."""
    if encode(decode_object(text, subject=subject)) != text:
        raise FormatError(f"{subject}: not in its one spelling")


def _check_depth(value: object, *, subject: str) -> None:
    level = [value]
    for _ in range(MAXIMUM_DEPTH):
        level = [inner for outer in level for inner in _inside(outer)]
        if not level:
            return
    raise FormatError(f"{subject}: nested more than {MAXIMUM_DEPTH} deep")


def _inside(value: object) -> list[object]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    mapping = dict(pairs)
    if len(mapping) != len(pairs):
        raise ValueError("a key occurs twice")
    return mapping


def _refused(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number of JSON")
