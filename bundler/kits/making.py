"""`kit` as a function: the running program and all that it needs for a target, as one folder.

* Which wheels is the resolution's answer; each comes into the store like any other file, and out of it into the kit.
* A wheel that the store has is not fetched again.
* The same program, wheels and keys give the same bytes.
"""

import stat
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name, parse_wheel_filename

from bundler.http import Client
from bundler.intake import Intake
from bundler.kits import writing
from bundler.kits.constraints import MAXIMUM_LENGTH, Constraints, constraints_of
from bundler.kits.metadata import check_runs, requirements_of, take
from bundler.kits.program import Program, running_program
from bundler.kits.resolution import resolve
from bundler.kits.target import Target
from bundler.settings import Settings
from bundler.sources.base import Found
from bundler.together import together
from manifests import kit
from manifests.digest import Digest
from manifests.errors import (
    CorruptStoreError,
    KeyFileError,
    ManifestError,
    NamingError,
    StorageError,
    listing,
    printable,
)
from manifests.keyring import MAXIMUM_PEM, Key
from manifests.kit import DISTRIBUTION, Kit, Wheel
from manifests.kit_folder import refuse_to_replace_anything_else
from manifests.paths import checked_path, fold
from manifests.progress import Reporter
from manifests.publish import translated
from manifests.store import Store

DEFAULT_PLATFORM: Final = "manylinux_2_28_x86_64"
DEFAULT_EXTRAS: Final = ("cpu", "serve")
_PIP: Final = Requirement("pip")
"""Goes along: a site's Python may have none, and its own may be too old for the wheels."""
_ONE_OF: Final = frozenset({"cpu", "gpu", "openvino", "directml"})
"""Extras of which each brings an onnxruntime of its own: two in one environment overwrite each other's files."""
_NOT_FOR_SITES: Final = "dev"


@dataclass(frozen=True, slots=True)
class Order:
    """What is asked for: `python` is `3.11`, `find_links` are folders of wheels, `constraints` a requirements file."""

    platform: str
    python: str
    extras: tuple[str, ...]
    find_links: tuple[Path, ...] = ()
    constraints: Path | None = None
    keys: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True)
class Made:
    """A kit that was written: `fingerprint` is the digest of its `SHA256SUMS`, `keys` by the name of their file."""

    path: Path
    kit: Kit
    keys: Mapping[str, Key]
    fingerprint: Digest
    size: int


def make(out: Path, order: Order, settings: Settings, reporter: Reporter) -> Made:
    """Write the kit that is asked for to `out`, which is new or an older kit.

    Errors: `ManifestError` for a target, an extra or a constraint that cannot be; `KeyFileError`; `SourceError` and its
    kinds, also for a wheel that nobody has for the target; `StorageError`.
    """
    refuse_to_replace_anything_else(out)
    _refuse_store(out, settings.store)
    target = Target.parse(order.platform, order.python)
    keys = trusted_keys(order.keys)
    program = running_program()
    extras = checked_extras(order.extras, program.extras)
    if not target.takes(SpecifierSet(program.python)):
        raise ManifestError(f"{DISTRIBUTION} {program.version} needs Python {program.python}, and not {target.python}")
    roots = (*requirements_of(program.metadata, extras, target, subject=program.file), _PIP)
    links = (*(str(folder.absolute()) for folder in order.find_links), *settings.packages.find_links)
    with Store.open(settings.store) as store, Client(settings, reporter) as client:
        found = resolve(
            roots,
            target,
            packages=replace(settings.packages, find_links=links),
            client=client,
            store=store,
            reporter=reporter,
            constraints=_constraints(order.constraints),
            asked_by=f"{DISTRIBUTION} {program.version}",
        )
        return _Work(program, target, extras, keys, store, client, reporter, settings.threads).run(out, found)


def checked_extras(asked: Iterable[str], offered: Collection[str]) -> tuple[str, ...]:
    """The extras, sorted, each once. Errors: `ManifestError` for one that there is not, or that no site may have."""
    extras = tuple(sorted({canonicalize_name(name.strip()) for name in asked if name.strip()}))
    choice = listing(name for name in sorted(offered) if name != _NOT_FOR_SITES)
    for name in extras:
        if name not in offered:
            raise ManifestError(f"{DISTRIBUTION} has no extra {name!r}", hint=f"there are: {choice}")
        if name == _NOT_FOR_SITES:
            raise ManifestError("the extra 'dev' is for a checkout, not for a site", hint=f"there are: {choice}")
    if len(clash := sorted(_ONE_OF.intersection(extras))) > 1:
        raise ManifestError(
            f"the extras {' and '.join(clash)} break each other: each brings an onnxruntime of its own",
            hint="make a kit for each: --extra serve,cpu and --extra serve,gpu",
        )
    return extras


def trusted_keys(paths: Iterable[Path]) -> dict[str, Key]:
    """Public keys by the name that their file has in a kit. Errors: `KeyFileError`, also for two keys of one name."""
    keys: dict[str, Key] = {}
    for path in paths:
        name = _key_name(path)
        key = _key(path)
        if keys.get(name, key).id != key.id or (name not in keys and fold(name) in map(fold, keys)):
            raise KeyFileError(f"two keys would be {name} in the kit", hint="rename one of the files")
        keys[name] = key
    return keys


@dataclass(frozen=True, slots=True)
class _Work:
    """The parts that a run needs, once it is known which wheels."""

    program: Program
    target: Target
    extras: tuple[str, ...]
    keys: Mapping[str, Key]
    store: Store
    client: Client
    reporter: Reporter
    threads: int

    def run(self, out: Path, found: Sequence[Found]) -> Made:
        """Take the wheels, write the kit; once more if the store turns out to be damaged."""
        made = self._take(found)
        try:
            return self._write(out, made)
        except CorruptStoreError as error:
            self.reporter.note(f"{error}; fetching what is damaged again")
            for wheel in made.wheels:
                self.store.drop_damaged(_digest(wheel))
            return self._write(out, self._take(found))

    def _take(self, found: Sequence[Found]) -> Kit:
        with Intake(self.store, self.client, self.reporter) as intake:
            jobs = [partial(take, intake, each) for each in found]
            taken = together(jobs, threads=self.threads, stop=self.client.stop)
        wheels = [
            _wheel(each.path, done.recipe.digest, done.recipe.size) for each, done in zip(found, taken, strict=True)
        ]
        wheels.append(_wheel(self.program.file, self.program.digest, len(self.program.content)))
        return Kit(
            format=kit.FORMAT,
            program=self.program.version,
            platform=self.target.platform,
            python=self.target.python,
            extras=self.extras,
            wheels=tuple(sorted(wheels, key=lambda wheel: wheel.name)),
        )

    def _write(self, out: Path, made: Kit) -> Made:
        for wheel in made.wheels:
            if wheel.name == _PIP.name:
                check_runs(self.store, _digest(wheel), wheel.file, package=_PIP.name)
        contents: dict[str, Iterable[bytes]] = {wheel.file: self.store.read(_digest(wheel)) for wheel in made.wheels}
        contents[self.program.file] = [self.program.content]
        fingerprint = writing.write(out, made, contents, self.keys)
        with translated(out):
            size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
        return Made(out, made, self.keys, fingerprint, size)


def _wheel(file: str, digest: Digest, size: int) -> Wheel:
    name, version, _, _ = parse_wheel_filename(file)
    return Wheel(name=name, version=str(version), file=file, sha256=digest.hex, size=size)


def _digest(wheel: Wheel) -> Digest:
    return Digest.parse(f"sha256:{wheel.sha256}")


def _constraints(path: Path | None) -> Constraints | None:
    """The versions of an earlier kit; of our own program there is only the one that runs."""
    if path is None:
        return None
    try:
        with path.open(encoding="utf-8-sig") as stream:  # some editors and shells begin a file with a mark
            text = stream.read(MAXIMUM_LENGTH + 1)
    except OSError as error:
        raise ManifestError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ManifestError(f"{path} is not a text file", hint="give the requirements.txt of an earlier kit") from error
    ours = (f"{DISTRIBUTION}==", f"{DISTRIBUTION}[")
    lines = ["" if line.startswith(ours) else line for line in text.splitlines()]
    return constraints_of("\n".join(lines), subject=str(path))


def _refuse_store(out: Path, store: Path) -> None:
    """`StorageError` if one of the two would lie in the other."""
    with translated(out):
        kit_folder, folder = out.resolve(), store.resolve()
    if kit_folder.is_relative_to(folder) or folder.is_relative_to(kit_folder):
        raise StorageError(f"{out} and the store {store} lie in one another", hint="name another place for the kit")


def _key_name(path: Path) -> str:
    """The name of the key's file in the kit. Errors: `KeyFileError`."""
    try:
        return checked_path(f"{path.name.removesuffix('.pem').removesuffix('.pub')}.pub.pem")
    except NamingError as error:
        raise KeyFileError(
            f"{printable(str(path))}: no kit can have a file of this name",
            hint="give a copy of the key a plain name, such as line.pub.pem, and name that",
        ) from error


def _key(path: Path) -> Key:
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise KeyFileError(f"{path} is not a plain file", hint="name the file KEY.pub.pem")
        with path.open("rb") as stream:
            return Key.parse(stream.read(MAXIMUM_PEM), subject=str(path))
    except OSError as error:
        raise KeyFileError(f"{path}: {error.strerror}") from error
