"""`bundle manual`: the help of every command as pages."""

from typing import TYPE_CHECKING

import click

from bundler.commands.output import show

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem


def complete_commands(ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list["CompletionItem[str]"]:
    """The commands below the one that is named so far."""
    try:
        context = _context(ctx.params.get("names") or ())
    except click.UsageError:
        return []
    return context.command.shell_complete(context, incomplete) if isinstance(context.command, click.Group) else []


@click.command("manual")
@click.argument("names", metavar="[COMMAND]...", nargs=-1, shell_complete=complete_commands)
@click.option("-o", "--out", metavar="DIR", type=click.Path(file_okay=False), help="Write man pages here.")
def command(*, names: tuple[str, ...], out: str | None) -> None:
    """Print the manual page of COMMAND, or of bundle itself, as plain text.

    With -o, its page and those of the commands below it are written as man pages: bundle.1, bundle-trust-init.1 and
    so on. `man` finds them where MANPATH leads, in a folder called man1.

    Example: bundle manual -o ~/.local/share/man/man1
    """
    from bundler import manual
    from bundler.installation import program_version
    from bundler.places import expanded
    from manifests.publish import publish

    if out == "":  # as of a variable that is not set
        raise click.UsageError("the DIR of -o is empty; name a folder, or `.` for this one")
    pages = manual.pages(_context(names), version=program_version())
    if out is None:
        click.echo(manual.text(next(pages)), nl=False)
        return
    folder = expanded(out).absolute()
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
