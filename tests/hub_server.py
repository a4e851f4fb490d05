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
    """One repository: its branches and tags, all at the last commit, and the commits before.

    Files in `large` are kept apart, on `storage_url`, as LFS keeps them. `token` is the only one there is: it opens the
    repository where that is private, and its files where it is gated.
    """

    files: dict[str, bytes]
    large: frozenset[str] = frozenset()
    repository: str = "org/model"
    commit: str = COMMIT
    names: frozenset[str] = frozenset({"main", "refs/pr/1"})
    gated: str | bool = False
    token: str | None = None
    license: str = "apache-2.0"
    page_size: int = 1000
    has_xet: bool = False
    """Whether it speaks of the other protocol that it has for large files."""
    storage_url: str = ""
    url: str = ""
    asked: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    lies: dict[str, bytes] = field(default_factory=dict)
    earlier: dict[str, dict[str, bytes]] = field(default_factory=dict)

    def push(self, commit: str, files: dict[str, bytes]) -> None:
        """Move every branch and tag to a new commit."""
        self.earlier[self.commit] = self.files
        self.commit, self.files = commit, files

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
            revision, _, name = parts.path.removeprefix(resolve).partition("/")
            self._resolve(request, unquote(revision), unquote(name))
        elif path.startswith((f"{api}/", f"/{self.repository}/")):
            self._error(request, 404, "EntryNotFound", "Not found")
        else:
            self._not_here(request)

    def answer_storage(self, request: Request) -> None:
        """The host where large files are: it knows contents by their digests, and no token."""
        self.asked.append((request.command, request.path, dict(request.headers)))
        oid, _, name = unquote(urlsplit(request.path).path.removeprefix("/large/")).partition("/")
        known = {sha256(files[name]): files[name] for files in (self.files, *self.earlier.values()) if name in files}
        content = self.lies.get(name, known[oid])
        request.send_file(content, etag=f'"{sha256(content)[:32]}"')

    def _refused(self, request: Request, path: str) -> bool:
        given = request.headers.get("Authorization")
        if self.token is None or given == f"Bearer {self.token}":
            return False
        if given is not None:
            request.send(b"{}", status=401, X_Error_Message="Invalid credentials in Authorization header")
        elif not self.gated:
            self._error(request, 401, "RepoNotFound", "Invalid credentials")
        elif "/resolve/" in path:
            self._error(request, 401, "GatedRepo", f"Access to model {self.repository} is restricted")
        else:
            return False
        return True

    def _not_here(self, request: Request) -> None:
        """What is said of a repository that is not there: without a token, what is said of a private one."""
        status = 404 if "Authorization" in request.headers else 401
        self._error(request, status, "RepoNotFound", "Repository not found")

    def _error(self, request: Request, status: int, code: str, message: str) -> None:
        request.send(b"{}", status=status, X_Error_Code=code, X_Error_Message=message)

    def _commit(self, revision: str) -> str | None:
        if revision in self.names:
            return self.commit
        return revision if revision in {self.commit, *self.earlier} else None

    def _files(self, commit: str) -> dict[str, bytes]:
        return self.earlier.get(commit, self.files)

    def _revision(self, request: Request, revision: str) -> None:
        commit = self._commit(revision)
        if commit is None:
            self._error(request, 404, "RevisionNotFound", f"Invalid rev id: {revision}")
            return
        siblings = [{"rfilename": name} for name in sorted(self._files(commit))]
        described = {
            "id": self.repository, "sha": commit, "siblings": siblings, "gated": self.gated, "private": False,
            "cardData": {"license": self.license}, "tags": [f"license:{self.license}"],
        }  # fmt: skip
        request.send(json.dumps(described).encode(), Content_Type="application/json")

    def _tree(self, request: Request, commit: str, query: str) -> None:
        names = sorted(self._files(commit))
        start = next((int(part[7:]) for part in query.split("&") if part.startswith("cursor=")), 0)
        shown = names[start : start + self.page_size]
        headers = {"Content_Type": "application/json"}
        if start + self.page_size < len(names):
            base = f"{self.url}/api/models/{self.repository}/tree/{commit}"
            headers["Link"] = f'<{base}?recursive=true&cursor={start + self.page_size}>; rel="next"'
        entries = [{"type": "directory", "path": "onnx", "oid": "0" * 40, "size": 0}]
        entries += [self._entry(name, self._files(commit)[name]) for name in shown]
        request.send(json.dumps(entries).encode(), **headers)

    def _entry(self, name: str, content: bytes) -> dict[str, object]:
        if name not in self.large:
            return {"type": "file", "path": name, "oid": git_sha1(content), "size": len(content)}
        pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256(content)}\nsize {len(content)}\n"
        lfs = {"oid": sha256(content), "size": len(content), "pointerSize": len(pointer)}
        entry = {"type": "file", "path": name, "oid": git_sha1(pointer.encode()), "size": len(content), "lfs": lfs}
        return entry | ({"xetHash": sha256(content[::-1])} if self.has_xet else {})

    def _resolve(self, request: Request, revision: str, name: str) -> None:
        commit = self._commit(revision)
        if commit is None:
            self._error(request, 404, "RevisionNotFound", f"Invalid rev id: {revision}")
            return
        headers = {"X_Repo_Commit": commit}
        content = self._files(commit).get(name)
        if content is None:
            request.send(b"", status=404, X_Error_Code="EntryNotFound", X_Error_Message="Entry not found", **headers)
        elif name in self.large:
            oid = sha256(content)
            xet = {"X_Xet_Hash": oid, "X_Xet_Refresh_Route": f"{self.url}/xet"} if self.has_xet else {}
            headers |= {"X_Linked_Size": str(len(content)), "X_Linked_Etag": f'"{oid}"'} | xet
            request.send(b"", status=302, Location=f"{self.storage_url}/large/{oid}/{name}", **headers)
        else:
            request.send_file(self.lies.get(name, content), etag=f'"{git_sha1(content)}"', **headers)


def git_sha1(content: bytes) -> str:
    """The name that git gives the content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def sha256(content: bytes) -> str:
    """The hex digits alone."""
    return hashlib.sha256(content).hexdigest()


@contextmanager
def hub_of(hub: Hub) -> Iterator[Hub]:
    """`hub`, running; its large files are on another port."""
    with serving(hub.answer) as url, serving(hub.answer_storage) as storage_url:
        hub.url, hub.storage_url = url, storage_url
        yield hub
