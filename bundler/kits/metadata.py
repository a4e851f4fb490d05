"""What a distribution says of itself in its METADATA: what it requires, and which Python it is for.

* It is read from where the index has it by itself (PEP 658), else out of the wheel. A wheel that had to come over the
  network for that is in the store then, and is not fetched a second time; what was read once is remembered there.
* METADATA that cannot be understood, or that is another distribution's, is a `problem` of that one version.
* No more is read than METADATA may have, and every digest that is known is compared.
"""

import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from email.message import Message
from email.parser import BytesParser
from functools import partial
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO, Final, Self, cast

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from bundler import encode
from bundler.http import Client
from bundler.intake import Intake
from bundler.kits.candidates import Wheel
from bundler.kits.target import Target
from bundler.licenses import MAXIMUM_METADATA
from bundler.once import Once
from bundler.sources import archive
from bundler.sources.base import Local, Place
from manifests.digest import Digest
from manifests.errors import DigestMismatchError, ManifestError, SourceError, SourceNotFoundError, listing
from manifests.publish import translated
from manifests.store import Store

METADATA: Final = ".dist-info/METADATA"
"""How the name of the member ends; the store remembers it by that."""


@dataclass(frozen=True, slots=True)
class Described:
    """What METADATA says. With a `problem` it says nothing that could be used."""

    name: str = ""
    version: str = ""
    requirements: tuple[Requirement, ...] = ()
    pythons: SpecifierSet = field(default_factory=SpecifierSet)
    extras: frozenset[str] = frozenset()
    problem: str = ""

    @classmethod
    def parse(cls, content: bytes) -> Self:
        """What the METADATA file `content` says."""
        fields = BytesParser().parsebytes(content, headersonly=True)
        try:
            return cls(
                name=canonicalize_name(str(fields.get("Name", ""))),
                version=str(Version(str(fields.get("Version", "")))),
                requirements=tuple(Requirement(text) for text in _all(fields, "Requires-Dist")),
                pythons=SpecifierSet(str(fields.get("Requires-Python", ""))),
                extras=frozenset(canonicalize_name(text) for text in _all(fields, "Provides-Extra")),
            )
        except (InvalidRequirement, InvalidSpecifier, InvalidVersion) as error:
            return cls(problem=f"its METADATA cannot be understood: {str(error).splitlines()[0]}")

    def requires(self, target: Target, extras: Collection[str] = ()) -> tuple[Requirement, ...]:
        """What it requires on `target` with these canonical `extras`; the markers are answered, and gone."""
        return tuple(_bare(one) for one in self.requirements if target.needs(one.marker, extras))


def requirements_of(
    metadata: bytes, extras: Collection[str], target: Target, *, subject: str
) -> tuple[Requirement, ...]:
    """What the program whose METADATA this is requires on `target` with `extras`: roots for `resolve`.

    Errors: `ManifestError` for an extra that it does not have; `SourceError` for METADATA that cannot be understood.
    """
    described = Described.parse(metadata)
    if described.problem:
        raise SourceError(f"{subject}: {described.problem}")
    wanted = {canonicalize_name(extra) for extra in extras}
    if unknown := sorted(wanted - described.extras):
        raise ManifestError(
            f"{subject} has no extra {listing(unknown)}", hint=f"there are: {listing(sorted(described.extras))}"
        )
    return described.requires(target, wanted)


class MetadataReader:
    """Reads the METADATA of wheels, each once. Errors: `SourceError` and its kinds, `StorageError`."""

    def __init__(self, client: Client, store: Store, intake: Intake) -> None:
        self._client = client
        self._store = store
        self._intake = intake
        self._spool = store.path / "partial"
        self._known: Once[Wheel, Described] = Once()

    def describe(self, wheel: Wheel) -> Described:
        """What `wheel` says of itself."""
        return self._known.get(wheel, partial(self._describe, wheel))

    def _describe(self, wheel: Wheel) -> Described:
        described = Described.parse(self._read(wheel))
        if not described.problem and (described.name, described.version) != (wheel.project, str(wheel.version)):
            says = f"{described.name or '(no name)'} {described.version}"
            return replace(described, problem=f"{wheel.file.name} says of itself that it is {says}")
        return described

    def _read(self, wheel: Wheel) -> bytes:
        if wheel.file.metadata is not None:
            try:
                return self._read_beside(wheel, wheel.file.metadata)
            except SourceNotFoundError:  # an index that promises what it does not have
                pass
        if isinstance(wheel.file.place, Local):
            with _opened(wheel.file.place.path) as stream, _metadata(stream, wheel.file.name, self._spool) as member:
                return member.stream.read()
        return self._read_remote(wheel)

    def _read_beside(self, wheel: Wheel, place: Place) -> bytes:
        subject = f"{wheel.file.name}.metadata"
        if isinstance(place, Local):
            with _opened(place.path) as stream:
                content = stream.read(MAXIMUM_METADATA + 1)
        else:
            content = self._client.document(place.url, subject=subject, limit=MAXIMUM_METADATA).content
        if len(content) > MAXIMUM_METADATA:
            raise SourceError(f"{subject}: more than {MAXIMUM_METADATA} bytes")
        expected = wheel.file.metadata_digest
        if expected is not None and Digest.of(content) != expected:
            raise DigestMismatchError(
                subject=subject, expected=expected, actual=Digest.of(content), hint="ask who runs the index"
            )
        return content

    def _read_remote(self, wheel: Wheel) -> bytes:
        """The METADATA of a wheel that the store has, or has after this."""
        found = wheel.found
        known = self._store.find_member(found.digest, METADATA) if found.digest else None
        if known is None:
            whole = self._intake.take(found, expected=found.digest, subject=wheel.file.name).recipe.digest
            known = self._remember(whole, wheel.file.name)
        return self._store.read_whole(known, limit=MAXIMUM_METADATA)

    def _remember(self, whole: Digest, name: str) -> Digest:
        with translated(self._spool), tempfile.TemporaryFile(dir=self._spool) as stream:
            for piece in self._store.read(whole):
                stream.write(piece)
            stream.seek(0)
            with _metadata(cast("BinaryIO", stream), name, self._spool) as member:
                recipe = encode.add(self._store, member.stream, size=member.size, subject=f"METADATA of {name}")
        self._store.record_member(whole, METADATA, recipe.digest)
        return recipe.digest


@contextmanager
def _metadata(wheel: BinaryIO, name: str, spool: Path) -> Iterator[archive.Member]:
    member = archive.find_name(wheel, METADATA, subject=name)
    if member is None:
        raise SourceError(f"{name} is not a wheel: it has no METADATA")
    with archive.open_member(wheel, [member], subject=name, spool=spool) as opened:
        if opened.size > MAXIMUM_METADATA:
            raise SourceError(f"{name}: its METADATA has {opened.size} bytes")
        yield opened


@contextmanager
def _opened(path: Path) -> Iterator[BufferedReader]:
    try:
        stream = path.open("rb")
    except FileNotFoundError as error:
        raise SourceNotFoundError(f"{path} does not exist") from error
    except OSError as error:
        raise SourceError(f"{path}: {error.strerror}") from error
    with stream:
        yield stream


def _all(fields: "Message[str, str]", name: str) -> list[str]:
    return [str(text) for text in fields.get_all(name, [])]


def _bare(requirement: Requirement) -> Requirement:
    bare = Requirement(str(requirement))
    bare.marker = None
    return bare
