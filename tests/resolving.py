"""What the tests of a kit's resolution share: wheels by what they require, and something that resolves them."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from bundler.http import Client
from bundler.kits.constraints import Constraints
from bundler.kits.resolution import resolve
from bundler.kits.target import Target
from bundler.pip_settings import PackageIndexes
from bundler.settings import Settings
from bundler.sources.base import Found
from loopback import hasty
from manifests.errors import (
    SourceError,
)
from manifests.progress import Silent
from manifests.store import Store
from wheels import wheel

LINUX, ARM, WINDOWS = "manylinux_2_28_x86_64", "manylinux_2_28_aarch64", "win_amd64"


def described(name: str, version: str, *requires: str, python: str = "", extras: Sequence[str] = ()) -> str:
    """METADATA."""
    lines = ["Metadata-Version: 2.4", f"Name: {name}", f"Version: {version}"]
    lines += [f"Requires-Dist: {text}" for text in requires] + [f"Provides-Extra: {extra}" for extra in extras]
    return "\n".join([*lines, *([f"Requires-Python: {python}"] if python else []), "", "A text.\n"])


def wheels(
    name: str,
    version: str,
    *requires: str,
    tags: Sequence[str] = ("py3-none-any",),
    python: str = "",
    extras: Sequence[str] = (),
) -> dict[str, bytes]:
    """Wheels of one version by file name, one for each of `tags`."""
    text = described(name, version, *requires, python=python, extras=extras)
    return {f"{name}-{version}-{tag}.whl": wheel(name, version, metadata=text, tag=tag.encode()) for tag in tags}


class Notes(Silent):
    """Keeps what was told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def note(self, text: str) -> None:
        self.told.append(text)


class Maker:
    """Resolves with a store of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.notes = Notes()

    def __call__(
        self,
        *roots: str,
        indexes: Sequence[str] = (),
        find_links: Sequence[str] = (),
        platform: str = LINUX,
        python: str = "3.11",
        constraints: Constraints | None = None,
    ) -> tuple[Found, ...]:
        packages = PackageIndexes(tuple(indexes), tuple(find_links))
        settings: Settings = hasty(self.folder / "store", packages=packages)
        with Store.open(settings.store) as store, Client(settings) as client:
            return resolve(
                [Requirement(root) for root in roots],
                Target.parse(platform, python),
                packages=packages,
                client=client,
                store=store,
                reporter=self.notes,
                constraints=constraints,
                asked_by="the test",
            )

    def names(self, files: dict[str, bytes], *roots: str, platform: str = LINUX, python: str = "3.11") -> list[str]:
        """File names of the wheels out of a folder with `files`."""
        links = [str(self.written("links", files))]
        return [found.path for found in self(*roots, find_links=links, platform=platform, python=python)]

    def written(self, name: str, files: dict[str, bytes]) -> Path:
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        for file, content in files.items():
            (folder / file).write_bytes(content)
        return folder


def error_of(maker: Maker, files: dict[str, bytes], *roots: str, platform: str = LINUX) -> SourceError:
    with pytest.raises(SourceError) as caught:
        maker.names(files, *roots, platform=platform)
    return caught.value
