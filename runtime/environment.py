"""The variables that make unmodified clients read a root, and leave it as it is.

* They go through the `current` link, and stay right when another generation becomes active. Where there are no symbolic
  links they name the generation itself, and must be asked for again after an install.
* Where a root cannot be written to, as in a container, what clients would write into it goes to a scratch folder.
"""

import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath, PurePosixPath
from typing import Final

from manifests.errors import NamingError
from runtime.layouts import directory, huggingface, inference
from runtime.root import Root
from runtime.settings import TELEMETRY_OFF

DEFAULT_MOUNT: Final = "/bundle"
"""Where a container sees the root, if nobody says otherwise."""


@dataclass(frozen=True, slots=True)
class Environment:
    """Variables for one place: `host` is the root on this machine, `inside` the root as the values name it.

    `readable` says whether any user can read it there.
    """

    host: str
    inside: str
    values: Mapping[str, str]
    readable: bool = True


def environment(root: Root, *, mount: PurePosixPath | None = None, scratch: str | None = None) -> Environment:
    """The variables of `root` as it appears at `mount`, by default where it is; read-only if there is a `scratch`."""
    host = root.path.resolve() if ".." in root.path.parts else root.path  # no mount takes such a path
    inside = mount or host
    values = _values(root, inside) | (_scratch(scratch) if scratch else {})
    return Environment(str(host), str(inside), values, readable=mount is None or _is_readable(root))


def variables(root: Root) -> dict[str, str]:
    """Name and value, for a process on this machine."""
    return dict(environment(root).values)


def of_layout(layout: str, folder: PurePath) -> dict[str, str]:
    """What points one family of clients at `folder`, keeps them off the network, and has them leave it as it is."""
    if layout == huggingface.NAME:
        return {"HF_HUB_CACHE": str(folder), "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
    if layout == inference.NAME:
        return {
            "INFERENCE_HOME": str(folder),
            "MODEL_CACHE_DIR": str(folder),
            "OFFLINE_MODE": "True",
            "DISK_CACHE_CLEANUP": "False",
            "ATOMIC_CACHE_WRITES_ENABLED": "True",
        }
    return {"AIM_CACHE_PATH": str(folder)}


def mount_point(text: str, *, scratch: str | None = None) -> PurePosixPath:
    """`text` as the place of a root in a container. `NamingError` if no container could mount there.

    Nor may it hold, or lie in, the folder `scratch`, which clients write to: the root is read-only.
    """
    path = PurePosixPath("/" + text.lstrip("/") if text.startswith("/") else text)  # two slashes are not one to POSIX
    if not path.is_absolute() or ".." in path.parts or str(path) == "/" or ":" in text:
        raise NamingError(
            f"{text!r} cannot be a mount point",
            hint=f"an absolute path without '..' and ':', as {DEFAULT_MOUNT}",
        )
    if scratch is not None and (path.is_relative_to(scratch) or PurePosixPath(scratch).is_relative_to(path)):
        raise NamingError(
            f"{text!r} cannot be the mount point of the root: clients write to {scratch}",
            hint=f"a folder that has nothing to do with it, as {DEFAULT_MOUNT}",
        )
    return path


def _is_readable(root: Root) -> bool:
    """Whether any user can read the active generation, once the root is mounted: no folder above it counts there."""
    number = root.current()
    folders = [root.path, root.generations, *([] if number is None else [root.generation(number)])]
    try:
        return all(_is_open(folder) for folder in folders) and (number is None or _is_tree_open(folders[-1]))
    except OSError:  # not even this user can
        return False


def _is_tree_open(folder: Path) -> bool:
    return all(_is_open(path) for path in folder.rglob("*") if not path.is_symlink())


def _is_open(path: Path) -> bool:
    mode = path.stat().st_mode
    needed = stat.S_IROTH | (stat.S_IXOTH if stat.S_ISDIR(mode) else 0)
    return mode & needed == needed


def _values(root: Root, place: PurePath) -> dict[str, str]:
    number = root.current()
    current = place / "current"
    if number is not None and not (root.path / "current").is_symlink():
        current = place / "generations" / str(number)
    return {
        "BUNDLE_HOME": str(place),
        **of_layout(inference.NAME, current / "roboflow"),
        **of_layout(huggingface.NAME, current / "plain" / "hub"),
        **of_layout(directory.NAME, current / "plain"),
        TELEMETRY_OFF: "1",  # else onnxruntime looks up its maker's host, and writes below HOME
    }


def _scratch(folder: str) -> dict[str, str]:
    """Clients put these below the model cache unless told otherwise, and there nothing can be written."""
    return {"HF_HOME": f"{folder}/huggingface", "HF_MODULES_CACHE": f"{folder}/huggingface/modules"}
