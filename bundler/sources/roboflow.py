"""Models of Roboflow: `roboflow://ID`, by the weights API that its own client asks.

* A model is described as a whole (`describe`); its files are named `roboflow://ID/PACKAGE/HANDLE` in a lock, with the
  package, the handle and the MD5 as their pin. The signed address of a file is asked anew in every run.
* The key goes to the API's own host and no other: to no mirror, to no host of downloads.
* `roboflow://WORKSPACE/workflows/ID` is a workflow. That API takes the key in the query, which no message shows.
"""

import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import quote, urlencode

from bundler.http import Client
from bundler.once import Once
from bundler.settings import Roboflow
from bundler.sources import roboflow_answers
from bundler.sources.base import Found, FoundModel
from bundler.sources.reference import Reference, escape
from bundler.sources.urls import shown
from manifests import foreign
from manifests.errors import (
    DigestMismatchError,
    ManifestError,
    SourceDeniedError,
    SourceError,
    SourceNotFoundError,
    listing,
)
from manifests.workflow import WorkflowId

SCHEME: Final = "roboflow"
_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(?:/[A-Za-z0-9][A-Za-z0-9._-]*){0,7}")
_PAGE_LIMIT: Final = 16 << 20
_PAGES_LIMIT: Final = 64 << 20
"""Bytes of all pages of one model."""
_MAXIMUM_PAGES: Final = 100
_UPGRADE: Final = "`bundle lock --upgrade` takes what is there now"
_KEY: Final = "set ROBOFLOW_API_KEY to a key of the workspace that has it"
_REFUSALS: Final[Mapping[int, tuple[type[SourceError], str, str]]] = {
    401: (SourceDeniedError, "the key is missing or wrong", _KEY),
    402: (SourceDeniedError, "the workspace has no credits left", "look at the workspace's billing page"),
    403: (SourceDeniedError, "the key may not read it", "give the key the right to read models, or use another one"),
    404: (SourceNotFoundError, "there is no such thing, or the key may not see it", f"check the id; {_KEY}"),
    423: (SourceDeniedError, "the workspace has paused its API", "ask its administrator to let it go on"),
}
"""What the API means by a status, and the way out."""


class RoboflowSource:
    """The service at `service.host`."""

    def __init__(self, service: Roboflow, client: Client) -> None:
        self._service = service
        self._client = client
        self._models: Once[str, FoundModel] = Once()

    def describe(self, reference: Reference) -> FoundModel:
        """The model, asked once a run. Errors: `SourceError` and its kinds; `ManifestError` for what is no model."""
        model_id = _model_id(reference)
        plain = Reference(SCHEME, model_id)
        return self._models.get(model_id, lambda: self._ask(plain))

    def find(self, reference: Reference, pin: Mapping[str, str]) -> Found:
        """The pinned file, at its address of now. Errors: also `DigestMismatchError` if it is another by now."""
        package_id, path = pin.get("package", ""), pin.get("file", "")
        model_id = reference.location.removesuffix(escape(f"/{package_id}/{path}"))
        if not package_id or not path or model_id == reference.location:
            raise ManifestError(
                f"{reference} is a model, and a file is asked for",
                hint="`source: roboflow://ID` beside the model's `id` takes it with its packages",
            )
        model = self.describe(Reference(SCHEME, model_id))
        files = {(each.id, file.path): file for each in model.packages for file in each.files}
        found = files.get((package_id, path))
        if found is None:
            there = listing(f"{package} {name}" for package, name in files)
            raise SourceNotFoundError(
                f"roboflow://{model_id} has no package {package_id} with a file {path} any more",
                hint=f"{_UPGRADE}; there are: {there}",
            )
        if found.md5 is not None and pin.get("md5", found.md5.hex()) != found.md5.hex():
            raise DigestMismatchError(
                subject=str(reference), expected=f"md5 {pin['md5']}", actual=f"md5 {found.md5.hex()}"
            )
        return found

    def list(self, reference: Reference, pin: Mapping[str, str]) -> tuple[Found, ...]:
        """One pinned file: a model is described, not listed."""
        return (self.find(reference, pin),)

    def workflow(self, wanted: WorkflowId) -> bytes:
        """The service's answer with the definition of a workflow. Errors: `SourceError` and its kinds."""
        place = f"{quote(wanted.workspace, safe='')}/workflows/{quote(wanted.name, safe='')}"
        url = f"{self._service.host}/{place}"
        is_own = self._client.mirrored(url) == url
        query = f"?{urlencode({'api_key': self._service.key})}" if self._service.key and is_own else ""
        return self._get(f"{url}{query}", subject=f"{SCHEME}://{wanted}", limit=2 * foreign.MAXIMUM_SIZE)

    def _ask(self, reference: Reference) -> FoundModel:
        subject = str(reference)
        pages: list[roboflow_answers.Page] = []
        query = {"modelId": reference.location}
        left = _PAGES_LIMIT
        for _ in range(_MAXIMUM_PAGES):
            url = f"{self._service.host}/models/v1/external/weights?{urlencode(query)}"
            content = self._get(url, subject=subject, limit=min(left, _PAGE_LIMIT))
            left -= len(content)
            pages.append(roboflow_answers.decode(content, subject=subject))
            following = pages[-1].next_page
            if not following:
                return roboflow_answers.model(pages, reference)
            if following in {page.next_page for page in pages[:-1]}:
                break
            query["startAfter"] = following
        raise SourceError(f"{subject}: a list of packages that does not end")

    def _get(self, url: str, *, subject: str, limit: int) -> bytes:
        def attempt() -> bytes:
            with self._client.request("GET", url, subject=subject, authorization=self._authorization) as response:
                if response.status_code != 200:
                    raise _refusal(response.status_code, url, subject=subject)
                return self._client.read(response, subject=subject, limit=limit)

        return self._client.persist(attempt, subject=subject)

    def _authorization(self) -> str | None:
        return f"Bearer {self._service.key}" if self._service.key else None


def _refusal(status: int, url: str, *, subject: str) -> SourceError:
    kind, meaning, hint = _REFUSALS.get(status, (SourceError, "which says nothing here", ""))
    return kind(f"{subject}: {shown(url)} answered {status}: {meaning}", hint=hint)


def _model_id(reference: Reference) -> str:
    location = reference.location
    if reference.members or reference.digest is not None or not _ID.fullmatch(location):
        raise ManifestError(f"{reference}: not a model", hint="roboflow://vehicles/1, or roboflow://yolov8n-640")
    if "/workflows/" in location:
        raise ManifestError(f"{reference} is a workflow", hint="name it under `workflows:`, as `source:`")
    return location
