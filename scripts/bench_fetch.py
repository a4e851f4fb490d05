"""The benches of downloads, from a real nginx on loopback: one large file beside its peers, and many small ones.

`fetch`: 1 GB by each program in turn, and our memory at 1 GB and 8 GB. Ours includes SHA-256; a peer has a second row
with it done afterwards. boto3 asks the same nginx, which answers HEAD and GET as a public bucket does. Python programs
are timed from after their imports; nobody's time has the removing of the file in it.
`small`: 10,000 files by `bundle lock`, and where the time goes.
"""

import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

SIZE = 1_000_000_000
FILES = 10_000
NGINX = """
worker_processes 2; daemon off; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{ worker_connections 512; }}
http {{
    access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
    server {{ listen 127.0.0.1:{port}; root {folder}/served; }}
}}
"""
CLOCK = """
import hashlib, json, resource, sys, time
url, target, folder = sys.argv[1:4]
def cpu():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
"""
SPOKEN = """
rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps([time.monotonic() - begun, cpu() - before, rss / 1024]))
"""
AFTER = """
with open(target, "rb") as stream:
    hashlib.file_digest(stream, "sha256")
"""
OURS = (
    """
from pathlib import Path
from bundler.fetch import Request, download
from bundler.http import Client
from bundler.settings import Settings
from manifests.progress import Silent
""",
    """
with Client(Settings(store=Path(folder))) as client:
    download(client, Request(url, Path(target), "file"), Silent()).claim.release()
""",
)
STORED = (
    """
from pathlib import Path
from bundler.http import Client
from bundler.intake import Intake
from bundler.settings import Settings
from bundler.sources.base import Found, Remote
from bundler.sources.reference import Reference
from manifests.progress import Silent
from manifests.store import Store
""",
    """
found = Found(Reference("http", url), "file", Remote(url))
with Store.open(Path(folder) / "store") as store, Client(Settings(store=store.path)) as client:
    with Intake(store, client, Silent()) as intake:
        intake.take(found, expected=None, subject="file")
""",
)
REQUESTS = (
    "import requests\n",
    """
with requests.get(url, stream=True) as response, open(target, "wb") as stream:
    for piece in response.iter_content(1 << 20):
        stream.write(piece)
""",
)
HF_TRANSFER = (
    "sys.path.insert(0, sys.argv[4])\nimport hf_transfer\n",
    "hf_transfer.download(url, target, max_files=64, chunk_size=10 << 20)\n",
)
BOTO3 = (
    """
import boto3, botocore, botocore.config
client = boto3.client(
    "s3", endpoint_url=url, region_name="us-east-1", config=botocore.config.Config(signature_version=botocore.UNSIGNED)
)
""",
    'client.download_file("models", "one.bin", target)\n',
)


@dataclass
class Row:
    """One program's runs: wall and CPU seconds, and the largest resident memory in MiB (0 if it was not asked)."""

    name: str
    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    memory: list[float] = field(default_factory=list)

    def line(self, ours: "Row") -> str:
        """Medians, and how many times faster ours was in the same round."""
        ratios = [theirs / mine for theirs, mine in zip(self.wall, ours.wall, strict=True)]
        speed = SIZE / 1e6 / statistics.median(self.wall)
        used = f"{statistics.median(self.cpu):5.2f} s cpu {max(self.memory):5.0f} MiB"
        return f"{self.name:<30} {speed:6.0f} MB/s {used}   ours is {statistics.median(ratios):.2f}x as fast"


@contextmanager
def nginx(folder: Path) -> Iterator[str]:
    """The URL of an nginx that serves `served` in `folder`."""
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if program is None:
        sys.exit("the peer needs nginx: apt-get install nginx-light")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (folder / "nginx.conf").write_text(NGINX.format(folder=folder, port=port))
    folder.chmod(0o755)
    server = subprocess.Popen([program, "-e", f"{folder}/error.log", "-c", f"{folder}/nginx.conf"])
    try:
        while socket.socket().connect_ex(("127.0.0.1", port)):
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(10)


def hf_transfer() -> Path | None:
    """A folder with that library, made for the bench alone; None if it cannot be had."""
    folder = Path.home() / ".cache" / "offline-bundle" / "bench" / "hf_transfer"
    if not folder.exists():
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder), "hf_transfer"]
        if subprocess.run(pip, check=False).returncode:
            return None
    return folder


def python(parts: tuple[str, str], *arguments: object, after: str = "") -> tuple[float, float, float]:
    """Run a program of ours or a library: wall and CPU seconds after its imports, and its memory in MiB."""
    imports, body = parts
    program = CLOCK + imports + "begun, before = time.monotonic(), cpu()\n" + body + after + SPOKEN
    command = [sys.executable, "-c", program, *(str(argument) for argument in arguments)]
    wall, cpu, memory = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return wall, cpu, memory


def process(command: list[str]) -> tuple[float, float, float]:
    """Run a program: wall and CPU seconds, and its memory in MiB."""
    begun = time.monotonic()
    running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, used = os.wait4(running.pid, 0)
    running.returncode = os.waitstatus_to_exitcode(status)
    if running.returncode:
        sys.exit(f"{command[0]} ended with {running.returncode}")
    return time.monotonic() - begun, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


def hashed(command: list[str], target: Path) -> tuple[float, float, float]:
    """The same, and SHA-256 afterwards."""
    first, second = process(command), process(["sha256sum", str(target)])
    return first[0] + second[0], first[1] + second[1], max(first[2], second[2])


def peers(url: str, target: Path, work: Path) -> dict[str, Callable[[], tuple[float, float, float]]]:
    """Every program that is here, by name."""
    file, out = f"{url}/one.bin", str(target)
    curl = ["curl", "-s", "-o", out, file]
    runs: dict[str, Callable[[], tuple[float, float, float]]] = {
        "ours, SHA-256 included": lambda: python(OURS, file, target, work),
        "ours, into the store": lambda: python(STORED, file, target, work),
        "curl": lambda: process(curl),
        "curl, then sha256sum": lambda: hashed(curl, target),
        "requests, 1 MiB pieces": lambda: python(REQUESTS, file, target, work),
        "requests, then SHA-256": lambda: python(REQUESTS, file, target, work, after=AFTER),
        "boto3 default": lambda: python(BOTO3, url, target, work),
        "boto3 default, then SHA-256": lambda: python(BOTO3, url, target, work, after=AFTER),
    }
    if (library := hf_transfer()) is not None:
        runs["hf_transfer"] = lambda: python(HF_TRANSFER, file, target, work, library)
        runs["hf_transfer, then SHA-256"] = lambda: python(HF_TRANSFER, file, target, work, library, after=AFTER)
    if shutil.which("wget"):
        runs["wget"] = lambda: process(["wget", "-q", "-O", out, file])
    if shutil.which("aria2c"):
        aria = ["aria2c", "-q", "--allow-overwrite=true", "-x4", "-s4", "--file-allocation=none"]
        runs["aria2c, 4 connections"] = lambda: process([*aria, "-d", str(target.parent), "-o", target.name, file])
    return runs


def bench_fetch(rounds: int) -> None:
    """One gigabyte, by everyone in turn; then our memory."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        work = Path(folder)
        served = work / "served"
        (served / "models").mkdir(parents=True)
        subprocess.run(["openssl", "rand", "-out", str(served / "one.bin"), str(SIZE)], check=True)
        with (served / "eight.bin").open("wb") as stream:
            stream.truncate(8 * SIZE)
        url = stack.enter_context(nginx(work))
        (served / "models" / "one.bin").hardlink_to(served / "one.bin")
        target = work / "target"
        runs = peers(url, target, work)
        rows = {name: Row(name) for name in runs}
        for number in range(rounds + 1):
            for name, run in runs.items():
                cleared(work)
                wall, cpu, memory = run()
                print(f"{number}/{rounds} {name}: {wall:.2f} s, {cpu:.2f} s cpu", file=sys.stderr)
                if number:
                    rows[name].wall.append(wall)
                    rows[name].cpu.append(cpu)
                    rows[name].memory.append(memory)
        ours = rows["ours, SHA-256 included"]
        for row in rows.values():
            print(row.line(ours))
        cleared(work)
        eight = python(OURS, f"{url}/eight.bin", target, work)
        print(f"memory: {max(ours.memory):.0f} MiB at 1 GB, {eight[2]:.0f} MiB at 8 GB ({8e3 / eight[0]:.0f} MB/s)")


def cleared(work: Path) -> None:
    """Nothing of the run before, whose bytes then need not be written to the disk beside the next one."""
    for path in (*work.glob("target*"), work / "store"):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


PHASES = """
import json, sys, threading, time
from bundler import encode, fetch, intake
from bundler.fetching import asking, claims, partial, transfer
from manifests import publish, store
spent = {}
def watch(owner, name, phase):
    real = getattr(owner, name)
    def call(*arguments, **named):
        begun = time.monotonic()
        try:
            return real(*arguments, **named)
        finally:
            spent.setdefault(phase, []).append(time.monotonic() - begun)
    setattr(owner, name, staticmethod(call) if isinstance(owner, type) and name == "take" else call)
watch(asking.Asking, "open", "HTTP: request to headers")
watch(transfer.Transfer, "_copy", "body to the partial file")
watch(partial.Partial, "begin", "partial file and version")
watch(partial.Partial, "forget", "partial files removed")
watch(encode, "add", "store: all")
watch(encode, "_encode_chunk", "store: encode, write chunks")
watch(publish.Batch, "sync", "store: fsync of chunks")
watch(store.Store, "add_recipe", "store: recipe, with fsync")
begun = time.monotonic()
from bundler.commands.lock import command
command(sys.argv[1:], standalone_mode=False)
wall = time.monotonic() - begun
print(json.dumps([wall, {name: sum(times) for name, times in spent.items()}]), file=sys.stderr)
"""


def bench_small(rounds: int) -> None:
    """Many small files through `bundle lock`: files per second, and the seconds of each phase, summed over threads."""
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        (work / "served").mkdir()
        for number in range(FILES):
            (work / "served" / f"{number:05}.bin").write_bytes(b"%d " % number * 700)
        with nginx(work) as url:
            lines = [f'      f/{number:05}.bin: "{url}/{number:05}.bin"' for number in range(FILES)]
            head = "name: bench\nmodels:\n  - id: acme/small\n    files:\n"
            (work / "line.yaml").write_text(head + "\n".join(lines) + "\n")
            for _ in range(min(rounds, 3)):
                cleared(work)
                (work / "line.lock.json").unlink(missing_ok=True)  # what is locked already is not fetched again
                arguments = [str(work / "line.yaml"), "--store", str(work / "store"), "-q"]
                command = [sys.executable, "-c", PHASES, *arguments]
                done = subprocess.run(command, check=True, capture_output=True, text=True)
                wall, phases = json.loads(done.stderr.splitlines()[-1])
                print(f"{FILES} files: {wall:.1f} s, {FILES / wall:.0f} files/s; seconds of threads, by phase:")
                for phase, seconds in sorted(phases.items()):
                    print(f"    {phase:<28} {seconds:7.1f}")
