"""The models that are in memory.

Owns how many stay, which one goes, and that a model is loaded once however many callers wait for it.
* Least recently used goes first, and before the new one is loaded, so that memory peaks at the capacity.
* A model that is dropped while somebody uses it lives until they are done.
* A load that fails is forgotten: the next caller tries again.
"""

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from threading import Lock
from typing import Any, Final

from runtime.catalogue import InstalledModel, InstalledPackage
from runtime.models.base import Model, ModelFacts, Result, run_model

DEFAULT_CAPACITY: Final = 8


@dataclass(frozen=True, slots=True)
class Selection:
    """Exactly which model: a package of a generation, on some execution providers."""

    generation: int
    model: InstalledModel
    package: InstalledPackage
    providers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Usage:
    """How a loaded model has been used. Seconds are of whole inferences: preprocess, predict, postprocess."""

    num_inferences: int = 0
    total_seconds: float = 0.0

    @property
    def avg_inference_time(self) -> float | None:
        """Seconds per input; None before the first."""
        return self.total_seconds / self.num_inferences if self.num_inferences else None


@dataclass(frozen=True, slots=True)
class Answer:
    """One result per input, and how long they took in seconds."""

    model: ModelFacts
    results: tuple[Result, ...]
    seconds: float


class LoadedModel:
    """A model in memory, with its usage."""

    def __init__(self, selection: Selection, model: Model[Any, Any]) -> None:
        self.selection = selection
        self.model = model
        self._lock = Lock()
        self._usage = Usage()

    @property
    def usage(self) -> Usage:
        """A snapshot of the counts."""
        return self._usage

    def answer(self, sources: Sequence[Any], **options: Any) -> Answer:
        """Infer, counted and timed. Raises `InvalidInputError`, `ModelError`."""
        start = time.perf_counter()
        results = run_model(self.model, sources, **options)
        seconds = time.perf_counter() - start
        with self._lock:
            before = self._usage
            self._usage = Usage(before.num_inferences + len(sources), before.total_seconds + seconds)
        return Answer(self.model.facts, tuple(results), seconds)


class Registry:
    """Loaded models by selection. Thread-safe."""

    def __init__(self, load: Callable[[Selection], Model[Any, Any]], *, capacity: int = DEFAULT_CAPACITY) -> None:
        """`load` opens a model; `capacity` (at least 1) is how many are kept."""
        self._load = load
        self._capacity = max(1, capacity)
        self._lock = Lock()
        self._entries: OrderedDict[Selection, Future[LoadedModel]] = OrderedDict()

    def get(self, selection: Selection) -> LoadedModel:
        """The model, loaded by the first caller while the others wait; what `load` raises, all of them get."""
        with self._lock:
            entry = self._entries.get(selection)
            mine = entry is None
            if entry is None:
                self._make_room()
                entry = self._entries[selection] = Future()
            self._entries.move_to_end(selection)
        if mine:
            self._fill(selection, entry)
        return entry.result()

    def loaded(self) -> tuple[LoadedModel, ...]:
        """What is in memory now, least recently used first."""
        with self._lock:
            entries = list(self._entries.values())
        return tuple(entry.result() for entry in entries if entry.done() and entry.exception() is None)

    def unload(self, model_id: str) -> int:
        """Drop every package of the model with this id; how many there were."""
        return self._drop(lambda selection: selection.model.id == model_id)

    def clear(self) -> int:
        """Drop everything; how many models there were."""
        return self._drop(lambda _: True)

    def keep_generation(self, generation: int) -> int:
        """Drop what belongs to any other generation; how many there were."""
        return self._drop(lambda selection: selection.generation != generation)

    def _fill(self, selection: Selection, entry: Future[LoadedModel]) -> None:
        try:
            model = self._load(selection)
        except BaseException as error:
            # Whatever it was, those who wait must not wait for ever.
            with self._lock:
                if self._entries.get(selection) is entry:
                    del self._entries[selection]
            entry.set_exception(error)
            raise
        entry.set_result(LoadedModel(selection, model))

    def _make_room(self) -> None:
        while len(self._entries) >= self._capacity:
            oldest = next((key for key, entry in self._entries.items() if entry.done()), None)
            if oldest is None:
                return
            del self._entries[oldest]

    def _drop(self, chosen: Callable[[Selection], bool]) -> int:
        with self._lock:
            gone = [selection for selection in self._entries if chosen(selection)]
            for selection in gone:
                del self._entries[selection]
        return len(gone)
