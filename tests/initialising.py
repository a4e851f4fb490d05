"""What the tests of `bundle init` share: graphs and repositories to look at, and a folder where drafts are built."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from bundler import initialise
from bundler.assemble import Signers
from bundler.building import Building
from bundler.locking import Locking, lock_path
from bundler.manifest_file import load
from bundler.settings import Settings
from factory import elliptic_signer
from loopback import HASTE
from manifests.manifest import Manifest, ModelRequest
from manifests.progress import Silent
from onnx_files import Node, Tensor, onnx_model

Shape = tuple[int | str, ...]
PICTURE: Shape = (1, 3, 640, 640)
MASKS: Shape = (1, 32, 160, 160)
TOKENS: dict[str, Shape] = {"input_ids": ("b", "s"), "attention_mask": ("b", "s")}
OPEN: Shape = ("batch", 3, "height", "width")
BERT = b'{"model_type": "bert", "architectures": ["BertModel"], "torch_dtype": "float32"}'
CARD = b"---\nlicense: apache-2.0\npipeline_tag: sentence-similarity\n---\n# A model\n"
REPOSITORY = {
    "config.json": BERT, "README.md": CARD, "model.safetensors": b"s" * 900, "pytorch_model.bin": b"p" * 900,
    "onnx/model.onnx": b"o" * 900, "tf_model.h5": b"h", "rust_model.ot": b"r", "flax_model.msgpack": b"f",
    "tokenizer.json": b"{}", "vocab.txt": b"a", "modules.json": b"[]", "1_Pooling/config.json": b"{}",
    "LICENSE": b"free", "picture.png": b"png", ".gitattributes": b"*",
}  # fmt: skip
CARRIED = sorted(REPOSITORY.keys() - {
    "pytorch_model.bin", "onnx/model.onnx", "tf_model.h5", "rust_model.ot", "flax_model.msgpack", "picture.png",
    ".gitattributes",
})  # fmt: skip


def graph(
    inputs: Mapping[str, Shape] | Shape = PICTURE,
    outputs: Mapping[str, Shape] | Shape = (1, 84, 8400),
    *,
    dtype: str = "float32",
    weights: Mapping[str, int] | None = None,
    input_dtype: str = "float32",
    **metadata: str,
) -> bytes:
    """A graph with these shapes, and as many constant elements of each type as `weights` says."""
    ins = inputs if isinstance(inputs, Mapping) else {"images": inputs}
    outs = outputs if isinstance(outputs, Mapping) else {"output0": outputs}
    constants = {f"w{kind}": np.zeros(count, kind) for kind, count in (weights or {dtype: 1000}).items()}
    return onnx_model(
        [Node("Identity", [next(iter(ins))], [next(iter(outs))])],
        [
            Tensor(name, shape, "int64" if "ids" in name or "mask" in name else input_dtype)
            for name, shape in ins.items()
        ],
        [Tensor(name, shape) for name, shape in outs.items()],
        constants=constants,
        metadata=metadata,
    )


DETECTOR = graph(names="{0: 'cat', 1: 'dog'}", task="detect")
UNNAMED = graph((1, 3, 320, 320), (1, 6, 2100))


class Place:
    """A folder with files in it, and what `init` makes of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def put(self, files: Mapping[str, bytes]) -> "Place":
        for name, content in files.items():
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return self

    def draft(self, *names: str) -> initialise.Draft:
        return initialise.draft(names, name="line", folder=Path())

    def made(self, *names: str) -> Manifest:
        """The manifest, after it was locked and built as it stands."""
        draft = self.draft(*names)
        self.put({**draft.beside, "made.yaml": draft.text.encode()})
        return self.built()

    def built(self, **environ: str) -> Manifest:
        """The manifest that was written as made.yaml, locked and built in an environment with these variables."""
        path = self.folder / "made.yaml"
        home = {"HOME": str(self.folder), "BUNDLE_STORE": str(self.folder / ".store"), "PIP_CONFIG_FILE": os.devnull}
        settings = replace(Settings.read({**home, **environ}), patience=HASTE)
        Locking(path, lock_path(path), settings, Silent()).run(check=False, upgrade=False, sequence=None)
        Building(path, settings, Silent()).run(self.folder / "made.bundle", Signers.of(elliptic_signer()), folder=False)
        return load(path)

    def only(self, *names: str) -> ModelRequest:
        (model,) = self.made(*names).models
        return model

    def bundle(self, *arguments: str, code: int = 0, **environ: str) -> "subprocess.CompletedProcess[str]":
        home = {"HOME": str(self.folder), "BUNDLE_STORE": str(self.folder / ".store"), "PIP_CONFIG_FILE": os.devnull}
        command = [sys.executable, "-m", "bundler", *arguments]
        done = subprocess.run(
            command, cwd=self.folder, env={**os.environ, **home, **environ}, capture_output=True, text=True, check=False
        )
        assert done.returncode == code, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done


def files(model: ModelRequest) -> dict[str, str]:
    (package,) = model.packages
    return {path: request.sources[0] for path, request in package.files.items()}


def locked(place: Place) -> dict[str, Any]:
    """The only model of the lock."""
    (model,) = json.loads((place.folder / "made.lock.json").read_text())["models"]
    return dict(model)


def paths(place: Place) -> list[str]:
    return [file["path"] for package in locked(place)["packages"] for file in package["files"]]
