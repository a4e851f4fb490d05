"""Signing keys in the current folder: whether others may read them, and whether git would publish them.

* No key is parsed and no passphrase asked for: the words of PEM are enough.
"""

import os
import shlex
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from manifests.errors import listing
from manifests.finding import Finding, Subject
from manifests.keyring import MAXIMUM_PEM

SUBJECT: Final = Subject("keys")
_PRIVATE: Final = b"PRIVATE KEY-----"
_LOCKED: Final = (b"-----BEGIN ENCRYPTED", b"Proc-Type: 4,ENCRYPTED")
_MOST: Final = 256
_PATIENCE: Final = 10.0


@dataclass(frozen=True, slots=True)
class PrivateKey:
    """A private key's file."""

    name: str
    is_locked: bool
    others_read: bool
    in_git: bool


def look(folder: Path, environ: Mapping[str, str]) -> Iterator[Finding]:
    """The keys that lie in `folder` itself."""
    found = observe(folder, environ)
    yield from judge(found)
    if not found:
        yield SUBJECT.fine("no-keys", f"no private key in {folder}")


def observe(folder: Path, environ: Mapping[str, str]) -> list[PrivateKey]:
    """The private keys in `folder`: at most so many files named `*.pem` or `*.key` are looked into."""
    paths = sorted([*folder.glob("*.pem"), *folder.glob("*.key")])[:_MOST]
    heads = {path: head for path in paths if _PRIVATE in (head := _head(path))}
    published = _in_git(folder, [path.name for path in heads], environ)
    return [
        PrivateKey(
            name=path.name,
            is_locked=any(mark in head for mark in _LOCKED),
            others_read=sys.platform != "win32" and bool(path.stat().st_mode & 0o077),
            in_git=path.name in published,
        )
        for path, head in heads.items()
    ]


def judge(keys: list[PrivateKey]) -> Iterator[Finding]:
    """What these keys mean."""
    for key in keys:
        name = shlex.quote(f"./{key.name}")  # as a path: a name may begin as an option does
        if key.in_git:
            what = f"the private key {key.name} is in git: whoever has the repository can sign"
            what += " once the passphrase is guessed" if key.is_locked else ""
            what += "; make a new one with `bundle keygen`, and have each site trust that"
            say = SUBJECT.warning if key.is_locked else SUBJECT.problem
            yield say("key-in-git", what, fix=f"git --literal-pathspecs rm --cached -- {name}")
        if key.others_read:
            what = f"other users of this machine may read the private key {key.name}"
            yield SUBJECT.warning("key-readable", what, fix=f"chmod 600 {name}")
        if not key.is_locked:
            locked = shlex.quote(f"./{key.name}.locked")
            how = f"openssl pkcs8 -topk8 -in {name} -out {locked} && mv {locked} {name}"
            yield SUBJECT.note("key-without-passphrase", f"no passphrase protects {key.name}", fix=how)
    if keys and not any(key.in_git or key.others_read for key in keys):
        yield SUBJECT.fine("keys", f"private keys for you alone: {listing(key.name for key in keys)}")


def _head(path: Path) -> bytes:
    """The beginning of a file; nothing of what is none, such as a pipe that nobody writes into."""
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        with open(descriptor, "rb") as stream:  # noqa: PTH123 - of a descriptor
            return stream.read(MAXIMUM_PEM) if stat.S_ISREG(os.fstat(descriptor).st_mode) else b""
    except OSError:
        return b""


def _in_git(folder: Path, names: list[str], environ: Mapping[str, str]) -> frozenset[str]:
    """Those of `names` that git keeps; none where there is no git or no repository. Starts no hook of theirs."""
    git = shutil.which("git", path=environ.get("PATH", os.defpath))
    if git is None or not names:
        return frozenset()
    command = [git, "--literal-pathspecs", "-c", "core.fsmonitor=false", "ls-files", "-z", "--", *names]
    try:
        done = subprocess.run(  # noqa: S603 - fixed words, and names after `--`
            command, cwd=folder, capture_output=True, timeout=_PATIENCE, check=False, stdin=subprocess.DEVNULL,
            env={**environ, "GIT_OPTIONAL_LOCKS": "0"},
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return frozenset()
    return frozenset(os.fsdecode(name) for name in done.stdout.split(b"\0") if name)
