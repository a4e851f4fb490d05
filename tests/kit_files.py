"""A small kit, as `bundle kit` lays one out: for tests of what carries kits, not of what makes them."""

from pathlib import Path

from manifests import kit
from manifests.digest import Digest
from manifests.kit import Kit, Wheel


def kit_files(
    program: str = "1.0", platform: str = "manylinux_2_28_x86_64", python: str = "3.11", wheel: bytes = b"a wheel"
) -> dict[str, bytes]:
    """Path to content."""
    name = f"offline_bundle-{program}-py3-none-any.whl"
    ours = Wheel(name=kit.DISTRIBUTION, version=program, file=name, sha256=Digest.of(wheel).hex, size=len(wheel))
    described = Kit(
        format=kit.FORMAT, program=program, platform=platform, python=python, extras=("cpu", "serve"), wheels=(ours,)
    )
    files = {
        kit.DESCRIPTION: kit.encode(described),
        kit.INSTALLER: b"echo installing\n",
        f"{kit.WHEELS}/{name}": wheel,
    }
    sums = {path: Digest.of(content) for path, content in files.items()}
    return {**files, kit.SUMS: kit.encode_sums(sums)}


def write_kit(folder: Path, files: dict[str, bytes]) -> Path:
    """The kit as a folder."""
    for path, content in files.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    return folder
