"""Wheels of a package index: `pypi://NAME==VERSION` or `pypi://NAME==VERSION/FILE.whl`.

* Exact versions only. find-links come first and then the indexes in their order, as pip has it; the first place that
  has the version gives the wheel, and no other place is mixed in.
* Never chosen by this host: a wheel for every platform, else the only one there is, else the manifest must name it.
* What a page of the network points to comes over the network: no file of this machine.
* What comes over a network has a digest before it comes: the index's, or the manifest's.
* An sdist is refused: what is in it is only known after running its code.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urljoin, urlsplit
from urllib.request import url2pathname

from packaging.tags import Tag
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import InvalidVersion, Version
from pypi_simple import DistributionPackage, ProjectPage, UnsupportedRepoVersionError

from bundler.http import Client
from bundler.once import Once
from bundler.pip_settings import PackageIndexes
from bundler.sources.base import Found, Local, Place, Remote
from bundler.sources.reference import Reference
from bundler.sources.urls import WEB, shown, without_user
from manifests.digest import Digest
from manifests.errors import ManifestError, SourceError, SourceNotFoundError, listing

_PAGE_LIMIT: Final = 64 << 20
_JSON: Final = "application/vnd.pypi.simple.v1+json"
_ACCEPT: Final = f"{_JSON}, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.01"
_ANYWHERE: Final = Tag("py3", "none", "any")


@dataclass(frozen=True, slots=True)
class Project:
    """What a manifest asks of an index. `wheel` is None where any will do."""

    name: str
    version: Version
    wheel: str | None

    @classmethod
    def parse(cls, reference: Reference) -> "Project":
        """`NAME==VERSION[/FILE.whl]`; any other specifier is a `ManifestError`."""
        requirement, _, wheel = reference.location.partition("/")
        name, exact, version = requirement.partition("==")
        try:
            if exact and name and (not wheel or wheel.endswith(".whl")):
                return cls(canonicalize_name(name.strip(), validate=True), Version(version), wheel or None)
        except ValueError:
            pass
        raise ManifestError(
            f"{reference}: an exact version is needed", hint="pypi://NAME==VERSION or pypi://NAME==VERSION/FILE.whl"
        )


@dataclass(frozen=True, slots=True)
class _File:
    """A file that some place has."""

    name: str
    place: Place
    digest: Digest | None
    size: int | None
    yanked: str | None


class PackageSource:
    """The indexes and find-links that pip is configured with."""

    def __init__(self, indexes: PackageIndexes, client: Client) -> None:
        self._places = (*indexes.find_links, *(f"{without_user(url).rstrip('/')}/" for url in indexes.indexes))
        self._find_links = frozenset(indexes.find_links)
        self._client = client
        self._pages: Once[tuple[str, str], tuple[_File, ...]] = Once()

    def find(self, reference: Reference, pin: Mapping[str, str]) -> Found:
        """The wheel. Errors: `SourceNotFoundError`, `SourceError` where no wheel or no digest can be had."""
        project = Project.parse(reference)
        files = self._first_place(project, pin)
        chosen = _choose(files, project, pin.get("wheel") or project.wheel)
        pinned = Digest(bytes.fromhex(pin["sha256"])) if "sha256" in pin else None
        digest = pinned or chosen.digest
        if digest is None and isinstance(chosen.place, Remote) and reference.digest is None:
            raise SourceError(
                f"{reference}: the index gives no sha256 for {chosen.name}, and neither does the manifest",
                hint="write the digest of the file into the manifest (sha256:)",
            )
        warning = f"{reference}: {chosen.name} is yanked: {chosen.yanked or 'no reason given'}"
        return Found(
            reference,
            chosen.name,
            chosen.place,
            size=chosen.size,
            digest=digest,
            pin={"wheel": chosen.name} | ({"sha256": digest.hex} if digest else {}),
            warnings=() if chosen.yanked is None else (warning,),
        )

    def list(self, reference: Reference, pin: Mapping[str, str]) -> tuple[Found, ...]:
        """The one wheel."""
        return (self.find(reference, pin),)

    def _first_place(self, project: Project, pin: Mapping[str, str]) -> Sequence[_File]:
        """The files of the version in the first place that has it, and of the pinned digest where one is pinned."""
        others: set[str] = set()
        for place in self._places:
            files = self._pages.get((place, project.name), partial(self._files, place, project.name))
            wanted = [file for file in files if _is_version(file.name, project)]
            if "sha256" in pin:
                wanted = [file for file in wanted if file.digest is None or file.digest.hex == pin["sha256"]]
            if wanted:
                return wanted
            others.update(_versions(files, project.name))
        raise SourceNotFoundError(
            f"{project.name} {project.version} is in none of {len(self._places)} indexes and find-links folders",
            hint=f"there are: {listing(sorted(others))}"
            if others
            else "no index of pip's configuration knows the name",
        )

    def _files(self, place: str, name: str) -> tuple[_File, ...]:
        """All files of the project in one place; none if it does not know the project."""
        if place in self._find_links:
            local = _local_path(place)
            if local is not None and local.is_dir():
                return tuple(_folder_files(local))
            if urlsplit(place).path.endswith(".whl"):
                return tuple(_named_wheel(place, local))
            url = without_user(place)
        else:
            url = f"{place}{name}/"
        page = self._page(url, name)
        remote = _local_path(url) is None
        return tuple(_files_of(page, name, remote=remote)) if page else ()

    def _page(self, url: str, name: str) -> ProjectPage | None:
        path = _local_path(url)
        if path is not None:
            return _local_page(path, name)
        try:
            answer = self._client.document(url, subject=name, limit=_PAGE_LIMIT, accept=_ACCEPT)
        except SourceNotFoundError:
            return None
        try:
            if answer.headers.get("Content-Type", "").partition(";")[0].strip() == _JSON:
                return ProjectPage.from_json_data(json.loads(answer.content), base_url=answer.url)
            return ProjectPage.from_html(name, answer.content, base_url=answer.url)
        except (ValueError, UnsupportedRepoVersionError) as error:
            raise SourceError(f"{name}: {shown(answer.url)} is not a page of a package index: {error}") from error


def _choose(files: Sequence[_File], project: Project, wanted: str | None) -> _File:
    label = f"{project.name} {project.version}"
    wheels = {file.name: file for file in reversed(files) if file.name.endswith(".whl")}
    if wanted is not None:
        if wanted not in wheels:
            raise SourceNotFoundError(f"{label} has no {wanted}", hint=f"there are: {listing(sorted(wheels))}")
        return wheels[wanted]
    if not wheels:
        raise SourceError(
            f"{label} comes as an sdist only, and what is in it is only known after running its code",
            hint="name a version that has a wheel",
        )
    anywhere = [name for name in wheels if _ANYWHERE in parse_wheel_filename(name)[3]]
    if anywhere:
        return wheels[max(anywhere, key=lambda name: (parse_wheel_filename(name)[2], name))]
    if len(wheels) > 1:
        raise SourceError(
            f"{label} has a wheel for each of several platforms: {listing(sorted(wheels))}",
            hint=f"name one: pypi://{project.name}=={project.version}/{min(wheels)}",
        )
    return next(iter(wheels.values()))


def _is_version(name: str, project: Project) -> bool:
    if name.endswith(".whl"):
        try:
            distribution, version, _, _ = parse_wheel_filename(name)
        except (InvalidWheelFilename, InvalidVersion):
            return False
        return distribution == project.name and version == project.version
    return _sdist_version(name, project.name) == project.version


def _versions(files: Sequence[_File], project: str) -> Iterator[str]:
    for file in files:
        try:
            distribution, version, _, _ = parse_wheel_filename(file.name)
        except (InvalidWheelFilename, InvalidVersion):
            continue
        if distribution == project:
            yield str(version)


def _sdist_version(name: str, project: str) -> Version | None:
    for suffix in (".tar.gz", ".zip"):
        stem, dash, version = name.removesuffix(suffix).rpartition("-")
        if name.endswith(suffix) and dash and canonicalize_name(stem) == project:
            try:
                return Version(version)
            except InvalidVersion:
                return None
    return None


def _files_of(page: ProjectPage, project: str, *, remote: bool) -> Iterator[_File]:
    """The files that a page names; what a page of the network names on this machine is refused."""
    for package in page.packages:
        scheme = urlsplit(package.url).scheme
        if remote and scheme == "file":
            raise SourceError(f"{project}: a page of the network points to a file of this machine ({package.filename})")
        if not remote or scheme in WEB:  # pages have links of other kinds, too
            yield _described(package)


def _described(package: DistributionPackage) -> _File:
    path = _local_path(package.url)
    return _File(
        unquote(urlsplit(package.url).path.rpartition("/")[2]),
        Local(path) if path is not None else Remote(without_user(package.url)),
        _sha256(package.digests.get("sha256", "")),
        package.size,
        (package.yanked_reason or "") if package.is_yanked else None,
    )


def _named_wheel(place: str, path: Path | None) -> Iterator[_File]:
    """The wheel that find-links names itself; a URL may have its digest behind a '#'."""
    if path is None:
        url = urlsplit(without_user(place))
        name = unquote(url.path.rpartition("/")[2])
        remote = Remote(url._replace(fragment="").geturl())
        yield _File(name, remote, _sha256(url.fragment.removeprefix("sha256=")), None, None)
    elif path.is_file():
        yield _File(path.name, Local(path), None, path.stat().st_size, None)


def _sha256(text: str) -> Digest | None:
    try:
        return Digest(bytes.fromhex(text)) if len(text) == 64 else None
    except ValueError:
        return None


def _folder_files(folder: Path) -> Iterator[_File]:
    for path in sorted(folder.iterdir()):
        if path.is_file():
            yield _File(path.name, Local(path), None, path.stat().st_size, None)


def _local_page(path: Path, name: str) -> ProjectPage | None:
    page = path / "index.html" if path.is_dir() else path
    try:
        content = page.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise SourceError(f"{name}: {page}: {error.strerror}") from error
    return ProjectPage.from_html(name, content, base_url=urljoin(page.parent.absolute().as_uri() + "/", page.name))


def _local_path(place: str) -> Path | None:
    """The path that a `file:` URL or a plain path names; None for what lies elsewhere."""
    parts = urlsplit(place)
    if parts.scheme == "file":
        return Path(url2pathname(parts.path))
    return None if parts.scheme in WEB else Path(place).expanduser()
