"""Optional parts: named before a command begins, so that it fails with the line to type."""

from importlib.util import find_spec

from manifests.errors import MissingExtraError


def require(*modules: tuple[str, str]) -> None:
    """`MissingExtraError` for the first (module, extra) whose module is not installed."""
    for module, extra in modules:
        if find_spec(module) is None:
            raise MissingExtraError(module, extra)


def require_build() -> None:
    """What resolving and fetching need."""
    require(*((module, "build") for module in ("requests", "yaml", "pypi_simple", "packaging")))
