"""Loaded models: one load each, the least recently used goes first."""

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from installed import model, package
from manifests.errors import ModelLoadError
from runtime.models.base import MAXIMUM_GROUP_PIXELS, Inferring, ModelFacts, group_size, run_model
from runtime.registry import Registry, Selection


class Number:
    def __init__(self, value: int) -> None:
        self.value = value

    def to_dict(self) -> dict[str, Any]:
        return {"value": self.value}


class Doubling(Inferring):
    """A model family of the simplest kind."""

    def __init__(self, name: str) -> None:
        self.facts = ModelFacts(name, "raw", None, "p", "onnx", None, (), None)

    def preprocess(self, sources: Sequence[int], *, first: int = 1) -> list[int]:
        del first
        return list(sources)

    def predict(self, prepared: list[int]) -> list[int]:
        return [2 * number for number in prepared]

    def postprocess(self, outputs: list[int], prepared: list[int], **options: Any) -> list[Number]:
        del prepared, options
        return [Number(number) for number in outputs]


class Loader:
    """Counts its loads, and waits at a gate."""

    def __init__(self) -> None:
        self.loads: list[str] = []
        self.gate = threading.Event()
        self.gate.set()

    def __call__(self, selection: Selection) -> Doubling:
        self.gate.wait(10)
        self.loads.append(selection.model.id)
        return Doubling(selection.model.id)


def select(name: str, *, generation: int = 1) -> Selection:
    one = package(Path("/nowhere/p"))
    return Selection(generation, model(name, [one]), one, ("CPUExecutionProvider",))


def names(registry: Registry) -> list[str]:
    return [loaded.selection.model.id for loaded in registry.loaded()]


def test_sixty_four_threads_that_want_one_model_load_it_once() -> None:
    loader = Loader()
    loader.gate.clear()
    registry = Registry(loader)
    with ThreadPoolExecutor(64) as threads:
        waiting = [threads.submit(registry.get, select("m/1")) for _ in range(64)]
        loader.gate.set()
        models = {id(one.result(10).model) for one in waiting}
    assert loader.loads == ["m/1"]
    assert len(models) == 1


def test_models_are_loaded_beside_each_other_and_not_after_each_other() -> None:
    both_are_loading = threading.Barrier(2, timeout=10)

    def load(selection: Selection) -> Doubling:
        both_are_loading.wait()
        return Doubling(selection.model.id)

    registry = Registry(load)
    with ThreadPoolExecutor(2) as threads:
        loaded = [threads.submit(registry.get, select(name)).result for name in ("a/1", "b/1")]
        assert [one(10).model.facts.id for one in loaded] == ["a/1", "b/1"]


def test_the_least_recently_used_model_goes_first() -> None:
    loader = Loader()
    registry = Registry(loader, capacity=2)
    for name in ("a/1", "b/1", "a/1", "c/1"):
        registry.get(select(name))
    assert names(registry) == ["a/1", "c/1"]
    registry.get(select("b/1"))
    assert loader.loads == ["a/1", "b/1", "c/1", "b/1"]


def test_a_failed_load_fails_for_all_who_wait_and_is_tried_again_by_the_next() -> None:
    attempts: list[str] = []
    gate = threading.Event()

    def load(selection: Selection) -> Doubling:
        gate.wait(10)
        attempts.append(selection.model.id)
        if len(attempts) == 1:
            raise ModelLoadError("damaged")
        return Doubling(selection.model.id)

    registry = Registry(load)
    with ThreadPoolExecutor(8) as threads:
        waiting = [threads.submit(registry.get, select("m/1")) for _ in range(8)]
        gate.set()
        outcomes = [one.exception(10) for one in waiting]
    assert any(isinstance(outcome, ModelLoadError) for outcome in outcomes)
    assert registry.get(select("m/1")).model.facts.id == "m/1"
    assert len(attempts) == 2


def test_a_failed_load_leaves_nothing_behind() -> None:
    def load(selection: Selection) -> Doubling:
        raise ModelLoadError("damaged")

    registry = Registry(load)
    with pytest.raises(ModelLoadError):
        registry.get(select("m/1"))
    assert registry.loaded() == ()
    assert registry.clear() == 0


def test_another_generation_or_package_is_another_model() -> None:
    loader = Loader()
    registry = Registry(loader)
    other = package(Path("/nowhere/other"))
    for selection in (
        select("m/1"),
        select("m/1", generation=2),
        Selection(1, model("m/1", [other]), other, ("CPUExecutionProvider",)),
        select("m/1"),
    ):
        registry.get(selection)
    assert loader.loads == ["m/1"] * 3


def test_unloading_drops_every_package_of_a_model_and_nothing_else() -> None:
    registry = Registry(Loader())
    for selection in (select("a/1"), select("a/1", generation=2), select("b/1")):
        registry.get(selection)
    assert registry.unload("a/1") == 2
    assert registry.unload("a/1") == 0
    assert names(registry) == ["b/1"]
    assert registry.clear() == 1
    assert names(registry) == []


def test_models_of_a_generation_that_is_gone_are_dropped() -> None:
    registry = Registry(Loader())
    for generation in (1, 2, 3):
        registry.get(select("a/1", generation=generation))
    assert registry.keep_generation(3) == 2
    assert [loaded.selection.generation for loaded in registry.loaded()] == [3]


def test_a_model_that_is_unloaded_while_it_loads_still_answers_those_who_wait() -> None:
    loader = Loader()
    loader.gate.clear()
    registry = Registry(loader)
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(registry.get, select("m/1"))
        while not registry.clear():
            pass
        loader.gate.set()
        assert waiting.result(10).model.facts.id == "m/1"
    assert names(registry) == []


def test_inferences_are_counted_and_timed() -> None:
    loaded = Registry(Loader()).get(select("m/1"))
    unused = loaded.usage
    answer = loaded.answer([1, 2, 3])
    loaded.answer([4])
    assert [result.to_dict()["value"] for result in answer.results] == [2, 4, 6]
    assert loaded.usage.num_inferences == 4
    average = loaded.usage.avg_inference_time
    assert unused.avg_inference_time is None
    assert average is not None
    assert 0 <= average < 1


def test_a_long_list_is_taken_in_groups_and_its_inputs_keep_their_numbers() -> None:
    class Recording(Doubling):
        def preprocess(self, sources: Sequence[int], *, first: int = 1) -> list[int]:
            groups.append((first, len(sources)))
            return super().preprocess(sources)

    groups: list[tuple[int, int]] = []
    results = run_model(Recording("m/1"), list(range(20)))
    assert [result.to_dict()["value"] for result in results] == [2 * number for number in range(20)]
    assert groups == [(1, 8), (9, 8), (17, 4)]


def test_a_group_is_the_graphs_batch_or_what_the_pixels_allow() -> None:
    facts = Doubling("m/1").facts
    assert group_size(replace(facts, batch_size=32)) == 32
    assert group_size(replace(facts, input_height=640, input_width=640)) == 8
    assert group_size(replace(facts, input_height=1, input_width=MAXIMUM_GROUP_PIXELS // 3)) == 3
    assert group_size(replace(facts, input_height=10_000, input_width=10_000)) == 1


def test_no_count_is_lost_between_threads() -> None:
    loaded = Registry(Loader()).get(select("m/1"))
    with ThreadPoolExecutor(16) as threads:
        for one in [threads.submit(loaded.answer, [1]) for _ in range(500)]:
            one.result(10)
    assert loaded.usage.num_inferences == 500
