"""Environment variables: which of those that clients read lead to this root, which lead elsewhere, and who follows.

* What is wanted comes from `runtime.environment`; this module knows only who reads each, and what wins over what.
"""

import os
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import manifests
from manifests.errors import listing
from manifests.finding import Finding, Subject
from runtime.settings import TELEMETRY_OFF, expanded

SUBJECT: Final = Subject("variables")

_HUB: Final = "huggingface_hub and transformers"
_READERS: Final = {
    "BUNDLE_HOME": "bundle itself reads",
    "INFERENCE_HOME": "inference-models reads",
    "MODEL_CACHE_DIR": "the inference server reads",
    "HF_HUB_CACHE": f"{_HUB} read",
    "AIM_CACHE_PATH": "AIM reads",
}
_CONSEQUENCES: Final = {
    "OFFLINE_MODE": "inference-models asks the network for every model",
    "HF_HUB_OFFLINE": f"{_HUB} ask the network first, and wait for it",
    "TRANSFORMERS_OFFLINE": "transformers asks the network first, and waits for it",
    "DISK_CACHE_CLEANUP": "the inference server may delete what is installed",
    "ATOMIC_CACHE_WRITES_ENABLED": "the inference server may write into installed files in place",
    TELEMETRY_OFF: "onnxruntime reports to its maker over the network",
}
_TRUE: Final = frozenset({"1", "true", "yes", "on"})
_PACKAGES: Final = ("bundler", "runtime", "manifests")


def option(root: Path | None) -> str:
    """What names the root in a command: nothing, unless an option named it to this one."""
    return f" --root {shlex.quote(str(root))}" if root else ""


def how(option: str) -> str:
    """What to type so that clients follow."""
    return f'eval "$(bundle env{option})"'


def look(environ: Mapping[str, str], wanted: Mapping[str, str], fix: str) -> Iterator[Finding]:
    """What leads elsewhere than `wanted`, the variables of this root; empty where there is no root."""
    elsewhere = list(_elsewhere(environ, wanted, fix))
    yield from elsewhere
    yield from _older_names(environ, wanted, fix)
    yield from _two_caches(environ, fix if wanted else 'export MODEL_CACHE_DIR="$INFERENCE_HOME"')
    right = [name for name, value in wanted.items() if leads_there(name, environ.get(name), value)]
    missing = [name for name in wanted if not environ.get(name)]
    if missing:
        what = "no variable leads clients to this root" if not right else f"not set: {listing(missing)}"
        yield SUBJECT.note("variables-not-set", f"{what}; other programs started from here do not read it", fix=fix)
    elif wanted and not elsewhere:
        yield SUBJECT.fine("variables", f"all {len(right)} lead clients to this root")


def is_true(value: str | None) -> bool:
    """Whether a client takes this for a yes."""
    return (value or "").strip().casefold() in _TRUE


def leads_there(name: str, value: str | None, wanted: str) -> bool:
    """Whether `value` means what `wanted` does: the same folder, or the same yes or no."""
    if not value:
        return False
    if name in _CONSEQUENCES:
        return is_true(value) is is_true(wanted)
    return _same(value, wanted)


def look_at_shadows(environ: Mapping[str, str], ours: Path | None = None) -> Iterator[Finding]:
    """Whether a folder of `PYTHONPATH` has modules of our names, which then are imported in place of ours."""
    home = Path(os.path.realpath(ours or Path(str(manifests.__file__)).parent.parent))
    for text in filter(None, environ.get("PYTHONPATH", "").split(os.pathsep)):
        folder = Path(os.path.realpath(text))
        shadows = [name for name in _PACKAGES if folder != home and _is_module(folder, name)]
        if shadows:
            yield SUBJECT.problem(
                "pythonpath-shadows",
                f"PYTHONPATH names {text}, whose {listing(shadows)} would be imported in place of this program's",
                fix="unset PYTHONPATH, or rename those modules",
            )


def _elsewhere(environ: Mapping[str, str], wanted: Mapping[str, str], fix: str) -> Iterator[Finding]:
    for name, value in wanted.items():
        given = environ.get(name)
        if not given or leads_there(name, given, value):
            continue
        if name in _CONSEQUENCES:
            yield SUBJECT.warning("variable-value", f"{name}={given}: {_CONSEQUENCES[name]}", fix=fix)
            continue
        reader = _READERS.get(name, "its clients read")
        what = f"{name}={given}: {reader} that folder, and not this root"
        if _generation_of(given, value):
            what = f"{name}={given} is another generation than the active one: {reader} that"
        yield SUBJECT.warning("variable-elsewhere", what, fix=fix)


def _older_names(environ: Mapping[str, str], wanted: Mapping[str, str], fix: str) -> Iterator[Finding]:
    """Names that count where the newer one is not set, or that an older client puts above it."""
    hub = wanted.get("HF_HUB_CACHE")
    if hub is None:
        return
    if not environ.get("HF_HUB_CACHE"):
        for name, tail in (("HUGGINGFACE_HUB_CACHE", ""), ("HF_HOME", "hub")):
            given = environ.get(name)
            if given and not _same(str(Path(given, tail)), hub):
                what = f"{name}={given} with no HF_HUB_CACHE: {_HUB} read {Path(given, tail)}, and not this root"
                yield SUBJECT.warning("hub-elsewhere", what, fix=fix)
                break
    given = environ.get("TRANSFORMERS_CACHE")
    if given and not _same(given, hub):
        what = f"TRANSFORMERS_CACHE={given}: transformers before 5 reads that folder, whatever HF_HUB_CACHE says"
        yield SUBJECT.warning("transformers-cache", what, fix="unset TRANSFORMERS_CACHE")


def _two_caches(environ: Mapping[str, str], fix: str) -> Iterator[Finding]:
    home, cache = environ.get("INFERENCE_HOME"), environ.get("MODEL_CACHE_DIR")
    if home and cache and not _same(home, cache):
        yield SUBJECT.warning(
            "two-caches",
            "INFERENCE_HOME and MODEL_CACHE_DIR lead to two places: the library reads the one, the server the other",
            fix=fix,
        )


def _generation_of(given: str, wanted: str) -> bool:
    """Whether `given` is the same place in another generation of the same root."""
    place = Path(os.path.realpath(wanted))
    for folder in place.parents:
        if folder.parent.name == "generations":
            inside = place.relative_to(folder)
            found = Path(os.path.realpath(given))
            return found.is_relative_to(folder.parent) and found.parts[-len(inside.parts) :] == inside.parts
    return False


def _same(one: str, other: str) -> bool:
    return os.path.realpath(expanded(one)) == os.path.realpath(other)


def _is_module(folder: Path, name: str) -> bool:
    return any(os.path.isfile(folder / place) for place in (f"{name}.py", f"{name}/__init__.py"))  # noqa: PTH113 - False for a folder that may not be looked into
