"""`bundle list`: what is installed."""

from pathlib import Path

import click

from bundler.commands import brought
from bundler.commands.options import json_option, root_option
from bundler.commands.output import show, show_json, show_table


@click.command("list")
@root_option
@json_option
def command(*, root: Path | None, as_json: bool) -> None:
    """Show the models of the active generation: id, aliases, task, packages, and the bundle line they came in.

    Workflows, and kits, which carry the program itself, are listed below them.

    Example: bundle list
    """
    from runtime import kits, workflows
    from runtime.generations import open_catalogue
    from runtime.root import Root
    from runtime.settings import locate_root

    place = locate_root(root)
    catalogue = open_catalogue(place)
    programs = kits.installed(Root.open(place))
    flows = workflows.installed(Root.open(place))
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
        found = [brought.document(kit) for kit in programs]
        shown = [{"id": flow.id, "line": flow.line, "file": str(flow.path)} for flow in flows]
        facts = {"generation": catalogue.generation, "lines": dict(catalogue.lines)}
        show_json({**facts, "models": models, "kits": found, "workflows": shown})
        return
    rows = [
        (model.id, ", ".join(model.aliases) or "-", model.task, ", ".join(p.id for p in model.packages), model.line)
        for model in catalogue.models
    ]
    show(f"generation {catalogue.generation}: {', '.join(f'{name} {number}' for name, number in catalogue.lines)}")
    if rows:
        show_table([("MODEL", "ALIASES", "TASK", "PACKAGES", "LINE"), *rows])
    if flows:
        show_table([("WORKFLOW", "LINE"), *((flow.id, flow.line) for flow in flows)])
    if programs:
        show_table(
            [
                ("KIT", "PROGRAM", "PLATFORM", "PYTHON", "LINE"),
                *((kit.id, kit.program, kit.package.platform, kit.package.python, kit.line) for kit in programs),
            ]
        )
