"""`bundle infer`: one answer, without a server.

* Where pictures are drawn is decided before anything runs, and is never where one was read from.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from bundler.commands.options import complete_files, json_option, model_argument, root_option
from bundler.commands.output import show, show_json
from manifests.errors import InvalidInputError

_SEPARATORS = tuple(separator for separator in (os.sep, os.altsep) if separator)


@click.command("infer")
@model_argument(folders=True)
@click.argument("inputs", metavar="INPUT...", nargs=-1, required=True, shell_complete=complete_files)
@click.option(
    "--draw",
    metavar="OUT",
    shell_complete=complete_files,
    help="Write the drawn picture to this file or folder; several need a folder.",
)
@click.option("--confidence", type=click.FloatRange(0, 1), help="Least confidence of a detection.  [default: 0.25]")
@click.option("--iou", type=click.FloatRange(0, 1), help="Overlap above which two boxes are one.  [default: 0.45]")
@click.option("--package", "package_id", help="Which package to run.  [default: the best for this machine]")
@root_option
@json_option
def command(
    *,
    model_id: str,
    inputs: tuple[str, ...],
    draw: str | None,
    confidence: float | None,
    iou: float | None,
    package_id: str | None,
    root: Path | None,
    as_json: bool,
) -> None:
    """Run the installed model ID (or alias, or package folder) on pictures, or on tensors in .npz, .npy or .json files.

    Nothing leaves this machine: connections and lookups beyond loopback are refused.

    Example: bundle infer vehicles/1 bus.jpg --draw bus.drawn.jpg
    """
    from bundler.commands.extras import require_inference

    require_inference()
    from runtime import guard
    from runtime.api import get_model

    guard.enable()
    targets = [] if draw is None else _targets(inputs, draw)
    model = get_model(model_id, root=root, package_id=package_id)
    given = {"confidence": confidence, "iou_threshold": iou}
    options = {name: value for name, value in given.items() if value is not None}
    results = [model.infer(source, **options) for source in inputs]
    for source, result, target in zip(inputs, results, targets, strict=bool(targets)):
        _draw(source, result, target)
    if as_json:
        show_json([result.to_dict() for result in results])
        return
    for source, result in zip(inputs, results, strict=True):
        _show(source, result)
    for source, target in zip(inputs, targets, strict=bool(targets)):
        show(f"{source}: drawn in {target}")


def _show(source: str, result: Any) -> None:
    answer = result.to_dict()
    if "predictions" not in answer:
        for tensor in answer["outputs"]:
            show(f"{source}: {tensor['name']}  {tensor['datatype']}  {tensor['shape']}")
        return
    show(f"{source}: {len(answer['predictions'])} found")
    for found in answer["predictions"]:
        left, top = found["x"] - found["width"] / 2, found["y"] - found["height"] / 2
        right, bottom = left + found["width"], top + found["height"]
        show(f"  {found['class']:<16} {found['confidence']:.4f}  [{left:.1f} {top:.1f} {right:.1f} {bottom:.1f}]")


def _draw(source: str, result: Any, target: Path) -> None:
    from manifests.publish import publish
    from runtime import images
    from runtime.models.results import Detections

    if not isinstance(result, Detections):
        raise InvalidInputError("--draw needs a model that answers with boxes")
    publish(target, images.encode(result.draw(images.decode(source)), target.suffix), mode=0o644)


def _targets(inputs: Sequence[str], draw: str) -> list[Path]:
    """The file for each input's drawing: `draw` itself, or its name in the folder `draw`.

    `click.UsageError` for a name that says no format, and where a file would be lost: an input, what another input
    draws, or what is no plain file.
    """
    from runtime.images import can_encode

    place = Path(draw)
    if place.is_dir() or draw.endswith(_SEPARATORS):
        targets = [place / _drawn_name(Path(source)) for source in inputs]
    elif len(inputs) == 1:
        targets = [place]
    elif place.exists() or can_encode(place.suffix):
        raise click.UsageError(f"--draw {draw}: several inputs need a folder")
    else:
        targets = [place / _drawn_name(Path(source)) for source in inputs]
    if unknown := next((target for target in targets if not can_encode(target.suffix)), None):
        raise click.UsageError(f"--draw {unknown}: no format has this name; end it in .jpg or .png, or a folder in /")
    _refuse_losses(inputs, targets)
    return targets


def _drawn_name(source: Path) -> str:
    """The input's own name; as JPEG where it has no suffix that can be written."""
    from runtime.images import can_encode

    return source.name if can_encode(source.suffix) else f"{source.name}.jpg"


def _refuse_losses(inputs: Sequence[str], targets: Sequence[Path]) -> None:
    read = {Path(source).resolve(): source for source in inputs}
    drawn: dict[Path, str] = {}
    for source, target in zip(inputs, targets, strict=True):
        place = target.resolve()
        if place in read or any(_is_same_file(target, Path(other)) for other in inputs):
            raise click.UsageError(f"--draw: {target} is an input, and would be overwritten: name another folder")
        if place in drawn:
            raise click.UsageError(f"--draw: {drawn[place]} and {source} would both be drawn in {target}")
        if os.path.lexists(target) and not target.is_file():
            raise click.UsageError(f"--draw: {target} is there already, and is no plain file")
        drawn[place] = source


def _is_same_file(one: Path, other: Path) -> bool:
    return one.exists() and other.exists() and one.samefile(other)
