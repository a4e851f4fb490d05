"""Class lists as exporters and datasets write them: Python literals, YAML, one name a line.

* Foreign text: bounded, never evaluated as code.
"""

import ast
from collections.abc import Mapping
from typing import Final

from bundler.yaml_document import parse
from manifests.errors import ManifestError

MAXIMUM_TEXT: Final = 1 << 20
_MAXIMUM_CLASSES: Final = 100_000


def literal(text: str) -> object:
    """The value of a Python literal; None if it is none, or too long."""
    if len(text) > MAXIMUM_TEXT:
        return None
    try:
        value: object = ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None
    return value


def names(value: object) -> tuple[str, ...]:
    """Names in their order, out of a list or a mapping by number; empty if it is neither."""
    try:
        return _names(value)
    except (ValueError, RecursionError):  # a number of too many digits, or lists in lists, have no text
        return ()


def _names(value: object) -> tuple[str, ...]:
    if isinstance(value, Mapping):
        numbers = [number for number in value if isinstance(number, int) and 0 <= number < _MAXIMUM_CLASSES]
        if not numbers or len(numbers) != len(value):
            return ()
        return tuple(str(value.get(number, number)) for number in range(max(numbers) + 1))
    return tuple(map(str, value)) if isinstance(value, list | tuple) else ()


def lines(content: bytes) -> tuple[str, ...]:
    """The lines that are not blank; empty if this is no text."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return ()
    return tuple(line.strip() for line in text.splitlines() if line.strip())


def mapping(content: bytes | None) -> Mapping[object, object]:
    """The mapping in a YAML text; empty if there is none."""
    try:
        value = parse((content or b"").decode("utf-8-sig"), subject="").value
    except (ValueError, RecursionError, ManifestError):
        return {}
    return value if isinstance(value, Mapping) else {}


def front_matter(content: bytes | None) -> Mapping[object, object]:
    """The YAML between the two lines of dashes at the beginning of a model card."""
    head, _, rest = (content or b"").removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n").partition(b"---\n")
    return {} if head.strip() or not rest else mapping(rest.partition(b"\n---")[0])
