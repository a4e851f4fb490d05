"""What tests of kits are made of: folders of stand-in wheels, and small kits that really install."""

import importlib.metadata
import platform
import sys
from collections.abc import Mapping
from pathlib import Path

from packaging.requirements import Requirement

from bundler.kits import program, writing
from bundler.kits.metadata import requirements_of
from bundler.kits.program import running_program
from bundler.kits.target import Target
from manifests import kit
from manifests.digest import Digest
from manifests.keyring import Key
from manifests.kit import FORMAT, REQUIREMENTS, SUMS, Kit, Wheel
from wheels import wheel

PYTHON = "{}.{}".format(*sys.version_info[:2])
HERE = f"manylinux_2_17_{platform.machine()}"
TARGET = Target.parse("manylinux_2_28_x86_64", "3.11")
SOUND = "def main(): print('bundle, version {version}')\n"


def wheelhouse(folder: Path, *extras: str, without: str = "") -> Path:
    """A folder with a stand-in wheel, of the oldest version that will do, for all that the program needs."""
    folder.mkdir()
    ours = running_program()
    needed = requirements_of(ours.metadata, extras, TARGET, subject="our own wheel")
    for requirement in (*needed, Requirement("pip>=25")):
        if requirement.name != without:
            put_wheel(folder, requirement.name, next(iter(requirement.specifier)).version)
    return folder


def put_wheel(folder: Path, name: str, version: str) -> Path:
    """A stand-in wheel for every platform."""
    path = folder / f"{name.replace('-', '_').lower()}-{version}-py3-none-any.whl"
    path.write_bytes(wheel(name.replace("-", "_").lower(), version))
    return path


def small_kit(
    folder: Path, version: str = "1.0", *, main: str = SOUND, keys: Mapping[str, Key] | None = None, **facts: object
) -> Path:
    """A kit for this machine with this pip and a `bundle` that tells its version; `facts` are other fields of `Kit`."""
    files = dict([_program(version, main), _pip()])
    wheels = tuple(
        Wheel(name=name, version=file.split("-")[1], file=file, sha256=Digest.of(content).hex, size=len(content))
        for name, (file, content) in sorted(files.items())
    )
    fields = {"format": FORMAT, "program": version, "platform": HERE, "python": PYTHON, "extras": (), "wheels": wheels}
    made = Kit(**{**fields, **facts})  # type: ignore[arg-type]
    writing.write(folder, made, {file: [content] for file, content in files.values()}, keys or {})
    listed = kit.decode_sums((folder / SUMS).read_bytes(), subject=SUMS)
    (row, _) = (folder / REQUIREMENTS).read_text().splitlines()  # pip works, and is not installed: that takes a second
    (folder / REQUIREMENTS).write_text(f"{row}\n")
    listed[REQUIREMENTS] = Digest.of(f"{row}\n".encode())
    (folder / SUMS).write_bytes(kit.encode_sums(listed))
    return folder


def _program(version: str, main: str) -> tuple[str, tuple[str, bytes]]:
    described = f"offline_bundle-{version}.dist-info"
    members = {
        "bundler/__init__.py": b"",
        "bundler/__main__.py": b"from bundler.tool import main\nmain()\n",
        "bundler/tool.py": main.format(version=version).encode(),
        "manifests/__init__.py": b"",
        "manifests/bundle.py": b"",
        f"{described}/METADATA": f"Metadata-Version: 2.1\nName: offline-bundle\nVersion: {version}\n".encode(),
        f"{described}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{described}/entry_points.txt": b"[console_scripts]\nbundle = bundler.tool:main\n",
    }
    content = program.wheel_of(members, record=f"{described}/RECORD")
    return "offline-bundle", (f"offline_bundle-{version}-py3-none-any.whl", content)


def _pip() -> tuple[str, tuple[str, bytes]]:
    """The pip of this environment, made into a wheel again."""
    here = importlib.metadata.distribution("pip")
    kept = ("METADATA", "WHEEL", "entry_points.txt")
    members = dict(program.recorded_files(here, lambda path: path.parts[0] == "pip" and path.suffix != ".pyc"))
    members |= dict(program.recorded_files(here, lambda path: path.parent.suffix == ".dist-info" and path.name in kept))
    content = program.wheel_of(members, record=f"pip-{here.version}.dist-info/RECORD")
    return "pip", (f"pip-{here.version}-py3-none-any.whl", content)
