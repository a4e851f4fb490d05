"""The golden bundle: bytes that format 1 was, is, and will be readable as.

`tests/golden/v1.bundle` is never written anew once a version of the program was released with it.
"""

import hashlib
import json
import re
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from bundler.assemble import Signers
from factory import Workshop, edwards_signer, elliptic_signer, incompressible, put
from manifests import index, statement, tables
from manifests.bundle import SealedBundle
from manifests.keyring import Keyring
from manifests.lock import Lock, LockedModel

GOLDEN = Path(__file__).parent / "golden" / "v1.bundle"
DIGEST = "sha256:a1235651a1f8bce85d42275ec57b38d5c5170e98ffd5579034f41f93384dba41"
FORMAT = (Path(index.__file__).parent / "FORMAT.md").read_text()


def lock(workshop: Workshop) -> Lock:
    """What the golden bundle carries: text, noise, an empty file, one file twice, two packages, an alias."""
    full = workshop.package(
        {
            "config/a.json": b'{"a":1}\n',
            "empty": b"",
            "text.txt": b"the same words, " * 500,
            "noise.bin": incompressible(3000),
        },
        "full",
    )
    small = workshop.package({"noise.bin": incompressible(3000), "less.bin": incompressible(1000, 3)}, "small")
    models = (
        LockedModel(id="acme/golden", aliases=("golden-1",), task="raw", licenses=("MIT",), packages=(full, small)),
        LockedModel(id="plain", task="raw", packages=(workshop.package({"text.txt": b"the same words, " * 500}),)),
    )
    return Lock(format=1, line="golden", sequence=7, models=models)


def test_this_program_still_writes_the_golden_bytes(workshop: Workshop) -> None:
    built = workshop.build(lock(workshop), signers=Signers.of(elliptic_signer(1), edwards_signer(2)))
    assert built.path.read_bytes() == GOLDEN.read_bytes()


def test_the_golden_bytes_are_those_that_were_committed() -> None:
    assert f"sha256:{hashlib.sha256(GOLDEN.read_bytes()).hexdigest()}" == DIGEST


def test_this_program_still_installs_the_golden_bundle(workshop: Workshop) -> None:
    both = (elliptic_signer(1), edwards_signer(2))
    site = workshop.site(signers=both, threshold=2)
    put(GOLDEN, site)
    plain = site.path / "current" / "plain"
    assert (plain / "acme/golden/text.txt").read_bytes() == b"the same words, " * 500
    assert (plain / ".packages/acme/golden/small/less.bin").read_bytes() == incompressible(1000, 3)
    assert (plain / "acme/golden/empty").read_bytes() == b""


def test_the_document_shows_the_first_members_as_they_are() -> None:
    with tarfile.open(GOLDEN) as tar:
        members = {member.name: tar.extractfile(member).read() for member in tar.getmembers()}  # type: ignore[union-attr]
    shown = re.search(r"`index.json`, canonical JSON:\n\n```json\n(.*?)\n```", FORMAT, re.DOTALL)
    assert shown is not None
    real = json.loads(members["index.json"])
    digest, size = real["manifests"][0]["digest"], real["manifests"][0]["size"]
    expected = shown[1].replace("LINE-SEQUENCE", "golden-7").replace("sha256:…", digest).replace(":N}", f":{size}}}")
    assert members["index.json"].decode() == expected
    assert members["oci-layout"].decode() in FORMAT


@pytest.mark.parametrize("name", ["statement", "head", "content"])
def test_the_document_names_exactly_the_keys_that_are_written(name: str) -> None:
    with SealedBundle.open(GOLDEN) as sealed:
        bundle = sealed.verify(Keyring.of([elliptic_signer(1).key]))
        payload = json.loads(sealed.envelope.payload)
    raw = bundle.index.raw
    head = json.loads(raw[64 : 64 + int.from_bytes(raw[16:24], "little")])
    real = {"statement": payload, "head": head, "content": json.loads(index.content.encode(bundle.index.content))}[name]
    beginning = {"statement": '{"_type"', "head": '{"base"', "content": '{"items"'}[name]
    block = next(text for text in re.findall(r"```json\n(.*?)\n```", FORMAT, re.DOTALL) if text.startswith(beginning))
    shown = set(re.findall(r'"([A-Za-z0-9_]+)":', block))
    assert keys(real) <= shown
    optional = {"architecture", "backend", "opset", "quantization", "static_batch", "layouts", "aliases", "licenses"}
    assert shown - keys(real) <= optional


def keys(value: object) -> set[str]:
    """Every key of a JSON value, at any depth."""
    if isinstance(value, dict):
        return set(value).union(*(keys(inner) for inner in value.values()))
    return set().union(*(keys(inner) for inner in value)) if isinstance(value, list) else set()


def test_the_tables_of_the_document_are_those_of_the_code() -> None:
    for name, width in tables.WIDTHS.items():
        assert re.search(rf"`{name}`, {width} bytes a row", FORMAT), name


def test_the_document_has_the_bounds_of_the_code() -> None:
    assert "268,435,456" in FORMAT
    assert tables.MAXIMUM_PACK == 268_435_456
    assert statement.PAYLOAD_TYPE in FORMAT
    assert f"DSSEv1 {len(statement.PAYLOAD_TYPE)} " in FORMAT


@pytest.mark.parametrize("folder", [False, True], ids=["tar", "folder"])
def test_a_reader_written_from_the_document_alone_gets_the_same_files(workshop: Workshop, *, folder: bool) -> None:
    built = workshop.build(lock(workshop), folder=folder)
    out = workshop.folder / "out"
    reader = Path(__file__).parent / "independent_reader.py"
    subprocess.run([sys.executable, reader, built.path, out], check=True)
    assert (out / "acme/golden/full/text.txt").read_bytes() == b"the same words, " * 500
    assert (out / "acme/golden/small/noise.bin").read_bytes() == incompressible(3000)
    assert len(list(out.rglob("*.*"))) == 6
