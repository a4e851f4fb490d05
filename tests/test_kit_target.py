"""The machine that a kit is for: its tags and its markers, none of them this host's."""

import platform
import sys

import pytest
from packaging.markers import Marker, default_environment
from packaging.specifiers import SpecifierSet
from packaging.tags import Tag, cpython_tags

from bundler.kits.target import Target
from manifests.errors import ManifestError

LINUX, ARM, WINDOWS = "manylinux_2_28_x86_64", "manylinux_2_28_aarch64", "win_amd64"


def texts(target: Target) -> list[str]:
    return [str(tag) for tag in target.tags]


def test_older_platforms_follow_newer_ones_with_their_old_names_and_the_plain_one_last() -> None:
    native = [tag.platform for tag in Target.parse(LINUX, "3.11").tags if tag.abi == "cp311"]
    assert native[0] == LINUX
    assert native[-1] == "linux_x86_64"
    assert native[native.index("manylinux_2_17_x86_64") + 1] == "manylinux2014_x86_64"
    assert native[native.index("manylinux_2_12_x86_64") + 1] == "manylinux2010_x86_64"
    assert native[native.index("manylinux_2_5_x86_64") + 1] == "manylinux1_x86_64"
    assert len(native) == 24 + 3 + 1


def test_a_machine_has_no_tags_from_before_its_time() -> None:
    native = [tag.platform for tag in Target.parse(ARM, "3.11").tags if tag.abi == "cp311"]
    assert native[-3:] == ["manylinux_2_17_aarch64", "manylinux2014_aarch64", "linux_aarch64"]
    assert len(native) == 12 + 1 + 1


@pytest.mark.parametrize("platform", [LINUX, ARM, WINDOWS, "win_arm64", "macosx_11_0_arm64"])
def test_the_stable_abi_and_pure_wheels_come_after_native_ones(platform: str) -> None:
    tags = texts(Target.parse(platform, "3.12"))
    order = [f"cp312-cp312-{platform}", f"cp312-abi3-{platform}", f"cp37-abi3-{platform}", "py3-none-any"]
    assert [tags.index(tag) for tag in order] == sorted(tags.index(tag) for tag in order)
    assert len(tags) == len(set(tags))


@pytest.mark.parametrize("tag", ["cp313-cp313t", "cp314-cp314", "cp314-abi3", "pp311-pypy311_pp73"])
def test_other_interpreters_are_not_served(tag: str) -> None:
    assert not [text for text in texts(Target.parse(LINUX, "3.13")) if text.startswith(f"{tag}-")]


@pytest.mark.skipif(
    not (sys.platform == "linux" and platform.machine() in {"x86_64", "aarch64"}), reason="compares with this host"
)
def test_for_a_host_like_this_one_the_tags_are_those_of_its_own_pip() -> None:
    python = f"3.{sys.version_info.minor}"
    here = [tag for tag in cpython_tags() if tag.platform.startswith("manylinux")]
    ours = Target.parse(here[0].platform, python).tags
    assert [tag for tag in ours if tag in here] == here
    assert ours[-1] == Tag("py30", "none", "any")


MARKERS = {
    "sys_platform == 'win32'": {WINDOWS, "win_arm64"},
    "platform_system == 'Windows' and platform_machine == 'AMD64'": {WINDOWS},
    "platform_machine == 'ARM64'": {"win_arm64"},
    "platform_machine == 'aarch64' and sys_platform == 'linux'": {ARM},
    "os_name == 'posix' and platform_machine == 'x86_64'": {LINUX, "macosx_10_13_x86_64"},
    "sys_platform == 'darwin' and platform_system == 'Darwin'": {"macosx_10_13_x86_64"},
    "platform_python_implementation == 'CPython' and implementation_name == 'cpython'": {
        LINUX, ARM, WINDOWS, "win_arm64", "macosx_10_13_x86_64"
    },
    "platform_release >= '6' or 'tegra' in platform_version": set(),
}  # fmt: skip


@pytest.mark.parametrize("marker", MARKERS)
def test_a_marker_is_answered_for_the_target(marker: str) -> None:
    platforms = [LINUX, ARM, WINDOWS, "win_arm64", "macosx_10_13_x86_64"]
    assert {name for name in platforms if Target.parse(name, "3.11").needs(Marker(marker))} == MARKERS[marker]


def test_every_variable_of_a_marker_is_the_targets_own() -> None:
    assert set(Target.parse(LINUX, "3.11").environment) == set(default_environment())


@pytest.mark.parametrize(
    ("marker", "needed"),
    [
        ("python_version < '3.13'", True),
        ("python_version >= '3.13'", False),
        ("python_full_version < '3.12.3'", True),
        ("python_full_version >= '3.12.4'", True),
        ("python_full_version == '3.12.7'", True),
        ("implementation_version >= '3.12.9'", True),
        ("python_full_version < '3.12'", False),
        ("python_full_version >= '3.13.0'", False),
    ],
)
def test_what_some_patch_level_needs_is_needed(marker: str, *, needed: bool) -> None:
    assert Target.parse(LINUX, "3.12").needs(Marker(marker)) is needed


@pytest.mark.parametrize(
    ("pythons", "taken"),
    [("", True), (">=3.9", True), (">=3.9,<4", True), ("==3.12.*", True), (">=3.13", False), ("<3.12", False),
     (">=3.12.2", False), ("<=3.12", False), ("!=3.12.1", False), ("!=3.11.1", True)],
)  # fmt: skip
def test_what_some_patch_level_refuses_is_not_taken(pythons: str, *, taken: bool) -> None:
    assert Target.parse(LINUX, "3.12").takes(SpecifierSet(pythons)) is taken


def test_extras_are_asked_for_by_any_spelling_of_theirs() -> None:
    target = Target.parse(LINUX, "3.12")
    marker = Marker("extra == 'Some_Extra' and sys_platform == 'linux'")
    assert target.needs(marker, {"some-extra", "other"})
    assert not target.needs(marker)
    assert not Target.parse(WINDOWS, "3.12").needs(marker, {"some-extra"})


@pytest.mark.parametrize(
    "platform",
    ["", "linux_x86_64", "manylinux2014_x86_64", "manylinux_2_28", "manylinux_2_4_x86_64", "manylinux_2_16_aarch64",
     "manylinux_2_28_i686", "manylinux_3_1_x86_64", "musllinux_1_2_x86_64", "win32", "WIN_AMD64", "any",
     "manylinux_2_28_x86_64\n", "macosx_9_0_arm64"],
)  # fmt: skip
def test_a_platform_that_cannot_be_lists_those_that_can(platform: str) -> None:
    with pytest.raises(ManifestError, match="not a platform") as caught:
        Target.parse(platform, "3.11")
    assert "manylinux_2_N_aarch64 (N from 17)" in caught.value.hint


@pytest.mark.parametrize("python", ["", "3", "3.1", "3.10", "2.7", "3.11.4", "cp311", "311", "3.011", "python3.11"])
def test_a_python_that_cannot_be_says_which_can(python: str) -> None:
    with pytest.raises(ManifestError, match="not a Python version") as caught:
        Target.parse(LINUX, python)
    assert "3.11 or newer" in caught.value.hint


def test_a_target_reads_as_platform_and_python() -> None:
    target = Target.parse(WINDOWS, "3.14")
    assert (target.platform, target.python, str(target)) == (WINDOWS, "3.14", "win_amd64, Python 3.14")
    assert target == Target.parse(WINDOWS, "3.14")
