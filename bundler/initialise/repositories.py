"""Repositories of a model hub, wherever they lie: what their cards and configurations say of them.

* A card is foreign text: read up to a bound, parsed as plain values, believed no further than a comment says.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from bundler.initialise import literals
from bundler.initialise.entries import Item, Model, Noted, Package, Tree
from bundler.initialise.selection import choose, format_of
from bundler.initialise.unwanted import refuse_pointers

_SMALL: Final = 1 << 20
_PIPELINES: Final = {
    "sentence-similarity": "embedding", "feature-extraction": "embedding", "image-feature-extraction": "embedding",
    "zero-shot-image-classification": "embedding", "image-classification": "classification",
    "object-detection": "object-detection", "zero-shot-object-detection": "open-vocabulary-object-detection",
    "image-segmentation": "semantic-segmentation", "mask-generation": "interactive-instance-segmentation",
    "depth-estimation": "depth-estimation", "keypoint-detection": "keypoint-detection", "image-text-to-text": "vlm",
    "visual-question-answering": "vlm", "image-to-text": "vlm", "video-text-to-text": "vlm",
    "voice-activity-detection": "voice-activity", "video-classification": "action-recognition",
}  # fmt: skip
"""From what a model card calls its pipeline."""
_CLASSES: Final = (
    ("ForObjectDetection", "object-detection"), ("ForImageClassification", "classification"),
    ("ForSemanticSegmentation", "semantic-segmentation"), ("ForInstanceSegmentation", "instance-segmentation"),
    ("ForDepthEstimation", "depth-estimation"), ("ForVideoClassification", "action-recognition"),
    ("ForZeroShotObjectDetection", "open-vocabulary-object-detection"), ("ForPoseEstimation", "keypoint-detection"),
)  # fmt: skip
"""From the ends of class names in `config.json`."""
_TEXT_ENCODERS: Final = re.compile(r"(?:Bert|Roberta|MPNet|DistilBert|XLMRoberta|NomicBert|ModernBert|Electra)\w*Model")
_TWO_TOWERS: Final = frozenset({"CLIPModel", "SiglipModel", "Siglip2Model", "ChineseCLIPModel", "AltCLIPModel"})


@dataclass(frozen=True, slots=True)
class Card:
    """What a repository says of itself."""

    task: Noted
    license: str
    notes: tuple[str, ...] = ()


def is_repository(items: Iterable[Item]) -> bool:
    """Whether these files, by their paths in it, are a repository that its clients load as a folder."""
    by_path = {item.path: item for item in items}
    if by_path.keys() & {"modules.json", "model_index.json", "adapter_config.json"}:
        return True
    if "config.json" not in by_path or not _KNOWN_BY_CONFIG & _json(by_path["config.json"]).keys():
        return False
    weights = {format_of(path) for path in by_path}
    return bool(weights & {"safetensors", "PyTorch", "TensorFlow", "Flax"})


_KNOWN_BY_CONFIG: Final = frozenset({"model_type", "architectures", "_name_or_path", "transformers_version"})


def model(tree: Tree, *, name: str, licenses: Sequence[str] = (), gated: bool = False) -> Model:
    """The repository as one model: by `source` and patterns where that is possible, else file by file.

    Errors: `SourceError` for what Git LFS left in the place of a file.
    """
    card = card_of(tree.files, licenses)
    choice = choose(tree)
    refuse_pointers(choice.files)
    notes = [*card.notes, *choice.notes]
    if gated:
        notes.insert(0, "gated: accept its conditions on the hub's page, and set HF_TOKEN before `bundle lock`")
    license_noted = Noted(card.license, "what its card says") if card.license else None
    if tree.whole:
        return Model(
            name, card.task, license=license_noted, source=tree.source, include=choice.include, exclude=choice.exclude,
            notes=tuple(notes), numbered=False,
        )  # fmt: skip
    files = {item.path: item.source for item in choice.files}
    package = Package(files, "hugging-face")
    return Model(name, card.task, license=license_noted, packages=(package,), notes=tuple(notes), numbered=False)


def card_of(items: Iterable[Item], licenses: Sequence[str] = ()) -> Card:
    """Task and licence, out of README.md, config.json and modules.json."""
    by_path = {item.path: item for item in items}
    readme = by_path.get("README.md")
    front = literals.front_matter(readme.read(_SMALL) if readme else None)
    config = _json(by_path["config.json"]) if "config.json" in by_path else {}
    named = front.get("license_name") if front.get("license") == "other" else front.get("license")
    license_text = str(named) if isinstance(named, str) else licenses[0] if licenses else ""
    notes = (*_config_note(config), *_out_of_reach(by_path))
    return Card(_task(front, config, frozenset(by_path)), license_text, notes)


def _out_of_reach(by_path: Mapping[str, Item]) -> tuple[str, ...]:
    named = [by_path[name] for name in ("README.md", "config.json") if name in by_path]
    closed = [item.name for item in named if item.read(_SMALL) is None]
    return (f"{' and '.join(closed)} could not be read: look there for task and licence",) if closed else ()


def _task(front: Mapping[object, object], config: Mapping[str, Any], paths: frozenset[str]) -> Noted:
    if "modules.json" in paths or front.get("library_name") == "sentence-transformers":
        return Noted("embedding", "modules.json says so" if "modules.json" in paths else "its card says so")
    tag = front.get("pipeline_tag")
    pipeline = tag if isinstance(tag, str) else ""
    if pipeline in _PIPELINES:
        return Noted(_PIPELINES[pipeline], f"its card says {pipeline}")
    for name in _strings(config.get("architectures")):
        for end, task in _CLASSES:
            if name.endswith(end):
                return Noted(task, f"config.json says {name}")
        if name in _TWO_TOWERS or _TEXT_ENCODERS.fullmatch(name):
            return Noted("embedding", f"config.json says {name}")
        if "vision_config" in config:
            return Noted("vlm", f"config.json says {name}, with a vision_config")
        said = pipeline or name
        return Noted("raw", f"carried for the clients that load it: {said} is no task that this program runs")
    if pipeline:
        return Noted("raw", f"carried for the clients that load it: {pipeline} is no task that this program runs")
    return Noted("raw", "neither its card nor config.json says: embedding, vlm, …?")


def _config_note(config: Mapping[str, Any]) -> tuple[str, ...]:
    names = _strings(config.get("architectures"))
    said = [*names[:1], str(config["torch_dtype"]) if isinstance(config.get("torch_dtype"), str) else ""]
    told = ", ".join(part for part in said if part)
    code = "its own code is part of it (auto_map): clients run that only when told to trust it"
    return (*((f"config.json: {told}",) if told else ()), *((code,) if config.get("auto_map") else ()))


def _strings(value: object) -> list[str]:
    return [text for text in value if isinstance(text, str)] if isinstance(value, list) else []


def _json(item: Item) -> Mapping[str, Any]:
    try:
        value = json.loads(item.read(_SMALL) or b"")
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
