"""Which files of a repository to carry: one format of the weights, and what is needed to load them.

* The same weights are often there in several formats: one of them is enough, and the others are named.
* What the patterns choose is what was meant: whatever else they match is excluded by name.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from bundler.initialise.entries import Item, Noted, Tree
from bundler.sources.base import matches
from manifests.errors import size

_SMALL: Final = 1 << 20
_FORMATS: Final = (
    ("safetensors", re.compile(r"\.safetensors$")),
    ("PyTorch", re.compile(r"(?:^|/)(?:diffusion_)?(?:pytorch_model|adapter_model)[^/]*\.bin$|\.(?:pt|pth|ckpt|pkl)$")),
    ("OpenVINO", re.compile(r"(?:^|/)openvino[^/]*\.(?:bin|xml)$")),
    ("ONNX", re.compile(r"\.(?:onnx|onnx_data[^/]*|onnx\.data|ort)$")),
    ("GGUF", re.compile(r"\.(?:gguf|ggml)$")),
    ("TensorFlow", re.compile(r"\.(?:h5|tflite|pb)$|(?:^|/)saved_model/|\.data-\d+-of-\d+$")),
    ("Flax", re.compile(r"\.msgpack$")),
    ("Rust", re.compile(r"\.ot$")),
    ("Core ML", re.compile(r"\.(?:mlmodel|mlpackage)(?:/|$)|/weight\.bin$")),
    ("other weights", re.compile(r"\.(?:bin|npz|nemo|engine|plan)$")),
)  # fmt: skip
_PREFERRED: Final = ("safetensors", "PyTorch", "TensorFlow", "Flax", "ONNX", "GGUF", "OpenVINO")
_KEPT: Final = frozenset(
    {".json", ".txt", ".model", ".jinja", ".py", ".yaml", ".yml", ".md", ".vocab", ".tiktoken", ".spm", ".bpe"}
)  # fmt: skip
_SHARD: Final = re.compile(r"-\d{5}-of-\d{5}")
_VARIANT: Final = re.compile(r"\.(?:fp16|bf16|non_ema)(?=[.-])")


@dataclass(frozen=True, slots=True)
class Choice:
    """What to carry: patterns with what each is for, the files that they choose, and words on the rest."""

    include: tuple[Noted, ...]
    exclude: tuple[Noted, ...]
    files: tuple[Item, ...]
    notes: tuple[str, ...]


def format_of(path: str) -> str:
    """Which kind of weights a file is; empty for none."""
    return next((name for name, pattern in _FORMATS if pattern.search(path)), "")


def choose(tree: Tree) -> Choice:
    """The files that a client needs, without the same weights twice."""
    kinds = {item.path: format_of(item.path) for item in tree.files}
    weights = _weights([item for item in tree.files if kinds[item.path]], kinds)
    if not weights:
        return Choice((), tuple(Noted(as_pattern(name)) for name in tree.hidden), tree.files, ())
    small = [item for item in tree.files if not kinds[item.path] and _is_wanted(item)]
    chosen = {item.path for item in (*weights, *small)}
    include = _patterns(weights, small, tree.files)
    exclude = _excluded(include, chosen, tree)
    left = [item for item in tree.files if item.path not in chosen]
    return Choice(include, exclude, tuple(item for item in tree.files if item.path in chosen), _left_note(left, kinds))


def _weights(items: Sequence[Item], kinds: Mapping[str, str]) -> list[Item]:
    """Of each folder, one format; folders that repeat the weights in another format count only if nothing else does."""
    chosen: list[Item] = []
    main = [item for item in items if kinds[item.path] in _PREFERRED[:4]]
    folders = sorted({item.folder for item in main})
    for folder in folders:
        if folder.split("/")[0] in {"original", "onnx", "openvino", "coreml", "flax", "tf"} and "" in folders:
            continue
        here = [item for item in main if item.folder == folder]
        best = next(name for name in _PREFERRED if any(kinds[item.path] == name for item in here))
        chosen += _one_of_each([item for item in here if kinds[item.path] == best])
    if chosen:
        return chosen
    for name in ("ONNX", "GGUF", "OpenVINO"):
        if there := [item for item in items if kinds[item.path] == name]:
            return _plainest(there, name)
    return list(items)


def _one_of_each(items: Sequence[Item]) -> list[Item]:
    """Without the half-precision copies of files that are there in full, and without a second set in one piece."""
    names = {item.path for item in items}
    plain = [i for i in items if not (_VARIANT.search(i.path) and _VARIANT.sub("", i.path) in names)]
    sharded = any(_SHARD.search(item.name) and item.name.startswith("model-") for item in plain)
    return [item for item in plain if not item.name.startswith("consolidated")] if sharded else plain


def _plainest(items: Sequence[Item], name: str) -> list[Item]:
    """Of several variants of a file, one with what belongs to it: the shortest name, or 4 bits for GGUF."""
    if name == "OpenVINO":
        return list(items)
    graphs = [item for item in items if item.suffix in {".onnx", ".ort", ".gguf", ".ggml"}] or list(items)
    middle = [item for item in graphs if "q4_k_m" in item.name.lower()]
    first = min(middle or graphs, key=lambda item: (len(item.name), item.path))
    shards = _SHARD.sub("", first.path)
    data = (f"{first.path}_data", f"{first.path}.data")
    return [i for i in items if i is first or _SHARD.sub("", i.path) == shards or i.path.startswith(data)]


def _is_wanted(item: Item) -> bool:
    if item.name.startswith("."):
        return False
    if "." not in item.name:
        return item.size <= _SMALL
    return item.suffix in _KEPT


def _patterns(weights: Sequence[Item], small: Sequence[Item], every: Sequence[Item]) -> tuple[Noted, ...]:
    found: dict[str, list[Item]] = {}
    for item in small:
        pattern = f"*{item.suffix}" if "." in item.name else as_pattern(item.path)
        found.setdefault(pattern, []).append(item)
    whole = {i.path for i in weights} == {i.path for i in every if i.suffix == ".safetensors"}
    for item in weights:
        pattern = "*.safetensors" if whole else "-*".join(map(as_pattern, _SHARD.split(item.path)))
        found.setdefault(pattern, []).append(item)
    return tuple(Noted(pattern, _count(items)) for pattern, items in found.items())


def _excluded(include: Sequence[Noted], chosen: set[str], tree: Tree) -> tuple[Noted, ...]:
    """What the patterns choose beyond what was meant, file by file."""
    patterns = tuple(noted.value for noted in include)
    names = [*tree.hidden, *(item.path for item in tree.files if item.path not in chosen)]
    return tuple(Noted(as_pattern(name)) for name in sorted(names) if matches(name, include=patterns, exclude=()))


def _left_note(left: Sequence[Item], kinds: Mapping[str, str]) -> tuple[str, ...]:
    groups: dict[str, list[Item]] = {}
    for item in left:
        groups.setdefault(kinds[item.path] or "other files", []).append(item)
    if not groups:
        return ()
    listed = "; ".join(f"{name} ({_named(items)})" for name, items in sorted(groups.items()))
    return (f"left out, the same weights again or not needed to load: {listed}",)


def _named(items: Sequence[Item]) -> str:
    names = ", ".join(item.path for item in items[:3]) + (f" and {len(items) - 3} more" if len(items) > 3 else "")
    return f"{names}: {size(sum(item.size for item in items))}"


def _count(items: Sequence[Item]) -> str:
    files = "1 file" if len(items) == 1 else f"{len(items)} files"
    return f"{files}, {size(sum(item.size for item in items))}"


def as_pattern(name: str) -> str:
    """`name` as a pattern that matches nothing else."""
    return re.sub(r"([*?[])", r"[\1]", name)
