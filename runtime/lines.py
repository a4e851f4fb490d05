"""An installed line: what a generation must know of one bundle to build its trees, kept inside the generation.

* A function of the verified bundle and the keys trusted here: it says what the bundle carries, and keeps the model
  signatures that count. With it a generation can be built anew without the medium.
"""

from typing import TYPE_CHECKING, Final

import msgspec

from manifests import canonical, content
from manifests.content import Content, Item, Package
from manifests.digest import Digest
from manifests.errors import CorruptStoreError, FormatError, UnsupportedFormatError
from manifests.manifest import Struct

if TYPE_CHECKING:
    from manifests.bundle import VerifiedBundle

FORMAT: Final = 1
MAXIMUM_SIZE: Final = 512 << 20


class Hashes(Struct, frozen=True):
    """The other names that clients give a blob: hex of MD5, and of SHA-1 as git takes it."""

    md5: str
    git_sha1: str


class Line(Struct, frozen=True, omit_defaults=False):
    """One bundle line as it was installed. `signatures` maps `<item id> <package id>` to a signature file."""

    format: int
    content_digest: str
    content: Content
    hashes: dict[str, Hashes]
    signatures: dict[str, str]

    @property
    def digest(self) -> Digest:
        """The content digest of the bundle."""
        return Digest.parse(self.content_digest)


def of(bundle: "VerifiedBundle") -> Line:
    """What a generation must know of `bundle`."""
    carried = bundle.index.content
    signatures = {}
    for item in carried.items:
        for package in item.packages:
            if (signature := bundle.model_signature(item, package)) is not None:
                signatures[signature_key(item, package)] = signature.decode()
    return Line(
        format=FORMAT,
        content_digest=str(bundle.index.content_digest),
        content=carried,
        hashes={
            str(blob.digest): Hashes(md5=blob.md5.hex(), git_sha1=blob.git_sha1.hex()) for blob in bundle.index.blobs
        },
        signatures=signatures,
    )


def merged(offered: Line, present: Line | None) -> Line:
    """`offered`, with the model signatures that are here already: a bundle stripped of them takes none away."""
    if present is None or present.content_digest != offered.content_digest or present.hashes != offered.hashes:
        return offered
    return msgspec.structs.replace(offered, signatures={**offered.signatures, **present.signatures})


def signature_key(item: Item, package: Package) -> str:
    """The key under which a package's model signature is kept."""
    return f"{item.id} {package.id}"


def encode(line: Line) -> bytes:
    """The file."""
    return canonical.encode(line)


def decode(text: bytes, *, subject: str) -> Line:
    """The line in `text`; `CorruptStoreError`, because it lies on the site's own disk."""
    try:
        value = canonical.decode(text, limit=MAXIMUM_SIZE, subject=subject)
        canonical.refuse_newer(value, FORMAT, subject=subject)
        line = canonical.convert(value, Line, subject=subject)
        if content.decode(content.encode(line.content)) != line.content:
            raise FormatError(f"{subject}: not a line of format {FORMAT}")
    except UnsupportedFormatError:
        raise
    except FormatError as error:
        raise CorruptStoreError(error.message, hint="install the bundle again") from error
    return line
