"""A real server of Azure's blob storage: Azurite, which `scripts/test` puts into the checkout."""

import re
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""Azurite's own, known to everybody."""
FILES = {
    "org/m/config.json": b"{}",
    "org/m/onnx/model.onnx": b"weights" * 1000,
    "single.bin": b"one",
    "a #1!.bin": b"x",
}
_PROGRAM = Path("node_modules/azurite/dist/src/blob/main.js")


@dataclass
class Storage:
    """A running server, and a client of the library's own that may do everything."""

    endpoint: str
    service: Any
    log: Path

    @property
    def port(self) -> int:
        return int(self.endpoint.rpartition(":")[2].partition("/")[0])

    @property
    def by_key(self) -> str:
        """A connection string with the account's key."""
        return f"AccountName={ACCOUNT};AccountKey={KEY};BlobEndpoint={self.endpoint};"

    @property
    def anonymous(self) -> str:
        """A connection string that opens nothing but what is public."""
        return f"BlobEndpoint={self.endpoint};"

    def by_sas(self, token: str) -> str:
        """A connection string with a SAS."""
        return f"BlobEndpoint={self.endpoint};SharedAccessSignature={token};"

    def sas(self, permission: str = "rl", *, container: str = "models", hours: float = 1.0) -> str:
        """A SAS for a container."""
        from azure.storage.blob import generate_container_sas

        expiry = datetime.now(UTC) + timedelta(hours=hours)
        return generate_container_sas(ACCOUNT, container, account_key=KEY, permission=permission, expiry=expiry)

    def put(self, files: Mapping[str, bytes], container: str = "models", **options: Any) -> None:
        """Upload, each in one piece, in place of what was there."""
        for name, content in files.items():
            self.service.get_blob_client(container, name).upload_blob(content, overwrite=True, **options)


@contextmanager
def azurite_server(folder: Path, files: Mapping[str, bytes] = FILES) -> Iterator[Storage]:
    """Azurite with one private container, `models`, that has these files. Nothing of it lies on a disk but its log."""
    from azure.storage.blob import BlobServiceClient

    log = folder / ".azurite.log"
    command = [_node(), _program(), "--blobHost", "127.0.0.1", "--blobPort", "0", "--inMemoryPersistence"]
    command += ["--skipApiVersionCheck", "--silent", "--disableTelemetry"]
    with log.open("wb") as stream:
        server = subprocess.Popen(command, stdout=stream, stderr=stream, cwd=folder)
    try:
        endpoint = f"{_address(log, server)}/{ACCOUNT}"
        credential = {"account_name": ACCOUNT, "account_key": KEY}
        with BlobServiceClient(endpoint, credential=credential) as service:
            storage = Storage(endpoint, service, log)
            service.create_container("models")
            storage.put(files)
            yield storage
    finally:
        server.terminate()
        server.wait(10)


def _node() -> str:
    found = shutil.which("node")
    if found is None:
        pytest.skip("no node on this machine")
    return found


def _program() -> Path:
    versions = sorted(Path(__file__).parent.parent.glob(f".azurite/*/{_PROGRAM}"))
    if not versions:
        pytest.skip("no azurite in this checkout: scripts/test puts it there")
    return versions[-1]


def _address(log: Path, server: "subprocess.Popen[bytes]") -> str:
    for _ in range(600):
        if said := re.search(r"listens on (http://127\.0\.0\.1:\d+)", log.read_text()):
            return said[1]
        assert server.poll() is None, log.read_text()
        time.sleep(0.05)
    raise AssertionError(log.read_text())
