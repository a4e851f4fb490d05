"""What the environment says: read once, into one frozen value, here and nowhere else on this side.

* Secrets (tokens, passphrases, credentials of an index) are in no `repr`, and go to no host but their own.
* Proxies are left to the HTTP library, which reads the usual variables itself, unless pip was told of one.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

from bundler.header_file import HeaderLine, read_headers
from bundler.mirrors import Mirror, mirrors_of
from bundler.pip_settings import PackageIndexes
from bundler.places import expanded
from bundler.sources.urls import WEB, checked_url
from manifests.errors import SourceError, SourceUnreachableError

DEFAULT_HUB: Final = "https://huggingface.co"
DEFAULT_ROBOFLOW: Final = "https://api.roboflow.com"
CERTIFICATES_OF_REQUESTS: Final = "CURL_CA_BUNDLE"
"""It counts where no other setting names certificates."""
_TOKEN_LIMIT: Final = 4096
_LONGEST_STALL: Final = 3600.0
"""Seconds. What pip's timeout may say beyond it, no system can wait for."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to try. Times are seconds; `attempts` counts tries in a row that brought no new byte."""

    attempts: int = 6
    first_pause: float = 0.5
    longest_pause: float = 30.0
    longest_wait: float = 300.0
    """A server that asks for more (`Retry-After`) is not waited for."""
    connect: float = 15.0
    stall: float = 60.0
    """A connection that brings nothing for so long is broken off."""


@dataclass(frozen=True, slots=True)
class Hub:
    """The model hub: `endpoint` has no slash at its end."""

    endpoint: str = DEFAULT_HUB
    token: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Buckets:
    """S3. Credentials, profiles and regions are boto3's own business: it reads the usual AWS_* variables itself."""

    endpoint: str | None = None
    """None for what boto3 would ask: AWS, or the endpoint of a profile."""


@dataclass(frozen=True, slots=True)
class Azure:
    """Azure's storage, as its own command line reads it: a connection string, else an account with its key or a SAS.

    Empty is what is not set. Nothing is checked here: whoever asks no Azure hears nothing of what is wrong with it.
    """

    connection_string: str = field(default="", repr=False)
    account: str = ""
    key: str = field(default="", repr=False)
    sas_token: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Registries:
    """OCI registries: the files in which a login is looked for, one after the other."""

    logins: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True)
class Roboflow:
    """The service that has models and workflows by id: `host` is a URL with no slash at its end."""

    host: str = DEFAULT_ROBOFLOW
    key: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Settings:
    """What the connected side was told by its environment."""

    store: Path
    hub: Hub = Hub()
    buckets: Buckets = Buckets()
    azure: Azure = Azure()
    registries: Registries = Registries()
    roboflow: Roboflow = Roboflow()
    packages: PackageIndexes = field(default_factory=PackageIndexes)
    certificates: Path | None = None
    """A file of CA certificates, or a folder of them; None for those that come with the HTTP library."""
    patience: Patience = Patience()
    threads: int = 4
    """Files fetched at once."""
    key_passphrase: str | None = field(default=None, repr=False)
    offline: bool = False
    """Ask no network: the store alone answers."""
    mirrors: tuple[Mirror, ...] = ()
    """What is asked in place of what."""
    headers: tuple[HeaderLine, ...] = field(default=(), repr=False)
    """Headers that some origins want."""

    def check_online(self, subject: str) -> None:
        """`SourceUnreachableError` when nothing may be asked. Whoever makes connections calls it before the first."""
        if self.offline:
            raise SourceUnreachableError(
                f"{subject}: the store does not have it, and --offline asks no network",
                hint="run this once without --offline, or name a store that has it: --store",
            )

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> Self:
        """The settings that `environ` gives. Errors: `SourceError` for a value or a file that cannot be used."""
        packages = PackageIndexes.read(environ, home=home(environ))
        endpoint = _hub_endpoint(environ)
        return cls(
            store=store_path(environ),
            hub=Hub(endpoint, _hub_token(environ)),
            buckets=Buckets(_bucket_endpoint(environ)),
            azure=_azure(environ),
            registries=_registries(environ),
            roboflow=_roboflow(environ),
            packages=packages,
            certificates=_certificates(environ, packages),
            patience=Patience(stall=min(max(packages.timeout or 0.0, Patience().stall), _LONGEST_STALL)),
            key_passphrase=environ.get("BUNDLE_KEY_PASSPHRASE"),
            mirrors=mirrors_of(environ.get("BUNDLE_MIRRORS", ""), subject="BUNDLE_MIRRORS"),
            headers=_headers(environ),
        )


def home(environ: Mapping[str, str]) -> Path:
    """The home of this user: `HOME`, or where that is not set, what the machine says."""
    return Path(environ["HOME"]) if environ.get("HOME") else expanded("~")


def store_path(environ: Mapping[str, str]) -> Path:
    """Where the store is, whatever is wrong with other settings."""
    return Path(environ.get("BUNDLE_STORE") or _caches(environ) / "offline-bundle" / "store")


def _caches(environ: Mapping[str, str]) -> Path:
    return Path(environ.get("XDG_CACHE_HOME") or home(environ) / ".cache")


def _headers(environ: Mapping[str, str]) -> tuple[HeaderLine, ...]:
    """The lines of the file that `BUNDLE_HEADERS` names, else of the one among the user's own settings, if any."""
    if named := environ.get("BUNDLE_HEADERS"):
        return read_headers(expanded(named), needed=True)
    folder = Path(environ.get("XDG_CONFIG_HOME") or home(environ) / ".config")
    return read_headers(folder / "offline-bundle" / "headers", needed=False)


def _hub_endpoint(environ: Mapping[str, str]) -> str:
    endpoint = (environ.get("HF_ENDPOINT") or DEFAULT_HUB).rstrip("/")
    parts = checked_url(endpoint, subject="HF_ENDPOINT")
    if parts.scheme not in WEB or parts.query or parts.fragment:
        raise SourceError("HF_ENDPOINT is no address of a web service", hint=f"as {DEFAULT_HUB}")
    if "@" in parts.netloc:
        raise SourceError(
            "HF_ENDPOINT: no user or password goes into it",
            hint="a token goes into HF_TOKEN, another password into ~/.netrc or the file that BUNDLE_HEADERS names",
        )
    return endpoint


def _bucket_endpoint(environ: Mapping[str, str]) -> str | None:
    for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"):
        if endpoint := environ.get(name, "").rstrip("/"):
            if "@" in checked_url(endpoint, subject=name).netloc:
                raise SourceError(
                    f"{name}: an S3 endpoint's URL has no user or password",
                    hint="credentials go into AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or into a profile",
                )
            return endpoint
    return None


def _azure(environ: Mapping[str, str]) -> Azure:
    return Azure(
        connection_string=environ.get("AZURE_STORAGE_CONNECTION_STRING", "").strip(),
        account=environ.get("AZURE_STORAGE_ACCOUNT", "").strip(),
        key=environ.get("AZURE_STORAGE_KEY", "").strip(),
        sas_token=environ.get("AZURE_STORAGE_SAS_TOKEN", "").strip(),
    )


def _registries(environ: Mapping[str, str]) -> Registries:
    """Where podman and skopeo keep logins, then where docker does. A file that is named is the only one, as there."""
    if named := environ.get("REGISTRY_AUTH_FILE"):
        return Registries((expanded(named),))
    folder = Path(environ.get("XDG_CONFIG_HOME") or home(environ) / ".config")
    folders = [Path(environ["XDG_RUNTIME_DIR"])] if environ.get("XDG_RUNTIME_DIR") else []
    docker = expanded(environ["DOCKER_CONFIG"]) if environ.get("DOCKER_CONFIG") else home(environ) / ".docker"
    return Registries((*(each / "containers" / "auth.json" for each in (*folders, folder)), docker / "config.json"))


def _roboflow(environ: Mapping[str, str]) -> Roboflow:
    host = (environ.get("ROBOFLOW_API_HOST") or DEFAULT_ROBOFLOW).rstrip("/")
    parts = checked_url(host, subject="ROBOFLOW_API_HOST")
    if parts.scheme not in WEB or not parts.hostname or parts.query:
        raise SourceError("ROBOFLOW_API_HOST is no address of a web service", hint=f"as {DEFAULT_ROBOFLOW}")
    if "@" in parts.netloc:
        raise SourceError("ROBOFLOW_API_HOST: no user or password goes into it", hint="the key is ROBOFLOW_API_KEY")
    key = (environ.get("ROBOFLOW_API_KEY") or "").strip()
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise SourceError(
            "ROBOFLOW_API_KEY: a key has no white space and no character beyond ASCII",
            hint="copy the key again, by itself",
        )
    return Roboflow(host, key or None)


def _hub_token(environ: Mapping[str, str]) -> str | None:
    """The token of `HF_TOKEN`, or of the file where the hub's own client keeps it."""
    if token := (environ.get("HF_TOKEN") or environ.get("HUGGING_FACE_HUB_TOKEN") or "").strip():
        return _checked_token(token, "HF_TOKEN")
    folder = Path(environ.get("HF_HOME") or _caches(environ) / "huggingface")
    path = expanded(environ.get("HF_TOKEN_PATH") or folder / "token")
    try:
        with path.open(encoding="utf-8") as stream:
            return _checked_token(stream.read(_TOKEN_LIMIT).strip(), str(path)) or None
    except (FileNotFoundError, NotADirectoryError):
        return None
    except UnicodeDecodeError:  # its words quote a part of the token
        raise SourceError(f"the hub's token file {path} is not text") from None
    except OSError as error:
        raise SourceError(f"the hub's token file {path} cannot be read: {error.strerror}") from error


def _checked_token(token: str, subject: str) -> str:
    """A token that can stand in a header; the error does not quote it."""
    if not (token.isascii() and token.isprintable()) or " " in token:
        raise SourceError(
            f"{subject}: a token has no white space and no character beyond ASCII",
            hint="copy the token again, by itself: `hf_…`",
        )
    return token


def _certificates(environ: Mapping[str, str], packages: PackageIndexes) -> Path | None:
    name = certificates_variable(environ)
    if name is None and packages.certificates is not None:
        return packages.certificates
    path = environ[name] if name else environ.get(CERTIFICATES_OF_REQUESTS)
    return Path(path) if path else None


def certificates_variable(environ: Mapping[str, str]) -> str | None:
    """The variable whose certificates count; None where it is pip's setting that does."""
    return next((name for name in ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE") if environ.get(name)), None)
