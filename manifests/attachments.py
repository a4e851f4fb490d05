"""The attachments: what depends on keys and not on the statement, in a slot of its own.

* Their claims are pure functions of the index; only key ids and signatures are carried.
* Nothing here is trusted beyond what the keyring says of each signature.
"""

import base64
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from manifests import canonical
from manifests.content import Content
from manifests.envelope import in_slot, out_of_slot, strict_base64
from manifests.errors import FormatError
from manifests.keyring import is_key_id
from manifests.manifest import Struct

MAXIMUM_SLOT: Final = 64 << 20
MAXIMUM_PER_PACKAGE: Final = 8
"""Signatures over one package."""
_ROOM: Final = 64 << 10
_PER_PACKAGE: Final = 512
_STEP: Final = 4 << 10


class _ModelSignature(Struct, frozen=True):
    item: int
    keyid: str
    package: int
    sig: str


class _Attachments(Struct, frozen=True):
    model_signatures: tuple[_ModelSignature, ...]
    root_chain: tuple[str, ...]


@dataclass(frozen=True, slots=True, order=True)
class ModelSignature:
    """A key's word for the files of one package: places in the content, key id, the signature's bytes."""

    item: int
    package: int
    key_id: str
    content: bytes


def slot_size(carried: Content) -> int:
    """Bytes of the slot: a function of the index, so that signing anew moves nothing."""
    size = _ROOM + _PER_PACKAGE * sum(len(item.packages) for item in carried.items)
    return size + -size % _STEP


def encode(signatures: Iterable[ModelSignature], size: int) -> bytes:
    """The attachments in a slot of `size` bytes."""
    entries = tuple(
        _ModelSignature(
            item=entry.item, keyid=entry.key_id, package=entry.package, sig=base64.b64encode(entry.content).decode()
        )
        for entry in sorted(signatures)
    )
    text = canonical.encode(_Attachments(model_signatures=entries, root_chain=()))
    return in_slot(text, size, subject="attachments")


def decode(slot: bytes, carried: Content) -> tuple[ModelSignature, ...]:
    """The model signatures in `slot`; `FormatError` for any spelling but the one that `encode` writes."""
    if len(slot) != slot_size(carried):
        raise FormatError("attachments: the slot has not the size that follows from the index")
    text = out_of_slot(slot, subject="attachments")
    parsed = canonical.decode_as(text, _Attachments, limit=MAXIMUM_SLOT, subject="attachments")
    signatures = tuple(
        ModelSignature(entry.item, entry.package, entry.keyid, strict_base64(entry.sig, subject="attachments"))
        for entry in parsed.model_signatures
    )
    for entry in signatures:
        if not (0 <= entry.item < len(carried.items) and 0 <= entry.package < len(carried.items[entry.item].packages)):
            raise FormatError("attachments: a signature for a package that the bundle does not carry")
    owners = Counter((entry.item, entry.package) for entry in signatures)
    named = {(entry.item, entry.package, entry.key_id) for entry in signatures}
    if len(named) != len(signatures) or max(owners.values(), default=0) > MAXIMUM_PER_PACKAGE:
        raise FormatError("attachments: a key signs one package twice, or too many sign it")
    if encode(signatures, len(slot)) != slot or not all(is_key_id(entry.key_id) for entry in signatures):
        raise FormatError("attachments: the spelling is not the one that counts")
    return signatures
