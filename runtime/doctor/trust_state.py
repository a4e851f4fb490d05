"""Whom the site trusts, and how far each bundle line has come here."""

import os
import shlex
from collections.abc import Iterator, Mapping
from typing import Final

from manifests.errors import CorruptStoreError, FormatError, KeyFileError, NoRootOfTrustError, StorageError
from manifests.finding import Finding, Subject
from manifests.keyring import Keyring
from runtime import generations, ledger, trust
from runtime.doctor import access
from runtime.root import TRUST_INIT, Root

SUBJECT: Final = Subject("trust")


def look(root: Root) -> Iterator[Finding]:
    """The root of trust. One that cannot be reached is for `access` to tell."""
    if access.closed(root.trust_file) or (os.path.lexists(root.trust) and not root.trust.is_dir()):
        return
    try:
        keyring = trust.load(root)
    except NoRootOfTrustError as error:
        yield SUBJECT.problem(
            "no-root-of-trust", error.message, fix=f"{error.hint} --root {shlex.quote(str(root.path))}"
        )
    except (FormatError, KeyFileError) as error:
        path, place = (shlex.quote(str(each)) for each in (root.trust_file, root.path))
        fix = f"bring {path} back from a copy; else: mv {path} {path}.aside && {TRUST_INIT} --root {place}"
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


def look_at_lines(root: Root, option: str) -> Iterator[Finding]:
    """The lines that are active, and the floor that the ledger keeps. `option` names the root in a command."""
    try:
        active = {name: line.content.sequence for name, line in generations.active(root).items()}
    except StorageError:  # `generation` has its own word on that
        return
    try:
        seen = {entry.line for entry in ledger.read(root)} | active.keys()
        floors = {name: max(ledger.known(root, name), default=0) for name in sorted(seen)}
    except CorruptStoreError as error:
        yield SUBJECT.problem("ledger-damaged", error.message, fix=error.hint)
    else:
        yield from judge_lines(active, floors, option)


def judge_lines(active: Mapping[str, int], floors: Mapping[str, int], option: str = "") -> Iterator[Finding]:
    """What the sequences mean: by line, the active one and the highest that was ever here."""
    forward = f"to go forward again, with a BUNDLE of the newer sequence: bundle install BUNDLE{option}"
    for name, floor in sorted(floors.items()):
        if name not in active:
            yield SUBJECT.note("line-gone", f"{name} {floor} was here, and nothing of {name} is active", fix=forward)
        elif active[name] < floor:
            what = f"{name} {active[name]} is active, and {name} {floor} was here: this site was taken back"
            yield SUBJECT.note("line-behind", what, fix=forward)
        else:
            yield SUBJECT.fine("line", f"{name} {active[name]} is active, the newest that was here")
