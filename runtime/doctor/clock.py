"""The clock. Nothing of ours trusts it; logs, certificates and people do."""

from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Final

from manifests.errors import CorruptStoreError
from manifests.finding import Finding, Subject
from runtime import ledger
from runtime.root import Root

SUBJECT: Final = Subject("clock")
_FIRST_YEAR: Final = 2026
_LONG: Final = timedelta(days=366)
_SET: Final = 'set it: sudo date -u -s "YYYY-MM-DD hh:mm"'


def look(root: Root | None, now: datetime) -> Iterator[Finding]:
    """Compare the clock with what this site remembers."""
    yield judge(now, _last_install(root) if root else None)


def judge(now: datetime, last: datetime | None) -> Finding:
    """What the clock says, `last` being the newest install that the ledger knows."""
    said = f"the clock says {now:%Y-%m-%d %H:%M} UTC"
    if now.year < _FIRST_YEAR:
        return SUBJECT.warning("clock-in-the-past", f"{said}, before this program was made", fix=_SET)
    if last is None:
        return SUBJECT.fine("clock", said)
    if now < last:
        what = f"{said}, and the last install was at {last:%Y-%m-%d %H:%M}: the clock went back, or a root was copied"
        return SUBJECT.warning("clock-before-last-install", what, fix=_SET)
    if now - last > _LONG:
        return SUBJECT.note("clock-far-ahead", f"{said}, more than a year after the last install", fix=_SET)
    return SUBJECT.fine("clock", said)


def _last_install(root: Root) -> datetime | None:
    newest = None
    with suppress(CorruptStoreError):  # `trust` has its own word on that
        for entry in ledger.read(root):
            with suppress(ValueError):
                at = datetime.fromisoformat(entry.at)
                at = at if at.tzinfo else at.replace(tzinfo=UTC)
                newest = max(newest or at, at)
    return newest
