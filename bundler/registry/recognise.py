"""What a manifest out of a registry is: one of our bundles, something that another tool made, or a list of several.

* Nothing of a manifest is believed but what FORMAT.md allows; its bounds hold before a blob is asked for.
"""

from dataclasses import dataclass
from typing import Final

import msgspec

from bundler.answers import NOT_JSON
from bundler.registry.transport import INDEXES, Received
from manifests import attachments, envelope, index, wrapper
from manifests.errors import DamagedError, FormatError, SourceError, UnsupportedFormatError, listing, printable
from manifests.tables import MAXIMUM_PACK
from manifests.wrapper import ARTIFACT, MAXIMUM_PACKS, Wrapper

_ANY_OF_OURS: Final = "application/vnd.offline-bundle.v"


class Platform(msgspec.Struct):
    """For which machine an entry of a list is."""

    os: str = ""
    architecture: str = ""
    variant: str = ""

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)


class Layer(msgspec.Struct, rename={"media_type": "mediaType"}):
    """A descriptor."""

    digest: str
    size: int
    media_type: str = ""
    annotations: dict[str, str] | None = None
    platform: Platform | None = None


class Described(msgspec.Struct, rename="camel"):
    """What any manifest may say. Whoever reads it asks for nothing more."""

    media_type: str = ""
    artifact_type: str = ""
    config: Layer | None = None
    layers: list[Layer] = []
    manifests: list[Layer] = []
    annotations: dict[str, str] | None = None

    @property
    def kind(self) -> str:
        """What it calls itself, for a message."""
        return self.artifact_type or (self.config.media_type if self.config else "") or self.media_type or "unnamed"


@dataclass(frozen=True, slots=True)
class Recognised:
    """A manifest that is no list."""

    described: Described
    received: Received

    @property
    def is_bundle(self) -> bool:
        """Whether it says that it is one of our bundles, of whatever format."""
        return self.described.artifact_type.startswith(_ANY_OF_OURS)


def look(received: Received, *, subject: str) -> Recognised:
    """What was received. Errors: `SourceError` for no manifest, or for a list: its hint names what is in it."""
    try:
        described = msgspec.json.decode(received.content, type=Described)
    except NOT_JSON as error:
        raise SourceError(f"{subject}: the registry's answer is no manifest") from error
    if described.manifests or INDEXES & {received.media_type, described.media_type}:
        entries = (f"{entry.platform or 'no platform'} @{entry.digest}" for entry in described.manifests)
        raise SourceError(
            f"{subject} is a list of {len(described.manifests)} manifests, one for each platform",
            hint=f"name one by its digest, after an @; there are: {printable(listing(entries, most=6))}",
        )
    return Recognised(described, received)


def our_wrapper(found: Recognised, *, subject: str) -> Wrapper:
    """The wrapper of one of our bundles, as yet without its reference: the envelope tells that.

    Errors: `FormatError` for anything else; `UnsupportedFormatError`; `DamagedError`.
    """
    if not found.is_bundle:
        raise FormatError(
            f"{subject} is no bundle: it calls itself {printable(found.described.kind)[:200]}",
            hint="a bundle is what `bundle push` brings; a model's files are taken by `source: oci://…` in a manifest",
        )
    if found.described.artifact_type != ARTIFACT:
        raise UnsupportedFormatError(
            f"{subject} is a bundle of another format: {printable(found.described.artifact_type)[:200]}",
            hint="a newer version of this program reads it",
        )
    try:
        carried = wrapper.parse_manifest(found.received.content, "")
    except DamagedError as error:
        raise DamagedError(f"{subject}: {error.message}", hint="push the bundle again, with `bundle push`") from error
    _check_bounds(carried, subject=subject)
    return carried


def _check_bounds(carried: Wrapper, *, subject: str) -> None:
    parts = (carried.envelope, carried.attachments, carried.index, *carried.packs)
    if (
        carried.envelope.size != envelope.SLOT
        or carried.attachments.size > attachments.MAXIMUM_SLOT
        or carried.index.size > index.MAXIMUM_SIZE
        or len(carried.packs) > MAXIMUM_PACKS
        or any(pack.size > MAXIMUM_PACK for pack in carried.packs)
        or len({part.digest for part in parts}) != len(parts)
    ):
        raise FormatError(f"{subject}: its manifest names blobs that no bundle has: too long, too many or twice")
