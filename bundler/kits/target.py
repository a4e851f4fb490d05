"""The machine that a kit is for, as text says it: which wheels it takes, and what it answers to markers.

* Nothing here asks this host: tags and markers follow from the platform's name and the Python version alone.
* A Python version has no patch level, because the site may have any of them: what some patch level needs is taken
  along, and what some patch level refuses is not taken.
* CPython with its global lock. Tags are in order of preference, as pip has it.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, Self

from packaging.markers import Marker
from packaging.specifiers import SpecifierSet
from packaging.tags import Tag, compatible_tags, cpython_tags, mac_platforms

from manifests.errors import ManifestError

OLDEST_PYTHON: Final = 11
"""The minor version of Python 3 below which this program does not run."""
_PATCHES: Final = 40
"""Patch levels that are looked at: no Python 3 ever had more."""
_PYTHON: Final = re.compile(r"3\.(?P<minor>[1-9][0-9]?)")
_MANYLINUX: Final = re.compile(r"manylinux_2_(?P<minor>[1-9][0-9]?)_(?P<machine>x86_64|aarch64)")
_MACOS: Final = re.compile(r"macosx_(?P<major>1[0-9]|[2-9][0-9])_(?P<minor>[0-9]{1,2})_(?P<machine>x86_64|arm64)")
_WINDOWS: Final = {"win_amd64": "AMD64", "win_arm64": "ARM64"}
_OLDEST_GLIBC: Final = {"x86_64": 5, "aarch64": 17}
"""The first glibc, as 2.N, that a wheel tag of the machine was ever made for."""
_LEGACY: Final = {5: "manylinux1", 12: "manylinux2010", 17: "manylinux2014"}
_ACCEPTED: Final = (
    "manylinux_2_N_x86_64 (N from 5), manylinux_2_N_aarch64 (N from 17), win_amd64, win_arm64, macosx_N_M_arm64, "
    "macosx_N_M_x86_64; N as `ldd --version` on the site says it: 28 is 2.28"
)


@dataclass(frozen=True, slots=True)
class Target:
    """A platform and a Python version: `python` is `3.11`; `tags` are those of the wheels that it takes, best first."""

    platform: str
    python: str
    tags: tuple[Tag, ...] = field(repr=False)
    environment: Mapping[str, str] = field(repr=False, compare=False)
    """What markers ask for, at the first patch level of the Python version."""

    @classmethod
    def parse(cls, platform: str, python: str) -> Self:
        """The target of `manylinux_2_28_x86_64` and `3.11`. Errors: `ManifestError`, which lists what is accepted."""
        minor = _python_minor(python)
        platforms = _platforms(platform)
        interpreter = f"cp3{minor}"
        tags = (
            *cpython_tags((3, minor), abis=[interpreter], platforms=platforms),
            *compatible_tags((3, minor), interpreter=interpreter, platforms=platforms),
        )
        return cls(platform, python, tuple(dict.fromkeys(tags)), _environment(platform, python))

    def __str__(self) -> str:
        return f"{self.platform}, Python {self.python}"

    def needs(self, marker: Marker | None, extras: Collection[str] = ()) -> bool:
        """Whether a requirement holds here: at any patch level, and with any of the `extras` (or with none)."""
        if marker is None:
            return True
        return any(
            marker.evaluate({**environment, "extra": extra})
            for environment in self._environments(marker)
            for extra in extras or ("",)
        )

    def takes(self, pythons: SpecifierSet) -> bool:
        """Whether a distribution for these `pythons` (Requires-Python) runs here, whatever the patch level."""
        return all(pythons.contains(f"{self.python}.{patch}", prereleases=True) for patch in range(_PATCHES))

    def _environments(self, marker: Marker) -> Iterator[Mapping[str, str]]:
        yield self.environment
        if any(variable in str(marker) for variable in _versions("")):
            for patch in range(1, _PATCHES):
                yield {**self.environment, **_versions(f"{self.python}.{patch}")}


def _python_minor(python: str) -> int:
    match = _PYTHON.fullmatch(python)
    minor = int(match["minor"]) if match else 0
    if minor < OLDEST_PYTHON:
        raise ManifestError(
            f"not a Python version that a kit can be for: {python!r}",
            hint=f"3.{OLDEST_PYTHON} or newer, without a patch level: `python3 --version` on the site says it",
        )
    return minor


def _platforms(platform: str) -> list[str]:
    """The tags of platforms that run on `platform`, the closest first."""
    if platform in _WINDOWS:
        return [platform]
    if match := _MANYLINUX.fullmatch(platform):
        newest, machine = int(match["minor"]), match["machine"]
        if newest >= _OLDEST_GLIBC[machine]:
            return [*_manylinux(newest, machine), f"linux_{machine}"]
    elif match := _MACOS.fullmatch(platform):
        return list(mac_platforms((int(match["major"]), int(match["minor"])), match["machine"]))
    raise ManifestError(f"not a platform that a kit can be for: {platform!r}", hint=f"accepted: {_ACCEPTED}")


def _manylinux(newest: int, machine: str) -> Iterator[str]:
    for minor in range(newest, _OLDEST_GLIBC[machine] - 1, -1):
        yield f"manylinux_2_{minor}_{machine}"
        if minor in _LEGACY:
            yield f"{_LEGACY[minor]}_{machine}"


def _environment(platform: str, python: str) -> Mapping[str, str]:
    """Every variable that a marker can ask for; which kernel the site has, nobody here knows."""
    if platform in _WINDOWS:
        names = ("nt", "win32", "Windows", _WINDOWS[platform])
    elif match := _MACOS.fullmatch(platform):
        names = ("posix", "darwin", "Darwin", match["machine"])
    else:
        names = ("posix", "linux", "Linux", platform.split("_", 3)[3])
    return {
        **dict(zip(("os_name", "sys_platform", "platform_system", "platform_machine"), names, strict=True)),
        **_versions(f"{python}.0"),
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
        "platform_release": "",
        "platform_version": "",
        "python_version": python,
    }


def _versions(full: str) -> Mapping[str, str]:
    return {"python_full_version": full, "implementation_version": full}
