"""The file of headers that some origins want: `https://HOST[:PORT] Header-Name: value`, one a line, `#` for comments.

* It holds secrets. A file that other users may read is refused, as ssh refuses such a key; no error quotes a value, and
  no `repr` has one.
* What would change the framing of a request, or which part of a file it asks for, is no header for this file.
"""

import os
import re
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from bundler.sources.urls import WEB, checked_url, origin_of
from manifests.errors import SourceDeniedError, SourceError

_LIMIT: Final = 64 << 10
_LINE: Final = re.compile(r"(?P<origin>\S+)\s+(?P<name>[!#$%&'*+.^_`|~0-9A-Za-z-]+)\s*:\s*(?P<value>.*\S)\s*")
_OURS: Final = frozenset(
    {"accept", "accept-encoding", "connection", "content-length", "content-range", "content-type", "expect", "host"}
    | {"if-match", "if-range", "proxy-authorization", "range", "te", "trailer", "transfer-encoding", "upgrade"}
)
_HINT: Final = "each line is: https://HOST[:PORT] Header-Name: value"


@dataclass(frozen=True, slots=True)
class HeaderLine:
    """A header for one origin."""

    origin: str
    name: str
    value: str = field(repr=False)


def read_headers(path: Path, *, needed: bool) -> tuple[HeaderLine, ...]:
    """The headers of the file at `path`; none where it does not exist and is not `needed`. Errors: `SourceError`."""
    try:
        with path.open("rb") as stream:
            _check_private(os.fstat(stream.fileno()), path)
            content = stream.read(_LIMIT + 1)
    except (FileNotFoundError, NotADirectoryError):
        if needed:
            hint = "set BUNDLE_HEADERS to a file, or unset it"
            raise SourceError(f"the file of headers {path} does not exist", hint=hint) from None
        return ()
    except OSError as error:
        raise SourceError(f"the file of headers {path} cannot be read: {error.strerror}") from error
    if len(content) > _LIMIT:
        raise SourceError(f"the file of headers {path} has more than {_LIMIT} bytes")
    return parse_headers(content, subject=str(path))


def parse_headers(content: bytes, *, subject: str) -> tuple[HeaderLine, ...]:
    """The headers that the lines of `content` say. Errors: `SourceError`, which names a line and quotes none of it."""
    try:
        text = content.decode("ascii")
    except UnicodeDecodeError:  # its words quote what may be a secret
        raise SourceError(f"{subject}: a header has no character beyond ASCII") from None
    kept: dict[tuple[str, str], HeaderLine] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        header = _parse_line(line, subject=f"{subject}, line {number}")
        if kept.setdefault((header.origin, header.name.lower()), header) is not header:
            raise SourceError(f"{subject}, line {number}: {header.name} is given twice for {header.origin}")
    return tuple(kept.values())


def _parse_line(line: str, *, subject: str) -> HeaderLine:
    match = _LINE.fullmatch(line.strip())
    if match is None or not match["value"].isprintable():
        raise SourceError(f"{subject}: no header of an origin", hint=_HINT)
    parts = checked_url(match["origin"], subject=subject)
    if parts.scheme not in WEB or "@" in parts.netloc or parts.path not in {"", "/"} or parts.query or parts.fragment:
        raise SourceError(f"{subject}: a header is for an origin: a scheme, a host and no more", hint=_HINT)
    if match["name"].lower() in _OURS:
        raise SourceError(f"{subject}: {match['name']} is a header that every request sets itself")
    return HeaderLine(origin_of(parts), match["name"], match["value"])


def _check_private(status: os.stat_result, path: Path) -> None:
    if os.name == "posix" and stat.S_IMODE(status.st_mode) & 0o077:
        raise SourceDeniedError(
            f"the file of headers {path} may be read by other users (mode {stat.S_IMODE(status.st_mode):04o})",
            hint=f"chmod 600 {path}",
        )
