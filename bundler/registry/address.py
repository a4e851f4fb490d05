"""Where something lies in an OCI registry: `HOST[:PORT]/NAME[:TAG][@sha256:HEX][/FILE]`.

* A file is named only below a tag or digest: without one, nothing tells it from the last part of the name.
* A digest is taken before a tag that stands beside it, as other programs do.
* Plain HTTP is for this machine alone, unless it is asked for.
"""

import re
from dataclasses import dataclass, replace
from typing import Final, Self

from bundler.sources.reference import unescape
from manifests.digest import Digest
from manifests.errors import ManifestError

SCHEME: Final = "oci://"
_LABEL: Final = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
_COMPONENT: Final = r"[a-z0-9]+(?:(?:\.|__?|-+)[a-z0-9]+)*"
_ADDRESS: Final = re.compile(
    rf"(?P<host>(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9A-Fa-f:]+\])(?::(?P<port>[0-9]{{1,5}}))?)"
    rf"/(?P<repository>{_COMPONENT}(?:/{_COMPONENT})*)"
    r"(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9._-]{0,127}))?"
    r"(?:@(?P<digest>sha256:[0-9a-f]{64}))?"
    r"(?:/(?P<path>.+))?"
)
_LOOPBACK: Final = re.compile(r"(?:localhost|127(?:\.[0-9]{1,3}){3}|\[::1\])(?::[0-9]+)?")
_LONGEST: Final = 4096


@dataclass(frozen=True, slots=True)
class Address:
    """A parsed address. `host` has the port; `path` is unescaped, and empty for all that is there."""

    host: str
    repository: str
    tag: str = ""
    digest: Digest | None = None
    path: str = ""

    @classmethod
    def parse(cls, text: str) -> Self:
        """The address that `text` writes, with or without `oci://`. Errors: `ManifestError`."""
        bare = text.removeprefix(SCHEME)
        match = _ADDRESS.fullmatch(bare) if len(bare) <= _LONGEST else None
        if match is None or not 0 < int(match["port"] or 1) < 65536:
            raise ManifestError(f"not an address in a registry: {_quotable(text)}", hint=_hint(bare))
        if match["path"] and not (match["tag"] or match["digest"]):
            raise ManifestError(f"not an address in a registry: {_quotable(text)}", hint=_hint(bare))
        digest = Digest.parse(match["digest"]) if match["digest"] else None
        path = unescape(match["path"] or "")
        return cls(match["host"].lower(), match["repository"], match["tag"] or "", digest, path)

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        return f"{SCHEME}{self.host}/{self.repository}{tag}" + (f"@{self.digest}" if self.digest else "")

    @property
    def version(self) -> str:
        """What a registry is asked for: the digest, else the tag; empty if neither is given."""
        return str(self.digest) if self.digest else self.tag

    @property
    def is_loopback(self) -> bool:
        """Whether the registry is on this machine."""
        return is_this_machine(self.host)

    def tagged(self, tag: str) -> "Address":
        """The same repository under another tag."""
        return replace(self, tag=tag, digest=None, path="")

    def base(self, *, plain_http: bool) -> str:
        """The URL that everything of this repository begins with, without a slash at its end."""
        scheme = "http" if plain_http or self.is_loopback else "https"
        return f"{scheme}://{self.host}/v2/{self.repository}"


def is_this_machine(host: str) -> bool:
    """Whether `host`, with or without a port, and in brackets if it is IPv6, never leaves this machine."""
    return _LOOPBACK.fullmatch(host) is not None


def _quotable(text: str) -> str:
    """`text` without what may be a password before an `@`."""
    bare = text.removeprefix(SCHEME)
    user, mark, rest = bare.partition("@")
    return repr(f"{SCHEME}…@{rest}" if mark and not rest.startswith("sha256:") and ":" in user else text)


def _hint(bare: str) -> str:
    host, _, name = bare.partition("/")
    name = name.rpartition(":")[0] or name
    if "@" in host:
        return "no user and no password: credentials come from `docker login` or `podman login`"
    if name != name.lower() and _ADDRESS.fullmatch(f"{host}/{name.lower()}"):
        return "a repository's name has no capital letters"
    return "oci://HOST[:PORT]/NAME[:TAG], and a file below a tag: oci://registry.example.com/models/line:v1/FILE"
