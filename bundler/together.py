"""Several files at once, and the errors of all of them."""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from manifests.errors import BundleError, DigestMismatchError, ManifestError, SourceError

T = TypeVar("T")


def together(jobs: Sequence[Callable[[], T]], *, threads: int, stop: Callable[[], None]) -> list[T]:
    """What the jobs give, in their order, run by a few threads; one that fails does not lose the others.

    Errors: the only one, or one that lists all (see `combined`). What is not about a source or the manifest (a
    full disk, an interrupt) ends everything at once, through `stop`.
    """
    pool = ThreadPoolExecutor(max_workers=max(1, threads))
    try:
        futures = [pool.submit(job) for job in jobs]
        errors = [error for future in futures if (error := _expected_error(future)) is not None]
    except BaseException:
        stop()
        pool.shutdown(cancel_futures=True)
        raise
    pool.shutdown()
    if errors:
        raise combined(errors)
    return [future.result() for future in futures]


def combined(errors: Iterable[BundleError], *, subject: str = "") -> BundleError:
    """One error for several: itself if there is only one (however often), else one that lists them.

    It is of their class if they have one, else a `ManifestError` if all are, else a `SourceError`. With a `subject`,
    they are the failures of that one file's sources.
    """
    distinct = list({str(error): error for error in errors}.values())
    if len(distinct) == 1:
        return distinct[0]
    beginning = f"{subject}: " if subject else ""
    told = [error.message.removeprefix(beginning) for error in distinct]
    head = f"{beginning}{len(distinct)} {'sources' if subject else 'files'} failed: "
    hint = "; ".join(dict.fromkeys(error.hint for error in distinct if error.hint))
    if all(isinstance(error, DigestMismatchError) for error in distinct):
        return _mismatch(distinct[-1], head + "; ".join(told[:-1]), hint)
    return _family(distinct)(head + "; ".join(told), hint=hint)


def _family(errors: Sequence[BundleError]) -> type[BundleError]:
    kinds = {type(error) for error in errors}
    if len(kinds) == 1:
        return kinds.pop()
    return ManifestError if all(issubclass(kind, ManifestError) for kind in kinds) else SourceError


def _mismatch(last: BundleError, before: str, hint: str) -> BundleError:
    """The class whose message is made of its facts: it ends in those of the last one."""
    if not isinstance(last, DigestMismatchError):
        return last
    return DigestMismatchError(
        subject=f"{before}; {last.subject}", expected=last.expected, actual=last.actual, hint=hint
    )


def _expected_error(future: "Future[T]") -> BundleError | None:
    error = future.exception()
    if error is None or isinstance(error, SourceError | ManifestError):
        return error
    raise error
