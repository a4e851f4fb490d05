"""A download on the disk while it is under way: its bytes, of which version they are, and which of them are here.

    NAME           the bytes: a beginning of the file, or a file with holes where `ranged`
    NAME.json      the version, and whether ranged
    NAME.spans     if ranged: 16 bytes for each span that was written (start, end), appended after its bytes

* Killed at any byte, what is said to be here is here. The bytes are gone before another version is named, a span is
  named after its bytes were written, and a ranged file is called that before its first byte beyond a hole.
* Nothing is synced. After a power cut the bytes may be others than those that came: a digest tells. Where none is
  known beforehand, a ranged file is taken up again within one run of the machine only.
"""

import json
import struct
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO, Final

from bundler.fetching.spans import Span, Spans
from manifests.publish import publishing, translated

_VERSION_LIMIT: Final = 64 << 10
_SPANS_LIMIT: Final = 64 << 20
_SPAN: Final = struct.Struct("<QQ")
_BOOT: Final = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True)
class Version:
    """Which version of a file its server sent. `size` is in bytes, None if the server did not say."""

    etag: str = ""
    last_modified: str = ""
    size: int | None = None

    @property
    def validator(self) -> str:
        """What `If-Range` may be asked with; empty if the server gave nothing that is strong enough."""
        if self.etag:
            return "" if self.etag.startswith("W/") else self.etag
        return self.last_modified

    @property
    def pin(self) -> dict[str, str]:
        """For the lock."""
        named = {"etag": self.etag, "last-modified": self.last_modified}
        return {name: value for name, value in named.items() if value}


@dataclass(frozen=True, slots=True)
class Held:
    """What is here of which version."""

    version: Version
    spans: Spans
    ranged: bool


class Partial:
    """The files of one download. Its claim is somebody else's."""

    def __init__(self, target: Path) -> None:
        self.target = target
        self.lock = _beside(target, ".lock")
        self._state = _beside(target, ".json")
        self._journal = _beside(target, ".spans")

    def exists(self) -> bool:
        """Whether anything of it is on the disk."""
        return any(path.exists() for path in (self.target, self._state, self._journal, self.lock))

    def held(self, *, compared: bool) -> Held | None:
        """What an earlier attempt left that can be gone on with; `compared` if its digest will be compared with one."""
        with translated(self.target):
            try:
                size = self.target.stat().st_size
                state = json.loads(_bounded(self._state, _VERSION_LIMIT))
                ranged, boot = bool(state.pop("ranged", False)), state.pop("boot", "")
                version = Version(**state)
            except (FileNotFoundError, ValueError, TypeError, AttributeError, RecursionError):
                return None
            if not size or not version.validator:
                return None
            if not ranged:
                return Held(version, Spans([Span(0, size)]), ranged=False)
            if not compared and (not boot or boot != _boot()):
                return None
            return self._held_ranged(version, size)

    def begin(self, version: Version, *, ranged: bool) -> None:
        """Name the version of what will come, after `forget`."""
        with translated(self.target):
            self.target.write_bytes(b"")
        self._write_state(version, ranged=ranged)

    def make_ranged(self, held: Held) -> None:
        """What is a beginning now may have holes from here on."""
        with translated(self._journal):
            self._journal.unlink(missing_ok=True)
        with self.open_journal() as journal:
            for span in held.spans:
                journal.write(_SPAN.pack(*span))
        self._write_state(held.version, ranged=True)

    def open_journal(self) -> BinaryIO:
        """For `record`. A record that a kill or a full disk cut short is cut off first."""
        with translated(self._journal):
            stream = self._journal.open("ab", buffering=0)
            stream.truncate(stream.tell() // _SPAN.size * _SPAN.size)
        return stream

    def forget(self) -> None:
        """Remove everything but the lock; first what says that there is something."""
        with translated(self.target):
            for path in (self._state, self._journal, self.target):
                path.unlink(missing_ok=True)

    def _held_ranged(self, version: Version, size: int) -> Held | None:
        with suppress(FileNotFoundError):
            content = _bounded(self._journal, _SPANS_LIMIT)
            whole = content[: len(content) // _SPAN.size * _SPAN.size]
            spans = Spans(Span(*numbers) for numbers in _SPAN.iter_unpack(whole))
            if version.size is not None and 0 < spans.end <= min(size, version.size):
                return Held(version, spans, ranged=True)
        return None

    def _write_state(self, version: Version, *, ranged: bool) -> None:
        state = {**asdict(version), "ranged": ranged, "boot": _boot() if ranged else ""}
        with publishing(self._state, durable=False) as stream:
            stream.write(json.dumps(state).encode())


def record(journal: BinaryIO, span: Span) -> None:
    """Say that the bytes of `span` were written."""
    journal.write(_SPAN.pack(*span))


def _bounded(path: Path, limit: int) -> bytes:
    with path.open("rb") as stream:
        return stream.read(limit)


def _boot() -> str:
    """This run of the machine; empty where the system does not say."""
    try:
        return _bounded(_BOOT, 64).decode().strip()
    except OSError:
        return ""


def _beside(target: Path, suffix: str) -> Path:
    return target.with_name(target.name + suffix)
