"""Checkpoints of Python: what may be said of one without loading it, and how its owner exports it.

* A pickle is never read as one. Of a zip, the names of its members are read, and the names of classes are looked for
  in the bytes of its `data.pkl`, as text.
"""

import re
import zipfile
from typing import IO, Final

from bundler.initialise.entries import Item
from manifests.errors import printable

SUFFIXES: Final = frozenset({".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib"})
_LIMIT: Final = 8 << 20
_PEEK: Final = 1 << 20


def advice(item: Item) -> tuple[str, ...]:
    """How `item` becomes a model that the site can run: lines for a person."""
    name = printable(item.name)
    carried = f"{name} is carried, never loaded: export it to ONNX to run it on the site"
    said = _said(item)
    if "torchscript" in said:
        return (
            f"{name} is TorchScript: carried, never loaded here; export its source model to ONNX to run it on the site",
        )
    if b"rfdetr" in said.get("pickle", b"") or "rfdetr" in re.sub(r"[-_ ]", "", item.name.lower()):
        return (carried, f"  from rfdetr import RFDETRBase; RFDETRBase(pretrain_weights={name!r}).export()")
    if b"ultralytics" in said.get("pickle", b"") or "yolo" in item.name.lower():
        return (carried, f"  yolo export model={name} format=onnx opset=17 simplify=True")
    if item.suffix in {".pkl", ".pickle", ".joblib"}:
        return (carried, "  scikit-learn: skl2onnx.to_onnx(model, X[:1]); then run `bundle init` on the .onnx file")
    return (carried, '  torch.onnx.export(model.eval(), example, "best.onnx", opset_version=17, dynamo=True)')


def _said(item: Item) -> dict[str, bytes]:
    """What the zip of a checkpoint holds: the first bytes of its pickle, and whether it is TorchScript."""
    if item.local is None:
        return {}
    try:
        with item.local.open("rb") as stream:
            if not zipfile.is_zipfile(stream):
                stream.seek(0)
                return {"pickle": stream.read(_PEEK)}
            stream.seek(0)
            return _members(stream)
    except (OSError, zipfile.BadZipFile, NotImplementedError, RuntimeError, ValueError, EOFError):
        return {}


def _members(stream: IO[bytes]) -> dict[str, bytes]:
    with zipfile.ZipFile(stream) as opened:
        names = opened.namelist()
        found: dict[str, bytes] = {}
        if any(name.count("/") == 1 and name.endswith("/constants.pkl") for name in names):
            found["torchscript"] = b""
        pickle = next((name for name in names if name.count("/") == 1 and name.endswith("/data.pkl")), None)
        if pickle is not None:
            with opened.open(pickle) as member:
                found["pickle"] = member.read(_LIMIT)
    return found
