"""Into the store: a stream is hashed, cut, encoded and published, in constant memory.

* Every hash that a client names a blob by is made in the same pass: SHA-256, MD5 and git's SHA-1.
* At most a few chunks are in memory, whatever the size of the stream.
"""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future
from typing import BinaryIO

from bundler.together import AHEAD, workers
from manifests import codecs
from manifests.chunking import CHUNK
from manifests.digest import BlobHashes, Digest
from manifests.errors import DigestMismatchError
from manifests.publish import Batch
from manifests.recipe import Recipe, RecipeChunk
from manifests.store import Store


def add(
    store: Store,
    stream: BinaryIO,
    *,
    size: int,
    subject: str,
    expected: Digest | None = None,
    git_sha1: bytes | None = None,
    md5: bytes | None = None,
) -> Recipe:
    """Put a stream of `size` bytes into the store and return its recipe.

    Errors: `DigestMismatchError` if it is not `expected`, is no blob `git_sha1` (20 bytes), or has another `md5` (16
    bytes) or size; `DiskFullError`, `StorageError`; what `stream` raises. The store then has chunks that nothing refers
    to, but no recipe.
    """
    batch = Batch()
    hashes = BlobHashes.begin(size)
    pieces = store.chunker.cut(stream)
    one_piece = size <= CHUNK
    chunks = _encoded_here(store, pieces, hashes, batch) if one_piece else _encoded(store, pieces, hashes, batch)
    sha256, md5_here, git = hashes.digests()
    actual = sum(chunk.length for chunk in chunks)
    if actual != size:
        raise DigestMismatchError(subject=subject, expected=f"{size} bytes", actual=f"{actual} bytes")
    if expected is not None and expected.raw != sha256:
        raise DigestMismatchError(subject=subject, expected=expected, actual=Digest(sha256))
    if git_sha1 not in {None, git}:
        raise DigestMismatchError(
            subject=subject, expected=f"git blob {(git_sha1 or b'').hex()}", actual=f"git blob {git.hex()}"
        )
    if md5 not in {None, md5_here}:
        raise DigestMismatchError(subject=subject, expected=f"md5 {(md5 or b'').hex()}", actual=f"md5 {md5_here.hex()}")
    batch.sync()
    recipe = Recipe(Digest(sha256), size, md5_here, git, store.algorithm, tuple(chunks))
    store.add_recipe(recipe)
    return recipe


def _encoded_here(store: Store, pieces: Iterator[bytes], hashes: BlobHashes, batch: Batch) -> list[RecipeChunk]:
    """A small blob's chunks, in this thread: others would cost more than they gain."""
    chunks: list[RecipeChunk] = []
    for raw in pieces:
        for hash_ in hashes.each():
            hash_.update(raw)
        chunks.append(_encode_chunk(store, raw, batch))
    return chunks


def _encoded(store: Store, pieces: Iterator[bytes], hashes: BlobHashes, batch: Batch) -> list[RecipeChunk]:
    """The chunks, hashed and encoded by a few threads while the next one is read."""
    chunks: list[RecipeChunk] = []
    pending: deque[Future[RecipeChunk]] = deque()
    hashing: list[Future[None]] = []
    with workers() as pool:
        for raw in pieces:
            for hashed in hashing:  # each hash takes the chunks in order
                hashed.result()
            hashing = [pool.submit(hash_.update, raw) for hash_ in hashes.each()]
            pending.append(pool.submit(_encode_chunk, store, raw, batch))
            if len(pending) >= AHEAD:
                chunks.append(pending.popleft().result())
        chunks.extend(future.result() for future in pending)
        for hashed in hashing:
            hashed.result()
    return chunks


def _encode_chunk(store: Store, raw: bytes, batch: Batch) -> RecipeChunk:
    chunk = RecipeChunk(store.algorithm.digest(raw), len(raw))
    if store.has_chunk(chunk):
        store.note_chunk(chunk, batch)
    else:
        store.add_chunk(chunk.digest, chunk.length, codecs.encode(raw), batch)
    return chunk
