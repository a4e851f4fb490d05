"""The wrapper: what makes a bundle an OCI image layout, and a tar. FORMAT.md, section 1.

* A pure function of what it wraps: a reader builds it anew and compares, so that no byte of it can differ.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from manifests import canonical
from manifests.digest import Digest
from manifests.errors import DamagedError, FormatError, UnsupportedFormatError
from manifests.manifest import Struct

FORMAT: Final = "1"
BLOCK: Final = 512
END: Final = bytes(2 * BLOCK)
MAXIMUM_WRAPPER: Final = 4 << 20
"""Bytes of the manifest: what registries and their tools take."""
FRONT_MEMBERS: Final = 7
"""All but the packs."""
MAXIMUM_MEMBERS: Final = 20_000
MAXIMUM_PACKS: Final = 16_000
"""Packs of a bundle: as many as a manifest of 4 MiB can name."""

LAYOUT_NAME: Final = "oci-layout"
INDEX_NAME: Final = "index.json"
LAYOUT: Final = b'{"imageLayoutVersion":"1.0.0"}'
CONFIG: Final = b"{}"

ARTIFACT: Final = "application/vnd.offline-bundle.v1"
OCI_INDEX: Final = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
EMPTY: Final = "application/vnd.oci.empty.v1+json"
_ENVELOPE_TYPE: Final = "application/vnd.offline-bundle.envelope.v1+json"
_ATTACHMENTS_TYPE: Final = "application/vnd.offline-bundle.attachments.v1+json"
_INDEX_TYPE: Final = "application/vnd.offline-bundle.index.v1"
_PACK_TYPE: Final = "application/vnd.offline-bundle.pack.v1"
_FORMAT_KEY: Final = "offline-bundle.format"
_NAME_KEY: Final = "org.opencontainers.image.ref.name"
_MEMBER: Final = re.compile(rb"oci-layout|index\.json|blobs/sha256/[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Part:
    """A member that is wrapped: its digest and size."""

    digest: Digest
    size: int

    @classmethod
    def of(cls, content: bytes) -> "Part":
        """The part that `content` is."""
        return cls(Digest.of(content), len(content))

    @property
    def name(self) -> str:
        """Its name in the layout."""
        return f"blobs/sha256/{self.digest.hex}"


@dataclass(frozen=True, slots=True)
class Wrapper:
    """What is wrapped. `reference` is `LINE-SEQUENCE`."""

    reference: str
    envelope: Part
    attachments: Part
    index: Part
    packs: tuple[Part, ...]

    def manifest(self) -> bytes:
        """The OCI image manifest."""
        layers = [(_ENVELOPE_TYPE, self.envelope), (_ATTACHMENTS_TYPE, self.attachments), (_INDEX_TYPE, self.index)]
        layers += [(_PACK_TYPE, pack) for pack in self.packs]
        return canonical.encode(
            {
                "artifactType": ARTIFACT,
                "config": _descriptor(EMPTY, Part.of(CONFIG)),
                "layers": [_descriptor(media_type, part) for media_type, part in layers],
                "mediaType": OCI_MANIFEST,
                "schemaVersion": 2,
            }
        )

    def index_json(self) -> bytes:
        """The layout's `index.json`."""
        manifest = _descriptor(OCI_MANIFEST, Part.of(self.manifest()))
        return canonical.encode(
            {
                "annotations": {_FORMAT_KEY: FORMAT},
                "manifests": [manifest | {"annotations": {_NAME_KEY: self.reference}, "artifactType": ARTIFACT}],
                "mediaType": OCI_INDEX,
                "schemaVersion": 2,
            }
        )

    def written(self) -> Iterator[tuple[str, bytes]]:
        """Members 1 to 4: name and content."""
        manifest = self.manifest()
        yield LAYOUT_NAME, LAYOUT
        yield INDEX_NAME, self.index_json()
        yield Part.of(manifest).name, manifest
        yield Part.of(CONFIG).name, CONFIG

    def members(self) -> Iterator[tuple[str, int]]:
        """Every member in order: name and size."""
        for name, content in self.written():
            yield name, len(content)
        for part in (self.envelope, self.attachments, self.index, *self.packs):
            yield part.name, part.size


class _Descriptor(Struct, frozen=True, rename={"media_type": "mediaType", "artifact_type": "artifactType"}):
    digest: str
    media_type: str
    size: int
    annotations: dict[str, str] = {}
    artifact_type: str = ""

    def part(self) -> Part:
        if not 0 <= self.size <= canonical.MAXIMUM_INTEGER:
            raise FormatError("a descriptor's size is out of range")
        return Part(Digest.parse(self.digest), self.size)


class _Index(Struct, frozen=True, rename={"media_type": "mediaType", "schema_version": "schemaVersion"}):
    annotations: dict[str, str]
    manifests: tuple[_Descriptor, ...]
    media_type: str
    schema_version: int


class _Manifest(
    Struct,
    frozen=True,
    rename={"artifact_type": "artifactType", "media_type": "mediaType", "schema_version": "schemaVersion"},
):
    artifact_type: str
    config: _Descriptor
    layers: tuple[_Descriptor, ...]
    media_type: str
    schema_version: int


def parse_index_json(content: bytes) -> tuple[str, Part]:
    """The reference and the manifest that `index.json` names. The format version is looked at before all else.

    Errors: `UnsupportedFormatError` for a newer format, `FormatError` for what is no bundle at all.
    """
    value = canonical.decode_any_spelling(content, limit=MAXIMUM_WRAPPER, subject=INDEX_NAME)
    annotations = value.get("annotations") if isinstance(value, dict) else None
    version = annotations.get(_FORMAT_KEY) if isinstance(annotations, dict) else None
    if version is None:
        raise FormatError("an OCI layout, but not a bundle: its index.json names no bundle format")
    if version != FORMAT:
        raise UnsupportedFormatError(
            f"the bundle has format {version}; this program reads format {FORMAT}",
            hint="bring a newer version of this program to the site",
        )
    parsed = canonical.convert(value, _Index, subject=INDEX_NAME)
    if len(parsed.manifests) != 1:
        raise FormatError("index.json must name exactly one manifest")
    return parsed.manifests[0].annotations.get(_NAME_KEY, ""), parsed.manifests[0].part()


def parse_manifest(content: bytes, reference: str) -> Wrapper:
    """The wrapper that this manifest describes; `DamagedError` if it is not the one that would be written."""
    parsed = canonical.decode_as(content, _Manifest, limit=MAXIMUM_WRAPPER, subject="manifest")
    if len(parsed.layers) < 3:
        raise FormatError("the manifest names no envelope, attachments and index")
    envelope, attachments, index, *packs = (layer.part() for layer in parsed.layers)
    wrapper = Wrapper(reference, envelope, attachments, index, tuple(packs))
    if wrapper.manifest() != content:
        raise DamagedError("the manifest is not the one that the format prescribes")
    return wrapper


def tar_header(name: str, size: int) -> bytes:
    """The 512 bytes before a member: ustar, nothing in it but name, size and constants."""
    fields = (
        name.encode().ljust(100, b"\0"), b"0000644\0", b"0000000\0", b"0000000\0", b"%011o\0" % size, b"0" * 11 + b"\0",
        b" " * 8, b"0", bytes(100), b"ustar\x0000", bytes(32), bytes(32), b"0000000\0", b"0000000\0", bytes(167),
    )  # fmt: skip
    header = b"".join(fields)
    return header[:148] + b"%06o\0 " % sum(header) + header[156:]


def parse_tar_header(header: bytes) -> tuple[str, int]:
    """Name and size of the member behind `header`; `DamagedError` if a bit of it is not as `tar_header` writes it."""
    name, digits = header[:100].rstrip(b"\0"), header[124:135]
    if not _MEMBER.fullmatch(name) or not re.fullmatch(rb"[0-7]{11}", digits):
        raise DamagedError("a tar header names no member of a bundle")
    size = int(digits, 8)
    if tar_header(name.decode(), size) != header:
        raise DamagedError(f"the tar header of {name.decode()} was changed")
    return name.decode(), size


def padding(size: int) -> int:
    """Zeros after a member of `size` bytes."""
    return -size % BLOCK


def length_in_tar(members: Iterable[tuple[str, int]]) -> int:
    """Bytes of members, by name and size, in a tar: headers and padding counted."""
    return sum(BLOCK + size + padding(size) for _, size in members)


def _descriptor(media_type: str, part: Part) -> dict[str, object]:
    return {"digest": str(part.digest), "mediaType": media_type, "size": part.size}
