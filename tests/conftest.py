"""Fixtures that many tests share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from doctoring import small_bundle
from factory import Workshop, put
from runtime.root import Root


@pytest.fixture
def workshop(tmp_path: Path) -> Iterator[Workshop]:
    """A store and a place for bundles, in a folder of the test's own."""
    made = Workshop(tmp_path)
    yield made
    made.store.close()


@pytest.fixture
def bundle(workshop: Workshop) -> Path:
    """A bundle of one model."""
    return small_bundle(workshop)


@pytest.fixture
def place(workshop: Workshop, bundle: Path) -> Root:
    """A root with one line installed."""
    root = workshop.site()
    put(bundle, root)
    return root
