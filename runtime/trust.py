"""The root of trust of a site: which keys may sign for it, how many must agree, which are revoked.

* It is made once, by hand, from fingerprints that were compared out of band; it is never taken from a bundle unasked.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from manifests import canonical
from manifests.errors import KeyFileError, NoRootOfTrustError, TrustError
from manifests.keyring import MAXIMUM_PEM, Key, Keyring
from manifests.manifest import Struct
from manifests.publish import publish_new, translated
from runtime.root import TRUST_INIT, Root

FORMAT: Final = 1
_LIMIT: Final = 4 << 20


class _TrustedKey(Struct, frozen=True):
    id: str
    name: str
    pem: str


class _RootOfTrust(Struct, frozen=True, omit_defaults=False):
    format: int
    keys: tuple[_TrustedKey, ...]
    revoked: tuple[str, ...]
    threshold: int
    version: int


def initialise(root: Root, keys: Sequence[tuple[str, Key]], *, threshold: int) -> Keyring:
    """Trust these (name, key) pairs, `threshold` of which must sign.

    Errors: `TrustError` if the site has a root of trust already; `KeyFileError` if the threshold cannot be met.
    """
    keyring = Keyring.of([key for _, key in keys], threshold=threshold)
    entries = {key.id: _TrustedKey(id=key.id, name=name, pem=key.pem.decode()) for name, key in keys}
    document = _RootOfTrust(
        format=FORMAT, keys=tuple(entries[key] for key in sorted(entries)), revoked=(), threshold=threshold, version=1
    )
    Root.create(root.path)
    if not publish_new(root.trust_file, canonical.encode(document)):
        raise TrustError(
            f"{root.path} has a root of trust already",
            hint="`bundle trust show` prints it. To replace it, compare the words of the new keys over the phone, "
            f"remove {root.trust_file}, and run this again",
        )
    return keyring


def load(root: Root) -> Keyring:
    """The keyring of the site. Errors: `NoRootOfTrustError` says how to make one."""
    document = _read(root)
    keys = [Key.parse(entry.pem.encode(), subject=f"trusted key {entry.name}") for entry in document.keys]
    return Keyring.of(keys, threshold=document.threshold, revoked=document.revoked)


def names(root: Root) -> dict[str, str]:
    """The name that each trusted key was given, by key id."""
    return {entry.id: entry.name for entry in _read(root).keys}


def load_key(path: Path) -> Key:
    """The public key in a file. Errors: `KeyFileError`."""
    try:
        with path.open("rb") as stream:
            return Key.parse(stream.read(MAXIMUM_PEM), subject=str(path))
    except OSError as error:
        raise KeyFileError(f"{path}: {error.strerror}") from error


def _read(root: Root) -> _RootOfTrust:
    path = root.trust_file
    try:
        with path.open("rb") as stream:
            text = stream.read(_LIMIT + 1)
    except FileNotFoundError as error:
        raise NoRootOfTrustError(
            f"{root.path} has no root of trust: it does not know whom to trust", hint=TRUST_INIT
        ) from error
    except OSError as error:
        with translated(path):
            raise error from None
    return canonical.decode_as(text, _RootOfTrust, limit=_LIMIT, subject=str(path))
