"""`get_model`: one call from a name to a model that answers.

Owns what application code imports. It is light: the catalogue and the families are imported when they are needed.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from manifests.errors import NotARootError, UnknownModelError

if TYPE_CHECKING:
    from runtime.catalogue import InstalledModel
    from runtime.models.base import Model

_PATH_BEGINNINGS: Final = ("/", "./", "../", "~", ".\\", "..\\")


def get_model(
    name: str | Path,
    *,
    root: str | Path | None = None,
    backend: str | None = None,
    quantization: str | None = None,
    package_id: str | None = None,
    device: str | None = None,
    batch_size: int | None = None,
    api_key: str | None = None,
    use_auto_resolution_cache: bool = True,
    **defaults: Any,
) -> "Model[Any, Any]":
    """An installed model, loaded: `get_model("vehicles/1").infer("bus.jpg")`.

    `name` is an id, an alias, or the path of a package folder. `backend`, `quantization`, `package_id`, `device`
    (`cpu`, `cuda` or an execution provider, by default `DEFAULT_DEVICE`) and `batch_size` narrow the choice of package.
    `defaults` are the model's options for every inference, such as `confidence=0.4`. Two arguments are accepted for
    code that comes from an online client: `api_key` is ignored, since nothing is asked of anybody, and the choice is
    made anew each time, whatever `use_auto_resolution_cache` says.

    Raises `UnknownModelError`, `NotARootError`, `ModelLoadError`, `MissingExtraError`, or `InvalidInputError` for an
    option that the model does not have.
    """
    from runtime.dataplane import this_machine  # noqa: PLC0415 - importing the API stays light
    from runtime.models.load import load_model  # noqa: PLC0415 - as above
    from runtime.negotiation import Wishes, choose, fall_through  # noqa: PLC0415 - as above
    from runtime.settings import Settings  # noqa: PLC0415 - as above

    del api_key, use_auto_resolution_cache
    model = _find(name, root)
    settings = Settings.read()
    machine = this_machine(providers=settings.execution_providers)
    choice = choose(model, machine, Wishes(backend, quantization, package_id, device or settings.device, batch_size))
    return fall_through(
        choice, lambda package: load_model(model, package, providers=choice.providers, options=defaults)
    )


class AutoModel:
    """The name that code written for `inference-models` knows."""

    from_pretrained = staticmethod(get_model)


def _find(name: str | Path, root: str | Path | None) -> "InstalledModel":
    """A name that looks like a path is one. Any other is looked up first, and is a folder only if nothing has it."""
    from runtime.package_folder import read_package_folder  # noqa: PLC0415 - as above
    from runtime.settings import expanded  # noqa: PLC0415 - as above

    if isinstance(name, Path) or name.startswith(_PATH_BEGINNINGS):
        return read_package_folder(expanded(name))
    try:
        return _installed(name, root)
    except (UnknownModelError, NotARootError):
        if Path(name).is_dir():
            return read_package_folder(Path(name))
        raise


def _installed(name: str, root: str | Path | None) -> "InstalledModel":
    from runtime.generations import open_catalogue  # noqa: PLC0415 - as above
    from runtime.settings import locate_root  # noqa: PLC0415 - as above

    return open_catalogue(locate_root(None if root is None else Path(root))).get(name)
