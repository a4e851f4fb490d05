"""A kit's folder: every file of it, and `SHA256SUMS` last, in the place of an older kit or of nothing.

* The same kit and keys give the same bytes and modes; no clock, no host, no umask.
* An older kit is replaced whole, and only if nothing else was put into its folder.
"""

from collections.abc import Iterable, Iterator, Mapping
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from typing import Final

from bundler.kits.readme import readme
from manifests import kit
from manifests.digest import Digest
from manifests.errors import CorruptStoreError
from manifests.keyring import Key
from manifests.kit import DESCRIPTION, DISTRIBUTION, REQUIREMENTS, SUMS, TRUST, WHEELS, Kit, Wheel
from manifests.kit_folder import replacing_kit
from manifests.publish import publish, publishing

_INSTALLERS: Final = ("install.py", "install.ps1", kit.INSTALLER)


def write(out: Path, made: Kit, wheels: Mapping[str, Iterable[bytes]], keys: Mapping[str, Key]) -> Digest:
    """Write the kit `made` to `out`; its fingerprint. `wheels` by file name, `keys` by the name of their file.

    Errors: `StorageError` if something else is in the way; `CorruptStoreError` if a wheel is not what `made` says.
    """
    kit.decode(kit.encode(made), subject="the kit")  # the names of wheels are an index's words
    with replacing_kit(out) as folder:
        digests = {f"{WHEELS}/{each.file}": _write_wheel(folder, each, wheels[each.file]) for each in made.wheels}
        for path, content in _small_files(made, keys):
            publish(folder / path, content, mode=kit.mode(path))
            digests[path] = Digest.of(content)
        sums = kit.encode_sums(digests)
        kit.check(digests, description=kit.encode(made), sums=sums, subject=str(out))
        publish(folder / SUMS, sums, mode=kit.mode(SUMS))
    return Digest.of(sums)


def requirements(made: Kit) -> bytes:
    """`requirements.txt`: every wheel by version and digest."""
    extras = f"[{','.join(made.extras)}]" if made.extras else ""
    rows = [
        f"{each.name}{extras if each.name == DISTRIBUTION else ''}=={each.version} --hash=sha256:{each.sha256}\n"
        for each in made.wheels
    ]
    return "".join(rows).encode()


def _write_wheel(folder: Path, wheel: Wheel, pieces: Iterable[bytes]) -> Digest:
    path = f"{WHEELS}/{wheel.file}"
    with publishing(folder / path, mode=kit.mode(path)) as stream:
        digest, size = sha256(), 0
        for piece in pieces:
            digest.update(piece)
            size += stream.write(piece)
        if (digest.hexdigest(), size) != (wheel.sha256, wheel.size):
            raise CorruptStoreError(f"{wheel.file} came out of the store as another file")
    return Digest(digest.digest())


def _small_files(made: Kit, keys: Mapping[str, Key]) -> Iterator[tuple[str, bytes]]:
    """Path and content."""
    yield DESCRIPTION, kit.encode(made)
    yield REQUIREMENTS, requirements(made)
    yield "README.txt", readme(made, keys)
    for name in _INSTALLERS:
        yield name, (files(__package__) / "installer" / name).read_bytes()
    for name, key in keys.items():
        yield f"{TRUST}/{name}", key.pem
