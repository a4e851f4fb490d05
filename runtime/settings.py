"""Settings of the site: the only reader of the environment on this side.

* An argument wins over `BUNDLE_HOME`, that over `INFERENCE_HOME` and `MODEL_CACHE_DIR` if they point into one of our
  roots, and that over the default.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

MARKER: Final = "root.json"
TELEMETRY_OFF: Final = "ORT_DISABLE_TELEMETRY"
"""What keeps onnxruntime's native code from reporting to its maker, if it is set before that is loaded."""
_CLIENT_VARIABLES: Final = ("INFERENCE_HOME", "MODEL_CACHE_DIR")
_DEFAULT_MODELS: Final = 8
_COUNT: Final = re.compile(r"0*[1-9][0-9]{0,8}")


@dataclass(frozen=True, slots=True)
class Settings:
    """What the environment says."""

    root: Path
    maximum_active_models: int
    execution_providers: tuple[str, ...] | None
    device: str | None = None
    """What runs a model where its caller names no device."""

    @classmethod
    def read(cls, environ: Mapping[str, str] | None = None) -> "Settings":
        """The settings in `environ`, by default that of this process."""
        variables = os.environ if environ is None else environ
        count = variables.get("MAX_ACTIVE_MODELS", "")
        providers = [name.strip(" []'\"") for name in variables.get("ONNXRUNTIME_EXECUTION_PROVIDERS", "").split(",")]
        return cls(
            root=lead(variables)[0],
            maximum_active_models=int(count) if _COUNT.fullmatch(count) else _DEFAULT_MODELS,
            execution_providers=tuple(name for name in providers if name) or None,
            device=variables.get("DEFAULT_DEVICE", "").strip() or None,
        )


def locate_root(given: Path | None = None, environ: Mapping[str, str] | None = None) -> Path:
    """The root to use: `given`, or what the environment says."""
    return expanded(given).absolute() if given is not None else Settings.read(environ).root


def expanded(path: Path | str) -> Path:
    """`path` with `~` as the home of its user; that of a user whom nobody knows stays as it is."""
    return Path(os.path.expanduser(path))  # noqa: PTH111 - `Path.expanduser` raises for an unknown user


def enclosing_root(path: Path) -> Path | None:
    """The root that `path` lies in, found by searching upward for its marker."""
    resolved = Path(os.path.realpath(expanded(path)))
    return next((folder for folder in (resolved, *resolved.parents) if os.path.isfile(folder / MARKER)), None)  # noqa: PTH113 - a folder that may not be looked into is no root of ours


def lead(variables: Mapping[str, str]) -> tuple[Path, str]:
    """The root that the environment leads to, and the name of the variable that did, or `the default place`."""
    if home := variables.get("BUNDLE_HOME"):
        return expanded(home).absolute(), "BUNDLE_HOME"
    for name in _CLIENT_VARIABLES:
        if (value := variables.get(name)) and (found := enclosing_root(Path(value))):
            return found, name
    data = variables.get("XDG_DATA_HOME") or str(expanded(variables.get("HOME") or "~") / ".local" / "share")
    return Path(data) / "bundle", "the default place"
