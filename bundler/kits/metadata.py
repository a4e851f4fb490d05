"""What a distribution says of itself in its METADATA: what it requires, and which Python it is for.

* It is read from where the index has it by itself (PEP 658), else out of the wheel. A wheel that had to come over the
  network for that is in the store then, and is not fetched a second time; what was read once is remembered there.
* METADATA that cannot be understood, that asks for more than any honest one, or that is another distribution's, is a
  `problem` of that one version.
* No more is read than METADATA may have, and every digest that is known is compared.
* Of one distribution, only so many versions are looked into: behind each may be a whole wheel.
"""

import tempfile
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from email.message import Message
from email.parser import BytesParser
from functools import partial
from typing import BinaryIO, Final, Self, cast

from packaging.markers import UndefinedComparison, UndefinedEnvironmentName
from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from bundler import encode
from bundler.http import Client
from bundler.intake import Intake, Taken
from bundler.kits.candidates import Wheel
from bundler.kits.target import OLDEST_PYTHON, Target
from bundler.licenses import MAXIMUM_METADATA
from bundler.once import Once
from bundler.sources import archive
from bundler.sources.base import Found, Local, Place
from bundler.sources.file import opened
from bundler.sources.wheel import METADATA, open_metadata
from manifests.digest import Digest
from manifests.errors import DigestMismatchError, ManifestError, SourceError, SourceNotFoundError, listing
from manifests.publish import translated
from manifests.store import Store

_MISMATCH: Final = "ask who runs the index, or look at the folder of --find-links"
_MOST_REQUIREMENTS: Final = 1_000
"""Of one version: the largest honest ones have some hundreds, and each is asked about for every choice."""
_LONGEST_REQUIREMENT: Final = 1_000
"""Characters of one requirement, or of Requires-Python."""
_DEEPEST_MARKER: Final = 50
"""Opening parentheses in one requirement: markers are understood by recursion."""
_MOST_WHOLE: Final = 50
"""Versions of one distribution whose whole wheel is fetched for its METADATA."""
_MOST_VERSIONS: Final = 500
"""Versions of one distribution whose METADATA is read."""
_TRIAL: Final = {**Target.parse("manylinux_2_28_x86_64", f"3.{OLDEST_PYTHON}").environment, "extra": ""}
"""Some environment: whether a marker has an answer does not depend on which."""


class _UnreadableError(Exception):
    """A field that no honest METADATA has. Never leaves this module."""


@dataclass(frozen=True, slots=True)
class Described:
    """What METADATA says. With a `problem` it says nothing that could be used."""

    name: str = ""
    version: Version | None = None
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
                version=Version(str(fields.get("Version", ""))),
                requirements=_requirements(_all(fields, "Requires-Dist")),
                pythons=SpecifierSet(_bounded(str(fields.get("Requires-Python", "")))),
                extras=frozenset(canonicalize_name(text) for text in _all(fields, "Provides-Extra")),
            )
        except (InvalidRequirement, InvalidSpecifier, InvalidVersion, _UnreadableError) as error:
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
        self._spool = store.spool
        self._known: Once[Wheel, Described] = Once()
        self._read_versions: Counter[str] = Counter()
        self._whole_wheels: Counter[str] = Counter()

    def describe(self, wheel: Wheel) -> Described:
        """What `wheel` says of itself."""
        return self._known.get(wheel, partial(self._describe, wheel))

    def _describe(self, wheel: Wheel) -> Described:
        _count(self._read_versions, wheel.project, most=_MOST_VERSIONS, what="read for what they need")
        described = Described.parse(self._read(wheel))
        if not described.problem and (described.name, described.version) != (wheel.project, wheel.version):
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
            with (
                opened(wheel.file.place.path) as stream,
                open_metadata(stream, subject=wheel.file.name, spool=self._spool) as (_, member),
            ):
                return member.stream.read()
        return self._read_remote(wheel)

    def _read_beside(self, wheel: Wheel, place: Place) -> bytes:
        subject = f"{wheel.file.name}.metadata"
        if isinstance(place, Local):
            with opened(place.path) as stream:
                content = stream.read(MAXIMUM_METADATA + 1)
        else:
            content = self._client.document(place.url, subject=subject, limit=MAXIMUM_METADATA).content
        if len(content) > MAXIMUM_METADATA:
            raise SourceError(f"{subject}: more than {MAXIMUM_METADATA} bytes")
        expected = wheel.file.metadata_digest
        if expected is not None and Digest.of(content) != expected:
            raise DigestMismatchError(subject=subject, expected=expected, actual=Digest.of(content), hint=_MISMATCH)
        return content

    def _read_remote(self, wheel: Wheel) -> bytes:
        """The METADATA of a wheel that the store has, or has after this."""
        _count(self._whole_wheels, wheel.project, most=_MOST_WHOLE, what="fetched whole to read what they need")
        found = wheel.found
        known = self._store.find_member(found.digest, METADATA) if found.digest else None
        if known is None:
            whole = take(self._intake, found).recipe.digest
            known = self._remember(whole, wheel.file.name)
        return self._store.read_whole(known, limit=MAXIMUM_METADATA)

    def _remember(self, whole: Digest, name: str) -> Digest:
        with (
            _spooled(self._store, whole) as stream,
            open_metadata(stream, subject=name, spool=self._spool) as (_, member),
        ):
            recipe = encode.add(self._store, member.stream, size=member.size, subject=f"METADATA of {name}")
        self._store.record_member(whole, METADATA, recipe.digest)
        return recipe.digest


def take(intake: Intake, found: Found) -> Taken:
    """The wheel `found` in the store. Errors: `SourceError` and its kinds, `StorageError`."""
    try:
        return intake.take(found, expected=found.digest, subject=found.path)
    except DigestMismatchError as error:
        raise DigestMismatchError(
            subject=error.subject, expected=error.expected, actual=error.actual, hint=_MISMATCH
        ) from error


def check_runs(store: Store, whole: Digest, name: str, *, package: str) -> None:
    """`SourceError` unless the wheel in the store has what `python -m PACKAGE` runs: that is how a site installs."""
    wanted = f"{package}/__main__.py"
    with _spooled(store, whole) as stream:
        if archive.find_name(stream, wanted, subject=name) != wanted:
            raise SourceError(f"{name} has no {wanted}, and cannot install anything", hint=_MISMATCH)


@contextmanager
def _spooled(store: Store, whole: Digest) -> Iterator[BinaryIO]:
    """A wheel of the store as a file that can be read from anywhere."""
    spool = store.spool
    with translated(spool), tempfile.TemporaryFile(dir=spool) as stream:
        for piece in store.read(whole):
            stream.write(piece)
        stream.seek(0)
        yield cast("BinaryIO", stream)


def _count(counts: Counter[str], project: str, *, most: int, what: str) -> None:
    """One more version of `project`. Errors: `SourceError` beyond `most`."""
    counts[project] += 1
    if counts[project] > most:
        raise SourceError(
            f"{project}: {most} of its versions were {what}, and none of them goes with the others",
            hint="name a version that does with --constraint, or ask who runs the index whether all are genuine",
        )


def _all(fields: "Message[str, str]", name: str) -> list[str]:
    return [str(text) for text in fields.get_all(name, [])]


def _requirements(texts: Collection[str]) -> tuple[Requirement, ...]:
    """The requirements; each has an answer everywhere. Errors: `InvalidRequirement`, `_UnreadableError`."""
    if len(texts) > _MOST_REQUIREMENTS:
        raise _UnreadableError(f"it has {len(texts)} requirements, and at most {_MOST_REQUIREMENTS} are read")
    return tuple(_requirement(_bounded(text)) for text in texts)


def _requirement(text: str) -> Requirement:
    if text.count("(") > _DEEPEST_MARKER:
        raise _UnreadableError(f"a requirement with more than {_DEEPEST_MARKER} parentheses")
    requirement = Requirement(text)
    try:
        if requirement.marker is not None:
            requirement.marker.evaluate(_TRIAL)
    except (UndefinedComparison, UndefinedEnvironmentName) as error:
        raise _UnreadableError(f"a marker that has no answer: {requirement.marker}") from error
    return requirement


def _bounded(text: str) -> str:
    if len(text) > _LONGEST_REQUIREMENT:
        raise _UnreadableError(f"a field of {len(text)} characters, and at most {_LONGEST_REQUIREMENT} are read")
    return text


def _bare(requirement: Requirement) -> Requirement:
    bare = Requirement(str(requirement))
    bare.marker = None
    return bare
