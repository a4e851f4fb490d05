"""The steps of `scripts/demo`, each printed as a person would type it."""

import argparse
import base64
import contextlib
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parent
BUNDLE = Path(sys.executable).with_name("bundle")
PICTURES = ("ultralytics==8.4.190", "ultralytics/assets/bus.jpg")
EXPECTED = (
    ("person", 0.8902, (670.4, 380.6, 809.9, 879.7)),
    ("person", 0.8833, (221.7, 407.4, 343.8, 856.2)),
    ("person", 0.8784, (50.7, 397.3, 244.4, 905.4)),
    ("bus", 0.8434, (31.5, 230.7, 801.4, 775.8)),
    ("person", 0.4363, (0.4, 549.8, 57.8, 868.3)),
)
SCORE_TOLERANCE, PIXEL_TOLERANCE = 0.02, 3.0
CONFIDENCE, OVERLAP = 0.25, 0.45


class Demo:
    """Commands run one after the other in a work folder; what was typed and how long it took is kept."""

    def __init__(self, work: Path, *, quiet: bool) -> None:
        self.work = work
        self.quiet = quiet
        self.steps: list[dict[str, object]] = []

    def say(self, text: str) -> None:
        """A line for the person who watches."""
        print(text, file=sys.stderr if self.quiet else sys.stdout, flush=True)

    def bundle(self, *arguments: object) -> str:
        """Run one `bundle` command; its stdout."""
        typed = shlex.join(["bundle", *map(str, arguments)]).replace(str(self.work), "$DEMO")
        self.say(f"\n$ {typed.replace(str(PROJECT) + '/', '')}")
        start = time.monotonic()
        done = subprocess.run([BUNDLE, *map(str, arguments)], stdout=subprocess.PIPE, text=True, check=False)
        self.steps.append({"command": typed, "seconds": round(time.monotonic() - start, 2), "exit": done.returncode})
        if done.returncode:
            sys.exit(f"`{typed}` failed with exit code {done.returncode}")
        if "--json" not in arguments:
            self.say(done.stdout.rstrip())
        return done.stdout


def connected(demo: Demo) -> Path:
    """On the connected host: key, lock, bundle."""
    demo.say("== on the connected host")
    builder = demo.work / "builder"
    builder.mkdir(parents=True, exist_ok=True)
    key, lock, store = builder / "line.pem", builder / "demo.lock.json", demo.work / "store"
    if not key.exists():
        demo.bundle("keygen", "-o", key, "--no-passphrase")
    demo.bundle("lock", PROJECT / "manifests/examples/demo.yaml", "-o", lock, "--store", store)
    bundle = builder / "demo.bundle"
    demo.bundle("build", lock, "--key", key, "-o", bundle, "--store", store)
    return bundle


def carry(demo: Demo, bundle: Path) -> Path:
    """Across the gap: a stick is a folder that one can take away."""
    stick = demo.work / "stick"
    stick.mkdir(exist_ok=True)
    demo.say(f"\n== across the gap\n\n$ cp $DEMO/builder/{bundle.name} $DEMO/builder/line.pub.pem $DEMO/stick/")
    shutil.copy(bundle, stick)
    shutil.copy(bundle.with_name("line.pub.pem"), stick)
    return stick / bundle.name


def site(demo: Demo, bundle: Path) -> Path:
    """On the site: trust, look, verify, install into an empty root."""
    demo.say("\n== on the site")
    root = demo.work / "site"
    shutil.rmtree(root, ignore_errors=True)
    demo.bundle("trust", "init", "--key", bundle.with_name("line.pub.pem"), "--root", root)
    demo.bundle("inspect", bundle, "--root", root)
    demo.bundle("verify", bundle, "--root", root)
    demo.bundle("install", bundle, "--root", root)
    return root


def picture(demo: Demo) -> Path:
    """A photograph, out of a wheel: fetched once, kept in the work folder."""
    requirement, member = PICTURES
    target = demo.work / "bus.jpg"
    if not target.exists():
        wheels = demo.work / "wheels"
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", wheels, requirement]
        subprocess.run(pip, check=True, stdout=sys.stderr)
        with zipfile.ZipFile(next(wheels.glob("ultralytics-*.whl"))) as wheel:
            target.write_bytes(wheel.read(member))
        shutil.rmtree(wheels)
    return target


def offline(demo: Demo, root: Path, photo: Path) -> dict[str, object]:
    """With no network: infer, then the same over HTTP. Runs in an empty network namespace where there is one."""
    drawn = demo.work / "bus.drawn.jpg"
    text = demo.bundle("infer", "vehicles/1", photo, "--root", root, "--draw", drawn, "--json")
    by_command = json.loads(text)[0]["predictions"]
    demo.say(f"drawn picture: {drawn}")
    with serving(demo, root) as address:
        by_server = ask(address, photo)["predictions"]
    differences = compare(demo, by_command)
    if [bare(p) for p in by_command] != [bare(p) for p in by_server]:
        sys.exit("the server answers differently from the command")
    demo.say("the server answers the same")
    return {"predictions": [bare(p) for p in by_command], "drawn": str(drawn), **differences}


@contextlib.contextmanager
def serving(demo: Demo, root: Path) -> Iterator[str]:
    """`bundle serve` on a free port of loopback, until the block ends."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    demo.say(f"\n$ bundle serve --root $DEMO/site --port {port} &")
    server = subprocess.Popen([BUNDLE, "serve", "--root", root, "--port", str(port)], stdout=sys.stderr)
    address = f"http://127.0.0.1:{port}"
    try:
        wait_until_ready(address, server)
        yield address
    finally:
        server.send_signal(signal.SIGTERM)
        demo.say(f"$ kill %1   # exit code {server.wait(timeout=30)}")


def wait_until_ready(address: str, server: "subprocess.Popen[bytes]") -> None:
    """Until /health answers."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and server.poll() is None:
        try:
            with urllib.request.urlopen(f"{address}/health", timeout=5):
                return
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.05)
    sys.exit("the server did not become ready")


def ask(address: str, photo: Path) -> dict[str, list[dict[str, object]]]:
    """The detections of `photo` over HTTP, with the thresholds of the command."""
    body = {
        "model_id": "vehicles/1",
        "image": {"type": "base64", "value": base64.b64encode(photo.read_bytes()).decode()},
        "confidence": CONFIDENCE,
        "iou_threshold": OVERLAP,
    }
    request = urllib.request.Request(
        f"{address}/infer/object_detection", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.loads(answer.read())


def bare(prediction: dict[str, object]) -> dict[str, object]:
    """A prediction without the id that is new in every answer."""
    return {name: value for name, value in prediction.items() if name != "detection_id"}


def compare(demo: Demo, predictions: list[dict[str, float]]) -> dict[str, object]:
    """Every expected box against the one that came, as a table; the largest differences."""
    if len(predictions) != len(EXPECTED):
        sys.exit(f"{len(EXPECTED)} boxes are expected, and {len(predictions)} came")
    score = pixels = 0.0
    demo.say("\nclass    expected  got     largest difference of a side")
    for (name, confidence, box), got in zip(EXPECTED, predictions, strict=True):
        half = (got["width"] / 2, got["height"] / 2)
        corners = (got["x"] - half[0], got["y"] - half[1], got["x"] + half[0], got["y"] + half[1])
        side = max(abs(a - b) for a, b in zip(box, corners, strict=True))
        demo.say(f"{got['class']:<8} {confidence:.4f}    {got['confidence']:.4f}  {side:.2f} px")
        score, pixels = max(score, abs(confidence - got["confidence"])), max(pixels, side)
        if got["class"] != name or score > SCORE_TOLERANCE or pixels > PIXEL_TOLERANCE:
            sys.exit(f"{name} {confidence} is expected, and {got} came")
    return {"largest_score_difference": round(score, 5), "largest_pixel_difference": round(pixels, 3)}


def run_offline(demo: Demo, root: Path, photo: Path) -> dict[str, object]:
    """Part three in a process of its own, in an empty network namespace if the machine allows one."""
    isolate = [sys.executable, HERE / "offline.py"]
    allowed = subprocess.run([*isolate, "--probe"], check=False, capture_output=True).returncode == 0
    demo.say("\n== with no network" + (": an empty network namespace" if allowed else ": the guard alone"))
    command = [sys.executable, __file__, "--offline", root, photo, "--work", demo.work]
    if demo.quiet:
        command.append("--json")
    done = subprocess.run([*(isolate if allowed else []), *command], check=False, stdout=subprocess.PIPE, text=True)
    lines = done.stdout.rstrip().splitlines()
    demo.say("\n".join(lines[:-1]))
    if done.returncode:
        sys.exit(done.returncode)
    answer = json.loads(lines[-1])
    demo.steps += answer.pop("steps")
    return answer | {"network_namespace": allowed}


def main() -> None:
    """Parse, run the steps, report."""
    parser = argparse.ArgumentParser(description=__doc__)
    cache = os.environ.get("XDG_CACHE_HOME", str(Path.home() / ".cache"))
    default = os.environ.get("BUNDLE_DEMO", f"{cache}/offline-bundle/demo")
    parser.add_argument("--json", action="store_true", help="print one JSON document on stdout")
    parser.add_argument("--work", type=Path, default=Path(default), help="work folder [default: %(default)s]")
    parser.add_argument("--offline", nargs=2, type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    demo = Demo(arguments.work.absolute(), quiet=arguments.json)
    if arguments.offline:
        answer = offline(demo, *arguments.offline)
        print(json.dumps({**answer, "steps": demo.steps}))
        return
    start = time.monotonic()
    demo.say(f"DEMO={demo.work}")
    root = site(demo, carry(demo, connected(demo)))
    answer = run_offline(demo, root, picture(demo))
    seconds = round(time.monotonic() - start, 2)
    demo.say(f"\ndone in {seconds} s; everything lies in {demo.work}")
    if arguments.json:
        print(json.dumps({**answer, "steps": demo.steps, "seconds": seconds}, indent=2))


if __name__ == "__main__":
    main()
