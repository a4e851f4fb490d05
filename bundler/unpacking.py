"""The members of an archive, into the store in one pass over it: a compressed tar has no other way that is quick."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from io import BytesIO
from types import TracebackType
from typing import BinaryIO, Final, Self

from bundler import encode
from bundler.sources import archive
from bundler.sources.archive import Entry
from bundler.sources.reference import member_path
from manifests.digest import Digest
from manifests.errors import SourceNotFoundError, listing
from manifests.recipe import Recipe
from manifests.store import Store

_SMALL: Final = 1 << 20
"""Bytes of a member that is read whole, to go into the store beside others."""
_TOGETHER: Final = 8
_WAITING: Final = 32
"""Small members in memory at once."""
_SHOWN: Final = 50


def unpack(
    whole: BinaryIO,
    inner: Sequence[str],
    store: Store,
    container: Digest,
    wanted: Callable[[str], bool],
    *,
    subject: str,
) -> tuple[str, ...]:
    """Every name below the folder or archive that `inner` leads to, sorted; what is `wanted` is in the store then.

    `whole` is the archive `container`. The store remembers each member that it takes, so that nobody opens the archive
    for it again. Errors: `SourceError` for a wanted member that is no regular file, or a damaged archive.
    """
    *outer, folder = inner if inner and inner[-1].endswith("/") else (*inner, "")
    names: list[str] = []
    folders: set[str] = set()
    taking = _Taking(store)
    with taking, archive.walk(whole, outer, subject=subject, spool=store.spool) as entries:
        for entry in entries:
            if not entry.name.startswith(folder):
                _note_folders(entry.name, folders)
                continue
            names.append(entry.name.removeprefix(folder))
            if wanted(names[-1]):
                taking.take(entry, subject=f"{subject} {entry.name}")
    if folder and not names:
        raise SourceNotFoundError(
            f"{subject} has no folder {folder}", hint=f"there are: {listing(sorted(folders)) or 'no folders'}"
        )
    for name, recipe in taking.taken():  # only now: of a damaged archive nothing is remembered
        store.record_member(container, member_path((*outer, name)), recipe.digest)
    return tuple(sorted(names))


class _Taking:
    """Takes members into the store: a large one as it comes, small ones several at once, as each waits for the disk."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._pool = ThreadPoolExecutor(max_workers=_TOGETHER)
        self._taken: list[tuple[str, Recipe | Future[Recipe]]] = []
        self._waiting: deque[Future[Recipe]] = deque()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(cancel_futures=error is not None)

    def take(self, entry: Entry, *, subject: str) -> None:
        """One member, at which the walk stands."""
        with entry.open() as member:
            if member.size > _SMALL:
                added = encode.add(self._store, member.stream, size=member.size, subject=subject)
                self._taken.append((entry.name, added))
                return
            content = BytesIO(member.stream.read(_SMALL + 1))
            coming = self._pool.submit(encode.add, self._store, content, size=member.size, subject=subject)
        self._taken.append((entry.name, coming))
        self._waiting.append(coming)
        if len(self._waiting) > _WAITING:
            self._waiting.popleft().result()

    def taken(self) -> Iterator[tuple[str, Recipe]]:
        """Every name that was taken, and its blob."""
        for name, added in self._taken:
            yield name, added.result() if isinstance(added, Future) else added


def _note_folders(name: str, folders: set[str]) -> None:
    """The folders that a name lies in, as far as an error would show them."""
    parts = name.split("/")[:-1]
    if len(folders) < _SHOWN:
        folders.update("/".join(parts[:depth]) + "/" for depth in range(1, len(parts) + 1))
