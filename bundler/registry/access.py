"""What a registry wants to see before it answers: nothing, a password, or a token that lives for a minute.

* Nothing is sent before the registry has asked for it (`WWW-Authenticate`), and then to that registry alone.
* A token comes from the server that the registry names, for one repository, and is kept until a little before its end.
* A token server without TLS is asked only where the registry itself is spoken to without it.
* A password goes to another host than the registry's only if the registry named it over TLS, as other programs have it;
  without TLS anybody on the way could have named it. What is on this machine is no other host.
"""

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from threading import Lock
from typing import Final
from urllib.parse import SplitResult, parse_qsl, urlencode, urlsplit

import msgspec

from bundler.answers import NOT_JSON
from bundler.http import Client
from bundler.registry.address import Address, is_this_machine
from bundler.registry.logins import LOGIN_HINT, Login
from bundler.sources.urls import checked_url, shown
from manifests.errors import SourceDeniedError, SourceError, printable

_CHALLENGE: Final = re.compile(r"(?P<scheme>[A-Za-z]+)(?:\s+(?P<rest>.*))?", re.DOTALL)
_PARAMETER: Final = re.compile(r'([A-Za-z_]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))')
_LONGEST_CHALLENGE: Final = 4096
"""Characters of a header that are looked at: a registry may send megabytes of them."""
_TOKEN_LIMIT: Final = 256 << 10
_DEFAULT_LIFE: Final = 60
"""Seconds that a token lives whose server does not say: what the protocol prescribes."""
_LONGEST_LIFE: Final = 24 * 3600
_MARGIN: Final = 10.0


class _Answer(msgspec.Struct):
    token: str = ""
    access_token: str = ""
    expires_in: float | None = None


@dataclass(frozen=True, slots=True)
class _Token:
    value: str = field(repr=False)
    ends: float


class Access:
    """For one repository. `header` may be called from any thread, and `answer` is told what a refusal said."""

    def __init__(
        self, client: Client, address: Address, login: Callable[[], Login | None], *, writes: bool, plain_http: bool
    ) -> None:
        self._client = client
        self._address = address
        self._look = login
        self._scope = f"repository:{address.repository}:{'pull,push' if writes else 'pull'}"
        self._plain_http = plain_http or address.is_loopback
        self._guard = Lock()
        self._basic: str | None = None
        self._server: Mapping[str, str] | None = None
        self._token: _Token | None = None

    def header(self) -> str | None:
        """The `Authorization` for the next request; None as long as nobody asked. Errors: `SourceError`."""
        with self._guard:
            if self._server is None:
                return self._basic
            if self._token is None or time.monotonic() >= self._token.ends:
                self._token = self._fetch(self._server)
            return f"Bearer {self._token.value}"

    def answer(self, challenge: str, sent: str | None) -> bool:
        """Take up what a refusal of `sent` asks for. False if there is nothing more to offer."""
        scheme, parameters = _parsed(challenge)
        with self._guard:
            if sent != self._current():
                return True  # another thread was quicker
            if scheme == "bearer" and "realm" in parameters:
                fresh = self._token is None
                self._server, self._token = parameters, None
                return fresh or sent is not None
            login = self._login if scheme == "basic" else None
            self._basic = login.basic if login else None
            return login is not None and sent != login.basic

    @property
    def knows(self) -> bool:
        """Whether there are credentials to show."""
        return self._login is not None

    def renew(self) -> bool:
        """Forget the token: it was refused before its end. False where the registry has not asked for one."""
        with self._guard:
            self._token = None  # another thread may have been quicker, and then a new one is as good for both
            return self._server is not None

    @cached_property
    def _login(self) -> Login | None:
        """Looked for once: a helper may ask its user."""
        return self._look()

    def _current(self) -> str | None:
        return self._basic if self._server is None else f"Bearer {self._token.value}" if self._token else None

    def _fetch(self, server: Mapping[str, str]) -> _Token:
        realm = self._checked_realm(server["realm"])
        url, login = self._token_url(server), self._login
        if login is not None and not self._may_show(realm):
            raise SourceDeniedError(
                f"{self._address.host} is spoken to without TLS, and wants its password shown at {shown(url)}",
                hint="anybody on the way could have said so: give the registry TLS, or a token server on its own host",
            )
        asked = time.monotonic()
        try:
            document = self._client.document(
                url,
                subject=f"a token for {self._address.host}/{self._address.repository}",
                limit=_TOKEN_LIMIT,
                accept="application/json",
                authorization=lambda: login.basic if login else None,
            )
        except SourceDeniedError as error:
            raise SourceDeniedError(error.message, hint=LOGIN_HINT.format(host=self._address.host)) from error
        try:
            answer = msgspec.json.decode(document.content, type=_Answer)
        except NOT_JSON:  # their words could quote the token
            raise SourceError(f"{shown(url)} gave no token: its answer is not what the protocol says") from None
        value = answer.token or answer.access_token
        if not value or not (value.isascii() and value.isprintable()) or " " in value:
            raise SourceError(f"{shown(url)} gave no token, or one that cannot stand in a header")
        life = min(max(answer.expires_in or _DEFAULT_LIFE, 0.0), _LONGEST_LIFE)
        return _Token(value, asked + life - min(_MARGIN, life / 4))

    def _checked_realm(self, realm: str) -> SplitResult:
        parts = checked_url(realm, subject=f"{self._address.host} names a token server that is none")
        if parts.scheme != "https" and not (parts.scheme == "http" and self._plain_http):
            raise SourceDeniedError(
                f"{self._address.host} wants a token from {shown(realm)}, where a password would travel unprotected"
            )
        return parts

    def _may_show(self, realm: SplitResult) -> bool:
        """Whether a password may go to the token server that the registry named."""
        host = realm.hostname or ""
        is_same = host == (urlsplit(f"//{self._address.host}").hostname or "")
        is_here = self._address.is_loopback and is_this_machine(f"[{host}]" if ":" in host else host)
        return is_same or is_here or not self._plain_http

    def _token_url(self, server: Mapping[str, str]) -> str:
        realm = urlsplit(server["realm"])
        asked = [(name, server[name]) for name in ("service",) if server.get(name)]
        query = urlencode([*parse_qsl(realm.query), *asked, ("scope", self._scope)])
        return realm._replace(query=query, fragment="").geturl()


def refused(subject: str, address: Address, *, knows: bool, writes: bool) -> SourceDeniedError:
    """The error for a registry that goes on refusing; `knows` if it was shown credentials."""
    verb = "write to" if writes else "read from"
    if knows:
        return SourceDeniedError(
            f"{subject}: {address.host} refuses these credentials, or they may not {verb} {address.repository}",
            hint=LOGIN_HINT.format(host=address.host) + " again, as a user who may",
        )
    return SourceDeniedError(
        f"{subject}: {address.host} wants to know who may {verb} {address.repository}",
        hint=LOGIN_HINT.format(host=address.host),
    )


def _parsed(challenge: str) -> tuple[str, dict[str, str]]:
    """Scheme in lower case, and its parameters. Of several challenges in one header the first with a realm counts."""
    match = _CHALLENGE.match(challenge[:_LONGEST_CHALLENGE].strip())
    if match is None:
        return "", {}
    found: dict[str, str] = {}
    for name, quoted, bare in _PARAMETER.findall(match["rest"] or ""):
        found.setdefault(name.lower(), printable(re.sub(r"\\(.)", r"\1", quoted) or bare))
    return match["scheme"].lower(), found
