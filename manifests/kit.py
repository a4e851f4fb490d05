"""A kit: the program itself as a folder that crosses the gap. Its description, `kit.json`, and what lies where.

    kit.json · requirements.txt · SHA256SUMS · README.txt · install.sh · install.ps1 · install.py
    wheels/<file>.whl · trust/<name>.pub.pem

* A kit is made on the connected side, and read by its own installer, by `doctor` and by a site that got it in a bundle.
* `SHA256SUMS` names every other file. Its digest is the kit's fingerprint: who compared that, and then every file with
  the list by tools of their own, has compared all of it.
"""

import re
from collections.abc import Mapping
from typing import Final

from manifests import canonical
from manifests.digest import Digest
from manifests.errors import FormatError, NamingError
from manifests.manifest import Struct
from manifests.paths import checked_path

FORMAT: Final = 1
DESCRIPTION: Final = "kit.json"
SUMS: Final = "SHA256SUMS"
REQUIREMENTS: Final = "requirements.txt"
WHEELS: Final = "wheels"
TRUST: Final = "trust"
INSTALLER: Final = "install.sh"
DISTRIBUTION: Final = "offline-bundle"
MAXIMUM_DESCRIPTION: Final = 1 << 20
"""Bytes of `kit.json`."""
MAXIMUM_SUMS: Final = 1 << 20
_PYTHON: Final = re.compile(r"3\.[1-9][0-9]?")
_NAME: Final = re.compile(r"[a-z0-9]+(?:[._-][a-z0-9]+)*")
_PLATFORM: Final = re.compile(r"[a-z0-9][a-z0-9_]{0,39}")
_VERSION: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+!-]{0,63}")
_SUM: Final = re.compile(r"([0-9a-f]{64})  (\S.*)")


class Wheel(Struct, frozen=True):
    """One distribution of the kit: `file` lies in `wheels/`."""

    name: str
    version: str
    file: str
    sha256: str
    size: int


class Kit(Struct, frozen=True, omit_defaults=False):
    """What a kit is for: `program` is our version, `python` as `3.11`, `platform` the newest tag that it may need."""

    format: int
    program: str
    platform: str
    python: str
    extras: tuple[str, ...]
    wheels: tuple[Wheel, ...]


def encode(kit: Kit) -> bytes:
    """`kit.json`."""
    return canonical.encode_for_people(kit)


def decode(content: bytes, *, subject: str) -> Kit:
    """A kit out of its `kit.json`. Errors: `FormatError`; `UnsupportedFormatError` for a newer one."""
    value = canonical.decode_any_spelling(content, limit=MAXIMUM_DESCRIPTION, subject=subject)
    canonical.refuse_newer(value, FORMAT, subject=f"{subject}: kit")
    kit = canonical.convert(value, Kit, subject=subject)
    if kit.format != FORMAT or not _PYTHON.fullmatch(kit.python) or not _PLATFORM.fullmatch(kit.platform):
        raise FormatError(f"{subject}: no kit of format {FORMAT} says such a Python or platform")
    if not all(map(_VERSION.fullmatch, (kit.program, *kit.extras, *(wheel.version for wheel in kit.wheels)))):
        raise FormatError(f"{subject}: a version or extra is no word")
    for wheel in kit.wheels:
        if "/" in _checked(wheel.file, subject) or not wheel.file.endswith(".whl") or wheel.size < 0:
            raise FormatError(f"{subject}: {wheel.file} is not the name of a wheel")
        Digest.parse(f"sha256:{wheel.sha256}")
    names = [wheel.name for wheel in kit.wheels]
    if names != sorted(set(names)) or not all(map(_NAME.fullmatch, names)) or DISTRIBUTION not in names:
        raise FormatError(f"{subject}: wheels must be sorted by name, each once, and {DISTRIBUTION} among them")
    return kit


def mode(path: str) -> int:
    """The permissions of a file of a kit, by its path."""
    return 0o755 if path == INSTALLER else 0o644


def package_id(kit: Kit) -> str:
    """What a kit is called among those for other platforms: letters and digits only, as every package."""
    return re.sub(r"[^A-Za-z0-9]", "", f"{kit.platform}py{kit.python}")


def check(digests: Mapping[str, Digest], *, description: bytes, sums: bytes, subject: str) -> Kit:
    """The kit whose files have these digests, by path. Errors: `FormatError` names what is amiss."""
    kit = decode(description, subject=f"{subject}: {DESCRIPTION}")
    listed = decode_sums(sums, subject=f"{subject}: {SUMS}")
    for path in sorted(listed.keys() | digests.keys() - {SUMS}):
        if path not in digests:
            raise FormatError(f"{subject}: {path} is missing")
        if path not in listed:
            raise FormatError(f"{subject}: {path} is not in {SUMS}", hint="take it out, or make the kit anew")
        if listed[path] != digests[path]:
            raise FormatError(f"{subject}: {path} is not the file that {SUMS} names")
    for wheel in kit.wheels:
        if digests.get(f"{WHEELS}/{wheel.file}") != Digest.parse(f"sha256:{wheel.sha256}"):
            raise FormatError(f"{subject}: {wheel.file} is not the wheel that {DESCRIPTION} names")
    return kit


def encode_sums(digests: Mapping[str, Digest]) -> bytes:
    """`SHA256SUMS`: what `sha256sum -c` reads, by path."""
    return "".join(f"{digest.hex}  {path}\n" for path, digest in sorted(digests.items())).encode()


def decode_sums(content: bytes, *, subject: str) -> dict[str, Digest]:
    """The digest of every file that `SHA256SUMS` names. Errors: `FormatError`."""
    if len(content) > MAXIMUM_SUMS:
        raise FormatError(f"{subject}: longer than {MAXIMUM_SUMS} bytes")
    digests: dict[str, Digest] = {}
    for line in content.decode("utf-8", "replace").splitlines():
        match = _SUM.fullmatch(line)
        if match is None or match[2] in digests:
            raise FormatError(f"{subject}: not a line of {SUMS}, or one name twice: {line[:80]!r}")
        digests[_checked(match[2], subject)] = Digest.parse(f"sha256:{match[1]}")
    return digests


def _checked(path: str, subject: str) -> str:
    try:
        return checked_path(path)
    except NamingError as error:
        raise FormatError(f"{subject}: {error.message}") from error
