"""A finding of `doctor`: what was looked at, what is so, and what to type if it should not be so.

* Both sides report in this one value. A warning or a problem cannot be made without its fix.
* A look that fails is a finding too: it hides none of the others.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, TypeAlias, TypeVar

from manifests.errors import BundleError

_Seen = TypeVar("_Seen")


class Verdict(StrEnum):
    """How much it matters, worst first."""

    PROBLEM = "problem"
    """Something does not work."""
    WARNING = "warning"
    """It works, and will hurt."""
    NOTE = "note"
    """Worth knowing; nothing need be done."""
    FINE = "fine"


_ORDER = tuple(Verdict)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was found. `code` stays the same for scripts; `what` is one sentence; `fix` is what to do."""

    subject: str
    verdict: Verdict
    code: str
    what: str
    fix: str = ""

    def to_dict(self) -> dict[str, str]:
        """What `--json` prints."""
        return {
            "subject": self.subject,
            "verdict": self.verdict.value,
            "code": self.code,
            "what": self.what,
            "fix": self.fix,
        }


@dataclass(frozen=True, slots=True)
class Subject:
    """What is looked at: makes the findings that carry its name."""

    name: str

    def fine(self, code: str, what: str) -> Finding:
        """As it should be."""
        return Finding(self.name, Verdict.FINE, code, what)

    def note(self, code: str, what: str, fix: str = "") -> Finding:
        """Worth knowing."""
        return Finding(self.name, Verdict.NOTE, code, what, fix)

    def warning(self, code: str, what: str, *, fix: str) -> Finding:
        """It works, and will hurt."""
        return Finding(self.name, Verdict.WARNING, code, what, fix)

    def problem(self, code: str, what: str, *, fix: str) -> Finding:
        """Something does not work."""
        return Finding(self.name, Verdict.PROBLEM, code, what, fix)


Check: TypeAlias = tuple[Subject, Callable[[], Iterable[Finding]]]
"""What is looked at, and the look."""


_UNFORESEEN: Final = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RuntimeError, ImportError)
"""What libraries raise over something that nobody thought of. `doctor` is run where things are odd."""


def examine(checks: Iterable[Check]) -> list[Finding]:
    """The findings of all checks, each once, worst first; those of one verdict in the order of the checks."""
    found = dict.fromkeys(finding for subject, check in checks for finding in _attempt(subject, check))
    return sorted(found, key=lambda finding: _ORDER.index(finding.verdict))


def worst(findings: Sequence[Finding]) -> Verdict:
    """The worst verdict of all; `fine` for none."""
    return min((finding.verdict for finding in findings), key=_ORDER.index, default=Verdict.FINE)


def seen(subject: Subject, see: Callable[[], _Seen], *, instead: _Seen, failed: list[Finding]) -> _Seen:
    """What `see` returns, for the looks that need it; `instead`, and a finding more in `failed`, if it fails."""
    try:
        return see()
    except (BundleError, OSError, *_UNFORESEEN) as error:
        failed.append(_failure(subject, error))
        return instead


def _attempt(subject: Subject, check: Callable[[], Iterable[Finding]]) -> list[Finding]:
    found: list[Finding] = []
    try:
        found.extend(check())
    except (BundleError, OSError, *_UNFORESEEN) as error:
        found.append(_failure(subject, error))
    return found


def _failure(subject: Subject, error: Exception) -> Finding:
    """What a look that failed means."""
    if isinstance(error, BundleError):
        return subject.problem("cannot-look", error.message, fix=error.hint or "mend what the message names")
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        what = f"this could not be looked at: {where}{error.strerror or error}"
        denied = isinstance(error, PermissionError)
        fix = "run `bundle doctor` again as the owner of that folder" if denied else "look at that path and at its disk"
        return subject.warning("cannot-look", what, fix=fix)
    what = f"this could not be looked at: {type(error).__name__}: {error}"
    return subject.warning("cannot-look", what, fix="this is a bug in bundle: please report it with this line")
