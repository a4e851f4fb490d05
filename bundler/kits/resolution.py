"""From what is asked for to the wheels of a kit, for a machine that is not this one.

    target = Target.parse("manylinux_2_28_x86_64", "3.11")
    found = resolve(roots, target, packages=settings.packages, client=client, store=store, reporter=reporter,
                    constraints=constraints_of(text, subject="requirements.txt"),   # optional
                    asked_by="offline-bundle 0.1.0")                                # optional: for messages

* The newest versions that go together, pre-releases and yanked ones only as pip would take them; wheels only.
* Markers, Requires-Python and tags are the target's. The same indexes and roots give the same wheels.
* A distribution that no place has a wheel of is an error as soon as it is needed. Once versions had to be given up,
  it is one more reason to give up a version, because old ones need what nobody has any more.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from resolvelib import AbstractProvider, BaseReporter, ResolutionImpossible, ResolutionTooDeep, Resolver
from resolvelib.structs import RequirementInformation

from bundler.http import Client
from bundler.intake import Intake
from bundler.kits.candidates import Candidates, is_pinned
from bundler.kits.constraints import Constraints
from bundler.kits.explanation import Explainer
from bundler.kits.metadata import MetadataReader
from bundler.kits.needs import Candidate, Key, Need, hopeless, needs_of, same_version
from bundler.kits.target import Target
from bundler.pip_settings import PackageIndexes
from bundler.sources.base import Found
from manifests.errors import listing
from manifests.progress import Reporter
from manifests.store import Store

_ROUNDS: Final = 2_000
"""Choices after which a puzzle counts as having no answer: some seconds of work. A kit takes about fifty."""


def resolve(
    roots: Sequence[Requirement],
    target: Target,
    *,
    packages: PackageIndexes,
    client: Client,
    store: Store,
    reporter: Reporter,
    constraints: Constraints | None = None,
    asked_by: str = "this kit",
) -> tuple[Found, ...]:
    """The wheels that `roots` come to on `target`, by canonical name, each distribution once.

    A program that no index has (our own wheel, in memory) is no root: its requirements are, see `requirements_of` in
    `bundler.kits.metadata`. `Found.path` is the wheel's file name; `Found.digest` is None only for a file of this
    machine. Wheels whose METADATA no index has by itself are in the store afterwards.

    Errors: `SourceNotFoundError` for what has no wheel for the target; `DigestMismatchError`; other `SourceError`, also
    for versions that do not go together; `StorageError`.
    """
    chosen = constraints or Constraints()
    candidates = Candidates(packages, client, target, chosen)
    explainer = Explainer(candidates, target, chosen, asked_by)
    with Intake(store, client, reporter) as intake:
        reader = MetadataReader(client, store, intake)
        observer = _Observer(reporter)
        provider = _Provider(candidates, reader, target, chosen, explainer, observer)
        needs = [need for root in roots if target.needs(root.marker) for need in needs_of(root, None)]
        candidates.read_ahead(need.key[0] for need in needs if not need.problem)
        answer = _answer(Resolver(provider, observer), needs, explainer, observer)
        _note(answer, reader, reporter)
    wheels = {key[0]: candidate.wheel for key, candidate in answer.items()}
    found = tuple(wheels[name].found for name in sorted(wheels))
    for name in sorted(wheels):
        if (own := candidates.project(name).passed_over(wheels[name])) is not None:
            reporter.note(f"{own} of find-links is passed over: {wheels[name].version} of an index is newer")
    if constraints is not None and (free := sorted(wheels.keys() - constraints.pins)):
        reporter.note(f"{constraints.subject} does not name, so that the newest is taken: {listing(free)}")
    for one in found:
        for warning in one.warnings:
            reporter.note(warning)
    return found


def _answer(
    resolver: "Resolver[Need, Candidate, Key]", needs: Iterable[Need], explainer: Explainer, observer: "_Observer"
) -> Mapping[Key, Candidate]:
    try:
        return resolver.resolve(needs, max_rounds=_ROUNDS).mapping
    except ResolutionImpossible as error:
        raise explainer.error(cause.requirement for cause in error.causes) from error
    except ResolutionTooDeep as error:
        raise explainer.tangled(observer.causes, rounds=_ROUNDS) from error


def _note(answer: Mapping[Key, Candidate], reader: MetadataReader, reporter: Reporter) -> None:
    """Tell of extras that were asked for and do not exist."""
    for (_, extra), candidate in sorted(answer.items()):
        if extra and extra not in reader.describe(candidate.wheel).extras:
            reporter.note(f"{candidate.wheel} has no extra {extra}")


class _Observer(BaseReporter[Need, Candidate, Key]):
    """Notices when a version had to be given up, and tells of it."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter
        self.went_back = False
        self.causes: tuple[Need, ...] = ()
        """What did not go together the last time."""

    def resolving_conflicts(self, causes: "Collection[RequirementInformation[Need, Candidate]]") -> None:
        """Remember what does not go together."""
        self.causes = tuple(cause.requirement for cause in causes)

    def rejecting_candidate(self, criterion: Any, candidate: Candidate) -> None:
        """Say which version does not go with the others."""
        self.went_back = True
        needs = ", ".join(dict.fromkeys(need.problem or str(need) for need in criterion.iter_requirement()))
        self._reporter.note(f"{candidate} cannot be taken because of {needs}; trying another version")


class _Provider(AbstractProvider[Need, Candidate, Key]):
    """What the resolver asks: who meets which need, and what that needs in turn."""

    def __init__(
        self,
        candidates: Candidates,
        reader: MetadataReader,
        target: Target,
        constraints: Constraints,
        explainer: Explainer,
        observer: _Observer,
    ) -> None:
        self._candidates = candidates
        self._reader = reader
        self._target = target
        self._pins = constraints.pins
        self._explainer = explainer
        self._observer = observer

    def identify(self, requirement_or_candidate: Need | Candidate) -> Key:
        """Its key."""
        return requirement_or_candidate.key

    def get_preference(
        self,
        identifier: Key,
        resolutions: Mapping[Key, Candidate],  # noqa: ARG002 - the resolver gives it by name
        candidates: Mapping[Key, Iterator[Candidate]],  # noqa: ARG002 - so is this
        information: "Mapping[Key, Iterator[RequirementInformation[Need, Candidate]]]",
        backtrack_causes: "Sequence[RequirementInformation[Need, Candidate]]",
    ) -> tuple[bool, bool, bool, Key]:
        """First what made the resolver go back, then what is pinned, then what is narrowed; then by name."""
        needs = [entry.requirement for entry in information[identifier]]
        culprit = any(identifier in _keys(cause) for cause in backtrack_causes)
        pinned = identifier[0] in self._pins or any(is_pinned(need.specifier) for need in needs)
        return (not culprit, not pinned, not any(need.specifier for need in needs), identifier)

    def find_matches(
        self,
        identifier: Key,
        requirements: Mapping[Key, Iterator[Need]],
        incompatibilities: Mapping[Key, Iterator[Candidate]],
    ) -> Sequence[Candidate]:
        """What meets all needs of `identifier`, the newest first."""
        name, extra = identifier
        needs = list(requirements[identifier])
        if needs[0].problem:
            return []
        if extra and (name, "") in requirements:
            needs += requirements[name, ""]
        project = self._candidates.project(name)
        if not project.wheels and not self._observer.went_back:
            raise self._explainer.error(needs)
        specifier = self._pins[name].specifier if name in self._pins else SpecifierSet()
        for need in needs:
            specifier &= need.specifier
        tried = {candidate.wheel.version for candidate in incompatibilities[identifier]}
        wheels = project.choice(specifier)
        return [Candidate(identifier, wheel, needs[0]) for wheel in wheels if wheel.version not in tried]

    def is_satisfied_by(self, requirement: Need, candidate: Candidate) -> bool:
        """Whether the version is one of those asked for."""
        return requirement.specifier.contains(candidate.wheel.version, prereleases=True)

    def get_dependencies(self, candidate: Candidate) -> Iterable[Need]:
        """What the wheel requires on the target; of an extra, what comes with that alone, and the distribution."""
        described = self._reader.describe(candidate.wheel)
        if described.problem:
            return [hopeless(candidate, described.problem)]
        if not self._target.takes(described.pythons):
            return [
                hopeless(candidate, f"it needs Python {described.pythons}, and not every {self._target.python} is that")
            ]
        required, extra = described.requires(self._target), candidate.key[1]
        needs: list[Need] = []
        if extra:
            needs.append(same_version(candidate))
            required = tuple(one for one in described.requires(self._target, {extra}) if one not in required)
        for requirement in required:
            needs += needs_of(requirement, candidate)
        self._candidates.read_ahead(need.key[0] for need in needs if not need.problem)
        return needs


def _keys(cause: "RequirementInformation[Need, Candidate]") -> tuple[Key, ...]:
    return (cause.requirement.key, *((cause.parent.key,) if cause.parent is not None else ()))
