"""Mirrors: which address is asked in place of another one.

* A mirror stands for a prefix of addresses, matched where a segment of the path ends; the longest that matches counts.
* An address is rewritten once, and only on its way out: a lock keeps the original one.
* An address with a signature in it is asked as it is: the signature is for one host and one path.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Self
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from bundler.sources.urls import SIGNATURES, WEB, checked_url, origin_of
from manifests.errors import SourceError

_BETWEEN: Final = re.compile(r"=(?=https?://)", re.IGNORECASE)
_HINT: Final = "FROM=TO, for example https://example.org/models=https://mirror.example.com/models"


@dataclass(frozen=True, slots=True)
class Mirror:
    """`replacement` is asked in place of `original`: URLs without a slash at the end."""

    original: str
    replacement: str

    @classmethod
    def parse(cls, text: str, *, subject: str) -> Self:
        """The mirror that `FROM=TO` says. Errors: `SourceError`, which begins with `subject` and quotes no password."""
        halves = _BETWEEN.split(text.strip())
        if len(halves) != 2:
            raise SourceError(f"{subject}: a mirror is two URLs with a '=' between them", hint=_HINT)
        return cls(*(_prefix(half, subject=subject) for half in halves))

    def is_for(self, parts: SplitResult) -> bool:
        """Whether an address is below the original; one that leads to a mirror inside of it already is not changed."""
        original, replacement = urlsplit(self.original), urlsplit(self.replacement)
        return _covers(original, parts) and not (_covers(original, replacement) and _covers(replacement, parts))


def mirrors_of(text: str, *, subject: str) -> tuple[Mirror, ...]:
    """The mirrors that a text names, separated by white space."""
    return checked_mirrors([Mirror.parse(word, subject=subject) for word in text.split()], subject=subject)


def checked_mirrors(mirrors: Sequence[Mirror], *, subject: str) -> tuple[Mirror, ...]:
    """The same. Errors: `SourceError` for two mirrors of one address."""
    kept: dict[tuple[str, str], Mirror] = {}
    for mirror in mirrors:
        if kept.setdefault(_key(mirror), mirror) != mirror:
            raise SourceError(f"{subject}: {mirror.original} has two mirrors", hint="name one of them")
    return tuple(kept.values())


def joined(first: Sequence[Mirror], others: Sequence[Mirror]) -> tuple[Mirror, ...]:
    """Both; where they have a mirror for the same address, that of `first`."""
    kept = {_key(mirror): mirror for mirror in (*others, *first)}
    return tuple(kept.values())


def mirrored(url: str, mirrors: Sequence[Mirror]) -> str:
    """The address that is asked in place of `url`: the same where no mirror is for it."""
    parts = urlsplit(url)
    if not mirrors or _is_signed(parts) or not _is_plain(parts.path):
        return url
    fitting = [mirror for mirror in mirrors if mirror.is_for(parts)]
    if not fitting:
        return url
    mirror = max(fitting, key=lambda each: len(urlsplit(each.original).path))
    rest = parts.path[len(urlsplit(mirror.original).path) :]
    return f"{mirror.replacement}{rest}" + (f"?{parts.query}" if parts.query else "")


def _prefix(url: str, *, subject: str) -> str:
    parts = checked_url(url, subject=subject)
    if "@" in parts.netloc:
        raise SourceError(
            f"{subject}: a mirror's URL has no user and no password",
            hint="credentials for a mirror's host go into ~/.netrc, or into the file that BUNDLE_HEADERS names",
        )
    if parts.scheme not in WEB or parts.query or parts.fragment or not _is_plain(parts.path):
        raise SourceError(f"{subject}: a mirror's URL is http[s]://HOST[:PORT][/PATH] and no more", hint=_HINT)
    return parts.geturl().rstrip("/")


def _key(mirror: Mirror) -> tuple[str, str]:
    parts = urlsplit(mirror.original)
    return origin_of(parts), parts.path


def _covers(prefix: SplitResult, parts: SplitResult) -> bool:
    if origin_of(prefix) != origin_of(parts):
        return False
    return parts.path == prefix.path or parts.path.startswith(f"{prefix.path}/")


def _is_signed(parts: SplitResult) -> bool:
    names = {name.lower() for name, _ in parse_qsl(parts.query, keep_blank_values=True)}
    return not names.isdisjoint(SIGNATURES)


def _is_plain(path: str) -> bool:
    """Whether no segment leads upwards, out of the prefix that was compared."""
    return not any(segment in {".", ".."} for segment in re.split(r"[/\\]", unquote(path)))
