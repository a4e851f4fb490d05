"""Repositories and prefixes elsewhere, as trees: listed through their sources, and small files of them read.

* Only what is needed to describe a model is read, and only up to a bound.
* What cannot be reached is no error here: it is written down unseen, and said.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from bundler.http import Client
from bundler.initialise.entries import Item, Tree
from bundler.initialise.local import is_hidden
from bundler.initialise.unwanted import is_secret
from bundler.sources.base import Found, Remote, Source
from bundler.sources.reference import Reference
from manifests.errors import NamingError, SourceError
from manifests.paths import checked_path

MAXIMUM_READ: Final = 64 << 20
"""Bytes of a file that is read before it is fetched: enough for a small graph."""
MAXIMUM_TOTAL: Final = 512 << 20
"""Bytes that are read in all, to describe what is there."""


@dataclass(frozen=True, slots=True)
class Listed:
    """A tree elsewhere, and what its source says of the whole."""

    tree: Tree
    licenses: tuple[str, ...]
    gated: bool


class Surroundings:
    """The sources that can be asked, and the client that reads from them."""

    def __init__(self, client: Client, sources: Mapping[str, Source]) -> None:
        self._client = client
        self._sources = sources
        self._room = MAXIMUM_TOTAL

    def look(self, text: str, base: Path) -> Listed:
        """What the source `text` offers. Errors: `SourceError` and its kinds; `ManifestError`."""
        reference = Reference.parse(text, base)
        found = self._sources[reference.scheme].list(reference, {})
        unwanted = is_hidden if len(found) > 1 else is_secret
        hidden = [file.path for file in found if any(map(unwanted, file.path.split("/")))]
        items, left_out = [], []
        for file in found:
            try:
                items.append(self._item(file, checked_path(file.path)))
            except NamingError:
                left_out.append(f"{file.path} (a name that not every file system can hold)")
        shown = tuple(item for item in items if item.path not in hidden)
        whole = not left_out
        tree = Tree(text, reference.location.rstrip("/"), shown, (*left_out, *hidden), tuple(hidden), whole)
        licenses = tuple(dict.fromkeys(claim for file in found for claim in file.licenses))
        return Listed(tree, licenses, any(file.gated for file in found))

    def _item(self, file: Found, path: str) -> Item:
        return Item(path, file.size or 0, str(file.reference), partial(self._read, file))

    def _read(self, file: Found, limit: int) -> bytes | None:
        bound = min(limit, MAXIMUM_READ)
        if not isinstance(file.place, Remote) or file.size is None or file.size > min(bound, self._room):
            return None
        self._room -= file.size
        try:
            return self._client.document(file.place.url, subject=file.path, limit=bound).content
        except SourceError:
            return None
