"""`bundle store`: what the builder's store holds, whether it is whole, and what of it may go."""

from pathlib import Path

import click

from bundler.commands.options import json_option, quiet_option, store_option
from bundler.commands.output import show_json, talk
from bundler.commands.store_gc import gc, store_folder


@click.group("store")
def command() -> None:
    """Keep the builder's store: where fetched files lie, each distinct chunk once.

    What is not in it is fetched again, while its source has it. Builds may run beside `stats` and `verify`.

    Example: bundle store stats
    """


@command.command("path")
@store_option
def path_(*, store: Path | None) -> None:
    """Print the folder of the store.

    For scripts; whether it is there or not.

    Example: du -sh "$(bundle store path)"
    """
    click.echo(str(store_folder(store)))


@command.command("stats")
@click.option(
    "--lock", "locks", multiple=True, type=click.Path(path_type=Path), help="Look at this LOCK too; repeatable."
)
@store_option
@json_option
def stats(*, locks: tuple[Path, ...], store: Path | None, as_json: bool) -> None:
    """Show how much the store holds.

    And what is saved by holding each chunk once, and compressed. No chunk is read and nothing is written: a read-only
    store will do.

    Example: bundle store stats --lock line.lock.json
    """
    from bundler.commands import store_output
    from bundler.housekeeping.stats import stats as counted

    found = counted(store_folder(store), locks=locks)
    if as_json:
        show_json(store_output.stats_document(found))
    else:
        store_output.show_stats(found)


@command.command("verify")
@click.option("--quick", is_flag=True, help="Compare stored bytes with their digests, and decode nothing.")
@click.option("--remove", "is_removing", is_flag=True, help="Remove what is damaged: the next build fetches it again.")
@store_option
@json_option
@quiet_option
def verify(*, quick: bool, is_removing: bool, store: Path | None, as_json: bool, **options: bool) -> None:
    """Read the whole store, and say what is damaged.

    The exit code is 54 if anything is, removed or not. Every chunk is decoded and compared, and every blob with its
    SHA-256. Without --remove nothing is changed.

    Example: bundle store verify --quick
    """
    from bundler.commands import store_output
    from bundler.commands.progress import reporter
    from bundler.housekeeping import verifying
    from manifests.errors import CorruptStoreError

    with reporter(quiet=options["quiet"], as_json=as_json) as progress:
        found = verifying.verify(store_folder(store), progress, quick=quick)
    removed = verifying.remove(found) if is_removing else ()
    if as_json:
        show_json(store_output.verified_document(found, removed))
    else:
        store_output.show_verified(found, removed)
    if found.damaged:
        if not is_removing:
            talk("\nhint: bundle store verify --remove; the next build fetches again what is damaged")
        click.get_current_context().exit(CorruptStoreError.exit_code)


command.add_command(gc)
