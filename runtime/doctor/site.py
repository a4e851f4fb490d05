"""All that `doctor` looks at on a site, in order."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from manifests.errors import BundleError
from manifests.finding import Check
from runtime import environment, generations
from runtime.doctor import (
    access,
    clients,
    clock,
    filesystem,
    generation,
    links,
    marker,
    providers,
    trust_state,
    variables,
)
from runtime.doctor.clients import Site
from runtime.root import Root


def checks(
    path: Path, *, given: Path | None, environ: Mapping[str, str], now: datetime, present: Mapping[str, str]
) -> Iterator[Check]:
    """The checks of the root at `path`, `given` being what `--root` said; `present` are this Python's distributions."""
    yield marker.SUBJECT, lambda: marker.look(path, marker.rule(given, environ))
    yield marker.SUBJECT, lambda: filesystem.look(marker.SUBJECT, path, elsewhere=filesystem.ROOT_ELSEWHERE)
    root = Root(path) if marker.is_there(path) else None
    option = variables.option(given)
    if root is not None:
        yield from _inside(root, option)
    fix = variables.how(option)
    yield clock.SUBJECT, lambda: clock.look(root, now)
    yield variables.SUBJECT, lambda: variables.look(environ, _wanted(root), fix)
    yield clients.SUBJECT, lambda: clients.look(present, Site(environ, _wanted(root), _models(root), fix))
    yield providers.SUBJECT, lambda: providers.look(environ, present)
    yield providers.SUBJECT, providers.look_at_server


def _inside(root: Root, option: str) -> Iterator[Check]:
    yield access.SUBJECT, lambda: access.look(root)
    yield links.SUBJECT, lambda: links.look(root, option)
    yield trust_state.SUBJECT, lambda: trust_state.look(root)
    yield trust_state.SUBJECT, lambda: trust_state.look_at_lines(root, option)
    yield generation.SUBJECT, lambda: generation.look(root, option)
    yield generation.SUBJECT, lambda: generation.look_at_leftovers(root)


def _wanted(root: Root | None) -> dict[str, str]:
    """The variables of the root; none where that cannot be said: `generation` says why."""
    if root is not None:
        with suppress(BundleError, OSError):
            return environment.variables(root)
    return {}


def _models(root: Root | None) -> dict[str, int]:
    """How many active models have each layout."""
    counts: dict[str, int] = {}
    if root is not None:
        with suppress(BundleError, OSError):
            for line in generations.active(root).values():
                for layout in (layout for model in line.content.models for layout in model.layouts):
                    counts[layout] = counts.get(layout, 0) + 1
    return counts
