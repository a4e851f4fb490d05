"""The passphrase of a signing key: from BUNDLE_KEY_PASSPHRASE, or a prompt where a person can answer one."""

import os
import sys
from typing import Final

import click

from manifests.errors import KeyFileError

VARIABLE: Final = "BUNDLE_KEY_PASSPHRASE"


def new_passphrase() -> bytes:
    """A passphrase for a new key, asked for twice. Errors: `KeyFileError` off a terminal."""
    if given := os.environ.get(VARIABLE):
        return given.encode()
    _require_terminal("a new key is locked by a passphrase", hint=f"set {VARIABLE}, or give --no-passphrase")
    answer: str = click.prompt("Passphrase for the new key", hide_input=True, confirmation_prompt=True, err=True)
    return answer.encode()


def existing_passphrase() -> bytes:
    """The passphrase of a key that is locked. Errors: `KeyFileError` off a terminal."""
    if given := os.environ.get(VARIABLE):
        return given.encode()
    _require_terminal("the key is locked by a passphrase", hint=f"set {VARIABLE}")
    answer: str = click.prompt("Passphrase of the key", hide_input=True, err=True)
    return answer.encode()


def _require_terminal(why: str, *, hint: str) -> None:
    if not sys.stdin.isatty():
        raise KeyFileError(why, hint=hint)
