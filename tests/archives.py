"""Archives for tests: of every kind, and with entries that are no files."""

import gzip
import io
import lzma
import tarfile
import zipfile
from collections.abc import Callable

import zstandard


def zipped(**members: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as made:
        for name, content in members.items():
            made.writestr(name.replace("__", "/"), content)
    return out.getvalue()


def tarred(**members: bytes) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as made:
        for name, content in members.items():
            entry = tarfile.TarInfo(name.replace("__", "/"))
            entry.size = len(content)
            made.addfile(entry, io.BytesIO(content))
    return out.getvalue()


def special(kind: bytes, name: str = "m") -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as made:
        entry = tarfile.TarInfo(name)
        entry.type, entry.linkname = kind, "/etc/passwd"
        made.addfile(entry)
    return out.getvalue()


KINDS: dict[str, Callable[[bytes], bytes]] = {
    "tar": bytes,
    "tar.gz": gzip.compress,
    "tar.xz": lambda plain: lzma.compress(plain, preset=0),
    "tar.zst": zstandard.ZstdCompressor().compress,
    "tar.gz in two parts": lambda plain: gzip.compress(plain[:1000]) + gzip.compress(plain[1000:]),
    "tar.zst in two frames": lambda plain: b"".join(
        zstandard.ZstdCompressor().compress(part) for part in (plain[:1000], plain[1000:])
    ),
}
