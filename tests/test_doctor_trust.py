"""What `doctor` finds of trust, ledger, clock and kits on a site."""

import json
import shutil
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from bundler.assemble import Signers
from bundler.building import Building
from bundler.locking import Locking
from bundler.settings import Settings
from doctoring import bad, look
from factory import NOW, Workshop, edwards_signer, elliptic_signer, put
from kit_files import kit_files, write_kit
from manifests.finding import Verdict
from manifests.keyring import Keyring
from manifests.progress import Silent
from runtime.doctor import clock, trust_state
from runtime.root import Root


def test_no_root_of_trust_is_a_problem_with_the_command(place: Root) -> None:
    shutil.rmtree(place.trust)
    found = look(place.path)["no-root-of-trust"]
    assert found.verdict is Verdict.PROBLEM
    assert found.fix.startswith("bundle trust init --key")


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"format":1,"keys":[],"revoked":[],"threshold":1,"version":1}'])
def test_a_damaged_root_of_trust_is_a_problem(place: Root, text: str) -> None:
    path = place.trust / "root.json"
    path.chmod(0o644)
    path.write_text(text)
    assert bad(look(place.path)) == {"root-of-trust-damaged"}


def test_a_threshold_of_every_key_is_worth_knowing() -> None:
    keys = [elliptic_signer().key, edwards_signer().key]
    assert trust_state.judge_keys(Keyring.of(keys, threshold=2)).code == "every-key-needed"
    assert trust_state.judge_keys(Keyring.of(keys, threshold=1)).verdict is Verdict.FINE
    assert trust_state.judge_keys(Keyring.of(keys[:1])).verdict is Verdict.FINE


def test_a_trust_folder_that_anybody_may_write_to(place: Root) -> None:
    place.trust.chmod(0o777)
    assert bad(look(place.path)) == {"root-open-to-all"}


def test_a_site_that_was_taken_back_is_told(workshop: Workshop, place: Root) -> None:
    newer = workshop.build(workshop.lock({"acme/one": {"a": b"2"}}, sequence=2), name="2.bundle").path
    put(newer, place)
    assert look(place.path)["line"].what.startswith("line 2 is active")
    place.activate(1)
    found = look(place.path)["line-behind"]
    assert found.verdict is Verdict.NOTE
    assert "line 1 is active, and line 2 was here" in found.what


def test_a_line_that_is_gone_is_told() -> None:
    assert [each.code for each in trust_state.judge_lines({}, {"line": 3})] == ["line-gone"]


def test_a_damaged_ledger_is_a_problem(place: Root) -> None:
    (entry,) = place.ledger.glob("*.json")
    entry.chmod(0o644)
    entry.write_text("{")
    assert bad(look(place.path)) == {"ledger-damaged"}


# Clock


@pytest.mark.parametrize(
    ("now", "last", "code"),
    [
        (datetime(1970, 1, 1, tzinfo=UTC), None, "clock-in-the-past"),
        (datetime(2026, 5, 1, tzinfo=UTC), None, "clock"),
        (datetime(2026, 5, 1, tzinfo=UTC), datetime(2026, 5, 2, tzinfo=UTC), "clock-before-last-install"),
        (datetime(2026, 5, 3, tzinfo=UTC), datetime(2026, 5, 2, tzinfo=UTC), "clock"),
        (datetime(2028, 5, 3, tzinfo=UTC), datetime(2026, 5, 2, tzinfo=UTC), "clock-far-ahead"),
    ],
)
def test_what_the_clock_says(now: datetime, last: datetime | None, code: str) -> None:
    assert clock.judge(now, last).code == code


def test_the_ledger_remembers_a_later_time_than_the_clock_says(place: Root) -> None:
    assert bad(look(place.path, now=NOW - timedelta(days=1))) == {"clock-before-last-install"}


# Kits


def test_a_kit_that_a_bundle_brought_is_told_and_its_files_are_looked_at(tmp_path: Path) -> None:
    write_kit(tmp_path / "linux", kit_files())
    manifest = tmp_path / "line.json"
    manifest.write_text(json.dumps({"name": "program", "kits": [{"id": "program", "sources": ["./linux"]}]}))
    settings = replace(Settings.read({"HOME": str(tmp_path)}), store=tmp_path / "store")
    Locking(manifest, tmp_path / "line.lock.json", settings, Silent()).run(check=False, upgrade=False, sequence=None)
    signers = Signers.of(elliptic_signer())
    Building(manifest, settings, Silent()).run(tmp_path / "line.bundle", signers, folder=False)
    root = Workshop(tmp_path / "site").site()
    put(tmp_path / "line.bundle", root)
    found = look(root.path)
    assert not bad(found)
    assert "the kit program" in found["kit"].what
    assert Path(found["kit"].what.rpartition(": ")[2], "install.sh").is_file()
    Path(found["kit"].what.rpartition(": ")[2], "install.sh").unlink()
    assert "install.sh" in look(root.path)["generation-damaged"].what
