"""`bundle trust`: whom this site trusts."""

from pathlib import Path

import click

from bundler.commands.options import json_option, root_option
from bundler.commands.output import show, show_json


@click.group("trust")
def command() -> None:
    """Say whom this site trusts. Done once, by hand, after the fingerprint was compared over a phone."""


@command.command("init")
@click.option(
    "--key", "key_paths", multiple=True, required=True, type=click.Path(path_type=Path), help="KEY.pub.pem; repeatable."
)
@click.option("--threshold", type=click.IntRange(min=1), default=1, show_default=True, help="How many must sign.")
@root_option
@json_option
def init(*, key_paths: tuple[Path, ...], threshold: int, root: Path | None, as_json: bool) -> None:
    """Make the site's root of trust out of public keys.

    Example: bundle trust init --key line.pub.pem
    """
    from runtime import trust
    from runtime.root import Root
    from runtime.settings import locate_root

    keys = [(path.name.removesuffix(".pem").removesuffix(".pub"), trust.load_key(path)) for path in key_paths]
    place = Root(locate_root(root))
    trust.initialise(place, keys, threshold=threshold)
    _show(place.path, [(name, key.fingerprint, key.words) for name, key in keys], threshold, as_json=as_json)


@command.command("show")
@root_option
@json_option
def show_(*, root: Path | None, as_json: bool) -> None:
    """Print the keys that this site trusts, with the words to compare over a phone.

    Example: bundle trust show
    """
    from runtime import trust
    from runtime.root import Root
    from runtime.settings import locate_root

    place = Root.open(locate_root(root))
    keyring = trust.load(place)
    named = trust.names(place)
    rows = [(named[key.id], key.fingerprint, key.words) for key in keyring.keys.values()]
    _show(place.path, rows, keyring.threshold, as_json=as_json)


def _show(root: Path, rows: list[tuple[str, str, str]], threshold: int, *, as_json: bool) -> None:
    if as_json:
        keys = [{"name": name, "fingerprint": fingerprint, "words": words} for name, fingerprint, words in rows]
        show_json({"root": str(root), "threshold": threshold, "keys": keys})
        return
    show(f"{root} trusts {len(rows)} key(s), {threshold} of which must sign:")
    for name, fingerprint, words in rows:
        show(f"  {name}  {fingerprint}")
        show(f"  {' ' * len(name)}  {words}")
