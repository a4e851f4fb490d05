"""The ledger: what was installed here, in order. It keeps the floor of each bundle line, so that nothing old returns.

* Entries are published one by one and never changed. The floor also counts every generation that is here: a power cut
  between activation and ledger takes nothing away.
"""

from collections.abc import Iterable
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Final

from manifests import canonical
from manifests.digest import Digest
from manifests.errors import CorruptStoreError, FormatError
from manifests.keyring import Key
from manifests.manifest import Struct
from manifests.publish import publish, translated
from runtime import generations
from runtime.lines import Line
from runtime.root import Root

FORMAT: Final = 1
_LIMIT: Final = 1 << 20


class Entry(Struct, frozen=True, omit_defaults=False):
    """One install. `at` is UTC by the site's clock: for people, never for a decision."""

    format: int
    number: int
    line: str
    sequence: int
    content: str
    index: str
    generation: int
    signers: tuple[str, ...]
    older_allowed: bool
    at: str


def read(root: Root) -> list[Entry]:
    """Every entry, in order."""
    if not root.ledger.is_dir():
        return []
    with translated(root.ledger):
        paths = sorted(root.ledger.glob("[0-9]*.json"))
        return [_decode(path) for path in paths]


def _decode(path: Path) -> Entry:
    try:
        return canonical.decode_as(path.read_bytes(), Entry, limit=_LIMIT, subject=str(path))
    except FormatError as error:
        raise CorruptStoreError(
            error.message, hint="move this entry away: the other entries and the generations keep the floor"
        ) from error


def known(root: Root, line: str) -> dict[int, Digest]:
    """The content digest of every sequence of `line` that was ever here."""
    found = {entry.sequence: Digest.parse(entry.content) for entry in read(root) if entry.line == line}
    for number in root.numbers():
        with suppress(CorruptStoreError):  # what cannot be read cannot be gone back to either
            if (installed := generations.read(root, number).get(line)) is not None:
                found[installed.content.sequence] = installed.digest
    return found


def last(root: Root, line: str) -> Entry | None:
    """The newest entry of `line`."""
    return max((entry for entry in read(root) if entry.line == line), key=lambda entry: entry.number, default=None)


def add(
    root: Root,
    line: Line,
    *,
    index: Digest,
    generation: int,
    signers: Iterable[Key],
    older_allowed: bool,
    at: datetime,
) -> Entry:
    """Write the entry of an install."""
    number = max((entry.number for entry in read(root)), default=0) + 1
    entry = Entry(
        format=FORMAT,
        number=number,
        line=line.content.line,
        sequence=line.content.sequence,
        content=line.content_digest,
        index=str(index),
        generation=generation,
        signers=tuple(sorted(key.id for key in signers)),
        older_allowed=older_allowed,
        at=at.isoformat(timespec="seconds"),
    )
    publish(root.ledger / f"{number:08}.json", canonical.encode(entry))
    return entry
