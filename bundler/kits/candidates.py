"""Which wheels a target could take of a distribution: one for each version, the newest first; and why not the others.

* find-links come first and then the indexes in their order: the first place that has a wheel of the version for the
  target gives it. Of several, the best tag wins, then the highest build.
* A yanked wheel stands for its version only where no place has another.
* Where constraints name the distribution, only wheels of the digests that they allow.
* The same pages give the same candidates, in the same order.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.tags import Tag
from packaging.utils import BuildTag
from packaging.version import Version

from bundler.http import Client
from bundler.kits.constraints import Constraints, Pin
from bundler.kits.target import Target
from bundler.once import Once
from bundler.pip_settings import PackageIndexes
from bundler.sources.base import Found, Local
from bundler.sources.package_pages import PackageFile, PackagePages, WheelName, version_of
from bundler.sources.reference import Reference, escape
from bundler.together import together
from manifests.digest import Digest
from manifests.errors import SourceError

_THREADS: Final = 4
"""Pages that are read at once."""


@dataclass(frozen=True, slots=True)
class Wheel:
    """The wheel of one version of a distribution. `project` is its canonical name."""

    project: str
    version: Version
    file: PackageFile
    digest: Digest | None
    is_linked: bool = False
    """Whether find-links have it, and not an index."""

    def __str__(self) -> str:
        return f"{self.project} {self.version}"

    @property
    def found(self) -> Found:
        """Where it lies. Errors: `SourceError` where nobody says its digest and it would come over the network."""
        reference = Reference("pypi", escape(f"{self.project}=={self.version}/{self.file.name}"))
        if self.digest is None and not isinstance(self.file.place, Local):
            raise SourceError(
                f"{self}: the index gives no sha256 for {self.file.name}",
                hint="download it yourself, compare it, and name its folder: --find-links DIR",
            )
        return self.file.found(reference, self.digest)


@dataclass(frozen=True, slots=True)
class Misfit:
    """A file that the target cannot take: what it is for; or `refused`, the digest that the constraints do not know."""

    name: str
    label: str
    refused: Digest | None = None


@dataclass(frozen=True, slots=True)
class Project:
    """All versions that some place has of a distribution: those with a wheel for the target, and the others."""

    name: str
    wheels: tuple[Wheel, ...]
    misfits: Mapping[Version, tuple[Misfit, ...]]

    def passed_over(self, chosen: Wheel) -> Wheel | None:
        """The newest wheel of find-links, if `chosen` is a newer one of an index."""
        linked = (wheel for wheel in self.wheels if wheel.is_linked and wheel.version < chosen.version)
        return None if chosen.is_linked else next(linked, None)

    def choice(self, specifier: SpecifierSet) -> list[Wheel]:
        """What pip would choose from, the newest first.

        Pre-releases only if one is named or nothing else fits; yanked wheels only as the exact version that is named.
        """
        versions = set(specifier.filter([wheel.version for wheel in self.wheels]))
        fitting = [wheel for wheel in self.wheels if wheel.version in versions]
        sound = [wheel for wheel in fitting if wheel.file.yanked is None]
        return fitting if not sound and is_pinned(specifier) else sound


class Candidates:
    """What pip's indexes and find-links have for `target`. Errors of its methods: `SourceError` and its kinds."""

    def __init__(self, indexes: PackageIndexes, client: Client, target: Target, constraints: Constraints) -> None:
        self._pages = PackagePages(indexes, client)
        self._client = client
        self._target = target
        self._pins = constraints.pins
        self._ranks: Mapping[Tag, int] = {tag: rank for rank, tag in enumerate(target.tags)}
        self._projects: Once[str, Project] = Once()
        self._pythons: dict[str, bool] = {}
        self._answered = False

    @property
    def places(self) -> int:
        """How many indexes and find-links there are."""
        return len(self._pages.places)

    def project(self, name: str) -> Project:
        """What there is of the distribution with this canonical name."""
        return self._projects.get(name, partial(self._project, name))

    def read_ahead(self, names: Iterable[str]) -> None:
        """Read the pages of several distributions at once; the very first alone, so that a dead index is told once."""
        ordered = sorted(set(names))
        for some in (ordered[: 0 if self._answered else 1], ordered):
            jobs = [partial(self._pages.files, place, name) for name in some for place in self._pages.places]
            together(jobs, threads=_THREADS, stop=self._client.stop)
        self._answered = True

    def _project(self, name: str) -> Project:
        found: dict[Version, Wheel] = {}
        yanked: dict[Version, Wheel] = {}
        misfits: dict[Version, list[Misfit]] = {}
        for place in self._pages.places:
            linked = place in self._pages.find_links
            for version, files in _by_version(self._pages.files(place, name), name):
                whole = [file for file in files if file.yanked is None]
                for kind, some in ((found, whole), (yanked, [file for file in files if file.yanked is not None])):
                    best = self._best(name, version, some, misfits.setdefault(version, []))
                    if best is not None:
                        kind.setdefault(version, replace(best, is_linked=linked))
        wheels = yanked | found
        return Project(
            name,
            tuple(wheels[version] for version in sorted(wheels, reverse=True)),
            {version: tuple(files) for version, files in misfits.items() if version not in wheels},
        )

    def _best(self, name: str, version: Version, files: Sequence[PackageFile], misfits: list[Misfit]) -> Wheel | None:
        """The best wheel among the files of a version; those that cannot be taken go to `misfits`."""
        fitting: list[_Fitting] = []
        for file in sorted(files, key=lambda file: file.name):
            judged = self._judged(name, version, file)
            if isinstance(judged, Misfit):
                misfits.append(judged)
            else:
                fitting.append(judged)
        fitting.sort(key=lambda entry: entry.build, reverse=True)
        return min(fitting, key=lambda entry: entry.rank).wheel if fitting else None

    def _judged(self, name: str, version: Version, file: PackageFile) -> "_Fitting | Misfit":
        wheel = WheelName.find(file.name)
        if wheel is None:
            return Misfit(file.name, "an sdist")
        label = "-".join(file.name.removesuffix(".whl").split("-")[-3:])
        ranks = [self._ranks[tag] for tag in wheel.tags if tag in self._ranks]
        if not ranks:
            return Misfit(file.name, label)
        if not self._takes(file.requires_python):
            return Misfit(file.name, f"{label} for Python {file.requires_python}")
        pin = self._pins.get(name)
        pin = pin if pin and version in pin.specifier else None
        digest = _digest(file, pin)
        if pin and digest is not None and digest not in pin.digests:
            return Misfit(file.name, f"{label} of another digest", digest)
        return _Fitting(min(ranks), wheel.build, Wheel(name, version, file, digest))

    def _takes(self, requires_python: str) -> bool:
        """Whether the target's Python will do; a text that means nothing is no obstacle, as in pip."""
        if requires_python not in self._pythons:
            try:
                self._pythons[requires_python] = self._target.takes(SpecifierSet(requires_python))
            except InvalidSpecifier:
                self._pythons[requires_python] = True
        return self._pythons[requires_python]


@dataclass(frozen=True, slots=True)
class _Fitting:
    """A wheel that the target takes; the lowest rank is the best."""

    rank: int
    build: BuildTag
    wheel: Wheel


def _digest(file: PackageFile, pin: Pin | None) -> Digest | None:
    """The digest that a file is known by: where one is asked for, a file on this disk is read for it."""
    if file.digest is not None or pin is None:
        return file.digest
    if isinstance(file.place, Local):
        try:
            with file.place.path.open("rb") as stream:
                return Digest(hashlib.file_digest(stream, "sha256").digest())
        except OSError as error:
            raise SourceError(f"{file.place.path}: {error.strerror}") from error
    return next(iter(pin.digests)) if len(pin.digests) == 1 else None


def is_pinned(specifier: SpecifierSet) -> bool:
    """Whether it names one exact version."""
    return any(one.operator == "===" or (one.operator == "==" and not one.version.endswith(".*")) for one in specifier)


def _by_version(files: Iterable[PackageFile], project: str) -> Iterator[tuple[Version, list[PackageFile]]]:
    versions: dict[Version, list[PackageFile]] = {}
    for file in files:
        version = version_of(file.name, project)
        if version is not None:
            versions.setdefault(version, []).append(file)
    yield from versions.items()
