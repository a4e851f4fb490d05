"""Who one is at a registry: what `docker login` and `podman login` left in their files, or keep with their helpers.

* The first file that knows the registry counts; in it the longest prefix of HOST/NAME, as those programs look.
* A helper is a program on the PATH, `docker-credential-NAME`: it is asked once, with bounds on time and answer.
* A password is in no `repr` and in no error.
"""

import base64
import binascii
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Timer
from typing import Final, TypeVar

import msgspec

from bundler.answers import NOT_JSON
from bundler.credentials import basic
from bundler.registry.address import Address
from manifests.errors import SourceDeniedError, SourceError

T = TypeVar("T")
LOGIN_HINT: Final = "log in with `docker login {host}`, `podman login {host}` or `skopeo login {host}`"
_FILE_LIMIT: Final = 1 << 20
_ANSWER_LIMIT: Final = 64 << 10
_PATIENCE: Final = 30.0
_HELPER: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
_TOKEN_USER: Final = "<token>"  # noqa: S105 - the word by which a helper says that it holds one


@dataclass(frozen=True, slots=True)
class Login:
    """A user of a registry and the password."""

    user: str
    password: str = field(repr=False)

    @property
    def basic(self) -> str:
        """The value of an `Authorization` header."""
        return basic(self.user, self.password)


class _Entry(msgspec.Struct):
    auth: str = ""
    identitytoken: str = ""


class _File(msgspec.Struct, rename={"creds_store": "credsStore", "helpers": "credHelpers"}):
    auths: dict[str, _Entry] = {}
    creds_store: str = ""
    helpers: dict[str, str] = {}


class _Answer(msgspec.Struct, rename="pascal"):
    username: str = ""
    secret: str = ""


def find_login(files: Sequence[Path], address: Address) -> Login | None:
    """The login for the registry of `address`, or None. Errors: `SourceError` for a file that cannot be read."""
    for path in files:
        if (content := _read(path)) is None:
            continue
        if (login := _in_file(_decode(content, _File, subject=str(path)), path, address)) is not None:
            return login
    return None


def _read(path: Path) -> bytes | None:
    try:
        with path.open("rb") as stream:
            content = stream.read(_FILE_LIMIT + 1)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise SourceError(f"the registry credentials {path} cannot be read: {error.strerror}") from error
    if len(content) > _FILE_LIMIT:
        raise SourceError(f"the registry credentials {path} are longer than {_FILE_LIMIT} bytes")
    return content


def _decode(content: bytes, kind: type[T], *, subject: str) -> T:
    try:
        return msgspec.json.decode(content, type=kind)
    except NOT_JSON:  # their words could quote what lies there
        raise SourceError(f"{subject}: not the JSON that `docker login` writes", hint="log in again") from None


def _in_file(held: _File, path: Path, address: Address) -> Login | None:
    entry = _longest(held.auths, address)
    if entry is not None and entry.identitytoken:
        raise _no_tokens(f"{path} holds an identity token for {address.host}")
    if entry is not None and entry.auth:
        return _login(entry.auth, path, address)
    helper = _longest(held.helpers, address) or held.creds_store
    if not helper:
        return None
    return _ask_helper(helper, address, path, expected=entry is not None or helper != held.creds_store)


def _longest(entries: Mapping[str, T], address: Address) -> T | None:
    """The value under the longest of HOST/NAME, HOST/…, HOST; older programs write a URL instead."""
    named = {_plain(name): value for name, value in entries.items()}
    parts = [address.host, *address.repository.split("/")]
    candidates = ("/".join(parts[:length]) for length in range(len(parts), 0, -1))
    return next((named[name] for name in candidates if name in named), None)


def _plain(name: str) -> str:
    bare = name.removeprefix("https://").removeprefix("http://").rstrip("/")
    return bare.removesuffix("/v1").removesuffix("/v2")


def _login(auth: str, path: Path, address: Address) -> Login:
    try:
        user, mark, password = base64.b64decode(auth, validate=True).decode().partition(":")
    except (binascii.Error, ValueError):  # their words quote a part of it
        user, mark, password = "", "", ""
    if not (user and mark):
        raise SourceError(
            f"{path}: what it holds for {address.host} is no USER:PASSWORD in base64", hint="log in again"
        )
    return Login(user, password.rstrip("\0"))


def _ask_helper(name: str, address: Address, path: Path, *, expected: bool) -> Login | None:
    """What `docker-credential-NAME` says. One that is not installed matters only if it was `expected` to know."""
    program = shutil.which(f"docker-credential-{name}") if _HELPER.fullmatch(name) else None
    if program is None:
        if not expected:
            return None
        raise SourceDeniedError(
            f"{path} leaves the credentials of {address.host} to docker-credential-{name}, which is not on the PATH",
            hint=f"install that helper, or {LOGIN_HINT.format(host=address.host)} without it",
        )
    status, content = _run(program, address.host)
    if status or not content:
        return None
    answer = _decode(content, _Answer, subject=f"docker-credential-{name}")
    if answer.username == _TOKEN_USER:
        raise _no_tokens(f"docker-credential-{name} holds an identity token for {address.host}")
    return Login(answer.username, answer.secret) if answer.username else None


def _run(program: str, host: str) -> tuple[int, bytes]:
    """Exit status and answer of `program get`, told the host; one that hangs is ended."""
    with subprocess.Popen(  # noqa: S603 - the program that the user's own configuration names
        [program, "get"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        timer = Timer(_PATIENCE, process.kill)
        timer.start()
        try:
            if process.stdin is None or process.stdout is None:
                raise AssertionError("both were asked for")
            try:
                process.stdin.write(f"{host}\n".encode())
                process.stdin.close()
            except BrokenPipeError:
                pass
            content = process.stdout.read(_ANSWER_LIMIT + 1)
            if len(content) > _ANSWER_LIMIT:
                process.kill()
                raise SourceError(f"{program}: an answer of more than {_ANSWER_LIMIT} bytes")
            return process.wait(), content
        finally:
            timer.cancel()


def _no_tokens(what: str) -> SourceDeniedError:
    return SourceDeniedError(
        f"{what}, which this program cannot use", hint="log in with a user and a password or an access token of it"
    )
