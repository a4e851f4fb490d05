"""Options that several commands share, spelled one way, and what a shell completes in them.

* A completion never fails and prints nothing: what cannot be read completes to nothing.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from bundler.mirrors import Mirror
    from bundler.settings import Settings

_Decorated = TypeVar("_Decorated", bound=Callable[..., Any])

json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout.")
quiet_option = click.option("-q", "--quiet", is_flag=True, help="No progress, no notes.")
root_option = click.option(
    "--root",
    type=click.Path(path_type=Path, file_okay=False),
    help="The site's root.  [default: $BUNDLE_HOME, else ~/.local/share/bundle]",
)
store_option = click.option(
    "--store",
    type=click.Path(path_type=Path, file_okay=False),
    help="The builder's store.  [default: $BUNDLE_STORE, else ~/.cache/offline-bundle/store]",
)
offline_option = click.option("--offline", is_flag=True, help="Ask no network: the store alone answers.")


def _mirrors(_ctx: click.Context, _parameter: click.Parameter, texts: tuple[str, ...]) -> tuple["Mirror", ...]:
    if not texts:
        return ()
    from bundler.mirrors import Mirror, checked_mirrors
    from manifests.errors import SourceError

    try:
        return checked_mirrors([Mirror.parse(text, subject="--mirror") for text in texts], subject="--mirror")
    except SourceError as error:
        raise click.UsageError(f"{error}; {error.hint}") from error


mirror_option = click.option(
    "--mirror",
    "mirrors",
    metavar="FROM=TO",
    multiple=True,
    callback=_mirrors,
    help="Ask the URL prefix TO in place of FROM; repeatable, beside $BUNDLE_MIRRORS.",
)
_PROFILE_OPTIONS = (
    click.option("--gpu", "gpus", multiple=True, metavar="GPU[:COUNT]", help="Choose profiles for it; repeatable."),
    click.option("--gpu-count", type=int, help="How many, where --gpu does not say.  [default: 1]"),
    click.option("--precision", help="fp8, fp16, …, or auto: what AIM prefers.  [default: auto]"),
    click.option("--metric", help="latency or throughput.  [default: latency]"),
)
bundle_argument = click.argument("bundle", type=click.Path(path_type=Path))


def profile_options(command: _Decorated) -> _Decorated:
    """The options that say for which machines to choose among profiles."""
    for option in reversed(_PROFILE_OPTIONS):
        command = option(command)
    return command


def settings(
    store: Path | None, *, offline: bool = False, mirrors: tuple["Mirror", ...] = (), indexes: bool = True
) -> "Settings":
    """The connected side's settings, with what options say; without `indexes`, packages come from folders alone."""
    import os
    from dataclasses import replace

    from bundler.mirrors import joined
    from bundler.places import expanded
    from bundler.settings import Settings

    found = Settings.read(os.environ)
    found = replace(found, offline=offline, mirrors=joined(mirrors, found.mirrors))
    if not indexes:
        folders = tuple(place for place in found.packages.find_links if "://" not in place)
        found = replace(found, packages=replace(found.packages, indexes=(), find_links=folders))
    return replace(found, store=expanded(store).absolute()) if store else found


def model_argument(*, folders: bool = False) -> Callable[[_Decorated], _Decorated]:
    """The argument ID: an installed model. With `folders`, a package folder does as well."""

    def complete(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list["CompletionItem[str]"]:
        found = complete_models(ctx, parameter, incomplete)
        return found or (complete_files(ctx, parameter, incomplete) if folders else [])

    return click.argument("model_id", metavar="ID", shell_complete=complete)


def complete_models(ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list["CompletionItem[str]"]:
    """Ids and aliases of the models in the root of this line that begin with `incomplete` and are not given yet."""
    from click.shell_completion import CompletionItem

    given = {str(word) for value in ctx.params.values() for word in (value if isinstance(value, tuple) else (value,))}
    names = _installed_names(ctx.params.get("root"))
    return [CompletionItem(name) for name in names if name.startswith(incomplete) and name not in given]


def complete_exported(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list["CompletionItem[str]"]:
    """As `complete_models`; a folder where no model is left to name."""
    from click.shell_completion import CompletionItem

    return complete_models(ctx, parameter, incomplete) or [CompletionItem(incomplete, type="dir")]


def complete_files(_ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list["CompletionItem[str]"]:
    """The shell's own completion of a path."""
    from click.shell_completion import CompletionItem

    return [CompletionItem(incomplete, type="file")]


def _installed_names(root: Path | None) -> list[str]:
    import os

    from manifests.errors import BundleError
    from runtime.generations import open_catalogue
    from runtime.settings import locate_root

    try:
        place = None if root is None else Path(os.path.expandvars(root))  # the shell gives the words as they were typed
        models = open_catalogue(locate_root(place)).models
    except (BundleError, OSError, ValueError, RuntimeError):
        return []
    return sorted({name for model in models for name in (model.id, *model.aliases)})
