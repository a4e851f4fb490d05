"""A bundle into a registry, blob by blob, straight from where it lies.

* What is sent is the bundle's own bytes, its manifest among them: the digest there is what any other tool would give.
* What the registry has is not sent again. The manifest goes last: a tag never names something half.
* Wrapper and signed index are compared before the first byte goes, every other byte before its blob is committed.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bundler.http import Client
from bundler.registry.address import Address
from bundler.registry.transport import Repository
from bundler.registry.upload import PIECE, Upload
from bundler.settings import Settings
from bundler.together import together
from manifests import wrapper
from manifests.bundle import SealedBundle
from manifests.digest import Digest
from manifests.errors import ManifestError
from manifests.medium import Medium, open_medium
from manifests.progress import Reporter
from manifests.wrapper import CONFIG, INDEX_NAME, MAXIMUM_WRAPPER, Part, Wrapper


@dataclass(frozen=True, slots=True)
class Pushed:
    """What a push did. `moved` is the digest that the tag named before, if that was another."""

    address: Address
    digest: Digest
    size: int
    blobs: int
    sent: int
    sent_bytes: int
    moved: str


def push(
    bundle: Path,
    address: Address,
    settings: Settings,
    reporter: Reporter,
    *,
    plain_http: bool = False,
    piece: int = PIECE,
) -> Pushed:
    """Bring `bundle` to `address`, by default under the tag `LINE-SEQUENCE`.

    Errors: `FormatError` and `DamagedError` for the bundle; `SourceError` and its kinds for the registry.
    """
    if address.digest or address.path:
        raise ManifestError(
            f"{address}: a bundle is pushed to a tag", hint=f"{address.tagged('')}, or with a :TAG of your own"
        )
    with SealedBundle.open(bundle) as sealed:
        sealed.view()  # the index is the one that was signed, and names these packs
        size = sealed.size
    medium = open_medium(bundle)
    try:
        carried, manifest = _read_wrapper(medium)
        place = address.tagged(address.tag or carried.reference)
        with Client(settings, reporter) as client:
            repository = Repository(client, place, settings.registries.logins, writes=True, plain_http=plain_http)
            return _push(repository, carried, manifest, medium, reporter, size=size, piece=piece, settings=settings)
    finally:
        medium.close()


def parts_of(carried: Wrapper) -> Iterator[tuple[str, Part]]:
    """Every blob that a wrapper names but the config, with a name for people, the small ones first."""
    yield f"{carried.reference} envelope", carried.envelope
    yield f"{carried.reference} attachments", carried.attachments
    yield f"{carried.reference} index", carried.index
    for number, pack in enumerate(carried.packs, 1):
        yield f"{carried.reference} pack {number} of {len(carried.packs)}", pack


def _read_wrapper(medium: Medium) -> tuple[Wrapper, bytes]:
    reference, part = wrapper.parse_index_json(medium.head(INDEX_NAME, MAXIMUM_WRAPPER))
    medium.members()
    content = medium.read(part.name, 0, part.size)
    return wrapper.parse_manifest(content, reference), content


def _push(
    repository: Repository,
    carried: Wrapper,
    manifest: bytes,
    medium: Medium,
    reporter: Reporter,
    *,
    size: int,
    piece: int,
    settings: Settings,
) -> Pushed:
    tag, digest = repository.address.tag, Digest.of(manifest)
    before = repository.find_manifest(tag, subject=f"the manifest of {tag}")
    parts = [(f"{carried.reference} config", Part.of(CONFIG)), *parts_of(carried)]
    uploads = [
        Upload(repository, part, partial(medium.read, part.name), reporter, subject=name, piece=piece)
        for name, part in parts
    ]
    done = together([upload.run for upload in uploads], threads=settings.threads, stop=repository.client.stop)
    if before != str(digest):
        repository.put_manifest(manifest, tag, subject=f"the manifest of {tag}")
    sent = [part for (_, part), was_sent in zip(parts, done, strict=True) if was_sent]
    return Pushed(
        repository.address,
        digest,
        size,
        len(parts),
        len(sent),
        sum(part.size for part in sent),
        before if before and before != str(digest) else "",
    )
