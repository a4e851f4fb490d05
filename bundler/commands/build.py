"""`bundle build`: from a lock to one signed bundle."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bundler.commands.extras import require_build
from bundler.commands.options import json_option, mirror_option, offline_option, quiet_option, settings, store_option
from bundler.commands.output import counted, show, show_json
from manifests.errors import KeyFileError, size

if TYPE_CHECKING:
    from bundler.assemble import Built
    from bundler.mirrors import Mirror


@click.command("build")
@click.argument("source", metavar="MANIFEST|LOCK", type=click.Path(path_type=Path))
@click.option("-o", "--out", type=click.Path(path_type=Path), help="[default: NAME-SEQUENCE.bundle]")
@click.option(
    "--key",
    "key_paths",
    required=True,
    multiple=True,
    type=click.Path(path_type=Path),
    help="The signing key, KEY.pem; repeatable, where sites want several.",
)
@click.option(
    "--model-key", "model_key_path", type=click.Path(path_type=Path), help="An ECDSA key for model signatures."
)
@click.option("--form", type=click.Choice(["tar", "folder"]), default="tar", show_default=True)
@store_option
@offline_option
@mirror_option
@json_option
@quiet_option
def command(
    *,
    source: Path,
    out: Path | None,
    key_paths: tuple[Path, ...],
    model_key_path: Path | None,
    form: str,
    store: Path | None,
    offline: bool,
    mirrors: tuple["Mirror", ...],
    as_json: bool,
    quiet: bool,
) -> None:
    """Fetch what the store lacks, and write the bundle. The same lock and program give the same bytes.

    Given a manifest, its lock is used; where there is none, one is written first. An error leaves no bundle.

    Example: bundle build line.yaml --key line.pem
    """
    require_build()
    from bundler.assemble import Signers
    from bundler.building import Building
    from bundler.commands.passphrase import existing_passphrase
    from bundler.commands.progress import reporter
    from bundler.profiles.targets import Options, Profiling
    from bundler.signer import SoftwareSigner

    given = {signer.key.id: signer for signer in (SoftwareSigner.load(path, existing_passphrase) for path in key_paths)}
    model_signer = SoftwareSigner.load(model_key_path, existing_passphrase) if model_key_path else None
    if model_signer is not None and not model_signer.key.is_elliptic:
        raise KeyFileError(f"{model_key_path} is no ECDSA key, which model signatures need")
    signers = Signers.of(*given.values(), models=model_signer)
    with reporter(quiet=quiet, as_json=as_json) as progress:
        if not signers.models:
            progress.note("no model signatures: they need an ECDSA key; --model-key gives one")
        found = settings(store, offline=offline, mirrors=mirrors)
        profiling = Profiling.of(Options(), os.environ)
        built = Building(source, found, progress, profiling).run(out, signers, folder=form == "folder")
    if as_json:
        show_json(_document(built))
        return
    show(f"{built.path}: {built.line} {built.sequence}, {size(built.size)}")
    items = counted(built.models, built.kits, built.workflows)
    show(f"  {items}, {built.files} files, {size(built.raw)} raw, {size(built.carried)} carried")
    show(f"  signed by {', '.join(f'sha256:{key_id}' for key_id in built.key_ids)}")


def _document(built: "Built") -> dict[str, object]:
    return {
        "bundle": str(built.path),
        "line": built.line,
        "sequence": built.sequence,
        "content": str(built.content),
        "index": str(built.index),
        "models": built.models,
        "kits": built.kits,
        "workflows": built.workflows,
        "files": built.files,
        "raw_bytes": built.raw,
        "carried_bytes": built.carried,
        "bytes": built.size,
        "signers": [f"sha256:{key_id}" for key_id in built.key_ids],
    }
