"""Which licences files themselves claim: a wheel in its METADATA, an ONNX model in its metadata.

Owns the reading of the claims and no judgement: two that contradict each other are both recorded.
"""

import mmap
import tempfile
from email.parser import BytesParser
from pathlib import Path
from typing import Final

from bundler import onnx
from manifests.digest import Digest
from manifests.errors import FormatError
from manifests.publish import translated
from manifests.store import Store

MAXIMUM_METADATA: Final = 4 << 20
"""Bytes of a wheel's METADATA: the long description is in it."""
_MAXIMUM_NAME: Final = 100
"""Characters of a licence's name: some packages put the whole text into the field."""


def of_wheel(metadata: bytes) -> tuple[str, ...]:
    """What METADATA claims: `License-Expression`, else `License`, else the licence classifiers."""
    fields = BytesParser().parsebytes(metadata, headersonly=True)
    for name in ("License-Expression", "License"):
        text = str(fields.get(name, "")).strip()
        if text and text.upper() != "UNKNOWN" and len(text) <= _MAXIMUM_NAME and text.isprintable():
            return (text,)
    classifiers = (str(text).split(" :: ") for text in fields.get_all("Classifier", []))
    return tuple(parts[-1] for parts in classifiers if parts[0] == "License" and len(parts) > 1)


def of_onnx(store: Store, digest: Digest) -> tuple[str, ...]:
    """What the exporter left under `license`; nothing if the blob is no ONNX model. Memory does not grow with it."""
    folder = store.spool
    with translated(folder), tempfile.TemporaryFile(dir=folder) as stream:
        for piece in store.read(digest):
            stream.write(piece)
        stream.flush()
        if not stream.tell():
            return ()
        with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            return _claims(memoryview(mapped))


def is_onnx(path: str) -> bool:
    """Whether a file's name says ONNX."""
    return Path(path).suffix.lower() == ".onnx"


def _claims(content: memoryview) -> tuple[str, ...]:
    try:
        described = onnx.read(content, subject="model")
    except FormatError:
        return ()
    finally:
        content.release()
    text = described.metadata.get("license", "").strip()
    return (text,) if text and text.isprintable() and len(text) <= 4 * _MAXIMUM_NAME else ()
