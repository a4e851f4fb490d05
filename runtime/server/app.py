"""The HTTP application: routers over one data plane, and one rule for errors."""

from importlib import metadata

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from manifests.errors import BundleError
from manifests.kit import DISTRIBUTION
from runtime.dataplane import DataPlane
from runtime.server.errors import answer_bug, answer_bundle_error, answer_half_a_request, answer_http_exception
from runtime.server.health import HealthRouter
from runtime.server.intake import Intake
from runtime.server.limits import Limits
from runtime.server.roboflow import RoboflowRouter
from runtime.server.workers import Workers


def create_app(dataplane: DataPlane, *, limits: Limits | None = None) -> Starlette:
    """An ASGI application that serves the models of `dataplane` within `limits`."""
    limits = limits or Limits()
    workers = Workers(concurrent=limits.concurrent, waiting=limits.waiting)
    intake = Intake(held_bytes=limits.held_bytes, seconds=limits.body_seconds)
    version = metadata.version(DISTRIBUTION)
    app = Starlette(
        routes=[
            *HealthRouter(dataplane, version=version).routes(),
            *RoboflowRouter(dataplane, workers, intake, limits, version=version).routes(),
        ],
        exception_handlers={
            BundleError: answer_bundle_error,
            HTTPException: answer_http_exception,
            ClientDisconnect: answer_half_a_request,
            Exception: answer_bug,
        },
    )
    # A redirect would have no body, and a client that follows it sends its own twice.
    app.router.redirect_slashes = False
    return app
