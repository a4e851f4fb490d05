"""`bundle init`: a commented manifest from what is there."""

from pathlib import Path

import click

from bundler.commands.extras import require_build
from bundler.commands.output import show, talk
from manifests.errors import StorageError

_ATTEMPTS = 2
"""A source that does not answer is written down unseen: nobody is kept waiting for it."""


@click.command("init")
@click.argument("sources", metavar="[FILE|DIR|SOURCE]...", nargs=-1)
@click.option("-o", "--out", type=click.Path(path_type=Path), default=Path("manifest.yaml"), show_default=True)
@click.option("--name", default="my-models", show_default=True, help="The bundle line.")
def command(*, sources: tuple[str, ...], out: Path, name: str) -> None:
    """Write a manifest of what each FILE, folder or source has, or else the current folder; `-o -` prints it.

    Task, family, input size, classes, licence and weights are read from the files; comments say what was guessed, what
    was left out and where you decide. Of hf://, s3:// and az:// names and small files are looked at, if they answer.

    Example: bundle init best.onnx ./folder hf://org/model
    """
    require_build()
    import os
    from dataclasses import replace

    from bundler import initialise
    from bundler.commands.progress import Notes
    from bundler.http import Client
    from bundler.settings import Settings
    from bundler.sources.schemes import sources as schemes
    from manifests.naming import checked_line
    from manifests.publish import publish

    printed = str(out) == "-"
    folder = Path() if printed else out.parent
    if not printed and out.exists():
        raise StorageError(f"{out} exists already", hint="name another file with -o, or remove it")
    if not printed and out.suffix not in {".yaml", ".yml"}:
        raise click.UsageError(f"{out}: a manifest is written as YAML: name it .yaml or .yml, or - to print it")
    settings = Settings.read(os.environ)
    settings = replace(settings, patience=replace(settings.patience, attempts=_ATTEMPTS))
    with Client(settings, Notes()) as client:
        surroundings = initialise.Surroundings(client, schemes(settings, client, folder))
        draft = initialise.draft(sources, name=checked_line(name), folder=folder, surroundings=surroundings)
    for note in draft.notes:
        talk(note)
    if printed:
        click.echo(draft.text, nl=False)
        for path in draft.beside:
            talk(f"{path} is named there and was not written: run it again with -o MANIFEST")
        return
    for path in draft.beside:
        if (folder / path).exists():
            raise StorageError(f"{folder / path} exists already", hint="rename or remove it, then run this again")
    for path, content in draft.beside.items():
        publish(folder / path, content, mode=0o644)
        show(f"{folder / path} written: the names of the classes")
    publish(out, draft.text.encode(), mode=0o644)
    show(f"{out} written: look through it, then `bundle lock {out}`")
