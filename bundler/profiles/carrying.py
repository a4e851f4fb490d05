"""From a model with profiles to the models that are carried: one for each repository that a machine will ask for.

A machine looks for the folder `ORG/MODEL` of the profile's model, not of the AIM; so the id of what is carried is that
of the repository. The id of the manifest stays an alias, which makes no folder: under a folder of that name, a profile
of another precision would find weights that are not its own.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from bundler.profiles import files
from bundler.profiles.selection import Choice, Profile, Selection, select
from bundler.profiles.targets import Profiling
from manifests.errors import ManifestError, listing
from manifests.manifest import ModelRequest, ProfileRequest
from manifests.naming import checked_id


@dataclass(frozen=True, slots=True)
class Carried:
    """A model to carry, which has no profiles any more, and what was chosen that asks for it."""

    request: ModelRequest
    choices: tuple[Choice, ...]


def profiles_of(model: ModelRequest, *, base: Path, aim_id: str | None) -> tuple[Profile, ...]:
    """The profiles of a model of a manifest that lies in `base`: out of its list, or out of AIM's own files."""
    if isinstance(model.profiles, str):
        return files.read(base / model.profiles, aim_id=aim_id)
    return tuple(_listed(model, profile, number) for number, profile in enumerate(model.profiles))


def selected(model: ModelRequest, profiling: Profiling, *, base: Path) -> Selection:
    """What the machines that the lock is for ask of `model`. Errors: `ManifestError`, also if no machine is named."""
    aim_id = profiling.aim_of(model.id)
    known = profiles_of(model, base=base, aim_id=aim_id)
    if not profiling.targets:
        machines = sorted({f"{profile.gpu}:{profile.gpu_count}" for profile in known})
        raise ManifestError(
            f"model {model.id!r} has profiles, and nothing says for which machine to choose",
            hint=f"--gpu GPU:COUNT, once for each kind of machine: {listing(machines)}; or AIM_GPU_MODEL",
        )
    named = aim_id if isinstance(model.profiles, str) else model.id
    return select(known, profiling.targets, aim_id=named)


def carried(model: ModelRequest, selection: Selection) -> tuple[Carried, ...]:
    """The models to carry in the place of `model`, in the order in which the machines ask for them.

    Errors: `ManifestError` if two profiles want different files under one id; `NamingError` for an unusable id.
    """
    found: dict[str, Carried] = {}
    for choice in selection.choices:
        request = _request(model, choice.profile)
        earlier = found.setdefault(request.id, Carried(request, ()))
        if earlier.request != request:
            raise ManifestError(
                f"model {model.id!r}: two machines want different files under the one id {request.id!r}",
                hint="make a bundle for each, or name repositories with different names",
            )
        found[request.id] = replace(earlier, choices=(*earlier.choices, choice))
    return _named(model, found)


def _named(model: ModelRequest, found: dict[str, Carried]) -> tuple[Carried, ...]:
    """With the manifest's names: at the model that it means, or else at what the first machine asks for."""
    if not found:
        return ()
    bearer = model.id if model.id in found else next(iter(found))
    names = tuple(name for name in (model.id, *model.aliases) if name not in found)
    request = msgspec.structs.replace(found[bearer].request, aliases=names)
    found[bearer] = replace(found[bearer], request=request)
    return tuple(found.values())


def _request(model: ModelRequest, profile: Profile) -> ModelRequest:
    is_own = profile.model in {None, model.id}
    own_source = model.source if is_own else None
    return msgspec.structs.replace(
        model,
        id=checked_id(profile.model or model.id),
        aliases=(),
        license=model.license if is_own else None,
        source=profile.source or own_source or f"hf://{profile.model or model.id}",
        include=profile.include or model.include,
        exclude=profile.exclude or model.exclude,
        profiles=(),
    )


def _listed(model: ModelRequest, profile: ProfileRequest, number: int) -> Profile:
    gpu, precision, metric = profile.gpu.upper(), profile.precision.lower(), profile.metric.lower()
    usual = f"{profile.engine.lower()}-{gpu.lower()}-{precision}-tp{profile.gpu_count}-{metric}"
    return Profile(
        id=profile.id or usual,
        gpu=gpu,
        gpu_count=profile.gpu_count,
        precision=precision,
        metric=metric,
        type=profile.type.lower(),
        engine=profile.engine.lower(),
        manual_selection_only=profile.manual_selection_only,
        aim_id=model.id,
        model=files.repository(profile.source) if profile.source and "://" in profile.source else None,
        source=profile.source,
        origin=f"profiles[{number}]",
        include=profile.include,
        exclude=profile.exclude,
    )
