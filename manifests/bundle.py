"""Opening a bundle: sealed, then either looked at or verified. FORMAT.md, section 6, has the order.

* `SealedBundle` has bounds checked and the wrapper compared, and nothing else.
* `UnverifiedView` is for the eye: what the bundle says, whether its bytes are whole, who signed. It yields no content.
* `VerifiedBundle` comes from `SealedBundle.verify(keyring)` alone, and is the only thing that yields content.
"""

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from types import TracebackType
from typing import Self

from manifests import attachments, codecs, envelope, index, model_signature, statement, wrapper
from manifests.attachments import ModelSignature
from manifests.content import Item, Package
from manifests.digest import BlobHashes, Digest
from manifests.envelope import Envelope
from manifests.errors import DamagedError, FormatError, WrongSignatureError
from manifests.index import Index
from manifests.keyring import Key, Keyring
from manifests.medium import Medium, open_medium
from manifests.progress import Reporter, Silent
from manifests.statement import Statement
from manifests.tables import Blob, Chunk
from manifests.wrapper import INDEX_NAME, MAXIMUM_WRAPPER, Part, Wrapper

_CARRY_AGAIN = "carry the bundle again, or copy it to the medium anew"


class SealedBundle:
    """A bundle on a medium, its wrapper found whole. Close it, or use it as a context manager."""

    def __init__(self, path: Path, medium: Medium) -> None:
        self.path = path
        self._medium = medium
        self._wrapper = self._open_wrapper()
        self.envelope: Envelope = envelope.decode(self._part(self._wrapper.envelope, envelope.SLOT, "envelope"))
        self.statement: Statement = statement.decode(self.envelope.payload)

    @classmethod
    def open(cls, path: Path) -> Self:
        """The bundle at `path`, a tar or a folder.

        Errors: `UnsupportedFormatError` before anything else is parsed, `FormatError`, `DamagedError`, `StorageError`.
        """
        medium = open_medium(path)
        try:
            return cls(path, medium)
        except BaseException:
            medium.close()
            raise

    def close(self) -> None:
        """Let go of the medium."""
        self._medium.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def size(self) -> int:
        """Bytes of all members."""
        return sum(size for _, size in self._wrapper.members())

    def view(self) -> "UnverifiedView":
        """What the bundle says of itself: to look at, never to use."""
        return UnverifiedView(self, self._index(), self._medium)

    def verify(self, keyring: Keyring) -> "VerifiedBundle":
        """The bundle, if trusted keys signed for it.

        Errors: `UnsignedError`, `UnknownKeyError`, `WrongSignatureError`; then those of `open`.
        """
        signers = envelope.verify(self.envelope, keyring)
        if self._wrapper.index.digest != self.statement.index:
            raise WrongSignatureError(
                f"{self.path}: what trusted keys signed is another index than the one carried",
                hint="do not use it; keep the medium, and tell your security officer",
            )
        return VerifiedBundle(self._index(), self._medium, signers, keyring, self._attachments_slot())

    def _open_wrapper(self) -> Wrapper:
        medium = self._medium
        reference, manifest = wrapper.parse_index_json(medium.head(INDEX_NAME, MAXIMUM_WRAPPER))
        members = medium.members()
        if manifest.name not in members:
            raise DamagedError(f"{self.path}: the manifest is missing", hint=_CARRY_AGAIN)
        found = wrapper.parse_manifest(self._part(manifest, MAXIMUM_WRAPPER, "manifest"), reference)
        expected = list(found.members())
        self._compare_members(members, expected, ordered=medium.ordered)
        for name, content in found.written():
            if medium.read(name, 0, len(content)) != content:
                raise DamagedError(f"{self.path}: {name} is damaged", hint=_CARRY_AGAIN)
        return found

    def _compare_members(self, found: dict[str, int], expected: list[tuple[str, int]], *, ordered: bool) -> None:
        for name, size in expected:
            if found.get(name) != size:
                raise DamagedError(
                    f"{self.path}: {name} is missing or has another length", hint=_CARRY_AGAIN, facts={"expected": size}
                )
        if stray := found.keys() - dict(expected).keys():
            raise FormatError(f"{self.path}: {min(stray)} does not belong to the bundle")
        if ordered and list(found.items()) != expected:
            raise FormatError(f"{self.path}: its members are not in the order that the format asks for")

    def _part(self, part: Part, limit: int, what: str) -> bytes:
        if part.size > limit:
            raise FormatError(f"{self.path}: the {what} has {part.size} bytes, and at most {limit} are allowed")
        content = self._medium.read(part.name, 0, part.size)
        if Digest.of(content) != part.digest:
            raise DamagedError(f"{self.path}: the {what} is damaged", hint=_CARRY_AGAIN, facts={"member": part.name})
        return content

    def _attachments_slot(self) -> bytes:
        return self._part(self._wrapper.attachments, attachments.MAXIMUM_SLOT, "attachments")

    def _index(self) -> Index:
        """The index, if it is the one that the statement names and the wrapper carries."""
        if self._wrapper.index != Part(self.statement.index, self.statement.index_size):
            raise DamagedError(
                f"{self.path}: the statement is about another index than the one carried", hint=_CARRY_AGAIN
            )
        found = index.decode(self._part(self._wrapper.index, index.MAXIMUM_SIZE, "index"))
        if Statement.of(found) != self.statement:
            raise FormatError(f"{self.path}: statement and index disagree about line, sequence or content")
        packs = tuple(Part(pack.digest, pack.length) for pack in found.packs)
        reference = f"{found.content.line}-{found.content.sequence}"
        if packs != self._wrapper.packs or reference != self._wrapper.reference:
            raise FormatError(f"{self.path}: manifest and index disagree about packs or name")
        if self._wrapper.attachments.size != attachments.slot_size(found.content):
            raise FormatError(f"{self.path}: the attachments have not the size that follows from the index")
        attachments.decode(self._attachments_slot(), found.content)
        return found


@dataclass(frozen=True)
class UnverifiedView:
    """What a bundle says, compared with no trusted key. Text out of it must be escaped before it is shown."""

    sealed: SealedBundle
    index: Index
    _medium: Medium

    @property
    def key_ids(self) -> tuple[str, ...]:
        """The ids under which the bundle is signed; whether those keys signed is not known."""
        return tuple(signature.key_id for signature in self.sealed.envelope.signatures)

    def check(self, reporter: Reporter | None = None) -> None:
        """Read everything once: every chunk and every pack is what the index says, or `DamagedError`."""
        _check(self.index, self._medium, reporter or Silent())


@dataclass(frozen=True)
class VerifiedBundle:
    """A bundle that trusted keys signed for. `signers` are those keys."""

    index: Index
    _medium: Medium
    signers: tuple[Key, ...]
    _keyring: Keyring
    _attachments: bytes

    def check(self, reporter: Reporter | None = None) -> None:
        """Read everything once: every chunk and every pack is what the index says, or `DamagedError`."""
        _check(self.index, self._medium, reporter or Silent())

    def read(self, blob: Blob) -> Iterator[bytes]:
        """The raw bytes of a blob, chunk by chunk, each checked before and after it is decoded."""
        for chunk in self.index.chunks(blob):
            yield _raw(self.index, chunk, _encoded(self.index, self._medium, chunk))

    def model_signature(self, item: Item, package: Package) -> bytes | None:
        """The signature file of a package, if a key trusted here made one; None otherwise."""
        for signature in self._model_signatures.get((item.id, package.id), ()):
            key = self._keyring.find(signature.key_id)
            if key is not None and model_signature.verifies(item, package, signature, key):
                return model_signature.encode(item, package, signature.content, key)
        return None

    @cached_property
    def _model_signatures(self) -> dict[tuple[str, str], list[ModelSignature]]:
        """By item id and package id; at most a few for each."""
        found: dict[tuple[str, str], list[ModelSignature]] = {}
        for signature in attachments.decode(self._attachments, self.index.content):
            item = self.index.content.items[signature.item]
            found.setdefault((item.id, item.packages[signature.package].id), []).append(signature)
        return found


def _check(carried: Index, medium: Medium, reporter: Reporter) -> None:
    """Every chunk, blob by blob, and by the way the hashes of each blob and of each pack."""
    name = "verify"
    reporter.started(name, sum(blob.size for blob in carried.blobs))
    packs = [hashlib.sha256() for _ in carried.packs]
    placed: set[bytes] = set()
    try:
        with ThreadPoolExecutor(max_workers=4) as pool:
            for blob in carried.blobs:
                hashes = BlobHashes.begin(blob.size)
                for chunk in carried.chunks(blob):
                    encoded = _encoded(carried, medium, chunk)
                    raw = _raw(carried, chunk, encoded)
                    jobs = [partial(hash_.update, raw) for hash_ in hashes.each()]
                    if chunk.raw_digest not in placed:
                        placed.add(chunk.raw_digest)
                        jobs.append(partial(packs[chunk.pack].update, encoded))
                    list(pool.map(lambda job: job(), jobs))
                    reporter.advanced(name, len(raw))
                if hashes.digests() != (blob.digest.raw, blob.md5, blob.git_sha1):
                    raise FormatError(f"blob {blob.digest} is not named by its own hashes: its builder lies or erred")
        for pack, hash_ in zip(carried.packs, packs, strict=True):
            if hash_.digest() != pack.digest.raw:
                raise DamagedError(f"pack {pack.digest} is not named by its own digest")
    finally:
        reporter.finished(name)


def _encoded(carried: Index, medium: Medium, chunk: Chunk) -> bytes:
    """A chunk as it lies in its pack, checked before any decoder sees it."""
    pack = carried.packs[chunk.pack]
    encoded = medium.read(f"blobs/sha256/{pack.digest.hex}", chunk.offset, chunk.encoded_length)
    if carried.algorithm.digest(encoded) != chunk.encoded_digest:
        raise DamagedError(
            f"pack {chunk.pack + 1} of {len(carried.packs)} is damaged",
            hint=_CARRY_AGAIN,
            facts={
                "member": f"blobs/sha256/{pack.digest.hex}",
                "bytes": f"{chunk.offset} to {chunk.offset + chunk.encoded_length}",
            },
        )
    return encoded


def _raw(carried: Index, chunk: Chunk, encoded: bytes) -> bytes:
    raw = codecs.decode(chunk.codec, encoded, chunk.raw_length, window=carried.head.limits.window)
    if carried.algorithm.digest(raw) != chunk.raw_digest:
        raise FormatError(
            "a chunk does not decode to the bytes that the index names: whoever built this made a mistake"
        )
    return raw
