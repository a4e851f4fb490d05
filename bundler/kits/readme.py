"""What a kit says to people: what the site must have, and the one page `README.txt`."""

import math
import re
from collections.abc import Iterator, Mapping
from importlib.resources import files
from shlex import quote
from string import Template
from textwrap import indent
from typing import Final

from manifests.digest import Digest
from manifests.keyring import Key
from manifests.kit import SUMS, TRUST, Kit

_LINUX: Final = re.compile(r"manylinux_(\d+)_(\d+)_(\w+)")
_NAMES: Final = {"win_amd64": "Windows on x86_64", "win_arm64": "Windows on arm64"}
_POSIX: Final = {
    "shell": "",
    "sum": f"sha256sum {SUMS}",
    "check": f"sha256sum -c --quiet {SUMS}",
    "install": "sh install.sh [DIR]",
    "place": "/opt/offline-bundle for root, else to ~/.local/opt/offline-bundle",
}
_WINDOWS: Final = {
    "shell": ", in PowerShell",
    "sum": f"certutil -hashfile {SUMS} SHA256",
    "check": f"""\
Get-Content -Encoding UTF8 {SUMS} | ForEach-Object {{
  $sum, $name = $_ -split '  ', 2
  if ((Get-FileHash -LiteralPath $name -Algorithm SHA256).Hash -ne $sum) {{ "$name is not right" }} }}""",
    "install": "powershell -ExecutionPolicy Bypass -File install.ps1 [DIR]",
    "place": "%LOCALAPPDATA%\\offline-bundle",
}


def needs(kit: Kit) -> tuple[str, ...]:
    """What a site must have, in sentences."""
    linux = _LINUX.fullmatch(kit.platform)
    machine = f"Linux on {linux[3]} with glibc {linux[1]}.{linux[2]} or later" if linux else _NAMES.get(kit.platform)
    unpacked = max(2, math.ceil(45 * sum(wheel.size for wheel in kit.wheels) / 10**9)) / 10
    return (
        machine or f"a machine of the platform {kit.platform}",
        f"CPython {kit.python}, 64 bit, any patch level, with its module venv (no pip, no ensurepip)",
        f"about {unpacked:g} GB of free space",
    )


def commands(kit: Kit) -> Mapping[str, str]:
    """What is typed on the site: `sum`, `check` and `install`; `shell`, into what; and `place`, if no folder is named.

    `sum` and `check` are the machine's own tools: nothing of the kit has a word before they have spoken.
    """
    return _WINDOWS if kit.platform.startswith("win") else _POSIX


def steps(kit: Kit, fingerprint: Digest) -> Iterator[str]:
    """Lines for the builder to send another way than the kit: its own page could have been changed with the rest."""
    typed = commands(kit)
    yield "On the site, before anything of the kit is run; read it from this screen or from paper, not from the stick:"
    yield f"  1. In the kit's folder{typed['shell']}:"
    yield f"         {typed['sum']}"
    yield "     must print these 64 characters (read them out over the phone):"
    yield f"         {fingerprint.hex}"
    yield "  2. This must print nothing: it compares every file with that list, the installer too."
    yield from indent(typed["check"], " " * 9).splitlines()
    yield "  3. Then install: this also refuses a file that is on no list. README.txt has what comes after."
    yield f"         {typed['install']}"


def readme(kit: Kit, keys: Mapping[str, Key]) -> bytes:
    """`README.txt`. `keys` by the name that their files have in the kit."""
    page = Template((files(__package__) / "installer" / "README.txt").read_text(encoding="utf-8"))
    paths = [f"{TRUST}/{name}" for name in sorted(keys)] or ["KEY.pub.pem"]
    typed = commands(kit)
    text = page.substitute(
        {**typed, "check": indent(typed["check"], " " * 9)},
        program=kit.program,
        platform=kit.platform,
        python=kit.python,
        count=len(kit.wheels),
        extras=", ".join(kit.extras) or "none",
        needs="".join(f"  - {sentence}\n" for sentence in needs(kit)),
        trust="bundle trust init " + " ".join(f"--key {_quoted(path, kit)}" for path in paths),
        keys="\n".join(_described(name, keys[name]) for name in sorted(keys))
        or "  None: the public key, KEY.pub.pem, comes another way.",
    )
    return f"{text.rstrip()}\n".encode()


def _quoted(path: str, kit: Kit) -> str:
    """As the site's shell wants it."""
    if commands(kit) is _POSIX:
        return quote(path)
    return path if re.fullmatch(r"[\w./-]+", path) else "'" + path.replace("'", "''") + "'"


def _described(name: str, key: Key) -> str:
    return f"  {TRUST}/{name}\n      fingerprint  {key.fingerprint}\n      words        {key.words}\n"
