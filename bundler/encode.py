"""Into the store: a stream is hashed, cut, encoded and published, in constant memory.

* Every hash that a client names a blob by is made in the same pass: SHA-256, MD5 and git's SHA-1.
* At most a few chunks are in memory, whatever the size of the stream.
"""

import os
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import BinaryIO, Final

from manifests import codecs
from manifests.digest import BlobHashes, Digest
from manifests.errors import DigestMismatchError
from manifests.publish import Batch
from manifests.recipe import Recipe, RecipeChunk
from manifests.store import Store

THREADS: Final = min(4, os.cpu_count() or 1)
_AHEAD: Final = 2 * THREADS
"""Chunks in memory at once."""


def add(store: Store, stream: BinaryIO, *, size: int, subject: str, expected: Digest | None = None) -> Recipe:
    """Put a stream of `size` bytes into the store and return its recipe.

    Errors: `DigestMismatchError` if it is not `expected` or has another size; `DiskFullError`, `StorageError`. The
    store then has chunks that nothing refers to, and no recipe.
    """
    batch = Batch()
    chunks: list[RecipeChunk] = []
    hashes = BlobHashes.begin(size)
    with _workers() as pool:
        pending: list[Future[RecipeChunk]] = []
        for raw in store.chunker.cut(stream):
            pending.append(pool.submit(_encode_chunk, store, raw, batch))
            list(pool.map(lambda hash_, raw=raw: hash_.update(raw), hashes.each()))
            if len(pending) >= _AHEAD:
                chunks.append(pending.pop(0).result())
        chunks.extend(future.result() for future in pending)
    sha256, md5, git_sha1 = hashes.digests()
    actual = sum(chunk.length for chunk in chunks)
    if actual != size:
        raise DigestMismatchError(subject=subject, expected=f"{size} bytes", actual=f"{actual} bytes")
    if expected is not None and expected.raw != sha256:
        raise DigestMismatchError(subject=subject, expected=expected, actual=Digest(sha256))
    batch.sync()
    recipe = Recipe(Digest(sha256), size, md5, git_sha1, store.algorithm, tuple(chunks))
    store.add_recipe(recipe)
    return recipe


def _encode_chunk(store: Store, raw: bytes, batch: Batch) -> RecipeChunk:
    chunk = RecipeChunk(store.algorithm.digest(raw), len(raw))
    if store.has_chunk(chunk):
        store.note_chunk(chunk, batch)
    else:
        store.add_chunk(chunk.digest, chunk.length, codecs.encode(raw), batch)
    return chunk


@contextmanager
def _workers() -> Iterator[ThreadPoolExecutor]:
    pool = ThreadPoolExecutor(max_workers=THREADS)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)
