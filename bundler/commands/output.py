"""What a person or a program reads: data on stdout, talk on stderr, nothing that moves a cursor."""

import json
import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import click

from manifests.errors import BundleError, printable

_SHOWN: Final = 20
"""Lines of what moved in a lock."""
_DIGEST: Final = re.compile(r"\b([0-9a-f]{12})[0-9a-f]{28,52}\b")


def show_json(value: object) -> None:
    """One JSON document on stdout."""
    click.echo(json.dumps(value, indent=2))


def show_error(error: BundleError, *, as_json: bool) -> None:
    """`error: …`, its facts, an empty line, and the way out; for `--json` also a document on stdout."""
    if as_json:
        show_json({"error": error.to_dict()})
    label = "error:" if os.environ.get("NO_COLOR") else click.style("error:", fg="red")
    click.echo(f"{label} {error}", err=True)
    for name, value in error.facts.items():
        click.echo(f"  {name}: {printable(value)}", err=True)
    if error.hint:
        click.echo(f"\nhint: {printable(error.hint)}", err=True)


def show(text: str = "") -> None:
    """A line on stdout, foreign characters escaped."""
    click.echo(printable(text))


def talk(text: str) -> None:
    """A line on stderr."""
    click.echo(printable(text), err=True)


def show_table(rows: Iterable[Sequence[str]]) -> None:
    """Columns that line up; the first row is the head."""
    lines = [[printable(cell) for cell in row] for row in rows]
    widths = [max(len(cell) for cell in column) for column in zip(*lines, strict=True)]
    for line in lines:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def show_moved(moved: Mapping[str, tuple[str, str]]) -> None:
    """What a lock says otherwise by now, old -> new, a screen of it; digests as far as a person compares them."""
    lines = [f"  {name}: {old} -> {new}" for name, (old, new) in moved.items() if name != "manifest"]
    for line in lines[:_SHOWN]:
        show(_DIGEST.sub(r"\1…", line))
    if len(lines) > _SHOWN:
        show(f"  and {len(lines) - _SHOWN} more: --json has them all")


def counted(models: int, kits: int, workflows: int) -> str:
    """How much of which kind, in words."""
    flows = "1 workflow" if workflows == 1 else f"{workflows} workflows"
    named = "1 kit" if kits == 1 else f"{kits} kits"
    parts = [f"{models} models", *([flows] if workflows else []), *([f"{named} of the program"] if kits else [])]
    return ", ".join(parts)


def is_terminal() -> bool:
    """Whether a person is likely to be watching stderr."""
    return sys.stderr.isatty()
