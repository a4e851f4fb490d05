"""onnxruntime: which distributions of it are here, which execution providers it offers, and what that misses."""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from manifests.errors import listing
from manifests.finding import Finding, Subject
from runtime.settings import TELEMETRY_OFF, Settings

SUBJECT: Final = Subject("onnxruntime")
CUDA: Final = "CUDAExecutionProvider"
_MODULE: Final = "onnxruntime"
_VARIANTS: Final = frozenset(
    {
        "onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino", "onnxruntime-directml", "onnxruntime-rocm",
        "onnxruntime-migraphx", "onnxruntime-qnn", "onnxruntime-training", "onnxruntime-training-cpu",
        "onnxruntime-silicon", "onnxruntime-cann", "onnxruntime-vitisai", "onnxruntime-windowsml", "onnxruntime-azure",
        "ort-nightly", "ort-nightly-gpu", "ort-nightly-directml",
    }
)  # fmt: skip
"""Distributions that bring the module `onnxruntime`, each a whole one."""
_EXTRAS: Final = {"onnxruntime-gpu": "gpu", "onnxruntime-openvino": "openvino", "onnxruntime-directml": "directml"}
_ASK: Final = f"""
import sys

sys.path[:] = sys.argv[1:]
from manifests.errors import MissingExtraError
from runtime import session

try:
    names = session.available_providers()
except MissingExtraError as error:
    raise error.__cause__ or error
print()
print("{_MODULE}", *names)
"""
_PATIENCE: Final = 60.0
_ERROR: Final = re.compile(r"[A-Za-z_][\w.]*(?:Error|Exception)\b")
_DEVICE: Final = Path("/dev/nvidia0")


def look_at_distributions(present: Mapping[str, str]) -> Iterator[Finding]:
    """Whether there is exactly one onnxruntime among `present`, which maps distributions to versions."""
    found = sorted(_VARIANTS & present.keys())
    if len(found) > 1:
        special = [_EXTRAS[name] for name in found if name in _EXTRAS]
        yield SUBJECT.problem(
            "two-onnxruntimes",
            f"{listing(f'{name} {present[name]}' for name in found)} write into one folder and break each other",
            fix=f"pip uninstall -y {' '.join(found)}; then one of them: "
            f"pip install 'offline-bundle[{special[0] if special else 'cpu'}]'",
        )
    elif found:
        yield SUBJECT.fine("onnxruntime", f"{found[0]} {present[found[0]]}, and no second one")


def look(environ: Mapping[str, str], present: Mapping[str, str]) -> Iterator[Finding]:
    """What this machine's onnxruntime offers. Another process imports it: a broken one may end the process."""
    found = sorted(_VARIANTS & present.keys())
    if not found and find_spec(_MODULE) is None:
        what = "there is no onnxruntime: models are carried and linked here, and not run by `bundle infer` or `serve`"
        yield SUBJECT.note("no-onnxruntime", what, fix="pip install 'offline-bundle[serve,cpu]'")
        return
    available, reason = ask(environ)
    if not available:
        yield SUBJECT.problem(
            "onnxruntime-broken",
            f"onnxruntime is here and cannot be imported: {reason}",
            fix=f"pip uninstall -y {' '.join(found) or _MODULE}; pip install 'offline-bundle[cpu]'",
        )
        return
    yield SUBJECT.fine("providers", f"execution providers: {listing(available)}")
    yield from judge(available, Settings.read(environ).execution_providers, gpu=_has_gpu(environ))


def ask(environ: Mapping[str, str]) -> tuple[tuple[str, ...], str]:
    """The execution providers, or none and why. Nothing is written by it, and nobody is asked. Errors: `OSError`."""
    command = [sys.executable, "-B", "-P", "-c", _ASK, *sys.path]
    told = {**environ, TELEMETRY_OFF: "1"}
    try:
        done = subprocess.run(  # noqa: S603 - this Python, with fixed words
            command, env=told, stdin=subprocess.DEVNULL, capture_output=True, timeout=_PATIENCE, check=False
        )
    except subprocess.TimeoutExpired:
        return (), f"that did not end within {_PATIENCE:.0f} seconds"
    last = done.stdout.decode(errors="replace").strip().rpartition("\n")[2].split()
    if done.returncode == 0 and last[:1] == [_MODULE]:
        return tuple(last[1:]), "it has no execution provider"
    if done.returncode < 0:
        return (), f"the process that tried was ended by {_signal(-done.returncode)}"
    return (), _reason(done.stderr.decode(errors="replace"))


def judge(available: tuple[str, ...], asked: tuple[str, ...] | None, *, gpu: bool) -> Iterator[Finding]:
    """What these providers mean on this machine, `asked` being those that the environment wants."""
    if absent := [name for name in asked or () if name not in available]:
        yield SUBJECT.warning(
            "provider-absent",
            f"ONNXRUNTIME_EXECUTION_PROVIDERS names {listing(absent)}, which this onnxruntime has not",
            fix=f"unset ONNXRUNTIME_EXECUTION_PROVIDERS, or name among {listing(available)}",
        )
    if gpu and CUDA not in available:
        what = "there is an NVIDIA GPU, and this onnxruntime has no provider for it: the CPU works alone"
        fix = "pip uninstall -y onnxruntime; pip install 'offline-bundle[gpu]'"
        yield SUBJECT.note("gpu-unused", what, fix=fix)
    if not gpu and CUDA in available:
        yield SUBJECT.note("gpu-missing", "this onnxruntime is the one for NVIDIA GPUs, and none is seen here")


def look_at_server() -> Iterator[Finding]:
    """Whether what pictures and the server need is here."""
    missing = [module for module in ("cv2", "starlette", "uvicorn") if find_spec(module) is None]
    if missing:
        what = f"without {listing(missing)}, `bundle serve` and pictures are not to be had here"
        yield SUBJECT.note("no-serve-extra", what, fix="pip install 'offline-bundle[serve]'")


def _reason(said: str) -> str:
    """The error at the end of a traceback, in one line."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    last = lines[-1] if lines else "it says nothing"
    found = next(filter(_ERROR.match, reversed(lines)), last)
    return f"{found} {last}" if found.endswith(":") else found


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _has_gpu(environ: Mapping[str, str]) -> bool:
    return _DEVICE.exists() or shutil.which("nvidia-smi", path=environ.get("PATH", os.defpath)) is not None
