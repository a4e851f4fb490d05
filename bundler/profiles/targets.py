"""For which machines to choose: what the command line says, and what the AIM_* variables say.

* Options win. The variables mean what they mean to AIM, but for this: AIM takes its default for a value that it does
  not know; here that is an error, because on the site it would choose another model than meant.
* AIM_PROFILE_ID counts only while no option chooses.
* What is wrong in the variables is an error for a manifest with profiles, and nothing to one that has none.
* AIM_ID and AIM_MODEL_ID name a model of the manifest, and say which kind of image will run it.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Self

from bundler.profiles.selection import ANY, Target
from manifests.errors import ManifestError, listing
from manifests.manifest import (
    PROFILE_ENGINES,
    PROFILE_GPU_COUNT,
    PROFILE_GPUS,
    PROFILE_METRICS,
    PROFILE_PRECISIONS,
)

VARIABLES: Final = (
    "AIM_ALLOW_GENERAL_PROFILE_FALLBACK",
    "AIM_ENGINE",
    "AIM_GPU_COUNT",
    "AIM_GPU_MODEL",
    "AIM_ID",
    "AIM_METRIC",
    "AIM_MODEL_ID",
    "AIM_PRECISION",
    "AIM_PROFILE_ID",
)
_NO_GPU: Final = "NONE"
_COUNTED: Final = re.compile(r"(?P<gpu>[^:]*):(?P<count>[0-9]{1,3})")
_YES: Final = frozenset({"true", "yes", "1"})
_NO: Final = frozenset({"false", "no", "0"})


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says: `--gpu` as often as there are kinds of machines, `MI300X` or `MI300X:8`."""

    gpus: tuple[str, ...] = ()
    gpu_count: int | None = None
    precision: str | None = None
    metric: str | None = None
    profile_id: str | None = None

    def __bool__(self) -> bool:
        return self != Options()


@dataclass(frozen=True, slots=True)
class Profiling:
    """The machines that a lock is made for; none, if nobody named one. `aim_id`, `model_id` are what variables name."""

    targets: tuple[Target, ...] = ()
    aim_id: str | None = None
    model_id: str | None = None
    trouble: ManifestError | None = None
    """What is wrong in the variables, for whoever chooses by them."""

    def __bool__(self) -> bool:
        return bool(self.targets) or self.trouble is not None

    @classmethod
    def of(cls, options: Options, environ: Mapping[str, str]) -> Self:
        """As `read`, but an error in the variables alone waits until a profile is to be chosen."""
        try:
            return cls.read(options, environ)
        except ManifestError as error:
            if options:
                raise
            return cls(trouble=error)

    @classmethod
    def read(cls, options: Options, environ: Mapping[str, str]) -> Self:
        """What `options` and `environ` say. Errors: `ManifestError`, naming the option or the variable."""
        aim_id, model_id = environ.get("AIM_ID") or None, environ.get("AIM_MODEL_ID") or None
        if aim_id and model_id:
            raise ManifestError(
                "AIM_ID and AIM_MODEL_ID are both set, which AIM refuses",
                hint="AIM_ID is for the image of one model, AIM_MODEL_ID for the image that is for any",
            )
        return cls(targets(options, environ), aim_id, model_id)

    def check(self, ids: Iterable[str]) -> None:
        """`ManifestError` if AIM_ID or AIM_MODEL_ID names none of `ids`: the models that have profiles."""
        if self.trouble is not None:
            raise self.trouble
        known = sorted(ids)
        for name, value in (("AIM_ID", self.aim_id), ("AIM_MODEL_ID", self.model_id)):
            if value is not None and known and value not in known:
                raise ManifestError(
                    f"{name} is {value!r}, and no model of that id has profiles",
                    hint=f"with profiles: {listing(known)}; or unset {name}",
                )

    def aim_of(self, model_id: str) -> str | None:
        """The AIM whose image runs a model: the one of its id, or None for the image that is for any model."""
        return None if model_id == self.model_id else model_id


NOBODY: Final = Profiling()
"""No machine is named."""


def targets(options: Options, environ: Mapping[str, str]) -> tuple[Target, ...]:
    """The machines that `options` name, or else the one that `environ` does; none if neither does.

    Errors: `ManifestError`, naming the option or the variable, and the values that it can have.
    """
    profile_id = options.profile_id or ("" if options else environ.get("AIM_PROFILE_ID")) or None
    precision = _word("--precision", options.precision, "AIM_PRECISION", environ, (ANY, *PROFILE_PRECISIONS))
    metric = _word("--metric", options.metric, "AIM_METRIC", environ, (ANY, *PROFILE_METRICS))
    engine = _word("", None, "AIM_ENGINE", environ, (ANY, *PROFILE_ENGINES))
    machines = _machines(options, environ)
    if not machines and profile_id is None:
        _refuse_without_machine(options)
        return ()
    found = (
        Target(
            gpu=gpu,
            gpu_count=count,
            precision=precision or ANY,
            metric=PROFILE_METRICS[0] if metric in {None, ANY} else str(metric),
            profile_id=profile_id,
            engine=PROFILE_ENGINES[0] if engine in {None, ANY} else str(engine),
            general_fallback=_fallback(environ),
        )
        for gpu, count in machines or [(None, 1)]
    )
    return tuple(dict.fromkeys(found))


def _refuse_without_machine(options: Options) -> None:
    if options:
        raise ManifestError(
            "--gpu-count, --precision and --metric choose for a GPU, and none is named",
            hint=f"--gpu MI300X; known: {', '.join(PROFILE_GPUS)}",
        )


def _machines(options: Options, environ: Mapping[str, str]) -> list[tuple[str | None, int]]:
    """Every GPU with how many there are of it; `AIM_GPU_MODEL=NONE` leaves it to AIM to look, and so names none."""
    usual = _usual_count(options, environ)
    if options.gpus:
        return [_machine(word, usual) for word in options.gpus]
    gpu = _word("", None, "AIM_GPU_MODEL", environ, (*PROFILE_GPUS, "UNKNOWN"))
    if gpu is None or gpu in {_NO_GPU, "UNKNOWN"}:
        return []
    return [(gpu, 1 if usual is None else usual)]


def _machine(word: str, usual: int | None) -> tuple[str, int]:
    counted = _COUNTED.fullmatch(word)
    gpu = _known("--gpu", counted["gpu"] if counted else word, PROFILE_GPUS)
    if counted:
        return gpu, _checked_count("--gpu", counted["count"])
    return gpu, usual if usual is not None else int(gpu != _NO_GPU)


def _usual_count(options: Options, environ: Mapping[str, str]) -> int | None:
    if options.gpu_count is not None:
        return _checked_count("--gpu-count", str(options.gpu_count))
    text = environ.get("AIM_GPU_COUNT") or ANY
    return None if text.lower() == ANY else _checked_count("AIM_GPU_COUNT", text)


def _checked_count(name: str, text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,3}", text) or int(text) > PROFILE_GPU_COUNT:
        raise ManifestError(f"{name}: {text!r} is no number of GPUs", hint=f"0 to {PROFILE_GPU_COUNT}")
    return int(text)


def _word(
    option: str, given: str | None, variable: str, environ: Mapping[str, str], known: tuple[str, ...]
) -> str | None:
    if given is not None:
        return _known(option, given, known)
    return _known(variable, environ[variable], known) if environ.get(variable) else None


def _known(name: str, text: str, known: tuple[str, ...]) -> str:
    """The one of `known` that `text` is, however it is capitalised."""
    found = next((word for word in known if word.lower() == text.lower()), None)
    if found is None:
        raise ManifestError(f"{name}: unknown value {text!r}", hint="one of " + ", ".join(known))
    return found


def _fallback(environ: Mapping[str, str]) -> bool:
    name = "AIM_ALLOW_GENERAL_PROFILE_FALLBACK"
    text = environ.get(name, "").lower()
    if text and text not in _YES | _NO:
        raise ManifestError(f"{name}: {text!r} is neither true nor false", hint="true, yes, 1, false, no or 0")
    return text not in _NO
