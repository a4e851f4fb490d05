"""Fixtures that many tests share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from factory import Workshop


@pytest.fixture
def workshop(tmp_path: Path) -> Iterator[Workshop]:
    """A store and a place for bundles, in a folder of the test's own."""
    made = Workshop(tmp_path)
    yield made
    made.store.close()
