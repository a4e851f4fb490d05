"""Which source speaks which scheme."""

from collections.abc import Mapping
from pathlib import Path

from bundler.http import Client
from bundler.settings import Settings
from bundler.sources.az import BlobSource
from bundler.sources.base import Source
from bundler.sources.file import FileSource
from bundler.sources.hf import HubSource
from bundler.sources.https import WebSource
from bundler.sources.oci import RegistrySource
from bundler.sources.pypi import PackageSource
from bundler.sources.roboflow import RoboflowSource
from bundler.sources.s3 import BucketSource


def sources(settings: Settings, client: Client, base: Path) -> Mapping[str, Source]:
    """A source for every scheme that `Reference.parse` lets through; local paths are relative to `base`."""
    web = WebSource()
    return {
        "az": BlobSource(settings, client),
        "file": FileSource(base),
        "hf": HubSource(settings.hub, client),
        "http": web,
        "https": web,
        "oci": RegistrySource(settings.registries, client),
        "pypi": PackageSource(settings.packages, client),
        "roboflow": RoboflowSource(settings.roboflow, client),
        "s3": BucketSource(settings),
    }
