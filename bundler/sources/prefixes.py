"""What S3's buckets and Azure's containers share: a holder of names, which are split by slashes like paths."""

from collections.abc import Sequence

from bundler.sources.reference import Reference, unescape
from manifests.errors import ManifestError, listing, printable


def split(reference: Reference, *, holder: str, example: str, way_out: str = "") -> tuple[str, str]:
    """The holder and the name in it; the name is empty for the whole holder. Errors: `ManifestError`."""
    place, _, name = unescape(reference.location).partition("/")
    if not place:
        raise ManifestError(f"{reference} names no {holder}", hint=example)
    if "//" in f"/{name}":
        raise ManifestError(
            f"{reference}: an empty name between two slashes", hint=f"one slash each: {example}{way_out}"
        )
    return place, name


def folder_of(name: str) -> str:
    """What the names beside `name` begin with: empty, or with a slash at its end."""
    folder = name.rpartition("/")[0]
    return f"{folder}/" if folder else ""


def near(names: Sequence[str], *, folder: str, place: str) -> str:
    """A hint: what there is in `folder`, where something else was asked for."""
    if names:
        return f"there are: {printable(listing(names))}"
    return f"nothing is below {printable(folder.removesuffix('/')) or place}"


def pin_of(*, etag: str, version: str) -> dict[str, str]:
    """For the lock: what the holder says of the version of a file."""
    named = {"etag": etag, "version-id": version}
    return {name: value for name, value in named.items() if value}
