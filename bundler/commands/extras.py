"""Optional parts: named before a command begins, so that it fails with the line to type."""

from importlib.util import find_spec

from bundler.installation import kit_place
from manifests.errors import MissingExtraError


def require(*modules: tuple[str, str]) -> None:
    """`MissingExtraError` that names every (module, extra) whose module is not installed, to be had in one go."""
    missing = [(module, extra) for module, extra in modules if find_spec(module) is None]
    if missing:
        extras = dict.fromkeys(extra for _, extra in missing)
        error = MissingExtraError(", ".join(module for module, _ in missing), ",".join(extras))
        if kit_place():
            error.hint = f"this program came in a kit without it: make one with --extra {','.join(extras)}"
        raise error


def require_inference() -> None:
    """What running a model needs. Tensors need no pictures: without OpenCV alone, only a picture is refused."""
    if find_spec("onnxruntime") is None:
        require(("cv2", "serve"), ("onnxruntime", "cpu"))


def require_build() -> None:
    """What resolving and fetching need."""
    require(*((module, "build") for module in ("requests", "yaml", "pypi_simple", "packaging")))
