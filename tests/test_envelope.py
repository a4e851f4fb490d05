"""Envelope, statement and canonical JSON: one spelling each."""

import json
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory import edwards_signer, elliptic_signer
from manifests import canonical, envelope, statement
from manifests.digest import Digest
from manifests.envelope import Signature, signed_bytes
from manifests.errors import FormatError, KeyFileError
from manifests.keyring import P256_ORDER, Key
from manifests.statement import Statement

ABOUT = Statement("line", 3, Digest.of(b"content"), Digest.of(b"index"), 5)
PAYLOAD = statement.encode(ABOUT)


def slot() -> bytes:
    signer = elliptic_signer()
    return envelope.encode(PAYLOAD, [Signature(signer.key.id, signer.sign(signed_bytes(PAYLOAD)))])


def test_a_statement_comes_back() -> None:
    assert statement.decode(PAYLOAD) == ABOUT


def test_the_envelope_is_plain_json_of_the_size_of_its_slot() -> None:
    assert len(slot()) == envelope.SLOT
    assert json.loads(slot())["payloadType"] == "application/vnd.in-toto+json"


def test_every_other_spelling_of_an_envelope_is_refused() -> None:
    good = slot()
    text = good.rstrip()
    loose = text.replace(b'"sig":"', b'"sig":" ')
    swapped = json.dumps(dict(reversed(json.loads(text).items())), separators=(",", ":")).encode()
    spaced = text.replace(b",", b", ")
    for other in (good[:-1], good[:-2] + b"\n\n", loose, swapped, spaced, b"[]", b"{}"):
        padded = other if len(other) == len(good) else envelope.in_slot(other, envelope.SLOT, subject="x")
        with pytest.raises(FormatError):
            envelope.decode(padded if padded != good else b"")


@pytest.mark.parametrize("signer", [elliptic_signer(), edwards_signer()], ids=["P-256", "Ed25519"])
def test_signatures_are_deterministic_and_verify(signer: object) -> None:
    assert signer.sign(b"x") == signer.sign(b"x")  # type: ignore[attr-defined]
    assert signer.key.verifies(signer.sign(b"x"), b"x")  # type: ignore[attr-defined]
    assert not signer.key.verifies(signer.sign(b"x"), b"y")  # type: ignore[attr-defined]


def test_a_signature_with_high_s_does_not_count() -> None:
    from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

    signer = elliptic_signer()
    r, s = decode_dss_signature(signer.sign(b"x"))
    assert not signer.key.verifies(encode_dss_signature(r, P256_ORDER - s), b"x")


def test_openssl_accepts_our_signature(tmp_path: Path) -> None:
    signer = elliptic_signer()
    (tmp_path / "key.pub.pem").write_bytes(signer.key.pem)
    (tmp_path / "message").write_bytes(signed_bytes(PAYLOAD))
    (tmp_path / "sig").write_bytes(signer.sign(signed_bytes(PAYLOAD)))
    command = ["openssl", "dgst", "-sha256", "-verify", "key.pub.pem", "-signature", "sig", "message"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "Verified OK" in done.stdout


def test_the_key_id_is_what_openssl_and_sha256sum_print(tmp_path: Path) -> None:
    key = elliptic_signer().key
    (tmp_path / "key.pub.pem").write_bytes(key.pem)
    command = "openssl pkey -pubin -in key.pub.pem -outform DER | sha256sum"
    done = subprocess.run(command, shell=True, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.split()[0] == key.id


def test_the_words_of_a_key_name_it() -> None:
    words = {elliptic_signer(number).key.words for number in range(50)}
    assert len(words) == 50
    assert all(len(each.split()) == 8 for each in words)


def test_a_private_key_is_not_taken_for_a_public_one() -> None:
    with pytest.raises(KeyFileError, match="private"):
        Key.parse(b"-----BEGIN PRIVATE KEY-----\n", subject="k.pem")


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63) + 1, 2**63 - 1)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(JSON)
def test_canonical_json_comes_back(value: object) -> None:
    assert canonical.decode(canonical.encode(value), limit=10**6, subject="x") == value


@pytest.mark.parametrize(
    "text",
    [
        b'{"a":1,"a":1}', b'{"b":1,"a":2}', b'{"a": 1}', b'{"a":1.0}', b'{"a":1e3}', b"[NaN]", b'"\\u0041"', b"[1]\n",
        b'{"a":9223372036854775808}', b"[" * 5000 + b"]" * 5000, b'"\\ud800"', b"\xff", b"", b'{"a":-0}', b"[01]",
    ],
)  # fmt: skip
def test_other_spellings_are_refused(text: bytes) -> None:
    with pytest.raises(FormatError):
        canonical.decode(text, limit=10**6, subject="x")


def test_a_text_beyond_its_limit_is_refused_unparsed() -> None:
    with pytest.raises(FormatError, match="at most 10"):
        canonical.decode(b"[1,2,3,4,5,6,7]", limit=10, subject="x")
