"""The lock: what a manifest was resolved to. Every file by SHA-256 and size, and what identifies it at its source.

* A source on this machine is a path relative to the folder of the lock.
* It carries no secret, no time of day, no absolute path, no mirror of one machine: it is meant to be committed.
* It carries the sequence of the bundle line. `lock` raises it when the content changed; `build` never does.
"""

from collections.abc import Callable, Iterator
from typing import Final, TypeAlias

import msgspec

from manifests import canonical, client_facts
from manifests.client_facts import ModelFacts, PackageFacts
from manifests.digest import Digest
from manifests.errors import FormatError, ManifestError, UnsupportedFormatError
from manifests.manifest import LAYOUTS, TASKS, Struct
from manifests.naming import check_ids, checked_id, checked_line, checked_package_id
from manifests.paths import check_tree, checked_path
from manifests.workflow import WorkflowId

FORMAT: Final = 1
SUFFIX: Final = ".lock.json"
"""How the names of locks end."""
VALIDATORS: Final = ("etag", "last-modified", "version-id")
"""Keys of a pin that a server changes without changing the file."""
MAXIMUM_SIZE: Final = 256 << 20
"""Bytes of a lock; a file takes some 300, so this is room for most of a million."""


class LockedFile(Struct, frozen=True):
    """One file. `source` is the manifest's text; `pin` is what identifies it there (version, wheel, ETag, commit).

    `licenses` are what the file and its source claimed when it was locked; `gated` is the hub's word.
    """

    path: str
    sha256: str
    size: int
    source: str
    pin: dict[str, str] = {}
    lfs: bool = False
    """Whether its hub keeps it as a large file: that decides its name in the hub layout."""
    licenses: tuple[str, ...] = ()
    gated: bool = False

    @property
    def digest(self) -> Digest:
        """The SHA-256 of the file."""
        return Digest(bytes.fromhex(self.sha256))


class LockedPackage(Struct, frozen=True):
    """One package: its files, sorted by path. `opset`, `static_batch` and `client` are a service's words."""

    id: str
    files: tuple[LockedFile, ...]
    backend: str | None = None
    quantization: str | None = None
    default: bool = False
    opset: int | None = None
    static_batch: int | None = None
    client: PackageFacts | None = None


class LockedModel(Struct, frozen=True):
    """One model. `commit` is the hub commit it came from, where it did; `gated` is the hub's word.

    `licenses` are the manifest's word and then what the files claim.
    """

    id: str
    task: str
    packages: tuple[LockedPackage, ...]
    aliases: tuple[str, ...] = ()
    architecture: str | None = None
    licenses: tuple[str, ...] = ()
    layouts: tuple[str, ...] | None = None
    commit: str | None = None
    gated: bool = False
    asked: str = ""
    """What the manifest asked of a service: the same question again gets what is locked here."""
    client: ModelFacts | None = None


class LockedKit(Struct, frozen=True):
    """The program at version `program`: a package for each platform."""

    id: str
    program: str
    packages: tuple[LockedPackage, ...]


class LockedWorkflow(Struct, frozen=True):
    """One workflow: a package with its one file, which was made of what the source gave; and the models it names."""

    id: str
    packages: tuple[LockedPackage, ...]
    models: tuple[str, ...] = ()

    @property
    def file(self) -> LockedFile:
        """The file."""
        return self.packages[0].files[0]


class LockedProfile(Struct, frozen=True):
    """What one kind of machine asks of a model that has profiles, in AIM's words, and what is carried for it.

    `model` is the id in the manifest, `carried` that of the repository. With `by_id` the profile was named outright;
    `is_for_any` says that the machine's image is for any model.
    """

    model: str
    carried: str
    profile: str
    gpu: str | None = None
    gpu_count: int = 1
    precision: str = "auto"
    metric: str = "latency"
    engine: str = "vllm"
    by_id: bool = False
    general_fallback: bool = True
    is_for_any: bool = False

    @property
    def machine(self) -> str:
        """For whom, in one line."""
        return f"{self.gpu_count} x {self.gpu or 'any GPU'}, precision {self.precision}, metric {self.metric}"


LockedItem: TypeAlias = LockedModel | LockedKit | LockedWorkflow


class Lock(Struct, frozen=True):
    """A resolved manifest."""

    format: int
    line: str
    sequence: int
    models: tuple[LockedModel, ...] = ()
    kits: tuple[LockedKit, ...] = ()
    workflows: tuple[LockedWorkflow, ...] = ()
    profiles: tuple[LockedProfile, ...] = ()
    manifest: str = ""
    """The digest of the manifest that this resolves: `build` refuses a lock that its manifest has outgrown."""

    @property
    def items(self) -> tuple[LockedItem, ...]:
        """Models, then kits, then workflows."""
        return (*self.models, *self.kits, *self.workflows)

    def files(self) -> Iterator[tuple[str, LockedFile]]:
        """Every file, under the name by which messages call it: item, package, path."""
        for item in self.items:
            for package in item.packages:
                for file in package.files:
                    yield f"{item.id} {package.id} {file.path}", file


def encode(lock: Lock) -> bytes:
    """The lock as people commit it: canonical keys, indented."""
    return canonical.encode_for_people(lock)


def decode(content: bytes, *, subject: str) -> Lock:
    """A lock out of `content`. Errors: `ManifestError` names the key; a newer format is `UnsupportedFormatError`."""
    try:
        value = canonical.decode_any_spelling(content, limit=MAXIMUM_SIZE, subject=subject)
        canonical.refuse_newer(value, FORMAT, subject=f"{subject}: lock")
        lock = canonical.convert(value, Lock, subject=subject)
        _check(lock, subject=subject)
    except UnsupportedFormatError:
        raise
    except FormatError as error:
        raise ManifestError(error.message, hint="remove it; `bundle lock MANIFEST` then writes it anew") from error
    return lock


def same_content(one: Lock, other: Lock) -> bool:
    """Whether the two would carry the same, whatever their sequences and the words and order of their manifests."""
    return _carried(one) == _carried(other)


def mapped(lock: Lock, change: Callable[[LockedFile], LockedFile]) -> Lock:
    """`lock` with each of its files as `change` gives it."""
    replaced = msgspec.structs.replace

    def packages(item: LockedItem) -> tuple[LockedPackage, ...]:
        return tuple(
            replaced(package, files=tuple(change(file) for file in package.files)) for package in item.packages
        )

    models = tuple(replaced(model, packages=packages(model)) for model in lock.models)
    kits = tuple(replaced(kit, packages=packages(kit)) for kit in lock.kits)
    workflows = tuple(replaced(each, packages=packages(each)) for each in lock.workflows)
    return replaced(lock, models=models, kits=kits, workflows=workflows)


def without_validators(lock: Lock) -> Lock:
    """`lock` without ETags and dates: they say whether to ask again, and nothing beside a digest that agrees."""

    def change(file: LockedFile) -> LockedFile:
        pin = {name: value for name, value in file.pin.items() if name not in VALIDATORS}
        return msgspec.structs.replace(file, pin=pin)

    return mapped(lock, change)


def _carried(lock: Lock) -> Lock:
    """What is compared. A model carries what its files claim as its own; which of them claimed it is not carried."""
    plain = without_validators(lock)
    models = tuple(msgspec.structs.replace(model, asked="") for model in sorted(plain.models, key=_id))
    kits, workflows = tuple(sorted(plain.kits, key=_id)), tuple(sorted(plain.workflows, key=_id))
    plain = msgspec.structs.replace(
        plain, sequence=0, manifest="", models=models, kits=kits, workflows=workflows, profiles=()
    )
    return mapped(plain, lambda file: msgspec.structs.replace(file, licenses=(), gated=False))


def _id(item: LockedItem) -> str:
    return item.id


def _check(lock: Lock, *, subject: str) -> None:
    checked_line(lock.line)
    if lock.format != FORMAT or lock.sequence < 1:
        raise FormatError(f"{subject}: format must be {FORMAT} and sequence at least 1")
    if not lock.items:
        raise FormatError(f"{subject}: it locks no model, no kit and no workflow")
    for model in lock.models:
        _check_model(model, subject=f"{subject}: {model.id}")
    for workflow in lock.workflows:
        WorkflowId.parse(workflow.id)
    for item in lock.items:
        _check_item(item, subject=subject)
    for name, file in lock.files():
        Digest.parse(f"sha256:{file.sha256}")
        if file.size < 0:
            raise FormatError(f"{subject}: {name}: a size is not negative")
    aliases = [name for model in lock.models for name in model.aliases]
    check_ids([*(item.id for item in lock.items), *aliases])


def _check_item(item: LockedItem, *, subject: str) -> None:
    checked_id(item.id)
    if not item.packages or not all(package.files for package in item.packages):
        raise FormatError(f"{subject}: {item.id} has a package without files, or none")
    if len({package.id.lower() for package in item.packages}) != len(item.packages):
        raise FormatError(f"{subject}: {item.id} has two packages of one id")
    for package in item.packages:
        checked_package_id(package.id)
        check_tree((checked_path(file.path) for file in package.files), subject=f"{item.id} {package.id}")


def _check_model(model: LockedModel, *, subject: str) -> None:
    if set(model.layouts or ()) - set(LAYOUTS) or model.task not in TASKS:
        raise FormatError(f"{subject} has a task or layout that does not exist")
    if model.client is not None:
        client_facts.check_model(model.client, (model.id, *model.aliases), subject=subject)
    for package in model.packages:
        if package.client is not None:
            client_facts.check_package(package.client, subject=f"{subject} {package.id}")
