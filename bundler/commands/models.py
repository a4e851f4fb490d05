"""`bundle models`: one installed model, looked into."""

from pathlib import Path

import click

from bundler.commands.options import json_option, model_argument, root_option
from bundler.commands.output import show, show_json
from runtime.catalogue import InstalledPackage


@click.group("models")
def command() -> None:
    """Look into one installed model.

    Example: bundle models show vehicles/1
    """


@command.command("show")
@model_argument()
@root_option
@json_option
def show_(*, model_id: str, root: Path | None, as_json: bool) -> None:
    """Print what is known of a model: task, packages, and the folder of each.

    Example: bundle models show vehicles/1
    """
    from runtime.generations import open_catalogue
    from runtime.root import Root
    from runtime.settings import locate_root

    place = Root.open(locate_root(root))
    catalogue = open_catalogue(place.path)
    model = catalogue.get(model_id)
    generation, stable = place.generation(catalogue.generation), place.stable(catalogue.generation)

    def folder(package: InstalledPackage) -> Path:
        return stable / package.directory.relative_to(generation)

    if as_json:
        facts = {"id": model.id, "aliases": model.aliases, "task": model.task, "architecture": model.architecture}
        show_json(
            {**facts, "line": model.line, "packages": [_facts(package, folder(package)) for package in model.packages]}
        )
        return
    show(f"{model.id}  {model.task}  {model.architecture or ''}".rstrip())
    for package in model.packages:
        show(f"  {package.id}  {folder(package)}" + ("" if package.trusted else "  not vouched for by its service"))
        for name in package.files:
            show(f"    {name}")


def _facts(package: InstalledPackage, folder: Path) -> dict[str, object]:
    return {
        "id": package.id,
        "backend": package.backend,
        "quantization": package.quantization,
        "opset": package.opset,
        "static_batch": package.static_batch,
        "trusted": package.trusted,
        "incompatible_providers": package.incompatible_providers,
        "directory": str(folder),
        "files": package.files,
    }


@command.command("explain")
@model_argument()
@root_option
@json_option
def explain(*, model_id: str, root: Path | None, as_json: bool) -> None:
    """Print which package of a model runs on this machine, and why the others do not.

    Example: bundle models explain vehicles/1
    """
    from runtime import negotiation
    from runtime.dataplane import this_machine
    from runtime.generations import open_catalogue
    from runtime.settings import Settings, locate_root

    model = open_catalogue(locate_root(root)).get(model_id)
    settings = Settings.read()
    wishes = negotiation.Wishes(device=settings.device)
    choice = negotiation.choose(model, this_machine(providers=settings.execution_providers), wishes)
    if as_json:
        show_json([{"package": one.package.id, "kept": one.kept, "reason": one.reason} for one in choice.decisions])
        return
    for line in negotiation.explain(choice.decisions):
        show(line)
