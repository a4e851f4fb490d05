"""`bundle env`: the variables that clients read."""

import sys
from pathlib import Path

import click

from bundler.commands.options import json_option, root_option
from bundler.commands.output import show_json

FORMATS = ("sh", "powershell", "cmd", "docker", "systemd", "k8s")


@click.command("env")
@click.option("--format", "target", type=click.Choice(FORMATS), default="sh", show_default=True, help="Who reads it.")
@click.option("--mount", metavar="PATH", help="Where a container sees the root.  [default: /bundle for docker and k8s]")
@root_option
@json_option
def command(*, target: str, mount: str | None, root: Path | None, as_json: bool) -> None:
    """Print what each client reads: shell exports, or a file for one of the other formats.

    \b
    powershell  bundle env --format powershell | Out-String | Invoke-Expression
    cmd         bundle env --format cmd > env.cmd, then: call env.cmd
    docker      an --env-file; its first lines show the whole `docker run`
    systemd     a drop-in that also closes the network to the service
    k8s         env, volumeMounts and volumes of a Pod

    In a container the root is mounted read-only at PATH, and what clients write beside goes to a scratch folder; a
    comment says whether any user can read the root. With --json, names and values alone.

    Example: eval "$(bundle env)"
    """  # noqa: D301 - \b is click's own mark
    from runtime import environment_formats as formats
    from runtime.environment import DEFAULT_MOUNT, environment, mount_point
    from runtime.root import Root
    from runtime.settings import locate_root

    scratch = formats.SCRATCH.get(target)
    is_container = target in formats.CONTAINERS
    if mount is not None and not is_container:
        raise click.UsageError(f"--mount says where a container sees the root; --format {target} is for none")
    place = mount_point(DEFAULT_MOUNT if mount is None else mount, scratch=scratch) if is_container else None
    found = environment(Root.open(locate_root(root)), mount=place, scratch=scratch)
    if as_json:
        show_json(found.values)
        return
    if target in formats.SCRATCH:  # files, which their readers take as UTF-8 on every machine
        click.echo(formats.write(target, found).encode(), nl=False)
    else:
        click.echo(formats.write(target, found, encoding=sys.stdout.encoding), nl=False)
