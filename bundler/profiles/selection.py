"""Which profile AIM takes on a machine, and what becomes of all others.

Owns AIM's own rules (its runtime 0.9), so that a bundle carries what the site will ask for. Pure: profiles and targets
in, an explained selection out.
* A profile is out for the first thing that does not fit, in this order: engine, metric, AIM, GPU, exact number of
  GPUs, precision (unless any will do), and being for selection by hand only.
* Of those that are left: the folder they lie in (custom, the AIM's own, general), then the precision, then the type.
* A profile that is asked for by its id is taken, whatever else it says.
* Where AIM would take whichever file its disk lists first, and the models differ, nothing is chosen: that is an error.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Final

from manifests.errors import ManifestError, listing, printable
from manifests.manifest import PROFILE_METRICS, PROFILE_PRECISIONS, PROFILE_TYPES

ANY: Final = "auto"
"""The precision that leaves the choice to AIM."""
_NEAR: Final = 5
"""How many profiles an error shows that nearly fitted."""


class Place(IntEnum):
    """The folders that AIM searches, the first one first."""

    CUSTOM = 1
    OWN = 2
    GENERAL = 3


class Step(IntEnum):
    """What a profile is asked, in AIM's order. Who falls at a later one was nearer."""

    ID = 0
    ENGINE = 1
    METRIC = 2
    AIM = 3
    GPU = 4
    GPU_COUNT = 5
    PRECISION = 6
    MANUAL = 7
    ORDER = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """One way to run a model on one kind of machine. `gpu` is in capitals, the other words are in small letters.

    `model` is what the machine asks for, `org/name`; None for the model that the AIM is named after. `source` is where
    that comes from, if it is not the repository of that name.
    """

    id: str
    gpu: str
    gpu_count: int
    precision: str
    metric: str
    type: str
    engine: str = "vllm"
    manual_selection_only: bool = False
    place: Place = Place.OWN
    is_general: bool = False
    aim_id: str | None = None
    model: str | None = None
    source: str | None = None
    origin: str = ""
    """The file that says so, or the key path in the manifest."""
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()

    @property
    def rank(self) -> tuple[int, int, int]:
        """What AIM sorts by: the lowest is taken."""
        return self.place, PROFILE_PRECISIONS.index(self.precision), PROFILE_TYPES.index(self.type)


@dataclass(frozen=True, slots=True)
class Target:
    """A machine, and what is wanted of it. With `profile_id` nothing else counts."""

    gpu: str | None = None
    gpu_count: int = 1
    precision: str = ANY
    metric: str = PROFILE_METRICS[0]
    profile_id: str | None = None
    engine: str = "vllm"
    general_fallback: bool = True
    """Whether general profiles may be taken without being asked for by id."""

    @property
    def variables(self) -> dict[str, str]:
        """What AIM must be told on the site, so that it chooses the same there: it would take its own defaults."""
        if self.profile_id is not None:
            return {"AIM_PROFILE_ID": self.profile_id}
        told = {"AIM_GPU_COUNT": str(self.gpu_count)}
        if self.precision != ANY:
            told["AIM_PRECISION"] = self.precision
        if self.metric != PROFILE_METRICS[0]:
            told["AIM_METRIC"] = self.metric
        if not self.general_fallback:
            told["AIM_ALLOW_GENERAL_PROFILE_FALLBACK"] = "false"
        return told

    def __str__(self) -> str:
        if self.profile_id is not None:
            return f"profile {self.profile_id}"
        return f"{self.gpu_count} x {self.gpu}, precision {self.precision}, metric {self.metric}"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A profile, the step that decided on it, and the reason in words; empty for the one that is chosen."""

    profile: Profile
    step: Step
    reason: str = ""

    @property
    def kept(self) -> bool:
        """Whether it fits, and would be taken if it stood first."""
        return self.step is Step.ORDER


@dataclass(frozen=True, slots=True)
class Choice:
    """What a target gets. Candidates: the chosen one, those behind it in order, those that fell, the nearest first."""

    target: Target
    profile: Profile
    candidates: tuple[Candidate, ...]


@dataclass(frozen=True, slots=True)
class Selection:
    """A choice for every target, in the order of the targets. `aim_id` is None in an image that is for any model."""

    aim_id: str | None
    choices: tuple[Choice, ...]


def select(profiles: Iterable[Profile], targets: Iterable[Target], *, aim_id: str | None) -> Selection:
    """What AIM takes for each target in the image of `aim_id`; None is the image that is for any model.

    Errors: `ManifestError` if nothing fits a target, naming what came near; or if what AIM takes is left to chance.
    """
    known = tuple(_first_of_each(sorted(profiles, key=lambda profile: (profile.place, profile.origin, profile.id))))
    return Selection(aim_id, tuple(_choice(known, target, aim_id) for target in dict.fromkeys(targets)))


def _first_of_each(profiles: Sequence[Profile]) -> Iterator[Profile]:
    seen: dict[str, Profile] = {}
    for profile in profiles:
        earlier = seen.setdefault(profile.id, profile)
        if earlier is profile:
            yield profile
        elif earlier.place == profile.place:
            raise ManifestError(
                f"two profiles are called {profile.id}", hint=f"mend {earlier.origin} or {profile.origin}"
            )


def _choice(profiles: Sequence[Profile], target: Target, aim_id: str | None) -> Choice:
    if target.profile_id is not None:
        return _choice_by_id(profiles, target)
    candidates = [_candidate(profile, target, aim_id) for profile in profiles]
    kept = sorted((c for c in candidates if c.kept), key=lambda candidate: candidate.profile.rank)
    fallen = sorted((c for c in candidates if not c.kept), key=lambda candidate: -candidate.step)
    if not kept:
        raise _nothing(profiles, fallen, target, aim_id)
    best = kept[0].profile
    _refuse_chance([candidate.profile for candidate in kept], target, aim_id)
    behind = (replace(candidate, reason=_behind(candidate.profile, best)) for candidate in kept[1:])
    return Choice(target, best, (kept[0], *behind, *fallen))


def _choice_by_id(profiles: Sequence[Profile], target: Target) -> Choice:
    best = next((profile for profile in profiles if profile.id == target.profile_id), None)
    if best is None:
        there = listing(printable(profile.id) for profile in profiles)
        hint = f"there are: {there}" if profiles else "there are none at all"
        raise ManifestError(f"no profile is called {target.profile_id!r}", hint=hint)
    others = (Candidate(profile, Step.ID, "not the one that was asked for") for profile in profiles)
    return Choice(target, best, (Candidate(best, Step.ORDER), *(o for o in others if o.profile is not best)))


def _candidate(profile: Profile, target: Target, aim_id: str | None) -> Candidate:
    for step, reason in _REASONS:
        if words := reason(profile, target, aim_id):
            return Candidate(profile, step, words)
    return Candidate(profile, Step.ORDER)


def _engine(profile: Profile, target: Target, _: str | None) -> str:
    return "" if profile.engine == target.engine else f"its engine is {profile.engine}, not {target.engine}"


def _metric(profile: Profile, target: Target, _: str | None) -> str:
    return "" if profile.metric == target.metric else f"its metric is {profile.metric}, not {target.metric}"


def _aim(profile: Profile, _: Target, aim_id: str | None) -> str:
    if profile.is_general or profile.aim_id == aim_id:
        return ""
    return f"it belongs to {profile.aim_id}" + ("" if aim_id else ", and this image is for any model")


def _gpu(profile: Profile, target: Target, _: str | None) -> str:
    return "" if profile.gpu == target.gpu else f"it is for {profile.gpu}, not {target.gpu}"


def _gpu_count(profile: Profile, target: Target, _: str | None) -> str:
    if profile.gpu_count == target.gpu_count:
        return ""
    return f"its GPU count is {profile.gpu_count}, not {target.gpu_count}"


def _precision(profile: Profile, target: Target, _: str | None) -> str:
    if target.precision in {ANY, profile.precision}:
        return ""
    return f"its precision is {profile.precision}, not {target.precision}"


def _manual(profile: Profile, target: Target, _: str | None) -> str:
    if profile.manual_selection_only:
        return "it is taken only when asked for by its id"
    if profile.is_general and not target.general_fallback:
        return "general profiles are switched off"
    return ""


_REASONS: Final[tuple[tuple[Step, Callable[[Profile, Target, str | None], str]], ...]] = (
    (Step.ENGINE, _engine),
    (Step.METRIC, _metric),
    (Step.AIM, _aim),
    (Step.GPU, _gpu),
    (Step.GPU_COUNT, _gpu_count),
    (Step.PRECISION, _precision),
    (Step.MANUAL, _manual),
)


def _behind(profile: Profile, best: Profile) -> str:
    if profile.place != best.place:
        return f"{_PLACES[best.place]} come before {_PLACES[profile.place]}"
    if profile.precision != best.precision:
        return f"{best.precision} comes before {profile.precision}"
    if profile.type != best.type:
        return f"{best.type} comes before {profile.type}"
    return "as good as the one that is chosen, of the same model"


_PLACES: Final = {
    Place.CUSTOM: "custom profiles",
    Place.OWN: "the AIM's own profiles",
    Place.GENERAL: "general profiles",
}


def _refuse_chance(kept: Sequence[Profile], target: Target, aim_id: str | None) -> None:
    """Two of one rank: AIM takes the one that its disk lists first."""
    first = [profile for profile in kept if profile.rank == kept[0].rank]
    if len({(profile.model or aim_id, profile.source, profile.include, profile.exclude) for profile in first}) > 1:
        raise ManifestError(
            f"{target}: {len(first)} profiles are equally good and name different models: AIM takes any of them",
            hint="ask for one by its id, or remove the others",
            facts={printable(profile.id): profile.model or "the AIM's own model" for profile in first},
        )


def _nothing(
    profiles: Sequence[Profile], fallen: Sequence[Candidate], target: Target, aim_id: str | None
) -> ManifestError:
    fitting = [profile for profile in profiles if profile.is_general or profile.aim_id == aim_id]
    machines = sorted({f"{profile.gpu_count} x {profile.gpu}" for profile in fitting})
    by_hand = next((candidate.profile.id for candidate in fallen if candidate.step is Step.MANUAL), None)
    if by_hand is not None:
        hint = f"take one by its id: AIM_PROFILE_ID={by_hand}, here and on the site"
    else:
        hint = f"there are profiles for {listing(machines)}" if machines else "there are no profiles for it at all"
    return ManifestError(
        f"{aim_id or 'an image for any model'}: no profile fits {target}",
        hint=hint,
        facts={printable(candidate.profile.id): candidate.reason for candidate in fallen[:_NEAR]},
    )
