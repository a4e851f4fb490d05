"""Model artifacts in an OCI registry: `oci://HOST[:PORT]/NAME:TAG[/FILE]` or `oci://HOST/NAME@sha256:HEX[/FILE]`.

* A file is a layer that has a name: the annotation of ORAS (`org.opencontainers.image.title`), or that of ModelPack
  (`org.cncf.model.filepath`). A file that its tool keeps inside a tar is listed as that tar.
* A tag is asked for once, and from then on it is the manifest's digest, which is the pin. Every file's size and digest
  are the manifest's word, so that nothing is fetched for a lock.
* One of our bundles is no source: only who trusts its signers gets content out of it, and whoever writes a lock
  trusts none. Neither is a container image. The errors say what to do instead.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final

from bundler.http import Client
from bundler.once import Once
from bundler.registry import recognise
from bundler.registry.address import Address
from bundler.registry.recognise import Layer
from bundler.registry.transport import Repository
from bundler.settings import Registries
from bundler.sources.base import Found, Remote
from bundler.sources.reference import Reference
from manifests.canonical import MAXIMUM_INTEGER
from manifests.digest import Digest
from manifests.errors import FormatError, ManifestError, SourceError, SourceNotFoundError, listing, printable
from manifests.wrapper import EMPTY

_TITLE: Final = "org.opencontainers.image.title"
_FILEPATH: Final = "org.cncf.model.filepath"
_LICENSES: Final = "org.opencontainers.image.licenses"
_UNPACK: Final = "io.deis.oras.content.unpack"
_MODEL_PACK: Final = "application/vnd.cncf.model."
_TARS: Final = {".tar": (".tar",), ".tar+gzip": (".tar.gz", ".tgz"), ".tar+zstd": (".tar.zst",)}
_IMAGES: Final = ("application/vnd.oci.image.layer.", "application/vnd.docker.image.rootfs.")
_LONGEST_SHOWN: Final = 200


@dataclass(frozen=True, slots=True)
class _Artifact:
    """What a manifest names: its files by path, and what holds for all of them."""

    repository: Repository
    digest: Digest
    files: Mapping[str, Layer]
    licenses: tuple[str, ...]


class RegistrySource:
    """Any registry; the logins are those of the other programs on this machine."""

    def __init__(self, registries: Registries, client: Client) -> None:
        self._logins = registries.logins
        self._client = client
        self._artifacts: Once[tuple[str, str, str], _Artifact] = Once()

    def find(self, reference: Reference, pin: Mapping[str, str]) -> Found:
        """The file; without a path, the only one. Errors: `SourceNotFoundError`, `ManifestError` if there are more."""
        address = _address(reference)
        artifact = self._artifact(address, pin)
        path = address.path
        if not path:
            if len(artifact.files) != 1:
                raise ManifestError(
                    f"{reference} has {len(artifact.files)} files, and one is asked for",
                    hint=f"{reference.container}/FILE; there are: {printable(listing(sorted(artifact.files)))}",
                )
            path = next(iter(artifact.files))
        if path not in artifact.files:
            raise SourceNotFoundError(
                f"{address} has no file {path}", hint=f"there are: {printable(listing(sorted(artifact.files)))}"
            )
        return self._found(reference, path, artifact)

    def list(self, reference: Reference, pin: Mapping[str, str]) -> tuple[Found, ...]:
        """Every file of the artifact, or the one file."""
        if _address(reference).path or reference.members:
            return (self.find(reference, pin),)
        artifact = self._artifact(_address(reference), pin)
        return tuple(self._found(reference.child(path), path, artifact) for path in sorted(artifact.files))

    def _found(self, reference: Reference, path: str, artifact: _Artifact) -> Found:
        layer = artifact.files[path]
        digest = Digest.parse(layer.digest)
        return Found(
            reference,
            path,
            Remote(artifact.repository.blob_url(digest), artifact.repository.authorization),
            size=layer.size,
            digest=digest,
            pin={"manifest": str(artifact.digest)},
            licenses=artifact.licenses,
        )

    def _artifact(self, address: Address, pin: Mapping[str, str]) -> _Artifact:
        version = pin.get("manifest") or address.version
        key = (address.host, address.repository, version)
        return self._artifacts.get(key, partial(self._ask, address, version))

    def _ask(self, address: Address, version: str) -> _Artifact:
        repository, subject = Repository(self._client, address, self._logins), str(address)
        received = repository.manifest(version, subject=subject)
        found = recognise.look(received, subject=subject)
        if found.is_bundle:
            raise SourceError(
                f"{subject} is one of our bundles: its files lie in it in pieces, and none is used unverified",
                hint=f"name the sources that it was built from; or `bundle pull {subject}`, `bundle install` it where "
                "its signers are trusted, `bundle export ID DIR --layout directory`, and name the files in DIR/ID",
            )
        annotations = found.described.annotations or {}
        licenses = annotations.get(_LICENSES, "").strip()
        files = _files(found.described.layers, kind=found.described.kind, subject=subject)
        return _Artifact(repository, received.digest, files, (licenses,) if licenses else ())


def _address(reference: Reference) -> Address:
    address = Address.parse(reference.location)
    if not address.version:
        raise ManifestError(f"{reference} names no tag", hint=f"{reference}:TAG, or @sha256:HEX")
    return address


def _files(layers: list[Layer], *, kind: str, subject: str) -> dict[str, Layer]:
    """The layers by the path that their tool gave them. Errors: `SourceError`."""
    files: dict[str, Layer] = {}
    unnamed = 0
    for layer in layers:
        _check(layer, subject=subject)
        path = _path(layer)
        if path is None:
            unnamed += layer.media_type != EMPTY
        elif path in files:
            raise SourceError(f"{subject}: two of its layers have the name {printable(path)[:_LONGEST_SHOWN]}")
        else:
            files[path] = layer
    if files:
        return files
    if unnamed and any(layer.media_type.startswith(_IMAGES) for layer in layers):
        raise SourceError(
            f"{subject} is a container image, whose layers are no files of a model",
            hint="take the files out of it, and name them by their paths",
        )
    raise SourceError(
        f"{subject} has no files: {unnamed} layers without a name, in {printable(kind)[:_LONGEST_SHOWN]}",
        hint=f"a file is a layer with the annotation {_TITLE}, as `oras push` writes it",
    )


def _check(layer: Layer, *, subject: str) -> None:
    try:
        Digest.parse(layer.digest)
    except FormatError as error:
        raise SourceError(
            f"{subject}: {error}", hint="this program reads manifests whose digests are SHA-256"
        ) from error
    if not 0 <= layer.size <= MAXIMUM_INTEGER:
        raise SourceError(f"{subject}: a layer of a size that no file has")


def _path(layer: Layer) -> str | None:
    """The name of the file; of a tar, one that says so."""
    annotations = layer.annotations or {}
    path = annotations.get(_FILEPATH) or annotations.get(_TITLE)
    if path is None:
        return None
    endings = _tar_endings(layer, unpack=annotations.get(_UNPACK) == "true")
    return path if not endings or path.endswith(endings) else path + endings[0]


def _tar_endings(layer: Layer, *, unpack: bool) -> tuple[str, ...]:
    """How the name of a layer ends that is a tar around what it is named by."""
    if unpack:
        return _TARS[".tar+gzip"]
    if layer.media_type.startswith(_MODEL_PACK):
        return next((endings for kind, endings in _TARS.items() if layer.media_type.endswith(kind)), ())
    return ()
