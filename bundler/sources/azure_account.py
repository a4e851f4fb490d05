"""The storage account of Azure that the settings name: what opens it, questions to it, and URLs that read one blob.

All of azure-storage-blob is here but for the questions themselves.
* What cannot be used is refused before anything is asked. Plain HTTP only where a connection string says so.
* An account's key never leaves this machine: what is made of it reads one blob, for half a day. A SAS that was given
  goes to its account as it is. Without either, nothing is signed.
* No words of the library are passed on, nor are its errors chained: they quote URLs, and so signatures.
* An answer that is not Azure's (a login page, a broken listing) is told as that.
"""

import base64
import binascii
import logging
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from threading import Lock
from typing import Any, Final, TypeVar
from urllib.parse import parse_qs, quote, urlsplit

from bundler.answers import TRUST_HINT, asks_again
from bundler.http import BrokenOffError, Client
from bundler.settings import Azure, Settings
from bundler.sources.base import SIGNED_FOR
from bundler.sources.urls import WEB, checked_url, host_of
from manifests.errors import (
    ManifestError,
    MissingExtraError,
    SourceDeniedError,
    SourceError,
    SourceNotFoundError,
    SourceUnreachableError,
    printable,
)  # fmt: skip

T = TypeVar("T")

FOREIGN: Final = "is the endpoint that of Azure's blob storage, and does no login page answer for it?"
_CREDENTIALS: Final = (
    "credentials come from AZURE_STORAGE_CONNECTION_STRING, or from AZURE_STORAGE_ACCOUNT with AZURE_STORAGE_KEY or "
    "AZURE_STORAGE_SAS_TOKEN"
)
_STRING: Final = "AZURE_STORAGE_CONNECTION_STRING"
_WHERE_FROM: Final = "copy it whole from the account's page: Access keys, or Shared access signature"
_NAMES_SAS: Final = re.compile(r"^(?!.*AccountKey=).*SharedAccessSignature=", re.IGNORECASE | re.DOTALL)
"""A connection string that opens the account by a SAS: the library takes what is none for a key."""
_ACCOUNT: Final = re.compile(r"[a-z0-9]{3,24}")
_DOMAIN: Final = "blob.core.windows.net"
_MAXIMUM_ANSWER: Final = 32 * 1024**2
"""Bytes of an answer that are parsed: 1000 of the longest names with 8 KiB of metadata each, and some more."""
_EXPIRES: Final = timedelta(seconds=SIGNED_FOR)
"""How long a signed URL is good for: a slow download is resumed by the next run with a new one."""
_MARK: Final = "x-ms-request-id"
"""Every answer of Azure's storage has this header."""


class _ForeignError(Exception):
    """An answer that is not Azure's. Never leaves this module."""


class Account:
    """The account; safe to use from several threads. Nothing is looked at before the first question."""

    def __init__(self, settings: Settings, client: Client) -> None:
        self._settings = settings
        self._client = client
        self._guard = Lock()
        self._service: Any = None
        self._told: datetime | None = None

    @property
    def signs(self) -> bool:
        """Whether what is asked is signed. Known after a question."""
        return self._service.credential is not None or bool(urlsplit(self._service.url).query)

    def ask(self, question: Callable[[Any], T], container: str, *, subject: str) -> T | None:
        """What `question` gets out of a `BlobServiceClient`, asked again where that may help; None for a missing blob.

        Errors: `SourceError` and its kinds; `ManifestError` for a name that no container can have; `MissingExtraError`.
        """
        self._settings.check_online(subject)
        with self._guard:
            if self._service is None:
                self._service = self._connect(subject)
        return self._client.persist(lambda: self._attempt(question, container, subject), subject=subject)

    def url(self, container: str, name: str, *, version: str) -> str:
        """Where the bytes of a blob are, with the SAS that was given, or one made for this blob alone."""
        address = self._service.get_blob_client(container, name).url
        parts = urlsplit(address)
        query = [
            parts.query,
            f"versionid={quote(version, safe='')}" if version else "",
            self._signature(container, name, version, https=parts.scheme == "https"),
        ]
        return str(parts._replace(query="&".join(filter(None, query))).geturl())

    def foreign(self, subject: str) -> SourceError:
        """The error for an answer that is not Azure's."""
        return SourceError(f"{subject}: the answer of {self._where} is not Azure's", hint=FOREIGN)

    def _signature(self, container: str, name: str, version: str, *, https: bool) -> str:
        """A SAS for one blob, made of the account's key; empty without one. It counts from the server's own time."""
        from azure.storage.blob import generate_blob_sas  # noqa: PLC0415 - slow to import

        key = getattr(self._service.credential, "account_key", None)
        if key is None:
            return ""
        if self._told is None:
            raise SourceError(f"{self._where} does not say what time it is", hint=FOREIGN)
        return generate_blob_sas(
            self._service.account_name,
            container,
            name,
            account_key=key,
            permission="r",
            expiry=self._told + _EXPIRES,
            protocol="https" if https else None,
            version_id=version or None,
        )

    def _connect(self, subject: str) -> Any:
        try:
            import azure.storage.blob  # noqa: F401, PLC0415 - slow to import
        except ModuleNotFoundError as error:
            raise MissingExtraError("azure-storage-blob", "azure") from error
        logging.getLogger("azure").addHandler(logging.NullHandler())  # else its warnings go to stderr
        patience, certificates = self._settings.patience, self._settings.certificates
        options = {
            "retry_total": 0,
            "permit_redirects": False,
            "raw_response_hook": self._heard,
            "connection_timeout": patience.connect,
            "read_timeout": patience.stall,
            "connection_verify": str(certificates) if certificates else True,
        }
        named = self._settings.azure
        if not named.connection_string and not named.account:
            raise SourceDeniedError(f"{subject}: no storage account of Azure is named", hint=_CREDENTIALS)
        return (_by_string if named.connection_string else _by_names)(named, options)

    def _heard(self, response: Any) -> None:
        """Called by azure-storage-blob with every answer, before it is parsed."""
        answer = response.http_response
        if answer.status_code != 200:
            return
        if _MARK not in answer.headers or len(answer.body()) > _MAXIMUM_ANSWER:
            raise _ForeignError
        if date := answer.headers.get("Date"):
            self._told = parsedate_to_datetime(date)

    def _attempt(self, question: Callable[[Any], T], container: str, subject: str) -> T | None:
        from azure.core.exceptions import ResourceNotFoundError  # noqa: PLC0415 - slow to import

        self._client.check_running(subject)
        with self._translated(container, subject):
            try:
                return question(self._service)
            except ResourceNotFoundError as error:
                if _MARK in _headers(error) and _code(error) == "BlobNotFound":
                    return None
                raise

    @contextmanager
    def _translated(self, container: str, subject: str) -> Iterator[None]:
        from azure.core import exceptions  # noqa: PLC0415 - slow to import

        try:
            yield
        except (exceptions.ServiceRequestError, exceptions.ServiceResponseError) as error:
            if _is_tls(error):
                raise SourceUnreachableError(
                    f"{subject}: no TLS connection to {self._where}",
                    hint=TRUST_HINT,
                ) from None
            raise BrokenOffError(f"no answer from {self._where} (no network, or no such account)") from None
        except exceptions.DecodeError:
            raise self.foreign(subject) from None
        except exceptions.HttpResponseError as error:
            if error.response is None:
                raise BrokenOffError(f"the answer of {self._where} broke off") from None
            raise self._refusal(error, container, subject) from None
        except (exceptions.AzureError, _ForeignError, ValueError, KeyError, TypeError, AttributeError):
            raise self.foreign(subject) from None

    def _refusal(self, error: Any, container: str, subject: str) -> Exception:
        """The error for an answer that is none."""
        status, code = error.status_code, printable(_code(error))[:60]
        told = f"{self._where} answered {status}" + (f" ({code})" if code else "")
        if asks_again(status):
            return BrokenOffError(told)
        if _MARK not in _headers(error) or status == 200:
            return self.foreign(subject)
        if code == "ContainerNotFound":
            return SourceNotFoundError(f"{subject}: {self._where} has no container {container}")
        if code == "InvalidResourceName":
            return ManifestError(f"{subject}: {container!r} cannot be the name of a container")
        if status in {401, 403} or code == "PublicAccessNotPermitted":
            return SourceDeniedError(f"{subject}: {told}", hint=self._way_in(error))
        if status == 404 and not self.signs:
            unsigned = f"a private container looks like none to who signs nothing; {_CREDENTIALS}"
            return SourceNotFoundError(f"{subject}: {told}", hint=unsigned)
        return SourceNotFoundError(f"{subject}: {told}") if status == 404 else SourceError(f"{subject}: {told}")

    def _way_in(self, error: Any) -> str:
        """What may help where the account is closed."""
        if not self.signs:
            return f"no credentials were found, so nothing was signed; {_CREDENTIALS}"
        if self._service.credential is not None:
            doubts = "is the key this account's, the clock of this machine right, its address let in by the firewall?"
            return f"{doubts} {_CREDENTIALS}"
        expiry = parse_qs(urlsplit(self._service.url).query).get("se", [""])[0]
        if _is_past(expiry, _headers(error).get("Date", "")):
            return f"the SAS expired: it was good until {printable(expiry)[:40]}"
        return f"the SAS must let read and list (sp=rl) in this container; {_CREDENTIALS}"

    @property
    def _where(self) -> str:
        return host_of(self._service.url)


def _by_string(azure: Azure, options: Mapping[str, Any]) -> Any:
    from azure.storage.blob import BlobServiceClient  # noqa: PLC0415 - slow to import

    try:
        service = BlobServiceClient.from_connection_string(azure.connection_string, **options)
    except (ValueError, KeyError, TypeError):  # their words may quote it
        raise SourceError(f"{_STRING} is not a connection string", hint=_WHERE_FROM) from None
    parts = checked_url(service.url, subject=_STRING)
    if parts.scheme not in WEB or "@" in parts.netloc or "//" in parts.path:
        raise SourceError(f"{_STRING}: its endpoint is no web address without a user", hint=_WHERE_FROM)
    if parts.query or _NAMES_SAS.search(azure.connection_string):
        _check_sas(parts.query, _STRING)
    _check_key(service, _STRING)
    return service


def _by_names(azure: Azure, options: Mapping[str, Any]) -> Any:
    from azure.storage.blob import BlobServiceClient  # noqa: PLC0415 - slow to import

    if not _ACCOUNT.fullmatch(azure.account):
        raise SourceError(
            "AZURE_STORAGE_ACCOUNT is not the name of a storage account",
            hint="3 to 24 lower-case letters and digits, without a domain",
        )
    credential: Any = None
    if azure.key:
        credential = {"account_name": azure.account, "account_key": azure.key}
    elif azure.sas_token:
        credential = azure.sas_token.lstrip("?")
        _check_sas(credential, "AZURE_STORAGE_SAS_TOKEN")
    service = BlobServiceClient(f"https://{azure.account}.{_DOMAIN}", credential=credential, **options)
    _check_key(service, "AZURE_STORAGE_KEY")
    return service


def _check_key(service: Any, subject: str) -> None:
    key = getattr(service.credential, "account_key", None)
    try:
        if key is not None and not base64.b64decode(key, validate=True):
            raise ValueError
    except (binascii.Error, ValueError):
        raise SourceError(f"{subject}: the account's key is not base64", hint=_WHERE_FROM) from None


def _check_sas(token: str, subject: str) -> None:
    if not token.isascii() or not token.isprintable() or not parse_qs(token).get("sig"):
        raise SourceError(f"{subject}: that is no SAS: it has no signature", hint="sv=…&se=…&sp=rl&sig=…")


def _code(error: Any) -> str:
    code = getattr(error, "error_code", None)
    return str(getattr(code, "value", code) or "")


def _headers(error: Any) -> Mapping[str, str]:
    headers: Mapping[str, str] = error.response.headers
    return headers


def _is_tls(error: BaseException | None) -> bool:
    while error is not None:
        if "SSL" in type(error).__name__:
            return True
        error = getattr(error, "inner_exception", None) or error.__cause__ or error.__context__
    return False


def _is_past(expiry: str, date: str) -> bool:
    """Whether a SAS had ended when the server answered: its clock counts, not the one of this machine."""
    try:
        until, now = datetime.fromisoformat(expiry), parsedate_to_datetime(date)
    except (TypeError, ValueError):
        return False
    return until.replace(tzinfo=until.tzinfo or UTC) < now.replace(tzinfo=now.tzinfo or UTC)
