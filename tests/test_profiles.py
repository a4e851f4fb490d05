"""Which repository a machine will ask for: the same answer as AIM's own selection, and the reasons in words."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from bundler.manifest_file import load
from bundler.profiles import files
from bundler.profiles.carrying import Carried, carried, profiles_of, selected
from bundler.profiles.explained import explained, to_dict
from bundler.profiles.selection import Profile, Selection, Target, select
from bundler.profiles.targets import VARIABLES, Options, Profiling, targets
from manifests.errors import ManifestError, NamingError
from manifests.manifest import ModelRequest, parse

LLAMA = "meta-llama/Llama-3.1-8B-Instruct"
QUANTIZED = "amd/Llama-3.1-8B-Instruct-FP8-KV"
RECORDED = Path(__file__).parent / "golden" / "aim_selection.json"


def document(aim_id: str | None = LLAMA, model_id: str | None = LLAMA, **metadata: object) -> dict[str, Any]:
    """A profile as AIM writes it: for one MI300X in fp16, if nothing else is said."""
    usual = {"engine": "vllm", "gpu": "MI300X", "gpu_count": 1, "precision": "fp16", "metric": "latency"}
    named = {} if aim_id is None else {"aim_id": aim_id, "model_id": model_id}
    kind = {"type": "optimized", "manual_selection_only": False}
    return {**named, "metadata": {**usual, **kind, **metadata}, "engine_args": {"dtype": "auto"}, "env_vars": {}}


def written(folder: Path, files: Mapping[str, object]) -> Path:
    """`folder` with those files in it; a value that is no text as YAML."""
    for path, value in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(value if isinstance(value, str) else yaml.safe_dump(value))
    return folder


def llama(folder: Path) -> Path:
    """AIM's own profiles for one model, as far as one and two MI300X go."""
    own = f"profiles/{LLAMA}"
    return written(
        folder,
        {
            f"{own}/vllm-mi300x-fp16-tp1-latency.yaml": document(),
            f"{own}/vllm-mi300x-fp16-tp1-throughput.yaml": document(metric="throughput"),
            f"{own}/vllm-mi300x-fp8-tp1-latency.yaml": document(model_id=QUANTIZED, precision="fp8"),
            f"{own}/vllm-mi300x-fp16-tp2-latency.yaml": document(gpu_count=2, manual_selection_only=True),
            f"{own}/vllm-mi325x-fp16-tp1-latency.yaml": document(gpu="MI325X"),
            "profiles/general/vllm-mi300x-fp16-tp1-latency.yaml": document(None, type="general"),
            "profiles/general/vllm-mi300x-fp16-tp8-latency.yaml": document(None, type="general", gpu_count=8),
        },
    )


def model(**fields: Any) -> ModelRequest:
    return ModelRequest(**{"id": LLAMA, "profiles": "./profiles/", **fields})


def chosen(base: Path, environ: Mapping[str, str], request: ModelRequest | None = None) -> tuple[Carried, ...]:
    request = request or model()
    return carried(request, selected(request, Profiling.read(Options(), environ), base=base))


def carried_for(base: Path, *gpus: str, request: ModelRequest | None = None) -> dict[str, ModelRequest]:
    request = request or model()
    found = carried(request, selected(request, Profiling.read(Options(gpus), {}), base=base))
    return {one.request.id: one.request for one in found}


def refused(base: Path, *gpus: str, request: ModelRequest | None = None) -> ManifestError:
    with pytest.raises(ManifestError) as caught:
        carried_for(base, *gpus, request=request)
    return caught.value


def inline(*profiles: Mapping[str, object], **fields: object) -> ModelRequest:
    document = {"name": "line", "models": [{"id": "acme/model", "profiles": list(profiles), **fields}]}
    return parse(document).models[0]


FP8 = {"gpu": "MI300X", "precision": "fp8", "source": "hf://amd/other-FP8"}
FP16 = {"gpu": "mi300x", "precision": "FP16"}


# The trap


def test_the_usual_precision_of_one_mi300x_asks_for_another_repository(tmp_path: Path) -> None:
    (only,) = chosen(llama(tmp_path), {"AIM_ID": LLAMA, "AIM_GPU_MODEL": "MI300X", "AIM_GPU_COUNT": "1"})
    assert only.choices[0].profile.id == "vllm-mi300x-fp8-tp1-latency"
    assert (only.request.id, only.request.source) == (QUANTIZED, f"hf://{QUANTIZED}")
    assert only.request.aliases == (LLAMA,)
    assert only.request.profiles == ()


def test_asking_for_fp16_gives_the_repository_that_the_model_is_named_after(tmp_path: Path) -> None:
    environ = {"AIM_GPU_MODEL": "MI300X", "AIM_PRECISION": "fp16"}
    (only,) = chosen(llama(tmp_path), environ)
    assert (only.request.id, only.request.source, only.request.aliases) == (LLAMA, f"hf://{LLAMA}", ())


def test_the_explanation_says_that_it_is_another_repository(tmp_path: Path) -> None:
    request = model()
    selection = selected(request, Profiling.read(Options(("MI300X",)), {}), base=llama(tmp_path))
    lines = explained(selection)
    assert lines[0] == f"{LLAMA}, 1 x MI300X, precision auto, metric latency:"
    assert lines[1] == f"  chosen   vllm-mi300x-fp8-tp1-latency: the model is {QUANTIZED}, another than {LLAMA}"
    assert lines[2:] == [
        "  behind   vllm-mi300x-fp16-tp1-latency: fp8 comes before fp16",
        "  behind   general/vllm-mi300x-fp16-tp1-latency: the AIM's own profiles come before general profiles",
        "  dropped  vllm-mi300x-fp16-tp2-latency: its GPU count is 2, not 1",
        "  dropped  general/vllm-mi300x-fp16-tp8-latency: its GPU count is 8, not 1",
        "  dropped  vllm-mi325x-fp16-tp1-latency: it is for MI325X, not MI300X",
        "  dropped  vllm-mi300x-fp16-tp1-throughput: its metric is throughput, not latency",
        "  on the site, tell AIM: AIM_GPU_COUNT=1",
    ]
    (target,) = json.loads(json.dumps(to_dict(selection)))["targets"]
    assert (target["chosen"], target["model"]) == ("vllm-mi300x-fp8-tp1-latency", QUANTIZED)
    assert [candidate["verdict"] for candidate in target["candidates"]] == ["chosen", *["behind"] * 2, *["dropped"] * 4]
    assert target["candidates"][-1]["step"] == "metric"


def test_an_explanation_of_a_choice_by_id_is_short(tmp_path: Path) -> None:
    profiling = Profiling.read(Options(profile_id="vllm-mi300x-fp16-tp2-latency"), {})
    assert explained(selected(model(), profiling, base=llama(tmp_path))) == [
        f"{LLAMA}, profile vllm-mi300x-fp16-tp2-latency:",
        "  chosen   vllm-mi300x-fp16-tp2-latency: the AIM's own model",
        "  asked for by its id: no other was looked at",
        "  on the site, tell AIM: AIM_PROFILE_ID=vllm-mi300x-fp16-tp2-latency",
    ]


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"AIM_PRECISION": "fp16"},
        {"AIM_METRIC": "throughput"},
        {"AIM_ALLOW_GENERAL_PROFILE_FALLBACK": "no", "AIM_GPU_COUNT": "1"},
        {"AIM_PROFILE_ID": "vllm-mi325x-fp16-tp1-latency"},
    ],
)
def test_what_the_site_is_told_makes_the_same_choice_there(asked: dict[str, str], tmp_path: Path) -> None:
    here = {"AIM_GPU_MODEL": "MI300X", **asked}
    (choice,) = chosen(llama(tmp_path), here)[0].choices
    there = {"AIM_GPU_MODEL": "MI300X", **choice.target.variables}
    assert chosen(tmp_path, there)[0].choices == (choice,)


# Beside AIM's own code, as it answered when it was run


@cache
def recorded() -> dict[str, Any]:
    return json.loads(RECORDED.read_text())


def planted(folder: Path, rows: Sequence[Sequence[Any]]) -> None:
    for path, aim_id, model_id, gpu, gpu_count, precision, metric, kind, manual in rows:
        words = {"gpu": gpu, "gpu_count": gpu_count, "precision": precision, "metric": metric}
        value = document(aim_id, model_id, **words, type=kind, manual_selection_only=manual)
        written(folder, {f"profiles/{path}": json.dumps(value)})


def answer(base: Path, environ: Mapping[str, str]) -> list[str] | str | None:
    """What our selection says, in the words of the record."""
    profiling = Profiling.read(Options(), environ)
    request = model(id=environ.get("AIM_ID") or environ["AIM_MODEL_ID"])
    try:
        (choice,) = selected(request, profiling, base=base).choices
    except ManifestError as error:
        return "chance" if "equally good" in error.message else None
    equal = [c for c in choice.candidates if c.kept and c.profile.rank == choice.profile.rank]
    return [choice.profile.id if len(equal) == 1 else "*", choice.profile.model or request.id]


@pytest.mark.parametrize("tree", recorded()["trees"])
def test_the_answer_is_that_of_aims_own_code(tree: str, tmp_path: Path) -> None:
    planted(tmp_path, recorded()["trees"][tree])
    cases = [(environ, expected) for name, environ, expected in recorded()["cases"] if name == tree]
    answers = [(environ, expected, answer(tmp_path, environ)) for environ, expected in cases]
    assert cases
    assert [case for case in answers if case[1] != case[2]] == []


def test_the_record_reaches_every_kind_of_answer() -> None:
    answers = [expected for _, _, expected in recorded()["cases"]]
    assert len(answers) > 350
    assert "chance" in answers
    assert None in answers
    ids = {found[0] for found in answers if isinstance(found, list)}
    assert {one.rpartition("/")[0] for one in ids} >= {"", "general", "custom/general", "custom/acme/one"}
    assert {QUANTIZED, LLAMA} <= {found[1] for found in answers if isinstance(found, list)}


# The order, step by step

USUAL = Profile(id="p", gpu="MI300X", gpu_count=1, precision="fp16", metric="latency", type="optimized", aim_id="a/b")
ONE = Target("MI300X")


@pytest.mark.parametrize(
    ("profile", "step", "reason"),
    [
        (replace(USUAL, engine="sglang", metric="throughput"), "ENGINE", "its engine is sglang, not vllm"),
        (replace(USUAL, metric="throughput", aim_id="x/y"), "METRIC", "its metric is throughput, not latency"),
        (replace(USUAL, aim_id="x/y", gpu="MI325X"), "AIM", "it belongs to x/y"),
        (replace(USUAL, gpu="MI325X", gpu_count=2), "GPU", "it is for MI325X, not MI300X"),
        (replace(USUAL, gpu_count=2, precision="bf16"), "GPU_COUNT", "its GPU count is 2, not 1"),
        (replace(USUAL, precision="bf16", manual_selection_only=True), "PRECISION", "its precision is bf16, not fp16"),
        (replace(USUAL, manual_selection_only=True), "MANUAL", "it is taken only when asked for by its id"),
    ],
)
def test_a_profile_falls_for_the_first_thing_that_does_not_fit(profile: Profile, step: str, reason: str) -> None:
    kept = replace(USUAL, id="kept")
    (choice,) = select([replace(profile, id="other"), kept], [replace(ONE, precision="fp16")], aim_id="a/b").choices
    assert choice.profile.id == "kept"
    (fallen,) = [candidate for candidate in choice.candidates if not candidate.kept]
    assert (fallen.step.name, fallen.reason) == (step, reason)


def test_precision_comes_before_type_and_the_folder_before_both() -> None:
    def first(*profiles: Profile) -> str:
        numbered = [replace(profile, id=str(number)) for number, profile in enumerate(profiles)]
        return select(numbered, [ONE], aim_id="a/b").choices[0].profile.id

    assert first(USUAL, replace(USUAL, precision="int8", type="general")) == "1"
    assert first(replace(USUAL, type="unoptimized"), replace(USUAL, type="preview")) == "1"
    assert first(replace(USUAL, precision="int4"), replace(USUAL, precision="fp32", place=1)) == "1"  # type: ignore[arg-type]  # an IntEnum's value
    precisions = ["fp32", "bf16", "fp16", "fp8", "fp4", "int8", "int4"]
    for number in range(1, len(precisions)):
        assert first(*(replace(USUAL, precision=word) for word in precisions[:number])) == str(number - 1)


def test_the_order_of_the_files_changes_nothing() -> None:
    profiles = [replace(USUAL, id=str(n), model=f"a/{n}", precision=p) for n, p in enumerate(["fp8", "fp16", "bf16"])]
    assert select(profiles, [ONE], aim_id="a/b") == select(reversed(profiles), [ONE], aim_id="a/b")


def test_what_aim_would_leave_to_chance_is_refused() -> None:
    pair = [replace(USUAL, id="one"), replace(USUAL, id="two", model="x/y")]
    with pytest.raises(ManifestError, match="equally good") as caught:
        select(pair, [ONE], aim_id="a/b")
    assert caught.value.facts == {"one": "the AIM's own model", "two": "x/y"}
    same = [replace(USUAL, id="one"), replace(USUAL, id="two")]
    (choice,) = select(same, [ONE], aim_id="a/b").choices
    assert [candidate.profile.id for candidate in choice.candidates] == ["one", "two"]


def test_an_id_is_taken_whatever_else_the_profile_says() -> None:
    odd = replace(USUAL, id="odd", gpu="MI325X", metric="throughput", manual_selection_only=True, aim_id="x/y")
    (choice,) = select([USUAL, odd], [replace(ONE, profile_id="odd")], aim_id="a/b").choices
    assert choice.profile == odd
    with pytest.raises(ManifestError, match="no profile is called 'gone'") as caught:
        select([USUAL, odd], [replace(ONE, profile_id="gone")], aim_id="a/b")
    assert caught.value.hint == "there are: odd, p"


# No match


def test_without_a_match_the_nearest_profiles_stand_in_the_error_with_their_reasons(tmp_path: Path) -> None:
    error = refused(llama(tmp_path), "MI300X:4")
    assert error.message == f"{LLAMA}: no profile fits 4 x MI300X, precision auto, metric latency"
    assert error.hint == "there are profiles for 1 x MI300X, 1 x MI325X, 2 x MI300X, 8 x MI300X"
    assert len(error.facts) == 5
    assert next(iter(error.facts.items())) == ("vllm-mi300x-fp16-tp1-latency", "its GPU count is 1, not 4")


def test_a_profile_for_selection_by_hand_is_offered_by_its_id(tmp_path: Path) -> None:
    error = refused(llama(tmp_path), "MI300X:2")
    assert error.facts["vllm-mi300x-fp16-tp2-latency"] == "it is taken only when asked for by its id"
    assert "AIM_PROFILE_ID=vllm-mi300x-fp16-tp2-latency" in error.hint
    environ = {"AIM_PROFILE_ID": "vllm-mi300x-fp16-tp2-latency"}
    (only,) = chosen(tmp_path, environ)
    assert only.request.id == LLAMA


def test_profiles_with_no_machine_to_choose_for_are_refused(tmp_path: Path) -> None:
    error = refused(llama(tmp_path))
    assert "nothing says for which machine" in error.message
    assert "--gpu" in error.hint
    assert "MI300X:8" in error.hint


# What is carried


def test_machines_that_ask_for_two_repositories_get_both_and_the_id_means_its_own(tmp_path: Path) -> None:
    found = carried_for(llama(tmp_path), "MI300X", "MI325X")
    assert list(found) == [QUANTIZED, LLAMA]
    assert [request.aliases for request in found.values()] == [(), ()]


def test_machines_that_ask_for_one_repository_share_it(tmp_path: Path) -> None:
    request = model(aliases=("llama",), source="hf://mirror/llama@v1", license="Llama-3.1")
    found = carried_for(llama(tmp_path), "MI325X", "MI300X:8", request=request)
    assert list(found) == [LLAMA]
    own = found[LLAMA]
    assert (own.source, own.aliases, own.license) == ("hf://mirror/llama@v1", ("llama",), "Llama-3.1")


def test_another_repository_does_not_inherit_the_licence_or_the_source(tmp_path: Path) -> None:
    request = model(source="hf://mirror/llama@v1", license="Llama-3.1", include=("*.json",))
    (other,) = carried_for(llama(tmp_path), "MI300X", request=request).values()
    assert (other.id, other.source, other.license) == (QUANTIZED, f"hf://{QUANTIZED}", None)
    assert other.include == ("*.json",)


def test_an_image_for_any_model_uses_general_profiles_alone(tmp_path: Path) -> None:
    environ = {"AIM_MODEL_ID": LLAMA, "AIM_GPU_MODEL": "MI300X"}
    (only,) = chosen(llama(tmp_path), environ)
    assert only.choices[0].profile.id == "general/vllm-mi300x-fp16-tp1-latency"
    assert (only.request.id, only.request.source) == (LLAMA, f"hf://{LLAMA}")


@pytest.mark.parametrize(
    ("model_id", "item", "source"),
    [
        ("s3://bucket/models/acme/llm", "acme/llm", "s3://bucket/models/acme/llm"),
        ("s3://bucket/llm/", "llm", "s3://bucket/llm/"),
        ("hf://acme/llm", "acme/llm", "hf://acme/llm"),
        ("", LLAMA, f"hf://{LLAMA}"),
    ],
)
def test_the_folder_that_aim_gives_a_model_is_its_id(model_id: str, item: str, source: str, tmp_path: Path) -> None:
    written(tmp_path, {"profiles/a.yaml": document(model_id=model_id)})
    (only,) = carried_for(tmp_path, "MI300X").values()
    assert (only.id, only.source) == (item, source)


def test_a_model_whose_name_no_folder_can_have_is_refused(tmp_path: Path) -> None:
    written(tmp_path, {"profiles/a.yaml": document(model_id="../../etc/passwd")})
    assert isinstance(refused(tmp_path, "MI300X"), NamingError)


# Profiles in the manifest itself


def test_a_profile_in_the_manifest_replaces_the_source(tmp_path: Path) -> None:
    request = inline(FP8, FP16, source="hf://acme/model@main")
    assert list(carried_for(tmp_path, "MI300X", request=request)) == ["amd/other-FP8"]
    profiling = Profiling.read(Options(("MI300X",), precision="fp16"), {})
    (only,) = carried(request, selected(request, profiling, base=tmp_path))
    assert (only.request.id, only.request.source) == ("acme/model", "hf://acme/model@main")


def test_a_revision_in_the_manifest_stays_in_the_source_and_out_of_the_id(tmp_path: Path) -> None:
    request = inline({**FP8, "source": "hf://amd/other-FP8@abc", "include": ["*.json"]}, exclude=["*.bin"])
    (only,) = carried_for(tmp_path, "MI300X", request=request).values()
    assert (only.id, only.source) == ("amd/other-FP8", "hf://amd/other-FP8@abc")
    assert (only.include, only.exclude) == (("*.json",), ("*.bin",))


def test_a_source_that_is_no_repository_keeps_the_id(tmp_path: Path) -> None:
    request = inline({**FP8, "source": "./weights"}, {**FP16, "gpu": "MI325X", "source": "./others"})
    (only,) = carried_for(tmp_path, "MI300X", request=request).values()
    assert (only.id, only.source) == ("acme/model", "./weights")
    assert "under the one id" in refused(tmp_path, "MI300X", "MI325X", request=request).message


def test_profiles_of_the_manifest_are_named_as_aim_names_them() -> None:
    (one, two) = profiles_of(inline(FP8, {**FP8, "id": "mine"}), base=Path(), aim_id=None)
    assert (one.id, two.id) == ("vllm-mi300x-fp8-tp1-latency", "mine")


@pytest.mark.parametrize(
    ("change", "key", "words"),
    [
        ({"gpu": "H100"}, "$.models[0].profiles[0].gpu", "unknown value 'H100'"),
        ({"precision": "fp12"}, "$.models[0].profiles[0].precision", "unknown value 'fp12'"),
        ({"precision": "auto"}, "$.models[0].profiles[0].precision", "unknown value 'auto'"),
        ({"metric": "speed"}, "$.models[0].profiles[0].metric", "unknown value 'speed'"),
        ({"type": "best"}, "$.models[0].profiles[0].type", "unknown value 'best'"),
        ({"engine": "sglang"}, "$.models[0].profiles[0].engine", "unknown value 'sglang'"),
        ({"gpu_count": 9}, "$.models[0].profiles[0].gpu_count", "0 to 8 GPUs"),
        ({"gpus": 1}, "$.models[0].profiles[0].gpus", "unknown key `gpus`"),
    ],
)
def test_what_a_profile_of_the_manifest_cannot_say_is_refused_with_its_key(
    change: dict[str, object], key: str, words: str
) -> None:
    with pytest.raises(ManifestError, match=words) as caught:
        inline({**FP8, **change})
    assert caught.value.facts["key"] == key


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"profiles": [FP16]}, "needs a `source`"),
        ({"profiles": "./p", "packages": [{"files": {"a": "b"}}]}, "not `packages`"),
        ({"profiles": []}, "needs `source`"),
        ({"profiles": 3}, "profiles"),
        ({"profiles": [], "include": ["*"], "packages": [{"files": {"a": "b"}}]}, "`include`"),
    ],
)
def test_profiles_need_something_to_choose_from(fields: dict[str, object], words: str) -> None:
    with pytest.raises(ManifestError) as caught:
        parse({"name": "line", "models": [{"id": "acme/model", **fields}]})
    assert words in caught.value.message + caught.value.facts["key"]


def test_a_manifest_of_yaml_may_have_both_forms(tmp_path: Path) -> None:
    text = """
name: line
models:
  - id: acme/one
    source: hf://acme/one
    profiles: [{gpu: MI300X, gpu_count: 1, precision: fp8, metric: latency, source: hf://amd/other-FP8}]
  - id: acme/two
    profiles: ./profiles/
"""
    one, two = load(written(tmp_path, {"line.yaml": text}) / "line.yaml").models
    assert (len(one.profiles), two.profiles) == (1, "./profiles/")


def test_two_profiles_of_one_name_are_refused(tmp_path: Path) -> None:
    assert "two profiles are called" in refused(tmp_path, "MI300X", request=inline(FP8, FP8)).message


# AIM's own files


def test_custom_profiles_come_first_and_those_of_others_are_not_even_read(tmp_path: Path) -> None:
    written(llama(tmp_path), {"profiles/custom/mine/x.yaml": document(model_id="acme/mine", precision="fp32")})
    written(tmp_path, {"profiles/other/model/broken.yaml": "{"})
    (only,) = chosen(tmp_path, {"AIM_GPU_MODEL": "MI300X"})
    assert only.choices[0].profile.id == f"custom/{LLAMA}/x"
    assert only.request.id == "acme/mine"
    (other,) = chosen(tmp_path, {"AIM_PROFILE_ID": "vllm-mi300x-fp8-tp1-latency"})
    assert other.request.id == QUANTIZED


def test_a_folder_of_a_few_files_and_one_file_are_read_as_well(tmp_path: Path) -> None:
    written(tmp_path, {"mine/a.yaml": document(precision="fp8", model_id=QUANTIZED), "mine/read.me": "no"})
    for profiles in ("mine", "mine/a.yaml"):
        assert list(carried_for(tmp_path, "MI300X", request=model(profiles=profiles))) == [QUANTIZED]


def without(name: str) -> dict[str, Any]:
    value = document()
    holder = value if name in value else value["metadata"]
    del holder[name]
    return value


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "not valid YAML"),
        ("- 1", "no mapping"),
        ("a: 1\na: 2", "is there already"),
        ("", "no mapping"),
        ("!!python/object/apply:os.system [ls]", "not valid YAML"),
        ("a: &a [*a]", "contains itself"),
        ("x" * (files.MAXIMUM_SIZE + 1), "more than"),
        (without("metadata"), "`metadata`"),
        (without("env_vars"), "`env_vars`"),
        (without("engine_args"), "`engine_args`"),
        (without("aim_id"), "`aim_id`"),
        (without("model_id"), "`model_id`"),
        (without("manual_selection_only"), "manual_selection_only"),
        (document(gpu="mi300x"), "metadata.gpu"),
        (document(gpu=["MI300X"]), "metadata.gpu"),
        (document(precision="mxfp4"), "metadata.precision"),
        (document(metric="auto"), "metadata.metric"),
        (document(type="best"), "metadata.type"),
        (document(engine="sglang"), "metadata.engine"),
        (document(gpu_count="1"), "metadata.gpu_count"),
        (document(gpu_count=True), "metadata.gpu_count"),
        (document(gpu_count=9), "metadata.gpu_count"),
    ],
)
def test_a_file_that_aim_would_pass_over_is_refused_by_name(content: object, words: str, tmp_path: Path) -> None:
    error = refused(written(tmp_path, {f"profiles/{LLAMA}/bad.yaml": content}), "MI300X")
    assert error.message.startswith(f"profiles/{LLAMA}/bad.yaml")
    assert words in error.message


def test_a_file_that_is_not_text_or_not_readable_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, {"profiles/a.yaml": ""}) / "profiles/a.yaml"
    path.write_bytes(b"\xff\xfe")
    assert "not UTF-8" in refused(tmp_path, "MI300X").message
    path.unlink()
    path.symlink_to(tmp_path / "gone")
    assert "No such file" in refused(tmp_path, "MI300X").message


def test_profiles_that_are_not_there_are_missed(tmp_path: Path) -> None:
    assert "there is no such folder" in refused(tmp_path, "MI300X").message
    (tmp_path / "profiles").mkdir()
    assert "no profile is in it" in refused(tmp_path, "MI300X").message


def test_the_number_of_files_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MAXIMUM_FILES", 3)
    assert "more than 3 profiles" in refused(llama(tmp_path), "MI300X").message


def test_two_files_of_one_name_in_one_search_folder_are_refused(tmp_path: Path) -> None:
    written(tmp_path, {"profiles/a.yaml": document(), "profiles/more/a.yaml": document(model_id="acme/x")})
    error = refused(tmp_path, "MI300X")
    assert "two profiles are called a" in error.message
    assert "profiles/a.yaml or profiles/more/a.yaml" in error.hint


# The command line and the variables


@pytest.mark.parametrize(
    ("options", "environ", "expected"),
    [
        (Options(), {}, ()),
        (Options(), {"AIM_GPU_MODEL": "mi300x"}, (Target("MI300X"),)),
        (Options(), {"AIM_GPU_MODEL": "MI300X", "AIM_GPU_COUNT": "auto"}, (Target("MI300X"),)),
        (Options(), {"AIM_GPU_MODEL": "MI300X", "AIM_GPU_COUNT": "8"}, (Target("MI300X", 8),)),
        (Options(), {"AIM_GPU_MODEL": "MI300X", "AIM_METRIC": "AUTO"}, (Target("MI300X"),)),
        (Options(), {"AIM_GPU_MODEL": "MI300X", "AIM_METRIC": "throughput"}, (Target("MI300X", metric="throughput"),)),
        (Options(), {"AIM_GPU_MODEL": "MI300X", "AIM_PRECISION": "FP8"}, (Target("MI300X", precision="fp8"),)),
        (Options(), {"AIM_GPU_MODEL": "MI300X", "AIM_PRECISION": ""}, (Target("MI300X"),)),
        (Options(), {"AIM_GPU_MODEL": "NONE"}, ()),
        (Options(), {"AIM_PRECISION": "fp8"}, ()),
        (Options(), {"AIM_PROFILE_ID": "x"}, (Target(profile_id="x"),)),
        (Options(), {"AIM_GPU_MODEL": "MI300X", "AIM_ENGINE": "auto"}, (Target("MI300X"),)),
        (
            Options(),
            {"AIM_GPU_MODEL": "MI300X", "AIM_ALLOW_GENERAL_PROFILE_FALLBACK": "No"},
            (Target("MI300X", general_fallback=False),),
        ),
        (Options(("MI300X", "mi325x")), {"AIM_GPU_COUNT": "2"}, (Target("MI300X", 2), Target("MI325X", 2))),
        (Options(("MI300X:8", "MI325X")), {}, (Target("MI300X", 8), Target("MI325X"))),
        (Options(("MI300X", "MI300X:1")), {}, (Target("MI300X"),)),
        (Options(("NONE",)), {}, (Target("NONE", 0),)),
        (Options(("MI325X",), 2), {"AIM_GPU_MODEL": "MI300X", "AIM_GPU_COUNT": "8"}, (Target("MI325X", 2),)),
        (Options(("MI325X",)), {"AIM_PROFILE_ID": "x"}, (Target("MI325X"),)),
        (Options(precision="fp8"), {"AIM_GPU_MODEL": "MI300X", "AIM_PRECISION": "fp16"}, (Target("MI300X", 1, "fp8"),)),
        (Options(metric="throughput"), {"AIM_GPU_MODEL": "MI300X"}, (Target("MI300X", metric="throughput"),)),
        (Options(profile_id="y"), {"AIM_PROFILE_ID": "x"}, (Target(profile_id="y"),)),
    ],
)
def test_options_win_over_variables(options: Options, environ: dict[str, str], expected: tuple[Target, ...]) -> None:
    assert targets(options, environ) == expected


@pytest.mark.parametrize(
    ("options", "environ", "words"),
    [
        (Options(("H100",)), {}, "--gpu: unknown value 'H100'"),
        (Options(("UNKNOWN",)), {}, "--gpu: unknown value"),
        (Options(("MI300X:9",)), {}, "--gpu: '9'"),
        (Options(("MI300X",), -1), {}, "--gpu-count: '-1'"),
        (Options(("MI300X",), precision="fp12"), {}, "--precision: unknown value"),
        (Options(("MI300X",), metric="speed"), {}, "--metric: unknown value"),
        (Options(precision="fp8"), {}, "none is named"),
        (Options(gpu_count=1), {"AIM_GPU_MODEL": "NONE"}, "none is named"),
        (Options(), {"AIM_GPU_MODEL": "MI3000"}, "AIM_GPU_MODEL: unknown value"),
        (Options(), {"AIM_GPU_MODEL": "MI300X", "AIM_GPU_COUNT": "two"}, "AIM_GPU_COUNT: 'two'"),
        (Options(), {"AIM_GPU_MODEL": "MI300X", "AIM_GPU_COUNT": "٢"}, "AIM_GPU_COUNT"),
        (Options(), {"AIM_GPU_MODEL": "MI300X", "AIM_PRECISION": "half"}, "AIM_PRECISION: unknown value"),
        (Options(), {"AIM_GPU_MODEL": "MI300X", "AIM_ENGINE": "sglang"}, "AIM_ENGINE: unknown value"),
        (
            Options(),
            {"AIM_GPU_MODEL": "MI300X", "AIM_ALLOW_GENERAL_PROFILE_FALLBACK": "maybe"},
            "neither true nor false",
        ),
        (Options(), {"AIM_ID": "a/b", "AIM_MODEL_ID": "c/d"}, "both set"),
    ],
)
def test_what_aim_would_pass_over_is_refused(options: Options, environ: dict[str, str], words: str) -> None:
    with pytest.raises(ManifestError) as caught:
        Profiling.read(options, environ)
    assert words in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize("name", ["AIM_ID", "AIM_MODEL_ID"])
def test_a_variable_that_names_no_model_with_profiles_is_refused(name: str) -> None:
    profiling = Profiling.read(Options(), {name: "a/b"})
    profiling.check(["a/b", "c/d"])
    profiling.check([])
    with pytest.raises(ManifestError, match=name) as caught:
        profiling.check(["c/d"])
    assert "c/d" in caught.value.hint


def test_the_list_of_variables_is_the_one_that_is_read() -> None:
    read: set[str] = set()

    class Environ(dict[str, str]):
        def get(self, name: str, default: Any = None) -> Any:
            read.add(name)
            return super().get(name, default)

    Profiling.read(Options(), Environ(AIM_GPU_MODEL="MI300X"))
    assert read == set(VARIABLES)


def test_a_selection_of_nothing_is_explained_as_nothing() -> None:
    assert explained(Selection(LLAMA, ())) == []
    assert carried(model(), Selection(LLAMA, ())) == ()
