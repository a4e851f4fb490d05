"""The parts that a run of `lock` or `build` needs, and the steps that use them."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from bundler import licenses
from bundler.fetch import check_room
from bundler.http import Client
from bundler.intake import Intake
from bundler.kits import stored
from bundler.resolving.wanted import Wanted
from bundler.settings import Settings
from bundler.sources.base import Found, Source
from bundler.sources.reference import FILE, Reference
from bundler.sources.schemes import sources
from bundler.together import Failed, combined, outcomes, together
from manifests.errors import BundleError, DigestMismatchError, ManifestError, SourceError, SourceNotFoundError, listing
from manifests.kit import DESCRIPTION, SUMS, Kit
from manifests.lock import LockedFile
from manifests.progress import Reporter
from manifests.store import Store

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Settled:
    """A file of the lock, and the number of its package."""

    package: int
    file: LockedFile


class Work:
    """The parts that a run needs, and the steps that use them."""

    def __init__(self, base: Path, store: Store, settings: Settings, client: Client, intake: Intake) -> None:
        self.base = base
        self._store = store
        self._settings = settings
        self._failures: list[BundleError] = []
        self._client = client
        self._intake = intake
        self._sources = sources(settings, client, base)
        self._archives: dict[Reference, str] = {}
        """What the download of each archive is called."""

    def together(self, jobs: Sequence[Callable[[], T]]) -> list[T]:
        """What the jobs give, all errors collected."""
        return together(jobs, threads=self._settings.threads, stop=self._client.stop)

    def note(self, text: str) -> None:
        """Tell a person."""
        self._intake.reporter.note(text)

    def gather(self, jobs: Sequence[Callable[[], T]]) -> list[T]:
        """What the jobs give that do not fail; the errors of the others are kept for `raise_failures`."""
        given = outcomes(jobs, threads=self._settings.threads, stop=self._client.stop)
        self._failures += [each.error for each in given if isinstance(each, Failed)]
        return [each for each in given if not isinstance(each, Failed)]

    def raise_failures(self) -> None:
        """Raise what `gather` kept: the only error, or one that lists all."""
        if self._failures:
            raise combined(self._failures)

    def source(self, reference: Reference) -> Source:
        """The source that speaks the scheme of `reference`."""
        return self._sources[reference.scheme]

    def unpack(self, found: Found, wanted: Callable[[str], bool], *, subject: str) -> tuple[str, ...]:
        """The members of an archive that `wanted` chooses, taken into the store in one pass: their names, sorted."""
        names = self._intake.unpack(found, wanted)
        if not any(map(wanted, names)):
            raise SourceNotFoundError(
                f"{subject}: `include` and `exclude` choose none of the {len(names)} members of {found.reference}",
                hint=f"there are: {listing(names)}",
            )
        return tuple(name for name in names if wanted(name))

    def settle_all(self, wanted: Sequence[Wanted]) -> list[Settled]:
        """The locked files, in their order, without those that failed."""
        fetched = [file for file in wanted if self._must_be_fetched(file)]
        self._announce((file.references[0], file.found.size if file.found else None) for file in fetched)
        return self.gather(
            [partial(self._settle_told if self._must_be_fetched(file) else self.settle, file) for file in wanted]
        )

    def fetch_all(self, files: Sequence[tuple[str, LockedFile]]) -> None:
        """Bring locked files, each with the name that messages call it by, into the store."""
        total = sum(file.size for _, file in files)
        check_room(self._store.path, total, subject=f"{len(files)} files")
        references = [(Reference.parse(file.source, self.base), file.size) for _, file in files]
        self._announce((each, None if each.members else size) for each, size in references if each.scheme != FILE)
        if not self._settings.offline:
            self._unpack_together(files)
        self.together([partial(self._fetch_told, file, name) for name, file in files])

    def settle(self, wanted: Wanted) -> Settled:
        """The locked file: from the first source that gives it."""
        if wanted.kept is not None:
            return Settled(wanted.package, wanted.kept)
        errors: list[SourceError] = []
        for reference in wanted.references:
            try:
                return self._settle_from(reference, wanted)
            except SourceError as error:
                if isinstance(error, DigestMismatchError) and wanted.expected is not None:
                    error.hint = "the manifest gives this digest: mend it there, or ask who runs the source"
                errors.append(error)
                if len(errors) < len(wanted.references):
                    told = str(error).removeprefix(f"{wanted.subject}: ")
                    self._intake.reporter.note(f"{wanted.subject}: {told}; trying the next source")
        failure = combined(errors, subject=wanted.subject)
        if not failure.message.startswith(wanted.subject):
            failure.message = f"{wanted.subject}: {failure.message}"
        raise failure

    def fetch(self, file: LockedFile, *, subject: str) -> None:
        """Bring a locked file into the store, by its pin and with its digest compared."""
        reference = replace(Reference.parse(file.source, self.base), digest=file.digest)
        if reference.scheme != FILE:
            self._settings.check_online(subject)
        found = self._called(self.source(reference).find(reference, file.pin))
        known = found if reference.members else replace(found, size=file.size)
        self._intake.take(known, expected=file.digest, subject=subject)

    def _settle_told(self, wanted: Wanted) -> Settled:
        try:
            return self.settle(wanted)
        finally:
            self._finished(wanted.references[0], wanted.subject)

    def _fetch_told(self, file: LockedFile, subject: str) -> None:
        reference = Reference.parse(file.source, self.base)
        try:
            self.fetch(file, subject=subject)
        finally:
            if reference.scheme != FILE:
                self._finished(reference, subject)

    def _announce(self, coming: Iterable[tuple[Reference, int | None]]) -> None:
        """What comes from elsewhere: an archive counts once, however many of its members are wanted."""
        sizes: dict[tuple[Reference, int], int | None] = {}
        for number, (reference, size) in enumerate(coming):
            sizes[reference.container, -1 if reference.members else number] = size
        known = [size for size in sizes.values() if size is not None]
        if sizes:
            self._intake.reporter.expected(len(sizes), sum(known) if len(known) == len(sizes) else None)

    def _called(self, found: Found) -> Found:
        """`found`, if it is an archive with its name kept."""
        if found.reference.members:
            self._archives[found.reference.container] = found.path
        return found

    def _finished(self, reference: Reference, subject: str) -> None:
        """One file less to come: under the name of the archive, which then counts once."""
        archive = self._archives.get(reference.container, str(reference.container))
        self._intake.reporter.finished(archive if reference.members else subject)

    def _unpack_together(self, files: Sequence[tuple[str, LockedFile]]) -> None:
        """Take the members of an archive in one pass where several are wanted: a compressed tar has no other way."""
        archives: dict[tuple[Reference, tuple[str, ...]], dict[str, LockedFile]] = {}
        for _, file in files:
            reference = Reference.parse(file.source, self.base)
            if reference.members:
                *outer, name = reference.members
                archives.setdefault((reference.container, tuple(outer)), {})[name] = file
        self.together(
            [
                partial(self._unpack, replace(container, members=outer), members)
                for (container, outer), members in archives.items()
                if len(members) > 1
            ]
        )

    def _unpack(self, reference: Reference, members: Mapping[str, LockedFile]) -> None:
        pin = next(iter(members.values())).pin
        found = self._called(self.source(reference).find(reference, pin))
        self._intake.unpack(found, members.__contains__)

    def kit(self, files: Sequence[LockedFile], *, subject: str) -> Kit:
        """The kit that `files` are: its description, and every file as `SHA256SUMS` says."""
        for file in files:
            if file.path in {DESCRIPTION, SUMS} and self._store.find(file.digest) is None:
                self.fetch(file, subject=f"{subject} {file.path}")
        return stored.read(files, self._store, subject=subject)

    @staticmethod
    def _must_be_fetched(wanted: Wanted) -> bool:
        found = wanted.found
        if wanted.kept is not None or wanted.is_there or wanted.references[0].scheme == FILE:
            return False
        return found is None or found.digest is None or bool(found.reference.members)

    def _settle_from(self, reference: Reference, wanted: Wanted) -> Settled:
        expected = wanted.expected
        if reference.members and reference.members[-1].endswith("/"):
            raise ManifestError(
                f"{wanted.subject}: {reference} is a folder of an archive, and a file is asked for",
                hint="`unpack: true` beside `source:` takes a whole archive, or a folder of it",
            )
        found = self._called(wanted.found or self.source(reference).find(replace(reference, digest=expected), {}))
        for warning in found.warnings:
            self._intake.reporter.note(warning)
        digest, size, pin = found.digest, found.size, found.pin
        claims = self._intake.licenses(found)
        if reference.members or digest is None or size is None:
            fresh = len(wanted.references) > 1
            taken = self._intake.take(found, expected=expected, subject=wanted.subject, fresh=fresh)
            digest, size = taken.recipe.digest, taken.recipe.size
            pin = pin or ({} if expected else taken.pin)
            if licenses.is_onnx(wanted.path):
                claims = (*claims, *licenses.of_onnx(self._store, digest))
        if expected is not None and digest != expected:
            raise DigestMismatchError(subject=wanted.subject, expected=expected, actual=digest)
        file = LockedFile(
            path=wanted.path,
            sha256=digest.hex,
            size=size,
            source=str(reference),
            pin=dict(pin),
            lfs=found.lfs,
            licenses=tuple(dict.fromkeys(claims)),
            gated=found.gated,
        )
        return Settled(wanted.package, file)


@contextmanager
def work_of(base: Path, store: Store, settings: Settings, reporter: Reporter) -> Iterator[Work]:
    """What a run needs, for as long as the block lasts."""
    with Client(settings, reporter) as client, Intake(store, client, reporter) as intake:
        yield Work(base, store, settings, client, intake)
