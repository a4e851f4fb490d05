"""The folder of a kit: what may take whose place. Both sides write kits: one makes them, the other unpacks them.

* An older kit is replaced whole, and only if nothing else was put into its folder.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from manifests import kit
from manifests.errors import FormatError, StorageError, listing
from manifests.folders import replacing_folder
from manifests.kit import DESCRIPTION, SUMS
from manifests.publish import translated


@contextmanager
def replacing_kit(out: Path) -> Iterator[Path]:
    """A new, empty folder for the block to fill, that takes the place of `out`: of nothing, or an older kit.

    Errors: `StorageError` if anything else is in the way.
    """
    refuse_to_replace_anything_else(out)
    with replacing_folder(out) as folder:
        yield folder


def refuse_to_replace_anything_else(out: Path) -> None:
    """`StorageError` unless `out` is new, an empty folder, or a kit to which nothing was added."""
    with translated(out):
        if out.is_mount():
            raise StorageError(f"{out} cannot be replaced as a whole", hint=f"name a folder in it: {out / 'kit'}")
        if not out.exists() or (out.is_dir() and not any(out.iterdir())):
            return
        if not (out / DESCRIPTION).is_file() or not (out / SUMS).is_file():
            raise StorageError(f"{out} exists and is not a kit", hint="name another place, or remove it")
        try:
            with (out / SUMS).open("rb") as stream:
                listed = kit.decode_sums(stream.read(kit.MAXIMUM_SUMS + 1), subject=str(out / SUMS))
        except FormatError as error:
            raise StorageError(f"{out} is not a whole kit: {error}", hint="name another place, or remove it") from error
        others = sorted(
            name
            for path in out.rglob("*")
            if not path.is_dir() and (name := path.relative_to(out).as_posix()) not in {SUMS, *listed}
        )
    if others:
        raise StorageError(
            f"{out} is a kit, and holds other files as well: {listing(others)}",
            hint="take them out first: a new kit replaces the whole folder",
        )
