"""Kits that bundles brought to a site, as `install`, `list` and `kit --from` show and unpack them."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from bundler.commands.output import show, show_json
from manifests.errors import NotARootError

if TYPE_CHECKING:
    from runtime.kits import InstalledKit


def document(kit: "InstalledKit") -> dict[str, str]:
    """For `--json`."""
    return {
        "id": kit.id,
        "line": kit.line,
        "program": kit.program,
        "platform": kit.package.platform,
        "python": kit.package.python,
        "directory": str(kit.directory),
    }


def described(kit: "InstalledKit") -> str:
    """For people."""
    return f"offline-bundle {kit.program} for {kit.package.platform}, Python {kit.package.python}"


def unpack(root: Path, out: Path, *, platform: str | None, python: str | None, as_json: bool) -> None:
    """Write the one kit of `root` that fits to `out`.

    Errors: `NotARootError` if no bundle brought one; `click.UsageError` if none fits, or several.
    """
    from bundler.installation import install_line
    from runtime import kits
    from runtime.root import Root

    here = kits.installed(Root.open(root.absolute()))
    if not here:
        hint = "`kits:` in a manifest lets its bundle bring one"
        raise NotARootError(f"no bundle brought a kit to {root}", hint=hint)
    fits = [
        each for each in here if platform in {None, each.package.platform} and python in {None, each.package.python}
    ]
    if len(fits) != 1:
        choice = "; ".join(f"--platform {each.package.platform} --python {each.package.python}" for each in here)
        raise click.UsageError(f"{root} has {'several' if fits else 'no'} kits for that; there are: {choice}")
    (kit,) = fits
    kits.unpack(kit, out)
    if as_json:
        show_json({"kit": str(out.absolute()), **document(kit)})
        return
    show(f"{out}: {described(kit)}")
    show(f"  every file is as it was signed in {kit.line}")
    show(f"to install it: {install_line(out)}")
