"""The variables that make unmodified clients read a root, and leave it as it is."""

from runtime.root import Root


def variables(root: Root) -> dict[str, str]:
    """Name and value, through the `current` link: they stay right when another generation becomes active.

    Where there are no symbolic links they name the generation itself, and must be asked for again after an install.
    """
    number = root.current()
    current = root.path / "current"
    if number is not None and not current.is_symlink():
        current = root.generation(number)
    return {
        "BUNDLE_HOME": str(root.path),
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
