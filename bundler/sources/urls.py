"""URLs as strangers write them: taken apart in one place, and named in messages without what they hide.

* A URL that `checked_url` let through has a host and a port that can be used; its errors quote nothing of it.
* What `shown` and `quotable` give has neither user, password, query nor, in a URL, fragment.
"""

from typing import Final
from urllib.parse import SplitResult, urlsplit

from manifests.errors import ManifestError, SourceError, printable

WEB: Final = frozenset({"http", "https"})
SIGNATURES: Final = frozenset({"x-amz-signature", "x-goog-signature", "signature", "sig"})
"""Names in a query that hold a signature: S3's two kinds, Google's, a content network's, Azure's."""
SECRETS: Final = SIGNATURES | {
    "access_token", "api-key", "api_key", "apikey", "auth", "awsaccesskeyid", "jwt", "key", "password",
    "private_token", "secret", "token", "x-amz-credential", "x-amz-security-token", "x-goog-credential",
}  # fmt: skip
"""Names in a query that hold a secret, or belong to one."""


def checked_url(
    url: str, *, subject: str, family: type[ManifestError] | type[SourceError] = SourceError
) -> SplitResult:
    """The parts of a web address. Errors: `family`, whose message begins with `subject` and quotes no part of it."""
    hint = "http[s]://HOST[:PORT]/PATH; in a user or password, '/' is written %2F, '@' %40, '#' %23 and '?' %3F"
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:  # its words quote what may be the password
        raise family(f"{subject}: not a URL: its host or its port cannot be", hint=hint) from None
    if "\\" in parts.netloc:  # some end the host there, others do not: a credential would go astray
        raise family(f"{subject}: not a URL: it has a '\\' in its host", hint=hint)
    if not host or not url.isprintable():
        raise family(f"{subject}: not a URL: it names no host, or has a control character", hint=hint)
    if port is not None and "@" in url.removeprefix(f"{parts.scheme}://{parts.netloc}") and "." not in host:
        raise family(f"{subject}: not a URL: it seems that a password in it has a '/', '#' or '?'", hint=hint)
    return parts


def shown(url: str) -> str:
    """`url` for a message: without user, password, query and fragment."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "a malformed URL"
    return printable(f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}")


def host_of(url: str) -> str:
    """Host and port of `url`, for a message."""
    try:
        return printable(urlsplit(url).netloc.rpartition("@")[2])
    except ValueError:
        return "a malformed URL"


def quotable(text: str) -> str:
    """A source's text for a message: of a URL, however broken, nothing before the last `@` or after a `?`."""
    scheme, mark, rest = text.partition("://")
    if not mark or scheme.lower() not in WEB:
        return repr(text)
    hidden = "…@" if "@" in rest else ""
    visible, query, _ = rest.rpartition("@")[2].partition("?")
    return repr(f"{scheme}://{hidden}{visible}{query and '?…'}")


def without_user(url: str) -> str:
    """`url` without the credentials in it: they are the client's business."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def origin_of(parts: SplitResult) -> str:
    """Scheme, host and port, as the one text that two URLs of one origin share."""
    port = parts.port or {"https": 443, "http": 80}.get(parts.scheme, 0)
    return f"{parts.scheme}://{(parts.hostname or '').lower()}:{port}"
