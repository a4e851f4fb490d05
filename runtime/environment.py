"""The variables that make unmodified clients read a root, and leave it as it is."""

from pathlib import Path


def variables(root: Path) -> dict[str, str]:
    """Name and value, through the `current` pointer: they stay right when another generation becomes active."""
    current = root / "current"
    return {
        "BUNDLE_HOME": str(root),
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
