"""The clients in this Python, and whether each would read this root as things stand now.

* Found by their metadata, never imported. Versions are compared with those that were tried against a root.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from manifests.errors import listing
from manifests.finding import Finding, Subject
from runtime.doctor.variables import is_true, leads_there
from runtime.layouts import huggingface, inference
from runtime.settings import TELEMETRY_OFF

SUBJECT: Final = Subject("clients")


@dataclass(frozen=True, slots=True)
class Client:
    """A client: which versions were tried (first and last, inclusive), what it must be told, what it reads."""

    name: str
    first: tuple[int, ...]
    last: tuple[int, ...]
    variables: tuple[str, ...] = ()
    layout: str | None = None
    """None for one that asks a server, or reads any folder."""
    before: str = "earlier ones were not tried"
    """What is so before the first version."""

    @property
    def tried(self) -> str:
        """The range, for a person."""
        ends = [".".join(map(str, end)) for end in (self.first, self.last)]
        return " to ".join(dict.fromkeys(ends))


_ROBOFLOW: Final = ("INFERENCE_HOME", "OFFLINE_MODE")
_SERVER: Final = ("MODEL_CACHE_DIR", "OFFLINE_MODE")
_HUB: Final = ("HF_HUB_CACHE", "HF_HUB_OFFLINE")
CLIENTS: Final = (
    Client(
        "inference-models",
        (0, 36),
        (0, 39),
        _ROBOFLOW,
        inference.NAME,
        "earlier ones load by folder only",
    ),
    *(
        Client(name, (1, 8), (1, 8), _SERVER, inference.NAME)
        for name in ("inference", "inference-cpu", "inference-gpu", "inference-core")
    ),
    Client("huggingface-hub", (0, 36), (2, 4), _HUB, huggingface.NAME),
    Client("transformers", (5, 15), (5, 23), (*_HUB, "TRANSFORMERS_OFFLINE"), huggingface.NAME),
    Client("inference-sdk", (1, 8), (1, 8)),
    Client("tritonclient", (2, 73), (2, 73)),
    Client("model-signing", (1, 1), (1, 1)),
)


@dataclass(frozen=True, slots=True)
class Site:
    """What a client would meet: the environment, the variables of the root, and how many models each layout has."""

    environ: Mapping[str, str]
    wanted: Mapping[str, str]
    models: Mapping[str, int]
    fix: str
    """What to type so that clients follow."""


def look(present: Mapping[str, str], site: Site) -> Iterator[Finding]:
    """What is known of each client among `present`, which maps distributions to versions."""
    found = [client for client in CLIENTS if client.name in present]
    for client in found:
        version = present[client.name]
        yield _version(client, version)
        if client.layout is not None and site.wanted:
            yield _reads(client, client.layout, site)
    if "model-signing" in present and "pyopenssl" not in present:
        what = "model-signing does not start without pyOpenSSL, which it does not ask for"
        yield SUBJECT.problem("signing-without-openssl", what, fix="pip install pyOpenSSL")
    if found and not is_true(site.environ.get(TELEMETRY_OFF)) and any(map(_is_onnxruntime, present)):
        what = f"{TELEMETRY_OFF} is not set: where a program loads onnxruntime itself, that reports to its maker"
        fix = site.fix if TELEMETRY_OFF in site.wanted else f"export {TELEMETRY_OFF}=1"
        yield SUBJECT.note("telemetry", what, fix=fix)
    if not found:
        yield SUBJECT.note("no-clients", "this Python has none of the clients that are known here")


def release(version: str) -> tuple[int, ...]:
    """The numbers that a version begins with: `(2, 13, 0)` for `2.13.0+cpu`; none for what is no version."""
    match = re.match(r"\d+(?:\.\d+)*", version)
    return tuple(int(part) for part in match[0].split(".")) if match else ()


def _is_onnxruntime(name: str) -> bool:
    return name.startswith(("onnxruntime", "ort-nightly"))


def _version(client: Client, version: str) -> Finding:
    number = release(version)
    if not number:
        return SUBJECT.note("client-version", f"{client.name} {version!r} has no version that can be compared")
    if number < client.first:
        what = f"{client.name} {version}: tried were {client.tried}; {client.before}"
        return SUBJECT.note("client-too-old", what, fix=f"pip install --upgrade {client.name}")
    if number[: len(client.last)] > client.last:
        return SUBJECT.note("client-newer", f"{client.name} {version} is newer than those tried, {client.tried}")
    where = "" if client.layout else ": it reads no cache"
    return SUBJECT.fine("client", f"{client.name} {version}, among those tried ({client.tried}){where}")


def _reads(client: Client, layout: str, site: Site) -> Finding:
    wrong = [name for name in client.variables if not leads_there(name, site.environ.get(name), site.wanted[name])]
    if wrong:
        what = f"{client.name} would not read this root now: {listing(wrong)} not set, or set to something else"
        return SUBJECT.note("client-elsewhere", what, fix=site.fix)
    if not (count := site.models.get(layout, 0)):
        what = f"{client.name} would read this root, and no model here has the layout `{layout}`"
        fix = f"`layouts: [{layout}]` at the model in the manifest; then lock, build and install again"
        return SUBJECT.note("no-layout", what, fix=fix)
    return SUBJECT.fine("client-reads", f"{client.name} would read this root: models {count}")
