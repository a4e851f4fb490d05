"""Whom the site trusts, and how far each bundle line has come here."""

import shlex
from collections.abc import Iterator, Mapping
from typing import Final

from manifests.errors import CorruptStoreError, FormatError, KeyFileError, NoRootOfTrustError
from manifests.finding import Finding, Subject
from manifests.keyring import Keyring
from runtime import generations, ledger, trust
from runtime.root import Root

SUBJECT: Final = Subject("trust")
_BEHIND: Final = "to go forward again: bundle install BUNDLE, of the newer sequence"


def look(root: Root) -> Iterator[Finding]:
    """The root of trust."""
    try:
        keyring = trust.load(root)
    except NoRootOfTrustError as error:
        yield SUBJECT.problem(
            "no-root-of-trust", error.message, fix=f"{error.hint} --root {shlex.quote(str(root.path))}"
        )
    except (FormatError, KeyFileError) as error:
        fix = f"bring {root.trust / 'root.json'} back from a copy; else move it away, and `bundle trust init` anew"
        yield SUBJECT.problem("root-of-trust-damaged", error.message, fix=fix)
    else:
        yield judge_keys(keyring)


def judge_keys(keyring: Keyring) -> Finding:
    """What keys and threshold mean."""
    usable = len(keyring.keys.keys() - keyring.revoked)
    said = f"keys {usable}, of which {keyring.threshold} must sign"
    if keyring.threshold == usable > 1:
        return SUBJECT.note("every-key-needed", f"{said}: one key lost, and nothing can be installed here any more")
    return SUBJECT.fine("root-of-trust", said)


def look_at_lines(root: Root) -> Iterator[Finding]:
    """The lines that are active, and the floor that the ledger keeps."""
    try:
        active = {name: line.content.sequence for name, line in generations.active(root).items()}
    except CorruptStoreError:  # `generation` has its own word on that
        return
    try:
        seen = {entry.line for entry in ledger.read(root)} | active.keys()
        floors = {name: max(ledger.known(root, name), default=0) for name in sorted(seen)}
    except CorruptStoreError as error:
        yield SUBJECT.problem("ledger-damaged", error.message, fix=error.hint)
    else:
        yield from judge_lines(active, floors)


def judge_lines(active: Mapping[str, int], floors: Mapping[str, int]) -> Iterator[Finding]:
    """What the sequences mean: by line, the active one and the highest that was ever here."""
    for name, floor in sorted(floors.items()):
        if name not in active:
            yield SUBJECT.note("line-gone", f"{name} {floor} was here, and nothing of {name} is active", fix=_BEHIND)
        elif active[name] < floor:
            what = f"{name} {active[name]} is active, and {name} {floor} was here: this site was taken back"
            yield SUBJECT.note("line-behind", what, fix=_BEHIND)
        else:
            yield SUBJECT.fine("line", f"{name} {active[name]} is active, the newest that was here")
