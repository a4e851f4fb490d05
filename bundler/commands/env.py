"""`bundle env`: the variables that clients read."""

import shlex
from pathlib import Path

import click

from bundler.commands.options import json_option, root_option
from bundler.commands.output import show_json


@click.command("env")
@root_option
@json_option
def command(*, root: Path | None, as_json: bool) -> None:
    """Print what each client reads, as shell exports.

    Example: eval "$(bundle env)"
    """
    from runtime.environment import variables
    from runtime.root import Root
    from runtime.settings import locate_root

    place = Root.open(locate_root(root))
    values = variables(place)
    if as_json:
        show_json(values)
        return
    for name, value in values.items():
        click.echo(f"export {name}={shlex.quote(value)}")
