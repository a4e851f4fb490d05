"""What package indexes and find-links have of a project: their pages and folders, read in one place.

* find-links come first and then the indexes in their order, as pip has it. Each page is read once.
* What a page of the network points to comes over the network: no file of this machine.
* An sdist is a file like any other here: who reads the names decides what to do with it.
* A file of a project has a name that every disk can hold: one that leads elsewhere, or hides something, is refused.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, Self
from urllib.parse import unquote, urljoin, urlsplit
from urllib.request import url2pathname

from packaging.tags import Tag
from packaging.utils import BuildTag, canonicalize_name, parse_wheel_filename
from packaging.version import InvalidVersion, Version
from pypi_simple import DistributionPackage, ProjectPage, UnsupportedRepoVersionError

from bundler.http import Client
from bundler.once import Once
from bundler.pip_settings import PackageIndexes
from bundler.places import expanded
from bundler.sources.base import Found, Local, Place, Remote
from bundler.sources.reference import Reference
from bundler.sources.urls import WEB, shown, without_user
from manifests.digest import Digest
from manifests.errors import NamingError, SourceError, SourceNotFoundError, printable
from manifests.paths import MAXIMUM_PART, checked_path

_PAGE_LIMIT: Final = 64 << 20
_JSON: Final = "application/vnd.pypi.simple.v1+json"
_ACCEPT: Final = f"{_JSON}, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.01"
_LONGEST_NAME: Final = MAXIMUM_PART
"""Of a file's name: no kit holds a longer one, and the tags in a forged one would fill the memory."""


@dataclass(frozen=True, slots=True)
class PackageFile:
    """A file that some place has. `yanked` is the reason, None if it is not; `requires_python` is as the place says it.

    `metadata` is where its METADATA lies by itself (PEP 658), with the digest that the index gives for that.
    """

    name: str
    place: Place
    digest: Digest | None
    size: int | None
    yanked: str | None = None
    requires_python: str = ""
    metadata: Place | None = None
    metadata_digest: Digest | None = None

    def found(self, reference: Reference, digest: Digest | None) -> Found:
        """This file as a source gives it; `digest` is the one that it is known by."""
        warning = f"{reference}: {self.name} is yanked: {self.yanked or 'no reason given'}"
        return Found(
            reference,
            self.name,
            self.place,
            size=self.size,
            digest=digest,
            pin={"wheel": self.name} | ({"sha256": digest.hex} if digest else {}),
            warnings=() if self.yanked is None else (warning,),
        )


@dataclass(frozen=True, slots=True)
class WheelName:
    """What the name of a wheel says. `project` is the canonical name."""

    project: str
    version: Version
    build: BuildTag
    tags: frozenset[Tag]

    @classmethod
    def find(cls, name: str) -> Self | None:
        """What `name` says, None if it is not the name of a wheel."""
        if not name.endswith(".whl") or len(name) > _LONGEST_NAME:
            return None
        try:
            return cls(*parse_wheel_filename(name))
        except ValueError:  # the parent of packaging's own errors, of which there are more with each version
            return None


class PackagePages:
    """The indexes and find-links that pip is configured with; safe to use from several threads."""

    def __init__(self, indexes: PackageIndexes, client: Client) -> None:
        self.find_links = frozenset(indexes.find_links)
        self.places = (*indexes.find_links, *(f"{without_user(url).rstrip('/')}/" for url in indexes.indexes))
        self._client = client
        self._pages: Once[tuple[str, str], tuple[PackageFile, ...]] = Once()

    def files(self, place: str, name: str) -> tuple[PackageFile, ...]:
        """All files of the project in one place; none if it does not know the project. Errors: `SourceError`."""
        return self._pages.get((place, name), partial(self._checked_files, place, name))

    def _checked_files(self, place: str, name: str) -> tuple[PackageFile, ...]:
        files = self._files(place, name)
        for file in files:
            if version_of(file.name, name) is not None:
                _check_name(file.name, name, place)
        return files

    def _files(self, place: str, name: str) -> tuple[PackageFile, ...]:
        if place in self.find_links:
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
        except (ValueError, RecursionError, UnsupportedRepoVersionError) as error:
            told = printable(str(error))[:300]
            raise SourceError(f"{name}: {shown(answer.url)} is not a page of a package index: {told}") from error


def version_of(name: str, project: str) -> Version | None:
    """The version of `project`, a canonical name, that the file `name` is of; None if it is of none."""
    wheel = WheelName.find(name)
    if wheel is not None:
        return wheel.version if wheel.project == project else None
    return _sdist_version(name, project)


def _sdist_version(name: str, project: str) -> Version | None:
    """The version that `name` says, None if it is not the name of an sdist of the project."""
    for suffix in (".tar.gz", ".zip"):
        stem, dash, version = name.removesuffix(suffix).rpartition("-")
        if name.endswith(suffix) and dash and canonicalize_name(stem) == project:
            try:
                return Version(version)
            except InvalidVersion:
                return None
    return None


def _check_name(name: str, project: str, place: str) -> None:
    """`SourceError` for a name that would leave its folder, or move a cursor: it becomes a path and is shown."""
    try:
        checked_path(name)
        if "/" not in name:
            return
    except NamingError:
        pass
    where = shown(place) if urlsplit(place).scheme in WEB else place
    raise SourceError(
        f"{project}: {printable(where)} has a file whose name is not one: {printable(name)!r}",
        hint="ask who runs the index; a file of your own: rename it",
    )


def _files_of(page: ProjectPage, project: str, *, remote: bool) -> Iterator[PackageFile]:
    """The files that a page names; what a page of the network names on this machine is refused."""
    for package in page.packages:
        scheme = urlsplit(package.url).scheme
        if remote and scheme == "file":
            raise SourceError(f"{project}: a page of the network points to a file of this machine ({package.filename})")
        if not remote or scheme in WEB:  # pages have links of other kinds, too
            yield _described(package)


def _described(package: DistributionPackage) -> PackageFile:
    return PackageFile(
        unquote(urlsplit(package.url).path.rpartition("/")[2]),
        _place(package.url),
        _sha256(package.digests.get("sha256", "")),
        package.size,
        (package.yanked_reason or "") if package.is_yanked else None,
        package.requires_python or "",
        _place(package.metadata_url) if package.has_metadata else None,
        _sha256((package.metadata_digests or {}).get("sha256", "")),
    )


def _place(url: str) -> Place:
    path = _local_path(url)
    return Local(path) if path is not None else Remote(without_user(url))


def _named_wheel(place: str, path: Path | None) -> Iterator[PackageFile]:
    """The wheel that find-links names itself; a URL may have its digest behind a '#'."""
    if path is None:
        url = urlsplit(without_user(place))
        name = unquote(url.path.rpartition("/")[2])
        remote = Remote(url._replace(fragment="").geturl())
        yield PackageFile(name, remote, _sha256(url.fragment.removeprefix("sha256=")), None)
    elif path.is_file():
        yield PackageFile(path.name, Local(path), None, path.stat().st_size)


def _sha256(text: str) -> Digest | None:
    try:
        return Digest(bytes.fromhex(text)) if len(text) == 64 else None
    except ValueError:
        return None


def _folder_files(folder: Path) -> Iterator[PackageFile]:
    try:
        paths = sorted(folder.iterdir())
    except OSError as error:
        raise SourceError(f"the find-links folder {folder} cannot be read: {error.strerror}") from error
    for path in paths:
        if path.is_file():
            yield PackageFile(path.name, Local(path), None, path.stat().st_size)


def _local_page(path: Path, name: str) -> ProjectPage | None:
    page = path / "index.html" if path.is_dir() else path
    try:
        with page.open("rb") as stream:
            content = stream.read(_PAGE_LIMIT + 1)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise SourceError(f"{name}: {page}: {error.strerror}") from error
    if len(content) > _PAGE_LIMIT:
        raise SourceError(f"{name}: {page} has more than {_PAGE_LIMIT} bytes")
    return ProjectPage.from_html(name, content, base_url=urljoin(page.parent.absolute().as_uri() + "/", page.name))


def _local_path(place: str) -> Path | None:
    """The path that a `file:` URL or a plain path names; None for what lies elsewhere."""
    parts = urlsplit(place)
    if parts.scheme == "file":
        return Path(url2pathname(parts.path))
    return None if parts.scheme in WEB else expanded(place)
