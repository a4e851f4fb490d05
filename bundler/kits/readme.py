"""What a kit says to people: what the site must have, and the one page `README.txt`."""

import re
from collections.abc import Mapping
from importlib.resources import files
from string import Template
from typing import Final

from manifests.keyring import Key
from manifests.kit import SUMS, TRUST, Kit

_LINUX: Final = re.compile(r"manylinux_(\d+)_(\d+)_(\w+)")
_NAMES: Final = {"win_amd64": "Windows on x86_64", "win_arm64": "Windows on arm64"}
_POSIX: Final = {
    "sum": f"sha256sum {SUMS}",
    "check": f"sha256sum -c --quiet {SUMS}",
    "install": "sh install.sh [DIR]",
    "place": "/opt/offline-bundle for root, else to ~/.local/opt/offline-bundle",
}
_WINDOWS: Final = {
    "sum": f"certutil -hashfile {SUMS} SHA256",
    "check": "powershell -ExecutionPolicy Bypass -File install.ps1 --check",
    "install": "powershell -ExecutionPolicy Bypass -File install.ps1 [DIR]",
    "place": "%LOCALAPPDATA%\\offline-bundle",
}


def needs(kit: Kit) -> tuple[str, ...]:
    """What a site must have, in sentences."""
    linux = _LINUX.fullmatch(kit.platform)
    machine = f"Linux on {linux[3]} with glibc {linux[1]}.{linux[2]} or later" if linux else _NAMES.get(kit.platform)
    unpacked = max(0.1, round(4 * sum(wheel.size for wheel in kit.wheels) / 10**9, 1))
    return (
        machine or f"a machine of the platform {kit.platform}",
        f"CPython {kit.python}, 64 bit, any patch level, with its module venv (no pip, no ensurepip)",
        f"about {unpacked:g} GB of free space",
    )


def commands(kit: Kit) -> Mapping[str, str]:
    """What is typed on the site: `sum`, `check` and `install`; and `place`, where it goes if no folder is named."""
    return _WINDOWS if kit.platform.startswith("win") else _POSIX


def readme(kit: Kit, keys: Mapping[str, Key]) -> bytes:
    """`README.txt`. `keys` by the name that their files have in the kit."""
    page = Template((files(__package__) / "installer" / "README.txt").read_text(encoding="utf-8"))
    paths = [f"{TRUST}/{name}" for name in sorted(keys)] or ["KEY.pub.pem"]
    text = page.substitute(
        commands(kit),
        program=kit.program,
        platform=kit.platform,
        python=kit.python,
        count=len(kit.wheels),
        extras=", ".join(kit.extras) or "none",
        needs="".join(f"  - {sentence}\n" for sentence in needs(kit)),
        trust="bundle trust init " + " ".join(f"--key {path}" for path in paths),
        keys="\n".join(_described(name, keys[name]) for name in sorted(keys))
        or "  None: the public key, KEY.pub.pem, comes another way.",
    )
    return f"{text.rstrip()}\n".encode()


def _described(name: str, key: Key) -> str:
    return f"  {TRUST}/{name}\n      fingerprint  {key.fingerprint}\n      words        {key.words}\n"
