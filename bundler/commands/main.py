"""The `bundle` program: which commands there are, and what a person sees when one fails.

* A command's module is imported when it runs: help answers at once, and no command needs another's extras.
* The only place that catches everything: an error that no class names is a bug, and says so.
"""

import importlib
import io
import os
import sys
import traceback
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, NoReturn

import click

from bundler.commands.output import show_error, show_json
from manifests.errors import BundleError, StorageError

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

COMMANDS: Final = {
    "init": ("init", "Write a commented manifest from what is there."),
    "keygen": ("keygen", "Make a signing key."),
    "lock": ("lock", "Resolve a manifest: every file by digest and size."),
    "build": ("build", "Fetch what is missing, and write one signed bundle."),
    "store": ("store", "Look into the builder's store, check it, and clean it."),
    "inspect": ("inspect", "Show what a bundle says of itself."),
    "verify": ("verify", "Check every byte of a bundle, and who signed it."),
    "push": ("push", "Bring a bundle into an OCI registry."),
    "pull": ("pull", "Bring a bundle out of an OCI registry."),
    "trust": ("trust", "Say whom this site trusts."),
    "install": ("install", "Verify a bundle and make its models active, or change nothing."),
    "kit": ("kit", "Carry the program itself: a folder of wheels with an installer."),
    "list": ("list", "Show what is installed."),
    "models": ("models", "Look into one installed model."),
    "export": ("export", "Copy installed models into a plain folder for other hosts."),
    "env": ("env", "Print the variables that clients read."),
    "doctor": ("doctor", "Find what is wrong on this machine, and how to mend it."),
    "infer": ("infer", "Run an installed model on pictures or tensors."),
    "serve": ("serve", "Answer over HTTP, with no network."),
    "completion": ("completion", "Print the completion script of a shell."),
    "manual": ("manual", "Print the manual, or write it as man pages."),
}
_INTERRUPTED: Final = 130


class Commands(click.Group):
    """A group whose help needs none of its commands."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """In the order of the road."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's signature
        """The command, imported now."""
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"bundler.commands.{COMMANDS[cmd_name][0]}")
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's
        """One line each."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list["CompletionItem[str]"]:
        """Names and lines from `COMMANDS`, options from click."""
        from click.shell_completion import CompletionItem

        names = [CompletionItem(name, help=text) for name, (_, text) in COMMANDS.items() if name.startswith(incomplete)]
        return names + click.Command.shell_complete(self, ctx, incomplete)


def _show_version(ctx: click.Context, _parameter: click.Parameter, value: bool) -> None:  # noqa: FBT001 - click's signature
    if value and not ctx.resilient_parsing:
        from bundler.installation import program_version

        click.echo(f"bundle, version {program_version()}")
        ctx.exit()


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_version,
    help="Show the version and exit.",
)
def cli() -> None:
    """Carry models onto machines that have no network, and run them there.

    \b
    On the connected host:   bundle keygen, lock, build
    On the way:              bundle verify
    On the site:             bundle trust init, install, infer, serve
    """  # noqa: D301 - \b is click's own mark


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the program and exit with the code of the README's table."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a name that the terminal cannot show is no reason to fail
    sys.exit(_run(given))


def _run(arguments: list[str]) -> int:
    try:
        code = cli.main(arguments, prog_name="bundle", standalone_mode=False)
    except BundleError as error:
        show_error(error, as_json="--json" in arguments)
        return error.exit_code
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except click.ClickException as error:
        if "--json" in arguments:
            show_json(
                {"error": {"type": "UsageError", "message": error.format_message(), "exit_code": error.exit_code}}
            )
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted; the same command goes on where it was", err=True)
        return _INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        show_error(StorageError(str(error)), as_json="--json" in arguments)
        return StorageError.exit_code
    except Exception:  # noqa: BLE001 - the one place: what comes here is a bug, and is shown as one
        traceback.print_exc()
        show_error(BundleError("this is a bug in bundle; please report it with the lines above"), as_json=False)
        return BundleError.exit_code
    return code if isinstance(code, int) else 0
