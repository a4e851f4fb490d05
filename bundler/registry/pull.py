"""A bundle out of a registry: its manifest, its envelope, then every blob, each compared; its name when it is whole.

* The bytes are those that `bundle build` wrote, in either form: the wrapper follows from what it wraps.
* Killed at any byte, the next pull goes on there. Nothing that is not whole ever has the bundle's name.
* Blobs that the bundle under that name has already, of an earlier sequence, are taken out of it.
* Who signed is not asked here: `bundle verify` and the site do that.
"""

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final

from bundler.http import Client
from bundler.registry import recognise
from bundler.registry.address import Address
from bundler.registry.landing import (
    FolderLanding,
    Landing,
    TarLanding,
    read_pieces,
    refuse_a_stranger,
    working_folder,
)
from bundler.registry.push import parts_of
from bundler.registry.transport import Repository
from bundler.settings import Settings
from bundler.together import together
from manifests import envelope, statement
from manifests.digest import Digest
from manifests.errors import DiskFullError, FormatError, NamingError, SourceNotFoundError
from manifests.errors import size as readable
from manifests.medium import Medium, open_medium
from manifests.naming import checked_line
from manifests.progress import Reporter
from manifests.publish import translated
from manifests.statement import Statement
from manifests.wrapper import Part, Wrapper

_READ: Final = 1 << 20
_MARGIN: Final = 16 << 20
"""Bytes that are left free for names and small files."""


@dataclass(frozen=True, slots=True)
class Pulled:
    """What a pull did."""

    path: Path
    address: Address
    digest: Digest
    statement: Statement
    size: int
    blobs: int
    fetched: int
    fetched_bytes: int


def pull(
    address: Address,
    out: Path | None,
    settings: Settings,
    reporter: Reporter,
    *,
    folder: bool = False,
    plain_http: bool = False,
) -> Pulled:
    """Bring the bundle at `address` to `out`, by default `LINE-SEQUENCE.bundle` here.

    Errors: `FormatError` for what is none of our bundles; `SourceError` and its kinds; `StorageError`, `BusyError`.
    """
    with Client(settings, reporter) as client:
        repository = Repository(client, address, settings.registries.logins, plain_http=plain_http)
        if not address.version:
            raise SourceNotFoundError(f"{address}: which bundle?", hint=_choices(repository))
        if out is not None:
            refuse_a_stranger(out, folder=folder)
        subject = str(address)
        received = repository.manifest(address.version, subject=subject)
        bare = recognise.our_wrapper(recognise.look(received, subject=subject), subject=subject)
        slot = repository.small_blob(bare.envelope, subject=f"the envelope of {subject}")
        said = statement.decode(envelope.decode(slot).payload)
        if Part(said.index, said.index_size) != bare.index:
            raise FormatError(f"{subject}: what is signed is about another index than the one carried")
        carried = replace(bare, reference=f"{_checked_line(said, subject=subject)}-{said.sequence}")
        named = out or Path(f"{carried.reference}.bundle")
        refuse_a_stranger(named, folder=folder)
        target = Path(os.path.realpath(named)) if folder else named
        key = f"{received.digest.hex[:32]}-{'folder' if folder else 'tar'}"
        with working_folder(target, key) as work:
            landing = (FolderLanding if folder else TarLanding)(work, target, carried)
            fetched = _Pulling(repository, landing, reporter, settings.threads).run(carried, slot, target)
            landing.finish()
    size = sum(length for _, length in carried.members())
    parts = list(parts_of(carried))
    return Pulled(named, address, received.digest, said, size, len(parts), len(fetched), sum(p.size for p in fetched))


def _choices(repository: Repository) -> str:
    return repository.known_tags() or f"{repository.address}:TAG; the registry does not say which tags there are"


def _checked_line(said: Statement, *, subject: str) -> str:
    """The line, which becomes a file's name before anything signed was looked at. Errors: `FormatError`."""
    try:
        return checked_line(said.line)
    except NamingError as error:
        raise FormatError(f"{subject}: {error.message}", hint="no bundle has such a name: ask who pushed it") from error


class _Pulling:
    """The blobs of one bundle."""

    def __init__(self, repository: Repository, landing: Landing, reporter: Reporter, threads: int) -> None:
        self._repository = repository
        self._landing = landing
        self._reporter = reporter
        self._threads = threads

    def run(self, carried: Wrapper, slot: bytes, target: Path) -> list[Part]:
        """Bring in what is not here; those that came over the network."""
        self._landing.land(carried.envelope, [slot])
        wanted = [(name, part) for name, part in parts_of(carried) if part != carried.envelope]
        missing = [(name, part) for name, part in wanted if not self._holds(part, name)]
        with _previous(target) as previous:
            if previous is not None:
                missing = [(name, part) for name, part in missing if not self._reuse(part, name, previous)]
        self._check_space([part for _, part in missing])
        jobs = [partial(self._fetch, part, name) for name, part in missing]
        together(jobs, threads=self._threads, stop=self._repository.client.stop)
        return [part for _, part in missing]

    def _holds(self, part: Part, name: str) -> bool:
        with self._reported(f"{name}, checking", part) as advanced:
            return self._landing.holds(part, advanced)

    def _reuse(self, part: Part, name: str, previous: "_Previous") -> bool:
        """Whether the bundle that is there now gave it. A damaged one gives nothing."""
        if previous.sizes.get(part.name) != part.size:
            return False
        try:
            with self._reported(f"{name}, at hand", part) as advanced:
                return self._landing.land(part, _pieces_of(previous.medium, part, advanced))
        except FormatError:
            return False

    def _fetch(self, part: Part, name: str) -> None:
        done = self._repository.fetch(part, self._landing.downloads / part.digest.hex, self._reporter, subject=name)
        try:
            if not self._landing.land(part, read_pieces(done.path)):
                raise DiskFullError(f"{name}: the disk did not keep what was written", hint="look at this disk")
            done.claim.discard()
        finally:
            done.claim.release()

    def _check_space(self, missing: list[Part]) -> None:
        """What comes needs room once, and what is under way once more."""
        folder = self._landing.downloads
        sizes = sorted((part.size for part in missing), reverse=True)
        with translated(folder):
            here = sum(entry.stat().st_size for entry in os.scandir(folder) if entry.is_file())
            free = shutil.disk_usage(folder).free
        needed = max(0, sum(sizes) + sum(sizes[: self._threads]) - here)
        if needed + _MARGIN > free:
            raise DiskFullError(
                f"{readable(needed)} are needed to pull it, {readable(free)} are free in {folder}, "
                f"and {readable(_MARGIN)} must stay free",
                hint="free some space and run the same command again: what was pulled is kept",
            )

    @contextmanager
    def _reported(self, name: str, part: Part) -> Iterator["_Advanced"]:
        advanced = _Advanced(self._reporter, name, part.size)
        try:
            yield advanced
        finally:
            advanced.finish()


class _Advanced:
    """Tells a reporter of work that may turn out to be none: it begins with its first byte."""

    def __init__(self, reporter: Reporter, name: str, total: int) -> None:
        self._reporter = reporter
        self._name = name
        self._total = total
        self._is_begun = False

    def __call__(self, size: int) -> None:
        if not self._is_begun:
            self._is_begun = True
            self._reporter.started(self._name, self._total)
        self._reporter.advanced(self._name, size)

    def finish(self) -> None:
        if self._is_begun:
            self._reporter.finished(self._name)


@dataclass(frozen=True, slots=True)
class _Previous:
    """A bundle that has the name now, and the sizes of its members."""

    medium: Medium
    sizes: Mapping[str, int]


@contextmanager
def _previous(target: Path) -> Iterator[_Previous | None]:
    """The bundle that has the name now, whatever its form; None if there is none."""
    if not target.exists():
        yield None
        return
    medium = open_medium(target)
    try:
        try:
            sizes = medium.members()
        except FormatError:  # damaged: then nothing is taken out of it
            sizes = {}
        yield _Previous(medium, sizes)
    finally:
        medium.close()


def _pieces_of(medium: Medium, part: Part, advanced: "_Advanced") -> Iterator[bytes]:
    for offset in range(0, part.size, _READ):
        piece = medium.read(part.name, offset, min(_READ, part.size - offset))
        advanced(len(piece))
        yield piece
