"""`bundle kit`: the program itself, as a folder that crosses the gap."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from bundler.commands import brought
from bundler.commands.extras import require
from bundler.commands.options import json_option, mirror_option, offline_option, quiet_option, settings, store_option
from bundler.commands.output import show, show_json
from manifests.errors import size

if TYPE_CHECKING:
    from bundler.kits.making import Made
    from bundler.mirrors import Mirror

_PYTHON: Final = "{}.{}".format(*sys.version_info[:2])
_FOLDER: Final = click.Path(path_type=Path, exists=True, file_okay=False)
_FILE: Final = click.Path(path_type=Path, dir_okay=False)


@click.command("kit")
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), help="The folder: new, or an older kit.")
@click.option("--from", "root", metavar="ROOT", type=_FOLDER, help="Unpack a kit that a bundle brought to this site.")
@click.option("--platform", help="The newest tag that the site has.  [default: manylinux_2_28_x86_64]")
@click.option("--python", help=f"The Python that the site has.  [default: {_PYTHON}]")
@click.option("--extra", "extras", multiple=True, help="Comma-separated; repeatable.  [default: serve,cpu]")
@click.option(
    "--find-links", "folders", multiple=True, type=_FOLDER, help="Your wheels, beside the indexes; newer ones win."
)
@click.option("--constraint", type=_FILE, help="An earlier kit's requirements.txt: the same versions and wheels.")
@click.option("--root-of-trust", "keys", multiple=True, type=_FILE, help="KEY.pub.pem, to go along; repeatable.")
@store_option
@offline_option
@mirror_option
@json_option
@quiet_option
def command(
    *,
    out: Path,
    root: Path | None,
    platform: str | None,
    python: str | None,
    extras: tuple[str, ...],
    folders: tuple[Path, ...],
    constraint: Path | None,
    keys: tuple[Path, ...],
    store: Path | None,
    offline: bool,
    mirrors: tuple["Mirror", ...],
    as_json: bool,
    quiet: bool,
) -> None:
    """Carry the program itself: a folder of wheels with an installer, for a machine that has Python and no network.

    Resolved for the site's platform and Python, not for this machine's. Every file is in SHA256SUMS, whose digest
    is the fingerprint of the kit. The same wheels and keys give the same bytes.

    On a site, --from takes the kit that a bundle brought; --platform and --python choose among several.

    Example: bundle kit -o kit --platform manylinux_2_28_aarch64 --root-of-trust line.pub.pem
    """
    if root is not None:
        if extras or folders or constraint or keys or store or offline or mirrors:
            raise click.UsageError("--from takes a kit as it is: only --platform and --python go with it")
        brought.unpack(root, out, platform=platform, python=python, as_json=as_json)
        return
    require(*((module, "build") for module in ("packaging", "pypi_simple", "requests", "resolvelib")))
    from bundler.commands.progress import reporter
    from bundler.kits.making import DEFAULT_EXTRAS, DEFAULT_PLATFORM, Order, make

    asked = tuple(name for text in extras for name in text.split(",")) if extras else DEFAULT_EXTRAS
    order = Order(platform or DEFAULT_PLATFORM, python or _PYTHON, asked, folders, constraint, keys)
    with reporter(quiet=quiet, as_json=as_json) as progress:
        said = settings(store, offline=offline, mirrors=mirrors, indexes=not (offline and folders))
        made = make(out, order, said, progress)
    if as_json:
        show_json(_document(made))
    else:
        _show(made)


def _document(made: "Made") -> dict[str, object]:
    from bundler.kits.readme import needs

    return {
        "kit": str(made.path),
        "program": made.kit.program,
        "platform": made.kit.platform,
        "python": made.kit.python,
        "extras": list(made.kit.extras),
        "wheels": [wheel.file for wheel in made.kit.wheels],
        "bytes": made.size,
        "fingerprint": str(made.fingerprint),
        "keys": [{"file": n, "fingerprint": k.fingerprint, "words": k.words} for n, k in sorted(made.keys.items())],
        "needs": list(needs(made.kit)),
    }


def _show(made: "Made") -> None:
    from bundler.kits.readme import needs, steps

    kit = made.kit
    extras = f"[{','.join(kit.extras)}]" if kit.extras else ""
    show(f"{made.path}: offline-bundle{extras} {kit.program} for {kit.platform}, Python {kit.python}")
    show(f"  {len(kit.wheels)} wheels, {size(made.size)}")
    for name, key in sorted(made.keys.items()):
        show(f"  key {name}: {key.fingerprint}")
        show(f"      words: {key.words}")
    show("the site must have")
    for sentence in needs(kit):
        show(f"  {sentence}")
    show(f"fingerprint  {made.fingerprint}")
    for line in steps(kit, made.fingerprint):
        show(line)
