"""Who is trusted: public keys, how many of them must agree, and which are revoked.

* A key id is the SHA-256 of the key's SubjectPublicKeyInfo in DER: it names the key, whatever file it came in.
* Signatures have one spelling: strict DER and low S for ECDSA, 64 bytes for Ed25519.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from manifests.digest import Digest
from manifests.errors import KeyFileError

MAXIMUM_PEM: Final = 16 << 10
P256_ORDER: Final = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551

_ID: Final = re.compile(r"[0-9a-f]{64}")

PublicKey = ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey


@dataclass(frozen=True, slots=True)
class Key:
    """A public key. `pem` is its SubjectPublicKeyInfo as `openssl pkey -pubout` prints it."""

    public: PublicKey
    pem: bytes
    id: str

    @classmethod
    def of(cls, public: PublicKey) -> "Key":
        """The key with its id."""
        form = serialization.PublicFormat.SubjectPublicKeyInfo
        der = public.public_bytes(serialization.Encoding.DER, form)
        return cls(public, public.public_bytes(serialization.Encoding.PEM, form), Digest.of(der).hex)

    @classmethod
    def parse(cls, pem: bytes, *, subject: str) -> "Key":
        """A public key out of PEM. Errors: `KeyFileError` says what is wrong with `subject`."""
        if b"PRIVATE KEY" in pem:
            raise KeyFileError(f"{subject} is a private key", hint="the site wants the public one, KEY.pub.pem")
        try:
            public = serialization.load_pem_public_key(pem[:MAXIMUM_PEM])
        except (ValueError, UnsupportedAlgorithm) as error:
            raise KeyFileError(f"{subject} is not a public key in PEM") from error
        if isinstance(public, ed25519.Ed25519PublicKey):
            return cls.of(public)
        if isinstance(public, ec.EllipticCurvePublicKey) and isinstance(public.curve, ec.SECP256R1):
            return cls.of(public)
        raise KeyFileError(f"{subject}: only ECDSA P-256 and Ed25519 keys are used here")

    @property
    def is_elliptic(self) -> bool:
        """Whether this is an ECDSA key, which OpenSSF Model Signing needs."""
        return isinstance(self.public, ec.EllipticCurvePublicKey)

    @property
    def fingerprint(self) -> str:
        """The id as people compare it."""
        return f"sha256:{self.id}"

    @property
    def words(self) -> str:
        """The first half of the id, to read out over a phone."""
        return words(self.id)

    def verifies(self, signature: bytes, message: bytes) -> bool:
        """Whether `signature` is this key's word for `message`, in the one spelling that counts."""
        try:
            if isinstance(self.public, ed25519.Ed25519PublicKey):
                self.public.verify(signature, message)
                return True
            r, s = decode_dss_signature(signature)
            if encode_dss_signature(r, s) != signature or not 1 <= s <= P256_ORDER // 2:
                return False
            self.public.verify(signature, message, ec.ECDSA(hashes.SHA256()))
        except (InvalidSignature, ValueError):
            return False
        return True


@dataclass(frozen=True, slots=True)
class Keyring:
    """Keys trusted here, and how many of them must have signed."""

    keys: dict[str, Key]
    threshold: int = 1
    revoked: frozenset[str] = field(default_factory=frozenset)

    @classmethod
    def of(cls, keys: Iterable[Key], *, threshold: int = 1, revoked: Iterable[str] = ()) -> "Keyring":
        """A keyring of `keys`. Errors: `KeyFileError` if the threshold cannot be met."""
        by_id = {key.id: key for key in keys}
        gone = frozenset(revoked)
        if not 1 <= threshold <= len(by_id.keys() - gone):
            raise KeyFileError(f"a threshold of {threshold} cannot be met by {len(by_id.keys() - gone)} keys")
        return cls(by_id, threshold, gone)

    def find(self, key_id: str) -> Key | None:
        """The trusted key with this id; None if it is unknown or revoked."""
        return None if key_id in self.revoked else self.keys.get(key_id)


def words(key_id: str) -> str:
    """The first half of a key id as eight syllable words."""
    return " ".join(_word(int(key_id[at : at + 4], 16)) for at in range(0, 32, 4))


def is_key_id(text: str) -> bool:
    """Whether `text` is spelled as a key id: 64 lower-case hex digits."""
    return _ID.fullmatch(text) is not None


_CONSONANTS: Final = "bdfghjklmnprstvz"
_VOWELS: Final = "aiou"


def _word(number: int) -> str:
    """16 bits as consonant, vowel, consonant, vowel, consonant."""
    consonants = (_CONSONANTS[number >> shift & 15] for shift in (12, 6, 0))
    vowels = (_VOWELS[number >> shift & 3] for shift in (10, 4))
    first, middle, last = consonants
    one, two = vowels
    return first + one + middle + two + last
