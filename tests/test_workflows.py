"""Workflows: asked for in a manifest, locked by digest, carried, and found by Roboflow's clients on the site."""

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from msgspec.structs import replace as replace_struct

from builders import Notes
from bundler.assemble import Built, Signers, assemble
from bundler.building import Building
from bundler.commands.main import cli
from bundler.locking import Locking
from bundler.settings import Roboflow, Settings
from factory import Workshop, elliptic_signer, put, tree
from loopback import hasty
from manifests import content, foreign, lock, workflow
from manifests.errors import (
    DigestMismatchError,
    FormatError,
    LockOutdatedError,
    ManifestError,
    NamingError,
    SourceDeniedError,
    SourceError,
    SourceNotFoundError,
    UnknownModelError,
)
from manifests.lock import Lock
from manifests.workflow import WorkflowId
from roboflow_server import KEY, RoboflowService, roboflow_of
from runtime import workflows as installed
from runtime.export import export
from runtime.root import Root

SPECIFICATION: dict[str, object] = {
    "version": "1.0",
    "inputs": [
        {"type": "WorkflowImage", "name": "image"},
        {"type": "WorkflowParameter", "name": "model", "default_value": "vehicles/1"},
    ],
    "steps": [
        {"type": "model_v2", "name": "find", "images": "$inputs.image", "model_id": "$inputs.model", "confidence": 0.4},
        {"type": "count", "name": "count", "predictions": "$steps.find.predictions"},
    ],
    "outputs": [{"type": "JsonField", "name": "count", "selector": "$steps.count.count"}],
}
MODEL = {"id": "vehicles/1", "source": "./weights"}
LOCAL = {"workspace": "local", "file": "./detect-and-count.json"}
REMOTE = {"source": "roboflow://acme/workflows/detect-and-count"}
LOCAL_PATH = "workflow/local/b6bdc1351a62c4ea870044b4c40a77548246a6769232cd053325d4548d7f5be5.json"
REMOTE_PATH = "workflow/acme/.canonical-v2/detect-and-count.json"


def answer(specification: object = SPECIFICATION, name: str = "Detect and count") -> dict[str, object]:
    """What the service says."""
    config = json.dumps({"specification": specification}, indent=1)
    return {"workflow": {"id": "Xy12", "name": name, "config": config, "owner": "ann"}, "status": "ok"}


@dataclass
class Desk:
    """A running service, a folder with a model and a workflow, and what builds from them."""

    service: RoboflowService
    folder: Path
    notes: Notes = field(default_factory=Notes)

    def __post_init__(self) -> None:
        self.write("weights/model.bin", b"weights")
        self.write("detect-and-count.json", json.dumps(SPECIFICATION).encode())

    def write(self, name: str, content: bytes) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    @property
    def settings(self) -> Settings:
        return hasty(self.folder / "store", roboflow=Roboflow(self.service.url, self.service.key))

    def locking(self, *workflows: dict[str, object], models: list[dict[str, object]] | None = None) -> Locking:
        asked = {"name": "line", "models": [MODEL] if models is None else models, "workflows": list(workflows)}
        self.write("line.json", json.dumps(asked).encode())
        return Locking(self.folder / "line.json", self.folder / "line.lock.json", self.settings, self.notes)

    def lock(self, *workflows: dict[str, object], models: list[dict[str, object]] | None = None) -> Lock:
        return self.locking(*workflows, models=models).run(check=False, upgrade=False, sequence=None).lock

    def build(self, **changes: object) -> Built:
        settings = replace(self.settings, **changes)  # type: ignore[arg-type]
        signers = Signers.of(elliptic_signer())
        return Building(self.folder / "line.json", settings, self.notes).run(
            self.folder / "out.bundle", signers, folder=False
        )

    def install(self) -> Root:
        root = Workshop(self.folder / "place").site()
        put(self.build().path, root)
        return root


def roboflow(root: Root) -> dict[str, bytes | str]:
    number = root.current()
    assert number is not None
    return tree(root.generation(number) / "roboflow")


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    service = RoboflowService([], workflows={"acme/workflows/detect-and-count": answer()})
    with roboflow_of(service) as running:
        yield Desk(running, tmp_path)


def test_a_workflow_lies_where_the_clients_look_for_it(desk: Desk) -> None:
    desk.lock(LOCAL, REMOTE)
    found = roboflow(desk.install())
    assert sorted(found) == [REMOTE_PATH, LOCAL_PATH]
    local, remote = json.loads(found[LOCAL_PATH]), json.loads(found[REMOTE_PATH])
    assert json.loads(local["config"]) == {"specification": SPECIFICATION}
    assert (local["id"], local["name"]) == ("detect-and-count", "detect-and-count")
    assert json.loads(remote["workflow"]["config"]) == {"specification": SPECIFICATION}
    assert (remote["workflow"]["id"], remote["workflow"]["name"]) == ("detect-and-count", "Detect and count")


def test_what_lies_there_are_regular_files(desk: Desk) -> None:
    desk.lock(LOCAL, REMOTE)
    root = desk.install()
    for flow in installed.installed(root):
        assert flow.path.is_file()
        assert not flow.path.is_symlink()
    assert not any(isinstance(each, str) for each in roboflow(root).values())


@pytest.mark.parametrize("padding", [10, 300_000])
def test_a_client_that_writes_to_its_workflow_writes_to_no_blob_and_recheck_mends_it(desk: Desk, padding: int) -> None:
    desk.service.workflows["acme/workflows/detect-and-count"] = answer(SPECIFICATION | {"note": "x" * padding})
    desk.lock(REMOTE)
    bundle = desk.build().path
    root = Workshop(desk.folder / "place").site()
    put(bundle, root)
    before = roboflow(root)
    number = root.current()
    assert number is not None
    path = root.generation(number) / "roboflow" / REMOTE_PATH
    path.chmod(0o644)
    path.write_bytes(b"what the service says by now")
    assert path.stat().st_nlink == 1
    put(bundle, root)
    assert root.current() == number
    told = CliRunner().invoke(cli, ["install", str(bundle), "--root", str(root.path), "--recheck"])
    assert told.exit_code == 0
    assert roboflow(root) == before


def test_install_names_the_workflows_that_it_made_active(desk: Desk) -> None:
    desk.lock(LOCAL, REMOTE)
    bundle = desk.build().path
    root = Workshop(desk.folder / "place").site()
    told = CliRunner().invoke(cli, ["install", str(bundle), "--root", str(root.path)])
    assert told.exit_code == 0
    assert "  acme/workflows/detect-and-count (a workflow)\n" in told.stdout
    again = CliRunner().invoke(cli, ["install", str(bundle), "--root", str(root.path), "--json"])
    names = ["acme/workflows/detect-and-count", "local/workflows/detect-and-count"]
    assert json.loads(again.stdout)["workflows"] == names


def test_two_lines_with_one_workflow_are_refused_and_a_line_takes_its_own_back(desk: Desk) -> None:
    desk.lock(LOCAL, REMOTE)
    root = desk.install()
    other = Desk(desk.service, desk.folder / "other")
    asked = {"name": "second", "workflows": [{"file": "./detect-and-count.json"}]}
    other.write("detect-and-count.json", b'{"steps": []}')
    locking = other.locking(models=[])
    other.write("line.json", json.dumps(asked).encode())
    locking.run(check=False, upgrade=False, sequence=None)
    with pytest.raises(NamingError, match="is in the bundle line 'line', and in 'second' too"):
        put(other.build().path, root)
    desk.lock(REMOTE)
    (desk.folder / "out.bundle").unlink()
    put(desk.build().path, root)
    assert sorted(roboflow(root)) == [REMOTE_PATH]
    put(other.build().path, root)
    assert sorted(roboflow(root)) == [REMOTE_PATH, LOCAL_PATH]


def test_workflows_are_exported_by_their_ids(desk: Desk) -> None:
    desk.lock(LOCAL, REMOTE)
    root = desk.install()
    ids = ["local/workflows/detect-and-count", "acme/workflows/detect-and-count"]
    export(ids, desk.folder / "there", "inference", root, reporter=Notes())
    assert tree(desk.folder / "there") == roboflow(root)
    done = export([ids[1], "vehicles/1"], desk.folder / "plain", "directory", root, reporter=Notes())
    assert [each.id for each in done.models] == [ids[1], "vehicles/1"]
    assert (desk.folder / "plain" / ids[1] / workflow.FILE).is_file()
    assert (desk.folder / "plain" / "vehicles/1" / "model.bin").is_file()
    with pytest.raises(UnknownModelError, match="it is a workflow"):
        export(ids, desk.folder / "hub", "huggingface", root, reporter=Notes())


@pytest.mark.parametrize(
    ("specification", "words"),
    [
        ({"steps": [], "note": '"' * 500_000}, "more than 1048576"),
        ({"steps": [], "note": json.loads("[" * 62 + "]" * 62)}, None),
        ({"steps": [], "note": json.loads("[" * 63 + "]" * 63)}, "nested more than"),
    ],
)
def test_what_its_own_wrapping_makes_too_large_or_deep_is_refused(
    desk: Desk, specification: dict[str, object], words: str | None
) -> None:
    desk.write("detect-and-count.json", json.dumps(specification).encode())
    if words is None:
        assert desk.lock(LOCAL).workflows
        return
    with pytest.raises(ManifestError, match=words):
        desk.lock(LOCAL)


def another_package(flow: dict[str, Any], _: dict[str, Any]) -> None:
    flow["packages"].append(flow["packages"][0] | {"id": "other", "default": False})


def another_file(flow: dict[str, Any], _: dict[str, Any]) -> None:
    flow["packages"][0]["files"].append(flow["packages"][0]["files"][0] | {"path": "x"})


def another_path(flow: dict[str, Any], _: dict[str, Any]) -> None:
    flow["packages"][0]["files"][0]["path"] = "x.json"


def another_blob(flow: dict[str, Any], other: dict[str, Any]) -> None:
    file = other["packages"][0]["files"][0]
    flow["packages"][0]["files"][0] |= {name: file[name] for name in ("sha256", "size")}


@pytest.mark.parametrize("edit", [another_package, another_file, another_path, another_blob])
def test_a_lock_edited_by_hand_is_built_only_if_clients_could_read_what_it_names(
    desk: Desk, edit: Callable[[dict[str, Any], dict[str, Any]], None]
) -> None:
    desk.lock(LOCAL, REMOTE)
    written = json.loads((desk.folder / "line.lock.json").read_text())
    edit(written["workflows"][0], written["workflows"][1])
    desk.write("line.lock.json", json.dumps(written).encode())
    with pytest.raises(ManifestError, match="not the one file of this workflow") as caught:
        desk.build()
    assert "bundle lock MANIFEST --upgrade local/workflows/detect-and-count" in caught.value.hint


def test_the_workflows_of_two_lines_lie_side_by_side(desk: Desk) -> None:
    desk.lock(LOCAL, REMOTE)
    root = desk.install()
    other = Desk(desk.service, desk.folder / "other")
    other.write("line.json", b"")
    locking = other.locking({"file": "./detect-and-count.json", "id": "another"}, models=[MODEL | {"id": "vehicles/1"}])
    asked = {"name": "second", "models": [MODEL | {"id": "cars/1", "aliases": ["vehicles/2"]}]}
    asked["workflows"] = [{"file": "./bare.json", "id": "another"}]
    other.write("bare.json", b'{"steps": []}')
    other.write("line.json", json.dumps(asked).encode())
    locking.run(check=False, upgrade=False, sequence=None)
    put(other.build().path, root)
    assert len(roboflow(root)) == 3
    assert [flow.id for flow in installed.installed(root)] == [
        "acme/workflows/detect-and-count",
        "local/workflows/detect-and-count",
        "local/workflows/another",
    ]


FORMS: dict[str, object] = {
    "the specification": SPECIFICATION,
    "an object with it": {"specification": SPECIFICATION},
    "the service's answer": answer(),
    "the client's file": {"id": "x", "name": "x", "config": json.dumps({"specification": SPECIFICATION})},
}


@pytest.mark.parametrize("form", FORMS)
def test_any_form_that_people_have_it_in_is_the_same_workflow(form: str) -> None:
    name, specification = workflow.decode(json.dumps(FORMS[form]).encode(), subject="x")
    assert specification == SPECIFICATION
    assert name in {"", "x", "Detect and count"}


def test_white_space_and_the_order_of_keys_change_no_digest(desk: Desk) -> None:
    first = desk.lock(LOCAL)
    backwards = dict(reversed(list(SPECIFICATION.items())))
    desk.write("detect-and-count.json", json.dumps(backwards, indent=7).encode())
    assert desk.lock(LOCAL) == first
    desk.write("detect-and-count.json", json.dumps(SPECIFICATION | {"version": "1.1"}).encode())
    assert desk.lock(LOCAL).sequence == 2


def test_a_definition_of_a_service_stays_until_an_upgrade_and_check_says_that_it_moved(desk: Desk) -> None:
    first = desk.lock(REMOTE)
    desk.service.workflows["acme/workflows/detect-and-count"] = answer(SPECIFICATION | {"version": "2.0"})
    desk.service.asked.clear()
    assert desk.lock(REMOTE) == first
    assert desk.service.asked == []
    with pytest.raises(LockOutdatedError, match="not what the sources give now"):
        desk.locking(REMOTE).run(check=True, upgrade=False, sequence=None)
    moved = desk.locking(REMOTE).run(check=False, upgrade=frozenset({"acme/workflows/detect-and-count"}), sequence=None)
    assert moved.lock.workflows != first.workflows


@pytest.mark.parametrize("asked", [LOCAL, REMOTE])
def test_a_build_makes_the_file_anew_and_compares_it(desk: Desk, asked: dict[str, object]) -> None:
    desk.lock(asked)
    desk.build(store=desk.folder / "empty")
    other = SPECIFICATION | {"version": "6.6.6"}
    desk.write("detect-and-count.json", json.dumps(other).encode())
    desk.service.workflows["acme/workflows/detect-and-count"] = answer(other)
    (desk.folder / "out.bundle").unlink()
    with pytest.raises(DigestMismatchError):
        desk.build(store=desk.folder / "another")
    assert not (desk.folder / "out.bundle").exists()


def test_a_workflow_that_asks_for_a_model_that_is_not_there_is_refused(desk: Desk) -> None:
    with pytest.raises(ManifestError, match="detect-and-count asks for vehicles/1") as caught:
        desk.lock(LOCAL, models=[MODEL | {"id": "cars/1"}])
    assert "aliases" in caught.value.hint
    desk.lock(LOCAL, models=[MODEL | {"id": "cars/1", "aliases": ["vehicles/1"]}])


def test_a_kept_workflow_is_refused_too_when_its_model_goes(desk: Desk) -> None:
    desk.lock(REMOTE)
    with pytest.raises(ManifestError, match="asks for vehicles/1"):
        desk.lock(REMOTE, models=[MODEL | {"id": "cars/1"}])


def test_models_are_those_that_steps_and_defaults_of_inputs_name() -> None:
    nested = {"type": "x", "inner": [{"model_id": "b/1"}], "model_id": "a/1"}
    asked = {"steps": [nested, {"model_id": "$inputs.unset"}, {"model_id": "$steps.x.y"}, {"model_id": 3}]}
    assert workflow.models(asked) == ("a/1", "b/1")
    assert workflow.models(SPECIFICATION) == ("vehicles/1",)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"", "not valid JSON"),
        (b"[]", "not a JSON object"),
        (b"{}", "no list of `steps`"),
        (b'{"steps": 1}', "no list of `steps`"),
        (b'{"config": "{"}', "not valid JSON"),
        (b'{"workflow": []}', "not an object"),
        (b'{"steps": [], "steps": []}', "a key occurs twice"),
        (b'{"steps": [NaN]}', "no number of JSON"),
        (b'{"steps": [1e999]}', "not valid JSON"),
        (b'{"steps": ' + b"[" * 100 + b"]" * 100 + b"}", "nested more than"),
        (b'{"steps": ' + b"[" * 100_000, "not valid JSON"),
        (b"\xff\xfe", "not valid JSON"),
        (b'{"steps": ["' + b"x" * (1 << 20) + b'"]}', "more than 1048576 bytes"),
        (b"version: 1\nsteps: []\n", "not valid JSON"),
    ],
)
@pytest.mark.parametrize("asked", [LOCAL, REMOTE])
def test_what_is_no_workflow_is_refused_and_named(
    desk: Desk, asked: dict[str, object], text: bytes, words: str
) -> None:
    desk.write("detect-and-count.json", text)
    desk.service._workflow = lambda request, *_: request.send(text)  # type: ignore[method-assign]
    with pytest.raises(ManifestError if asked is LOCAL else SourceError, match=words):
        desk.lock(asked)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({}, "needs `file` or `source`"),
        ({"file": "./a.json", "source": "roboflow://a/workflows/b"}, "needs `file` or `source`"),
        ({"file": "./two words.json"}, "is not usable"),
        ({"file": "./a.json", "id": "../x"}, "is not usable"),
        ({"file": "./a.json", "workspace": "a/b"}, "is not usable"),
        ({"source": "roboflow://vehicles/1"}, "is not usable"),
        ({"file": "./a.json", "steps": []}, "unknown key `steps`"),
        ({"file": "./missing.json"}, "does not exist"),
        ({"source": "https://127.0.0.1:1/x.json"}, "has no workflows"),
        ({"file": "./weights"}, "is a folder"),
    ],
)
def test_what_a_manifest_cannot_ask_is_said(desk: Desk, asked: dict[str, object], words: str) -> None:
    with pytest.raises((ManifestError, SourceError), match=words):
        desk.lock(asked)
    assert desk.service.asked == []


@pytest.mark.parametrize("second", [LOCAL, {"file": "./DETECT-and-count.json"}])
def test_one_workflow_twice_is_refused(desk: Desk, second: dict[str, object]) -> None:
    with pytest.raises(NamingError, match="clash"):
        desk.lock(LOCAL, second)


def test_the_key_goes_into_no_message_and_to_no_mirror(desk: Desk) -> None:
    from bundler.mirrors import mirrors_of

    desk.service.key = KEY
    written = lock.encode(desk.lock(REMOTE)).decode()
    assert KEY not in written
    assert f"api_key={KEY}" in desk.service.asked[-1][1]
    for status, kind in ((401, SourceDeniedError), (404, SourceNotFoundError), (500, SourceError), (418, SourceError)):
        desk.service.status = status
        (desk.folder / "line.lock.json").unlink(missing_ok=True)
        with pytest.raises(kind) as caught:
            desk.lock(REMOTE)
        told = f"{caught.value} {caught.value.hint} {caught.value.facts} {caught.value.__cause__!r}"
        assert KEY not in told + "".join(desk.notes.notes)
    desk.service.status = 0
    desk.service.asked.clear()
    mirrors = mirrors_of(f"https://api.example={desk.service.url}", subject="test")
    locking = desk.locking(REMOTE)
    settings = replace(desk.settings, roboflow=Roboflow("https://api.example", KEY), mirrors=mirrors)
    with pytest.raises(SourceDeniedError):
        replace(locking, settings=settings).run(check=False, upgrade=True, sequence=None)
    assert desk.service.asked
    assert not any(KEY in f"{path} {headers}" for _, path, headers in desk.service.asked)


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("local/workflows/detect-and-count", LOCAL_PATH.removeprefix("workflow/")),
        ("acme/workflows/count", "acme/.canonical-v2/count.json"),
        ("Acme/workflows/count", "~Acme_{Acme}/.canonical-v2/count.json"),
        ("acme/workflows/Count", "acme/.canonical-v2/~Count_{Count}.json"),
        ("acme/workflows/a_v2", "acme/.canonical-v2/~a_v2_{a_v2}.json"),
        ("a_v2/workflows/x", "a_v2/.canonical-v2/x.json"),
        ("acme/workflows/a_v", "acme/.canonical-v2/a_v.json"),
        ("acme/workflows/" + "x" * 97, "acme/.canonical-v2/~" + "x" * 48 + "_{" + "x" * 97 + "}.json"),
    ],
)
def test_the_name_of_a_file_is_the_one_that_the_client_makes(text: str, path: str) -> None:
    def fingerprint(name: str) -> str:
        import hmac

        key = len(name).to_bytes(8, "big") + name.encode()
        return hmac.new(key, b"inference-workflow-cache-public-identity-v2", hashlib.sha256).hexdigest()

    found = WorkflowId.parse(text).cache_path
    for name in ("Acme", "Count", "a_v2", "x" * 97):
        path = path.replace("{" + name + "}", fingerprint(name))
    assert found == path


def test_a_line_may_carry_nothing_but_workflows_and_is_shown(desk: Desk) -> None:
    desk.write("bare.json", b'{"steps": []}')
    desk.lock({"file": "./bare.json"}, models=[])
    root = desk.install()
    out = desk.folder / "out.bundle"
    for words in (("inspect", str(out)), ("list", "--root", str(root.path)), ("inspect", str(out), "--json")):
        done = CliRunner().invoke(cli, words, catch_exceptions=False)
        assert done.exit_code == 0, done.output
        assert "local/workflows/bare" in done.output
    listed = CliRunner().invoke(cli, ["list", "--root", str(root.path), "--json"], catch_exceptions=False)
    (flow,) = json.loads(listed.output)["workflows"]
    assert json.loads(Path(flow["file"]).read_text())["id"] == "bare"


def test_it_is_signed_and_its_signature_lies_outside_of_it(desk: Desk) -> None:
    desk.lock(LOCAL)
    from manifests.store import Store

    with Store.open(desk.settings.store) as store:
        locked = lock.decode((desk.folder / "line.lock.json").read_bytes(), subject="lock")
        desk.build()
        signers = Signers(statement=(elliptic_signer(),), models=elliptic_signer())
        built = assemble(locked, store, signers, desk.folder / "signed", folder=False, reporter=desk.notes)
    root = Workshop(desk.folder / "place").site()
    put(built.path, root)
    number = root.current()
    assert number is not None
    names = tree(root.generation(number))
    assert "workflows/local/workflows/detect-and-count/workflow.json" in names
    assert "signatures/local/workflows/detect-and-count/workflow.sig" in names


@pytest.fixture
def carried(desk: Desk) -> content.Workflow:
    from bundler.describe import describe
    from manifests.store import Store

    locked = desk.lock(LOCAL)
    with Store.open(desk.settings.store) as store:
        return describe(locked, store, desk.notes).workflows[0]


def test_a_content_with_a_workflow_that_breaks_a_rule_is_refused(carried: content.Workflow) -> None:
    (package,) = carried.packages
    (file,) = package.files
    wrong = [
        replace_struct(carried, id="detect"),
        replace_struct(carried, packages=()),
        replace_struct(carried, packages=(package, replace_struct(package, id="b", default=False))),
        replace_struct(carried, packages=(replace_struct(package, id="b"),)),
        replace_struct(carried, packages=(replace_struct(package, backend="onnx"),)),
        replace_struct(carried, packages=(replace_struct(package, files=(replace_struct(file, path="x.json"),)),)),
    ]
    whole = content.Content(line="line", sequence=1, items=(carried,))
    assert content.decode(content.encode(whole)) == whole
    for each in wrong:
        with pytest.raises(FormatError):
            content.decode(content.encode(replace_struct(whole, items=(each,))))


def test_json_of_others_has_one_spelling() -> None:
    assert foreign.encode({"b": 0.50, "a": [1, "é"]}) == '{"a":[1,"é"],"b":0.5}'
    foreign.check('{"a":0.5}', subject="x")
    for other in ('{"a":0.50}', '{"a": 0.5}', '{"b":1,"a":1}', "[]", '{"a":"\\u00e9"}'):
        with pytest.raises(FormatError):
            foreign.check(other, subject="x")


def test_a_reader_written_from_the_document_alone_gets_the_workflow(desk: Desk) -> None:
    desk.lock(LOCAL)
    reader = Path(__file__).parent / "independent_reader.py"
    subprocess.run([sys.executable, reader, desk.build().path, desk.folder / "read"], check=True)
    (found,) = (desk.folder / "read/local/workflows/detect-and-count").rglob("*.json")
    assert workflow.decode(found.read_bytes(), subject="x") == ("detect-and-count", SPECIFICATION)


def test_a_definition_that_was_damaged_in_the_store_is_made_again(desk: Desk) -> None:
    desk.lock(LOCAL)
    for chunk in (desk.folder / "store" / "chunks").rglob("*"):
        if chunk.is_file():
            chunk.chmod(0o644)
            chunk.write_bytes(chunk.read_bytes()[:-1] + b"x")
    desk.build()
    assert any("fetching what is damaged again" in note for note in desk.notes.notes)
