"""Kits that bundles brought: this program, for some platform, as it lies in the active generation.

* A kit is offered and unpacked, never run: which program answers on this machine is its operator's decision.
* What is unpacked is compared with the digests of the signed bundle once more.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final

from manifests import kit
from manifests.content import File, Package
from manifests.digest import Digest
from manifests.errors import CorruptStoreError, FormatError, StorageError
from manifests.kit import Kit
from manifests.kit_folder import replacing_kit
from manifests.publish import publishing, sync_folder, translated
from runtime import generations
from runtime.layouts import kits as layout
from runtime.lines import Line
from runtime.root import Root

_PIECE: Final = 1 << 20
_AGAIN: Final = "`bundle install BUNDLE --recheck` with the bundle that brought it"


@dataclass(frozen=True, slots=True)
class InstalledKit:
    """One kit of a bundle line: `directory` is where it lies, `package` what is in it, `kit` what it is for."""

    line: str
    id: str
    directory: Path
    package: Package
    kit: Kit


def installed(root: Root) -> tuple[InstalledKit, ...]:
    """The kits of the active generation. Errors: `CorruptStoreError`."""
    number = root.current()
    return () if number is None else of_lines(root.generation(number), generations.read(root, number))


def of_lines(generation: Path, lines: Mapping[str, Line]) -> tuple[InstalledKit, ...]:
    """The kits of these lines, whose trees lie in the folder `generation`. Errors: `CorruptStoreError`."""
    places = [
        (name, item.id, generation / layout.folder(item, package), package)
        for name, line in sorted(lines.items())
        for item in line.content.wheels
        for package in item.packages
    ]
    return tuple(
        InstalledKit(name, item, folder, package, _described(folder)) for name, item, folder, package in places
    )


def unpack(chosen: InstalledKit, out: Path) -> None:
    """Copy a kit to the folder `out`, which is new or an older kit, every file compared with its digest.

    Errors: `StorageError` if something else is in the way; `CorruptStoreError` for a file that is not as it was signed.
    """
    with replacing_kit(out) as fresh:
        for file in chosen.package.files:
            _copy(chosen.directory / file.path, fresh / file.path, file)
        for folder in sorted({(fresh / file.path).parent for file in chosen.package.files}):
            sync_folder(folder)


def _described(folder: Path) -> Kit:
    path = folder / kit.DESCRIPTION
    try:
        with translated(path), path.open("rb") as stream:
            return kit.decode(stream.read(kit.MAXIMUM_DESCRIPTION + 1), subject=str(path))
    except (FormatError, StorageError) as error:
        raise CorruptStoreError(f"{path} cannot be read: {error}", hint=_AGAIN) from error


def _copy(source: Path, target: Path, file: File) -> None:
    hash_ = sha256()
    with translated(source), source.open("rb") as reader, publishing(target, mode=kit.mode(file.path)) as writer:
        while piece := reader.read(_PIECE):
            hash_.update(piece)
            writer.write(piece)
        if Digest(hash_.digest()) != file.digest:
            raise CorruptStoreError(f"{source} is not the file that was signed", hint=_AGAIN)
