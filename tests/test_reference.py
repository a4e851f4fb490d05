"""The grammar of a source: what it says, and that it says it back."""

from pathlib import Path

import pytest

from bundler.sources.base import matches
from bundler.sources.reference import Reference
from manifests.digest import Digest
from manifests.errors import ManifestError

HEX = "ab" * 32
BASE = Path("/somewhere/line")


@pytest.mark.parametrize(
    ("text", "scheme", "location", "members"),
    [
        ("./coco80.txt", "file", "./coco80.txt", ()),
        ("models/a b.onnx", "file", "models/a b.onnx", ()),
        ("../model.zip#inner/a.onnx", "file", "../model.zip", ("inner/a.onnx",)),
        ("https://example.org/x.bin?download=true", "https", "example.org/x.bin?download=true", ()),
        ("pypi://p==1.0#p/m.onnx", "pypi", "p==1.0", ("p/m.onnx",)),
        ("pypi://p==1.0#p/m.zip!inner.tar!m.onnx", "pypi", "p==1.0", ("p/m.zip", "inner.tar", "m.onnx")),
        ("hf://org/name@main/onnx/model.onnx", "hf", "org/name@main/onnx/model.onnx", ()),
        ("a%23b.txt", "file", "a%23b.txt", ()),
        ("x.zip#a%23%21%25b", "file", "x.zip", ("a#!%b",)),
    ],
)
def test_a_source_says_what_it_means_and_says_it_back(
    text: str, scheme: str, location: str, members: tuple[str, ...]
) -> None:
    reference = Reference.parse(text, BASE)
    assert (reference.scheme, reference.location, reference.members) == (scheme, location, members)
    assert str(reference) == text


@pytest.mark.parametrize("text", ["./a.bin", "https://example.org/a", "pypi://p==1#m"])
def test_a_digest_stands_at_the_end(text: str) -> None:
    reference = Reference.parse(f"{text}#sha256={HEX}", BASE)
    assert reference.digest == Digest.parse(f"sha256:{HEX}")
    assert str(reference) == f"{text}#sha256={HEX}"


def test_the_container_of_a_member_is_the_source_without_it() -> None:
    assert str(Reference.parse(f"pypi://p==1#m#sha256={HEX}", BASE).container) == "pypi://p==1"


def test_an_absolute_path_is_made_relative_because_the_lock_travels() -> None:
    assert str(Reference.parse("/somewhere/models/a.onnx", BASE)) == "../models/a.onnx"
    assert str(Reference.parse("file:///somewhere/line/a.onnx", BASE)) == "a.onnx"


def test_a_file_below_a_folder_is_a_source_of_its_own() -> None:
    child = Reference.parse("./folder/", BASE).child("a#b/100%.txt")
    assert str(child) == "./folder/a%23b/100%25.txt"
    assert Reference.parse(str(child), BASE) == child


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "not a source"),
        ("#member", "not a source"),
        ("a.zip#", "not a source"),
        ("a.zip#x#y", "not a source"),
        ("a.zip#x!", "a member has no name"),
        ("a.bin#sha256=12", "not a digest"),
        ("gopher://x/y", "unknown scheme gopher://"),
        ("https://", "names no host"),
        ("pypi://", "names nothing"),
        ("https://user:secret@example.org/x", "would end up in the lock"),
        ("https://example.org/x?X-Amz-Signature=secret", "is signed"),
        ("https://user:secret@example.org/x#a#b", "not a source"),
        ("https://user:secret@example.org/x#a#b#c?token=secret", "not a source"),
        ("https://example.org/x?token=secret#a#b", "not a source"),
        ("https://example.org/x?token=secret#a!", "a member has no name"),
        ("https://user:secret@[bad/x", "not a URL"),
        ("https://user:secret@h:port/x", "not a URL"),
        ("https://user:secret/secret@h/x", "not a URL"),
        ("https://user:12/secret@h/x", "not a URL"),
        ("https://user:secret@/x", "not a URL"),
        ("HTTPS://user:secret@h:99999/x", "not a URL"),
        ("https://h:99999/x", "not a URL"),
        ("https://h:abc/x", "not a URL"),
        ("./a\0b", "a character that no name can have"),
        ("https://h/\0", "a character that no name can have"),
        ("./a\ud800", "a character that no name can have"),
    ],
)
def test_what_is_no_source_is_refused_and_says_why(text: str, words: str) -> None:
    with pytest.raises(ManifestError, match=words) as caught:
        Reference.parse(text, BASE)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "name",
    [
        "private_token", "apikey", "api-key", "api_key", "key", "auth", "password", "secret", "jwt", "token",
        "access_token", "AWSAccessKeyId", "X-Amz-Security-Token", "X-Amz-Credential", "X-Amz-Signature", "sig",
        "signature",
    ],
)  # fmt: skip
def test_a_query_that_carries_a_secret_is_refused(name: str) -> None:
    with pytest.raises(ManifestError, match="is signed") as caught:
        Reference.parse(f"https://example.org/x?a=b&{name}=hush", BASE)
    assert "hush" not in str(caught.value)


def test_an_absolute_path_is_found_through_links_to_the_folder(tmp_path: Path) -> None:
    (tmp_path / "deep/er").mkdir(parents=True)
    (tmp_path / "link").symlink_to("deep/er")
    reference = Reference.parse(str(tmp_path / "a.bin"), tmp_path / "link")
    assert reference.location == "../../a.bin"


@pytest.mark.parametrize(
    ("path", "include", "exclude", "chosen"),
    [
        ("a.json", (), (), True),
        ("a.json", ("*.json",), (), True),
        ("sub/a.json", ("*.json",), (), True),
        ("a.bin", ("*.json",), (), False),
        ("onnx/model.onnx", ("onnx/",), (), True),
        ("onnx/model.onnx", ("onnx/",), ("*.onnx",), False),
        ("A.JSON", ("*.json",), (), False),
    ],
)
def test_patterns_choose_files(path: str, include: tuple[str, ...], exclude: tuple[str, ...], *, chosen: bool) -> None:
    assert matches(path, include=include, exclude=exclude) is chosen


@pytest.mark.parametrize("text", ["file://", "FILE://", "s3://"])
def test_a_scheme_alone_names_nothing(text: str) -> None:
    with pytest.raises(ManifestError, match="names nothing"):
        Reference.parse(text, Path("/base"))
