"""`bundle lock`: from what was asked to exactly what is meant."""

from pathlib import Path

import click

from bundler.commands.extras import require_build
from bundler.commands.options import json_option, quiet_option, settings, store_option
from bundler.commands.output import counted, show, show_json
from manifests.errors import size


@click.command("lock")
@click.argument("manifest", type=click.Path(path_type=Path))
@click.option("-o", "--out", type=click.Path(path_type=Path, dir_okay=False), help="[default: beside the manifest]")
@click.option("--check", is_flag=True, help="Write nothing; exit 12 if the sources give something else by now.")
@click.option("--upgrade", is_flag=True, help="Let moving references move.")
@click.option(
    "--sequence", type=click.IntRange(min=1), help="Set the sequence; else it rises when the content changed."
)
@store_option
@json_option
@quiet_option
def command(
    *,
    manifest: Path,
    out: Path | None,
    check: bool,
    upgrade: bool,
    sequence: int | None,
    store: Path | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Resolve MANIFEST: pin every file by digest, size and what identifies it at its source. Commit the result.

    Example: bundle lock line.yaml
    """
    if check and (upgrade or sequence is not None):
        raise click.UsageError("--check writes nothing: it goes with neither --upgrade nor --sequence")
    require_build()
    from bundler.commands.progress import reporter
    from bundler.locking import Locking, lock_path

    target = out or lock_path(manifest)
    with reporter(quiet=quiet, as_json=as_json) as progress:
        done = Locking(manifest, target, settings(store), progress).run(check=check, upgrade=upgrade, sequence=sequence)
    files = [file for _, file in done.lock.files()]
    if as_json:
        show_json(
            {
                "lock": str(target),
                "line": done.lock.line,
                "sequence": done.lock.sequence,
                "changed": done.changed,
                "models": [model.id for model in done.lock.models],
                "kits": [kit.id for kit in done.lock.kits],
                "files": len(files),
                "bytes": sum(file.size for file in files),
            }
        )
        return
    state = "written" if done.changed else "up to date" if check else "unchanged"
    show(f"{target} {state}: {done.lock.line} {done.lock.sequence}")
    items = counted(len(done.lock.models), len(done.lock.kits))
    show(f"  {items}, {len(files)} files, {size(sum(file.size for file in files))}")
