"""`bundle infer`: one answer, without a server."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from bundler.commands.options import json_option, root_option
from bundler.commands.output import show, show_json
from manifests.errors import InvalidInputError


@click.command("infer")
@click.argument("model_id", metavar="ID")
@click.argument("inputs", metavar="INPUT...", nargs=-1, required=True)
@click.option("--draw", type=click.Path(path_type=Path), help="Write the drawn picture here; a folder for several.")
@click.option("--confidence", type=click.FloatRange(0, 1), help="Least confidence of a detection.  [default: 0.25]")
@click.option("--iou", type=click.FloatRange(0, 1), help="Overlap above which two boxes are one.  [default: 0.45]")
@click.option("--package", "package_id", help="Which package to run.  [default: the best for this machine]")
@root_option
@json_option
def command(
    *,
    model_id: str,
    inputs: tuple[str, ...],
    draw: Path | None,
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
    from runtime import guard
    from runtime.api import get_model

    guard.enable()
    model = get_model(model_id, root=root, package_id=package_id)
    given = {"confidence": confidence, "iou_threshold": iou}
    options = {name: value for name, value in given.items() if value is not None}
    results = [model.infer(source, **options) for source in inputs]
    if draw is not None:
        _draw(inputs, results, draw)
    if as_json:
        show_json([result.to_dict() for result in results])
        return
    for source, result in zip(inputs, results, strict=True):
        _show(source, result)


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


def _draw(inputs: Sequence[str], results: Sequence[Any], target: Path) -> None:
    from manifests.publish import publish
    from runtime import images
    from runtime.models.results import Detections

    for source, result in zip(inputs, results, strict=True):
        if not isinstance(result, Detections):
            raise InvalidInputError("--draw needs a model that answers with boxes")
        path = target if len(inputs) == 1 and not target.is_dir() else target / Path(source).name
        drawn = images.encode(result.draw(images.decode(source)), path.suffix or ".jpg")
        publish(path, drawn, mode=0o644)
