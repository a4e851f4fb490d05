"""Making a kit: the program's own wheel, what lies in the folder, and what may be replaced by it."""

import io
import json
import os
import shutil
import stat
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from bundler.kits import making, program, readme, writing
from bundler.kits.making import Made, Order, make
from bundler.kits.program import running_program
from bundler.pip_settings import PackageIndexes
from factory import edwards_signer, elliptic_signer, tree
from kit_factory import put_wheel, small_kit, wheelhouse
from loopback import hasty, serving
from manifests import kit
from manifests.digest import Digest
from manifests.errors import (
    BundleError,
    CorruptStoreError,
    DigestMismatchError,
    KeyFileError,
    ManifestError,
    SourceError,
    SourceNotFoundError,
    StorageError,
)
from manifests.progress import Silent
from wheels import Index

PROJECT = Path(__file__).parent.parent
LINUX = "manylinux_2_28_x86_64"


def order(*folders: Path, extras: Sequence[str] = (), **facts: object) -> Order:
    fields: dict[str, object] = {"platform": LINUX, "python": "3.11", "extras": tuple(extras), "find_links": folders}
    return Order(**{**fields, **facts})  # type: ignore[arg-type]


def made(out: Path, asked: Order, *, store: str = "store") -> Made:
    return make(out, asked, hasty(out.parent / store), Silent())


@pytest.fixture
def house(tmp_path: Path) -> Path:
    return wheelhouse(tmp_path / "house", "serve", "cpu")


def key_file(path: Path, number: int = 1) -> Path:
    path.write_bytes(elliptic_signer(number).key.pem)
    return path


# --- the program's own wheel


def unpacked(content: bytes, folder: Path) -> Path:
    """What an installer makes of a wheel that is Python alone."""
    with zipfile.ZipFile(io.BytesIO(content)) as opened:
        opened.extractall(folder)
    return folder


def wheel_of(*folders: Path, code: int = 0) -> bytes:
    """What the program that is installed in the first of `folders` says of its own wheel: its digest, or an error."""
    text = (
        "from bundler.kits.program import running_program as made\nfrom manifests.errors import BundleError\n"
        "try: print(made().digest)\nexcept BundleError as error: print(error, error.hint)"
    )
    path = os.pathsep.join(map(str, folders))
    variables = {**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", text], env=variables, cwd=folders[0].parent, capture_output=True, check=False
    )
    assert done.returncode == code, done.stderr.decode()
    return done.stdout.strip()


def test_the_running_program_is_the_same_wheel_every_time() -> None:
    one, two = running_program(), running_program()
    assert one.content == two.content
    with zipfile.ZipFile(io.BytesIO(one.content)) as opened:
        names = opened.namelist()
    assert names[:-1] == sorted(names[:-1])
    assert {"bundler/kits/installer/install.sh", "manifests/FORMAT.md", "runtime/__init__.py"} <= set(names)
    assert not [name for name in names if "__pycache__" in name or name.endswith(".pyc") or name.startswith("tests")]


def test_a_program_that_was_installed_from_a_wheel_gives_that_wheel(tmp_path: Path) -> None:
    ours = running_program()
    folder = unpacked(ours.content, tmp_path / "site")
    (folder / "bundler" / "__pycache__").mkdir()
    (folder / "bundler" / "__pycache__" / "x.cpython-311.pyc").write_bytes(b"compiled")
    (folder / "bundler" / "added.py").write_text("not in RECORD")
    assert wheel_of(folder) == str(ours.digest).encode()


@pytest.mark.parametrize(
    ("member", "content", "words"),
    [
        ("bundler/encode.py", b"import os\n", b"bundler/encode.py was changed"),
        ("manifests/FORMAT.md", None, b"manifests/FORMAT.md is gone"),
    ],
)
def test_a_file_that_was_changed_since_is_named(
    tmp_path: Path, member: str, content: bytes | None, words: bytes
) -> None:
    folder = unpacked(running_program().content, tmp_path / "site")
    if content is None:
        (folder / member).unlink(missing_ok=True)
    else:
        with (folder / member).open("ab") as stream:
            stream.write(content)
    assert words in wheel_of(folder)


def test_a_changed_description_is_named_as_well(tmp_path: Path) -> None:
    folder = unpacked(running_program().content, tmp_path / "site")
    (described,) = folder.glob("*.dist-info")
    (described / "METADATA").write_text((described / "METADATA").read_text().replace("numpy", "evil-numpy"))
    assert b"METADATA was changed" in wheel_of(folder)


def test_a_program_that_is_not_the_one_that_runs_is_refused(tmp_path: Path) -> None:
    import importlib.metadata

    folder = unpacked(running_program().content, tmp_path / "site")
    (described,) = folder.glob("*.dist-info")
    with pytest.raises(SourceError, match="not the one that is installed"):
        program.program(importlib.metadata.Distribution.at(described))


# --- out of an editable install


@dataclass(frozen=True)
class Editable:
    """An editable install: what pip noted in `site`, and the checkout."""

    site: Path
    checkout: Path

    def told(self) -> str:
        return wheel_of(self.site, self.checkout).decode()


@pytest.fixture
def editable(tmp_path: Path) -> Editable:
    checkout = unpacked(running_program().content, tmp_path / "checkout")
    (checkout / "pyproject.toml").write_bytes((PROJECT / "pyproject.toml").read_bytes())
    (described,) = checkout.glob("*.dist-info")
    (tmp_path / "site").mkdir()
    described = described.rename(tmp_path / "site" / described.name)
    origin = {"url": checkout.as_uri(), "dir_info": {"editable": True}}
    (described / "direct_url.json").write_text(json.dumps(origin))
    return Editable(tmp_path / "site", checkout)


def test_an_editable_install_gives_the_wheel_of_its_files_without_what_editors_and_caches_leave(
    editable: Editable,
) -> None:
    (editable.checkout / "runtime" / "__pycache__").mkdir()
    (editable.checkout / "runtime" / ".#root.py").symlink_to("somebody@host.1234")  # an editor's lock
    (editable.checkout / ".env").write_text("TOKEN=hush")
    for name in (
        "bundler/foo.py.orig", "bundler/foo.py.rej", "bundler/x.swp", "bundler/foo.py~", "bundler/.line.pem",
        "runtime/foo.bak", "runtime/__pycache__/root.cpython-311.pyc", "runtime/root.pyc", "line.pem",
    ):  # fmt: skip
        (editable.checkout / name).write_text("left")
    assert editable.told() == str(running_program().digest)


@pytest.mark.parametrize(
    "name",
    ["bundler/line.pem", "runtime/secrets.env", "manifests/notes.txt", "manifests/notes.md", "runtime/weights.onnx",
     "bundler/core.1234", "bundler/kits/installer/line.pem", "runtime/key", "manifests/examples/mine/line.yaml"],
)  # fmt: skip
def test_a_file_that_is_not_the_programs_is_named_and_not_carried(editable: Editable, name: str) -> None:
    (editable.checkout / name).parent.mkdir(exist_ok=True)
    (editable.checkout / name).write_text("private")
    assert f"{editable.checkout / name} is not a file of this program" in editable.told()


@pytest.mark.parametrize("name", ["runtime/shadow.txt", "runtime/shadow.py", "runtime/shadow"])
@pytest.mark.parametrize("there", ["outside.py", "outside", "nowhere"])
def test_a_link_in_a_checkout_is_refused_wherever_it_leads(editable: Editable, name: str, there: str) -> None:
    (editable.checkout / "outside").mkdir()
    (editable.checkout / "outside.py").write_text("secret")
    (editable.checkout / name).symlink_to(editable.checkout / there)
    assert f"{editable.checkout / name} is a symbolic link" in editable.told()


def test_a_pipe_in_a_checkout_is_refused_and_not_waited_for(editable: Editable) -> None:
    os.mkfifo(editable.checkout / "runtime" / "pipe.py")
    assert "pipe.py is not a file of this program" in editable.told()


def test_the_code_of_another_folder_never_goes_under_the_name_of_the_installed_one(
    tmp_path: Path, editable: Editable
) -> None:
    other = tmp_path / "elsewhere"
    shutil.copytree(editable.checkout, other)
    told = wheel_of(editable.site, other).decode()
    assert f"not the one that is installed: bundler comes from {other}" in told
    shutil.rmtree(editable.checkout / "runtime")
    (editable.checkout / "runtime").symlink_to(other / "runtime")
    assert f"runtime comes from {other}" in editable.told()


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ('version = "', 'version = "9.', "another version"),
        ('"msgspec>=', '"msgspec!=1,>=', "another list of dependencies"),
        ('"onnxruntime>=', '"onnxruntime>=0.', "another list of dependencies"),
        ('requires-python = ">=3', 'requires-python = ">3', "another range of Pythons"),
        ("\ncpu = [", "\nnew = []\ncpu = [", "another list of extras"),
        ("[project]", "[project", "cannot be understood"),
        ("[project]", "[nothing]", "cannot be understood"),
    ],
)
def test_a_checkout_that_was_changed_since_its_install_says_install_it_again(
    editable: Editable, before: str, after: str, words: str
) -> None:
    text = (PROJECT / "pyproject.toml").read_text()
    (editable.checkout / "pyproject.toml").write_text(text.replace(before, after, 1))
    told = editable.told()
    assert words in told
    assert "pip install -e ." in told


@pytest.mark.environments
def test_the_wheel_is_the_one_that_pip_builds_and_pip_installs_it(tmp_path: Path) -> None:
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", "--quiet", "--no-deps", "--wheel-dir", tmp_path, PROJECT], check=True)
    (built,) = tmp_path.glob("*.whl")
    ours = running_program()
    assert ours.file == built.name
    assert members(ours.content) == members(built.read_bytes())
    subprocess.run([*pip, "install", "--quiet", "--no-deps", "--target", tmp_path / "first", built], check=True)
    with zipfile.ZipFile(built) as opened:
        *names, record = opened.namelist()
        same = program.wheel_of({name: opened.read(name) for name in names}, record=record)
    assert wheel_of(tmp_path / "first") == str(Digest.of(same)).encode()
    (tmp_path / "ours").mkdir()
    (tmp_path / "ours" / ours.file).write_bytes(ours.content)
    install = [*pip, "install", "--quiet", "--no-deps", "--no-index", "--target", tmp_path / "second"]
    subprocess.run([*install, tmp_path / "ours" / ours.file], check=True)
    assert wheel_of(tmp_path / "second") == str(ours.digest).encode()


def members(content: bytes) -> dict[str, bytes]:
    """What must be equal: all but what the builder says of itself, and the long text of the README."""
    with zipfile.ZipFile(io.BytesIO(content)) as opened:
        found = {name: opened.read(name) for name in opened.namelist()}
    (metadata,) = (name for name in found if name.endswith("/METADATA"))
    found[metadata] = found[metadata].partition(b"\n\n")[0]
    return {name: text for name, text in found.items() if not name.endswith((".dist-info/WHEEL", "/RECORD"))}


# --- the folder


def test_a_kit_has_all_that_it_lists_and_lists_all_that_it_has(tmp_path: Path, house: Path) -> None:
    done = made(tmp_path / "kit", order(house, extras=["serve", "cpu"], keys=(key_file(tmp_path / "line.pub.pem"),)))
    digests = {
        name: Digest.of(content) for name, content in tree(tmp_path / "kit").items() if isinstance(content, bytes)
    }
    sums = (tmp_path / "kit" / "SHA256SUMS").read_bytes()
    assert done.fingerprint == Digest.of(sums) == digests.pop("SHA256SUMS")
    assert kit.decode_sums(sums, subject="") == digests
    described = kit.check(digests, description=(tmp_path / "kit/kit.json").read_bytes(), sums=sums, subject="")
    assert described == done.kit
    assert (described.platform, described.python, described.extras) == (LINUX, "3.11", ("cpu", "serve"))
    names = [each.name for each in described.wheels]
    assert {"pip", "numpy", "onnxruntime", "starlette", "offline-bundle"} <= set(names)
    rows = (tmp_path / "kit" / "requirements.txt").read_text().splitlines()
    assert [row.partition("==")[0].partition("[")[0] for row in rows] == names
    assert any(row.startswith("offline-bundle[cpu,serve]==") for row in rows)
    assert all("--hash=sha256:" in row for row in rows)


def test_the_kit_is_checked_with_sha256sum_alone(tmp_path: Path, house: Path) -> None:
    done = made(tmp_path / "kit", order(house))
    said = subprocess.run(["sha256sum", "SHA256SUMS"], cwd=done.path, capture_output=True, text=True, check=True)
    assert said.stdout.split()[0] == done.fingerprint.hex
    subprocess.run(["sha256sum", "-c", "--quiet", "SHA256SUMS"], cwd=done.path, check=True)


def test_extras_decide_what_goes_along(tmp_path: Path, house: Path) -> None:
    names = {each.name for each in made(tmp_path / "kit", order(house)).kit.wheels}
    assert not names & {"onnxruntime", "starlette", "uvicorn"}
    assert {"numpy", "pip"} <= names


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_the_same_program_wheels_and_keys_give_the_same_bytes_and_modes(
    tmp_path: Path, house: Path, umask: int
) -> None:
    keys = (key_file(tmp_path / "b.pub.pem", 2), key_file(tmp_path / "a.pub.pem", 1))
    made(tmp_path / "one", order(house, keys=keys))
    before = os.umask(umask)
    try:
        made(tmp_path / "two", order(house, keys=keys[::-1]), store="another store")
    finally:
        os.umask(before)
    assert tree(tmp_path / "one") == tree(tmp_path / "two")
    assert modes(tmp_path / "one") == modes(tmp_path / "two")
    assert modes(tmp_path / "one")["install.sh"] == 0o755
    assert set(modes(tmp_path / "one").values()) == {0o644, 0o755}


def modes(folder: Path) -> dict[str, int]:
    return {str(path.relative_to(folder)): stat.S_IMODE(path.stat().st_mode) for path in folder.rglob("*")}


def test_the_page_says_what_to_type_whom_to_ask_and_what_is_needed(tmp_path: Path, house: Path) -> None:
    signer = elliptic_signer()
    done = made(tmp_path / "kit", order(house, keys=(key_file(tmp_path / "line.pub.pem"),)))
    page = (tmp_path / "kit" / "README.txt").read_text()
    for text in (
        signer.key.fingerprint,
        signer.key.words,
        "sha256sum SHA256SUMS",
        "sh install.sh",
        *readme.needs(done.kit),
    ):
        assert text in page
    assert "bundle trust init --key trust/line.pub.pem" in page
    assert "$" not in page
    assert max(map(len, page.splitlines())) <= 120


def test_a_kit_for_windows_says_it_in_the_words_of_windows(tmp_path: Path, house: Path) -> None:
    put_wheel(house, "colorama", "0.4.6")
    made(tmp_path / "kit", order(house, platform="win_amd64"))
    page = (tmp_path / "kit" / "README.txt").read_text()
    assert "install.ps1" in page
    assert "install.sh" not in page


# --- keys and extras


def test_a_private_key_is_refused_before_anything_is_made(tmp_path: Path, house: Path) -> None:
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    private = ec.generate_private_key(ec.SECP256R1())
    (tmp_path / "line.pem").write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    with pytest.raises(KeyFileError, match="is a private key"):
        made(tmp_path / "kit", order(house, keys=(tmp_path / "line.pem",)))
    assert not (tmp_path / "kit").exists()


@pytest.mark.parametrize(("content", "words"), [(b"hello", "not a public key"), (None, "No such file")])
def test_what_is_no_key_is_refused(tmp_path: Path, content: bytes | None, words: str) -> None:
    if content is not None:
        (tmp_path / "x.pem").write_bytes(content)
    with pytest.raises(KeyFileError, match=words):
        making.trusted_keys([tmp_path / "x.pem"])


def test_a_pipe_is_no_key_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "line.pub.pem")
    with pytest.raises(KeyFileError, match="not a plain file"):
        making.trusted_keys([tmp_path / "line.pub.pem"])


@pytest.mark.parametrize("name", ["line\n.pub.pem", "what?.pem", "\x1b[2J.pem", "con.pub.pem"])
def test_a_key_whose_name_no_kit_can_have_says_what_to_do_with_the_key(tmp_path: Path, name: str) -> None:
    with pytest.raises(KeyFileError, match="no kit can have") as caught:
        making.trusted_keys([key_file(tmp_path / name)])
    assert "manifest" not in str(caught.value) + caught.value.hint
    assert "line.pub.pem" in caught.value.hint


def test_two_keys_of_one_name_are_refused_and_the_same_key_twice_is_not(tmp_path: Path) -> None:
    for folder, number in (("a", 1), ("b", 2), ("c", 1)):
        (tmp_path / folder).mkdir()
        key_file(tmp_path / folder / "line.pub.pem", number)
    key_file(tmp_path / "LINE.pub.pem", 2)
    same = making.trusted_keys([tmp_path / "a/line.pub.pem", tmp_path / "c/line.pub.pem"])
    assert list(same) == ["line.pub.pem"]
    for other in ("b/line.pub.pem", "LINE.pub.pem"):
        with pytest.raises(KeyFileError, match="two keys"):
            making.trusted_keys([tmp_path / "a/line.pub.pem", tmp_path / other])


def test_an_edwards_key_may_go_along(tmp_path: Path) -> None:
    (tmp_path / "ed.pem").write_bytes(edwards_signer().key.pem)
    assert list(making.trusted_keys([tmp_path / "ed.pem"])) == ["ed.pub.pem"]


OFFERED = ("build", "cpu", "dev", "gpu", "serve")


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (["server"], "has no extra 'server'"),
        (["cpu", "gpu"], "cpu and gpu break each other"),
        (["dev"], "for a checkout"),
    ],
)
def test_an_extra_that_cannot_be_is_refused_and_the_others_are_named(asked: list[str], words: str) -> None:
    with pytest.raises(ManifestError, match=words) as caught:
        making.checked_extras(asked, OFFERED)
    assert "serve" in caught.value.hint


def test_extras_are_spelled_in_any_way() -> None:
    assert making.checked_extras(["Serve", " cpu", "", "cpu"], OFFERED) == ("cpu", "serve")


# --- what is in the way


def test_an_older_kit_is_replaced_whole(tmp_path: Path, house: Path) -> None:
    first = made(tmp_path / "kit", order(house, extras=["serve"]))
    second = made(tmp_path / "kit", order(house))
    assert first.fingerprint != second.fingerprint
    assert not list((tmp_path / "kit" / "wheels").glob("starlette*"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["house", "kit", "store"]


def occupied(folder: Path) -> Iterator[tuple[str, str]]:
    """Names of things that are in the way, and what is said of them."""
    (folder / "file").write_text("mine")
    yield "file", "is not a kit"
    (folder / "photos").mkdir()
    (folder / "photos" / "one.jpg").write_text("mine")
    yield "photos", "is not a kit"
    small_kit(folder / "with bundle")
    (folder / "with bundle" / "line-1.bundle").write_text("mine")
    yield "with bundle", "holds other files as well: line-1.bundle"
    small_kit(folder / "damaged")
    (folder / "damaged" / "SHA256SUMS").write_text("nothing of the kind")
    yield "damaged", "not a whole kit"
    yield "/", "cannot be replaced|is not a kit"


def test_what_is_not_a_kit_is_never_replaced(tmp_path: Path, house: Path) -> None:
    here = tmp_path / "here"
    here.mkdir()
    for name, words in occupied(here):
        before = tree(here)
        with pytest.raises(StorageError, match=words):
            made(here / name, order(house))
        assert tree(here) == before


def test_an_empty_folder_and_a_link_to_a_kit_may_be_named(tmp_path: Path, house: Path) -> None:
    (tmp_path / "empty").mkdir()
    made(tmp_path / "empty", order(house, extras=["serve"]))
    (tmp_path / "link").symlink_to("empty")
    made(tmp_path / "link", order(house))
    assert (tmp_path / "link").is_symlink()
    assert not list((tmp_path / "empty" / "wheels").glob("starlette*"))


@pytest.mark.parametrize("place", ["store", "store/kit", "store/deep/kit", "link/kit", "new/../store/kit"])
def test_a_kit_never_lies_in_the_store_nor_the_store_in_a_kit(tmp_path: Path, house: Path, place: str) -> None:
    here = tmp_path / "here"
    here.mkdir()
    (here / "link").symlink_to("store")
    with pytest.raises(StorageError, match="lie in one another"):
        make(here / place, order(house), hasty(here / "store"), Silent())
    with pytest.raises(StorageError, match="lie in one another"):
        make(here / "new", order(house), hasty(here / "new" / "store"), Silent())
    assert not (here / "store").exists()
    assert not (here / "new").exists()


def test_a_kit_that_fails_half_way_leaves_the_older_one(tmp_path: Path) -> None:
    done = small_kit(tmp_path / "kit")
    before = tree(tmp_path)
    described = kit.decode((done / "kit.json").read_bytes(), subject="")

    def breaks() -> Iterator[bytes]:
        yield b"half a wheel"
        raise KeyboardInterrupt

    for pieces, error in ((breaks(), KeyboardInterrupt), (iter([b"another wheel"]), CorruptStoreError)):
        contents = {each.file: pieces for each in described.wheels}
        with pytest.raises(error):
            writing.write(done, described, contents, {})
        assert tree(tmp_path) == before


def test_what_a_killed_run_left_is_swept(tmp_path: Path, house: Path) -> None:
    made(tmp_path / "kit", order(house, extras=["serve"]))
    before = tree(tmp_path / "kit")
    (tmp_path / "kit").rename(tmp_path / ".kit.replaced")  # killed between its two renames
    (tmp_path / ".kit.partial").mkdir()
    (tmp_path / ".kit.partial" / "half").write_text("half")
    done = made(tmp_path / "kit", order(house, extras=["serve"]))
    assert tree(done.path) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["house", "kit", "store"]


# --- where the wheels come from


def test_a_wheel_that_nobody_has_is_named_and_nothing_is_made(tmp_path: Path) -> None:
    house = wheelhouse(tmp_path / "house", without="msgspec")
    with pytest.raises(SourceNotFoundError, match="msgspec"):
        made(tmp_path / "kit", order(house))
    assert not (tmp_path / "kit").exists()


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"platform": "amiga"}, "amiga"), ({"python": "3.9"}, "3.9"), ({"python": "3"}, "'3'")],
)
def test_a_target_that_cannot_be_is_refused(tmp_path: Path, changes: dict[str, object], words: str) -> None:
    with pytest.raises(ManifestError, match=words):
        made(tmp_path / "kit", order(**changes))  # type: ignore[arg-type]


def test_the_requirements_of_an_earlier_kit_give_that_kit_again(tmp_path: Path, house: Path) -> None:
    made(tmp_path / "first", order(house, extras=["serve"]))
    put_wheel(house, "tqdm", "99.0")
    newer = made(tmp_path / "newer", order(house, extras=["serve"]))
    assert "99.0" in [each.version for each in newer.kit.wheels]
    earlier = tmp_path / "first" / "requirements.txt"
    made(tmp_path / "again", order(house, extras=["serve"], constraints=earlier))
    assert tree(tmp_path / "again") == tree(tmp_path / "first")


@pytest.mark.parametrize("content", [None, b"\xff\xfe\x00", b"numpy>=1\n"])
def test_constraints_that_say_nothing_are_refused(tmp_path: Path, house: Path, content: bytes | None) -> None:
    path = tmp_path / "c.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ManifestError, match=r"c\.txt"):
        made(tmp_path / "kit", order(house, constraints=path))


def test_constraints_that_begin_with_a_mark_are_read_and_what_they_do_not_name_is_told(
    tmp_path: Path, house: Path
) -> None:
    made(tmp_path / "first", order(house))
    rows = (tmp_path / "first" / "requirements.txt").read_text().splitlines()
    kept = "\r\n".join(row for row in rows if not row.startswith(("numpy", "pip")))
    (tmp_path / "c.txt").write_bytes(b"\xef\xbb\xbf" + kept.encode())
    notes = Notes()
    make(tmp_path / "kit", order(house, constraints=tmp_path / "c.txt"), hasty(tmp_path / "store"), notes)
    assert notes.told == [f"{tmp_path / 'c.txt'} does not name, so that the newest is taken: numpy, pip"]
    assert tree(tmp_path / "kit") == tree(tmp_path / "first")


def test_a_wheel_that_is_not_what_the_index_says_has_a_way_out_that_fits(tmp_path: Path, house: Path) -> None:
    files = {path.name: path.read_bytes() for path in house.iterdir()}
    (name,) = (name for name in files if name.startswith("numpy"))
    index = Index(files, digests={name: "ab" * 32}, metadata={name: members_of(files[name], "METADATA")})
    with serving(index.answer) as url:
        settings = hasty(tmp_path / "store", packages=PackageIndexes((f"{url}/simple",)))
        with pytest.raises(DigestMismatchError, match=name) as caught:
            make(tmp_path / "kit", order(), settings, Silent())
    assert "lock" not in caught.value.hint
    assert "--find-links" in caught.value.hint
    assert not (tmp_path / "kit").exists()


def members_of(content: bytes, suffix: str) -> bytes:
    with zipfile.ZipFile(io.BytesIO(content)) as opened:
        (name,) = (name for name in opened.namelist() if name.endswith(suffix))
        return opened.read(name)


@pytest.mark.parametrize("member", ["pip/__init__.py", "xpip/__main__.py", "__main__.py"])
def test_a_pip_that_cannot_run_never_gets_into_a_kit(tmp_path: Path, house: Path, member: str) -> None:
    described = "Metadata-Version: 2.1\nName: pip\nVersion: 99.0\n"
    with zipfile.ZipFile(house / "pip-99.0-py3-none-any.whl", "w") as opened:
        opened.writestr(member, "")
        opened.writestr("pip-99.0.dist-info/METADATA", described)
    with pytest.raises(SourceError, match=r"pip-99\.0-py3-none-any\.whl has no pip/__main__\.py"):
        made(tmp_path / "kit", order(house))
    assert not (tmp_path / "kit").exists()


def test_a_wheel_is_fetched_once_for_any_number_of_kits(tmp_path: Path, house: Path) -> None:
    index = Index({path.name: path.read_bytes() for path in house.iterdir()}, as_json=True)
    with serving(index.answer) as url:
        settings = hasty(tmp_path / "store", packages=PackageIndexes((f"{url}/simple",)))
        make(tmp_path / "one", order(), settings, Silent())
        fetched = [path for path in index.asked if path.startswith("/files/")]
        make(tmp_path / "two", order(), settings, Silent())
    assert len(set(fetched)) == len(fetched) > 5
    assert [path for path in index.asked if path.startswith("/files/")] == fetched
    assert tree(tmp_path / "one") == tree(tmp_path / "two")


class Notes(Silent):
    """Remembers what was told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def note(self, text: str) -> None:
        self.told.append(text)


def test_a_damaged_store_is_mended_on_the_way(tmp_path: Path, house: Path) -> None:
    first, notes = made(tmp_path / "first", order(house)), Notes()
    chunks = [path for path in (tmp_path / "store" / "chunks").rglob("*") if path.is_file()]
    for path in chunks:
        path.chmod(0o644)
        path.write_bytes(path.read_bytes()[:-1] + b"?")
    second = make(tmp_path / "second", order(house), hasty(tmp_path / "store"), notes)
    assert second.fingerprint == first.fingerprint
    assert "fetching what is damaged again" in notes.told[-1]


# --- the command


def bundle(folder: Path, *arguments: object, code: int = 0, **variables: str) -> str:
    """Run the program with no index; its stdout, or its stderr where it must fail."""
    environment = {
        **os.environ,
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_NO_INDEX": "1",
        "BUNDLE_STORE": str(folder / "store"),
    }
    environment.pop("PIP_FIND_LINKS", None)
    done = subprocess.run(
        [sys.executable, "-m", "bundler", *map(str, arguments)],
        cwd=folder, env={**environment, **variables}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout if code == 0 else done.stderr


def test_the_command_says_what_was_made_what_is_needed_and_what_to_read_out(tmp_path: Path, house: Path) -> None:
    key_file(tmp_path / "line.pub.pem")
    given = ["--find-links", "house", "--root-of-trust", "line.pub.pem", "--python", "3.11"]
    said = bundle(tmp_path, "kit", "-o", "kit", *given)
    fingerprint = str(Digest.of((tmp_path / "kit" / "SHA256SUMS").read_bytes()))
    for text in (
        fingerprint,
        "over the phone",
        "glibc 2.28",
        "CPython 3.11",
        elliptic_signer().key.words,
        "install.sh",
    ):
        assert text in said
    document = json.loads(bundle(tmp_path, "kit", "-o", "kit", *given, "--json", "-q"))
    assert document["fingerprint"] == fingerprint
    assert document["extras"] == ["cpu", "serve"]
    assert document["keys"][0]["words"] == elliptic_signer().key.words


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        (["--extra", "serve,nope"], ManifestError, "no extra 'nope'"),
        (["--extra", "cpu", "--extra", "gpu"], ManifestError, "break each other"),
        (["--platform", "solaris"], ManifestError, "solaris"),
        (["--root-of-trust", "missing.pub.pem"], KeyFileError, "missing.pub.pem"),
        (["--extra", "gpu"], SourceNotFoundError, "onnxruntime-gpu"),
    ],
)
def test_misuse_has_its_words_and_its_exit_code(
    tmp_path: Path, house: Path, arguments: list[str], error: type[BundleError], words: str
) -> None:
    given = ["--find-links", "house", "--python", "3.11", *arguments]
    assert words in bundle(tmp_path, "kit", "-o", "kit", *given, code=error.exit_code)


def test_find_links_that_are_not_there_and_a_missing_out_are_usage_errors(tmp_path: Path) -> None:
    assert "does not exist" in bundle(tmp_path, "kit", "-o", "kit", "--find-links", "nowhere", code=2)
    assert "'--out'" in bundle(tmp_path, "kit", code=2)
