"""The Roboflow inference server's HTTP, version 1, as `inference-sdk` speaks it.

Owns its routes, bodies, defaults and answers. All thinking is the data plane's.
* Defaults are that server's own, so that a client sees the same boxes here.
* Keys that mean nothing here (`api_key`, `disable_active_learning`, …) are let pass: each client sends others.
* Pictures are measured by their headers before any is decoded, and decoded a few at a time.
* A model is listed under its id and every alias: clients look for the name that they asked for.
"""

import base64
import binascii
from typing import Any, Final
from uuid import uuid4

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from manifests.errors import InvalidInputError
from runtime import images
from runtime.dataplane import DataPlane
from runtime.models.load import OBJECT_DETECTION, UNSTATED
from runtime.models.results import Detections
from runtime.registry import LoadedModel
from runtime.server.intake import Intake
from runtime.server.json_bodies import json_response
from runtime.server.limits import Limits
from runtime.server.workers import Workers

SMALL_BODY_BYTES: Final = 64 * 1024
SERVER_NAME: Final = "bundle"


class _Picture(msgspec.Struct):
    type: str
    value: str


class _ModelRequest(msgspec.Struct):
    model_id: str


class _DetectionRequest(msgspec.Struct):
    model_id: str
    image: _Picture | list[_Picture]
    confidence: float | None = None
    iou_threshold: float | None = None
    max_detections: int | None = None
    max_candidates: int | None = None
    class_agnostic_nms: bool | None = None
    class_filter: list[str] | None = None
    visualize_predictions: bool | None = None

    def options(self) -> dict[str, Any]:
        """What the data plane is asked for, with the Roboflow server's defaults."""
        return {
            "confidence": 0.4 if self.confidence is None else self.confidence,
            "iou_threshold": 0.3 if self.iou_threshold is None else self.iou_threshold,
            "max_detections": 300 if self.max_detections is None else self.max_detections,
            "max_candidates": 3000 if self.max_candidates is None else self.max_candidates,
            "class_agnostic_nms": self.class_agnostic_nms,
            "class_filter": self.class_filter,
        }


class RoboflowRouter:
    """Its routes, over a data plane."""

    def __init__(self, dataplane: DataPlane, workers: Workers, intake: Intake, limits: Limits, *, version: str) -> None:
        self._dataplane = dataplane
        self._workers = workers
        self._intake = intake
        self._limits = limits
        self._version = version
        self._uuid = str(uuid4())

    def routes(self) -> list[Route]:
        """For the application."""
        return [
            Route("/info", self.information, methods=["GET"]),
            Route("/model/registry", self.registry, methods=["GET"]),
            Route("/model/add", self.add, methods=["POST"]),
            Route("/model/remove", self.remove, methods=["POST"]),
            Route("/model/clear", self.clear, methods=["POST"]),
            Route("/infer/object_detection", self.detect, methods=["POST"]),
        ]

    def information(self, _: Request) -> Response:
        """What clients ask first."""
        return json_response({"name": SERVER_NAME, "version": self._version, "uuid": self._uuid})

    def registry(self, _: Request) -> Response:
        """The loaded models."""
        return self._registry()

    async def add(self, request: Request) -> Response:
        """Load a model."""
        async with self._intake.json(request, _ModelRequest, maximum_bytes=SMALL_BODY_BYTES) as body:
            await self._workers.run(self._dataplane.load, body.model_id)
        return self._registry()

    async def remove(self, request: Request) -> Response:
        """Drop a model from memory; nothing happens when it was not there."""
        async with self._intake.json(request, _ModelRequest, maximum_bytes=SMALL_BODY_BYTES) as body:
            await run_in_threadpool(self._dataplane.unload, body.model_id)
        return self._registry()

    def clear(self, _: Request) -> Response:
        """Drop all models from memory."""
        self._dataplane.clear()
        return self._registry()

    async def detect(self, request: Request) -> Response:
        """Object detection: one picture gives an object, a list gives a list."""
        maximum_bytes = self._limits.body_bytes
        async with self._intake.json(request, _DetectionRequest, maximum_bytes=maximum_bytes) as body:
            answers = await self._workers.run(self._detect, body)
            return json_response(answers if isinstance(body.image, list) else answers[0])

    def _detect(self, body: _DetectionRequest) -> list[dict[str, Any]]:
        pictures = body.image if isinstance(body.image, list) else [body.image]
        if len(pictures) > self._limits.batch:
            raise InvalidInputError(f"{len(pictures)} pictures are more than the {self._limits.batch} of one request")
        _refuse_other_tasks(body.model_id, self._dataplane.metadata(body.model_id).task)
        measured = self._measured(pictures)
        loaded = self._dataplane.load(body.model_id)
        _refuse_other_tasks(body.model_id, loaded.model.facts.task)
        answer = loaded.answer(measured, **body.options())
        return [
            _answer(result, picture, answer.seconds, visualize=bool(body.visualize_predictions))
            for result, picture in zip(answer.results, measured, strict=True)
        ]

    def _measured(self, pictures: list[_Picture]) -> list[images.MeasuredPicture]:
        measured = [self._measure(picture, number) for number, picture in enumerate(pictures, start=1)]
        pixels = sum(picture.pixels for picture in measured)
        if pixels > self._limits.request_pixels:
            raise HTTPException(413, f"{pixels} pixels are more than the {self._limits.request_pixels} of one request")
        return measured

    def _measure(self, picture: _Picture, number: int) -> images.MeasuredPicture:
        if picture.type != "base64":
            raise InvalidInputError(
                f"image {number}: type {picture.type!r} is refused",
                hint="send the bytes of the file as base64: nothing is fetched, and nothing is unpickled",
            )
        text = picture.value.partition(",")[2] if picture.value.startswith("data:") else picture.value
        try:
            content = base64.b64decode(text.replace("\n", "").replace("\r", ""), validate=True)
        except (binascii.Error, ValueError) as error:
            raise InvalidInputError(f"image {number}: not base64: {error}") from error
        return images.measure(content, name=f"image {number}", maximum_pixels=self._limits.image_pixels)

    def _registry(self) -> Response:
        listed = [entry for loaded in reversed(self._dataplane.loaded()) for entry in _entries(loaded)]
        return json_response({"models": listed})


def _refuse_other_tasks(name: str, task: str) -> None:
    if task not in {OBJECT_DETECTION, UNSTATED}:
        raise InvalidInputError(f"{name} does {task}, not object detection")


def _entries(loaded: LoadedModel) -> list[dict[str, Any]]:
    facts, usage, model = loaded.model.facts, loaded.usage, loaded.selection.model
    shared = {
        "task_type": facts.task,
        "batch_size": facts.batch_size,
        "input_height": facts.input_height,
        "input_width": facts.input_width,
        "package_id": facts.package_id,
        "num_inferences": usage.num_inferences,
        "avg_inference_time": usage.avg_inference_time,
    }
    return [{"model_id": name, **shared} for name in (model.id, *model.aliases)]


def _answer(result: Any, picture: images.MeasuredPicture, seconds: float, *, visualize: bool) -> dict[str, Any]:
    answer: dict[str, Any] = {**result.to_dict(), "time": seconds, "inference_id": str(uuid4())}
    if visualize and isinstance(result, Detections):
        drawn = images.encode(result.draw(images.decode(picture)), ".jpg")
        answer["visualization"] = base64.b64encode(drawn).decode("ascii")
    return answer
