"""Roboflow's weights API and its workflows on loopback; the files are on another origin, as the service has them."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote, urlsplit

from loopback import Request, serving

KEY = "rf_hush_0123456789"
RECOMMENDED = {"confidence": 0.35, "perClassConfidence": {"car": 0.4, "bus": 0.25}}


@dataclass
class RemotePackage:
    """A package: its files, and its manifest in the API's words. `md5` overrides what is said of a file."""

    id: str
    files: dict[str, bytes]
    manifest: dict[str, object]
    trusted: bool = True
    features: dict[str, object] | None = None
    recommended: dict[str, object] | None = None
    md5: dict[str, str | None] = field(default_factory=dict)
    type: str = "external-model-package-v1"


@dataclass
class RemoteModel:
    """A model by its canonical id."""

    id: str
    packages: list[RemotePackage]
    task: str | None = "object-detection"
    architecture: str = "yolov8"
    variant: str | None = "yolov8n"
    recommended: dict[str, object] | None = None
    dependencies: list[dict[str, object]] | None = None


@dataclass
class RoboflowService:
    """The service. With a `key`, who lacks it gets 401; `status` answers everything so."""

    models: list[RemoteModel]
    aliases: dict[str, str] = field(default_factory=dict)
    workflows: dict[str, object] = field(default_factory=dict)
    key: str | None = None
    page_size: int = 100
    status: int = 0
    url: str = ""
    storage_url: str = ""
    asked: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    lies: dict[str, bytes] = field(default_factory=dict)
    round: int = 0

    def answer(self, request: Request) -> None:
        """The API's origin."""
        parts = urlsplit(request.path)
        query = dict(parse_qsl(parts.query))
        self.asked.append(("api", request.path, dict(request.headers)))
        if self.status:
            self._send(request, {"error": "refused"}, self.status)
        elif parts.path == "/models/v1/external/weights":
            self._weights(request, query)
        elif "/workflows/" in parts.path:
            self._workflow(request, unquote(parts.path).strip("/"), query)
        else:
            self._send(request, {"error": "endpoint not found"}, 404)

    def answer_storage(self, request: Request) -> None:
        """The origin of the files: addresses are signed, and good for one round only."""
        parts = urlsplit(request.path)
        self.asked.append(("storage", request.path, dict(request.headers)))
        content = self._contents().get(unquote(parts.path))
        if content is None or dict(parse_qsl(parts.query)).get("signature") != f"round{self.round}":
            request.send(b"denied", status=403)
            return
        request.send_file(content, etag=f'"{hashlib.sha256(content).hexdigest()[:16]}"')

    def _contents(self) -> Mapping[str, bytes]:
        named = {
            f"/{model.id}/{package.id}/{path}": content
            for model in self.models
            for package in model.packages
            for path, content in package.files.items()
        }
        return {**named, **self.lies}

    def _weights(self, request: Request, query: Mapping[str, str]) -> None:
        if self.key is not None and request.headers.get("Authorization") != f"Bearer {self.key}":
            self._send(request, {"error": "unauthorized"}, 401)
            return
        asked = query.get("modelId", "")
        model = next((each for each in self.models if each.id == self.aliases.get(asked, asked)), None)
        if model is None:
            self._send(request, {"error": "not found"}, 404)
            return
        start = int(query.get("startAfter", "0"))
        end = start + self.page_size
        described = {
            "type": "external-model-metadata-v1",
            "modelId": model.id,
            "modelArchitecture": model.architecture,
            "modelVariant": model.variant,
            "taskType": model.task,
            "modelDependencies": model.dependencies,
            "recommendedParameters": model.recommended,
            "modelLatencyMs": 3.5,
            "nextPage": str(end) if end < len(model.packages) else None,
            "modelPackages": [self._package(model, package) for package in model.packages[start:end]],
        }
        self._send(request, {"modelMetadata": described})

    def _package(self, model: RemoteModel, package: RemotePackage) -> dict[str, object]:
        files = [
            {
                "fileHandle": path,
                "downloadUrl": f"{self.storage_url}/{model.id}/{package.id}/{path}?signature=round{self.round}",
                "md5Hash": package.md5.get(path, md5(content)),
            }
            for path, content in package.files.items()
        ]
        return {
            "type": package.type,
            "packageId": package.id,
            "trustedSource": package.trusted,
            "modelFeatures": package.features,
            "recommendedParameters": package.recommended,
            "packageManifest": package.manifest,
            "packageFiles": files,
        }

    def _workflow(self, request: Request, name: str, query: Mapping[str, str]) -> None:
        if self.key is not None and query.get("api_key") != self.key:
            self._send(request, {"error": "unauthorized"}, 401)
        elif name not in self.workflows:
            self._send(request, {"error": "not found"}, 404)
        else:
            self._send(request, self.workflows[name])

    def _send(self, request: Request, document: object, status: int = 200) -> None:
        request.send(json.dumps(document).encode(), status=status, Content_Type="application/json")


def md5(content: bytes) -> str:
    """As the API writes it."""
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def onnx(
    quantization: str = "fp32", *, static: int | None = None, providers: list[str] | None = None
) -> dict[str, object]:
    """The manifest of an ONNX package."""
    return {
        "type": "onnx-model-package-v1",
        "backendType": "onnx",
        "dynamicBatchSize": static is None,
        "staticBatchSize": static,
        "quantization": quantization,
        "opset": 17,
        "incompatibleProviders": providers,
    }


def tensorrt() -> dict[str, object]:
    """The manifest of an engine with a dynamic batch, made on a server."""
    return {
        "type": "trt-model-package-v1",
        "backendType": "trt",
        "dynamicBatchSize": True,
        "minBatchSize": 1,
        "optBatchSize": 4,
        "maxBatchSize": 16,
        "quantization": "fp16",
        "cudaDeviceType": "tesla-t4",
        "cudaDeviceCC": "7.5",
        "cudaVersion": "12.4",
        "trtVersion": "10.3.0.26",
        "sameCCCompatible": True,
        "machineType": "gpu-server",
        "machineSpecs": {"type": "gpu-server-specs-v1", "driverVersion": "550.54.15", "osVersion": "ubuntu-22.04"},
    }


def compiled_on_jetson() -> dict[str, object]:
    """The manifest of an engine that a Jetson made."""
    specifications = {
        "type": "jetson-machine-specs-v1",
        "l4tVersion": "36.3.0",
        "deviceName": "nvidia-orin-nx",
        "driverVersion": "540.3.0",
    }
    machine = {"machineType": "jetson", "machineSpecs": specifications, "sameCCCompatible": False}
    batch = {"dynamicBatchSize": False, "staticBatchSize": 1}
    return {name: value for name, value in tensorrt().items() if "BatchSize" not in name} | machine | batch


def traced() -> dict[str, object]:
    """The manifest of a TorchScript package."""
    return {
        "type": "torch-script-model-package-v1",
        "backendType": "torch-script",
        "staticBatchSize": 8,
        "quantization": "fp32",
        "supportedDeviceTypes": ["cuda", "cpu"],
        "torchVersion": "2.7.0+cu126",
        "torchVisionVersion": "0.22.0",
    }


def simple(kind: str, backend: str, **more: object) -> dict[str, object]:
    """The manifest of a kind that says little."""
    return {"type": f"{kind}-model-package-v1", "backendType": backend, "quantization": "fp32", **more}


EVERY_OTHER_KIND: dict[str, dict[str, object]] = {
    "ja1": compiled_on_jetson(),
    "ts2": traced(),
    "pt3": simple("torch", "torch", dynamicBatchSize=True),
    "hf4": simple("hf", "hf"),
    "ul5": {"type": "ultralytics-model-package-v1"},
    "cm6": simple("coreml", "coreml", staticBatchSize=1),
}
"""Manifests of the kinds that `vehicles` lacks, by package id."""


@contextmanager
def roboflow_of(service: RoboflowService) -> Iterator[RoboflowService]:
    """`service`, running; its files are on another port."""
    with serving(service.answer) as url, serving(service.answer_storage) as storage_url:
        service.url, service.storage_url = url, storage_url
        yield service


def detector_files(graph: bytes, names: str = "car\nbus\n") -> dict[str, bytes]:
    """The files of a detector's ONNX package, as the service has them."""
    configuration = {
        "network_input": {
            "training_input_size": {"height": 64, "width": 64},
            "dynamic_spatial_size_supported": False,
            "color_mode": "rgb",
            "resize_mode": "letterbox",
            "padding_value": 114,
            "input_channels": 3,
            "scaling_factor": 255,
        },
        "post_processing": {"type": "nms", "fused": False},
    }
    return {
        "weights.onnx": graph,
        "class_names.txt": names.encode(),
        "inference_config.json": json.dumps(configuration).encode(),
    }


def vehicles(graph: bytes) -> RemoteModel:
    """A detector in four packages, each with something of its own."""
    files = detector_files(graph)
    return RemoteModel(
        "vehicles/1",
        [
            RemotePackage("aa11trt", {"engine.plan": b"engine", "trt_config.json": b"{}"}, tensorrt()),
            RemotePackage(
                "bb22fp16", files | {"class_names.txt": b"car\nbus\n\n"}, onnx("fp16", static=4, providers=["X"])
            ),
            RemotePackage(
                "cc33fp32",
                files,
                onnx(static=1, providers=[]),
                features={"doctr_vocab_127": True, "scale": 0.5},
                recommended=RECOMMENDED,
            ),
            RemotePackage("dd44fp32", files, onnx()),
        ],
        recommended={"confidence": 0.5},
    )
