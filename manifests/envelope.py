"""The envelope: a statement and the signatures over it (DSSE), in a slot of fixed size.

* Strict base64, canonical JSON, signatures sorted by key id: one spelling, so that no byte can be changed unseen.
* The slot lets a signature be added later without moving anything behind it.
"""

import base64
import binascii
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from manifests import canonical
from manifests.errors import FormatError, UnknownKeyError, UnsignedError, WrongSignatureError
from manifests.keyring import Key, Keyring, is_key_id, words
from manifests.manifest import Struct
from manifests.statement import PAYLOAD_TYPE

SLOT: Final = 16 << 10
"""Bytes of the envelope's slot: room for some seventy signatures."""


class _Signature(Struct, frozen=True):
    keyid: str
    sig: str


class _Envelope(Struct, frozen=True, rename={"payload_type": "payloadType"}):
    payload: str
    payload_type: str
    signatures: tuple[_Signature, ...]


@dataclass(frozen=True, slots=True, order=True)
class Signature:
    """One key's word: its id (64 hex digits) and the signature's bytes."""

    key_id: str
    content: bytes


@dataclass(frozen=True, slots=True)
class Envelope:
    """A payload and its signatures, sorted by key id."""

    payload: bytes
    signatures: tuple[Signature, ...]


def signed_bytes(payload: bytes) -> bytes:
    """What a key signs: DSSE's pre-authentication encoding."""
    kind = PAYLOAD_TYPE.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)


def encode(payload: bytes, signatures: Iterable[Signature]) -> bytes:
    """The envelope in its slot."""
    return in_slot(
        canonical.encode(
            _Envelope(
                payload=base64.b64encode(payload).decode(),
                payload_type=PAYLOAD_TYPE,
                signatures=tuple(
                    _Signature(keyid=signature.key_id, sig=base64.b64encode(signature.content).decode())
                    for signature in sorted(signatures)
                ),
            )
        ),
        SLOT,
        subject="envelope",
    )


def decode(slot: bytes) -> Envelope:
    """The envelope in `slot`; `FormatError` for any spelling but the one that `encode` writes."""
    parsed = canonical.decode_as(out_of_slot(slot, subject="envelope"), _Envelope, limit=SLOT, subject="envelope")
    envelope = Envelope(
        strict_base64(parsed.payload, subject="envelope"),
        tuple(Signature(entry.keyid, strict_base64(entry.sig, subject="envelope")) for entry in parsed.signatures),
    )
    ids = [signature.key_id for signature in envelope.signatures]
    if len(set(ids)) != len(ids) or not all(is_key_id(each) for each in ids):
        raise FormatError("envelope: a key signs twice, or a key id is not 64 hex digits")
    if encode(envelope.payload, envelope.signatures) != slot:
        raise FormatError("envelope: the spelling is not the one that counts")
    return envelope


def verify(envelope: Envelope, keyring: Keyring) -> tuple[Key, ...]:
    """The trusted keys that signed, at least as many as the threshold asks for.

    Errors: `UnsignedError`, `UnknownKeyError` and `WrongSignatureError`: three verdicts, never blurred.
    """
    if not envelope.signatures:
        raise UnsignedError("nobody signed this bundle", hint="ask for one built with --key")
    message = signed_bytes(envelope.payload)
    signers = []
    for signature in envelope.signatures:
        key = keyring.find(signature.key_id)
        if key is None:
            continue
        if not key.verifies(signature.content, message):
            raise WrongSignatureError(
                "a signature in a trusted key's name is wrong: the bundle was changed after it was signed",
                hint="do not use it; keep the medium, and tell your security officer",
                facts={"key": key.fingerprint},
            )
        signers.append(key)
    if len(signers) < keyring.threshold:
        by = "too few keys that are trusted here" if signers else "an unknown key"
        raise UnknownKeyError(
            f"signed by {by}: {len(signers)} of the signatures count, and {keyring.threshold} must",
            hint="ask the sender to read out the words of the key, and compare them with those of `bundle trust show`",
            facts={
                name: value
                for number, entry in enumerate(envelope.signatures, 1)
                for name, value in (
                    (f"signed by {number}", f"sha256:{entry.key_id}"),
                    (f"words {number}", words(entry.key_id)),
                )
            },
        )
    return tuple(signers)


def in_slot(text: bytes, size: int, *, subject: str) -> bytes:
    """`text`, then spaces, then one line feed: `size` bytes."""
    if len(text) >= size:
        raise FormatError(f"{subject}: {len(text)} bytes do not fit the slot of {size}")
    return text + b" " * (size - len(text) - 1) + b"\n"


def out_of_slot(slot: bytes, *, subject: str) -> bytes:
    """The text of a slot; `FormatError` if it is padded in any other way."""
    text = slot[:-1].rstrip(b" ")
    if in_slot(text, len(slot), subject=subject) != slot:
        raise FormatError(f"{subject}: the slot is not padded as the format says")
    return text


def strict_base64(text: str, *, subject: str) -> bytes:
    """Standard base64 with padding, one spelling per value."""
    try:
        content = base64.b64decode(text.encode("ascii"), validate=True)
    except (UnicodeEncodeError, binascii.Error) as error:
        raise FormatError(f"{subject}: not base64") from error
    if base64.b64encode(content).decode() != text:
        raise FormatError(f"{subject}: base64 with loose bits")
    return content
