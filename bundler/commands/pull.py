"""`bundle pull`: a bundle out of an OCI registry."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from bundler.commands.extras import require_build
from bundler.commands.options import json_option, mirror_option, quiet_option, settings
from bundler.commands.output import show, show_json
from bundler.commands.push import checked_address, plain_http_option
from manifests.errors import size

if TYPE_CHECKING:
    from bundler.mirrors import Mirror
    from bundler.registry.address import Address


@click.command("pull")
@click.argument("address", metavar="oci://HOST[:PORT]/NAME:TAG", callback=checked_address)
@click.option("-o", "--out", type=click.Path(path_type=Path), help="[default: LINE-SEQUENCE.bundle]")
@click.option("--form", type=click.Choice(["tar", "folder"]), default="tar", show_default=True)
@plain_http_option
@mirror_option
@json_option
@quiet_option
def command(
    *,
    address: "Address",
    out: Path | None,
    form: str,
    plain_http: bool,
    mirrors: tuple["Mirror", ...],
    as_json: bool,
    quiet: bool,
) -> None:
    """Bring a bundle out of an OCI registry: the bytes that `bundle build` wrote, in either form.

    A digest does for the tag: oci://HOST/NAME@sha256:HEX. Every blob is compared with its digest, and the bundle has
    its name when it is whole. Broken off or killed, the same command goes on. Who signed it, `bundle verify` says.

    Example: bundle pull oci://registry.example.com/models/line:line-1 -o line-1.bundle
    """
    require_build()
    from bundler.commands.progress import reporter
    from bundler.registry.pull import pull

    if address.path:
        raise click.UsageError(f"a bundle is pulled as a whole: {address}")
    with reporter(quiet=quiet, as_json=as_json) as progress:
        found = settings(None, mirrors=mirrors)
        done = pull(address, out, found, progress, folder=form == "folder", plain_http=plain_http)
    if as_json:
        show_json(
            {
                "bundle": str(done.path),
                "digest": str(done.digest),
                "line": done.statement.line,
                "sequence": done.statement.sequence,
                "content": str(done.statement.content),
                "bytes": done.size,
                "blobs": done.blobs,
                "fetched": done.fetched,
                "fetched_bytes": done.fetched_bytes,
            }
        )
        return
    show(f"{done.path}: {done.statement.line} {done.statement.sequence}, {size(done.size)}")
    show(f"  {done.fetched} of {done.blobs} blobs fetched, {size(done.fetched_bytes)}; manifest {done.digest}")
    show(f"  not compared with any key: bundle verify {done.path}")
