"""What the connected side is told by its environment: proxies, pip's settings, the hub's token, certificates.

* Settings are read as `lock` reads them, pip's and the hub's apart, so that one fault does not hide the other.
* No secret is shown: of a proxy its host, of a token that there is one.
"""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from bundler.pip_settings import PackageIndexes
from bundler.places import expanded
from bundler.settings import Settings, certificates_variable, home
from manifests.errors import SourceError
from manifests.finding import Finding, Subject

SUBJECT: Final = Subject("configuration")
_PROXIES: Final = ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy")
_SCHEMES: Final = frozenset({"http", "https", "socks4", "socks4a", "socks5", "socks5h"})
_CERTIFICATES_OF_REQUESTS: Final = "CURL_CA_BUNDLE"
"""It counts where no other setting names certificates."""


def look(environ: Mapping[str, str]) -> Iterator[Finding]:
    """What of it cannot be used."""
    yield from _packages(environ)
    yield from _hub(environ)
    for name in _PROXIES:
        if value := environ.get(name):
            yield judge_proxy(name, value)


def judge_proxy(name: str, value: str) -> Finding:
    """Whether requests can go through the proxy `value`, which is shown without its password."""
    try:
        parts = urlsplit(value if "://" in value else f"http://{value}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host or parts.scheme not in _SCHEMES:
        fix = f"unset {name}, or set it to http://HOST:PORT"
        return SUBJECT.problem("proxy", f"{name} is not the address of a proxy", fix=fix)
    return SUBJECT.note("proxy", f"{name}: requests go through {host}{f':{port}' if port else ''}")


def _packages(environ: Mapping[str, str]) -> Iterator[Finding]:
    try:
        indexes = PackageIndexes.read(environ, home=home(environ))
    except SourceError as error:
        fix = error.hint or "mend pip's setting that the message names: `pip config debug` shows where it stands"
        yield SUBJECT.problem("pip-settings", error.message, fix=fix)
        yield from _certificates(environ, None)
        return
    yield from _certificates(environ, indexes.certificates)
    for folder in (text for text in indexes.find_links if "://" not in text):
        if not os.path.exists(expanded(folder)):  # noqa: PTH110 - nor is a folder that may not be looked into
            what = f"pip is told to look for wheels in {folder}, which is not there"
            fix = "unset PIP_FIND_LINKS, or `pip config unset global.find-links`"
            yield SUBJECT.warning("no-find-links", what, fix=fix)
    yield SUBJECT.fine(
        "pip-settings", f"pip's settings: indexes {len(indexes.indexes)}, folders and pages {len(indexes.find_links)}"
    )


def _certificates(environ: Mapping[str, str], of_pip: Path | None) -> Iterator[Finding]:
    """Whether the certificates that count are there; what another setting outdoes is never read."""
    name = certificates_variable(environ)
    if name is None and of_pip is not None:
        if not os.path.exists(of_pip):  # noqa: PTH110 - nor are those that this user may not see
            what = f"pip is told of certificates at {of_pip}, where there are none"
            yield SUBJECT.problem("no-certificates", what, fix="unset PIP_CERT, or `pip config unset global.cert`")
        return
    name = name or _CERTIFICATES_OF_REQUESTS
    if (path := environ.get(name)) and not os.path.exists(path):  # noqa: PTH110 - as above
        what = f"{name}={path} is not there: no server's certificate can be checked"
        yield SUBJECT.problem("no-certificates", what, fix=f"unset {name}, or name a file of CA certificates")


def _hub(environ: Mapping[str, str]) -> Iterator[Finding]:
    without_pip = {name: value for name, value in environ.items() if not name.startswith("PIP_")}
    try:
        settings = Settings.read({**without_pip, "PIP_CONFIG_FILE": os.devnull})
    except SourceError as error:
        fix = error.hint or "mend or remove what the message names; `export HF_TOKEN=hf_…` wins over the file"
        yield SUBJECT.problem("hub-settings", error.message, fix=fix)
        return
    said = "a token for the hub is here" if settings.hub.token else "no token for the hub: public models only"
    yield SUBJECT.fine("hub-token", said)
