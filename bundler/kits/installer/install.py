"""Installs the kit that this file lies in. `install.sh` and `install.ps1` only find a Python.

    DIR/.offline-bundle              says that DIR is ours; held locked while an installer is at work
    DIR/environments/<kit>/          a virtual environment a kit; SHA256SUMS in it, written last, says that it is whole
    DIR/bin/bundle                   the program: a link into one environment (bundle.cmd on Windows)

* Standard library only, and plain enough that an older Python can say what is wrong.
* Nothing is switched before the new program has answered; until then, and after a power cut, the old one does.
* Nothing is written into the kit, nothing is asked of a network, and no setting of this machine's pip is heard.
* Whom to trust is for a person to say: keys are shown, never trusted.
"""
# ruff: noqa: T201 - a program of its own, with no other way to speak

from __future__ import annotations

import argparse
import base64
import hashlib
import importlib.util
import json
import os
import platform
import re
import shlex
import shutil
import struct
import subprocess
import sys
import sysconfig
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator
if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

IS_WINDOWS = os.name == "nt"
SUMS = "SHA256SUMS"
OURS = ".offline-bundle"
LEFT_BY_OTHERS = re.compile(
    r"\._.*|\.DS_Store|Thumbs\.db|desktop\.ini|System Volume Information|\$RECYCLE\.BIN|lost\+found"
    r"|\.Trash.*|\.Spotlight-V100|\.fseventsd",
    re.IGNORECASE,
)
"""What file systems and desktops put into a folder unasked."""
PROBES = {"serve": "cv2", "cpu": "onnxruntime", "gpu": "onnxruntime"}
"""What each extra must be able to load."""
LIMIT = 1 << 20
"""Bytes of `kit.json` and of `SHA256SUMS`."""
INTERRUPTED = 130


class Refusal(Exception):  # noqa: N818 - not always an error: the machine may be another
    """What stops the installer, in words for its user."""


class Machine(NamedTuple):
    """What the Python that runs this, and its machine, are."""

    implementation: str
    version: tuple[int, int]
    bits: int
    free_threaded: bool
    system: str
    processor: str
    libc: str
    modules: frozenset[str]

    @classmethod
    def here(cls) -> Machine:
        """This one."""
        return cls(
            platform.python_implementation(),
            sys.version_info[:2],
            8 * struct.calcsize("P"),
            bool(sysconfig.get_config_var("Py_GIL_DISABLED")),
            platform.system(),
            platform.machine(),
            _libc(),
            frozenset(name for name in ("venv", "zlib") if importlib.util.find_spec(name)),
        )


class Kit(NamedTuple):
    """The kit, as `kit.json` says it and as it lies there."""

    folder: Path
    fingerprint: str
    program: str
    python: str
    platform: str
    extras: tuple[str, ...]
    pip: str

    @classmethod
    def read(cls, folder: Path) -> Kit:
        """The kit in `folder`. Errors: `Refusal`."""
        try:
            value: dict[str, Any] = json.loads(_read(folder / "kit.json"))
            pip = [wheel["file"] for wheel in value["wheels"] if wheel["name"] == "pip"]
            digest = hashlib.sha256(_read(folder / SUMS)).hexdigest()
            fields = [str(value[name]) for name in ("program", "python", "platform")]
            kit = cls(folder, digest, fields[0], fields[1], fields[2], tuple(map(str, value["extras"])), str(pip[0]))
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise Refusal(f"{folder} is not a whole kit: {error}; copy it again") from error
        if not re.fullmatch(r"[A-Za-z0-9.+!_-]+", kit.program) or not re.fullmatch(r"[A-Za-z0-9.+_-]+", kit.pip):
            raise Refusal(f"{folder} is not a kit: its kit.json has names that cannot be")
        return kit

    @property
    def name(self) -> str:
        """What its environment is called."""
        return f"{self.program}-{self.fingerprint[:8]}"


def main(arguments: list[str]) -> int:
    """Check and install; 0 if all is well."""
    parser = argparse.ArgumentParser("install", description="Install the program of this kit, with no network.")
    parser.add_argument("folder", nargs="?", metavar="DIR", help=f"where to  [default: {_default_place()}]")
    parser.add_argument("--check", action="store_true", help="check this machine and the kit, and change nothing")
    given = parser.parse_args(arguments)
    folder = Path(__file__).resolve().parent
    try:
        problems = file_problems(folder)
        kit = Kit.read(folder)
        print(f"kit          offline-bundle {kit.program} for {kit.platform}, Python {kit.python}")
        print(f"fingerprint  sha256:{kit.fingerprint}")
        problems = machine_problems(kit.python, kit.platform, Machine.here()) + problems
        if problems:
            raise Refusal("\nerror: ".join(problems))
        if given.check:
            print("the kit is whole, and this machine can run it")
            return 0
        install(kit, Path(given.folder or _default_place()).expanduser().absolute())
    except Refusal as refusal:
        print(f"error: {refusal}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"error: {error.filename or given.folder}: {error.strerror or error}", file=sys.stderr)
        print("\nhint: name a folder that you may write to: install.sh DIR", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; nothing was switched, and the same command begins anew", file=sys.stderr)
        return INTERRUPTED
    return 0


def machine_problems(python: str, target: str, machine: Machine) -> list[str]:
    """Why a kit for this Python (`3.11`) and platform tag cannot run on `machine`."""
    version = "{}.{}".format(*machine.version)
    found = []
    if machine.implementation != "CPython" or machine.free_threaded:
        kind = "a free-threaded one" if machine.free_threaded else machine.implementation
        found.append(f"this kit is for plain CPython, and {sys.executable} is {kind}")
    if version != python:
        found.append(
            f"this kit is for Python {python}, and {sys.executable} is {version}: install Python {python}, "
            "or say where one is: PYTHON=/path/to/python sh install.sh"
        )
    if machine.bits != 64:
        found.append(f"this kit is for a 64-bit Python, and {sys.executable} has {machine.bits} bits")
    found += [
        f"{sys.executable} lacks its module {name}: install the package of Python {python} that has it"
        for name in sorted({"venv", "zlib"} - machine.modules)
    ]
    return found + _platform_problems(target, machine)


def _platform_problems(target: str, machine: Machine) -> list[str]:
    here = f"{machine.system} on {machine.processor}"
    linux = re.fullmatch(r"manylinux_(\d+)_(\d+)_(\w+)", target)
    if linux is None:
        known = {"win_amd64": ("Windows", "AMD64"), "win_arm64": ("Windows", "ARM64")}
        if apple := re.fullmatch(r"macosx_\d+_\d+_(\w+)", target):
            known[target] = ("Darwin", apple[1])
        same = known.get(target) == (machine.system, machine.processor)
        return [] if same else [f"this kit is for {target}, and this machine is {here}"]
    if machine.system != "Linux" or machine.processor != linux[3]:
        return [f"this kit is for Linux on {linux[3]}, and this machine is {here}"]
    needed = (int(linux[1]), int(linux[2]))
    has = re.fullmatch(r"glibc (\d+)\.(\d+).*", machine.libc)
    if has is None:
        return [f"this kit needs the C library glibc {needed[0]}.{needed[1]}, and this machine has another (musl?)"]
    if (int(has[1]), int(has[2])) < needed:
        return [f"this kit needs glibc {needed[0]}.{needed[1]} or later, and this machine has {machine.libc}"]
    return []


def file_problems(folder: Path) -> list[str]:
    """What of the kit is missing, damaged, or not on its list."""
    try:
        rows = [line.split("  ", 1) for line in _read(folder / SUMS).decode().splitlines()]
        listed = {path: digest for digest, path in rows}
    except (OSError, ValueError) as error:
        return [f"{SUMS} cannot be read ({error}): copy the kit again"]
    found, seen = [], set()
    for name, path in _files(folder):
        seen.add(name)
        if name not in listed:
            found.append(f"{name} is no part of this kit: take it out")
        elif path.is_symlink() or not path.is_file() or _digest(path) != listed[name]:
            found.append(f"{name} is damaged: copy the kit again")
    return found + [f"{name} is missing: copy the kit again" for name in sorted(set(listed) - seen)]


def _files(folder: Path) -> Iterator[tuple[str, Path]]:
    """Every file but the list itself; a link is a file."""
    for top, folders, names in os.walk(folder):
        links = [name for name in folders if Path(top, name).is_symlink()]
        folders[:] = sorted(name for name in folders if not LEFT_BY_OTHERS.fullmatch(name) and name not in links)
        for name in sorted(names + links):
            path = Path(top, name)
            if not LEFT_BY_OTHERS.fullmatch(name) and path != folder / SUMS:
                yield path.relative_to(folder).as_posix(), path


def install(kit: Kit, place: Path) -> None:
    """Make the kit's environment in `place` unless it is there, and switch to it once its program has answered."""
    if kit.folder in (place, *place.parents):
        raise Refusal(f"{place} lies in the kit, which stays as it is: name another folder")
    os.umask(0o022)
    with claimed(place):
        environment = place / "environments" / kit.name
        before = active(place)
        if _is_finished(environment, kit) and not objections(environment, kit):
            print(f"already installed in {environment}")
        else:
            make(environment, kit)
        if before != environment.name:
            switch(place, environment)
        _tell(kit, place, environment, before)


@contextmanager
def claimed(place: Path) -> Iterator[None]:
    """`place` is ours, and nobody else's installer is at work in it."""
    place.mkdir(parents=True, exist_ok=True)
    marker = place / OURS
    others = sorted(each.name for each in place.iterdir() if not LEFT_BY_OTHERS.fullmatch(each.name))
    if others and OURS not in others:
        raise Refusal(f"{place} holds other things ({', '.join(others[:3])}): name a new or an empty folder")
    with marker.open("ab") as stream:
        _lock(stream.fileno(), place)
        _sync_folder(place)
        for leftover in place.glob("bin/.*.partial"):
            leftover.unlink()
        yield


def make(environment: Path, kit: Kit) -> None:
    """A whole environment under this name, or none. Errors: `Refusal`."""
    if os.path.lexists(environment):
        print(f"removing what an installer that was stopped left in {environment}")
        _remove(environment)
    print(f"making {environment}")
    try:
        import venv  # noqa: PLC0415 - a Python without it is told so before

        venv.EnvBuilder(symlinks=not IS_WINDOWS).create(environment)
        _run_pip(environment, kit)
        if why := objections(environment, kit):
            raise Refusal(f"{why}\nnothing was switched")
        _finish(environment, kit)
    except BaseException:
        with suppress(OSError):
            _remove(environment)
        raise


def _run_pip(environment: Path, kit: Kit) -> None:
    """The kit's own pip, run out of its wheel: this machine's may be old, changed, or not there."""
    wheels = kit.folder / "wheels"
    options = ["--no-index", "--require-hashes", "--only-binary", ":all:", "--find-links", str(wheels)]
    options += ["--no-cache-dir", "--no-input", "--disable-pip-version-check", "--no-warn-script-location", "--quiet"]
    command = [str(_program(environment, "python")), "-I", str(wheels / kit.pip / "pip"), "install", *options]
    command += ["-r", str(kit.folder / "requirements.txt")]
    if subprocess.run(command, env=_clean(), cwd=environment, check=False).returncode != 0:  # noqa: S603 - our own words
        raise Refusal("pip could not install the kit: see the lines above; nothing was switched")


def objections(environment: Path, kit: Kit) -> str:
    """Why the program in `environment` does not answer; empty if it does."""
    modules = ["manifests.bundle", *sorted({PROBES[extra] for extra in kit.extras if extra in PROBES})]
    code = "import importlib, sys\nfor name in sys.argv[1:]: importlib.import_module(name)"
    asked = [str(_program(environment, "bundle")), "--version"]
    for command in (asked, [str(_program(environment, "python")), "-I", "-c", code, *modules]):
        try:
            done = subprocess.run(command, env=_clean(), cwd=environment, capture_output=True, text=True, check=False)  # noqa: S603 - our own words
        except OSError as error:
            return f"the new program does not start: {command[0]}: {error.strerror}"
        if done.returncode != 0:
            return f"the new program does not answer: {(done.stderr.strip() or 'no word').splitlines()[-1]}"
        if command is asked and kit.program not in done.stdout.split():
            return f"the new program says {done.stdout.strip()!r}, and not {kit.program}"
    return ""


def _finish(environment: Path, kit: Kit) -> None:
    """All of it on the disk, and only then the mark that says so."""
    shutil.copyfile(kit.folder / "kit.json", environment / "kit.json")
    if not IS_WINDOWS:
        os.sync()
    fresh = environment / f".{SUMS}.partial"
    with fresh.open("wb") as stream:
        stream.write(_read(kit.folder / SUMS))
        stream.flush()
        os.fsync(stream.fileno())
    fresh.replace(environment / SUMS)
    _sync_folder(environment)


def _is_finished(environment: Path, kit: Kit) -> bool:
    try:
        return hashlib.sha256(_read(environment / SUMS)).hexdigest() == kit.fingerprint
    except (OSError, ValueError):
        return False


def active(place: Path) -> str | None:
    """The environment that `bundle` leads to; None if there is none yet."""
    try:
        text = (place / "bin" / "bundle.cmd").read_text() if IS_WINDOWS else str((place / "bin" / "bundle").readlink())
    except OSError:
        return None
    parts = re.split(r"[\\/]", text)
    return parts[parts.index("environments") + 1] if "environments" in parts[:-1] else None


def switch(place: Path, environment: Path) -> None:
    """Make `bundle` lead to `environment`, in one step."""
    folder = place / "bin"
    folder.mkdir(exist_ok=True)
    name = "bundle.cmd" if IS_WINDOWS else "bundle"
    fresh = folder / f".{name}.partial"
    inner = os.path.relpath(_program(environment, "bundle"), folder)
    if IS_WINDOWS:
        fresh.write_text(f'@"%~dp0{inner}" %*\n')
    else:
        fresh.symlink_to(inner)
    fresh.replace(folder / name)
    _sync_folder(folder)


def _tell(kit: Kit, place: Path, environment: Path, before: str | None) -> None:
    if before == environment.name:
        print(f"offline-bundle {kit.program} was active already: nothing to do")
    else:
        print(f"offline-bundle {kit.program} is active in {place}")
    if before not in {None, environment.name}:
        print(f"before, it was {before}: to go back, run the installer of that kit")
    print(f"Python with it: {_program(environment, 'python')}")
    keys = sorted((kit.folder / "trust").glob("*.pub.pem"))
    for key in keys:
        print(f"key  {key.name}  {_key_fingerprint(key)}")
    print("\nType next (the second line once, after the key's fingerprint was compared over the phone):")
    options = [word for key in keys for word in ("--key", str(key))] or ["--key", "KEY.pub.pem"]
    if IS_WINDOWS:
        print(f'  $env:PATH = "{place / "bin"};$env:PATH"')
        print("  bundle trust init " + " ".join(f'"{word}"' if " " in word else word for word in options))
        return
    print(f'  export PATH={shlex.quote(str(place / "bin"))}:"$PATH"')
    print("  bundle trust init " + " ".join(map(shlex.quote, options)))


def _key_fingerprint(path: Path) -> str:
    """As `bundle` prints it: the digest of the key in DER."""
    body = "".join(line for line in path.read_text().splitlines() if not line.startswith("-----"))
    return f"sha256:{hashlib.sha256(base64.b64decode(body)).hexdigest()}"


def _default_place() -> str:
    if IS_WINDOWS:
        return str(Path(os.environ.get("LOCALAPPDATA") or "~") / "offline-bundle")
    return "/opt/offline-bundle" if os.geteuid() == 0 else "~/.local/opt/offline-bundle"


def _program(environment: Path, name: str) -> Path:
    return environment / "Scripts" / f"{name}.exe" if IS_WINDOWS else environment / "bin" / name


def _clean() -> dict[str, str]:
    """The environment without what changes Python or pip. The null device as configuration: pip reads none at all.

    What is tried reports nothing to anybody: onnxruntime would, as soon as it is loaded.
    """
    dropped = ("PIP_", "PYTHON", "__PYVENV")
    kept = {name: text for name, text in os.environ.items() if not name.upper().startswith(dropped)}
    return {**kept, "PIP_CONFIG_FILE": os.devnull, "ORT_DISABLE_TELEMETRY": "1"}


def _remove(environment: Path) -> None:
    """The mark first: what is half removed is not whole."""
    with suppress(FileNotFoundError):
        (environment / SUMS).unlink()
    if environment.is_symlink() or environment.is_file():
        environment.unlink()
    elif environment.exists():
        shutil.rmtree(environment)


def _lock(descriptor: int, place: Path) -> None:
    try:
        if sys.platform == "win32":
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        raise Refusal(f"another installer is at work in {place}: wait until it has finished") from None
    except OSError:
        return  # a file system without locks


def _sync_folder(folder: Path) -> None:
    if IS_WINDOWS:
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read(path: Path) -> bytes:
    with path.open("rb") as stream:
        content = stream.read(LIMIT + 1)
    if len(content) > LIMIT:
        raise ValueError(f"{path.name} has more than {LIMIT} bytes")
    return content


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        for piece in iter(lambda: stream.read(LIMIT), b""):
            digest.update(piece)
    return digest.hexdigest()


def _libc() -> str:
    try:
        return os.confstr("CS_GNU_LIBC_VERSION") or ""
    except (AttributeError, OSError, ValueError):  # Windows; musl
        return ""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
