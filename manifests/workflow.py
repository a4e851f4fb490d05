"""A workflow: which file its clients read, under which name, and which models it asks for.

* An id is `WORKSPACE/workflows/ID`, as a source names it; both parts are letters, digits, `-` and `_`.
* The file is what the service of workflows answers: `{"workflow": {"config", "id", "name"}}`, where `config` is JSON in
  a text, `{"specification": {…}}`. The workspace `local` has the inner object alone: there, clients want it so.
* Those clients read regular files. Names beyond lower case are fingerprinted as they do it.
"""

import hashlib
import hmac
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from manifests import foreign
from manifests.errors import FormatError, NamingError, printable
from manifests.naming import checked_id

FILE: Final = "workflow.json"
"""The one file of a workflow's one package."""
PACKAGE: Final = "workflow"
LOCAL: Final = "local"
_PART: Final = r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}"
_ID: Final = re.compile(rf"(?P<workspace>{_PART})/workflows/(?P<name>{_PART})")
_MESSAGE: Final = b"inference-workflow-cache-public-identity-v2"
_LONGEST_PLAIN: Final = 96
_TENANT_SUFFIX: Final = re.compile(r"_[0-9a-f]{64}$|_v.")
"""Names that older clients could take for one of another key or version."""


@dataclass(frozen=True, slots=True)
class WorkflowId:
    """A parsed id."""

    workspace: str
    name: str

    @classmethod
    def parse(cls, text: str) -> "WorkflowId":
        """Errors: `NamingError`."""
        match = _ID.fullmatch(text)
        if match is None:
            raise NamingError(
                f"workflow {printable(text)!r} is not usable",
                hint="WORKSPACE/workflows/ID, of letters, digits, '-' and '_', each beginning with a letter or digit",
            )
        checked_id(text)
        return cls(match["workspace"], match["name"])

    def __str__(self) -> str:
        return f"{self.workspace}/workflows/{self.name}"

    @property
    def cache_path(self) -> str:
        """Where the client keeps it, below its folder `workflow`."""
        if self.workspace == LOCAL:
            return f"{LOCAL}/{hashlib.sha256(self.name.encode()).hexdigest()}.json"
        name = _segment(self.name, is_file=True)
        return f"{_segment(self.workspace, is_file=False)}/.canonical-v2/{name}.json"


def encode(workflow: WorkflowId, name: str, specification: dict[str, object]) -> bytes:
    """The file. Errors: `FormatError` for one that is too large or too deep by its last wrapping."""
    config = foreign.encode({"specification": specification})
    inner = {"config": config, "id": workflow.name, "name": name}
    text = foreign.encode(inner if workflow.workspace == LOCAL else {"workflow": inner})
    for part in (config, text):
        foreign.check(part, subject=f"{workflow}: as its clients read it")
    return text.encode()


def decode(content: bytes, *, subject: str) -> tuple[str, dict[str, object]]:
    """The name (empty if there is none) and the specification, in any form that people have it in.

    That is: the specification itself, an object with it as `specification`, the client's file, the service's answer.
    Errors: `FormatError`.
    """
    value = foreign.decode_object(content, subject=subject)
    inner = value.get("workflow", value)
    if not isinstance(inner, dict):
        raise FormatError(f"{subject}: its `workflow` is not an object")
    name = inner.get("name")
    config = inner.get("config", inner)
    if isinstance(config, str):
        config = foreign.decode_object(config, subject=f"{subject}: config")
    specification = config.get("specification", config) if isinstance(config, dict) else None
    if not isinstance(specification, dict) or not isinstance(specification.get("steps"), list):
        raise FormatError(f"{subject}: not a workflow: it has no list of `steps`")
    return name if isinstance(name, str) else "", specification


def models(specification: dict[str, object]) -> tuple[str, ...]:
    """The ids of models that the steps name themselves, or by an input with a default; sorted, each once."""
    inputs = specification.get("inputs")
    defaults = {
        f"$inputs.{each.get('name')}": each.get("default_value")
        for each in (inputs if isinstance(inputs, list) else [])
        if isinstance(each, dict)
    }
    named = (defaults.get(text, text) for text in _model_ids(specification.get("steps")))
    return tuple(sorted({text for text in named if isinstance(text, str) and text and not text.startswith("$")}))


def _model_ids(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("model_id"), str):
            yield str(value["model_id"])
        for inner in value.values():
            yield from _model_ids(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _model_ids(inner)


def _segment(text: str, *, is_file: bool) -> str:
    is_plain = len(text) <= _LONGEST_PLAIN and text == text.lower()
    if is_plain and not (is_file and _TENANT_SUFFIX.search(text)):
        return text
    identity = text.encode()
    key = len(identity).to_bytes(8, "big") + identity
    return f"~{text[:48]}_{hmac.new(key, _MESSAGE, hashlib.sha256).hexdigest()}"
