"""From lock, store and signer to a bundle: FORMAT.md, sections 3 and 7.

* The lengths of all tables are known first: the front is left free, packs are written once, the front is filled in.
* The bytes depend on the lock, this program and libzstd alone. No clock, host, user or locale leaks in.
* The bundle appears under its name when it is whole, or not at all.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from bundler import forms
from bundler.describe import describe
from bundler.forms import Form, Front
from bundler.signer import Signer
from manifests import attachments, content, envelope, index, model_signature, statement
from manifests.attachments import ModelSignature
from manifests.content import Content
from manifests.digest import ChunkAlgorithm, Digest
from manifests.envelope import Signature, signed_bytes
from manifests.errors import ManifestError
from manifests.lock import Lock
from manifests.progress import Reporter
from manifests.recipe import RecipeChunk
from manifests.statement import Statement
from manifests.store import Store
from manifests.tables import MAXIMUM_PACK, Blob, Chunk, Pack
from manifests.wrapper import FRONT_MEMBERS, MAXIMUM_PACKS, Part, Wrapper, length_in_tar


@dataclass(frozen=True, slots=True)
class Built:
    """What was written: sizes in bytes, `raw` before dedup and encoding, `carried` in packs."""

    path: Path
    line: str
    sequence: int
    content: Digest
    index: Digest
    models: int
    kits: int
    workflows: int
    files: int
    raw: int
    carried: int
    size: int
    key_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that is known before the first pack is written. `packs[i]` are the chunks of pack i, in order."""

    content: Content
    algorithm: ChunkAlgorithm
    blobs: tuple[Blob, ...]
    chunks: tuple[Chunk, ...]
    packs: tuple[tuple[RecipeChunk, ...], ...]
    lengths: tuple[int, ...]

    def index(self, digests: Sequence[Digest]) -> bytes:
        """The index, once the packs have these digests."""
        packs = [Pack(digest, length) for digest, length in zip(digests, self.lengths, strict=True)]
        return index.encode(self.content, self.blobs, self.chunks, packs, self.algorithm)


@dataclass(frozen=True, slots=True)
class Signers:
    """Who signs the statement, and who the models: None where no key of a kind that model signing takes is given."""

    statement: tuple[Signer, ...]
    models: Signer | None

    @classmethod
    def of(cls, *signers: Signer, models: Signer | None = None) -> "Signers":
        """The statement by all `signers`; the models by `models`, else by the first of them that can."""
        fit = (signer for signer in (models, *signers) if signer is not None and signer.key.is_elliptic)
        return cls(signers, next(fit, None))


def assemble(lock: Lock, store: Store, signers: Signers, out: Path, *, folder: bool, reporter: Reporter) -> Built:
    """Write the bundle of `lock`, whose files are all in the store, to `out`.

    Errors: `ManifestError`, `CorruptStoreError` (run again: what is missing is fetched), `DiskFullError`,
    `StorageError`.
    """
    planned = plan(describe(lock, store, reporter), store)
    if len(planned.packs) > MAXIMUM_PACKS:
        raise ManifestError(
            f"{len(planned.packs)} packs are more than a bundle can hold",
            hint="share the models out over several lines",
        )
    name = f"write {out.name}"
    reporter.expected(1, sum(planned.lengths))
    reporter.started(name, sum(planned.lengths))
    try:
        with forms.folder(out) if folder else forms.tar(out, front_length=_front_length(planned)) as form:
            digests = [_write_pack(form, chunks, store, name, reporter) for chunks in planned.packs]
            front = _front(planned, planned.index(digests), signers)
            form.finish(front)
    finally:
        reporter.finished(name)
    built = _built(out, planned, front, signers)
    store.record_index(built.content, front.index)
    return built


def plan(carried: Content, store: Store) -> Plan:
    """Lay out blobs, chunks and packs. A pack begins with each package, and where one would grow beyond its limit."""
    layout = _Layout(store)
    for item in carried.items:
        for package in item.packages:
            layout.begin_pack()
            for file in package.files:
                layout.add(file.digest)
    return Plan(
        carried,
        store.algorithm,
        tuple(layout.blobs.values()),
        tuple(layout.chunks),
        tuple(tuple(pack) for pack in layout.packs),
        tuple(layout.lengths),
    )


class _Layout:
    """Where each chunk goes, decided in the order of the content."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._placed: dict[bytes, Chunk] = {}
        self._begin = True
        self.blobs: dict[Digest, Blob] = {}
        self.chunks: list[Chunk] = []
        self.packs: list[list[RecipeChunk]] = []
        self.lengths: list[int] = []

    def begin_pack(self) -> None:
        """The next new chunk begins a pack."""
        self._begin = True

    def add(self, digest: Digest) -> None:
        """Place a blob, at its first mention."""
        if digest in self.blobs:
            return
        recipe = self._store.get(digest)
        self.blobs[digest] = Blob(
            digest, recipe.md5, recipe.git_sha1, recipe.size, len(self.chunks), len(recipe.chunks)
        )
        for chunk in recipe.chunks:
            if chunk.digest not in self._placed:
                self._placed[chunk.digest] = self._place(chunk)
            self.chunks.append(self._placed[chunk.digest])

    def _place(self, chunk: RecipeChunk) -> Chunk:
        head = self._store.head(chunk)
        if self._begin or self.lengths[-1] + head.encoded_length > MAXIMUM_PACK:
            self.packs.append([])
            self.lengths.append(0)
            self._begin = False
        offset = self.lengths[-1]
        self.packs[-1].append(chunk)
        self.lengths[-1] += head.encoded_length
        return Chunk(
            chunk.digest,
            head.digest,
            chunk.length,
            head.encoded_length,
            len(self.packs) - 1,
            offset,
            head.codec,
        )


def _front(planned: Plan, index_bytes: bytes, signers: Signers) -> Front:
    carried = planned.content
    decoded = index.decode(index_bytes)
    payload = statement.encode(Statement.of(decoded))
    envelope_slot = envelope.encode(
        payload, [Signature(signer.key.id, signer.sign(signed_bytes(payload))) for signer in signers.statement]
    )
    slot = attachments.encode(_model_signatures(carried, signers.models), attachments.slot_size(carried))
    packs = tuple(Part(pack.digest, pack.length) for pack in decoded.packs)
    parts = (Part.of(envelope_slot), Part.of(slot), Part.of(index_bytes))
    return Front(Wrapper(_reference(carried), *parts, packs), envelope_slot, slot, index_bytes)


def _model_signatures(carried: Content, signer: Signer | None) -> Iterator[ModelSignature]:
    """One for each package."""
    if signer is None:
        return
    for number, item in enumerate(carried.items):
        for place, package in enumerate(item.packages):
            message = signed_bytes(model_signature.payload(item, package))
            yield ModelSignature(number, place, signer.key.id, signer.sign(message))


def _write_pack(form: Form, chunks: Sequence[RecipeChunk], store: Store, name: str, reporter: Reporter) -> Digest:
    hash_ = hashlib.sha256()
    length = 0
    stream = form.begin()
    for chunk in chunks:
        _, encoded = store.chunk(chunk)
        stream.write(encoded)
        hash_.update(encoded)
        length += len(encoded)
        reporter.advanced(name, len(encoded))
    digest = Digest(hash_.digest())
    form.end(digest, length)
    return digest


def _front_length(planned: Plan) -> int:
    """Bytes of the front in a tar: known from the numbers of rows alone, so any digests do."""
    nothing = Digest(bytes(32))
    index_bytes = planned.index([nothing] * len(planned.packs))
    envelope_part, attachments_part, index_part = (
        Part(nothing, size) for size in (envelope.SLOT, attachments.slot_size(planned.content), len(index_bytes))
    )
    packs = tuple(Part(nothing, length) for length in planned.lengths)
    wrapper = Wrapper(_reference(planned.content), envelope_part, attachments_part, index_part, packs)
    return length_in_tar(islice(wrapper.members(), FRONT_MEMBERS))


def _reference(carried: Content) -> str:
    return f"{carried.line}-{carried.sequence}"


def _built(out: Path, planned: Plan, front: Front, signers: Signers) -> Built:
    carried = planned.content
    files = list(carried.files())
    return Built(
        path=out,
        line=carried.line,
        sequence=carried.sequence,
        content=Digest.of(content.encode(carried)),
        index=Digest.of(front.index),
        models=len(carried.models),
        kits=len(carried.wheels),
        workflows=len(carried.workflows),
        files=len(files),
        raw=sum(file.size for file in files),
        carried=sum(planned.lengths),
        size=sum(size for _, size in front.wrapper.members()),
        key_ids=tuple(sorted(signer.key.id for signer in signers.statement)),
    )
