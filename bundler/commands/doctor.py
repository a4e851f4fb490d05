"""`bundle doctor`: what is wrong on this machine, and how to mend it."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bundler.commands.options import json_option, root_option, store_option
from bundler.commands.output import show, show_json

if TYPE_CHECKING:
    from manifests.finding import Check, Finding


@click.command("doctor")
@root_option
@store_option
@json_option
def command(*, root: Path | None, store: Path | None, as_json: bool) -> None:
    """Look at this machine, and say what is wrong with it and what to type. Nobody is asked.

    A site is looked at where there is a root, a builder where there is a store or the build extra. Nothing is changed,
    but for one trial: whether links work is tried in a folder in `state/` of the root, which is removed again, as is
    what a killed trial left there. The exit code is 80 if there is a problem, else 0.

    Example: bundle doctor
    """
    import os

    from manifests.errors import FindingsError
    from manifests.finding import Verdict, examine, worst

    looked_at, checks = _checks(root, store, os.environ, datetime.now(UTC))
    findings = examine(checks)
    if as_json:
        documents = [finding.to_dict() for finding in findings]
        show_json({"findings": documents, "worst": worst(findings).value, "looked_at": looked_at})
    else:
        _show(findings, looked_at)
    if worst(findings) is Verdict.PROBLEM:
        click.get_current_context().exit(FindingsError.exit_code)


def _checks(
    root: Path | None, store: Path | None, environ: Mapping[str, str], now: datetime
) -> "tuple[dict[str, str], list[Check]]":
    """Which sides are looked at (`site`, `builder`) and where, and the checks."""
    from bundler.doctor import builder, program
    from bundler.doctor.store import is_there
    from bundler.installation import installed
    from manifests.finding import Finding, seen
    from runtime.doctor import filesystem, marker, providers, site, variables
    from runtime.settings import locate_root

    failed: list[Finding] = []
    present: dict[str, str] = seen(program.SUBJECT, installed, instead={}, failed=failed)
    place = seen(marker.SUBJECT, lambda: locate_root(root, environ), instead=None, failed=failed)
    shelf = seen(builder.STORE, lambda: _store(store, environ, present), instead=None, failed=failed)
    is_site = root is not None or bool(environ.get("BUNDLE_HOME")) or shelf is None
    is_site = place is not None and (is_site or marker.is_there(place))
    looked_at = {}
    checks: list[Check] = [
        (program.SUBJECT, lambda: failed),
        (program.SUBJECT, lambda: program.look(environ)),
        (program.SUBJECT, lambda: program.look_at_home(environ)),
        (variables.SUBJECT, lambda: variables.look_at_shadows(environ)),
        (providers.SUBJECT, lambda: providers.look_at_distributions(present)),
    ]
    if place is not None and is_site:
        looked_at["site"] = str(place)
        checks += site.checks(place, given=root and place, environ=environ, now=now, present=present)
    if shelf is not None:
        looked_at["builder"] = str(shelf)
        wanted = store is not None or bool(environ.get("BUNDLE_STORE")) or not is_site
        folder = seen(program.SUBJECT, Path.cwd, instead=None, failed=[])
        checks += builder.checks(shelf, wanted=wanted, folder=folder, environ=environ, present=present)
        if wanted or is_there(shelf):
            disk = partial(filesystem.look, builder.STORE, shelf, elsewhere=filesystem.STORE_ELSEWHERE)
            checks.append((builder.STORE, disk))
    return looked_at, checks


def _store(given: Path | None, environ: Mapping[str, str], present: Mapping[str, str]) -> Path | None:
    """The store to look at: None on a machine that is no builder."""
    from bundler.doctor import extras, store
    from bundler.places import expanded

    if given is not None:
        return expanded(given).absolute()
    if extras.is_complete(present):
        from bundler.settings import store_path

        return store_path(environ).absolute()
    named = Path(environ["BUNDLE_STORE"]).absolute() if environ.get("BUNDLE_STORE") else None
    return named if named is not None and store.is_there(named) else None


def _show(findings: "Sequence[Finding]", looked_at: Mapping[str, str]) -> None:
    """One line each, its fix below; then the count."""
    from collections import Counter

    from manifests.finding import Verdict

    for finding in findings:
        show(f"{finding.verdict.value:<8} {finding.subject}: {finding.what}")
        if finding.fix:
            show(f"           {finding.fix}")
    counts = Counter(finding.verdict for finding in findings)
    said = ", ".join(f"{verdict.value} {counts[verdict]}" for verdict in Verdict)
    sides = ", ".join(
        f"{side} {looked_at[side]}" if side in looked_at else f"no {side}" for side in ("site", "builder")
    )
    show(f"{said}; looked at: {sides}")
