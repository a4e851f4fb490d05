"""`bundle init`: a commented manifest from what is there."""

from pathlib import Path

import click

from bundler.commands.output import show
from manifests.errors import StorageError


@click.command("init")
@click.argument("sources", metavar="[FILE|DIR|SOURCE]...", nargs=-1, required=True)
@click.option("-o", "--out", type=click.Path(path_type=Path), default=Path("manifest.yaml"), show_default=True)
@click.option("--name", default="my-models", show_default=True, help="The bundle line.")
def command(*, sources: tuple[str, ...], out: Path, name: str) -> None:
    """Write a manifest with one model for each FILE, folder or source: task, input size and opset out of ONNX files.

    Example: bundle init best.onnx hf://org/model
    """
    from bundler import initialise
    from manifests.naming import checked_line
    from manifests.publish import publish

    if out.exists():
        raise StorageError(f"{out} exists already", hint="name another file with -o, or remove it")
    publish(out, initialise.manifest(sources, name=checked_line(name), folder=out.parent).encode(), mode=0o644)
    show(f"{out} written: look through it, then `bundle lock {out}`")
