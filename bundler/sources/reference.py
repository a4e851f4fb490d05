"""The grammar of a source: `[SCHEME://]LOCATION[#MEMBER[!MEMBER…]][#sha256=HEX]`.

* Without a scheme it is a path on this machine, relative to the manifest's folder. An absolute one is made relative, so
  that no lock names a place of one machine only.
* `#MEMBER` takes a file out of a wheel, zip or tar, `!` one out of an archive inside it. `#sha256=` is the digest of
  the file that is taken.
* Where a name itself has `#`, `!` or `%`, it is written `%23`, `%21` or `%25` (in a URL, as in any URL).
* No secret: a URL with a password or a signed query is refused, because the text ends up in the lock; and no error
  quotes it.
"""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Self
from urllib.parse import parse_qsl

from bundler.sources.urls import SECRETS, WEB, checked_url, quotable
from manifests.digest import Digest
from manifests.errors import ManifestError

FILE: Final = "file"
SCHEMES: Final = (FILE, "az", "hf", "http", "https", "oci", "pypi", "roboflow", "s3")
_SCHEME: Final = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<rest>.*)", re.DOTALL)
_DIGEST: Final = re.compile(r"sha256=(?P<hex>[0-9A-Fa-f]{64})")
_ESCAPED: Final = {"%23": "#", "%21": "!", "%25": "%"}
_ESCAPE: Final = re.compile("|".join(_ESCAPED))


@dataclass(frozen=True, slots=True)
class Reference:
    """A source as a manifest names it. `location` is still escaped; `members` are not."""

    scheme: str
    location: str
    members: tuple[str, ...] = ()
    digest: Digest | None = None

    @classmethod
    def parse(cls, text: str, base: Path) -> Self:
        """The reference that `text` writes, in a manifest that lies in `base`. Errors: `ManifestError`."""
        if "\0" in text or any(0xD800 <= ord(character) < 0xE000 for character in text):
            raise ManifestError(f"{quotable(text)} has a character that no name can have")
        location, *fragments = text.split("#")
        digest = _digest(fragments[-1]) if fragments else None
        if digest is not None:
            fragments.pop()
        if len(fragments) > 1 or not location or any(not part for part in fragments):
            raise ManifestError(
                f"not a source: {quotable(text)}",
                hint="SOURCE, SOURCE#MEMBER or either with #sha256=HEX at its end; write a '#' in a name as %23",
            )
        members = tuple(unescape(part) for part in fragments[0].split("!")) if fragments else ()
        if not all(members):
            raise ManifestError(f"{quotable(text)}: a member has no name")
        scheme, rest = _split_scheme(location, base)
        return cls(scheme, rest, members, digest)

    def __str__(self) -> str:
        text = self.location if self.scheme == FILE else f"{self.scheme}://{self.location}"
        if self.members:
            text += f"#{self.member_path}"
        return text if self.digest is None else f"{text}#sha256={self.digest.hex}"

    @property
    def container(self) -> "Reference":
        """The file that the source itself gives, before any member is taken out of it."""
        return replace(self, members=(), digest=None) if self.members else self

    @property
    def member_path(self) -> str:
        """The members as one text, `outer.zip!inner/model.onnx`; empty if the file itself is taken."""
        return member_path(self.members)

    def child(self, path: str) -> "Reference":
        """A file below this folder or repository."""
        return Reference(self.scheme, f"{self.location.rstrip('/')}/{escape(path)}")


def member_path(members: Sequence[str]) -> str:
    """Members that lie in one another, outermost first, as one text."""
    return "!".join(escape(member) for member in members)


def escape(name: str) -> str:
    """`name` as it is written in a source."""
    return name.replace("%", "%25").replace("#", "%23").replace("!", "%21")


def unescape(text: str) -> str:
    """The name that `text` writes."""
    return _ESCAPE.sub(lambda match: _ESCAPED[match[0]], text)


def _digest(fragment: str) -> Digest | None:
    if match := _DIGEST.fullmatch(fragment):
        return Digest(bytes.fromhex(match["hex"]))
    if fragment.startswith("sha256="):
        raise ManifestError(f"not a digest: {fragment!r}", hint="#sha256= is followed by 64 hex digits")
    return None


def _split_scheme(location: str, base: Path) -> tuple[str, str]:
    match = _SCHEME.fullmatch(location)
    if match is None:
        return FILE, _relative_to_base(location, base)
    scheme, rest = match["scheme"].lower(), match["rest"]
    if scheme not in SCHEMES:
        raise ManifestError(f"unknown scheme {scheme}://", hint=_known())
    if scheme in WEB:
        _refuse_secrets(location)
    if not rest:
        raise ManifestError(f"{quotable(location)} names nothing")
    if scheme == FILE:
        return FILE, _relative_to_base(rest, base)
    return scheme, rest


def _known() -> str:
    return "known: a path, " + ", ".join(f"{scheme}://" for scheme in SCHEMES if scheme != FILE)


def _relative_to_base(location: str, base: Path) -> str:
    return escape(relative(Path(unescape(location)), base)) if Path(location).is_absolute() else location


def relative(path: Path, folder: Path) -> str:
    """`path` as it is found from `folder`, whatever links lead to that folder."""
    try:
        return Path(os.path.relpath(path, folder.resolve())).as_posix()
    except ValueError as error:  # another drive of Windows
        raise ManifestError(f"{str(path)!r} cannot be written relative to {folder}") from error


def _refuse_secrets(url: str) -> None:
    parts = checked_url(url, subject=quotable(url), family=ManifestError)
    named = parts.hostname
    if "@" in parts.netloc:
        raise ManifestError(
            f"a password in the URL of {named} would end up in the lock", hint="put it into ~/.netrc instead"
        )
    if any(key.lower() in SECRETS for key, _ in parse_qsl(parts.query, keep_blank_values=True)):
        raise ManifestError(
            f"the URL of {named} is signed, and its signature would end up in the lock",
            hint="fetch the file yourself and name it by its path, or use credentials in ~/.netrc",
        )
