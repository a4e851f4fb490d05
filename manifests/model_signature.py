"""Model signatures: what OpenSSF Model Signing signs, so that its verifier accepts an installed package without us.

* The payload is a pure function of a package's files: a bundle carries only key id and signature, and can claim nothing
  that its index does not.
* Such a signature covers the files under `plain/`; it needs an ECDSA key.
"""

import base64
import hashlib
from typing import Final

from manifests import canonical
from manifests.attachments import ModelSignature
from manifests.content import Item, Package, Wheels
from manifests.envelope import signed_bytes
from manifests.keyring import Key
from manifests.statement import PAYLOAD_TYPE

_IGNORED: Final = [".git", ".gitattributes", ".github", ".gitignore"]


def directory_name(item: Item, package: Package) -> str:
    """The last part of the package's plain directory."""
    is_folder_of_item = package.default and not isinstance(item, Wheels)
    return item.id.rpartition("/")[2] if is_folder_of_item else package.id


def payload(item: Item, package: Package) -> bytes:
    """The in-toto statement over the package's files."""
    files = sorted(package.files, key=lambda file: file.path)
    root = hashlib.sha256(b"".join(file.digest.raw for file in files)).hexdigest()
    return canonical.encode(
        {
            "_type": "https://in-toto.io/Statement/v1",
            "subject": [{"name": directory_name(item, package), "digest": {"sha256": root}}],
            "predicateType": "https://model_signing/signature/v1.0",
            "predicate": {
                "serialization": {
                    "method": "files",
                    "hash_type": "sha256",
                    "allow_symlinks": False,
                    "ignore_paths": _IGNORED,
                },
                "resources": [{"name": file.path, "algorithm": "sha256", "digest": file.digest.hex} for file in files],
            },
        }
    )


def verifies(item: Item, package: Package, signature: ModelSignature, key: Key) -> bool:
    """Whether `signature` is `key`'s word for the package's files."""
    return key.verifies(signature.content, signed_bytes(payload(item, package)))


def encode(item: Item, package: Package, signature: bytes, key: Key) -> bytes:
    """The signature file, as `model_signing verify key` reads it."""
    return canonical.encode(
        {
            "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
            "verificationMaterial": {
                "publicKey": {"hint": hashlib.sha256(key.pem).hexdigest()},
                "tlogEntries": [],
            },
            "dsseEnvelope": {
                "payload": base64.b64encode(payload(item, package)).decode(),
                "payloadType": PAYLOAD_TYPE,
                "signatures": [{"sig": base64.b64encode(signature).decode(), "keyid": ""}],
            },
        }
    )
