"""What is never carried: private keys and secrets, by name or content, and the pointers that Git LFS leaves."""

import re
from collections.abc import Iterable
from typing import Final

from bundler.initialise.entries import Item
from bundler.initialise.selection import format_of
from manifests.errors import SourceError, printable

MAXIMUM_KEY: Final = 1 << 20
"""Bytes of a file that is looked into for a private key."""
_POINTER: Final = b"version https://git-lfs.github.com/spec/"
_LARGEST_POINTER: Final = 1024
_KEYS: Final = (b"PRIVATE KEY-----", b"PuTTY-User-Key-File-")
_SECRET: Final = re.compile(
    r".*\.(?:env|p12|pfx|jks|ppk)|(?:id_(?:rsa|ed25519|ecdsa|dsa)|credentials).*", re.IGNORECASE
)


def is_secret(name: str) -> bool:
    """Whether a file of this name holds a private key or passwords."""
    return bool(_SECRET.fullmatch(name))


def holds_key(content: bytes | None) -> bool:
    """Whether these are the bytes of a private key."""
    return content is not None and any(mark in content for mark in _KEYS)


def refuse_secret(item: Item) -> None:
    """`SourceError` for what must never be carried."""
    small = item.size <= MAXIMUM_KEY
    if is_secret(item.name) or (small and holds_key(item.read(MAXIMUM_KEY))):
        what = "is called as secrets are" if is_secret(item.name) else "is a private key"
        raise SourceError(f"{printable(item.path)} {what}", hint="keep it here: only what is public may travel")


def refuse_pointer(item: Item) -> None:
    """`SourceError` for what git leaves in the place of a large file."""
    if item.size < _LARGEST_POINTER and (item.read(_LARGEST_POINTER) or b"").startswith(_POINTER):
        raise SourceError(
            f"{printable(item.path)} is the pointer that Git LFS leaves, not the file", hint="run `git lfs pull` there"
        )


def refuse_pointers(items: Iterable[Item]) -> None:
    """The same for each of `items`; elsewhere only weights are looked into, and a hub gives the files themselves."""
    for item in items:
        if item.local is not None or (format_of(item.path) and not item.source.startswith("hf://")):
            refuse_pointer(item)
