"""Roboflow's own client, unmodified, against the service of these tests: what it writes, and what it reads of ours."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from builders import Builder
from bundler.assemble import Signers, assemble
from bundler.settings import Roboflow
from factory import Workshop, elliptic_signer, put
from loopback import hasty
from manifests.naming import slug
from manifests.progress import Silent
from manifests.store import Store
from onnx_files import detector_model
from real_models import cache
from roboflow_server import EVERY_OTHER_KIND, KEY, RemotePackage, RoboflowService, roboflow_of, vehicles
from runtime.generations import open_catalogue

pytestmark = [pytest.mark.heavy, pytest.mark.environments]

CLIENT = "inference-models[onnx-cpu]==0.39.6"
LOAD = """
import json, sys
import numpy
from inference_models import AutoModel
for name in sys.argv[1:]:
    model = AutoModel.from_pretrained(name)
    model.infer(numpy.zeros((64, 64, 3), numpy.uint8))
print(json.dumps([str(each) for each in AutoModel.list_offline_models()]))
"""


@pytest.fixture(scope="module")
def python() -> Path:
    """The Python of an environment with the client, made once: several gigabytes."""
    folder = cache() / "inference-models-0.39.6"
    done = folder / "complete"
    if not done.is_file():
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        pip = [folder / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, CLIENT], check=True)
        done.write_text(CLIENT)
    return folder / "bin" / "python"


@pytest.fixture
def service() -> Iterator[RoboflowService]:
    answer = np.zeros((1, 6, 84), np.float32)
    answer[0, :, 0] = [32, 24, 16, 8, 0.9, 0.1]
    model = vehicles(detector_model(answer))
    model.packages[2].features = None
    model.packages += [RemotePackage(name, {"a.bin": name.encode()}, each) for name, each in EVERY_OTHER_KIND.items()]
    model.packages[-1].trusted = False
    with roboflow_of(RoboflowService([model], aliases={"yolov8n-640": "vehicles/1"}, key=KEY)) as running:
        yield running


def load(python: Path, home: Path, *names: str, **environ: str) -> str:
    """What the client says of its offline models, after it loaded and ran `names`."""
    clean = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ}
    environ = {**clean, "HOME": str(home.parent), "INFERENCE_HOME": str(home), **environ}
    done = subprocess.run(
        [python, "-c", LOAD, *names], env=environ, cwd=home.parent, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


def installed(service: RoboflowService, folder: Path, model_id: str) -> Path:
    """The cache of the client, as a site has it."""
    settings = hasty(folder / "store", roboflow=Roboflow(service.url, KEY))
    locked = Builder(folder, settings).lock({"id": model_id, "source": "roboflow://yolov8n-640"})
    with Store.open(settings.store) as store:
        built = assemble(locked, store, Signers.of(elliptic_signer()), folder / "b", folder=False, reporter=Silent())
    root = Workshop(folder / "site").site()
    put(built.path, root)
    return root.generation(open_catalogue(root.path).generation) / "roboflow"


def record(home: Path) -> dict[str, object]:
    """The client's record, without times, who wrote it, what was tried, and the order of its artefacts."""
    text = (home / "offline-weights-registry" / f"{slug('vehicles/1')}.json").read_text()
    found = json.loads(text)
    for package in found["packages"]:
        package["artifacts"].sort(key=lambda artefact: artefact["file_handle"])
    found["packages"].sort(key=lambda package: package["package_id"])
    return {name: value for name, value in found.items() if name not in {"recorded_at", "source", "proven"}}


def configurations(home: Path) -> dict[str, object]:
    """Each package's configuration, without how its files are kept."""
    found = {}
    for path in (home / "models-cache" / slug("vehicles/1")).glob("*/model_config.json"):
        found[path.parent.name] = json.loads(path.read_text())
        for artefact in found[path.parent.name]["package_artifacts"]:
            del artefact["storage"]
    return found


@pytest.mark.parametrize("model_id", ["vehicles/1", "yolov8n-640"])
def test_what_a_bundle_leaves_is_what_the_client_itself_would_have_written(
    python: Path, service: RoboflowService, tmp_path: Path, model_id: str
) -> None:
    ours = installed(service, tmp_path, model_id)
    theirs = tmp_path / "theirs" / "cache"
    theirs.mkdir(parents=True)
    online = {"ROBOFLOW_API_HOST": service.url, "ROBOFLOW_API_KEY": KEY}
    load(python, theirs, "yolov8n-640", OFFLINE_MODE_WARM_UP="True", **online)
    assert record(ours) == record(theirs)
    written = configurations(theirs)
    assert written
    mine = configurations(ours)
    assert {name: mine[name] for name in written} == written
    service.asked.clear()
    told = load(python, ours, "vehicles/1", "yolov8n-640", OFFLINE_MODE="True", **online)
    assert "vehicles/1" in told
    assert service.asked == []
