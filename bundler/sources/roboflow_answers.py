"""The answers of Roboflow's weights API: one page of a model's description, and the model that the pages make.

* Fields that are not known are passed over; those that are needed and missing are an error of the source.
* Nothing of a download address is kept beyond the run: it is signed.
* Packages are sorted by id and dependencies by name: the order of an answer says nothing, and changes no lock.
* What is said is bounded, and held against the rules of the lock: whatever becomes a lock can be read back.
"""

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from bundler.answers import NOT_JSON
from bundler.sources.base import Found, FoundModel, FoundPackage, Remote
from bundler.sources.reference import Reference
from bundler.sources.roboflow_packages import Kind, kind_of
from manifests import client_facts, foreign
from manifests.client_facts import Dependency, ModelFacts, PackageFacts
from manifests.errors import FormatError, NamingError, SourceError, printable
from manifests.naming import checked_id, checked_package_id
from manifests.paths import check_tree, checked_path

_MODEL: Final = "external-model-metadata-v1"
_PACKAGE: Final = "external-model-package-v1"
_LONGEST: Final = 256
_LONGEST_TOKEN: Final = 4096
"""Characters of what asks for the next page: it goes into an address."""
MAXIMUM_PACKAGES: Final = 10_000
"""Packages of a model; a well-known one has some hundreds."""
MAXIMUM_FILES: Final = 100_000


class _Recommended(msgspec.Struct, rename="camel"):
    confidence: float | None = None
    per_class_confidence: dict[str, float] | None = None


class _File(msgspec.Struct, rename="camel"):
    file_handle: str
    download_url: str
    md5_hash: str | None = None


class _Package(msgspec.Struct, rename="camel"):
    package_id: str
    package_manifest: dict[str, object]
    package_files: list[_File]
    trusted_source: bool = False
    model_features: dict[str, object] | None = None
    recommended_parameters: _Recommended | None = None


class _Dependency(msgspec.Struct, rename="camel"):
    name: str
    model_id: str
    model_package_id: str | None = None


class Page(msgspec.Struct, rename="camel"):
    """One page. `next_page` is what to ask for the one after it."""

    type: str
    model_id: str
    model_architecture: str
    model_packages: list[dict[str, object]]
    task_type: str | None = None
    model_variant: str | None = None
    model_dependencies: list[_Dependency] | None = None
    recommended_parameters: _Recommended | None = None
    next_page: str | None = None


class _Answer(msgspec.Struct, rename="camel"):
    model_metadata: Page


def decode(content: bytes, *, subject: str) -> Page:
    """The page in an answer. Errors: `SourceError`."""
    try:
        page = msgspec.json.decode(content, type=_Answer).model_metadata
    except NOT_JSON as error:
        raise SourceError(f"{subject}: the service's answer is not what its API promises: {error}") from error
    if page.type != _MODEL:
        raise SourceError(f"{subject}: the service answers {printable(page.type)[:64]!r}, which is unknown here")
    if len(page.next_page or "") > _LONGEST_TOKEN:
        raise SourceError(f"{subject}: the service names a next page in more than {_LONGEST_TOKEN} characters")
    return page


def model(pages: Sequence[Page], reference: Reference) -> FoundModel:
    """The model that the pages describe; what it is stands on the last, as its own client has it."""
    last = pages[-1]
    subject = str(reference)
    _check_words(last, subject=subject)
    if sum(len(page.model_packages) for page in pages) > MAXIMUM_PACKAGES:
        raise SourceError(f"{subject}: the service names more than {MAXIMUM_PACKAGES} packages")
    packages: list[FoundPackage] = []
    warnings: list[str] = []
    for raw in (raw for page in pages for raw in page.model_packages):
        if raw.get("type") != _PACKAGE:
            warnings.append(f"{reference}: left out a package of the unknown type {str(raw.get('type'))[:64]!r}")
            continue
        packages.append(_package(_convert(raw, subject=subject), reference, warnings))
    if len({package.id.lower() for package in packages}) != len(packages):
        raise SourceError(f"{reference}: the service gives two packages of one id")
    if sum(len(package.files) for package in packages) > MAXIMUM_FILES:
        raise SourceError(f"{subject}: the service names more than {MAXIMUM_FILES} files")
    ordered = tuple(sorted(packages, key=lambda package: package.id))
    return FoundModel(
        last.model_architecture, last.task_type, _model_facts(last, subject=subject), ordered, tuple(sorted(warnings))
    )


def _model_facts(last: Page, *, subject: str) -> ModelFacts:
    needed = (
        Dependency(name=each.name, model_id=each.model_id, model_package_id=each.model_package_id)
        for each in last.model_dependencies or ()
    )
    facts = ModelFacts(
        canonical=last.model_id,
        variant=last.model_variant,
        recommended_parameters=_text(last.recommended_parameters),
        dependencies=tuple(sorted(needed, key=lambda each: (each.name, each.model_id))),
    )
    try:
        client_facts.check_model(facts, (last.model_id,), subject=subject)
    except FormatError as error:
        raise SourceError(error.message) from error
    return facts


def _check_words(last: Page, *, subject: str) -> None:
    for text in (last.model_architecture, last.task_type):
        if text is not None and not (0 < len(text) <= _LONGEST and text.isprintable()):
            raise SourceError(f"{subject}: {printable(text)[:64]!r} is no name")
    try:
        checked_id(last.model_id)
    except NamingError as error:
        named = repr(printable(last.model_id)[:64])
        raise SourceError(f"{subject}: the service calls it {named}, which cannot be an id here") from error


def _convert(raw: Mapping[str, object], *, subject: str) -> _Package:
    try:
        return msgspec.convert(raw, _Package)
    except msgspec.ValidationError as error:
        raise SourceError(f"{subject}: a package is not described as the API promises: {error}") from error


def _package(said: _Package, reference: Reference, warnings: list[str]) -> FoundPackage:
    subject = f"{reference}: package {printable(said.package_id)[:64]}"
    _check_names(said, subject=subject)
    kind = kind_of(said.package_manifest)
    if kind.facts is None:
        warnings.append(f"{subject} is carried, but not offered to inference-models: {kind.reason}")
    elif not said.trusted_source:
        warnings.append(f"{subject} is not marked as trusted by its service: clients refuse it unless they are told")
    files = sorted((_file(file, said.package_id, reference) for file in said.package_files), key=lambda f: f.path)
    return FoundPackage(
        id=said.package_id,
        files=tuple(files),
        backend=kind.backend,
        quantization=kind.quantization,
        opset=kind.opset,
        static_batch=kind.static_batch,
        facts=_facts(kind, said, subject=subject),
    )


def _check_names(said: _Package, *, subject: str) -> None:
    if not said.package_files:
        raise SourceError(f"{subject} has no files")
    try:
        checked_package_id(said.package_id)
        check_tree((checked_path(file.file_handle) for file in said.package_files), subject=subject)
    except NamingError as error:
        raise SourceError(f"{subject} cannot be carried: {error.message}") from error


def _facts(kind: Kind, said: _Package, *, subject: str) -> PackageFacts | None:
    if kind.facts is None:
        return None
    facts = msgspec.structs.replace(
        kind.facts,
        trusted=said.trusted_source,
        model_features=None if said.model_features is None else foreign.encode(said.model_features),
        recommended_parameters=_text(said.recommended_parameters),
    )
    try:
        client_facts.check_package(facts, subject=f"{subject}: what is said of it")
    except FormatError as error:
        raise SourceError(error.message) from error
    return facts


def _text(said: _Recommended | None) -> str | None:
    if said is None:
        return None
    return foreign.encode({"confidence": said.confidence, "per_class_confidence": said.per_class_confidence})


def _file(said: _File, package_id: str, reference: Reference) -> Found:
    path = said.file_handle
    pin = {"file": path, "package": package_id}
    md5 = None if said.md5_hash is None else _md5(said.md5_hash, subject=f"{reference}: {package_id} {path}")
    return Found(
        reference.child(f"{package_id}/{path}"),
        path,
        Remote(said.download_url),
        md5=md5,
        pin=pin if md5 is None else {**pin, "md5": md5.hex()},
    )


def _md5(text: str, *, subject: str) -> bytes:
    try:
        raw = bytes.fromhex(text)
    except ValueError:
        raw = b""
    if len(raw) != 16:
        raise SourceError(f"{subject}: the service gives an MD5 that is none")
    return raw
