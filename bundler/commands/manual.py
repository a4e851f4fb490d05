"""`bundle manual`: the help of every command as pages."""

from pathlib import Path

import click

from bundler.commands.output import show


@click.command("manual")
@click.argument("names", metavar="[COMMAND]...", nargs=-1)
@click.option(
    "-o", "--out", metavar="DIR", type=click.Path(path_type=Path, file_okay=False), help="Write man pages here."
)
def command(*, names: tuple[str, ...], out: Path | None) -> None:
    """Print the manual page of COMMAND, or of bundle itself, as plain text.

    With -o, its page and those of the commands below it are written as man pages: bundle.1, bundle-trust-init.1 and
    so on. `man` finds them where MANPATH leads, in a folder called man1.

    Example: bundle manual -o ~/.local/share/man/man1
    """
    from importlib.metadata import version

    from bundler import manual
    from manifests.publish import publish

    pages = manual.pages(_context(names), version=version("offline-bundle"))
    if out is None:
        click.echo(manual.text(next(pages)), nl=False)
        return
    folder = out.expanduser().absolute()
    for page in pages:
        publish(folder / f"{page.name}.1", manual.roff(page).encode("ascii"), mode=0o644)
        show(str(folder / f"{page.name}.1"))


def _context(names: tuple[str, ...]) -> click.Context:
    """The context of the command that `names` lead to."""
    from bundler.commands.main import cli

    context = click.Context(cli, info_name="bundle", **cli.context_settings)
    for name in names:
        group = context.command
        found = group.get_command(context, name) if isinstance(group, click.Group) else None
        if found is None:
            raise click.UsageError(f"there is no command '{context.command_path} {name}'")
        context = click.Context(found, parent=context, info_name=name)
    return context
