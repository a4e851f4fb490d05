"""Azure's blob storage: `az://CONTAINER/PATH` is one blob, `az://CONTAINER/PREFIX/` every blob below it.

Owns listing and pins, through the account that `azure_account` connects to; the bytes come by the ordinary client
through a URL that reads one blob.
* Without a slash at its end, a blob of that name wins over a prefix.
* The pin is the blob's version where the account keeps versions, and its ETag: one only says whether to look again.
* What was locked out of a prefix stays as it was locked until an upgrade is asked for, whatever lies there now.
* Every listing has a bound, in blobs and in pages; one that breaks off is an error, never a shorter listing.
* What stands for a folder is no blob.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

from bundler.http import Client
from bundler.settings import Settings
from bundler.sources.azure_account import FOREIGN, Account
from bundler.sources.base import Found, Remote
from bundler.sources.prefixes import folder_of, near, pin_of, split
from bundler.sources.reference import Reference
from manifests.errors import ManifestError, SourceDeniedError, SourceError, SourceNotFoundError

MAXIMUM_BLOBS: Final = 100_000
"""Blobs below a prefix."""
MAXIMUM_PAGES: Final = 1_000
"""Pages of one listing: an empty one counts too."""
_PAGE: Final = 1000
"""Blobs asked for in a page."""


@dataclass(frozen=True, slots=True)
class _Blob:
    """A blob as its container describes it."""

    name: str
    size: int
    etag: str = ""
    version: str = ""
    md5: bytes | None = None

    @property
    def pin(self) -> dict[str, str]:
        return pin_of(etag=self.etag, version=self.version)


class BlobSource:
    """The containers of the one account that the settings name."""

    def __init__(self, settings: Settings, client: Client) -> None:
        self._account = Account(settings, client)

    def find(self, reference: Reference, pin: Mapping[str, str]) -> Found:
        """The blob; one pinned by its version as it was then.

        Errors: `SourceNotFoundError` names what lies near; `SourceDeniedError`; `SourceUnreachableError`.
        """
        container, name = _parts(reference)
        if not name or name.endswith("/"):
            raise ManifestError(f"{reference} is a prefix, and a file is asked for", hint=f"{reference.container}NAME")
        found = self._head(container, name, pin.get("version-id", ""), reference)
        if found is None:
            hint = self._near(container, name, reference)
            raise SourceNotFoundError(f"{reference}: container {container} has no such blob", hint=hint)
        return self._found(reference, container, found, path=name.rpartition("/")[2])

    def list(self, reference: Reference, pin: Mapping[str, str]) -> tuple[Found, ...]:
        """Every blob below the prefix, by its path there; or the one blob. A `pin` keeps what was locked."""
        container, name = _parts(reference)
        if name and not name.endswith("/"):
            single = self._head(container, name, pin.get("version-id", ""), reference)
            if single is not None:
                kept = _Blob(name, single.size) if pin and not single.version else single
                return (self._found(reference, container, kept, path=name.rpartition("/")[2]),)
            name += "/"
        blobs = tuple(self._blobs(container, name, reference))
        if not blobs:
            hint = self._near(container, name.rstrip("/"), reference)
            raise SourceNotFoundError(f"{reference}: container {container} has nothing there", hint=hint)
        if pin:  # a file that was locked stays as it is if no other pin is held against it
            blobs = tuple(_Blob(found.name, found.size) for found in blobs)
        elif self._keeps_versions(container, blobs[0], reference):
            blobs = self._versions(container, name, reference) or blobs
        paths = {found.name.removeprefix(name): found for found in blobs}
        return tuple(
            self._found(reference.child(path), container, paths[path], path=path)
            for path in sorted(paths)
        )  # fmt: skip

    def _found(self, reference: Reference, container: str, found: _Blob, *, path: str) -> Found:
        url = self._account.url(container, found.name, version=found.version)
        return Found(reference, path, Remote(url), size=found.size, md5=found.md5, pin=found.pin)

    def _head(self, container: str, name: str, version: str, reference: Reference) -> _Blob | None:
        """The blob; None where there is none of this name, or a folder of an account that has real ones."""

        def ask(service: Any) -> Any:
            named = {"version_id": version} if version else {}
            return service.get_blob_client(container, name).get_blob_properties(**named)

        answer = self._account.ask(ask, container, subject=str(reference))
        if answer is None or _is_folder(answer):
            return None
        if str(answer.blob_tier).lower() == "archive":
            raise SourceError(
                f"{reference}: it lies in the archive tier, where nothing can be read",
                hint="move it to the tier Hot or Cool, and wait until it is rehydrated",
            )
        return self._blob(answer, reference)

    def _keeps_versions(self, container: str, first: _Blob, reference: Reference) -> bool:
        found = self._head(container, first.name, "", reference)
        return bool(found and found.version)

    def _blobs(self, container: str, prefix: str, reference: Reference) -> Iterator[_Blob]:
        for page in self._pages(container, prefix, reference, "metadata"):
            yield from (self._blob(entry, reference) for entry in page if not _is_folder(entry))

    def _versions(self, container: str, prefix: str, reference: Reference) -> tuple[_Blob, ...]:
        """The blobs with their versions; none where listing them is not allowed."""
        try:
            return tuple(
                self._blob(entry, reference)
                for page in self._pages(container, prefix, reference, "metadata", "versions")
                for entry in page
                if entry.is_current_version and not _is_folder(entry)
            )
        except SourceDeniedError:
            return ()

    def _pages(self, container: str, prefix: str, reference: Reference, *include: str) -> Iterator[Sequence[Any]]:
        """What a listing has, page by page."""
        count = 0
        asked: set[str] = set()
        pages: Any = None

        def ask(service: Any) -> Sequence[Any]:
            nonlocal pages
            if pages is None:
                pages = _listing(service, container, prefix, *include)
            return tuple(next(pages, ()))

        while len(asked) < MAXIMUM_PAGES:
            page = self._account.ask(ask, container, subject=str(reference)) or ()
            yield page
            count += len(page)
            if count > MAXIMUM_BLOBS:
                raise SourceError(f"{reference}: more than {MAXIMUM_BLOBS} blobs", hint="name a longer prefix")
            token = pages.continuation_token if pages is not None else None
            if not token:
                return
            if token in asked:
                break
            asked.add(token)
        raise SourceError(f"{reference}: the endpoint's listing does not end", hint=FOREIGN)

    def _near(self, container: str, name: str, reference: Reference) -> str:
        folder = folder_of(name)

        def ask(service: Any) -> Sequence[Any]:
            return tuple(islice(next(_listing(service, container, folder, "metadata", size=12), ()), 12))

        try:
            answer = self._account.ask(ask, container, subject=str(reference)) or ()
        except SourceDeniedError:
            return ""
        names = [self._blob(entry, reference).name for entry in answer if not _is_folder(entry)]
        return near(names, folder=folder, place=container)

    def _blob(self, entry: Any, reference: Reference) -> _Blob:
        name, size = entry.name, entry.size
        if not isinstance(name, str) or not name or not isinstance(size, int) or size < 0:
            raise self._account.foreign(str(reference))
        etag = str(entry.etag or "").strip('"')  # quoted in one kind of answer and bare in another
        # whoever signs nothing is taken for a client of a time that knew no versions
        version = str(entry.version_id or "") if self._account.signs else ""
        return _Blob(name, size, f'"{etag}"' if etag else "", version, _md5(entry))


def _parts(reference: Reference) -> tuple[str, str]:
    """Container and name; the name is empty for a whole container."""
    return split(reference, holder="container", example="az://CONTAINER/PATH or az://CONTAINER/PREFIX/")


def _listing(service: Any, container: str, prefix: str, *include: str, size: int = _PAGE) -> Any:
    """The pages of a listing, each fetched when it is asked for."""
    entries = service.get_container_client(container).list_blobs(
        name_starts_with=prefix or None, include=[*include], results_per_page=size
    )
    return entries.by_page()


def _md5(entry: Any) -> bytes | None:
    """What the uploader said; nothing for a blob that was put together out of many."""
    md5 = bytes(entry.content_settings.content_md5 or b"")
    return md5 if len(md5) == 16 else None


def _is_folder(entry: Any) -> bool:
    """Whether it stands for a folder: accounts with real ones list them as blobs of no length."""
    marked = str((entry.metadata or {}).get("hdi_isfolder", "")).lower() == "true"
    return marked or str(entry.name).endswith("/")
