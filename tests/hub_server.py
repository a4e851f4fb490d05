"""A model hub on loopback: the HTTP API that downloaders speak, for one repository."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from loopback import Request, serving

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Hub:
    """One repository at one commit. Files in `large` are kept apart, on `storage_url`, as LFS keeps them."""

    files: dict[str, bytes]
    large: frozenset[str] = frozenset()
    repository: str = "org/model"
    commit: str = COMMIT
    gated: str | bool = False
    token: str | None = None
    license: str = "apache-2.0"
    page_size: int = 1000
    storage_url: str = ""
    url: str = ""
    asked: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    lies: dict[str, bytes] = field(default_factory=dict)

    def answer(self, request: Request) -> None:
        parts = urlsplit(request.path)
        self.asked.append((request.command, parts.path, dict(request.headers)))
        path = unquote(parts.path)
        api, resolve = f"/api/models/{self.repository}", f"/{self.repository}/resolve/"
        if self._refused(request, path):
            return
        if path.startswith(f"{api}/revision/"):
            self._revision(request, path.removeprefix(f"{api}/revision/"))
        elif path.startswith(f"{api}/tree/"):
            self._tree(request, path.removeprefix(f"{api}/tree/"), parts.query)
        elif path.startswith(resolve):
            self._resolve(request, *path.removeprefix(resolve).split("/", 1))
        else:
            self._error(request, 404, "RepoNotFound", "Repository not found")

    def answer_storage(self, request: Request) -> None:
        """The host where large files are."""
        self.asked.append((request.command, request.path, dict(request.headers)))
        name = unquote(urlsplit(request.path).path.removeprefix("/large/"))
        request.send(self.lies.get(name, self.files[name]), ETag='"storage"')

    def _refused(self, request: Request, path: str) -> bool:
        if self.token is None or request.headers.get("Authorization") == f"Bearer {self.token}":
            return False
        if self.gated and "/resolve/" in path:
            self._error(request, 403, "GatedRepo", "Access to this model is restricted")
            return True
        if not self.gated:
            self._error(request, 401, "RepoNotFound", "Invalid credentials")
            return True
        return False

    def _error(self, request: Request, status: int, code: str, message: str) -> None:
        request.send(b"{}", status=status, X_Error_Code=code, X_Error_Message=message)

    def _known(self, revision: str) -> bool:
        return revision in {"main", "refs/pr/1", self.commit}

    def _revision(self, request: Request, revision: str) -> None:
        if not self._known(revision):
            self._error(request, 404, "RevisionNotFound", f"Invalid rev id: {revision}")
            return
        siblings = [{"rfilename": name} for name in sorted(self.files)]
        described = {
            "id": self.repository, "sha": self.commit, "siblings": siblings, "gated": self.gated, "private": False,
            "cardData": {"license": self.license}, "tags": [f"license:{self.license}"],
        }  # fmt: skip
        request.send(json.dumps(described).encode(), Content_Type="application/json")

    def _tree(self, request: Request, commit: str, query: str) -> None:
        names = sorted(self.files)
        start = next((int(part[7:]) for part in query.split("&") if part.startswith("cursor=")), 0)
        shown = names[start : start + self.page_size]
        headers = {"Content_Type": "application/json"}
        if start + self.page_size < len(names):
            base = f"{self.url}/api/models/{self.repository}/tree/{commit}"
            headers["Link"] = f'<{base}?recursive=true&cursor={start + self.page_size}>; rel="next"'
        entries = [{"type": "directory", "path": "onnx", "oid": "0" * 40, "size": 0}, *map(self._entry, shown)]
        request.send(json.dumps(entries).encode(), **headers)

    def _entry(self, name: str) -> dict[str, object]:
        content = self.files[name]
        entry: dict[str, object] = {"type": "file", "path": name, "oid": git_sha1(content), "size": len(content)}
        if name in self.large:
            oid = hashlib.sha256(content).hexdigest()
            entry["lfs"] = {"oid": oid, "size": len(content), "pointerSize": 130}
        return entry

    def _resolve(self, request: Request, commit: str, name: str) -> None:
        if not self._known(commit) or name not in self.files:
            self._error(request, 404, "EntryNotFound", f"Entry not found: {name}")
            return
        content = self.lies.get(name, self.files[name])
        headers = {"X_Repo_Commit": self.commit}
        if name in self.large:
            headers["X_Linked_Size"] = str(len(content))
            headers["X_Linked_Etag"] = f'"{hashlib.sha256(self.files[name]).hexdigest()}"'
            request.send(b"", status=302, Location=f"{self.storage_url}/large/{name}", **headers)
            return
        request.send(content, ETag=f'"{git_sha1(self.files[name])}"', **headers)


def git_sha1(content: bytes) -> str:
    """The name that git gives the content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


@contextmanager
def hub_of(hub: Hub) -> Iterator[Hub]:
    """`hub`, running; its large files are on another port."""
    with serving(hub.answer) as url, serving(hub.answer_storage) as storage_url:
        hub.url, hub.storage_url = url, storage_url
        yield hub
