"""The verdict on a bundle's signers, in words that are the same wherever it is shown."""

from pathlib import Path

from manifests.bundle import SealedBundle
from manifests.envelope import verify
from manifests.errors import NoRootOfTrustError, NotARootError, TrustError
from manifests.keyring import Keyring


def site_keyring(root: Path | None) -> Keyring | None:
    """The keyring of the site that this machine is, if it is one."""
    from runtime import trust
    from runtime.root import Root
    from runtime.settings import locate_root

    try:
        return trust.load(Root.open(locate_root(root)))
    except (NotARootError, NoRootOfTrustError):
        return None


def verdict(sealed: SealedBundle, keyring: Keyring | None) -> dict[str, object]:
    """`verdict` in words, and the key ids that it is about."""
    key_ids = [signature.key_id for signature in sealed.envelope.signatures]
    if not key_ids:
        return {"verdict": "unsigned", "key_ids": key_ids, "trusted": []}
    if keyring is None:
        return {"verdict": "signed; compared with no trusted key", "key_ids": key_ids, "trusted": []}
    try:
        signers = verify(sealed.envelope, keyring)
    except TrustError as error:
        return {"verdict": error.meaning, "key_ids": key_ids, "trusted": []}
    return {"verdict": "signed by a trusted key", "key_ids": key_ids, "trusted": [key.id for key in signers]}
