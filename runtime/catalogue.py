"""What is installed: the models of one generation.

Owns the lookup from an id or alias to packages on this disk. It never looks at a model's files.
* An id or alias leads to exactly one model; install saw to that.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from manifests.errors import UnknownModelError, listing


@dataclass(frozen=True, slots=True)
class InstalledPackage:
    """One loadable variant of a model, as its plain directory on this disk."""

    id: str
    backend: str | None
    quantization: str | None
    opset: int | None
    static_batch: int | None
    directory: Path
    files: tuple[str, ...]
    default: bool
    trusted: bool = True
    """Whether the service that it came from vouches for it; what came from no service is the builder's own choice."""
    incompatible_providers: tuple[str, ...] = ()
    """Execution providers that its service says it does not run on."""


@dataclass(frozen=True, slots=True)
class InstalledModel:
    """What a person asks for by id: its task, architecture and packages, the default package first."""

    id: str
    aliases: tuple[str, ...]
    task: str
    architecture: str | None
    line: str
    packages: tuple[InstalledPackage, ...]


@dataclass(frozen=True, slots=True)
class Catalogue:
    """All models of a generation. `generation` changes whenever anything in it may have."""

    generation: int
    models: Sequence[InstalledModel]
    lines: tuple[tuple[str, int], ...] = ()
    """The bundle lines in it: name and sequence."""

    def get(self, name: str) -> InstalledModel:
        """The model with this id or alias, or `UnknownModelError` naming what there is."""
        for model in self.models:
            if name == model.id or name in model.aliases:
                return model
        known = sorted({name for model in self.models for name in (model.id, *model.aliases)})
        near = get_close_matches(name, known, n=1)
        raise UnknownModelError(
            f"no model {name!r} is installed",
            hint=f"did you mean {near[0]!r}?" if near else "`bundle list` shows what is installed",
            facts={"installed": listing(known) or "nothing"},
        )
