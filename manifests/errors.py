"""Every error that a person can meet, and what each asks of them.

One tree. A family answers "what should I do next?"; the exit code stands on the class; facts are attributes.

    BundleError
    ├── ManifestError          mend the manifest or the lock
    │   ├── NamingError            an id, alias or path that some client or disk could not hold
    │   └── LockOutdatedError      the sources moved since the lock was written
    ├── SourceError            look at the source, then try again
    │   ├── SourceNotFoundError    it is not there
    │   ├── SourceUnreachableError no answer, or not a whole one
    │   ├── SourceDeniedError      credentials are missing or refused
    │   └── DigestMismatchError    what came is not what was promised
    ├── FormatError            this is not something that this program reads
    │   ├── UnsupportedFormatError a newer program is needed
    │   └── DamagedError           carry it again
    ├── TrustError             ask the person who signs
    │   ├── UnsignedError · UnknownKeyError · WrongSignatureError     three verdicts, never blurred
    │   ├── NoRootOfTrustError · KeyFileError
    │   ├── RollbackError          an older bundle, or another one with the same number
    │   └── UncomparedError        intact, but compared with no trusted key
    ├── StorageError           look at the disk
    │   ├── DiskFullError · BusyError · NotARootError · CorruptStoreError
    ├── ModelError             look at the model or the input
    │   ├── UnknownModelError · ModelLoadError · InvalidInputError · MissingExtraError
    ├── NetworkRefusedError    something tried to leave an offline process
    ├── ListenError            the server's address cannot be had
    └── FindingsError          `doctor` found a problem: do what stands below it
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import ClassVar


def printable(text: str) -> str:
    """`text` with every character that could move a cursor or hide another one written as an escape."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


class BundleError(Exception):
    """Base of the tree. `message` is one line; `facts` are named values; `hint` is the way out."""

    exit_code: ClassVar[int] = 1
    meaning: ClassVar[str] = "an error that no class below names: a bug, please report it"

    def __init__(self, message: str, *, hint: str = "", facts: Mapping[str, object] | None = None) -> None:
        self.message = message
        self.hint = hint
        self.facts = {name: str(value) for name, value in (facts or {}).items()}
        super().__init__(message)
        if hint:
            self.add_note(f"hint: {hint}")  # what Python shows below a traceback: for who calls us as a library

    def __str__(self) -> str:
        return printable(self.message)

    def to_dict(self) -> dict[str, object]:
        """What `--json` prints under `error`."""
        return {
            "type": type(self).__name__,
            "message": self.message,
            "facts": self.facts,
            "hint": self.hint,
            "exit_code": self.exit_code,
        }


class ManifestError(BundleError):
    """The manifest or lock says something that cannot be built. The message names file, line and key path."""

    exit_code = 10
    meaning = "the manifest or lock is wrong: mend it where the message points"


class NamingError(ManifestError):
    """An id, alias or path that a client, a file system or another entry of the same bundle rules out."""

    exit_code = 11
    meaning = "an id, alias or path that some client or disk could not hold, or that clashes"


class LockOutdatedError(ManifestError):
    """`lock --check` found that the sources no longer give what the lock says."""

    exit_code = 12
    meaning = "`lock --check`: the sources moved since the lock was written"


class SourceError(BundleError):
    """A source did not give what was asked."""

    exit_code = 20
    meaning = "a source failed (several sources with different failures end here too)"


class SourceNotFoundError(SourceError):
    """The source answered that it has no such thing."""

    exit_code = 21
    meaning = "the source has no such file, version or member"


class SourceUnreachableError(SourceError):
    """The source did not answer, or broke off, after all retries."""

    exit_code = 22
    meaning = "the source did not answer, or broke off: try again, what was fetched is kept"


class SourceDeniedError(SourceError):
    """The source wants credentials, or refuses those it got."""

    exit_code = 23
    meaning = "the source wants other credentials"


class DigestMismatchError(SourceError):
    """The bytes that came are not the bytes that were promised."""

    exit_code = 24
    meaning = "what came is not what was promised: another file, or a tampered one"

    def __init__(self, *, subject: str, expected: object, actual: object, hint: str = "") -> None:
        self.subject = subject
        self.expected = expected
        self.actual = actual
        super().__init__(
            f"{subject}: expected {expected}, got {actual}",
            hint=hint or "if the file was meant to change, run `bundle lock --upgrade`; else ask who runs the source",
        )


class FormatError(BundleError):
    """Not a bundle, or not one that follows FORMAT.md."""

    exit_code = 30
    meaning = "not a bundle, or one that breaks the format's rules"


class UnsupportedFormatError(FormatError):
    """A format version, codec, digest algorithm or kind that this program does not know."""

    exit_code = 31
    meaning = "a bundle (or root, or lock) that a newer program wrote: bring that program"


class DamagedError(FormatError):
    """The bytes are not those that were written: truncated, flipped, missing or unlisted."""

    exit_code = 32
    meaning = "truncated or damaged on the way: carry it again"


class TrustError(BundleError):
    """The question of who made a bundle has no good answer."""

    exit_code = 40
    meaning = "a question of trust that no class below names"


class UnsignedError(TrustError):
    """Nobody signed this bundle."""

    exit_code = 41
    meaning = "the bundle is unsigned"


class UnknownKeyError(TrustError):
    """Signed, but by fewer trusted keys than the root of trust asks for."""

    exit_code = 42
    meaning = "signed by an unknown key, or by too few known ones"


class WrongSignatureError(TrustError):
    """A trusted key's signature does not fit the bytes."""

    exit_code = 43
    meaning = "a signature in a trusted key's name is wrong: keep the medium, tell your security officer"


class NoRootOfTrustError(TrustError):
    """The site has not been told whom to trust."""

    exit_code = 44
    meaning = "no root of trust yet: `bundle trust init --key KEY.pub.pem`"


class KeyFileError(TrustError):
    """A key file that cannot be read, is of another kind, or wants another passphrase."""

    exit_code = 45
    meaning = "a key file cannot be used: missing, of another kind, or locked by a passphrase"


class RollbackError(TrustError):
    """A genuine bundle that is older than what the site has seen, or another one under the same number."""

    exit_code = 46
    meaning = "older than what this site has had, or another bundle under the same sequence"


class UncomparedError(TrustError):
    """`verify` with neither root nor key: the bytes are right, but nobody said whom to trust."""

    exit_code = 3
    meaning = "`verify`: intact, but compared with no trusted key (a courier's verdict)"


class StorageError(BundleError):
    """The disk, the store or the root does not allow it."""

    exit_code = 50
    meaning = "the disk or its permissions do not allow it"


class DiskFullError(StorageError):
    """No space left. Nothing that was there before is lost."""

    exit_code = 51
    meaning = "no space left: free some, run the same command again"


class BusyError(StorageError):
    """Another process holds the lock."""

    exit_code = 52
    meaning = "another process is at work on the same store or root"


class NotARootError(StorageError):
    """The folder is not a root, or has nothing installed."""

    exit_code = 53
    meaning = "no root here, or nothing installed in it"


class CorruptStoreError(StorageError):
    """Something on this disk is not what was written."""

    exit_code = 54
    meaning = "a file of the store or root was changed or lost: build or install again repairs it"


class ModelError(BundleError):
    """A model could not be used."""

    exit_code = 60
    meaning = "a model failed while running"


class UnknownModelError(ModelError):
    """No installed model has this id or alias."""

    exit_code = 61
    meaning = "no such model here: `bundle list` shows what there is"


class ModelLoadError(ModelError):
    """No package of the model can run here; the message says why."""

    exit_code = 62
    meaning = "the model cannot be loaded on this machine"


class InvalidInputError(ModelError):
    """An input that is not what the model takes: no picture, too large, a wrong shape."""

    exit_code = 63
    meaning = "the input is not one that the model takes"


class MissingExtraError(ModelError):
    """A command needs an optional part of the program that is not installed."""

    exit_code = 64
    meaning = "this command needs an extra: the message names it"

    def __init__(self, module: str, extra: str) -> None:
        self.module = module
        self.extra = extra
        super().__init__(f"this needs {module}, which is not installed", hint=f"pip install 'offline-bundle[{extra}]'")


class NetworkRefusedError(BundleError):
    """The guard refused a connection or a lookup that would have left this machine."""

    exit_code = 70
    meaning = "the guard refused something that tried to leave this machine"


class ListenError(BundleError):
    """The server cannot listen where it was told to."""

    exit_code = 71
    meaning = "the address or port cannot be listened on: choose another"


class FindingsError(BundleError):
    """`doctor` found at least one problem. Never raised: the findings are the answer, and this is its exit code."""

    exit_code = 80
    meaning = "`doctor` found a problem: what to do stands below each"


def families(root: type[BundleError] = BundleError) -> Iterator[type[BundleError]]:
    """Every class of the tree, parents first: the README's table of exit codes is made from it."""
    yield root
    for child in root.__subclasses__():
        yield from families(child)


def size(length: int) -> str:
    """Bytes as people read them, in powers of ten."""
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if length >= factor:
            return f"{length / factor:.1f} {unit}"
    return f"{length} bytes"


def listing(names: Iterable[str], *, most: int = 12) -> str:
    """Names for a message: at most `most`, then how many more."""
    ordered = list(names)
    shown = ", ".join(ordered[:most])
    return shown if len(ordered) <= most else f"{shown} and {len(ordered) - most} more"
