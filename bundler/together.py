"""Several files at once, and the errors of all of them."""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from manifests.errors import BundleError, ManifestError, SourceError, SourceUnreachableError

T = TypeVar("T")


def together(jobs: Sequence[Callable[[], T]], *, threads: int, stop: Callable[[], None]) -> list[T]:
    """What the jobs give, in their order, run by a few threads; one that fails does not lose the others.

    Errors: the only one, or one `SourceError` that lists all. What is not about a source or the manifest (a full disk,
    an interrupt) ends everything at once, through `stop`.
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


def combined(errors: Iterable[BundleError]) -> BundleError:
    """One error for several: itself if there is only one (however often), else a `SourceError` that lists them."""
    distinct = list({str(error): error for error in errors}.values())
    if len(distinct) == 1:
        return distinct[0]
    family = SourceUnreachableError if all(isinstance(e, SourceUnreachableError) for e in distinct) else SourceError
    return family(
        f"{len(distinct)} files failed: " + "; ".join(error.message for error in distinct),
        hint="; ".join(dict.fromkeys(error.hint for error in distinct if error.hint)),
    )


def _expected_error(future: "Future[T]") -> BundleError | None:
    error = future.exception()
    if error is None or isinstance(error, SourceError | ManifestError):
        return error
    raise error
