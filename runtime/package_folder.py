"""A package folder that no catalogue lists: weights and their configuration, wherever they lie.

Owns the reading of `model_config.json`, as far as loading needs it.
* A folder without one still loads when it holds a single graph; then the graph's own metadata says the task.
"""

from pathlib import Path
from typing import Final

import msgspec

from manifests.errors import ModelLoadError
from runtime.catalogue import InstalledModel, InstalledPackage

MAXIMUM_CONFIG_BYTES: Final = 4 * 1024 * 1024


class _ModelConfig(msgspec.Struct):
    model_id: str | None = None
    canonical_model_id: str | None = None
    model_architecture: str | None = None
    task_type: str | None = None
    backend_type: str | None = None
    quantization: str | None = None
    static_batch_size: int | None = None


def read_package_folder(directory: Path) -> InstalledModel:
    """The folder as a model with one package. Raises `ModelLoadError` when it is none."""
    config = _read_config(directory / "model_config.json")
    try:
        files = tuple(sorted(path.name for path in directory.iterdir() if path.is_file()))
    except OSError as error:
        raise ModelLoadError(f"{directory}: not a package folder: {error.strerror}") from error
    package = InstalledPackage(
        id=directory.name,
        backend=config.backend_type or "onnx",
        quantization=config.quantization,
        opset=None,
        static_batch=config.static_batch_size,
        directory=directory,
        files=files,
        default=True,
    )
    return InstalledModel(
        id=config.canonical_model_id or config.model_id or directory.name,
        aliases=(),
        task=config.task_type or "",
        architecture=config.model_architecture,
        line="",
        packages=(package,),
    )


def _read_config(path: Path) -> _ModelConfig:
    try:
        with path.open("rb") as stream:
            content = stream.read(MAXIMUM_CONFIG_BYTES + 1)
    except FileNotFoundError:
        return _ModelConfig()
    except OSError as error:
        raise ModelLoadError(f"{path}: cannot be read: {error.strerror}") from error
    try:
        return msgspec.json.decode(content, type=_ModelConfig)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ModelLoadError(f"{path.name}: {error}", facts={"path": path}) from error
