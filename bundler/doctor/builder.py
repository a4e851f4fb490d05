"""All that `doctor` looks at on the connected side, in order."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from bundler.doctor import extras, keys, store
from manifests.finding import Check

STORE: Final = store.SUBJECT


def checks(
    path: Path, *, wanted: bool, folder: Path | None, environ: Mapping[str, str], present: Mapping[str, str]
) -> Iterator[Check]:
    """The checks of the store at `path`, `wanted` here for sure or not, and of the keys in `folder`, if there is one.

    `present` are this Python's distributions.
    """
    yield extras.SUBJECT, lambda: extras.look(present)
    yield store.SUBJECT, lambda: store.look(path, wanted=wanted)
    if folder is not None:
        yield keys.SUBJECT, lambda: keys.look(folder, environ)
    if extras.is_complete(present):
        from bundler.doctor import configuration  # noqa: PLC0415 - it needs the extra

        yield configuration.SUBJECT, lambda: configuration.look(environ)
