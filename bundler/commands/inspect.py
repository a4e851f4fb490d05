"""`bundle inspect`: what a bundle says of itself. The verdict on its signers is shown, never needed."""

from pathlib import Path

import click

from bundler.commands.options import bundle_argument, json_option, root_option
from bundler.commands.output import show, show_json, show_table
from manifests.bundle import UnverifiedView
from manifests.content import Item, Model, Package, Workflow
from manifests.errors import size
from manifests.keyring import words


@click.command("inspect")
@bundle_argument
@root_option
@json_option
def command(*, bundle: Path, root: Path | None, as_json: bool) -> None:
    """Show what BUNDLE says of itself: models, files, sizes, signers. Reads the index alone, and writes nothing.

    Example: bundle inspect /media/stick/line-1.bundle
    """
    from bundler.commands.verdict import site_keyring, verdict
    from manifests.bundle import SealedBundle

    with SealedBundle.open(bundle) as sealed:
        view = sealed.view()
        judged = verdict(sealed, site_keyring(root))
        described = _describe(view) | {"bytes": sealed.size, "signatures": judged}
    if as_json:
        show_json(described)
        return
    content = view.index.content
    show(f"{content.line} {content.sequence}  {size(sealed.size)}  {judged['verdict']}")
    for key_id in view.key_ids:
        show(f"  signed as  sha256:{key_id}")
        show(f"             {words(key_id)}")
    show(f"  content    {view.index.content_digest}")
    show()
    show_table([("MODEL", "TASK", "PACKAGES", "FILES", "SIZE", "LICENCES"), *(_row(item) for item in content.items)])


def _row(item: Item) -> tuple[str, ...]:
    files = [file for package in item.packages for file in package.files]
    return (
        item.id,
        _what(item),
        ", ".join(package.id for package in item.packages),
        str(len(files)),
        size(sum(file.size for file in files)),
        (", ".join(item.licenses) if isinstance(item, Model) else "") or "-",
    )


def _what(item: Item) -> str:
    if isinstance(item, Workflow):
        return "a workflow"
    return item.task if isinstance(item, Model) else f"the program, {item.program}"


def _package(package: Package) -> dict[str, object]:
    return {
        "id": package.id,
        "backend": package.backend,
        "quantization": package.quantization,
        "files": [
            {"path": file.path, "digest": file.blob, "size": file.size, "source": file.source} for file in package.files
        ],
    }


def _describe(view: UnverifiedView) -> dict[str, object]:
    index = view.index
    return {
        "line": index.content.line,
        "sequence": index.content.sequence,
        "content": str(index.content_digest),
        "chunks": index.chunk_count,
        "packs": [{"digest": str(pack.digest), "length": pack.length} for pack in index.packs],
        "models": [
            {
                "id": model.id,
                "aliases": model.aliases,
                "task": model.task,
                "architecture": model.architecture,
                "layouts": model.layouts,
                "licenses": model.licenses,
                "packages": [_package(package) for package in model.packages],
            }
            for model in index.content.models
        ],
        "kits": [
            {"id": kit.id, "program": kit.program, "packages": [_package(package) for package in kit.packages]}
            for kit in index.content.wheels
        ],
        "workflows": [
            {"id": flow.id, "packages": [_package(package) for package in flow.packages]}
            for flow in index.content.workflows
        ],
    }
