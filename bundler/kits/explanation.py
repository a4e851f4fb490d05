"""Why there is no kit: the error for what could not be resolved, in words for people.

* What has no wheel at all is named before what merely does not go together.
* Every distribution is named with those who ask for it, down to the root.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from packaging.specifiers import SpecifierSet
from packaging.version import Version

from bundler.kits.candidates import Candidates, Misfit, Project
from bundler.kits.constraints import Constraints
from bundler.kits.needs import Need, chain
from bundler.kits.target import Target
from manifests.errors import DigestMismatchError, SourceError, SourceNotFoundError, listing

_FIND_LINKS = "--find-links DIR with a wheel that was built by hand for it"


@dataclass(frozen=True, slots=True)
class Explainer:
    """Knows what there is and for whom; `asked_by` names the root."""

    candidates: Candidates
    target: Target
    constraints: Constraints
    asked_by: str

    def error(self, needs: Iterable[Need]) -> SourceError:
        """The error for needs of which not all can be met."""
        groups: dict[str, list[Need]] = {}
        for need in sorted(needs, key=lambda need: (need.key, str(need.specifier), chain(need, ""))):
            groups.setdefault(need.key[0], []).append(need)
        for name, group in groups.items():
            lacking = self._problem(group) if not name else self.lacking(self.candidates.project(name), group)
            if lacking is not None:
                return lacking
        return self._conflict(groups)

    def tangled(self, causes: Iterable[Need], *, rounds: int) -> SourceError:
        """The error for a search that was given up; `causes` are the needs that it failed of last."""
        told = self._each(sorted(causes, key=lambda need: (need.key, str(need.specifier), chain(need, ""))))
        return SourceError(
            f"no answer after {rounds} choices of versions; what did not go together last: {told}",
            hint="name versions that do with --constraint, or ask for fewer extras",
        )

    def lacking(self, project: Project, needs: Sequence[Need]) -> SourceError | None:
        """The error if no wheel could meet these needs; None if one could."""
        pin = self.constraints.pins.get(project.name)
        together = pin.specifier if pin else SpecifierSet()
        for need in needs:
            together &= need.specifier
        if project.choice(together):
            return None
        wheels = [wheel.version for wheel in project.wheels]
        if yanked := list(together.filter(wheels)):
            return self._yanked(project.name, yanked[0], needs)
        if not wheels and not project.misfits:
            return self._unknown(project.name, needs)
        if fitting := sorted(together.filter(project.misfits), reverse=True):
            return self._no_wheel(project, fitting[0], needs)
        alone = [need.specifier if pin is None else need.specifier & pin.specifier for need in needs]
        if len(alone) > 1 and all(list(specifier.filter([*wheels, *project.misfits])) for specifier in alone):
            return None
        return self._no_version(project, needs)

    def _unknown(self, name: str, needs: Sequence[Need]) -> SourceError:
        return SourceNotFoundError(
            f"{name} is in none of {self.candidates.places} indexes and find-links folders; {self._asked(needs)}",
            hint="look at its spelling and at pip's configuration, or name a folder that has its wheel: --find-links",
        )

    def _yanked(self, name: str, version: Version, needs: Sequence[Need]) -> SourceError:
        return SourceNotFoundError(
            f"what fits of {name} is yanked: {self._each(needs)}",
            hint=f"it is taken only if somebody asks for exactly {name}=={version}",
        )

    def _no_wheel(self, project: Project, version: Version, needs: Sequence[Need]) -> SourceError:
        misfits = project.misfits[version]
        refused = next((misfit for misfit in misfits if misfit.refused is not None), None)
        if refused is not None:
            return self._refused(project.name, refused)
        wanted = needs[0] if len(needs) == 1 else project.name
        return SourceNotFoundError(
            f"{wanted} has no wheel for {self.target}; {self._asked(needs)}",
            facts={f"{project.name} {version} has": listing(self._nearest_first(misfits))},
            hint=f"another --platform or --python, or {_FIND_LINKS}",
        )

    def _nearest_first(self, misfits: Sequence[Misfit]) -> list[str]:
        """What the files are for: first those of the target's machine, and among them those of its Python."""
        machine, python = self.target.environment["platform_machine"].lower(), self.target.tags[0].interpreter
        labels = {misfit.label for misfit in misfits}
        return sorted(labels, key=lambda label: (machine not in label, python not in label, label))

    def _refused(self, name: str, misfit: Misfit) -> SourceError:
        allowed = self.constraints.pins[name].digests
        return DigestMismatchError(
            subject=misfit.name,
            expected=f"what {self.constraints.subject} allows: {listing(sorted(map(str, allowed)))}",
            actual=misfit.refused,
            hint=f"{self.constraints.subject} must be that of a kit for {self.target}; "
            "if it is, ask who runs the index why the wheel is another one now",
        )

    def _no_version(self, project: Project, needs: Sequence[Need]) -> SourceError:
        pin = self.constraints.pins.get(project.name)
        held = f" and {self.constraints.subject} wants {pin.version}" if pin else ""
        versions = sorted({*project.misfits, *(wheel.version for wheel in project.wheels)}, reverse=True)
        return SourceNotFoundError(
            f"no version of {project.name} is as asked: {self._each(needs)}{held}",
            hint=f"there are: {listing(map(str, versions))}",
        )

    def _conflict(self, groups: dict[str, list[Need]]) -> SourceError:
        told = "; ".join(self._each(group) for group in groups.values())
        return SourceError(
            f"these do not go together: {told}",
            hint="ask for other versions, for fewer extras, or for another --python",
        )

    def _problem(self, needs: Sequence[Need]) -> SourceError:
        need = needs[0]
        return SourceError(f"{chain(need, self.asked_by)}: {need.problem}", hint=_FIND_LINKS)

    def _asked(self, needs: Sequence[Need]) -> str:
        return "asked for by " + " and by ".join(dict.fromkeys(chain(need, self.asked_by) for need in needs))

    def _each(self, needs: Sequence[Need]) -> str:
        return " and ".join(dict.fromkeys(f"{need} (for {chain(need, self.asked_by)})" for need in needs))
