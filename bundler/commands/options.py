"""Options that several commands share, spelled one way."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from bundler.settings import Settings

json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout.")
quiet_option = click.option("-q", "--quiet", is_flag=True, help="No progress, no notes.")
root_option = click.option(
    "--root", type=click.Path(path_type=Path, file_okay=False), help="The site's root.  [default: $BUNDLE_HOME]"
)
store_option = click.option(
    "--store", type=click.Path(path_type=Path, file_okay=False), help="The builder's store.  [default: $BUNDLE_STORE]"
)
bundle_argument = click.argument("bundle", type=click.Path(path_type=Path))


def settings(store: Path | None) -> "Settings":
    """The connected side's settings, with the store that an option names."""
    import os
    from dataclasses import replace

    from bundler.settings import Settings

    found = Settings.read(os.environ)
    return replace(found, store=store.expanduser().absolute()) if store else found
