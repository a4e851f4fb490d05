"""What every source is, and the values that pass between sources and those who fetch from them.

* A source finds; it moves no file content. What it found says where the bytes lie and what is known of them.
* `pin` is what identifies a file at its source, for the lock: never a mirror of one machine, never a credential.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final, Protocol, TypeAlias, runtime_checkable

from bundler.sources.reference import Reference
from manifests.client_facts import ModelFacts, PackageFacts
from manifests.digest import Digest

Authorization: TypeAlias = Callable[[], str | None]
"""Gives the value of an `Authorization` header, called anew for each try; None leaves it to what is configured."""


@dataclass(frozen=True, slots=True)
class Local:
    """The bytes are a file on this machine."""

    path: Path


@dataclass(frozen=True, slots=True)
class Remote:
    """The bytes come by HTTP. The URL may be signed: it is in no `repr`.

    `authorization` gives the header of that name, anew for each try, because some tokens live for a minute; it goes
    to the URL's own origin and no other. `fresh` gives the URL itself anew, in place of `url`, for each try: a
    signature may run out before the download ends.
    """

    url: str = field(repr=False)
    authorization: Authorization | None = field(default=None, repr=False, compare=False)
    fresh: Callable[[], str] | None = field(default=None, repr=False, compare=False)


SIGNED_FOR: Final = 12 * 3600
"""Seconds that an address is signed for: what is tried again or goes on is asked for with a new one."""
Place: TypeAlias = Local | Remote


@dataclass(frozen=True, slots=True)
class Found:
    """A file that a source has. What is None or empty, the source does not say.

    `size` is in bytes, `git_sha1` 20 bytes, `md5` 16; `digest` is the source's word, to be compared and never assumed.
    """

    reference: Reference
    path: str
    place: Place
    size: int | None = None
    digest: Digest | None = None
    git_sha1: bytes | None = None
    md5: bytes | None = None
    pin: Mapping[str, str] = field(default_factory=dict)
    licenses: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    lfs: bool = False
    gated: bool = False

    @property
    def key(self) -> str:
        """A name for these bytes that stays the same from run to run."""
        return " ".join([str(self.reference.container), *(f"{name}={self.pin[name]}" for name in sorted(self.pin))])


class Source(Protocol):
    """Where files come from. With a `pin` out of a lock, exactly what was pinned; with an empty one, what is there now.

    Errors: `SourceError` and its kinds; `ManifestError` for a location that the scheme does not know.
    """

    def find(self, reference: Reference, pin: Mapping[str, str]) -> Found:
        """The one file that `reference` names, before any member is taken out of it."""

    def list(self, reference: Reference, pin: Mapping[str, str]) -> tuple[Found, ...]:
        """Every file of the folder or repository that `reference` names, sorted by path; or the one file."""


@dataclass(frozen=True, slots=True)
class FoundPackage:
    """A package as its service describes it. `facts` is None for one whose kind is unknown: carried, and no more."""

    id: str
    files: tuple[Found, ...]
    backend: str | None = None
    quantization: str | None = None
    opset: int | None = None
    static_batch: int | None = None
    facts: PackageFacts | None = None


@dataclass(frozen=True, slots=True)
class FoundModel:
    """A model as its service describes it: everything that a manifest would say of it, and its packages in order."""

    architecture: str
    task: str | None
    facts: ModelFacts
    packages: tuple[FoundPackage, ...]
    warnings: tuple[str, ...] = ()


@runtime_checkable
class Service(Source, Protocol):
    """A source that knows whole models, and which packages they have."""

    def describe(self, reference: Reference) -> FoundModel:
        """The model that `reference` names, as it is there now. Errors: those of `find`."""


def matches(path: str, *, include: tuple[str, ...], exclude: tuple[str, ...]) -> bool:
    """Whether shell patterns choose `path`: one of `include` (or there is none), and none of `exclude`.

    `*` matches `/` too, and a pattern that ends in `/` means the whole folder: the rules of the hub's own client.
    """
    return (not include or _any(path, include)) and not _any(path, exclude)


def _any(path: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(path, f"{pattern}*" if pattern.endswith("/") else pattern) for pattern in patterns)
