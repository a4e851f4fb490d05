"""The wheel of the program that runs: made anew out of what is installed, so that a kit needs no checkout and no index.

* An installed distribution gives the files of its RECORD, each compared with the digest that it had when it was
  installed. An editable one (see `bundler.kits.checkout`) gives the files of its packages as they lie there.
* The same files give the same bytes, whatever the machine: sorted, nothing compressed, one time, one mode.
* Nothing that this machine added goes along: no compiled file, no script, no note of who installed it and from where.
"""

import base64
import email
import hashlib
import importlib.metadata
import io
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from typing import Final

from bundler.kits import checkout
from manifests.digest import Digest
from manifests.errors import CorruptStoreError, SourceError
from manifests.kit import DISTRIBUTION

PACKAGES: Final = ("bundler", "manifests", "runtime")
_DESCRIPTION: Final = ("METADATA", "WHEEL", "entry_points.txt")
_LICENSES: Final = "licenses"
_DIST_INFO: Final = ".dist-info"
_TAG: Final = "py3-none-any"
_EPOCH: Final = (1980, 1, 1, 0, 0, 0)
"""The first moment that a zip can name."""
_MODE: Final = 0o100644
_UNIX: Final = 3
_REINSTALL: Final = f"install it again: pip install --force-reinstall {DISTRIBUTION}"


@dataclass(frozen=True, slots=True)
class Program:
    """The program as a wheel: the wheel's name and bytes, and those of its METADATA."""

    version: str
    file: str
    content: bytes
    metadata: bytes
    extras: tuple[str, ...]
    python: str
    """The Pythons that it runs on, as a specifier; empty for any."""

    @property
    def digest(self) -> Digest:
        """The digest of the wheel."""
        return Digest.of(self.content)


def running_program() -> Program:
    """The program that runs. Errors: `SourceError` if it was never installed; `CorruptStoreError` if it was changed."""
    try:
        return program(importlib.metadata.distribution(DISTRIBUTION))
    except importlib.metadata.PackageNotFoundError as error:
        raise SourceError(
            f"{DISTRIBUTION} is not installed here: this program runs from a plain folder",
            hint="pip install -e . in that folder",
        ) from error


def program(distribution: importlib.metadata.Distribution) -> Program:
    """`distribution` as a wheel. Errors: as `running_program`."""
    described = dict(recorded_files(distribution, _is_description))
    missing = set(_DESCRIPTION) - {name.partition("/")[2] for name in described}
    if missing:
        raise SourceError(f"the installed {DISTRIBUTION} has no {min(missing)}", hint=_REINSTALL)
    folder = min(described).partition("/")[0]
    if f"Tag: {_TAG}" not in described[f"{folder}/WHEEL"].decode().splitlines():
        raise SourceError(f"{DISTRIBUTION} was installed from no wheel of the tag {_TAG}", hint=_REINSTALL)
    name = f"{folder}/METADATA"
    metadata = email.message_from_bytes(described[name])
    return Program(
        str(metadata["Version"]),
        f"{folder.removesuffix(_DIST_INFO)}-{_TAG}.whl",
        wheel_of({**_files(distribution, described[name]), **described}, record=f"{folder}/RECORD"),
        described[name],
        tuple(sorted(map(str, metadata.get_all("Provides-Extra") or ()))),
        str(metadata.get("Requires-Python", "")),
    )


def _files(distribution: importlib.metadata.Distribution, metadata: bytes) -> dict[str, bytes]:
    """The files of the packages, by their path in the wheel; all of them are those that run."""
    folder = checkout.find(distribution)
    for package in PACKAGES:
        initial = f"{package}/__init__.py"
        installed = Path(str(distribution.locate_file(initial))).resolve()
        if _origin(package) != (installed if folder is None else folder / initial):  # no link leads out of `folder`
            raise SourceError(
                f"the program that runs is not the one that is installed: {package} comes from {_origin(package)}",
                hint="run the installed `bundle`, outside of a checkout and without PYTHONPATH",
            )
    if folder is not None:
        checkout.check_description(folder, metadata)
        return {name: content for package in PACKAGES for name, content in checkout.files(folder, package)}
    files = dict(
        recorded_files(distribution, lambda path: path.parts[0] in PACKAGES and not checkout.is_leftover(path))
    )
    if missing := {f"{package}/__init__.py" for package in PACKAGES} - files.keys():
        raise SourceError(f"the installed {DISTRIBUTION} has no {min(missing)}", hint=_REINSTALL)
    return files


def recorded_files(
    distribution: importlib.metadata.Distribution, wanted: Callable[[PurePosixPath], bool]
) -> Iterator[tuple[str, bytes]]:
    """The files of RECORD that are `wanted`, each as it was installed."""
    for recorded in distribution.files or ():
        if not wanted(recorded):
            continue
        name, path = recorded.as_posix(), Path(str(distribution.locate_file(recorded)))
        content = checkout.read(path) if path.is_file() else None
        told = recorded.hash
        if content is None or told is None or (told.mode, told.value) != ("sha256", _record_digest(content)):
            state = "is gone" if content is None else "was changed"
            raise CorruptStoreError(f"{name} {state} since {DISTRIBUTION} was installed", hint=_REINSTALL)
        yield name, content


def _is_description(path: PurePosixPath) -> bool:
    """What of the dist-info came in the wheel."""
    inner = path.parts[1:]
    return path.parts[0].endswith(_DIST_INFO) and ("/".join(inner) in _DESCRIPTION or inner[0] == _LICENSES)


def _origin(package: str) -> Path:
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise SourceError(f"the package {package} is not here as files", hint=_REINSTALL)
    return Path(spec.origin).resolve()


def _record_digest(content: bytes) -> str:
    """SHA-256 as RECORD spells it."""
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()


def wheel_of(files: Mapping[str, bytes], *, record: str) -> bytes:
    """A wheel of `files`, with their RECORD at `record`. Stored: what deflate gives depends on the zlib at hand."""
    rows = [f"{name},sha256={_record_digest(files[name])},{len(files[name])}" for name in sorted(files)]
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as made:
        for name in (*sorted(files), record):
            member = zipfile.ZipInfo(name, _EPOCH)
            member.create_system, member.external_attr = _UNIX, _MODE << 16
            made.writestr(member, files[name] if name in files else "\n".join([*rows, f"{record},,", ""]))
    return out.getvalue()
