"""Signing: the only code that sees a private key.

* Software keys sign deterministically (RFC 6979; Ed25519 always does), so that a build can be repeated bit for bit.
* A private key is written once, for its owner alone, and never leaves this module.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from manifests.errors import KeyFileError
from manifests.keyring import MAXIMUM_PEM, P256_ORDER, Key
from manifests.publish import PRIVATE, READ_ONLY, publish_new

PUBLIC_SUFFIX: Final = ".pub.pem"
_LOCKED: Final = (b"-----BEGIN ENCRYPTED", b"Proc-Type: 4,ENCRYPTED")


class Signer(Protocol):
    """Something that signs: a software key now, a token or an HSM behind the same two names later."""

    @property
    def key(self) -> Key:
        """The public half."""

    def sign(self, message: bytes) -> bytes:
        """The signature over `message`, in the spelling that `Key.verifies` takes."""


class SoftwareSigner:
    """A private key in memory."""

    def __init__(self, private: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey) -> None:
        self._private = private
        self.key = Key.of(private.public_key())

    def sign(self, message: bytes) -> bytes:
        """ECDSA over SHA-256 with a derived nonce and low S, or Ed25519."""
        if isinstance(self._private, ed25519.Ed25519PrivateKey):
            return self._private.sign(message)
        r, s = decode_dss_signature(self._private.sign(message, ec.ECDSA(hashes.SHA256(), deterministic_signing=True)))
        return encode_dss_signature(r, min(s, P256_ORDER - s))

    @classmethod
    def load(cls, path: Path, passphrase: Callable[[], bytes]) -> "SoftwareSigner":
        """The private key in `path`; `passphrase` is asked only for a key that is locked.

        Errors: `KeyFileError` says whether file, kind or passphrase is wrong.
        """
        try:
            pem = path.read_bytes()[:MAXIMUM_PEM]
        except OSError as error:
            raise KeyFileError(f"{path}: {error.strerror}", hint="`bundle keygen -o KEY.pem` makes a key") from error
        if b"PUBLIC KEY" in pem:
            raise KeyFileError(f"{path} is a public key", hint="signing wants the private one, KEY.pem")
        try:
            private = serialization.load_pem_private_key(
                pem, passphrase() if any(mark in pem for mark in _LOCKED) else None
            )
        except (ValueError, UnsupportedAlgorithm) as error:
            raise KeyFileError(f"{path}: a wrong passphrase, or not a private key in PEM") from error
        if isinstance(private, ed25519.Ed25519PrivateKey):
            return cls(private)
        if isinstance(private, ec.EllipticCurvePrivateKey) and isinstance(private.curve, ec.SECP256R1):
            return cls(private)
        raise KeyFileError(f"{path}: only ECDSA P-256 and Ed25519 keys are used here")


def public_path(path: Path) -> Path:
    """Where the public half of the key in `path` lies: `KEY.pem` and `KEY.pub.pem`."""
    return path.with_name(path.name.removesuffix(".pem") + PUBLIC_SUFFIX)


def generate(path: Path, passphrase: bytes | None) -> Key:
    """Make an ECDSA P-256 key: `path` for its owner alone, and the public half beside it.

    Errors: `KeyFileError` if either file exists: a key that was trusted somewhere is never overwritten.
    """
    for target in (path, public_path(path)):
        if target.exists():
            raise _taken(target)
    private = ec.generate_private_key(ec.SECP256R1())
    try:
        lock = serialization.BestAvailableEncryption(passphrase) if passphrase else serialization.NoEncryption()
        pem = private.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, lock)
    except ValueError as error:
        raise KeyFileError("the passphrase cannot be used: it has 1 to 1023 bytes") from error
    key = Key.of(private.public_key())
    for target, content, mode in ((path, pem, PRIVATE), (public_path(path), key.pem, READ_ONLY | 0o200)):
        if not publish_new(target, content, mode=mode):
            raise _taken(target)
    return key


def _taken(path: Path) -> KeyFileError:
    return KeyFileError(
        f"{path} exists already: keys are never overwritten",
        hint="name another file; `openssl pkey -in KEY.pem -pubout -out KEY.pub.pem` makes a lost public half",
    )
