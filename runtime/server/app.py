"""The HTTP application: routers over one data plane, and one rule for errors."""

from importlib import metadata
from typing import Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException

from manifests.errors import BundleError
from runtime.dataplane import DataPlane
from runtime.server.errors import answer_bug, answer_bundle_error, answer_http_exception
from runtime.server.health import HealthRouter
from runtime.server.limits import Limits
from runtime.server.roboflow import RoboflowRouter
from runtime.server.workers import Workers

DISTRIBUTION: Final = "offline-bundle"


def create_app(dataplane: DataPlane, *, limits: Limits | None = None) -> Starlette:
    """An ASGI application that serves the models of `dataplane` within `limits`."""
    limits = limits or Limits()
    workers = Workers(concurrent=limits.concurrent, waiting=limits.waiting)
    version = metadata.version(DISTRIBUTION)
    return Starlette(
        routes=[
            *HealthRouter(dataplane, version=version).routes(),
            *RoboflowRouter(dataplane, workers, limits, version=version).routes(),
        ],
        exception_handlers={
            BundleError: answer_bundle_error,
            HTTPException: answer_http_exception,
            Exception: answer_bug,
        },
    )
