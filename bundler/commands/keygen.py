"""`bundle keygen`: a signing key, and the fingerprint to read out over a phone."""

from pathlib import Path

import click

from bundler.commands.options import json_option
from bundler.commands.output import show, show_json


@click.command("keygen")
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path, dir_okay=False), help="KEY.pem.")
@click.option("--no-passphrase", is_flag=True, help="Do not lock the key: for machines that sign unattended.")
@json_option
def command(*, out: Path, no_passphrase: bool, as_json: bool) -> None:
    """Make a signing key: KEY.pem, which never leaves this machine, and KEY.pub.pem, which goes to the site.

    The passphrase comes from BUNDLE_KEY_PASSPHRASE, or a prompt asks for it.

    Example: bundle keygen -o line.pem
    """
    from bundler.commands.passphrase import new_passphrase
    from bundler.signer import generate, public_path

    key = generate(out, None if no_passphrase else new_passphrase())
    if as_json:
        show_json(
            {
                "private_key": str(out),
                "public_key": str(public_path(out)),
                "fingerprint": key.fingerprint,
                "words": key.words,
            }
        )
        return
    show(f"private key  {out}  (keep it here)")
    show(f"public key   {public_path(out)}  (bring it to the site)")
    show(f"fingerprint  {key.fingerprint}")
    show(f"words        {key.words}")
