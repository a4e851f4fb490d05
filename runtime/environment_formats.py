"""Variables as each consumer reads them: shells, Docker, systemd, Kubernetes. Pure text.

Owns the quoting of each target, and what each cannot carry: that is refused by name, never written as something else.
* A value survives to the byte: `$`, `%`, quotes, backslashes and spaces mean nothing to the reader of the file.
* What the output's encoding has no characters for is refused as well: an escape in its place would be another path.
* A comment is written only where its content was checked to fit on its line.
"""

import json
import re
import shlex
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from manifests.errors import NamingError
from runtime.environment import Environment

_POWERSHELL_QUOTES: Final = re.compile("['\u2018\u2019\u201a\u201b]")
"""PowerShell ends a string at any of these."""
_SCRATCH_NAME: Final = "bundle-scratch"
_VOLUME: Final = "bundle-root"


def write(target: str, given: Environment, *, encoding: str = "utf-8") -> str:
    """The lines for `target`, one of `FORMATS`. `NamingError` for a path that it, or `encoding`, cannot carry."""
    for text in (given.host, given.inside, *given.values.values()):
        _check(target, text, encoding)
    return "\n".join(FORMATS[target](given)) + "\n"


def _check(target: str, text: str, encoding: str) -> None:
    try:
        text.encode(encoding)
    except UnicodeEncodeError as error:
        raise _refusal(target, text, f"cannot be written in {encoding}") from error
    if target not in _LITERAL and any(map(_is_unprintable, text)):
        raise _refusal(target, text, "has a line feed or another character that cannot be printed")
    if target == "cmd" and '"' in text:
        raise _refusal(target, text, "has a double quote")


def _refusal(target: str, text: str, reason: str) -> NamingError:
    return NamingError(f"--format {target} cannot carry {text!r}: it {reason}", hint="move the root to a plainer path")


def _is_unprintable(character: str) -> bool:
    return not character.isprintable() and unicodedata.category(character) != "Zs"


def _sh(given: Environment) -> Iterable[str]:
    return (f"export {name}={shlex.quote(value)}" for name, value in given.values.items())


def _powershell(given: Environment) -> Iterable[str]:
    for name, value in given.values.items():
        quoted = _POWERSHELL_QUOTES.sub(lambda found: found[0] * 2, value)
        yield f"$env:{name} = '{quoted}'"


def _cmd(given: Environment) -> Iterable[str]:
    """For a batch file: typed at the prompt, `%%` would stay two characters."""
    for name, value in given.values.items():
        yield 'set "{}={}"'.format(name, value.replace("%", "%%"))


def _docker(given: Environment) -> Iterable[str]:
    """An env-file: nothing is quoted in one, and a value is all that follows the `=`."""
    mount = ["type=bind", f"source={given.host}", f"target={given.inside}", "readonly"]
    options = ["--rm", "--env-file", "bundle.env", "--mount", ",".join(map(_csv, mount)), "--tmpfs", "/tmp"]  # noqa: S108 - the container's
    if given.readable:
        yield "# Save as bundle.env. The root is mounted read-only, and any --user can read it:"
    else:
        yield f"# Save as bundle.env. Not every --user can read the root before you type: {_opening(given)}"
        yield "# The root is mounted read-only:"
    yield f"# docker run {shlex.join(options)} --network none IMAGE"
    yield "# A server needs a port: put --publish 127.0.0.1:9001:9001 in the place of --network none."
    yield from (f"{name}={value}" for name, value in given.values.items())


def _opening(given: Environment) -> str:
    """What to type so that any user can read the root."""
    return f"chmod -R a+rX {shlex.quote(given.host)}"


def _csv(field: str) -> str:
    """A field of `--mount`, which is a line of comma-separated values."""
    return '"{}"'.format(field.replace('"', '""')) if set(field) & set(',"') else field


def _systemd(given: Environment) -> Iterable[str]:
    """A drop-in, by systemd.exec(5) and systemd.syntax(7)."""
    yield "# Save as /etc/systemd/system/NAME.service.d/bundle.conf, then: systemctl daemon-reload"
    yield "[Service]"
    for name, value in given.values.items():
        yield f"Environment={_systemd_word(f'{name}={value}')}"
    yield f"ReadOnlyPaths={_systemd_word(given.inside)}"
    yield f"ReadWritePaths=-{_systemd_word(f'{given.inside}/state')}"
    yield f"CacheDirectory={_SCRATCH_NAME}"
    yield "# The kernel drops whatever would leave this machine:"
    yield "IPAddressDeny=any"
    yield "IPAddressAllow=localhost"


def _systemd_word(text: str) -> str:
    """One word of a list: systemd undoes backslashes, then specifiers."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{escaped}"'


def _k8s(given: Environment) -> Iterable[str]:
    """A part of a Pod's spec. A JSON string is a YAML string."""
    yield "# Part of a Pod's `spec:`; name and image are yours."
    if given.readable:
        yield "# Any runAsUser can read the volume."
    else:
        yield f"# Not every runAsUser can read the volume before you type on its node: {_opening(given)}"
    yield "containers:"
    yield "  - name: models"
    yield "    env:"
    for name, value in given.values.items():
        yield f"      - name: {name}"
        yield f"        value: {_yaml(value.replace('$', '$$'))}"
    yield "    volumeMounts:"
    yield f"      - name: {_VOLUME}"
    yield f"        mountPath: {_yaml(given.inside)}"
    yield "        readOnly: true"
    yield f"      - name: {_SCRATCH_NAME}"
    yield f"        mountPath: {_yaml(SCRATCH['k8s'])}"
    yield "volumes:"
    yield f"  - name: {_VOLUME}"
    yield "    hostPath:"
    yield f"      path: {_yaml(given.host)}"
    yield "      type: Directory"
    yield f"  - name: {_SCRATCH_NAME}"
    yield "    emptyDir: {}"


def _yaml(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


_LITERAL: Final = frozenset({"sh", "powershell"})
"""Formats whose quotes hold any character."""
FORMATS: Final[Mapping[str, Callable[[Environment], Iterable[str]]]] = {
    "sh": _sh,
    "powershell": _powershell,
    "cmd": _cmd,
    "docker": _docker,
    "systemd": _systemd,
    "k8s": _k8s,
}
SCRATCH: Final[Mapping[str, str]] = {
    "docker": f"/tmp/{_SCRATCH_NAME}",  # noqa: S108 - the container's own
    "k8s": f"/tmp/{_SCRATCH_NAME}",  # noqa: S108 - the container's own
    "systemd": f"/var/cache/{_SCRATCH_NAME}",
}
"""Formats in which the root is read-only, and where clients write instead."""
CONTAINERS: Final = frozenset({"docker", "k8s"})
"""Formats in which the root appears at a mount point."""
