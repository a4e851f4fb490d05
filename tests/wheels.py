"""Small wheels, and package indexes that serve them: PEP 503 pages and PEP 691 documents."""

import io
import json
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from html import escape
from pathlib import Path

from loopback import Request

METADATA = "Metadata-Version: 2.4\nName: {name}\nVersion: {version}\nLicense-Expression: MIT\n"


def wheel(name: str = "tiny", version: str = "1.0", *, metadata: str = METADATA, **members: bytes) -> bytes:
    """A wheel with these members; `__` in a name stands for `/`. One of pip has what installers run."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as made:
        for member, content in members.items():
            made.writestr(zipfile.ZipInfo(member.replace("__", "/")), content)
        if name == "pip":
            made.writestr(zipfile.ZipInfo("pip/__main__.py"), b"")
        described = metadata.format(name=name, version=version)
        made.writestr(zipfile.ZipInfo(f"{name}-{version}.dist-info/METADATA"), described)
    return out.getvalue()


@dataclass
class Index:
    """A package index: files by name; what it says of each, and which it was asked for."""

    files: dict[str, bytes]
    as_json: bool = False
    digests: dict[str, str | None] = field(default_factory=dict)
    yanked: dict[str, str] = field(default_factory=dict)
    requires_python: dict[str, str] = field(default_factory=dict)
    metadata: dict[str, bytes] = field(default_factory=dict)
    """By file name, what the index offers by itself of a wheel."""
    asked: list[str] = field(default_factory=list)
    allow: Callable[[Request], bool] = lambda _: True

    def answer(self, request: Request) -> None:
        self.asked.append(request.path)
        parts = request.path.strip("/").split("/")
        if not self.allow(request):
            request.send(b"", status=401)
        elif parts[0] == "simple" and len(parts) == 2 and self._of(parts[1]):
            page, kind = (self.document(parts[1]), "vnd.pypi.simple.v1+json") if self.as_json else (
                self.page(parts[1]).encode(), "vnd.pypi.simple.v1+html"
            )  # fmt: skip
            request.send(page, Content_Type=f"application/{kind}")
        elif parts[0] == "files" and parts[1] in self.files:
            content = self.files[parts[1]]
            request.send_file(content, etag=f'"{sha256(content).hexdigest()}"')
        elif parts[0] == "files" and parts[1].removesuffix(".metadata") in self.metadata:
            request.send(self.metadata[parts[1].removesuffix(".metadata")])
        else:
            request.send(b"", status=404)

    def document(self, project: str) -> bytes:
        files = [
            {
                "filename": name,
                "url": f"../../files/{name}",
                "hashes": {"sha256": digest} if (digest := self._digest(name)) else {},
                "size": len(content),
                "yanked": self.yanked.get(name, False),
            }
            | ({"requires-python": self.requires_python[name]} if name in self.requires_python else {})
            | ({"core-metadata": {"sha256": self._metadata_digest(name)}} if name in self.metadata else {})
            for name, content in self._of(project).items()
        ]
        return json.dumps({"meta": {"api-version": "1.1"}, "name": project, "versions": [], "files": files}).encode()

    def page(self, project: str) -> str:
        links = []
        for name in self._of(project):
            fragment = f"#sha256={digest}" if (digest := self._digest(name)) else ""
            reason = f' data-yanked="{self.yanked[name]}"' if name in self.yanked else ""
            python = (
                f' data-requires-python="{escape(self.requires_python[name])}"' if name in self.requires_python else ""
            )
            core = f' data-core-metadata="sha256={self._metadata_digest(name)}"' if name in self.metadata else ""
            links.append(f'<a href="../../files/{name}{fragment}"{reason}{python}{core}>{name}</a>')
        return "<!DOCTYPE html><html><body>" + "\n".join(links) + "</body></html>"

    def write(self, folder: Path) -> str:
        """The same index as files; its `file:` URL."""
        (folder / "files").mkdir(parents=True)
        for name, content in self.files.items():
            (folder / "files" / name).write_bytes(content)
            project = folder / "simple" / name.partition("-")[0]
            project.mkdir(parents=True, exist_ok=True)
            (project / "index.html").write_text(self.page(project.name))
        return (folder / "simple").as_uri()

    def _of(self, project: str) -> Mapping[str, bytes]:
        return {name: content for name, content in self.files.items() if name.partition("-")[0] == project}

    def _metadata_digest(self, name: str) -> str:
        return self.digests.get(f"{name}.metadata") or sha256(self.metadata[name]).hexdigest()

    def _digest(self, name: str) -> str | None:
        return self.digests.get(name, sha256(self.files[name]).hexdigest())
