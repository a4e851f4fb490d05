"""What a bundle carries: items, packages and files. The part of the index that a person would recognise.

* The SHA-256 of its canonical JSON is the content digest: equal digests install equal trees.
* Names are checked again on reading: nothing here is trusted until its envelope has been verified, and not even then
  to be a path that may leave a folder.
"""

import re
from collections.abc import Iterator
from typing import ClassVar, Final, TypeAlias

from manifests import canonical, client_facts, workflow
from manifests.client_facts import ModelFacts, PackageFacts
from manifests.digest import Digest
from manifests.errors import FormatError, NamingError, UnsupportedFormatError
from manifests.manifest import LAYOUTS, Struct
from manifests.naming import (
    check_ids,
    checked_id,
    checked_line,
    checked_package_id,
    is_handle,
    is_repository,
    repository_folder,
)
from manifests.paths import check_tree, checked_path, fold
from manifests.workflow import WorkflowId

MAXIMUM_SIZE: Final = 256 << 20
"""Bytes of the section."""
MODEL: Final = "model"
WHEELS: Final = "wheels"
WORKFLOW: Final = "workflow"
KINDS: Final = (MODEL, WHEELS, WORKFLOW)
FEATURES: Final = (client_facts.FEATURE,)
"""Keys that not every reader of this format knows."""
_WORD: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+!-]{0,63}")


class File(Struct, frozen=True):
    """One file of a package: where it lies in it, which blob it is, where it came from."""

    path: str
    blob: str
    size: int
    source: str
    lfs: bool

    @property
    def digest(self) -> Digest:
        """The SHA-256 of the file."""
        return Digest.parse(self.blob)


class Package(Struct, frozen=True):
    """One loadable variant. `static_batch` is None where the graph takes any batch; files are sorted by path.

    `client` is what a service says of it: None for files that came without such words.
    """

    id: str
    files: tuple[File, ...]
    default: bool
    backend: str | None = None
    quantization: str | None = None
    opset: int | None = None
    static_batch: int | None = None
    client: PackageFacts | None = None


class Model(Struct, frozen=True, tag_field="kind", tag=MODEL):
    """An item of kind `model`: its packages, the default one first, and the layouts that it gets."""

    kind: ClassVar[str] = MODEL
    id: str
    task: str
    commit: str
    packages: tuple[Package, ...]
    aliases: tuple[str, ...] = ()
    architecture: str | None = None
    layouts: tuple[str, ...] = ()
    licenses: tuple[str, ...] = ()
    client: ModelFacts | None = None


class KitPackage(Package, frozen=True, kw_only=True):
    """A package of wheels: a kit, for this platform (a wheel's tag) and this Python, as `3.11`."""

    platform: str
    python: str


class Wheels(Struct, frozen=True, tag_field="kind", tag=WHEELS):
    """An item of kind `wheels`: this program at version `program`, in a kit for each platform."""

    kind: ClassVar[str] = WHEELS
    id: str
    program: str
    packages: tuple[KitPackage, ...]


class Workflow(Struct, frozen=True, tag_field="kind", tag=WORKFLOW):
    """An item of kind `workflow`: one package, with one file."""

    kind: ClassVar[str] = WORKFLOW
    id: str
    packages: tuple[Package, ...]

    @property
    def parsed(self) -> WorkflowId:
        """Its workspace and name."""
        return WorkflowId.parse(self.id)


Item: TypeAlias = Model | Wheels | Workflow


class Content(Struct, frozen=True):
    """A bundle line at one sequence."""

    line: str
    sequence: int
    items: tuple[Item, ...]

    @property
    def models(self) -> tuple[Model, ...]:
        """The items that clients ask for."""
        return tuple(item for item in self.items if isinstance(item, Model))

    @property
    def wheels(self) -> tuple[Wheels, ...]:
        """The items that bring this program."""
        return tuple(item for item in self.items if isinstance(item, Wheels))

    @property
    def workflows(self) -> tuple[Workflow, ...]:
        """The items that say what is done with models."""
        return tuple(item for item in self.items if isinstance(item, Workflow))

    @property
    def features(self) -> tuple[str, ...]:
        """What it needs of a reader beyond its kinds."""
        return FEATURES if any(model.client is not None for model in self.models) else ()

    def names(self) -> Iterator[str]:
        """Every id and alias."""
        for item in self.items:
            yield item.id
            if isinstance(item, Model):
                yield from item.aliases

    def files(self) -> Iterator[File]:
        """Every file of every package, in order."""
        for item in self.items:
            for package in item.packages:
                yield from package.files


def encode(content: Content) -> bytes:
    """The section, canonical."""
    return canonical.encode(content)


def decode(section: bytes) -> Content:
    """The content in `section`. Errors: `FormatError`; `UnsupportedFormatError` for an unknown kind."""
    value = canonical.decode(section, limit=MAXIMUM_SIZE, subject="content")
    items = value.get("items") if isinstance(value, dict) else None
    for item in items if isinstance(items, list) else []:
        kind = item.get("kind") if isinstance(item, dict) else None
        if isinstance(kind, str) and kind not in KINDS:
            raise UnsupportedFormatError(
                f"the bundle carries an item of kind {kind!r}, which this program does not know"
            )
    content = canonical.convert(value, Content, subject="content")
    if encode(content) != section:
        raise FormatError("content: a field that has no value must be left out")
    try:
        _check(content)
    except NamingError as error:
        raise FormatError(f"content: {error.message}") from error
    return content


def commit(package: Package) -> str:
    """The 40 hex digits under which the hub layout shows a model that did not come from a hub."""
    return Digest.of(canonical.encode([[file.path, file.blob] for file in package.files])).hex[:40]


def _check(content: Content) -> None:
    checked_line(content.line)
    if not 1 <= content.sequence <= canonical.MAXIMUM_INTEGER:
        raise FormatError(f"content: sequence {content.sequence} is not a positive number")
    ids = [item.id for item in content.items]
    if not ids or ids != sorted(set(ids)):
        raise FormatError("content: items must be sorted by id, each once, and there must be one")
    folders = [fold(repository_folder(model.id)) for model in content.models if "huggingface" in model.layouts]
    if len(set(folders)) != len(folders):
        raise FormatError("content: two ids would share one repository folder")
    check_ids(content.names())
    for name in content.names():
        checked_id(name)
    for model in content.models:
        _check_model(model)
    for wheels in content.wheels:
        _check_wheels(wheels)
    for each in content.workflows:
        _check_workflow(each)
    for item in content.items:
        _check_packages(item)


def _check_model(item: Model) -> None:
    if len(item.commit) != 40 or set(item.commit) - set("0123456789abcdef"):
        raise FormatError(f"content: {item.id}: a commit has 40 hex digits")
    if item.client is not None:
        client_facts.check_model(item.client, (item.id, *item.aliases), subject=f"content: {item.id}")
    for package in item.packages:
        if package.client is not None:
            if item.client is None:
                raise FormatError(f"content: {item.id}: facts of a package, and none of its model")
            client_facts.check_package(package.client, subject=f"content: {item.id} {package.id}")
    _check_layouts(item)


def _check_wheels(item: Wheels) -> None:
    for text in (item.program, *(text for kit in item.packages for text in (kit.platform, kit.python))):
        if not _WORD.fullmatch(text):
            raise FormatError(f"content: {item.id}: {text!r} is no version, platform or Python")
    if any(kit.backend or kit.quantization or kit.client for kit in item.packages):
        raise FormatError(f"content: {item.id}: wheels have no backend")


def _check_workflow(item: Workflow) -> None:
    parsed = item.parsed
    (package, *more) = item.packages or (None,)
    if package is None or more or package != Package(id=workflow.PACKAGE, files=package.files, default=True):
        raise FormatError(f"content: {parsed}: a workflow has one package")
    if [file.path for file in package.files] != [workflow.FILE]:
        raise FormatError(f"content: {parsed}: a workflow is one file, {workflow.FILE}")


def _check_packages(item: Item) -> None:
    if [package.default for package in item.packages] != [True] + [False] * (len(item.packages) - 1):
        raise FormatError(f"content: {item.id}: the first package, and no other, must be the default")
    if len({package.id.casefold() for package in item.packages}) != len(item.packages):
        raise FormatError(f"content: {item.id}: two packages have one id")
    for package in item.packages:
        checked_package_id(package.id)
        if min(package.opset or 1, package.static_batch or 1) < 1:
            raise FormatError(f"content: {item.id}: opset and batch are positive numbers")
        paths = [checked_path(file.path) for file in package.files]
        if not paths or paths != sorted(paths):
            raise FormatError(f"content: {item.id}: files must be sorted by path, and there must be one")
        check_tree(paths, subject=item.id)
        for file in package.files:
            Digest.parse(file.blob)


def _check_layouts(item: Model) -> None:
    """`directory` always; the others only where their clients could take the names."""
    if set(item.layouts) - set(LAYOUTS):
        raise UnsupportedFormatError(f"{item.id}: unknown layout among {', '.join(item.layouts)}")
    if list(item.layouts) != sorted({"directory", *item.layouts}):
        raise FormatError(f"content: {item.id}: layouts must be sorted, each once, with `directory` among them")
    if "huggingface" in item.layouts and not is_repository(item.id):
        raise FormatError(f"content: {item.id} cannot be a repository")
    paths = (file.path for package in item.packages for file in package.files)
    if "inference" in item.layouts and not all(is_handle(path) for path in paths):
        raise FormatError(f"content: {item.id} has a file that inference-models could not take")
