"""`bundle lock`: from what was asked to exactly what is meant."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bundler.commands.extras import require_build
from bundler.commands.options import (
    json_option,
    mirror_option,
    offline_option,
    profile_options,
    quiet_option,
    settings,
    store_option,
)
from bundler.commands.output import counted, show, show_json, show_moved
from manifests.errors import size

if TYPE_CHECKING:
    from bundler.mirrors import Mirror


@click.command("lock")
@click.argument("manifest", type=click.Path(path_type=Path))
@click.argument("ids", nargs=-1, metavar="[ID]...")
@click.option("-o", "--out", type=click.Path(path_type=Path, dir_okay=False), help="[default: beside the manifest]")
@click.option("--check", is_flag=True, help="Write nothing; exit 12 if the sources give something else by now.")
@click.option("--upgrade", is_flag=True, help="Let moving references move; with IDs, theirs alone.")
@click.option(
    "--sequence", type=click.IntRange(min=1), help="Set the sequence; else it rises when the content changed."
)
@profile_options
@click.option("--explain", is_flag=True, help="Say which profile each machine takes, and why no other.")
@store_option
@offline_option
@mirror_option
@json_option
@quiet_option
def command(
    *,
    manifest: Path,
    ids: tuple[str, ...],
    out: Path | None,
    check: bool,
    upgrade: bool,
    sequence: int | None,
    gpus: tuple[str, ...],
    gpu_count: int | None,
    precision: str | None,
    metric: str | None,
    explain: bool,
    store: Path | None,
    offline: bool,
    mirrors: tuple["Mirror", ...],
    as_json: bool,
    quiet: bool,
) -> None:
    """Resolve MANIFEST: pin every file by digest, size and what identifies it at its source. Commit the result.

    What moved since the last lock is shown, old -> new.

    Example: bundle lock line.yaml --upgrade vehicles/1
    """
    if check and (upgrade or sequence is not None):
        raise click.UsageError("--check writes nothing: it goes with neither --upgrade nor --sequence")
    if ids and not upgrade:
        raise click.UsageError(f"what about {' '.join(ids)}? IDs say what --upgrade lets move")
    require_build()
    from bundler.commands.progress import reporter
    from bundler.locking import Locking, lock_path
    from bundler.profiles.explained import explained, to_dict
    from bundler.profiles.targets import Options, Profiling

    target = out or lock_path(manifest)
    options = Options(gpus, gpu_count, precision, metric)
    profiling = Profiling.of(options, os.environ)
    with reporter(quiet=quiet, as_json=as_json) as progress:
        found = settings(store, offline=offline, mirrors=mirrors)
        locking = Locking(manifest, target, found, progress, profiling, chooses=bool(options))
        done = locking.run(check=check, upgrade=frozenset(ids) if ids else upgrade, sequence=sequence)
    files = [file for _, file in done.lock.files()]
    if as_json:
        show_json(
            {
                "lock": str(target),
                "line": done.lock.line,
                "sequence": done.lock.sequence,
                "changed": done.changed,
                "moved": [{"name": name, "old": old, "new": new} for name, (old, new) in done.moved.items()],
                "profiles": [to_dict(selection) for selection in done.selections],
                "models": [model.id for model in done.lock.models],
                "kits": [kit.id for kit in done.lock.kits],
                "workflows": [flow.id for flow in done.lock.workflows],
                "files": len(files),
                "bytes": sum(file.size for file in files),
            }
        )
        return
    state = "written" if done.changed else "up to date" if check else "unchanged"
    show(f"{target} {state}: {done.lock.line} {done.lock.sequence}")
    items = counted(len(done.lock.models), len(done.lock.kits), len(done.lock.workflows))
    show(f"  {items}, {len(files)} files, {size(sum(file.size for file in files))}")
    for line in (line for selection in done.selections if explain for line in explained(selection)):
        show(f"  {line}")
    show_moved(done.moved)
