"""Health: whether this server answers, what it serves, and whether anything could leave it.

* The guard and the kernel are reported apart: one sees Python only, the other everything.
"""

from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from manifests.errors import BundleError
from runtime import guard, session
from runtime.dataplane import DataPlane
from runtime.server.errors import error_response, message_of
from runtime.server.json_bodies import json_response


class HealthRouter:
    """`/health` for people and officers, `/healthz` and `/readiness` for machines."""

    def __init__(self, dataplane: DataPlane, *, version: str) -> None:
        self._dataplane = dataplane
        self._version = version

    def routes(self) -> list[Route]:
        """For the application."""
        return [
            Route("/health", self.health, methods=["GET"]),
            Route("/healthz", self.live, methods=["GET"]),
            Route("/readiness", self.ready, methods=["GET"]),
        ]

    def health(self, _: Request) -> Response:
        """Everything at a glance. The status is 200 as long as the server answers."""
        return json_response({**self._programs(), **self._models(), **_isolation()})

    async def live(self, _: Request) -> Response:
        """Whether the process answers."""
        return json_response({"status": "healthy"})

    def ready(self, _: Request) -> Response:
        """Whether models can be served: 503 until then."""
        if self._dataplane.ready():
            return json_response({"status": "ready"})
        return error_response(503, "not ready: nothing is installed, or nothing can run it")

    def _programs(self) -> dict[str, Any]:
        try:
            running = {"version": session.version(), "providers": session.available_providers()}
        except BundleError as error:
            running = {"missing": str(error)}
        return {"version": self._version, "onnxruntime": running}

    def _models(self) -> dict[str, Any]:
        loaded = [one.selection.model.id for one in self._dataplane.loaded()]
        try:
            catalogue = self._dataplane.catalogue()
        except BundleError as error:
            return {
                "status": "not ready",
                "message": message_of(error),
                "generation": None,
                "installed": 0,
                "loaded": loaded,
            }
        return {
            "status": "ready" if self._dataplane.ready() else "not ready",
            "generation": catalogue.generation,
            "installed": len(catalogue.models),
            "loaded": loaded,
        }


def _isolation() -> dict[str, Any]:
    seen = guard.status()
    return {
        "guard": {"enabled": seen.enabled, "refused": seen.refused, "targets": seen.targets},
        "kernel_isolated": guard.kernel_isolated(),
    }
