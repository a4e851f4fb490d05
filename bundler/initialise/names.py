"""Ids out of the names of files, folders and repositories: always usable, and unlike all others of the manifest."""

import re
from collections.abc import Iterable, Iterator
from itertools import count
from typing import Final

from bundler.initialise.entries import Model
from manifests.errors import NamingError
from manifests.naming import check_ids, checked_id

_GENERIC: Final = re.compile(
    r"(?:best|last|model|models|weights?|train|val|exp|predict)[-_.]?\d*|"
    r"(?:runs|detect|segment|pose|classify|obb|onnx|export|exports|output|outputs|checkpoints?|artifacts?|snapshots|"
    r"det|rec|cls|files|hub|downloads?|home|models?|saved_model|pytorch_model|network|net|final|out|tmp|src|data)"
    r"(?:[-_.](?:fp32|fp16|int8|quantized|optimized))?",
    re.IGNORECASE,
)
"""Names that say nothing of what the model is for: a folder above may."""
_LONGEST: Final = 120


def is_generic(name: str) -> bool:
    """Whether a name says nothing of what it is for."""
    return bool(_GENERIC.fullmatch(name))


def speaking(names: Iterable[str]) -> str:
    """The first of `names` that says something, from the file outwards; else the first."""
    ordered = [name for name in names if name]
    return next((name for name in ordered if not is_generic(name)), ordered[0] if ordered else "model")


def identified(models: Iterable[Model]) -> list[tuple[str, Model]]:
    """Each model under an id that is valid and clashes with none before it."""
    taken: list[str] = []
    found: list[tuple[str, Model]] = []
    for model in models:
        model_id = next(text for text in _candidates(model) if _is_free(text, taken))
        taken.append(model_id)
        found.append((model_id, model))
    return found


def _candidates(model: Model) -> Iterator[str]:
    parts = [re.sub(r"[^A-Za-z0-9._-]+", "-", part).strip("-._")[:_LONGEST] for part in model.id.split("/")]
    usable = "/".join([part for part in parts if part][-7:])[-_LONGEST:].lstrip("-._/") or "model"
    for name in (usable, f"my-{usable}", "model"):
        if model.numbered:
            numbers = (f"{name}/{number}" for number in range(1, 1000))
        else:
            numbers = (name if number == 1 else f"{name}-{number}" for number in range(1, 1000))
        for text in numbers:
            if _is_usable(text):
                yield text
    yield from (f"model-{number}/1" for number in count(1))


def _is_usable(text: str) -> bool:
    try:
        checked_id(text)
    except NamingError:
        return False
    return True


def _is_free(text: str, taken: list[str]) -> bool:
    try:
        check_ids([*taken, text])
    except NamingError:
        return False
    return True
