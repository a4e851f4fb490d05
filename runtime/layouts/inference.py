"""The cache of Roboflow's inference-models: `roboflow/models-cache/<slug>/<package>/` and a registry record.

* Artefacts are plain files (hard links), not links into `shared-blobs`: a package folder is whole by itself.
* Times that the client asks for are fixed: two sites with the same bundles have the same bytes.
* What a service said of a model and its packages is written as the client itself would have written it; the service's
  own id owns the folder, and every other name is an alias. A package that the client does not know is left out.
"""

from collections.abc import Iterator
from typing import Final

from manifests import foreign
from manifests.client_facts import ModelFacts, PackageFacts
from manifests.content import Model, Package
from manifests.naming import slug
from runtime.layouts import inference_details as details
from runtime.layouts.base import Entry, Generated, Linked
from runtime.lines import Line

NAME: Final = "inference"
_TIME: Final = "1970-01-01T00:00:00+00:00"
_NO_BATCH: Final = frozenset({"hugging-face", "ultralytics"})
"""Backends whose packages say nothing of batches."""


def entries(model: Model, line: Line) -> Iterator[Entry]:
    """Every package with its configuration, and the record that makes the id and its aliases loadable offline."""
    for package in _packages(model):
        folder = f"roboflow/models-cache/{slug(_owner(model))}/{package.id}"
        for file in package.files:
            yield Linked(f"{folder}/{file.path}", file.digest, file.size)
        yield Generated(f"{folder}/model_config.json", foreign.encode_for_people(_configuration(model, package, line)))
    record = foreign.encode_for_people(_record(model, line))
    yield Generated(f"roboflow/offline-weights-registry/{slug(_owner(model))}.json", record)


def _packages(model: Model) -> tuple[Package, ...]:
    return tuple(package for package in model.packages if model.client is None or package.client is not None)


def _owner(model: Model) -> str:
    """The id that owns the folder."""
    return model.client.canonical if model.client else model.id


def _configuration(model: Model, package: Package, line: Line) -> dict[str, object]:
    artefacts = sorted(package.files, key=lambda file: file.path.casefold())
    of_model, of_package = _facts(model), _package_facts(package)
    recommended = of_package.recommended_parameters or of_model.recommended_parameters
    return {
        "offline_manifest_version": 4,
        "model_id": _owner(model),
        "canonical_model_id": _owner(model),
        "model_architecture": model.architecture,
        "task_type": model.task,
        "backend_type": package.backend,
        "model_features": details.parsed(of_package.model_features),
        "trusted_source": of_package.trusted,
        "model_dependencies": details.dependencies(of_model),
        "recommended_parameters": details.parsed(recommended),
        "quantization": package.quantization or "unknown",
        **_batches(package),
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
    of_model = _facts(model)
    return {
        "format_version": 1,
        "canonical_model_id": _owner(model),
        "requested_aliases": sorted({model.id, *model.aliases} - {_owner(model)}),
        "recorded_at": _TIME,
        "source": "cli-install",
        "model": {
            "model_architecture": model.architecture,
            "task_type": model.task,
            "model_variant": of_model.variant,
            "model_dependencies": details.dependencies(of_model) or (None if model.client else []),
            "recommended_parameters": details.parsed(of_model.recommended_parameters),
        },
        "packages": [_package(package, line) for package in _packages(model)],
        "proven": {},
    }


def _package(package: Package, line: Line) -> dict[str, object]:
    facts = _package_facts(package)
    return {
        "package_id": package.id,
        "backend": package.backend,
        "quantization": package.quantization or "unknown",
        **_batches(package),
        "trusted_source": facts.trusted,
        "model_features": details.parsed(facts.model_features),
        "recommended_parameters": details.parsed(facts.recommended_parameters),
        "cache_model_id": None,
        "environment_requirements": details.environment(facts),
        **details.of_backend(package),
        "artifacts": [{"file_handle": file.path, "md5_hash": line.hashes[file.blob].md5} for file in package.files],
    }


def _batches(package: Package) -> dict[str, object]:
    is_said = package.static_batch is not None or package.backend not in _NO_BATCH
    return {
        "dynamic_batch_size_supported": package.static_batch is None if is_said else None,
        "static_batch_size": package.static_batch,
    }


def _facts(model: Model) -> ModelFacts:
    return model.client or ModelFacts(canonical=model.id)


def _package_facts(package: Package) -> PackageFacts:
    return package.client or PackageFacts()
