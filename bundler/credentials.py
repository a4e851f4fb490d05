"""Credentials: which headers an origin (scheme, host, port) gets, and how none of them reaches another.

* `Authorization` is the first of: what the request brings itself, a line of the header file, what pip's settings or the
  hub's token say for the origin, what a netrc file says for the host. Other lines of the header file go along with it.
* A redirect to another origin takes all of them off, and puts those on that the new origin is configured with.
* A redirect from https to http is not followed: nothing at all is asked of its target.
"""

import base64
from collections.abc import Callable, Mapping
from netrc import NetrcParseError
from typing import Final
from urllib.parse import unquote, urlsplit

import requests
from requests.auth import AuthBase
from requests.utils import get_environ_proxies, get_netrc_auth, should_bypass_proxies

from bundler.settings import Settings
from bundler.sources.urls import origin_of

_AUTHORIZATION: Final = "Authorization"


class DowngradeError(requests.RequestException):
    """A redirect from https to http. `requests` passes it on as one of its own; it never leaves the client."""

    def __init__(self, url: str) -> None:
        self.url = url
        super().__init__()


class Credentials:
    """What each origin is told; `note` hears of a netrc file that cannot be used."""

    def __init__(self, settings: Settings, note: Callable[[str], None]) -> None:
        self._note = note
        self._lines: dict[str, dict[str, str]] = {}
        for line in settings.headers:
            self._lines.setdefault(line.origin, {})[line.name] = line.value
        self._configured = _configured(settings)
        self._of_netrc: dict[str, str | None] = {}
        self.names: Final = frozenset({_AUTHORIZATION, *(line.name for line in settings.headers)})

    def of(self, url: str) -> Mapping[str, str]:
        """The headers for the origin of `url`."""
        origin = origin_of(urlsplit(url))
        lines = self._lines.get(origin, {})
        if any(name.lower() == _AUTHORIZATION.lower() for name in lines):
            return lines
        authorization = self._configured.get(origin) or self._netrc(url)
        return {**lines, _AUTHORIZATION: authorization} if authorization else lines

    def _netrc(self, url: str) -> str | None:
        """As `requests` reads the file that `NETRC` names, else `~/.netrc`; once for each host, for it has no ports."""
        host = urlsplit(url).hostname or ""
        if host not in self._of_netrc:
            found = self._read_netrc(url)
            self._of_netrc[host] = _basic(*found) if found else None
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
    """The headers of one request; `requests` would else look for others itself."""

    def __init__(self, headers: Mapping[str, str]) -> None:
        self._headers = headers

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """The request with these headers."""
        request.headers.update(self._headers)
        return request


class Session(requests.Session):
    """A session that takes from the environment what `proxies_for` says, and no more."""

    def __init__(self, credentials: Credentials, proxy: str | None) -> None:
        super().__init__()
        self.trust_env = False
        self._credentials = credentials
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
            return dict(get_environ_proxies(url))
        if should_bypass_proxies(url, no_proxy=None):
            return {}
        return {"http": self._proxy, "https": self._proxy}

    def rebuild_auth(self, prepared_request: requests.PreparedRequest, response: requests.Response) -> None:
        """Called for each redirect, before it is followed."""
        before, after = urlsplit(response.request.url or ""), urlsplit(prepared_request.url or "")
        if before.scheme == "https" and after.scheme == "http":
            raise DowngradeError(prepared_request.url or "")
        headers, told = prepared_request.headers, self._credentials.of(prepared_request.url or "")
        if origin_of(before) != origin_of(after):
            for name in self._credentials.names:
                headers.pop(name, None)
        for name, value in told.items():
            headers.setdefault(name, value)

    def rebuild_proxies(
        self,
        prepared_request: requests.PreparedRequest,
        proxies: dict[str, str] | None,  # noqa: ARG002 - those of the address before
    ) -> dict[str, str]:
        """The proxies of the address that a redirect leads to; their passwords go to them and never beyond."""
        prepared_request.headers.pop("Proxy-Authorization", None)
        return self.proxies_for(prepared_request.url or "")


def _configured(settings: Settings) -> dict[str, str]:
    """The `Authorization` that pip's settings and the hub's token give each origin."""
    held: dict[str, str] = {}
    for url in (*settings.packages.find_links, *settings.packages.indexes):
        parts = urlsplit(url)
        if parts.username is not None:
            held.setdefault(origin_of(parts), _basic(unquote(parts.username), unquote(parts.password or "")))
    if settings.hub.token:
        held[origin_of(urlsplit(settings.hub.endpoint))] = f"Bearer {settings.hub.token}"
    return held


def _basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
