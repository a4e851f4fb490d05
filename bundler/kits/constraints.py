"""Which versions and wheels an earlier kit had, out of its `requirements.txt`: `NAME==VERSION --hash=sha256:HEX`.

* Each name once, exactly one version, at least one digest. Anything else that pip would take in such a file is refused.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from manifests.digest import Digest
from manifests.errors import ManifestError

MAXIMUM_LENGTH: Final = 4 << 20
"""Characters of a requirements file: a kit has some kilobytes."""
_COMMENT: Final = re.compile(r"(^|\s)#.*")
_PIN: Final = re.compile(r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)\s*==\s*(?P<version>[^\s;,*]+)(?P<options>(\s.*)?)")
_HASH: Final = re.compile(r"--hash(=|\s+)sha256:(?P<hex>[0-9a-fA-F]{64})(\s+|$)")


@dataclass(frozen=True, slots=True)
class Pin:
    """The one version of a distribution, and the digests that its wheel may have."""

    version: Version
    digests: frozenset[Digest]

    @property
    def specifier(self) -> SpecifierSet:
        """`==VERSION`."""
        return SpecifierSet(f"=={self.version}")


@dataclass(frozen=True, slots=True)
class Constraints:
    """Pins by canonical name: they choose the version of what is needed, and ask for nothing. `subject` is the file."""

    subject: str = "the constraints"
    pins: Mapping[str, Pin] = field(default_factory=dict)


def constraints_of(text: str, subject: str) -> Constraints:
    """The constraints that a file's `text` gives. Errors: `ManifestError`, which names `subject` and the line."""
    if len(text) > MAXIMUM_LENGTH:
        raise ManifestError(f"{subject}: longer than {MAXIMUM_LENGTH} characters")
    pins: dict[str, Pin] = {}
    for number, line in _logical_lines(text):
        name, pin = _pin(line, where=f"{subject}, line {number}")
        if name in pins:
            raise ManifestError(f"{subject}, line {number}: {name} a second time")
        pins[name] = pin
    return Constraints(subject, pins)


def _logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """The lines that say something, and where each begins; a backslash at its end joins the next one, as in pip."""
    begun, whole = 0, ""
    for number, line in enumerate([*text.splitlines(), ""], 1):
        begun = begun or number
        whole += " " + _COMMENT.sub("", line.removesuffix("\\"))
        if line.endswith("\\") and not line.lstrip().startswith("#"):
            continue
        if whole.strip():
            yield begun, whole.strip()
        begun, whole = 0, ""


def _pin(line: str, *, where: str) -> tuple[str, Pin]:
    match = _PIN.fullmatch(line)
    try:
        version = Version(match["version"]) if match else None
    except ValueError:
        version = None
    if match is None or version is None:
        raise ManifestError(
            f"{where}: not NAME==VERSION with its digest: {line[:80]!r}",
            hint="give the requirements.txt of an earlier kit: NAME==VERSION --hash=sha256:HEX",
        )
    options = match["options"].strip()
    digests = frozenset(Digest(bytes.fromhex(found["hex"])) for found in _HASH.finditer(options))
    if rest := _HASH.sub("", options).strip():
        raise ManifestError(
            f"{where}: {rest.split()[0][:80]!r} is not understood here", hint="only --hash=sha256:HEX may follow"
        )
    if not digests:
        raise ManifestError(f"{where}: {match['name']} has no --hash=sha256:HEX")
    return canonicalize_name(match["name"]), Pin(version, digests)
