"""Installs the kit that this file lies in. `install.sh` and `install.ps1` only find a Python.

    DIR/.offline-bundle              says that DIR is ours; locked while an installer, or a child of one, is at work
    DIR/.kit.partial/                the wheels as they were compared, for pip; gone in the end
    DIR/environments/<kit>[-2]/      a virtual environment a kit; SHA256SUMS in it, written last, says that it is whole
    DIR/bin/bundle                   the program: a script that starts one environment's Python (bundle.cmd on Windows)

* Standard library only, and plain enough that an older Python can say what is wrong.
* The medium is read once. What is used are bytes that were compared: it may answer differently the second time.
* Nothing is switched before the new program has answered, and no finished environment goes before that.
* Nothing is written into the kit, nothing is asked of a network, and no setting of this machine's pip is heard.
* Whom to trust is for a person to say: keys are shown, never trusted.
"""
# ruff: noqa: T201 - a program of its own, with no other way to speak

from __future__ import annotations

import argparse
import base64
import errno
import hashlib
import importlib.util
import io
import json
import os
import platform
import re
import shlex
import shutil
import signal
import stat
import struct
import subprocess
import sys
import sysconfig
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator
if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

IS_WINDOWS = os.name == "nt"
SUMS = "SHA256SUMS"
PROGRAM, PYTHON = "bundle", "bundle-python"
PATIENCE = 180
"""Seconds until a program that is asked for its version counts as one that does not answer."""
OURS = ".offline-bundle"
COPY = ".kit.partial"
AGAIN = "copy the kit again"
LEFT_BY_OTHERS = re.compile(
    r"\._.*|\.DS_Store|Thumbs\.db|desktop\.ini|System Volume Information|\$RECYCLE\.BIN|lost\+found"
    r"|\.Trash.*|\.Spotlight-V100|\.fseventsd",
    re.IGNORECASE,
)
"""What file systems and desktops put into a folder unasked."""
LINE = re.compile(r"([0-9a-f]{64})  (\S.*)")
WORD = r"[A-Za-z0-9][A-Za-z0-9._+!-]{0,63}"
FIELDS = {"program": WORD, "python": r"3\.[1-9][0-9]?", "platform": r"[a-z0-9][a-z0-9_]{0,39}"}
WHEEL = r"wheels/[A-Za-z0-9][A-Za-z0-9._+!-]*\.whl"
UNFIT = "" if IS_WINDOWS else ":'\"`$\\"
"""What neither venv nor the first line of a script can have in a path."""
PROBES = {"serve": "cv2", "cpu": "onnxruntime", "gpu": "onnxruntime", "azure": "azure.storage.blob"}
"""What each extra must be able to load."""
LIMIT = 1 << 20
"""Bytes of a file that is no wheel."""
ALMOST_NOTHING = 1 << 24
"""Free bytes: a disk that has fewer is why pip failed."""


class Refusal(Exception):  # noqa: N818 - not always an error: the machine may be another
    """What stops the installer, in words for its user."""

    @classmethod
    def of(cls, problems: list[str]) -> Refusal:
        """All of them, a line each."""
        return cls("\nerror: ".join(problems))


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
    """The kit: what was read of it, and compared with its `SHA256SUMS`. Only the wheels are still to be read."""

    folder: Path
    sums: bytes
    listed: dict[str, str]
    small: dict[str, bytes]
    wheels: dict[str, int]
    program: str
    python: str
    platform: str
    extras: tuple[str, ...]
    pip: str

    @classmethod
    def read(cls, folder: Path) -> tuple[Kit, list[str]]:
        """The kit in `folder`, and what is missing, damaged, or not on its list. Errors: `Refusal`."""
        sums, listed = _list(folder)
        seen = set(_names(folder))
        problems = [f"{_shown(name)} is no part of this kit: take it out" for name in sorted(seen - set(listed))]
        problems += [f"{name} is missing: {AGAIN}" for name in sorted(set(listed) - seen)]
        small = {}
        for name in sorted(name for name in seen & set(listed) if not name.startswith("wheels/")):
            out = io.BytesIO()
            found = _compare(folder / name, name, listed[name], out, LIMIT)
            problems += found
            if not found:
                small[name] = out.getvalue()
        try:
            value: dict[str, Any] = json.loads(small["kit.json"])
            wheels = {f"wheels/{each['file']}": int(each["size"]) for each in value["wheels"]}
            (pip,) = (each["file"] for each in value["wheels"] if each["name"] == "pip")
            words = [*((FIELDS[name], value[name]) for name in FIELDS), *((WORD, extra) for extra in value["extras"])]
            words += [(WHEEL, name) for name in wheels]
            if not all(re.fullmatch(*pair) for pair in words) or "requirements.txt" not in small:
                raise ValueError
            if wheels.keys() != {name for name in listed if name.startswith("wheels/")}:
                raise ValueError
            program, python, target = (value[name] for name in FIELDS)
        except (ValueError, LookupError, TypeError, ArithmeticError, RecursionError) as error:
            raise Refusal.of(problems or [f"kit.json does not describe this kit: {AGAIN}"]) from error
        return cls(folder, sums, listed, small, wheels, program, python, target, tuple(value["extras"]), pip), problems

    @property
    def fingerprint(self) -> str:
        """Of the list, and so of all that is on it."""
        return hashlib.sha256(self.sums).hexdigest()

    @property
    def name(self) -> str:
        """What its environment is called."""
        return f"{self.program}-{self.fingerprint[:8]}"

    def owns(self, environment: str) -> bool:
        """Whether an environment of this name is of this kit: the second and later ones have a number."""
        return re.fullmatch(re.escape(self.name) + "(-[0-9]+)?", environment) is not None


def main(arguments: list[str]) -> int:
    """Check and install; 0 if all is well."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # in the order of what pip and stderr say, whoever reads
        sys.stdout.reconfigure(line_buffering=True, errors="backslashreplace")
    parser = argparse.ArgumentParser("install", description="Install the program of this kit, with no network.")
    default = _default_place().replace("%", "%%")
    parser.add_argument("folder", nargs="?", metavar="DIR", help=f"where to  [default: {default}]")
    parser.add_argument("--check", action="store_true", help="check this machine and the kit, and change nothing")
    given = parser.parse_args(arguments)
    folder = Path(__file__).resolve().parent
    try:
        kit, problems = Kit.read(folder)
        print(f"kit          offline-bundle {kit.program} for {kit.platform}, Python {kit.python}")
        print(f"fingerprint  sha256:{kit.fingerprint}")
        problems = machine_problems(kit.python, kit.platform, Machine.here()) + problems
        problems += wheel_problems(kit) if given.check else []
        if problems:
            raise Refusal.of(problems)
        if given.check:
            print("the kit is whole, and this machine can run it")
        else:
            install(kit, destination(given.folder))
    except Refusal as refusal:
        print(f"error: {refusal}", file=sys.stderr)
        return 1
    except MemoryError:
        print("error: there is not enough memory; nothing half made is active", file=sys.stderr)
        return 1
    except OSError as error:
        if isinstance(error, BrokenPipeError):  # what is still to be flushed would be a second error
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        where = _shown(error.filename or given.folder or _default_place())
        print(f"error: {where}: {error.strerror or error}\n\nhint: {hint(error, folder)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt as stop:
        print("stopped; nothing half made is active, and the same command begins anew", file=sys.stderr)
        return 128 + next(iter(stop.args), signal.SIGINT)
    return 0


def hint(error: OSError, kit: Path) -> str:
    """What to do about an error of the system's."""
    name = error.filename
    if isinstance(name, (str, Path)) and kit in Path(name).parents:
        return AGAIN
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return "free some space, or name a folder on another disk: install.sh DIR"
    if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
        return "name a folder that you may write to: install.sh DIR"
    if error.errno in {errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP}:
        return "name another folder: install.sh DIR"
    return "nothing half made is active, and the same command begins anew"


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


def destination(given: str | None) -> Path:
    """Where to install, with every link followed: what is judged is where it really is. Errors: `Refusal`."""
    text = _default_place() if given is None else given
    if not text:
        raise Refusal(f"DIR is empty: name a folder, or leave it out for {_default_place()}")
    try:
        place = Path(text).expanduser().resolve()
    except (OSError, RuntimeError, ValueError) as error:  # no home, no such user, a loop, no current folder
        raise Refusal(f"{_shown(text)} leads nowhere ({_shown(error)}): name a folder: install.sh DIR") from error
    if not str(place).isprintable() or set(UNFIT) & set(str(place)):
        raise Refusal(
            f"{_shown(place)}: a program of Python cannot lie there: name a folder without {UNFIT} or controls"
        )
    return place


def wheel_problems(kit: Kit, folder: Path | None = None) -> list[str]:
    """Which wheels are damaged; `folder` gets them as they are compared."""
    found = []
    for name, size in sorted(kit.wheels.items()):
        with (folder / name if folder else Path(os.devnull)).open("wb") as out:
            found += _compare(kit.folder / name, name, kit.listed[name], out, size)
    return found


def _list(folder: Path) -> tuple[bytes, dict[str, str]]:
    """`SHA256SUMS`, and the digests in it by name."""
    out = io.BytesIO()
    try:
        _copy(folder / SUMS, out, LIMIT)
        rows = out.getvalue().decode().split("\n")[:-1]
    except (Refusal, ValueError) as error:
        raise Refusal(f"{SUMS} cannot be read ({error}): {AGAIN}") from error
    matches = [LINE.fullmatch(row) for row in rows]
    listed = {match[2]: match[1] for match in matches if match and match[2].isprintable()}
    if not rows or len(listed) != len(rows):
        raise Refusal(f"{SUMS} cannot be read (not a list of files): {AGAIN}")
    return out.getvalue(), listed


def _names(folder: Path) -> Iterator[str]:
    """Every file but the list itself; a link is a file."""
    for top, folders, names in os.walk(folder):
        links = [name for name in folders if Path(top, name).is_symlink()]
        folders[:] = [name for name in folders if not LEFT_BY_OTHERS.fullmatch(name) and name not in links]
        for name in names + links:
            path = Path(top, name)
            if not LEFT_BY_OTHERS.fullmatch(name) and path != folder / SUMS:
                yield path.relative_to(folder).as_posix()


def _compare(path: Path, name: str, expected: str, out: BinaryIO, limit: int) -> list[str]:
    """What is wrong with a file of the kit, which `out` gets on the way."""
    try:
        digest = _copy(path, out, limit)
    except Refusal as refusal:
        return [f"{name} is damaged, it {refusal}: {AGAIN}"]
    return [] if digest == expected else [f"{name} is damaged: {AGAIN}"]


def _copy(path: Path, out: BinaryIO, limit: int) -> str:
    """The digest. Errors: `Refusal` for what cannot be read, `OSError` for what cannot be written."""
    digest = hashlib.sha256()
    for piece in _pieces(path):
        limit -= len(piece)
        if limit < 0:
            raise Refusal("is too large")
        digest.update(piece)
        out.write(piece)
    return digest.hexdigest()


def _pieces(path: Path) -> Iterator[bytes]:
    """A link could lead anywhere, and a pipe would be waited for without end."""
    try:
        if not stat.S_ISREG(path.lstat().st_mode):
            raise Refusal("is no regular file")
        with path.open("rb") as stream:
            yield from iter(lambda: stream.read(LIMIT), b"")
    except OSError as error:
        raise Refusal(f"cannot be read: {error.strerror}") from error


def install(kit: Kit, place: Path) -> None:
    """Make the kit's environment in `place` unless one answers there, and switch to it."""
    if kit.folder in (place, *place.parents):
        raise Refusal(f"{place} lies in the kit, which stays as it is: name another folder")
    os.umask(0o022)
    _end_cleanly()
    with claimed(place):
        before = active(place)
        environment = standing(kit, place) or make(kit, place)
        switch(place, environment)
        for other in _made(kit, place):
            if other != environment:
                with suppress(OSError):
                    _remove(other)
                    print(f"removed {other}, whose place it took")
        _tell(kit, place, environment, before)


@contextmanager
def claimed(place: Path) -> Iterator[None]:
    """`place` is ours, and nobody else's installer is at work in it."""
    place.mkdir(parents=True, exist_ok=True)
    others = sorted(each.name for each in place.iterdir() if not LEFT_BY_OTHERS.fullmatch(each.name))
    if others and OURS not in others:
        names = _shown(", ".join(others[:3]))
        raise Refusal(f"{place} holds other things ({names}): name a new or an empty folder")
    _refuse_what_others_prepared(place)
    with _opened(place / OURS) as stream:
        _lock(stream.fileno(), place)
        os.set_inheritable(stream.fileno(), True)  # noqa: FBT003 - a child that outlives us still holds the lock
        _sync_folder(place)
        for leftover in [*place.glob("bin/.*.partial"), place / COPY]:
            _remove(leftover)
        yield


def _refuse_what_others_prepared(place: Path) -> None:
    """What lies in `place` is run: it must be ours alone to write, and lead nowhere else."""
    if IS_WINDOWS:
        return
    status = place.lstat()
    if status.st_uid not in {0, os.geteuid()} or status.st_mode & stat.S_IWOTH:
        raise Refusal(f"{place} belongs to another user, or may be written to by all: name a folder of your own")
    for name in ("bin", "environments"):
        path = place / name
        if os.path.lexists(path) and not stat.S_ISDIR(path.lstat().st_mode):
            raise Refusal(f"{path} is no folder: remove it, or name another folder to install in")


def _opened(marker: Path) -> BinaryIO:
    """The file that says that a folder is ours, which is locked: a plain one, and no link. Others may not hold it."""
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    try:
        descriptor = os.open(marker, flags, 0o600)
    except OSError as error:
        raise Refusal(f"{marker} cannot be used: {error.strerror}") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise Refusal(f"{marker} is no plain file: name another folder to install in")
    if not IS_WINDOWS:
        os.fchmod(descriptor, 0o600)
    return os.fdopen(descriptor, "r+b")


def standing(kit: Kit, place: Path) -> Path | None:
    """The finished environment whose program answers."""
    for environment in _made(kit, place):
        if _is_finished(environment, kit):
            why = objections(environment, kit)
            if not why:
                print(f"already installed in {environment}")
                return environment
            print(f"{environment} was installed, and now its program {why}\nit stays until another has taken its place")
    return None


def make(kit: Kit, place: Path) -> Path:
    """A new, whole environment, or none. Errors: `Refusal`."""
    before = active(place)
    for leftover in _made(kit, place):
        if leftover.name != before and not os.path.lexists(leftover / SUMS):
            print(f"removing what an installer that was stopped left in {leftover}")
            with suppress(OSError):
                _remove(leftover)
    taken = {each.name for each in _made(kit, place)}
    names = [kit.name, *(f"{kit.name}-{number}" for number in range(2, len(taken) + 3))]
    environment = place / "environments" / next(name for name in names if name not in taken)
    with copied(kit, place) as copy:
        print(f"making {environment}")
        try:
            import venv  # noqa: PLC0415 - a Python without it is told so before

            venv.EnvBuilder(symlinks=not IS_WINDOWS).create(environment)
            _run_pip(environment, copy, copy / "wheels" / kit.pip)
            if why := objections(environment, kit):
                raise Refusal(f"the new program {why}\nnothing was switched")
            _finish(environment, kit)
        except BaseException:
            with suppress(OSError):
                _remove(environment)
            raise
    return environment


@contextmanager
def copied(kit: Kit, place: Path) -> Iterator[Path]:
    """What pip needs, as it was compared: what the medium has later is not looked at."""
    folder = place / COPY
    try:
        (folder / "wheels").mkdir(parents=True)
        problems = wheel_problems(kit, folder)
        if problems:
            raise Refusal.of(problems)
        (folder / "requirements.txt").write_bytes(kit.small["requirements.txt"])
        yield folder
    finally:
        with suppress(OSError):
            _remove(folder)


def _run_pip(environment: Path, copy: Path, pip: Path) -> None:
    """The kit's own pip, run out of its wheel: this machine's may be old, changed, or not there."""
    options = ["--no-index", "--require-hashes", "--only-binary", ":all:", "--find-links", str(copy / "wheels")]
    options += ["--no-cache-dir", "--no-input", "--disable-pip-version-check", "--no-warn-script-location", "--quiet"]
    command = [str(pip / "pip"), "install", *options, "-r", str(copy / "requirements.txt")]
    code, _, _ = _run(environment, *command, shown=True)
    if code != 0:
        full = shutil.disk_usage(environment).free < ALMOST_NOTHING
        why = "no space is left: free some, or name a folder on another disk" if full else "see the lines above"
        raise Refusal(f"pip could not install the kit: {why}; nothing was switched")


def objections(environment: Path, kit: Kit) -> str:
    """What is wrong with the program in `environment`, as it answers; empty if nothing is."""
    modules = ["manifests.bundle", *sorted({PROBES[extra] for extra in kit.extras if extra in PROBES})]
    code = "import importlib, sys\nfor name in sys.argv[1:]: importlib.import_module(name)"
    for words in (["-c", code, *modules], ["-m", "bundler", "--version"]):
        try:
            ended, said, complaint = _run(environment, *words)
        except OSError as error:
            return f"does not start: {error.strerror}"
        except subprocess.TimeoutExpired:
            return f"does not answer within {PATIENCE} seconds"
        if ended != 0:
            last = (complaint.strip() or f"no word, exit code {ended}").splitlines()[-1]
            return f"does not answer: {_shown(last)}"
        if "--version" in words and kit.program not in said.split():
            return f"says {said.strip()!r}, and not {kit.program}"
    return ""


def _run(environment: Path, *words: str, shown: bool = False) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of the environment's Python, which holds the lock for as long as it lives.

    It is ended with us, unless we are killed. What is not shown has `PATIENCE` seconds.
    """
    pipe = None if shown else subprocess.PIPE
    with subprocess.Popen(  # noqa: S603 - our own words
        [str(_python(environment)), "-I", *words],
        env=_clean(), cwd=environment, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe,
        encoding="utf-8", errors="replace", close_fds=False, start_new_session=True,
    ) as child:  # fmt: skip
        try:
            said, complaint = child.communicate(timeout=None if shown else PATIENCE)
        except BaseException:
            with suppress(OSError):
                child.kill() if sys.platform == "win32" else os.killpg(child.pid, signal.SIGKILL)
            raise
    return child.returncode, said or "", complaint or ""


def _end_cleanly() -> None:
    """A signal undoes what was begun; a second one does not disturb that. What is ignored (nohup) stays so."""
    signals = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]

    def stop(number: int, _: object) -> None:
        for each in signals:
            signal.signal(each, signal.SIG_IGN)
        raise KeyboardInterrupt(number)

    for each in signals:
        if signal.getsignal(each) != signal.SIG_IGN:
            signal.signal(each, stop)


def _finish(environment: Path, kit: Kit) -> None:
    """All of it on the disk, and only then the mark that says so."""
    (environment / "kit.json").write_bytes(kit.small["kit.json"])
    if not IS_WINDOWS:
        os.sync()
    _publish(environment / SUMS, kit.sums, 0o644)


def _publish(path: Path, content: bytes, mode: int) -> None:
    """The file as it was, or as it is to be: nothing between, after a power cut either."""
    fresh = path.with_name(f".{path.name}.partial")
    with fresh.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    fresh.chmod(mode)
    fresh.replace(path)
    _sync_folder(path.parent)


def _made(kit: Kit, place: Path) -> list[Path]:
    """Every environment of this kit, whole or not; that which is active first."""
    current = active(place)
    found = [each for each in place.glob("environments/*") if kit.owns(each.name)]
    return sorted(found, key=lambda each: (each.name != current, each.name))


def _is_finished(environment: Path, kit: Kit) -> bool:
    try:
        return _copy(environment / SUMS, io.BytesIO(), LIMIT) == kit.fingerprint
    except Refusal:
        return False


def active(place: Path) -> str | None:
    """The environment that `bundle` leads to; None if there is none yet."""
    path = _launcher(place)
    try:
        text = os.readlink(path) if path.is_symlink() else path.read_text("utf-8", "replace")  # noqa: PTH115 - Python 3.8
    except OSError:
        return None
    found = re.findall(r"environments[\\/]([^\\/]+)[\\/](?:bin|Scripts)[\\/]", text)
    return found[-1] if found else None


def switch(place: Path, environment: Path) -> None:
    """Make `bundle` lead to `environment`, in one step; before it, the Python that the site's own code imports us by.

    With -I, no variable and no folder of the site's gets between `bundle` and its modules.
    """
    _launcher(place).parent.mkdir(exist_ok=True)
    for name, options in ((PYTHON, ""), (PROGRAM, " -I -m bundler")):
        path = _launcher(place, name)
        if IS_WINDOWS:
            python = os.path.relpath(_python(environment), path.parent)
            text = f'@rem bundler.commands.main\r\n@"%~dp0{python}"{options} %*\r\n'
        else:
            python = shlex.quote(str(_python(environment)))
            quiet = "unset PYTHONEXECUTABLE __PYVENV_LAUNCHER__\n" if options else ""
            text = f'#!/bin/sh\n# bundler.commands.main\n{quiet}exec {python}{options} "$@"\n'
        _publish(path, text.encode(), 0o755)


def _tell(kit: Kit, place: Path, environment: Path, before: str | None) -> None:
    if before == environment.name:
        print(f"offline-bundle {kit.program} was active already: nothing to do")
    else:
        print(f"offline-bundle {kit.program} is active in {place}")
    if before and not kit.owns(before):
        print(f"before, it was {_shown(before)}: to go back, run the installer of that kit")
    print(f"Python with it, for your own code: {_launcher(place, PYTHON)}")
    keys = sorted(name for name in kit.small if re.fullmatch(r"trust/[^/]+\.pub\.pem", name))
    for name in keys:
        print(f"key  {name.partition('/')[2]}  {_key_fingerprint(kit.small[name])}")
    print("\nType next (the second line once, after the key's fingerprint was compared over the phone):")
    paths = [_shown(kit.folder / name) for name in keys] or ["KEY.pub.pem"]
    options = " ".join(f"--key {_quoted(path)}" for path in paths)
    there = _quoted(str(place / "bin"))
    print(f"  $env:PATH = {there} + ';' + $env:PATH" if IS_WINDOWS else f'  export PATH={there}:"$PATH"')
    print(f"  bundle trust init {options}")


def _key_fingerprint(pem: bytes) -> str:
    """As `bundle` prints it: the digest of the key in DER."""
    lines = [line for line in pem.splitlines() if not line.startswith(b"-----")]
    try:
        return f"sha256:{hashlib.sha256(base64.b64decode(b''.join(lines), validate=True)).hexdigest()}"
    except ValueError:
        return "is not a key"


def _shown(foreign: object) -> str:
    """In one line, and with no power over a terminal."""
    text = str(foreign)
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _quoted(text: str) -> str:
    """As the shell wants it (PowerShell, on Windows)."""
    if not IS_WINDOWS:
        return shlex.quote(text)
    return text if re.fullmatch(r"[\w.:\\/-]+", text) else "'" + text.replace("'", "''") + "'"


def _default_place() -> str:
    if IS_WINDOWS:
        return str(Path(os.environ.get("LOCALAPPDATA") or "~") / "offline-bundle")
    return "/opt/offline-bundle" if os.geteuid() == 0 else "~/.local/opt/offline-bundle"


def _python(environment: Path) -> Path:
    return environment / "Scripts" / "python.exe" if IS_WINDOWS else environment / "bin" / "python"


def _launcher(place: Path, name: str = PROGRAM) -> Path:
    return place / "bin" / (f"{name}.cmd" if IS_WINDOWS else name)


def _clean() -> dict[str, str]:
    """The environment without what changes Python or pip. The null device as configuration: pip reads none at all.

    What is tried reports nothing to anybody: onnxruntime would, as soon as it is loaded.
    """
    dropped = ("PIP_", "PYTHON", "__PYVENV")
    kept = {name: text for name, text in os.environ.items() if not name.upper().startswith(dropped)}
    return {**kept, "PIP_CONFIG_FILE": os.devnull, "ORT_DISABLE_TELEMETRY": "1"}


def _remove(path: Path) -> None:
    """The mark first: what is half removed is not whole."""
    if path.is_dir() and not path.is_symlink():
        with suppress(FileNotFoundError):
            (path / SUMS).unlink()
        shutil.rmtree(path)
    elif os.path.lexists(path):
        path.unlink()


def _lock(descriptor: int, place: Path) -> None:
    try:
        if sys.platform == "win32":
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        who = "another installer is at work, or what a killed one began"
        raise Refusal(f"{who}, in {place}: wait until it has finished") from None
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


def _libc() -> str:
    try:
        return os.confstr("CS_GNU_LIBC_VERSION") or ""
    except (AttributeError, OSError, ValueError):  # Windows; musl
        return ""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
