"""Credentials: which headers an origin (scheme, host, port) gets, and how none of them reaches another.

* `Authorization` is the first of: what the request brings itself, a line of the header file, what pip's settings or the
  hub's token say for the origin, what a netrc file says for the host. Other lines of the header file go along with it.
* The origin is that of the address as it is really asked, not as another reader of URLs would take it apart.
* A redirect to another origin takes all of them off, and puts those on that the new origin is configured with.
"""

import base64
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from netrc import NetrcParseError
from typing import Final
from urllib.parse import unquote, urlsplit

import requests
from requests.auth import AuthBase
from requests.utils import get_environ_proxies, get_netrc_auth, select_proxy, should_bypass_proxies

from bundler.settings import Settings
from bundler.sources.urls import checked_url, origin_of
from manifests.errors import SourceError

_AUTHORIZATION: Final = "Authorization"
_PROXY_HINT: Final = (
    "http://[USER:PASSWORD@]HOST[:PORT]; in a user or password, '/' is written %2F, '@' %40, '#' %23 and '?' %3F"
)


class Credentials:
    """What each origin is told; `note` hears of a netrc file that cannot be used."""

    def __init__(self, settings: Settings, note: Callable[[str], None]) -> None:
        self._note = note
        self._lines: dict[str, dict[str, str]] = {}
        for line in settings.headers:
            self._lines.setdefault(line.origin, {})[line.name] = line.value
        self._configured = _configured(settings)
        self._of_netrc: dict[str, str | None] = {}
        self._names: Final = frozenset({_AUTHORIZATION.lower(), *(line.name.lower() for line in settings.headers)})

    def of(self, url: str) -> Mapping[str, str]:
        """The headers for the origin of `url`."""
        origin = origin_of(urlsplit(url))
        lines = self._lines.get(origin, {})
        if any(name.lower() == _AUTHORIZATION.lower() for name in lines):
            return lines
        authorization = self._configured.get(origin) or self._netrc(url)
        return {**lines, _AUTHORIZATION: authorization} if authorization else lines

    def without(self, headers: Mapping[str, str]) -> Mapping[str, str]:
        """`headers` but for those that hold a credential: for an address of another origin."""
        return {name: value for name, value in headers.items() if name.lower() not in self._names}

    def _netrc(self, url: str) -> str | None:
        """As `requests` reads the file that `NETRC` names, else `~/.netrc`; once for each host, for it has no ports."""
        host = urlsplit(url).hostname or ""
        if host not in self._of_netrc:
            found = self._read_netrc(f"https://[{host}]/" if ":" in host else f"https://{host}/")
            self._of_netrc[host] = basic(*found) if found else None
        return self._of_netrc[host]

    def _read_netrc(self, url: str) -> tuple[str, str] | None:
        try:
            return get_netrc_auth(url, raise_errors=True)
        except NetrcParseError as error:  # its words quote the file
            where = f"{error.filename}, line {error.lineno}"
        except (OSError, UnicodeDecodeError) as error:
            where = str(error.filename) if isinstance(error, OSError) else "the netrc file"
        self._note(f"{where}: not what a netrc file says, so no password is taken from it")
        return None


class Sent(AuthBase):
    """The credentials of one request, for the origin that it goes to; `requests` would else look for others itself."""

    def __init__(self, credentials: Credentials, authorization: str | None) -> None:
        self._credentials = credentials
        self._authorization = authorization

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """The request with them; what it brings itself wins."""
        request.headers.update(self._credentials.of(request.url or ""))
        if self._authorization:
            request.headers[_AUTHORIZATION] = self._authorization
        return request


def as_asked(url: str) -> str:
    """`url` as `requests` takes it apart, which is where the connection goes.

    Another reader may find another host in the same text, as where a backslash comes before an '@', and would give it
    the credentials of that one.
    Errors: those of `requests`, and `ValueError`.
    """
    prepared = requests.PreparedRequest()
    prepared.prepare_url(url, None)
    return prepared.url or url


class Session(requests.Session):
    """A session that takes from the environment what `proxies_for` says and no more, and that follows no redirect."""

    def __init__(self, proxy: str | None) -> None:
        super().__init__()
        self.trust_env = False
        self._proxy = proxy
        self._proxies: dict[str, dict[str, str]] = {}

    def proxies_for(self, url: str) -> dict[str, str]:
        """What pip was told wins over the usual variables, as it does in pip; `NO_PROXY` holds for both.

        It is looked up once for each origin: the whole environment is read for it.
        """
        origin = origin_of(urlsplit(url))
        if origin not in self._proxies:
            self._proxies[origin] = self._found_proxies(url)
        return self._proxies[origin]

    def _found_proxies(self, url: str) -> dict[str, str]:
        if self._proxy is None:
            found = dict(get_environ_proxies(url))
        elif should_bypass_proxies(url, no_proxy=None):
            return {}
        else:
            found = {"http": self._proxy, "https": self._proxy}
        if proxy := select_proxy(url, found):
            whose = "http_proxy, https_proxy or all_proxy" if self._proxy is None else "pip's setting `proxy`"
            _check_proxy(proxy, subject=whose)
        return found

    def get_redirect_target(self, resp: requests.Response) -> None:
        """None: `requests` reads the whole body of a redirect, however long, even of one that it does not follow."""


def _check_proxy(proxy: str, *, subject: str) -> None:
    """Errors: `SourceError`, which quotes nothing of it."""
    parts = checked_url(proxy if "//" in proxy else f"http://{proxy}", subject=subject)
    if parts.path not in {"", "/"} or parts.query or parts.fragment:
        raise SourceError(f"{subject}: not the address of a proxy", hint=_PROXY_HINT)
    if parts.scheme.startswith("socks") and find_spec("socks") is None:
        raise SourceError(
            f"{subject}: a SOCKS proxy needs PySocks, which is not here",
            hint="pip install PySocks, or name an HTTP proxy",
        )
    if not parts.scheme.startswith(("http", "socks")):
        raise SourceError(f"{subject}: no proxy of HTTP", hint=_PROXY_HINT)


def _configured(settings: Settings) -> dict[str, str]:
    """The `Authorization` that pip's settings and the hub's token give each origin."""
    held: dict[str, str] = {}
    for url in (*settings.packages.find_links, *settings.packages.indexes):
        parts = urlsplit(url)
        if parts.username is not None:
            held.setdefault(origin_of(parts), basic(unquote(parts.username), unquote(parts.password or "")))
    if settings.hub.token:
        held[origin_of(urlsplit(settings.hub.endpoint))] = f"Bearer {settings.hub.token}"
    return held


def basic(user: str, password: str) -> str:
    """The `Authorization` of a user with a password."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
