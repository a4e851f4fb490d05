"""The hub cache, as huggingface_hub and transformers read it: `plain/hub/models--org--name/`.

* A blob is named as its hub names it: SHA-256 for a large file, git's SHA-1 for any other.
* `trees/` lists exactly what is carried, so that a client notices a snapshot that lacks a file.
* `refs/main` has forty characters and no line feed: with one, clients fail.
"""

from collections.abc import Iterator
from hashlib import sha1
from typing import Final

from manifests import canonical
from manifests.content import File, Model
from manifests.naming import repository_folder
from runtime.layouts.base import Entry, Generated, Linked, Pointer
from runtime.lines import Line

NAME: Final = "huggingface"


def entries(model: Model, line: Line) -> Iterator[Entry]:
    """The repository of a model: its default package."""
    files = model.packages[0].files
    repository = f"plain/hub/{repository_folder(model.id)}"
    linked = {}
    for file in files:
        blob = f"{repository}/blobs/{_blob_name(file, line)}"
        if blob not in linked:
            linked[blob] = Linked(blob, file.digest, file.size)
            yield linked[blob]
        depth = file.path.count("/") + 2
        path = f"{repository}/snapshots/{model.commit}/{file.path}"
        target = "../" * depth + f"blobs/{_blob_name(file, line)}"
        yield Pointer(path, target, Linked(path, file.digest, file.size))
    yield Generated(f"{repository}/refs/main", model.commit.encode())
    tree = {"format_version": 1, "files": {file.path: _tree_entry(file, line) for file in files}}
    yield Generated(f"{repository}/trees/{model.commit}.json", canonical.encode(tree))


def _blob_name(file: File, line: Line) -> str:
    return file.digest.hex if file.lfs else line.hashes[file.blob].git_sha1


def _tree_entry(file: File, line: Line) -> dict[str, object]:
    if not file.lfs:
        return {"size": file.size, "blob_id": line.hashes[file.blob].git_sha1}
    return {"size": file.size, "blob_id": _pointer_id(file), "lfs_sha256": file.digest.hex, "lfs_size": file.size}


def _pointer_id(file: File) -> str:
    """Git's name of the pointer that stands for a large file in a repository."""
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{file.digest.hex}\nsize {file.size}\n".encode()
    return sha1(b"blob %d\x00" % len(pointer) + pointer, usedforsecurity=False).hexdigest()
