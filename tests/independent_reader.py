"""A reader of bundles written from FORMAT.md alone: standard library, zstandard, blake3, and none of our code.

    python independent_reader.py BUNDLE FOLDER

It extracts every file of every package, checks every digest and every rule that it needs, and knows nothing of keys.
"""

import base64
import hashlib
import json
import struct
import sys
import tarfile
from pathlib import Path

import blake3
import zstandard


def members_of(path: Path) -> list[tuple[str, bytes]]:
    """Section 1: the members in order."""
    if path.is_dir():
        manifest = json.loads((path / "index.json").read_bytes())["manifests"][0]["digest"]
        name = "blobs/sha256/" + manifest.removeprefix("sha256:")
        described = json.loads((path / name).read_bytes())
        layers = ["blobs/sha256/" + layer["digest"].removeprefix("sha256:") for layer in described["layers"]]
        config = "blobs/sha256/" + described["config"]["digest"].removeprefix("sha256:")
        return [(each, (path / each).read_bytes()) for each in ["oci-layout", "index.json", name, config, *layers]]
    with tarfile.open(path, "r:") as tar:
        return [(member.name, tar.extractfile(member).read()) for member in tar.getmembers()]


def sections_of(index: bytes) -> tuple[dict, dict[str, bytes]]:
    """Section 2: the head and the sections."""
    assert index[:8] == b"OBINDEX\0"
    version, zero, head_length, length = struct.unpack_from("<IIQQ", index, 8)
    assert (version, zero, length) == (1, 0, len(index))
    head = json.loads(index[64 : 64 + head_length])
    place, found = 64 + head_length + -head_length % 8, {}
    for section in head["sections"]:
        size = section["width"] * section["count"]
        found[section["name"]] = index[place : place + size]
        place += size + -size % 8
    assert place == len(index)
    assert "sha256:" + hashlib.sha256(found["content"]).hexdigest() == head["content"]
    transport = b"".join(found[name] for name in ("blobs", "chunks", "packs", "base"))
    assert "sha256:" + hashlib.sha256(transport).hexdigest() == head["transport"]
    return head, found


def blobs_of(head: dict, sections: dict[str, bytes], packs: list[bytes]) -> dict[str, bytes]:
    """Sections 2 and 3: every blob, from its chunks."""
    digest = {"blake3": blake3.blake3, "sha256": hashlib.sha256}[head["chunk_digest"]]
    rows = [struct.unpack_from("<32s32sIIIIIB", sections["chunks"], at) for at in range(0, len(sections["chunks"]), 88)]
    blobs = {}
    for at in range(0, len(sections["blobs"]), 96):
        sha256, md5, git = struct.unpack_from("<32s16s20s", sections["blobs"], at)
        size, first, count = struct.unpack_from("<QQQ", sections["blobs"], at + 72)
        content = b""
        for raw_digest, encoded_digest, raw, length, pack, base, offset, codec in rows[first : first + count]:
            encoded = packs[pack][offset : offset + length]
            assert base == 0xFFFFFFFF
            assert digest(encoded).digest() == encoded_digest
            name = head["codecs"][codec]
            chunk = encoded if name == "raw" else zstandard.ZstdDecompressor().decompress(encoded, raw)
            assert len(chunk) == raw
            assert digest(chunk).digest() == raw_digest
            content += chunk
        assert len(content) == size
        assert hashlib.sha256(content).digest() == sha256
        assert hashlib.md5(content).digest() == md5
        assert hashlib.sha1(b"blob %d\0" % size + content).digest() == git
        blobs["sha256:" + sha256.hex()] = content
    return blobs


def read(path: Path, folder: Path) -> None:
    """Extract the bundle at `path` into `folder`: `<model id>/<package id>/<path>`."""
    members = members_of(path)
    assert json.loads(members[1][1])["annotations"]["offline-bundle.format"] == "1"
    for name, content in members[2:]:
        assert name == "blobs/sha256/" + hashlib.sha256(content).hexdigest()
    envelope, index, packs = members[4][1], members[6][1], [content for _, content in members[7:]]
    statement = json.loads(base64.b64decode(json.loads(envelope)["payload"]))
    assert statement["subject"][0]["digest"]["sha256"] == hashlib.sha256(index).hexdigest()
    head, sections = sections_of(index)
    listed = [sections["packs"][at : at + 32] for at in range(0, len(sections["packs"]), 40)]
    assert [hashlib.sha256(pack).digest() for pack in packs] == listed
    blobs = blobs_of(head, sections, packs)
    for item in json.loads(sections["content"])["items"]:
        for package in item["packages"]:
            for file in package["files"]:
                target = folder / item["id"] / package["id"] / file["path"]
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(blobs[file["blob"]])


if __name__ == "__main__":
    read(Path(sys.argv[1]), Path(sys.argv[2]))
