"""The cache of Roboflow's inference-models: `roboflow/models-cache/<slug>/<package>/` and a registry record.

* Artefacts are plain files (hard links), not links into `shared-blobs`: a package folder is whole by itself.
* Times that the client asks for are fixed: two sites with the same bundles have the same bytes.
"""

from collections.abc import Iterator
from typing import Final

from manifests import canonical
from manifests.content import Model, Package
from manifests.naming import slug
from runtime.layouts.base import Entry, Generated, Linked
from runtime.lines import Line

NAME: Final = "inference"
_TIME: Final = "1970-01-01T00:00:00+00:00"


def entries(model: Model, line: Line) -> Iterator[Entry]:
    """Every package with its configuration, and the record that makes the id and its aliases loadable offline."""
    for package in model.packages:
        folder = f"roboflow/models-cache/{slug(model.id)}/{package.id}"
        for file in package.files:
            yield Linked(f"{folder}/{file.path}", file.digest, file.size)
        yield Generated(
            f"{folder}/model_config.json", canonical.encode_for_people(_configuration(model, package, line))
        )
    record = canonical.encode_for_people(_record(model, line))
    yield Generated(f"roboflow/offline-weights-registry/{slug(model.id)}.json", record)


def _configuration(model: Model, package: Package, line: Line) -> dict[str, object]:
    artefacts = sorted(package.files, key=lambda file: file.path.casefold())
    return {
        "offline_manifest_version": 4,
        "model_id": model.id,
        "canonical_model_id": model.id,
        "model_architecture": model.architecture,
        "task_type": model.task,
        "backend_type": package.backend,
        "model_features": None,
        "trusted_source": True,
        "model_dependencies": [],
        "recommended_parameters": None,
        "quantization": package.quantization or "unknown",
        "dynamic_batch_size_supported": package.static_batch is None,
        "static_batch_size": package.static_batch,
        "package_artifacts": [
            {
                "file_handle": file.path,
                "md5_hash": line.hashes[file.blob].md5,
                "unhashed": False,
                "sha256_hash": None,
                "source_hash": None,
                "storage": "package_file",
            }
            for file in artefacts
        ],
        "dependency_package_paths": [],
    }


def _record(model: Model, line: Line) -> dict[str, object]:
    return {
        "format_version": 1,
        "canonical_model_id": model.id,
        "requested_aliases": list(model.aliases),
        "recorded_at": _TIME,
        "source": "cli-install",
        "model": {
            "model_architecture": model.architecture,
            "task_type": model.task,
            "model_variant": None,
            "model_dependencies": [],
            "recommended_parameters": None,
        },
        "packages": [_package(package, line) for package in model.packages],
        "proven": {},
    }


def _package(package: Package, line: Line) -> dict[str, object]:
    return {
        "package_id": package.id,
        "backend": package.backend,
        "quantization": package.quantization or "unknown",
        "dynamic_batch_size_supported": package.static_batch is None,
        "static_batch_size": package.static_batch,
        "trusted_source": True,
        "model_features": None,
        "recommended_parameters": None,
        "cache_model_id": None,
        "environment_requirements": None,
        "onnx_package_details": {"opset": package.opset, "incompatible_providers": []},
        "artifacts": [{"file_handle": file.path, "md5_hash": line.hashes[file.blob].md5} for file in package.files],
    }
