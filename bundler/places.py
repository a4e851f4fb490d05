"""Paths of this machine, as people and configuration files write them."""

import os
from pathlib import Path


def expanded(path: Path | str) -> Path:
    """`path` with `~` as the home of its user; that of a user whom nobody knows stays as it is."""
    # The site has its own in runtime/settings.py: neither side imports the other, and the contract, which both import,
    # reads no environment.
    return Path(os.path.expanduser(path))  # noqa: PTH111 - `Path.expanduser` raises for an unknown user
