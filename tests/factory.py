"""What tests are made of: a fixed key, small files, locks over them, bundles out of them."""

import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from bundler import encode
from bundler.assemble import Built, Signers, assemble
from bundler.signer import SoftwareSigner
from manifests.lock import Lock, LockedFile, LockedModel, LockedPackage
from manifests.progress import Silent
from manifests.store import Store
from runtime import trust
from runtime.install import Installed, install
from runtime.root import Root

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def elliptic_signer(number: int = 1) -> SoftwareSigner:
    """The same ECDSA key for the same number, on every machine."""
    return SoftwareSigner(ec.derive_private_key(0x1234567 + number, ec.SECP256R1()))


def edwards_signer(number: int = 1) -> SoftwareSigner:
    """The same Ed25519 key for the same number, on every machine."""
    return SoftwareSigner(ed25519.Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32))


def incompressible(length: int, seed: int = 1) -> bytes:
    """Bytes that no codec shrinks, the same every time."""
    state, out = seed * 2654435761 % 2**32, bytearray()
    while len(out) < length:
        state = (1664525 * state + 1013904223) % 2**32
        out += (state >> 8).to_bytes(3, "little")
    return bytes(out[:length])


@dataclass
class Workshop:
    """A builder's store and a place for bundles."""

    folder: Path
    store: Store = field(init=False)

    def __post_init__(self) -> None:
        self.store = Store.open(self.folder / "store")

    def package(self, files: Mapping[str, bytes], name: str = "files", **fields: object) -> LockedPackage:
        """A locked package whose files are in the store."""
        locked = []
        for path, content in sorted(files.items()):
            recipe = encode.add(self.store, io.BytesIO(content), size=len(content), subject=path)
            locked.append(LockedFile(path=path, sha256=recipe.digest.hex, size=recipe.size, source=f"./{path}"))
        return LockedPackage(id=name, files=tuple(locked), **fields)  # type: ignore[arg-type]

    def lock(self, models: Mapping[str, Mapping[str, bytes]], *, line: str = "line", sequence: int = 1) -> Lock:
        """A lock of raw models: id to files."""
        locked = tuple(
            LockedModel(id=name, task="raw", packages=(self.package(files),)) for name, files in models.items()
        )
        return Lock(format=1, line=line, sequence=sequence, models=locked)

    def build(
        self, lock: Lock, *, signers: Signers | None = None, name: str = "out.bundle", folder: bool = False
    ) -> Built:
        """The bundle of a lock, by default signed by key 1."""
        chosen = Signers.of(elliptic_signer()) if signers is None else signers
        return assemble(lock, self.store, chosen, self.folder / name, folder=folder, reporter=Silent())

    def site(self, name: str = "site", *, signers: tuple[SoftwareSigner, ...] = (), threshold: int = 1) -> Root:
        """A root that trusts key 1, or these."""
        root = Root.create(self.folder / name)
        trust.initialise(root, [("key", s.key) for s in signers or (elliptic_signer(),)], threshold=threshold)
        return root


def put(bundle: Path, root: Root, *, allow_older: bool = False) -> Installed:
    """Install quietly, at a fixed time."""
    return install(bundle, root, allow_older=allow_older, now=NOW, reporter=Silent())


def tree(folder: Path) -> dict[str, bytes | str]:
    """Every file of a folder by relative path: its bytes, or the target of a symbolic link."""
    found: dict[str, bytes | str] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            found[name] = f"-> {path.readlink()}"
        elif path.is_file():
            found[name] = path.read_bytes()
    return found
