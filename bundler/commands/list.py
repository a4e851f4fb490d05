"""`bundle list`: what is installed."""

from pathlib import Path

import click

from bundler.commands.options import json_option, root_option
from bundler.commands.output import show, show_json, show_table


@click.command("list")
@root_option
@json_option
def command(*, root: Path | None, as_json: bool) -> None:
    """Show the models of the active generation: id, aliases, task, packages, and the bundle line they came in.

    Example: bundle list
    """
    from runtime.generations import open_catalogue
    from runtime.settings import locate_root

    catalogue = open_catalogue(locate_root(root))
    if as_json:
        models = [
            {
                "id": model.id,
                "aliases": model.aliases,
                "task": model.task,
                "architecture": model.architecture,
                "line": model.line,
                "packages": [package.id for package in model.packages],
                "directory": str(model.packages[0].directory),
            }
            for model in catalogue.models
        ]
        show_json({"generation": catalogue.generation, "lines": dict(catalogue.lines), "models": models})
        return
    rows = [
        (model.id, ", ".join(model.aliases) or "-", model.task, ", ".join(p.id for p in model.packages), model.line)
        for model in catalogue.models
    ]
    show(f"generation {catalogue.generation}: {', '.join(f'{name} {number}' for name, number in catalogue.lines)}")
    show_table([("MODEL", "ALIASES", "TASK", "PACKAGES", "LINE"), *rows])
