"""`bundle export`: installed models as a plain folder."""

from pathlib import Path
from shlex import quote

import click

from bundler.commands.options import complete_exported, json_option, quiet_option, root_option
from bundler.commands.output import show, show_json
from manifests.errors import size
from manifests.manifest import LAYOUTS


@click.command("export")
@click.argument("ids", metavar="ID...", nargs=-1, required=True, shell_complete=complete_exported)
@click.argument("directory", metavar="DIR", type=click.Path())
@click.option("--layout", type=click.Choice(LAYOUTS), required=True, help="Whose names the files get.")
@root_option
@json_option
@quiet_option
def command(
    *, ids: tuple[str, ...], directory: str, layout: str, root: Path | None, as_json: bool, quiet: bool
) -> None:
    """Copy the installed models ID (or alias) into DIR, to rsync or mount elsewhere. DIR needs no root and no bundle.

    A workflow is exported by its own ID, beside the models that it asks for, with `inference` or `directory`.

    \b
    directory    DIR/ID/...                   AIM, vLLM, people; signatures in DIR/.signatures
    huggingface  DIR/models--ORG--NAME/...    HF_HUB_CACHE=DIR
    inference    DIR/models-cache/... and its registry    INFERENCE_HOME=DIR

    Every file is compared with its digest. A model is there whole or not at all; other files in DIR stay, and one
    that is in the way is named before anything is written.

    Example: bundle export vehicles/1 /mnt/share/models --layout inference
    """  # noqa: D301 - \b is click's own mark
    from bundler.commands.progress import reporter
    from runtime.environment import of_layout
    from runtime.export import export
    from runtime.root import Root
    from runtime.settings import expanded, locate_root

    if not directory:  # as of a variable that is not set
        raise click.UsageError("DIR is empty; name a folder, or `.` for this one")
    place = Root.open(locate_root(root))
    target = expanded(directory).absolute()
    with reporter(quiet=quiet, as_json=as_json) as progress:
        done = export(ids, target, layout, place, reporter=progress)
    pointing = of_layout(layout, target)
    if as_json:
        models = [{"id": model.id, "files": model.files, "bytes": model.written} for model in done.models]
        facts = {"layout": layout, "directory": str(target), "changed": done.changed, "ways": done.ways}
        show_json({**facts, "models": models, "variables": pointing})
        return
    if not done.changed:
        show(f"all of it is in {target} already; nothing to do")
    for model in done.models:
        show(f"  {model.id}  " + (f"{model.files} files, {size(model.written)}" if model.files else "was there"))
    show("clients read it with " + " ".join(f"{name}={quote(value)}" for name, value in pointing.items()))
