"""A manifest with profiles, for the machines that its lock is made for: the same without profiles.

* What was chosen, and for which machines, is recorded in the lock: a later `lock` or `build` that names no machine
  takes those, and comes to the same manifest as long as no profile changed.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from bundler.profiles.carrying import Carried, carried, selected
from bundler.profiles.selection import Selection, Target
from bundler.profiles.targets import Profiling
from manifests.errors import ManifestError
from manifests.lock import Lock, LockedProfile
from manifests.manifest import Manifest, ModelRequest


@dataclass(frozen=True, slots=True)
class Expanded:
    """A manifest without profiles, and what was chosen to come to it: a selection for each model that had some."""

    manifest: Manifest
    selections: tuple[Selection, ...] = ()
    profiles: tuple[LockedProfile, ...] = ()

    def ids(self, asked: Iterable[str]) -> frozenset[str]:
        """The ids of what is carried for the models of these ids."""
        wanted = set(asked)
        return frozenset(wanted | {profile.carried for profile in self.profiles if profile.model in wanted})


def expand(manifest: Manifest, profiling: Profiling, *, base: Path) -> Expanded:
    """`manifest`, which lies in `base`, for the machines of `profiling`.

    Errors: `ManifestError` where nothing fits, or no machine is named; `NamingError` for an unusable id.
    """
    if not any(model.profiles for model in manifest.models):
        return Expanded(manifest)
    profiling.check(model.id for model in manifest.models if model.profiles)
    models: list[ModelRequest] = []
    selections: list[Selection] = []
    profiles: list[LockedProfile] = []
    for model in manifest.models:
        if not model.profiles:
            models.append(model)
            continue
        selection = selected(model, profiling, base=base)
        selections.append(selection)
        for each in carried(model, selection):
            models.append(each.request)
            profiles += _locked(model.id, each, is_for_any=model.id == profiling.model_id)
    return Expanded(msgspec.structs.replace(manifest, models=tuple(models)), tuple(selections), tuple(profiles))


def recorded(lock: Lock | None) -> Profiling:
    """The machines that `lock` was made for; none if it records none."""
    profiles = lock.profiles if lock else ()
    any_model = next((profile.model for profile in profiles if profile.is_for_any), None)
    return Profiling(tuple(dict.fromkeys(map(_target, profiles))), model_id=any_model)


def refuse_unused(manifest: Manifest, path: Path) -> None:
    """`ManifestError` for a manifest in which no machine could choose anything."""
    if not any(model.profiles for model in manifest.models):
        raise ManifestError(
            f"{path}: --gpu, --gpu-count, --precision and --metric choose among `profiles`, and no model has any",
            hint="leave the options out, or give a model `profiles:`",
        )


def _locked(model_id: str, each: Carried, *, is_for_any: bool) -> list[LockedProfile]:
    return [
        LockedProfile(
            model=model_id,
            carried=each.request.id,
            profile=choice.profile.id,
            gpu=choice.target.gpu,
            gpu_count=choice.target.gpu_count,
            precision=choice.target.precision,
            metric=choice.target.metric,
            engine=choice.target.engine,
            by_id=choice.target.profile_id is not None,
            general_fallback=choice.target.general_fallback,
            is_for_any=is_for_any,
        )
        for choice in each.choices
    ]


def _target(profile: LockedProfile) -> Target:
    return Target(
        gpu=profile.gpu,
        gpu_count=profile.gpu_count,
        precision=profile.precision,
        metric=profile.metric,
        profile_id=profile.profile if profile.by_id else None,
        engine=profile.engine,
        general_fallback=profile.general_fallback,
    )
