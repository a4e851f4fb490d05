"""The index: every rule of the format, and a reader with a rule off that the table below would catch."""

import struct
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace as replace_struct

from manifests import content, index
from manifests.codecs import Codec
from manifests.content import Content, File, Model, Package
from manifests.digest import ChunkAlgorithm, Digest
from manifests.errors import BundleError, FormatError, UnsupportedFormatError
from manifests.tables import Blob, Chunk, Pack

ONE, TWO = b"first blob", b"second blob!"


def carried(*blobs: bytes) -> Content:
    files = tuple(
        File(path=f"{number}.bin", blob=str(Digest.of(blob)), size=len(blob), source="./x", lfs=False)
        for number, blob in enumerate(blobs)
    )
    package = Package(id="files", files=files, default=True)
    return Content(
        line="line",
        sequence=1,
        items=(Model(id="a/b", task="raw", commit="0" * 40, layouts=("directory",), packages=(package,)),),
    )


def chunk(raw: bytes, offset: int, pack: int = 0) -> Chunk:
    digest = ChunkAlgorithm.BLAKE3.digest(raw)
    return Chunk(digest, digest, len(raw), len(raw), pack, offset, Codec.RAW)


def blob(raw: bytes, first: int, count: int = 1) -> Blob:
    return Blob(Digest.of(raw), bytes(16), bytes(20), len(raw), first, count)


CONTENT = carried(ONE, TWO)
BLOBS = [blob(ONE, 0), blob(TWO, 1)]
CHUNKS = [chunk(ONE, 0), chunk(TWO, len(ONE))]
PACKS = [Pack(Digest.of(ONE + TWO), len(ONE + TWO))]


def encoded(
    what: Content = CONTENT, blobs: list[Blob] = BLOBS, chunks: list[Chunk] = CHUNKS, packs: list[Pack] = PACKS
) -> bytes:
    return index.encode(what, blobs, chunks, packs, ChunkAlgorithm.BLAKE3)


def test_what_is_encoded_is_decoded() -> None:
    found = index.decode(encoded())
    assert (found.content, list(found.blobs), list(found.packs)) == (CONTENT, BLOBS, PACKS)
    assert [list(found.chunks(each)) for each in found.blobs] == [[CHUNKS[0]], [CHUNKS[1]]]


def test_the_length_depends_on_the_numbers_of_rows_alone() -> None:
    other = [Pack(Digest(bytes(32)), PACKS[0].length)]
    assert len(encoded(packs=other)) == len(encoded())


BROKEN: dict[str, tuple[str, Callable[[], bytes]]] = {
    "a gap between chunks": ("gap", lambda: encoded(chunks=[CHUNKS[0], replace(CHUNKS[1], offset=len(ONE) + 1)])),
    "overlapping chunks": ("gap", lambda: encoded(chunks=[CHUNKS[0], replace(CHUNKS[1], offset=0)])),
    "a pack longer than its chunks": ("gap", lambda: encoded(packs=[replace(PACKS[0], length=PACKS[0].length + 1)])),
    "a pack that no chunk uses": ("in order", lambda: encoded(packs=[*PACKS, Pack(Digest(bytes(32)), 0)])),
    "a chunk in a pack that is not there": (
        "in order",
        lambda: encoded(chunks=[CHUNKS[0], replace(CHUNKS[1], pack=1)]),
    ),
    "packs out of order": (
        "in order",
        lambda: encoded(
            chunks=[replace(CHUNKS[0], pack=1), replace(CHUNKS[1], offset=0)],
            packs=[Pack(Digest.of(TWO), len(TWO)), Pack(Digest.of(ONE), len(ONE))],
        ),
    ),
    "one pack listed twice": (
        "twice",
        lambda: encoded(
            chunks=[CHUNKS[0], replace(CHUNKS[1], pack=1, offset=0)],
            packs=[Pack(Digest(bytes(32)), len(ONE)), Pack(Digest(bytes(32)), len(TWO))],
        ),
    ),
    "two rows of one chunk that disagree": (
        "disagree",
        lambda: encoded(chunks=[CHUNKS[0], replace(CHUNKS[1], raw_digest=CHUNKS[0].raw_digest)]),
    ),
    "chunks that do not add up": (
        "add up",
        lambda: encoded(what=_resized(), blobs=[replace(BLOBS[0], size=9), BLOBS[1]]),
    ),
    "a file of another size than its blob": (
        "different sizes",
        lambda: encoded(blobs=[replace(BLOBS[0], size=9), BLOBS[1]]),
    ),
    "a blob that begins elsewhere": ("begin", lambda: encoded(blobs=[BLOBS[0], replace(BLOBS[1], first_chunk=0)])),
    "a count that wraps around": (
        "without gap",
        lambda: encoded(blobs=[replace(BLOBS[0], chunk_count=2**64 - 1), replace(BLOBS[1], chunk_count=3)]),
    ),
    "chunks that no blob has": ("without gap", lambda: encoded(blobs=[BLOBS[0], replace(BLOBS[1], chunk_count=0)])),
    "a blob that no file names": ("names", lambda: encoded(what=carried(ONE))),
    "a file that no blob holds": ("names", lambda: encoded(what=carried(ONE, TWO, b"third"))),
    "blobs out of order": ("names", lambda: encoded(what=carried(TWO, ONE))),
    "an empty chunk": ("limits", lambda: encoded(chunks=[replace(CHUNKS[0], encoded_length=0), CHUNKS[1]])),
}


@pytest.mark.parametrize("name", BROKEN)
def test_an_index_that_breaks_a_rule_is_refused(name: str) -> None:
    message, make = BROKEN[name]
    with pytest.raises(FormatError, match=message):
        index.decode(make())


def _resized() -> Content:
    files = list(CONTENT.files())
    first = File(path="0.bin", blob=files[0].blob, size=9, source="./x", lfs=False)
    package = Package(id="files", files=(first, files[1]), default=True)
    return Content(
        line="line",
        sequence=1,
        items=(Model(id="a/b", task="raw", commit="0" * 40, layouts=("directory",), packages=(package,)),),
    )


def test_a_delta_is_refused_by_name() -> None:
    raw = bytearray(encoded())
    raw[:] = raw.replace(b'"features":[]', b'"features":["delta"]')
    struct.pack_into("<Q", raw, 16, struct.unpack_from("<Q", raw, 16)[0] + 7)
    struct.pack_into("<Q", raw, 24, len(raw))
    with pytest.raises(UnsupportedFormatError, match="delta"):
        index.decode(bytes(raw))


@pytest.mark.parametrize(("field", "name"), [("codecs", "lzma"), ("digests", "md4"), ("kinds", "hologram")])
def test_what_a_bundle_needs_and_we_do_not_know_is_refused_by_name(field: str, name: str) -> None:
    raw = encoded()
    needle = {"codecs": b'"requires":{"codecs":["raw"', "digests": b'"digests":["blake3"', "kinds": b'"kinds":["model"'}
    old = needle[field]
    new = old + b',"' + name.encode() + b'"'
    grown = bytearray(raw.replace(old, new, 1))
    struct.pack_into("<Q", grown, 16, struct.unpack_from("<Q", raw, 16)[0] + len(new) - len(old))
    struct.pack_into("<Q", grown, 24, len(grown))
    with pytest.raises(UnsupportedFormatError, match=name):
        index.decode(bytes(grown))


def test_a_newer_version_is_named_before_anything_is_parsed() -> None:
    raw = encoded()
    with pytest.raises(UnsupportedFormatError, match="9"):
        index.decode(raw[:8] + struct.pack("<I", 9) + b"garbage")


def test_every_flipped_byte_is_refused_but_for_a_wider_limit() -> None:
    raw = encoded()
    passed = []
    for place in range(len(raw)):
        try:
            found = index.decode(raw[:place] + bytes([raw[place] ^ 1]) + raw[place + 1 :])
        except BundleError:
            continue
        passed.append(place)
        assert found.head.limits != index.decode(raw).head.limits
    assert len(passed) < 10


@given(st.binary(max_size=400))
@settings(max_examples=300, deadline=None)
def test_only_our_errors_come_out_of_any_bytes(junk: bytes) -> None:
    for raw in (junk, encoded()[:64] + junk, encoded()[: len(junk)]):
        with pytest.raises(FormatError):
            index.decode(raw)


BAD_CONTENT = {
    "a path that climbs": b'"path":"../../etc/cron.d/x"',
    "an absolute path": b'"path":"/etc/passwd"',
    "a path with a control character": b'"path":"a\\u001b[2Jb"',
    "a Windows device": b'"path":"nul.txt"',
    "a backslash": b'"path":"a\\\\b"',
}


@pytest.mark.parametrize("name", BAD_CONTENT)
def test_a_hostile_path_is_refused(name: str) -> None:
    text = content.encode(carried(ONE)).replace(b'"path":"0.bin"', BAD_CONTENT[name])
    with pytest.raises(FormatError):
        content.decode(text)


@pytest.mark.parametrize(
    "model_id", ["../x", "/abs", "hub/x", "a//b", "a/./b", "", "-a", "a/b/c/d/e/f/g/h/i", "Models-Cache/x"]
)
def test_a_hostile_id_is_refused(model_id: str) -> None:
    text = content.encode(carried(ONE)).replace(b'"id":"a/b"', f'"id":"{model_id}"'.encode())
    with pytest.raises(FormatError):
        content.decode(text)


def test_one_id_twice_is_refused_however_short_it_is() -> None:
    (model,) = carried(ONE).items
    for name in ("a", "a1"):
        twice = tuple(replace_struct(model, id=name) for _ in range(2))
        with pytest.raises(FormatError, match="each once"):
            content.decode(content.encode(replace_struct(carried(ONE), items=twice)))


def test_a_field_without_a_value_must_be_left_out() -> None:
    text = content.encode(carried(ONE)).replace(b'"id":"a/b"', b'"id":"a/b","license":null')
    with pytest.raises(FormatError):
        content.decode(text.replace(b'"license":null', b'"architecture":null'))
    with pytest.raises(FormatError, match="left out"):
        content.decode(content.encode(carried(ONE)).replace(b'[{"commit"', b'[{"aliases":[],"commit"'))


def test_layouts_are_checked_by_the_reader_too() -> None:
    (model,) = carried(ONE).items
    for layouts in ((), ("directory", "directory"), ("huggingface",), ("directory", "inference", "huggingface")):
        with pytest.raises(FormatError):
            content.decode(
                content.encode(replace_struct(carried(ONE), items=(replace_struct(model, layouts=layouts),)))
            )
    both = tuple(replace_struct(model, id=name, layouts=("directory", "huggingface")) for name in ("a--b/c", "a/b--c"))
    with pytest.raises(FormatError):
        content.decode(content.encode(replace_struct(carried(ONE), items=both)))


def test_a_path_that_is_a_folder_of_another_is_refused() -> None:
    (model,) = carried(ONE).items
    (file,) = model.packages[0].files
    for names in (("a", "a/b"), ("A/x", "a/X"), ("a", "a/b/c", "b")):
        files = tuple(replace_struct(file, path=name) for name in sorted(names))
        package = replace_struct(model.packages[0], files=files)
        with pytest.raises(FormatError):
            content.decode(
                content.encode(replace_struct(carried(ONE), items=(replace_struct(model, packages=(package,)),)))
            )


def test_an_unknown_kind_is_refused_by_name() -> None:
    text = content.encode(carried(ONE)).replace(b'"kind":"model"', b'"kind":"hologram"')
    with pytest.raises(UnsupportedFormatError, match="hologram"):
        content.decode(text)
