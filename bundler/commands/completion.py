"""`bundle completion`: a line for the shell's own start-up file."""

import click

SHELLS = ("bash", "zsh", "fish")


@click.command("completion")
@click.argument("shell", type=click.Choice(SHELLS))
def command(*, shell: str) -> None:
    """Print the script that lets SHELL complete commands, options, and the ids of installed models.

    bash and zsh: put the line of the example into ~/.bashrc or ~/.zshrc (there after compinit). fish: write the script
    to ~/.config/fish/completions/bundle.fish.

    Example: eval "$(bundle completion bash)"
    """
    from click.shell_completion import get_completion_class

    from bundler.commands.main import cli

    kind = get_completion_class(shell)
    if kind is None:
        raise click.UsageError(f"this version of click knows no {shell}")
    click.echo(kind(cli, {}, "bundle", "_BUNDLE_COMPLETE").source(), nl=False)
