"""`bundle push`: a bundle into an OCI registry."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from bundler.commands.extras import require_build
from bundler.commands.options import bundle_argument, json_option, quiet_option, settings
from bundler.commands.output import show, show_json
from manifests.errors import ManifestError, size

if TYPE_CHECKING:
    from bundler.registry.address import Address

plain_http_option = click.option(
    "--plain-http", is_flag=True, help="Speak to the registry without TLS; else only one on this machine is so."
)


def checked_address(_ctx: click.Context, _parameter: click.Parameter, text: str) -> "Address":
    """The address that an argument writes, or a usage error."""
    from bundler.registry.address import SCHEME, Address

    if not text.startswith(SCHEME):
        raise click.UsageError(f"{text!r} does not begin with {SCHEME}")
    try:
        return Address.parse(text)
    except ManifestError as error:
        raise click.UsageError(f"{error}; {error.hint}") from error


@click.command("push")
@bundle_argument
@click.argument("address", metavar="oci://HOST[:PORT]/NAME[:TAG]", callback=checked_address)
@plain_http_option
@json_option
@quiet_option
def command(*, bundle: Path, address: "Address", plain_http: bool, as_json: bool, quiet: bool) -> None:
    """Bring BUNDLE, in either form, into an OCI registry. The default tag is LINE-SEQUENCE.

    Blobs that are there are not sent again, so that a push that was broken off or killed goes on when it is run again.
    Credentials are those of `docker login` or `podman login`.

    Example: bundle push line-1.bundle oci://registry.example.com/models/line
    """
    require_build()
    from bundler.commands.progress import reporter
    from bundler.registry.push import push

    if address.digest or address.path:
        raise click.UsageError(f"a bundle is pushed to a tag: {address.tagged(address.tag)}")
    with reporter(quiet=quiet, as_json=as_json) as progress:
        done = push(bundle, address, settings(None), progress, plain_http=plain_http)
    if as_json:
        show_json(
            {
                "address": str(done.address),
                "digest": str(done.digest),
                "bytes": done.size,
                "blobs": done.blobs,
                "sent": done.sent,
                "sent_bytes": done.sent_bytes,
                "moved_from": done.moved or None,
            }
        )
        return
    show(f"{done.address}: {done.digest}, {size(done.size)}")
    others = "; the others were there" if done.sent < done.blobs else ""
    show(f"  {done.sent} of {done.blobs} blobs sent, {size(done.sent_bytes)}{others}")
    if done.moved:
        show(f"  the tag named {done.moved} before")
