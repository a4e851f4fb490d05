"""Who asks for what while a kit is resolved, and how that is told to people.

* Every need leads back to a root: its asker is a candidate, and a candidate keeps the need that it was chosen for.
* A distribution and each of its extras are asked for apart: `key` is the canonical name and the extra, or "".
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from bundler.kits.candidates import Wheel

Key: TypeAlias = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Need:
    """A distribution, or an extra of it, that somebody asks for; `asker` is None for a root.

    With a `problem`, nothing can meet it: that is what is wrong with its asker.
    """

    key: Key
    specifier: SpecifierSet
    asker: "Candidate | None"
    problem: str = ""

    def __str__(self) -> str:
        return f"{_label(self.key)}{self.specifier}"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A wheel that could meet a need: the first that it was looked at for is `need`."""

    key: Key
    wheel: Wheel
    need: Need = field(compare=False)

    def __str__(self) -> str:
        return f"{_label(self.key)} {self.wheel.version}"


def needs_of(requirement: Requirement, asker: Candidate | None) -> Iterator[Need]:
    """The needs that a requirement, whose marker is already answered, comes to."""
    name = canonicalize_name(requirement.name)
    if requirement.url is not None:
        yield hopeless(asker, f"{name} is asked for by an address, and a kit takes wheels of indexes only")
        return
    for extra in ("", *sorted({canonicalize_name(extra) for extra in requirement.extras})):
        yield Need((name, extra), requirement.specifier, asker)


def same_version(candidate: Candidate) -> Need:
    """What an extra needs of its own distribution."""
    return Need((candidate.key[0], ""), SpecifierSet(f"==={candidate.wheel.version}"), candidate)


def hopeless(asker: Candidate | None, problem: str) -> Need:
    """What makes `asker` impossible."""
    return Need(("", problem), SpecifierSet(), asker, problem)


def chain(need: Need, asked_by: str) -> str:
    """Who asks, for whom, down to the root, which `asked_by` names."""
    askers: list[str] = []
    while need.asker is not None:
        askers.append(str(need.asker))
        need = need.asker.need
    return ", for ".join([*askers, asked_by])


def _label(key: Key) -> str:
    return f"{key[0]}[{key[1]}]" if key[1] else key[0]
