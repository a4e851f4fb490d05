"""pip's configuration, read without pip: which indexes and folders a package may come from.

Owns pip's order of precedence, least first: the files of the machine (`/etc/pip.conf`), of the user
(`~/.config/pip/pip.conf`), of the Python in use (`<prefix>/pip.conf`) and of `PIP_CONFIG_FILE`, then `PIP_*` variables;
among sections `[global]`, then `[download]`.
* The address of every index and page is looked at when it is read; no error quotes one, for a password may be in it.
* What pip reads and this does not: trusted hosts, client certificates, keyrings.
"""

import configparser
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

from pypi_simple import PYPI_SIMPLE_ENDPOINT

from bundler.places import expanded
from bundler.sources.urls import WEB, checked_url
from manifests.errors import SourceError

DEFAULT_INDEX: Final = PYPI_SIMPLE_ENDPOINT.rstrip("/")
_SECTIONS: Final = ("global", "download")
_SYSTEM: Final = Path("/etc")
_TRUE: Final = frozenset({"y", "yes", "t", "true", "on", "1"})


@dataclass(frozen=True, slots=True)
class PackageIndexes:
    """Where packages come from, in order: `find_links` (folders and pages), then `indexes` (PEP 503 or 691)."""

    indexes: tuple[str, ...] = field(default=(DEFAULT_INDEX,), repr=False)
    find_links: tuple[str, ...] = field(default=(), repr=False)
    certificates: Path | None = None
    timeout: float | None = None
    """Seconds, where pip was told some."""
    proxy: str | None = field(default=None, repr=False)
    """What all requests go through, where pip was told of one."""

    @classmethod
    def read(
        cls, environ: Mapping[str, str], *, home: Path, prefix: Path = Path(sys.prefix), system: Path = _SYSTEM
    ) -> Self:
        """What pip would use with `environ` in the Python at `prefix`. Errors: `SourceError`."""
        options = _from_files(configuration_files(environ, home=home, prefix=prefix, system=system))
        options |= _from_variables(environ)
        indexes = (options.get("index-url", DEFAULT_INDEX), *options.get("extra-index-url", "").split())
        certificates = options.get("cert")
        find_links = tuple(options.get("find-links", "").split())
        for number, url in enumerate((*indexes, *find_links), 1):
            _check_address(url, f"address {number} of pip's indexes and find-links")
        return cls(
            indexes=() if options.get("no-index", "").lower() in _TRUE else indexes,
            find_links=find_links,
            certificates=expanded(certificates) if certificates else None,
            timeout=_seconds(options.get("timeout") or options.get("default-timeout")),
            proxy=options.get("proxy"),
        )


def configuration_files(
    environ: Mapping[str, str], *, home: Path, prefix: Path, system: Path = _SYSTEM
) -> tuple[Path, ...]:
    """The files that pip would read, those that win last. None at all when `PIP_CONFIG_FILE` is the null device."""
    named = environ.get("PIP_CONFIG_FILE")
    if named == os.devnull:
        return ()
    name = "pip.ini" if os.name == "nt" else "pip.conf"
    machine = (environ.get("XDG_CONFIG_DIRS") or str(system / "xdg")).split(os.pathsep)
    files = [*(Path(folder) / "pip" / name for folder in machine), system / name]
    if not (named and Path(named).exists()):
        personal = Path(environ.get("XDG_CONFIG_HOME") or home / ".config")
        files += [home / ".pip" / name, personal / "pip" / name]
    files.append(prefix / name)
    if named:
        files.append(Path(named))
    return tuple(files)


def _from_files(paths: Sequence[Path]) -> dict[str, str]:
    sections: dict[str, dict[str, str]] = {name: {} for name in _SECTIONS}
    for path in paths:
        for name, options in _read(path).items():
            if name in sections:
                sections[name] |= {_option(key): value for key, value in options.items() if value}
    return sections["global"] | sections["download"]


def _read(path: Path) -> Mapping[str, Mapping[str, str]]:
    parser = configparser.RawConfigParser()
    try:
        with path.open(encoding="utf-8") as stream:
            parser.read_file(stream)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, UnicodeDecodeError, configparser.Error) as error:
        raise SourceError(
            f"pip's configuration {path} cannot be read: {_reason(error)}",
            hint="mend it, or set PIP_CONFIG_FILE to the null device to read none",
        ) from None
    return {name: dict(parser.items(name)) for name in parser.sections()}


def _reason(error: OSError | UnicodeDecodeError | configparser.Error) -> str:
    """Why, without the lines of the file that the words of these errors quote: an index's password may be in them."""
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    if isinstance(error, UnicodeDecodeError):
        return "it is not text"
    if isinstance(error, configparser.MissingSectionHeaderError):
        return f"line {error.lineno} is in no section"
    if isinstance(error, configparser.ParsingError):
        return f"line {error.errors[0][0]} is no option"
    line = getattr(error, "lineno", None)
    return f"line {line} says again what is said before" if line else "it is no such file"


def _from_variables(environ: Mapping[str, str]) -> dict[str, str]:
    return {
        _option(name.removeprefix("PIP_")): value
        for name, value in environ.items()
        if name.startswith("PIP_") and value
    }


def _check_address(url: str, subject: str) -> None:
    """A web address can be asked; a folder is looked for when it is needed."""
    if url.partition("://")[0].lower() in WEB:
        checked_url(url, subject=subject)


def _option(name: str) -> str:
    return name.lower().replace("_", "-").removeprefix("--")


def _seconds(text: str | None) -> float | None:
    try:
        seconds = float(text) if text else 0.0
    except ValueError:
        raise SourceError(f"pip's timeout is not a number of seconds: {text!r}") from None
    return seconds if seconds > 0 else None
