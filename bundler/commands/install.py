"""`bundle install`: all of it, or nothing."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bundler.commands import brought
from bundler.commands.options import bundle_argument, json_option, quiet_option, root_option
from bundler.commands.output import show, show_json
from manifests.errors import size

if TYPE_CHECKING:
    from runtime.install import Installed


@click.command("install")
@bundle_argument
@root_option
@click.option("--allow-older", is_flag=True, help="Let in a bundle older than one that was here; the ledger says so.")
@click.option("--recheck", is_flag=True, help="Hash what is here already, and replace what was damaged.")
@json_option
@quiet_option
def command(*, bundle: Path, root: Path | None, allow_older: bool, recheck: bool, as_json: bool, quiet: bool) -> None:
    """Verify BUNDLE, bring its files in, and make its models active by one rename. It never prompts.

    Killed anywhere, the old state or the new one is active, and the same command goes on. A second install of the
    same bundle changes nothing and says so.

    Example: bundle install /media/stick/line-1.bundle
    """
    from datetime import UTC, datetime

    from bundler.commands.progress import reporter
    from bundler.installation import install_line
    from runtime import install, workflows
    from runtime.root import Root
    from runtime.settings import locate_root

    place = Root(locate_root(root))
    with reporter(quiet=quiet, as_json=as_json) as progress:
        done = install.install(
            bundle, place, allow_older=allow_older, recheck=recheck, now=datetime.now(UTC), reporter=progress
        )
    flows = [flow.id for flow in workflows.installed(place) if flow.line == done.line]
    if as_json:
        show_json({"root": str(place.path), **_document(done), "workflows": flows})
        return
    if not done.changed:
        show(f"{done.line} {done.sequence} is installed already (generation {done.generation}); nothing to do")
        return
    show(f"{done.line} {done.sequence} is active: generation {done.generation} in {place.path}")
    show(f"  staged {size(done.staged)}, found here {size(done.reused)}")
    for model in done.models:
        show(f"  {model}")
    for flow in flows:
        show(f"  {flow} (a workflow)")
    for name in done.gone:
        show(f"  no longer in {done.line}: {name}")
    for kit in done.kits:
        show(f"  {kit.id}: {brought.described(kit)}")
    if done.kits:
        show(f"it is not run by itself: `bundle kit --from {shlex.quote(str(place.path))} -o kit`, then")
        show(f"`{install_line(Path('kit'))}`")


def _document(done: "Installed") -> dict[str, object]:
    return {
        "line": done.line,
        "sequence": done.sequence,
        "content": str(done.content),
        "generation": done.generation,
        "changed": done.changed,
        "models": done.models,
        "gone": done.gone,
        "kits": [brought.document(kit) for kit in done.kits],
        "staged_bytes": done.staged,
        "reused_bytes": done.reused,
        "ways": done.ways,
        "signers": [f"sha256:{key_id}" for key_id in done.signers],
    }
