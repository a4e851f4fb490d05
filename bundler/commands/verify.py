"""`bundle verify`: every byte, and who signed. For the courier too, who has no key to compare with."""

from pathlib import Path

import click

from bundler.commands.options import bundle_argument, json_option, quiet_option, root_option
from bundler.commands.output import show, show_json
from bundler.commands.verdict import site_keyring
from manifests.keyring import Keyring


@click.command("verify")
@bundle_argument
@root_option
@click.option(
    "--key", "key_paths", multiple=True, type=click.Path(path_type=Path), help="A public key to trust for this check."
)
@json_option
@quiet_option
def command(*, bundle: Path, root: Path | None, key_paths: tuple[Path, ...], as_json: bool, quiet: bool) -> None:
    """Read all of BUNDLE once: every chunk against the signed index, every signature against the keys trusted here.

    With neither --root nor --key, and no root of trust on this machine, the bytes are checked and the exit code is 3:
    intact, but compared with no trusted key. The medium is never written to.

    Example: bundle verify /media/stick/line-1.bundle --key line.pub.pem
    """
    from bundler.commands.progress import reporter
    from manifests.bundle import SealedBundle
    from manifests.errors import UncomparedError, UnsignedError

    keyring = _keyring(root, key_paths)
    with SealedBundle.open(bundle) as sealed, reporter(quiet=quiet, as_json=as_json) as progress:
        if keyring is not None:
            verified = sealed.verify(keyring)
            verified.check(progress)
            signers = [key.fingerprint for key in verified.signers]
        else:
            view = sealed.view()
            view.check(progress)
            signers = [f"sha256:{key_id}" for key_id in view.key_ids]
        statement = sealed.statement
    if not signers:
        raise UnsignedError("intact, but nobody signed it", hint="ask for one built with --key")
    compared = "trusted here" if keyring else "compared with no trusted key"
    if as_json:
        show_json(
            {
                "verdict": f"intact; signed; {compared}",
                "compared": keyring is not None,
                "line": statement.line,
                "sequence": statement.sequence,
                "content": str(statement.content),
                "index": str(statement.index),
                "signers": signers,
            }
        )
    else:
        show(f"{statement.line} {statement.sequence}: intact; signed by {', '.join(signers)}; {compared}")
    if keyring is None:
        click.get_current_context().exit(UncomparedError.exit_code)


def _keyring(root: Path | None, key_paths: tuple[Path, ...]) -> Keyring | None:
    """The keys given, else the root of trust given, else that of this machine if it has one."""
    from runtime import trust
    from runtime.root import Root
    from runtime.settings import locate_root

    if key_paths:
        return Keyring.of([trust.load_key(path) for path in key_paths])
    return trust.load(Root(locate_root(root))) if root else site_keyring(None)
