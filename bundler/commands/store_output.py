"""What the commands of `bundle store` show, for people and for programs."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bundler.commands.output import show, show_table, talk
from manifests.errors import listing, size

if TYPE_CHECKING:
    from bundler.housekeeping.collecting import Plan
    from bundler.housekeeping.known import Known
    from bundler.housekeeping.stats import Amount, Stats
    from bundler.housekeeping.verifying import Damage, Verified


def show_stats(found: "Stats") -> None:
    """Sizes, what was saved, and what lies beside."""
    show(f"{found.path}: {found.blobs} blobs of {found.chunks} chunks")
    show_table(
        [
            ("  raw", size(found.raw), "the files as they are unpacked"),
            ("  each chunk once", size(found.distinct), f"saves {_share(found.raw - found.distinct, found.raw)}"),
            (
                "  stored",
                size(found.stored),
                f"compression saves {_share(found.distinct - found.stored, found.distinct)}",
            ),
        ]
    )
    for text in _beside(found):
        show(f"  {text}")
    for each in found.locks:
        lacks = f", {each.missing} to fetch" if each.missing else ""
        show(f"{_lock_text(each.lock)}: {each.files} files, {size(each.size)} here{lacks}")
    _warn_of_foreign(found.foreign)


def stats_document(found: "Stats") -> dict[str, object]:
    """For `--json`."""
    return {
        "store": str(found.path),
        "blobs": found.blobs,
        "incomplete_blobs": found.incomplete,
        "outdated_blobs": found.outdated,
        "damaged_recipes": found.damaged,
        "chunks": found.chunks,
        "raw_bytes": found.raw,
        "distinct_bytes": found.distinct,
        "stored_bytes": found.stored,
        "saved_by_dedup_bytes": found.raw - found.distinct,
        "saved_by_compression_bytes": found.distinct - found.stored,
        "orphans": _amount(found.orphans),
        "partial_downloads": _amount(found.downloads),
        "members": found.members,
        "indexes": _amount(found.indexes),
        "leftovers": _amount(found.leftovers),
        "profiles": [{"name": each.name, "live": each.live, **_amount(each.chunks)} for each in found.profiles],
        "locks": [
            {**_lock_document(each.lock), "files": each.files, "missing": each.missing, "raw_bytes": each.size}
            for each in found.locks
        ],
        "foreign": [str(path) for path in found.foreign],
    }


def show_verified(found: "Verified", removed: Sequence[Path]) -> None:
    """The verdict, then each thing that is damaged."""
    what = "compared with its digest" if found.quick else "decoded and compared, and every blob with its SHA-256"
    state = f"{len(found.damaged)} damaged" if found.damaged else "whole"
    show(f"{found.path}: {state}; {found.blobs} blobs of {found.chunks} chunks, {size(found.read)}, each {what}")
    for each in found.damaged:
        show(f"  {_place(each, found.path)}: {each.reason}" + (f" ({each.name})" if each.name else ""))
    if removed:
        show(f"removed: {len(removed)} files; the next build fetches again what it needs of them")
    if left := len(found.damaged) - len(removed) if removed else 0:
        show(f"not removed: {left}, which are whole by now, or have other files in them")
    if found.orphans:
        show(f"  {found.orphans} chunks of no blob; `bundle store gc` removes them")
    if found.outdated:
        show(f"  {found.outdated} blobs were encoded by another libzstd: the next build encodes them anew")
    _warn_of_foreign(found.foreign)


def verified_document(found: "Verified", removed: Sequence[Path]) -> dict[str, object]:
    """For `--json`."""
    gone = set(removed)
    return {
        "store": str(found.path),
        "quick": found.quick,
        "blobs": found.blobs,
        "chunks": found.chunks,
        "read_bytes": found.read,
        "records": found.records,
        "orphans": found.orphans,
        "outdated_blobs": found.outdated,
        "damaged": [
            {
                "kind": each.kind.value,
                "path": str(each.path),
                "reason": each.reason,
                "name": each.name,
                "removed": each.path in gone,
            }
            for each in found.damaged
        ],
        "foreign": [str(path) for path in found.foreign],
    }


def show_plan(found: "Plan") -> None:
    """What stays because of which lock, and what goes, by part and by model."""
    for lock in found.kept_locks:
        show(f"kept: {_lock_text(lock)}, {len(lock.files)} files")
        if why := _why_kept(lock):
            talk(f"  {why}")
    for lock in found.other_locks:
        show(f"not kept: {_lock_text(lock)}")
    _show_staying(found)
    for part in found.going:
        if (amount := found.amount(part)).files:
            show(f"goes: {part.value}: {amount.files}, {size(amount.size)}")
    for name, count in sorted(found.blobs.items()):
        show(f"  {name}: {count} files")
    _warn_of_foreign(found.foreign)


def _show_staying(found: "Plan") -> None:
    show(f"stays: {found.kept_blobs} blobs, {found.kept_chunks.files} chunks, {size(found.kept_chunks.size)}")
    if found.young_blobs:
        show(f"  {found.young_blobs} of them are of no lock that is known here, and young: see --keep-days")
    if (amount := found.outdated_chunks).files:
        show(f"stays: {amount.files} chunks of another libzstd, {size(amount.size)}: the next build encodes them anew")
    if (amount := found.kept_downloads).files:
        show(f"stays: {amount.files} unfinished downloads, {size(amount.size)}, young or under way: see --keep-days")


def _why_kept(lock: "Known") -> str:
    """Of a lock that is not simply there."""
    from bundler.housekeeping.known import State

    if lock.state is State.GONE:
        return "it was there not long ago: what it was built from is kept, see --keep-days"
    if lock.state is State.AWAY:
        return "what it was built from is kept; to remove that, name the locks to keep"
    return f"it cannot be read ({lock.reason}): what it was built from is kept" if lock.reason else ""


def show_end(found: "Plan", *, is_done: bool) -> None:
    """What came of it."""
    if is_done:
        show(f"removed: {found.total.files} files, {size(found.total.size)}")
    elif found.total.files:
        show(f"would remove: {found.total.files} files, {size(found.total.size)}")
    else:
        show("nothing to remove")


def plan_document(found: "Plan", *, is_done: bool) -> dict[str, object]:
    """For `--json`."""
    return {
        "removed": is_done,
        "kept": {
            "locks": [_lock_document(lock) for lock in found.kept_locks],
            "blobs": found.kept_blobs,
            "young_blobs": found.young_blobs,
            "chunks": _amount(found.kept_chunks),
            "outdated_chunks": _amount(found.outdated_chunks),
            "partial_downloads": _amount(found.kept_downloads),
        },
        "other_locks": [_lock_document(lock) for lock in found.other_locks],
        "goes": {part.name.lower(): _amount(found.amount(part)) for part in found.going},
        "blobs": dict(sorted(found.blobs.items())),
        "files": found.total.files,
        "bytes": found.total.size,
        "foreign": [str(path) for path in found.foreign],
    }


def _beside(found: "Stats") -> Iterable[str]:
    """What is in a store beside whole blobs, where there is any."""
    if found.incomplete or found.damaged:
        yield f"{found.incomplete + found.damaged} blobs cannot be read; the next build fetches them again"
    if found.outdated:
        yield f"{found.outdated} blobs were encoded by another libzstd; the next build encodes them anew"
    if found.orphans.files:
        yield f"{found.orphans.files} chunks of no blob, {size(found.orphans.size)}; `bundle store gc` removes them"
    if found.downloads.files:
        yield f"{found.downloads.files} unfinished downloads, {size(found.downloads.size)}"
    if found.leftovers.files:
        yield f"{found.leftovers.files} files being written, or left by killed writers, {size(found.leftovers.size)}"
    yield f"{found.members} members of archives remembered"
    yield f"{found.indexes.files} indexes of bundles kept, {size(found.indexes.size)}"
    for each in found.profiles:
        use = "" if each.live else "; of another libzstd: the next build encodes anew what it needs of them"
        yield f"encoder {each.name}: {each.chunks.files} chunks, {size(each.chunks.size)}{use}"


def _share(saved: int, whole: int) -> str:
    return f"{size(max(saved, 0))}, {max(saved, 0) * 100 // whole if whole else 0}%"


def _lock_text(lock: "Known") -> str:
    state = f"{lock.line} {lock.sequence}" if lock.sequence is not None else f"{lock.line}, {lock.state.value}"
    return f"{lock.path} ({state})"


def _lock_document(lock: "Known") -> dict[str, object]:
    return {"lock": str(lock.path), "line": lock.line, "sequence": lock.sequence, "state": lock.state.value}


def _amount(amount: "Amount") -> dict[str, int]:
    return {"files": amount.files, "bytes": amount.size}


def _place(damage: "Damage", store: Path) -> str:
    return f"{damage.kind.value} {damage.path.relative_to(store)}"


def _warn_of_foreign(paths: Sequence[Path]) -> None:
    if paths:
        talk(f"not the store's, and left alone: {listing(str(path) for path in paths)}")
