"""Wheels of a package index: `pypi://NAME==VERSION` or `pypi://NAME==VERSION/FILE.whl`.

* Exact versions only. find-links come first and then the indexes in their order, as pip has it; the first place that
  has the version gives the wheel, and no other place is mixed in.
* Never chosen by this host: a wheel for every platform, else the only one there is, else the manifest must name it.
* What a page of the network points to comes over the network: no file of this machine.
* What comes over a network has a digest before it comes: the index's, or the manifest's.
* An sdist is refused: what is in it is only known after running its code.
* The version is exact, so one that was yanked is taken, and that is said; but not where the version has others.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from packaging.tags import Tag
from packaging.utils import canonicalize_name
from packaging.version import Version

from bundler.http import Client
from bundler.pip_settings import PackageIndexes
from bundler.sources.base import Found, Remote
from bundler.sources.package_pages import PackageFile, PackagePages, WheelName, version_of
from bundler.sources.reference import Reference
from manifests.digest import Digest
from manifests.errors import FormatError, ManifestError, SourceError, SourceNotFoundError, listing

_ANYWHERE: Final = Tag("py3", "none", "any")
_SDISTS: Final = (".tar.gz", ".zip")
_WHY_NO_SDIST: Final = "and what is in it is only known after running its code"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a manifest asks of an index. `wheel` is None where any will do."""

    name: str
    version: Version
    wheel: str | None

    @classmethod
    def parse(cls, reference: Reference) -> "Wanted":
        """`NAME==VERSION[/FILE.whl]`; any other specifier is a `ManifestError`."""
        requirement, _, wheel = reference.location.partition("/")
        if wheel.endswith(_SDISTS):
            raise ManifestError(f"{reference} is an sdist, {_WHY_NO_SDIST}", hint="name a wheel: FILE.whl")
        name, exact, version = requirement.partition("==")
        try:
            if exact and name and (not wheel or wheel.endswith(".whl")):
                return cls(canonicalize_name(name.strip(), validate=True), Version(version), wheel or None)
        except ValueError:
            pass
        raise ManifestError(
            f"{reference}: an exact version is needed", hint="pypi://NAME==VERSION or pypi://NAME==VERSION/FILE.whl"
        )


class PackageSource:
    """The indexes and find-links that pip is configured with."""

    def __init__(self, indexes: PackageIndexes, client: Client) -> None:
        self._pages = PackagePages(indexes, client)

    def find(self, reference: Reference, pin: Mapping[str, str]) -> Found:
        """The wheel. Errors: `SourceNotFoundError`, `SourceError` where no wheel or no digest can be had."""
        project = Wanted.parse(reference)
        pinned = _pinned(pin, reference)
        files = self._first_place(project, pin)
        chosen = _choose(files, project, pin.get("wheel") or project.wheel)
        digest = pinned or chosen.digest
        if digest is None and isinstance(chosen.place, Remote) and reference.digest is None:
            raise SourceError(
                f"{reference}: the index gives no sha256 for {chosen.name}, and neither does the manifest",
                hint="write the digest of the file into the manifest (sha256:)",
            )
        return chosen.found(reference, digest)

    def list(self, reference: Reference, pin: Mapping[str, str]) -> tuple[Found, ...]:
        """The one wheel."""
        return (self.find(reference, pin),)

    def _first_place(self, project: Wanted, pin: Mapping[str, str]) -> Sequence[PackageFile]:
        """The files of the version in the first place that has it, and of the pinned digest where one is pinned."""
        others: set[str] = set()
        for place in self._pages.places:
            files = self._pages.files(place, project.name)
            wanted = [file for file in files if version_of(file.name, project.name) == project.version]
            if "sha256" in pin:
                wanted = [file for file in wanted if file.digest is None or file.digest.hex == pin["sha256"]]
            if wanted:
                return wanted
            wheels = (file.name for file in files if file.name.endswith(".whl"))
            others.update(str(version) for name in wheels if (version := version_of(name, project.name)) is not None)
        raise SourceNotFoundError(
            f"{project.name} {project.version} is in none of {len(self._pages.places)} indexes and find-links folders",
            hint=f"there are: {listing(sorted(others))}"
            if others
            else "no index of pip's configuration knows the name",
        )


def _pinned(pin: Mapping[str, str], reference: Reference) -> Digest | None:
    try:
        return Digest.parse(f"sha256:{pin['sha256']}") if "sha256" in pin else None
    except FormatError as error:
        raise ManifestError(
            f"{reference}: the lock pins the wheel by something that is no digest",
            hint="bundle lock --upgrade pins it anew",
        ) from error


def _choose(files: Sequence[PackageFile], project: Wanted, wanted: str | None) -> PackageFile:
    label = f"{project.name} {project.version}"
    wheels = {file.name: file for file in reversed(files) if file.name.endswith(".whl")}
    if wanted is not None:
        if wanted not in wheels:
            raise SourceNotFoundError(f"{label} has no {wanted}", hint=f"there are: {listing(sorted(wheels))}")
        return wheels[wanted]
    if not wheels:
        raise SourceError(
            f"{label} comes as an sdist only, {_WHY_NO_SDIST}",
            hint="name a version that has a wheel, or build one yourself and name its folder in PIP_FIND_LINKS",
        )
    wheels = {name: file for name, file in wheels.items() if file.yanked is None} or wheels
    anywhere = [(wheel.build, name) for name in wheels if (wheel := WheelName.find(name)) and _ANYWHERE in wheel.tags]
    if anywhere:
        return wheels[max(anywhere)[1]]
    if len(wheels) > 1:
        raise SourceError(
            f"{label} has a wheel for each of several platforms: {listing(sorted(wheels))}",
            hint=f"name one: pypi://{project.name}=={project.version}/{min(wheels)}",
        )
    return next(iter(wheels.values()))
