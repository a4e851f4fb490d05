"""What the environment says: read once, into one frozen value, here and nowhere else on this side.

* Secrets (tokens, passphrases, credentials of an index) are in no `repr`, and go to no host but their own.
* Proxies are left to the HTTP library, which reads the usual variables itself, unless pip was told of one.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

from bundler.pip_settings import PackageIndexes
from bundler.places import expanded
from bundler.sources.urls import checked_url
from manifests.errors import SourceError

DEFAULT_HUB: Final = "https://huggingface.co"
_TOKEN_LIMIT: Final = 4096


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
class Settings:
    """What the connected side was told by its environment."""

    store: Path
    hub: Hub = Hub()
    buckets: Buckets = Buckets()
    packages: PackageIndexes = field(default_factory=PackageIndexes)
    certificates: Path | None = None
    """A file of CA certificates, or a folder of them; None for those that come with the HTTP library."""
    patience: Patience = Patience()
    threads: int = 4
    """Files fetched at once."""
    key_passphrase: str | None = field(default=None, repr=False)

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> Self:
        """The settings that `environ` gives. Errors: `SourceError` if a configuration file of pip cannot be read."""
        packages = PackageIndexes.read(environ, home=home(environ))
        endpoint = (environ.get("HF_ENDPOINT") or DEFAULT_HUB).rstrip("/")
        checked_url(endpoint, subject="HF_ENDPOINT")
        return cls(
            store=store_path(environ),
            hub=Hub(endpoint, _hub_token(environ)),
            buckets=Buckets(_bucket_endpoint(environ)),
            packages=packages,
            certificates=_certificates(environ, packages),
            patience=Patience(stall=max(packages.timeout or 0.0, Patience().stall)),
            key_passphrase=environ.get("BUNDLE_KEY_PASSPHRASE"),
        )


def home(environ: Mapping[str, str]) -> Path:
    """The home of this user: `HOME`, or where that is not set, what the machine says."""
    return Path(environ["HOME"]) if environ.get("HOME") else expanded("~")


def store_path(environ: Mapping[str, str]) -> Path:
    """Where the store is, whatever is wrong with other settings."""
    return Path(environ.get("BUNDLE_STORE") or _caches(environ) / "offline-bundle" / "store")


def _caches(environ: Mapping[str, str]) -> Path:
    return Path(environ.get("XDG_CACHE_HOME") or home(environ) / ".cache")


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


def _hub_token(environ: Mapping[str, str]) -> str | None:
    """The token of `HF_TOKEN`, or of the file where the hub's own client keeps it."""
    if token := (environ.get("HF_TOKEN") or environ.get("HUGGING_FACE_HUB_TOKEN") or "").strip():
        return _checked_token(token, "HF_TOKEN")
    folder = Path(environ.get("HF_HOME") or _caches(environ) / "huggingface")
    path = expanded(environ.get("HF_TOKEN_PATH") or folder / "token")
    try:
        with path.open(encoding="utf-8") as stream:
            return _checked_token(stream.read(_TOKEN_LIMIT).strip(), str(path)) or None
    except FileNotFoundError:
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
    return Path(environ[name]) if name else packages.certificates


def certificates_variable(environ: Mapping[str, str]) -> str | None:
    """The variable whose certificates count; None where it is pip's setting that does."""
    return next((name for name in ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE") if environ.get(name)), None)
