"""A bundle as a file: what is written, what is refused, and with which verdict."""

import hashlib
import io
import json
import shutil
import subprocess
import tarfile
import time
from dataclasses import replace
from pathlib import Path

import pytest

from bundler import encode
from bundler.assemble import Built, Signers
from factory import Workshop, edwards_signer, elliptic_signer, incompressible, put, tree
from manifests import attachments, envelope, index, statement
from manifests.attachments import ModelSignature
from manifests.bundle import SealedBundle
from manifests.digest import Digest
from manifests.envelope import Signature, signed_bytes
from manifests.errors import (
    BundleError,
    DamagedError,
    FormatError,
    UnknownKeyError,
    UnsignedError,
    UnsupportedFormatError,
    WrongSignatureError,
)
from manifests.keyring import Keyring
from manifests.wrapper import BLOCK, Part, Wrapper, padding, tar_header

TRUSTED = Keyring.of([elliptic_signer().key])
MODELS = {
    "acme/one": {"weights.bin": incompressible(9_000_000), "readme.txt": b"hello\n" * 100, "empty": b""},
    "acme/two": {"weights.bin": incompressible(9_000_000), "other.bin": incompressible(5_000_000, 2)},
}
SMALL = {"acme/tiny": {"a.txt": b"some text, " * 40, "b.bin": incompressible(300)}}


@pytest.fixture
def built(workshop: Workshop) -> Built:
    return workshop.build(workshop.lock(MODELS))


@pytest.fixture
def small(workshop: Workshop) -> Built:
    return workshop.build(workshop.lock(SMALL))


def verify(path: Path, keyring: Keyring = TRUSTED) -> None:
    with SealedBundle.open(path) as sealed:
        sealed.verify(keyring).check()


def rewrap(bundle: Path, *, envelope_slot: bytes | None = None, index_bytes: bytes | None = None) -> None:
    """Write a tar anew around another envelope or index, with a wrapper that fits: what an attacker would do."""
    with tarfile.open(bundle) as tar:
        members = [tar.extractfile(member).read() for member in tar.getmembers()]  # type: ignore[union-attr]
        manifest = json.loads(members[2])
        name = json.loads(members[1])["manifests"][0]["annotations"]["org.opencontainers.image.ref.name"]
    parts = [envelope_slot or members[4], members[5], index_bytes or members[6], *members[7:]]
    assert len(manifest["layers"]) == len(parts)
    wrapper = Wrapper(name, *(Part.of(part) for part in parts[:3]), tuple(Part.of(part) for part in parts[3:]))
    out = io.BytesIO()
    for member, content in [*wrapper.written(), *((Part.of(part).name, part) for part in parts)]:
        out.write(tar_header(member, len(content)) + content + bytes(padding(len(content))))
    bundle.write_bytes(out.getvalue() + bytes(2 * BLOCK))


def test_every_file_comes_out_as_it_went_in(built: Built) -> None:
    with SealedBundle.open(built.path) as sealed:
        bundle = sealed.verify(TRUSTED)
        for item in bundle.index.content.items:
            for file in item.packages[0].files:
                assert b"".join(bundle.read(bundle.index.blob(file.digest))) == MODELS[item.id][file.path]


def test_equal_files_are_carried_once(built: Built) -> None:
    assert built.raw > 23_000_000
    assert built.carried < 14_010_000


def test_a_pack_begins_with_each_package(built: Built) -> None:
    with SealedBundle.open(built.path) as sealed:
        first, second = sealed.view().index.packs
    assert first.length > 9_000_000
    assert 5_000_000 <= second.length < 5_001_000


def test_tar_reads_it_and_every_blob_has_the_name_of_its_digest(built: Built, tmp_path: Path) -> None:
    subprocess.run(["tar", "-xf", built.path, "-C", tmp_path], check=True)
    blobs = list((tmp_path / "blobs" / "sha256").iterdir())
    assert len(blobs) == 7
    for blob in blobs:
        assert hashlib.sha256(blob.read_bytes()).hexdigest() == blob.name


def test_the_unpacked_tar_is_the_folder_form(workshop: Workshop, built: Built, tmp_path: Path) -> None:
    folder = workshop.build(workshop.lock(MODELS), name="out.folder", folder=True)
    (tmp_path / "unpacked").mkdir()
    subprocess.run(["tar", "-xf", built.path, "-C", tmp_path / "unpacked"], check=True)
    assert tree(tmp_path / "unpacked") == tree(folder.path)
    verify(folder.path)


def test_the_same_lock_gives_the_same_bytes_from_another_store(workshop: Workshop, tmp_path: Path) -> None:
    one = workshop.build(workshop.lock(MODELS)).path.read_bytes()
    other = Workshop(tmp_path / "elsewhere")
    other.package({"first.bin": incompressible(700_000, 7)})
    assert other.build(other.lock(dict(reversed(MODELS.items())))).path.read_bytes() == one
    other.store.close()


def test_building_into_an_existing_folder_replaces_it_and_keeps_the_packs_that_did_not_change(
    workshop: Workshop,
) -> None:
    before = workshop.build(workshop.lock(MODELS), name="b", folder=True)
    names = {path.name for path in (before.path / "blobs" / "sha256").iterdir()}
    changed = {**MODELS, "acme/two": {**MODELS["acme/two"], "other.bin": incompressible(5_000_000, 3)}}
    after = workshop.build(workshop.lock(changed, sequence=2), name="b", folder=True)
    verify(after.path)
    with SealedBundle.open(after.path) as sealed:
        assert sealed.view().index.packs[0].digest.hex in names


def test_a_flip_of_any_byte_of_the_front_is_refused(small: Built, tmp_path: Path) -> None:
    whole = small.path.read_bytes()
    target = tmp_path / "flipped.bundle"
    with SealedBundle.open(small.path) as sealed:
        packs = sealed.view().index.packs
        front = len(whole) - 2 * BLOCK - sum(BLOCK + pack.length + padding(pack.length) for pack in packs)
    interesting = [*range(0, 6 * BLOCK, 7), *range(6 * BLOCK, front, 331), *range(front, len(whole), 5)]
    for place in interesting:
        target.write_bytes(whole[:place] + bytes([whole[place] ^ 0x10]) + whole[place + 1 :])
        with pytest.raises(BundleError) as caught:
            verify(target)
        assert isinstance(caught.value, FormatError), (place, caught.value)
    assert len(interesting) > 500


def test_a_flip_in_a_file_of_the_folder_form_is_refused(workshop: Workshop) -> None:
    folder = workshop.build(workshop.lock(SMALL), name="f", folder=True).path
    for name, content in tree(folder).items():
        assert isinstance(content, bytes)
        path = folder / name
        for place in {0, len(content) // 2, len(content) - 1}:
            path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
            with pytest.raises(FormatError):
                verify(folder)
        path.write_bytes(content)
    verify(folder)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.2, 0.5, 0.9, 0.9999])
def test_a_truncated_bundle_is_refused(built: Built, tmp_path: Path, share: float) -> None:
    whole = built.path.read_bytes()
    target = tmp_path / "short.bundle"
    target.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(FormatError):
        verify(target)


def test_a_truncated_bundle_says_that_it_is_truncated(built: Built, tmp_path: Path) -> None:
    target = tmp_path / "short.bundle"
    target.write_bytes(built.path.read_bytes()[:-5000])
    with pytest.raises(DamagedError, match="truncated"):
        verify(target)


def test_anything_after_the_end_is_refused(built: Built) -> None:
    with built.path.open("ab") as stream:
        stream.write(bytes(BLOCK))
    with pytest.raises(DamagedError, match="does not end as it should"):
        verify(built.path)


def test_an_unlisted_file_in_a_folder_is_refused(workshop: Workshop) -> None:
    folder = workshop.build(workshop.lock(SMALL), name="f", folder=True).path
    (folder / "autorun.inf").write_text("x")
    with pytest.raises(FormatError, match=r"autorun\.inf"):
        verify(folder)


def test_a_link_in_a_folder_is_not_followed(workshop: Workshop) -> None:
    folder = workshop.build(workshop.lock(SMALL), name="f", folder=True).path
    blob = next((folder / "blobs" / "sha256").iterdir())
    elsewhere = workshop.folder / "elsewhere"
    shutil.copy(blob, elsewhere)
    blob.unlink()
    blob.symlink_to(elsewhere)
    with pytest.raises(FormatError, match="not a regular file"):
        verify(folder)


def test_a_folder_that_is_a_link_is_not_followed(workshop: Workshop) -> None:
    folder = workshop.build(workshop.lock(SMALL), name="f", folder=True).path
    (folder / "blobs" / "sha256").rename(workshop.folder / "elsewhere")
    (folder / "blobs" / "sha256").symlink_to(workshop.folder / "elsewhere")
    with pytest.raises(FormatError, match="not a folder"):
        verify(folder)


def test_a_blob_that_is_not_named_by_its_own_hashes_does_not_verify(workshop: Workshop) -> None:
    """A trusted signer, or a damaged store, may lie about what a name stands for: every chunk would still fit."""
    lock = workshop.lock(SMALL)
    file = lock.models[0].packages[0].files[0]
    truth = workshop.store.get(file.digest)
    other = encode.add(workshop.store, io.BytesIO(b"x" * truth.size), size=truth.size, subject="x")
    for lie in (replace(truth, chunks=other.chunks), replace(truth, md5=bytes(16)), replace(truth, git_sha1=bytes(20))):
        workshop.store.add_recipe(lie)
        with pytest.raises(FormatError, match="its own hashes"):
            verify(workshop.build(lock).path)


def test_thousands_of_members_are_refused_quickly(small: Built) -> None:
    members = b"".join(tar_header(f"blobs/sha256/{number:064x}", 0) for number in range(19_990))
    whole = small.path.read_bytes()
    small.path.write_bytes(whole[:-1024] + members + bytes(1024))
    start = time.process_time()
    with pytest.raises(FormatError, match="does not belong"):
        verify(small.path)
    assert time.process_time() - start < 10


def test_bogus_attachments_are_refused(workshop: Workshop, small: Built) -> None:
    with SealedBundle.open(small.path) as sealed:
        carried = sealed.view().index.content
    size, entry = attachments.slot_size(carried), ModelSignature(0, 0, elliptic_signer().key.id, b"x")
    crowd = [replace(entry, key_id=f"{number:064x}") for number in range(attachments.MAXIMUM_PER_PACKAGE + 1)]
    for bogus in (
        [entry, replace(entry, content=b"y")],
        [replace(entry, key_id="none")],
        [replace(entry, item=1)],
        crowd,
    ):
        with pytest.raises(FormatError):
            attachments.decode(attachments.encode(bogus, size), carried)
    with pytest.raises(FormatError, match="size"):
        attachments.decode(attachments.encode([entry], size + 4096), carried)


def test_a_missing_pack_is_named(workshop: Workshop) -> None:
    built = workshop.build(workshop.lock(SMALL), name="f", folder=True)
    with SealedBundle.open(built.path) as sealed:
        pack = sealed.view().index.packs[0].digest.hex
    (built.path / "blobs" / "sha256" / pack).unlink()
    with pytest.raises(DamagedError, match=pack):
        verify(built.path)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 a zip", bytes(4096), b"x" * 2000])
def test_something_else_is_not_a_bundle(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "other.bundle"
    path.write_bytes(content)
    with pytest.raises(FormatError, match="not a bundle"):
        verify(path)


def test_another_oci_layout_is_not_a_bundle(tmp_path: Path) -> None:
    (tmp_path / "blobs" / "sha256").mkdir(parents=True)
    (tmp_path / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    (tmp_path / "index.json").write_text('{"manifests":[],"schemaVersion":2}')
    with pytest.raises(FormatError, match="not a bundle"):
        verify(tmp_path)


def test_a_newer_format_is_refused_before_anything_else_is_parsed(tmp_path: Path) -> None:
    (tmp_path / "oci-layout").write_text("of another shape altogether")
    (tmp_path / "index.json").write_text('{"annotations":{"offline-bundle.format":"2"},"who":"knows"}')
    with pytest.raises(UnsupportedFormatError, match="format 2"):
        verify(tmp_path)


def test_an_unsigned_bundle_is_refused(workshop: Workshop) -> None:
    built = workshop.build(workshop.lock(SMALL), signers=Signers.of())
    with pytest.raises(UnsignedError):
        verify(built.path)


def test_a_bundle_by_an_unknown_key_is_refused(small: Built) -> None:
    with pytest.raises(UnknownKeyError) as caught:
        verify(small.path, Keyring.of([elliptic_signer(2).key]))
    assert elliptic_signer(1).key.fingerprint in caught.value.facts.values()


def test_a_wrong_signature_in_a_trusted_name_is_its_own_verdict(small: Built) -> None:
    with SealedBundle.open(small.path) as sealed:
        payload = sealed.envelope.payload
    forged = Signature(elliptic_signer(1).key.id, elliptic_signer(2).sign(signed_bytes(payload)))
    rewrap(small.path, envelope_slot=envelope.encode(payload, [forged]))
    with pytest.raises(WrongSignatureError):
        verify(small.path)


def test_a_signature_over_another_index_is_refused(workshop: Workshop, small: Built) -> None:
    other = workshop.build(workshop.lock(MODELS), name="other.bundle")
    with SealedBundle.open(other.path) as sealed:
        slot = envelope.encode(sealed.envelope.payload, sealed.envelope.signatures)
    rewrap(small.path, envelope_slot=slot)
    with pytest.raises(WrongSignatureError, match="another index"):
        verify(small.path)


def test_a_trusted_but_broken_signature_is_fatal_beside_a_good_one(small: Built) -> None:
    one, two = elliptic_signer(1), elliptic_signer(2)
    with SealedBundle.open(small.path) as sealed:
        payload = sealed.envelope.payload
    good = Signature(one.key.id, one.sign(signed_bytes(payload)))
    bad = Signature(two.key.id, one.sign(signed_bytes(payload)))
    rewrap(small.path, envelope_slot=envelope.encode(payload, [good, bad]))
    verify(small.path, Keyring.of([one.key]))
    with pytest.raises(WrongSignatureError):
        verify(small.path, Keyring.of([one.key, two.key]))


def test_a_threshold_of_two_needs_two(workshop: Workshop) -> None:
    one, two = elliptic_signer(1), edwards_signer(2)
    both = Keyring.of([one.key, two.key], threshold=2)
    alone = workshop.build(workshop.lock(SMALL), signers=Signers.of(one), name="alone.bundle")
    with pytest.raises(UnknownKeyError, match="1 of the signatures"):
        verify(alone.path, both)
    verify(workshop.build(workshop.lock(SMALL), signers=Signers.of(one, two), name="both.bundle").path, both)


def test_a_revoked_key_does_not_count(small: Built) -> None:
    one, two = elliptic_signer(1).key, elliptic_signer(2).key
    with pytest.raises(UnknownKeyError):
        verify(small.path, Keyring.of([one, two], revoked=[one.id]))


def test_an_index_that_breaks_a_rule_is_refused_even_when_signed(workshop: Workshop, small: Built) -> None:
    """A signer can be wrong, or bribed: the rules hold all the same."""
    with SealedBundle.open(small.path) as sealed:
        raw = sealed.view().index.raw
    place = raw.rindex(bytes.fromhex("ffffffff"))  # the base column of the last chunk row
    broken = raw[: place + 4] + b"\x07" + raw[place + 5 :]  # its offset
    signer = elliptic_signer()
    old = statement.decode(sealed.envelope.payload)
    lie = statement.encode(statement.Statement(old.line, old.sequence, old.content, Digest.of(broken), len(broken)))
    rewrap(
        small.path,
        envelope_slot=envelope.encode(lie, [Signature(signer.key.id, signer.sign(signed_bytes(lie)))]),
        index_bytes=broken,
    )
    with pytest.raises(FormatError):
        put(small.path, workshop.site())


def test_the_model_signature_is_made_only_by_a_key_that_the_keyring_trusts(workshop: Workshop) -> None:
    one, two = elliptic_signer(1), elliptic_signer(2)
    built = workshop.build(workshop.lock(SMALL), signers=Signers.of(one, models=two))
    with SealedBundle.open(built.path) as sealed:
        model = (bundle := sealed.verify(TRUSTED)).index.content.items[0]
        assert bundle.model_signature(model, model.packages[0]) is None
        both = sealed.verify(Keyring.of([one.key, two.key]))
        model = both.index.content.items[0]
        assert both.model_signature(model, model.packages[0]) is not None


def test_the_slots_leave_room_to_sign_later_without_moving_anything(workshop: Workshop) -> None:
    lock = workshop.lock(SMALL)
    few = workshop.build(lock, name="few").path.read_bytes()
    many = workshop.build(lock, signers=Signers.of(*(elliptic_signer(n) for n in range(1, 9))), name="many")
    assert len(few) == many.path.stat().st_size
    with SealedBundle.open(many.path) as sealed:
        view = sealed.view()
    assert attachments.slot_size(view.index.content) % 4096 == 0
    assert index.decode(view.index.raw).content == view.index.content


@pytest.mark.parametrize("form", ["oci", "oci-archive"])
def test_skopeo_reads_and_copies_it(workshop: Workshop, form: str) -> None:
    if shutil.which("skopeo") is None:
        pytest.skip("skopeo is not installed: that it reads a bundle is not proved by this run")
    built = workshop.build(workshop.lock(SMALL), folder=form == "oci")
    raw = subprocess.run(["skopeo", "inspect", "--raw", f"{form}:{built.path}"], capture_output=True, check=True).stdout
    copy = workshop.folder / "copy"
    command = ["skopeo", "--insecure-policy", "copy", f"{form}:{built.path}:line-1", f"oci:{copy}:line-1"]
    subprocess.run(command, check=True, capture_output=True)
    assert Part.of(raw).name in {path.relative_to(copy).as_posix() for path in copy.rglob("*")}
    for layer in json.loads(raw)["layers"]:
        assert (copy / "blobs" / "sha256" / layer["digest"].removeprefix("sha256:")).stat().st_size == layer["size"]
