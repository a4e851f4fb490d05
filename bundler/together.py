"""Several files at once, and the errors of all of them."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, TypeVar

from manifests.errors import BundleError, BusyError, DigestMismatchError, ManifestError, SourceError

T = TypeVar("T")
THREADS: Final = min(4, os.cpu_count() or 1)
"""For work on chunks, which keeps a processor busy."""
AHEAD: Final = 2 * THREADS
"""Chunks in memory at once."""


@dataclass(frozen=True, slots=True)
class Failed:
    """In the place of what a job would have given."""

    error: BundleError


def together(jobs: Sequence[Callable[[], T]], *, threads: int, stop: Callable[[], None]) -> list[T]:
    """What the jobs give, in their order, run by a few threads; one that fails does not lose the others.

    Errors: as `outcomes`; the only failure, or one that lists all (see `combined`).
    """
    given = outcomes(jobs, threads=threads, stop=stop)
    if failures := [each.error for each in given if isinstance(each, Failed)]:
        raise combined(failures)
    return [each for each in given if not isinstance(each, Failed)]


def outcomes(jobs: Sequence[Callable[[], T]], *, threads: int, stop: Callable[[], None]) -> list[T | Failed]:
    """What each job gives, or how it failed.

    What is not about a source, the manifest or a file that another process has in hand (a full disk, an interrupt) is
    raised: it ends everything at once, through `stop`.
    """
    pool = ThreadPoolExecutor(max_workers=max(1, threads))
    try:
        futures = [pool.submit(job) for job in jobs]
        for future in as_completed(futures):
            _expected_error(future)
    except BaseException:
        stop()
        pool.shutdown(cancel_futures=True)
        raise
    pool.shutdown()
    errors = [_expected_error(future) for future in futures]
    return [future.result() if error is None else Failed(error) for future, error in zip(futures, errors, strict=True)]


@contextmanager
def workers() -> Iterator[ThreadPoolExecutor]:
    """Threads for work on chunks; what has not begun when the block ends never does."""
    pool = ThreadPoolExecutor(max_workers=THREADS)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def ahead(pool: ThreadPoolExecutor, jobs: Iterable[Callable[[], T]]) -> Iterator[T]:
    """What the jobs give, in order; a few of them run ahead of who asks."""
    pending: deque[Future[T]] = deque()
    for job in jobs:
        pending.append(pool.submit(job))
        if len(pending) >= AHEAD:
            yield pending.popleft().result()
    while pending:
        yield pending.popleft().result()


def combined(errors: Iterable[BundleError], *, subject: str = "") -> BundleError:
    """One error for several: itself if there is only one (however often), else one whose facts are what each says.

    It is of their class if they have one, else a `ManifestError` if all are, else a `SourceError`. With a `subject`,
    they are the failures of that one file's sources, in one line.
    """
    distinct = list({str(error): error for error in errors}.values())
    if len(distinct) == 1:
        return distinct[0]
    hints = list(dict.fromkeys(error.hint for error in distinct if error.hint))
    if subject:
        told = "; ".join(error.message.removeprefix(f"{subject}: ") for error in distinct)
        return _of(_family(distinct), f"{subject}: {len(distinct)} sources failed: {told}", "; ".join(hints), {})
    hint = hints[0] if len(hints) == 1 else ""
    return _of(_family(distinct), f"{len(distinct)} files failed", hint, _facts(distinct, with_hints=not hint))


def _facts(errors: Sequence[BundleError], *, with_hints: bool) -> dict[str, str]:
    """What each says, under the name of its file; `with_hints` also its own way out."""
    facts: dict[str, str] = {}
    for number, error in enumerate(errors, 1):
        name, colon, rest = error.message.partition(": ")
        is_named = bool(colon) and name not in facts
        way_out = f" (hint: {error.hint})" if with_hints and error.hint else ""
        facts[name if is_named else str(number)] = (rest if is_named else error.message) + way_out
    return facts


def _family(errors: Sequence[BundleError]) -> type[BundleError]:
    kinds = {type(error) for error in errors}
    if len(kinds) == 1:
        return kinds.pop()
    return ManifestError if all(issubclass(kind, ManifestError) for kind in kinds) else SourceError


def _of(family: type[BundleError], message: str, hint: str, facts: Mapping[str, str]) -> BundleError:
    """An error of this family; that of a class whose message is made of its facts says this all the same."""
    if not issubclass(family, DigestMismatchError):
        return family(message, hint=hint, facts=facts)
    error = family(subject=message, expected="", actual="", hint=hint)
    error.message, error.facts = message, dict(facts)
    return error


def _expected_error(future: "Future[T]") -> BundleError | None:
    error = future.exception()
    if error is None or isinstance(error, SourceError | ManifestError | BusyError):
        return error
    raise error
