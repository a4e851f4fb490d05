"""The variables that make unmodified clients read a root, and leave it as it is.

* They go through the `current` link, and stay right when another generation becomes active. Where there are no symbolic
  links they name the generation itself, and must be asked for again after an install.
* Where a root cannot be written to, as in a container, what clients would write into it goes to a scratch folder.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePath, PurePosixPath
from typing import Final

from manifests.errors import NamingError
from runtime.root import Root

DEFAULT_MOUNT: Final = "/bundle"
"""Where a container sees the root, if nobody says otherwise."""


@dataclass(frozen=True, slots=True)
class Environment:
    """Variables for one place: `host` is the root on this machine, `inside` the root as the values name it."""

    host: str
    inside: str
    values: Mapping[str, str]


def environment(root: Root, *, mount: PurePosixPath | None = None, scratch: str | None = None) -> Environment:
    """The variables of `root` as it appears at `mount`, by default where it is; read-only if there is a `scratch`."""
    host = root.path.resolve() if ".." in root.path.parts else root.path  # no mount takes such a path
    inside = mount or host
    return Environment(str(host), str(inside), _values(root, inside) | (_scratch(scratch) if scratch else {}))


def variables(root: Root) -> dict[str, str]:
    """Name and value, for a process on this machine."""
    return dict(environment(root).values)


def mount_point(text: str) -> PurePosixPath:
    """`text` as the place of a root in a container. `NamingError` if no container could mount there."""
    path = PurePosixPath(text)
    if not path.is_absolute() or ".." in path.parts or str(path) in {"/", "//"} or ":" in text:
        raise NamingError(
            f"{text!r} cannot be a mount point",
            hint=f"an absolute path without '..' and ':', as {DEFAULT_MOUNT}",
        )
    return path


def _values(root: Root, place: PurePath) -> dict[str, str]:
    number = root.current()
    current = place / "current"
    if number is not None and not (root.path / "current").is_symlink():
        current = place / "generations" / str(number)
    return {
        "BUNDLE_HOME": str(place),
        "INFERENCE_HOME": str(current / "roboflow"),
        "MODEL_CACHE_DIR": str(current / "roboflow"),
        "OFFLINE_MODE": "True",
        "HF_HUB_CACHE": str(current / "plain" / "hub"),
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "AIM_CACHE_PATH": str(current / "plain"),
        "DISK_CACHE_CLEANUP": "False",
        "ATOMIC_CACHE_WRITES_ENABLED": "True",
    }


def _scratch(folder: str) -> dict[str, str]:
    """Clients put these below the model cache unless told otherwise, and there nothing can be written."""
    return {"HF_HOME": f"{folder}/huggingface", "HF_MODULES_CACHE": f"{folder}/huggingface/modules"}
