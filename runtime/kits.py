"""Kits that bundles brought: this program, for some platform, as it lies in the active generation.

* What a kit is for stands in the signed index: a site shows and unpacks one that only a newer program can describe.
* A kit is offered and unpacked, never run: which program answers on this machine is its operator's decision.
* What is unpacked is compared with the digests of the signed bundle once more.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final

from manifests import kit
from manifests.content import File, KitPackage
from manifests.digest import Digest
from manifests.errors import CorruptStoreError
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
    """One kit of a bundle line: the version of the program in it, and where it lies."""

    line: str
    id: str
    program: str
    package: KitPackage
    directory: Path


def installed(root: Root) -> tuple[InstalledKit, ...]:
    """The kits of the active generation; none before the first install. Errors: `CorruptStoreError`."""
    number = root.current()
    return () if number is None else of_lines(root.generation(number), generations.read(root, number))


def of_lines(generation: Path, lines: Mapping[str, Line]) -> tuple[InstalledKit, ...]:
    """The kits of these lines, whose trees lie in the folder `generation`."""
    return tuple(
        InstalledKit(name, item.id, item.program, each, generation / layout.folder(item, each))
        for name, line in sorted(lines.items())
        for item in line.content.wheels
        for each in item.packages
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


def _copy(source: Path, target: Path, file: File) -> None:
    hash_, left = sha256(), file.size
    with translated(source), source.open("rb") as reader, publishing(target, mode=kit.mode(file.path)) as writer:
        while piece := reader.read(min(_PIECE, left + 1)):
            hash_.update(piece)
            left -= writer.write(piece)
            if left < 0:
                break
        if left or Digest(hash_.digest()) != file.digest:
            raise CorruptStoreError(f"{source} is not the file that was signed", hint=_AGAIN)
