"""A selection in words: for people, line by line, and for programs."""

from collections.abc import Iterator

from bundler.profiles.selection import Candidate, Choice, Profile, Selection, Step


def explained(selection: Selection) -> list[str]:
    """For each target: what was chosen, what stands behind it, and why everything else fell."""
    return [line for choice in selection.choices for line in _lines(choice, selection.aim_id)]


def to_dict(selection: Selection) -> dict[str, object]:
    """The same for a program."""
    return {"aim_id": selection.aim_id, "targets": [_choice(choice) for choice in selection.choices]}


def _lines(choice: Choice, aim_id: str | None) -> Iterator[str]:
    yield f"{aim_id or 'an image for any model'}, {choice.target}:"
    yield f"  chosen   {choice.profile.id}: {_model(choice.profile, aim_id)}"
    for candidate in choice.candidates:
        if candidate.profile is not choice.profile and candidate.step is not Step.ID:
            yield f"  {'behind ' if candidate.kept else 'dropped'}  {candidate.profile.id}: {candidate.reason}"
    if choice.target.profile_id is not None:
        yield "  asked for by its id: no other was looked at"
    yield "  on the site, tell AIM: " + " ".join(f"{name}={value}" for name, value in choice.target.variables.items())


def _model(profile: Profile, aim_id: str | None) -> str:
    if profile.model in {None, aim_id}:
        return "the AIM's own model" if aim_id else "the model that the image is told"
    return f"the model is {profile.model}" + (f", another than {aim_id}" if aim_id else "")


def _choice(choice: Choice) -> dict[str, object]:
    target = choice.target
    return {
        "gpu": target.gpu,
        "gpu_count": target.gpu_count,
        "precision": target.precision,
        "metric": target.metric,
        "profile_id": target.profile_id,
        "site_variables": target.variables,
        "chosen": choice.profile.id,
        "model": choice.profile.model,
        "candidates": [_candidate(candidate, choice) for candidate in choice.candidates],
    }


def _candidate(candidate: Candidate, choice: Choice) -> dict[str, object]:
    is_chosen = candidate.profile is choice.profile
    return {
        "profile": candidate.profile.id,
        "origin": candidate.profile.origin,
        "verdict": "chosen" if is_chosen else "behind" if candidate.kept else "dropped",
        "step": candidate.step.name.lower().replace("_", "-"),
        "reason": candidate.reason,
    }
