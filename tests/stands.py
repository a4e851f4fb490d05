"""Every source as a builder meets it: a running server with one large file behind a slow door, and its credentials."""

import base64
import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit

import requests

from azurite_server import ACCOUNT, azurite_server
from bucket_server import KEY, SECRET, bucket_server
from hub_server import Hub, hub_of
from loopback import serving
from nginx_server import nginx
from registry_server import PASSWORD as OCI_PASSWORD
from registry_server import USER, registry_server
from roboflow_server import KEY as ROBOFLOW_KEY
from roboflow_server import RemoteModel, RemotePackage, RoboflowService, roboflow_of, simple
from slow_proxy import Proxy, slow_proxy
from wheels import Index, wheel

TOKEN = "hf_hushHUSHhush"
PASSWORD = "s3cret-PASS/word+"


@dataclass
class Stand:
    """What a builder is told, and what the test may do to the server.

    `change` puts other bytes in the place of the file, without a word to anybody. `without` and `wrong` are the
    environment with no credentials, and with ones that nobody has.
    """

    source: str
    environ: Mapping[str, str]
    change: Callable[[bytes], None]
    door: Proxy
    secrets: tuple[str, ...]
    without: Mapping[str, str]
    wrong: Mapping[str, str]
    is_model: bool = False
    """Whether the source is a model with packages, rather than a file."""


WRONG = "Wr0ngWr0ngWr0ng"


def keyed(source: str, environ: Mapping[str, str], change: Callable[[bytes], None], door: Proxy, *keys: str) -> Stand:
    """A stand whose credentials are the variables `keys`."""
    without = {name: value for name, value in environ.items() if name not in keys}
    secrets = tuple(environ[key] for key in keys if environ[key] != KEY)
    return Stand(source, environ, change, door, secrets, without, without | dict.fromkeys(keys, WRONG))


Opener = Callable[[Path, bytes, float], AbstractContextManager[Stand]]


@contextmanager
def door_to(url: str, rate: float) -> Iterator[Proxy]:
    parts = urlsplit(url)
    with slow_proxy(parts.hostname or "", parts.port or 80, rate=rate) as proxy:
        yield proxy


def put(path: Path) -> Callable[[bytes], None]:
    def write(content: bytes) -> None:
        path.write_bytes(content)

    return write


@contextmanager
def s3(folder: Path, content: bytes, rate: float) -> Iterator[Stand]:
    """rclone's S3 server."""
    with (
        bucket_server(folder, f"{KEY},{SECRET}", files={"org/m/weights.bin": content}) as bucket,
        door_to(bucket.url, rate) as door,
    ):
        environ = {"AWS_ENDPOINT_URL": door.url, "AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET}
        environ |= {"AWS_DEFAULT_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true"}
        change = put(bucket.folder / "org/m/weights.bin")
        yield keyed(
            "s3://models/org/m/weights.bin", environ, change, door, "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"
        )


@contextmanager
def hf(folder: Path, content: bytes, rate: float) -> Iterator[Stand]:
    """A hub; its large file is on another host."""
    hub = Hub({"weights.bin": content}, large=frozenset({"weights.bin"}), token=TOKEN, gated="auto")
    with hub_of(hub), door_to(hub.storage_url, rate) as door:
        hub.storage_url = door.url

        def change(other: bytes) -> None:
            hub.lies["weights.bin"] = other

        environ = {"HF_ENDPOINT": hub.url, "HF_TOKEN": TOKEN}
        yield keyed("hf://org/model/weights.bin", environ, change, door, "HF_TOKEN")


@contextmanager
def pypi(folder: Path, content: bytes, rate: float) -> Iterator[Stand]:
    """A package index that wants a password."""
    index = Index({"tiny-1.0-py3-none-any.whl": wheel(tiny__weights__bin=content)})
    expected = "Basic " + base64.b64encode(f"ann:{PASSWORD}".encode()).decode()
    index.allow = lambda request: request.headers.get("Authorization") == expected
    with serving(index.answer) as url, door_to(url, rate) as door:
        quoted = PASSWORD.replace("/", "%2F").replace("+", "%2B")

        def environ(user: str) -> dict[str, str]:
            return {"PIP_INDEX_URL": f"{door.url.replace('://', f'://{user}')}/simple"}

        def change(other: bytes) -> None:
            index.digests = {"tiny-1.0-py3-none-any.whl": None}
            index.files = {"tiny-1.0-py3-none-any.whl": wheel(tiny__weights__bin=other)}

        yield Stand(
            "pypi://tiny==1.0#tiny/weights/bin",
            environ(f"ann:{quoted}@"),
            change,
            door,
            (PASSWORD, quoted, expected.removeprefix("Basic ")),
            environ(""),
            environ(f"ann:{WRONG}@"),
        )


@contextmanager
def https(folder: Path, content: bytes, rate: float) -> Iterator[Stand]:
    """nginx, which wants a password that netrc has."""
    with nginx(folder, password=("ann", PASSWORD)) as server, door_to(server.url, rate) as door:
        (server.files / "weights.bin").write_bytes(content)

        def environ(name: str, password: str) -> dict[str, str]:
            path = folder / name
            path.write_text(f"machine 127.0.0.1 login ann password {password}\n" if password else "")
            path.chmod(0o600)
            return {"NETRC": str(path)}

        def change(other: bytes) -> None:
            (server.files / "weights.bin").write_bytes(other)

        yield Stand(
            f"{door.url}/weights.bin",
            environ("netrc", PASSWORD),
            change,
            door,
            (PASSWORD, base64.b64encode(f"ann:{PASSWORD}".encode()).decode()),
            environ("none", ""),
            environ("wrong", WRONG),
        )


@contextmanager
def az(folder: Path, content: bytes, rate: float) -> Iterator[Stand]:
    """Azurite, by a connection string with a SAS."""
    with azurite_server(folder, {"org/m/weights.bin": content}) as storage, door_to(storage.endpoint, rate) as door:
        endpoint = f"{door.url}/{ACCOUNT}"
        token = storage.sas()
        signature = parse_qs(token)["sig"][0]

        def environ(connection: str) -> dict[str, str]:
            return {"AZURE_STORAGE_CONNECTION_STRING": connection.replace(storage.endpoint, endpoint)}

        yield Stand(
            "az://models/org/m/weights.bin",
            environ(storage.by_sas(token)),
            lambda other: storage.put({"org/m/weights.bin": other}),
            door,
            (token, signature, quote(signature, safe="")),
            environ(storage.anonymous),
            environ(storage.by_sas(re.sub("sig=[^&]*", f"sig={WRONG}", token))),
        )


@contextmanager
def oci(folder: Path, content: bytes, rate: float) -> Iterator[Stand]:
    """Debian's registry, which wants a login."""
    with registry_server(folder / "registry", login=True) as registry, door_to(f"http://{registry.host}", rate) as door:
        push_artifact(f"http://{registry.host}", {"weights.bin": content})
        host = door.url.removeprefix("http://")

        def environ(name: str, password: str) -> dict[str, str]:
            (folder / name).mkdir()
            login = base64.b64encode(f"{USER}:{password}".encode()).decode()
            auths = {host: {"auth": login}} if password else {}
            (folder / name / "config.json").write_text(json.dumps({"auths": auths}))
            return {"DOCKER_CONFIG": str(folder / name)}

        yield Stand(
            f"oci://{host}/org/m:v1/weights.bin",
            environ("docker", OCI_PASSWORD),
            put(registry.blob(hashlib.sha256(content).hexdigest())),
            door,
            (OCI_PASSWORD, base64.b64encode(f"{USER}:{OCI_PASSWORD}".encode()).decode()),
            environ("none", ""),
            environ("wrong", WRONG),
        )


def push_artifact(url: str, files: Mapping[str, bytes]) -> None:
    """A model artifact `org/m:v1` whose layers are `files`, as ORAS writes it."""
    session = requests.Session()
    session.auth = (USER, OCI_PASSWORD)
    empty = b"{}"
    for content in (empty, *files.values()):
        place = session.post(f"{url}/v2/org/m/blobs/uploads/").headers["Location"]
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        session.put(place, params={"digest": digest}, data=content).raise_for_status()

    def described(content: bytes, kind: str, **more: object) -> dict[str, object]:
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        return {"mediaType": kind, "digest": digest, "size": len(content), **more}

    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "artifactType": "application/vnd.model",
        "config": described(empty, "application/vnd.oci.empty.v1+json"),
        "layers": [
            described(content, "application/octet-stream", annotations={"org.opencontainers.image.title": name})
            for name, content in files.items()
        ],
    }
    answer = session.put(
        f"{url}/v2/org/m/manifests/v1", data=json.dumps(manifest), headers={"Content-Type": str(manifest["mediaType"])}
    )
    answer.raise_for_status()


@contextmanager
def roboflow(folder: Path, content: bytes, rate: float) -> Iterator[Stand]:
    """The weights API; its files are on another host."""
    package = RemotePackage("abc123", {"weights.bin": content}, simple("torch", "torch", dynamicBatchSize=True))
    service = RoboflowService([RemoteModel("vehicles/1", [package])], key=ROBOFLOW_KEY)
    with roboflow_of(service), door_to(service.storage_url, rate) as door:
        service.storage_url = door.url

        def change(other: bytes) -> None:
            service.lies["/vehicles/1/abc123/weights.bin"] = other

        environ = {"ROBOFLOW_API_HOST": service.url, "ROBOFLOW_API_KEY": ROBOFLOW_KEY}
        stand = keyed("roboflow://vehicles/1", environ, change, door, "ROBOFLOW_API_KEY")
        yield replace(stand, is_model=True)


STANDS: dict[str, Opener] = {
    "https": https,
    "s3": s3,
    "hf": hf,
    "az": az,
    "oci": oci,
    "pypi": pypi,
    "roboflow": roboflow,
}
