"""`bundle store gc`: what no lock needs is shown, and goes."""

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bundler.commands.extras import require_build
from bundler.commands.options import json_option, quiet_option, store_option
from bundler.commands.output import show_json

if TYPE_CHECKING:
    from bundler.housekeeping.collecting import Plan


def store_folder(store: Path | None) -> Path:
    """The store, whatever is wrong with other settings."""
    require_build()
    from bundler.places import expanded
    from bundler.settings import store_path

    return (expanded(store) if store else store_path(os.environ)).absolute()


@click.command("gc")
@click.argument("locks", metavar="[LOCK|FOLDER]...", nargs=-1, type=click.Path(path_type=Path))
@click.option("--all", "everything", is_flag=True, help="Keep nothing, whatever locks there are.")
@click.option("--dry-run", is_flag=True, help="Show what would go, and remove nothing.")
@click.option("--yes", is_flag=True, help="Remove without asking; needed where nobody can answer.")
@click.option(
    "--keep-days",
    type=click.IntRange(0, 36_500),
    default=7,
    show_default=True,
    help="What is so young stays: unfinished downloads, indexes, files of no known lock, or of one that is gone.",
)
@store_option
@json_option
@quiet_option
def gc(*, locks: tuple[Path, ...], store: Path | None, as_json: bool, **options: bool | int) -> None:
    """Remove what no lock needs. What goes is shown before.

    Kept is what these locks need, and those in these folders (*.lock.json); without any, the locks that were resolved
    or built with this store, as they are now and as they were last built. What goes is fetched again if it is needed,
    while its source has it. No build may run; one that starts waits.

    Example: bundle store gc --dry-run
    """
    from bundler.commands import store_output
    from bundler.commands.progress import reporter
    from bundler.housekeeping import collecting

    if options["everything"] and locks:
        raise click.UsageError("--all keeps nothing: it goes with no LOCK")
    everything, days = bool(options["everything"]), int(options["keep_days"])
    order = collecting.Order(store_folder(store), time.time(), locks, everything=everything, keep_days=days)
    found, is_done = collecting.plan(order), False
    if not as_json:
        store_output.show_plan(found)
    if found.total.files and not options["dry_run"]:
        _confirm(found, yes=bool(options["yes"]), as_json=as_json)
        with reporter(quiet=bool(options["quiet"]), as_json=as_json) as progress:
            found, is_done = collecting.collect(order, found, progress), True
    if as_json:
        show_json(store_output.plan_document(found, is_done=is_done))
    else:
        store_output.show_end(found, is_done=is_done)


def _confirm(found: "Plan", *, yes: bool, as_json: bool) -> None:
    if yes:
        return
    if as_json or not sys.stdin.isatty():
        raise click.UsageError("nothing was removed: --yes removes it, --dry-run only shows it")
    click.confirm(f"Remove {found.total.files} files?", abort=True, err=True)
