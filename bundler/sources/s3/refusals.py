"""What boto3 raises, as errors of the source: each with the way out, and none that quotes a credential or a URL."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from bundler.answers import LATER_HINT, TRUST_HINT, asks_again
from bundler.sources.reference import Reference
from bundler.sources.s3.answers import GARBLED, foreign
from manifests.errors import (
    ManifestError,
    SourceDeniedError,
    SourceError,
    SourceNotFoundError,
    SourceUnreachableError,
    printable,
)  # fmt: skip

_DENIED: Final = frozenset({401, 403})
_BUSY: Final = frozenset({"SlowDown", "RequestTimeout"})
_EXPIRED: Final = frozenset({"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired", "RequestExpired"})
_KEYS: Final = frozenset({"InvalidToken", "InvalidAccessKeyId", "SignatureDoesNotMatch", "AccessDenied"})
_CREDENTIALS: Final = "credentials come from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or from AWS_PROFILE"
_RENEW: Final = "log in again (`aws sso login`), or set the new AWS_SESSION_TOKEN together with its two keys"
_CLOCK: Final = "set the clock of this machine: signatures name the time"
_REGION: Final = "AWS_DEFAULT_REGION, or the `region` of the profile, names the bucket's region"


@contextmanager
def translated(
    reference: Reference, bucket: str, *, where: Callable[[], str], signs: Callable[[], bool]
) -> Iterator[None]:
    """What boto3 raises in this block, as an error of the source. `where` names the endpoint."""
    from botocore import exceptions  # noqa: PLC0415 - boto3 is slow to import

    try:
        yield
    except exceptions.ClientError as error:
        raise _refusal(error, reference, bucket, where=where(), signs=signs()) from error
    except exceptions.ParamValidationError as error:
        raise ManifestError(f"{reference}: {printable(bucket)!r} cannot be the name of a bucket") from error
    except exceptions.SSLError as error:
        raise SourceUnreachableError(
            f"{reference}: no TLS connection to {where()}",
            hint=TRUST_HINT,
        ) from error
    except (exceptions.HTTPClientError, exceptions.ConnectionError, exceptions.EndpointConnectionError) as error:
        raise SourceUnreachableError(
            f"{reference}: no answer from {where()}",
            hint="AWS_ENDPOINT_URL names an endpoint other than that of AWS, AWS_DEFAULT_REGION a region there; "
            "what was fetched is kept",
        ) from error
    except (
        exceptions.ProfileNotFound, exceptions.NoCredentialsError, exceptions.PartialCredentialsError,
        exceptions.CredentialRetrievalError, exceptions.TokenRetrievalError, exceptions.SSOError,
        exceptions.UnauthorizedSSOTokenError,
    ) as error:  # fmt: skip
        told = f"{reference}: the credentials cannot be had ({type(error).__name__})"
        raise SourceDeniedError(told, hint=_CREDENTIALS) from error
    except exceptions.InvalidRegionError as error:
        raise SourceError(f"{reference}: what is set as the region cannot be the name of one", hint=_REGION) from error
    except exceptions.BotoCoreError as error:
        raise SourceError(f"{reference}: {type(error).__name__} from the S3 client") from error
    except ValueError as error:  # its words quote the URL of a profile's endpoint
        hint = "look at AWS_ENDPOINT_URL, AWS_DEFAULT_REGION and the endpoint_url of the profile"
        raise SourceError(f"{reference}: the S3 client cannot use its settings", hint=hint) from error


@contextmanager
def understood(reference: Reference, *, where: Callable[[], str]) -> Iterator[None]:
    """What botocore's parser stumbles over in an answer, as an error of the source."""
    from botocore.exceptions import BotoCoreError  # noqa: PLC0415 - boto3 is slow to import
    from botocore.parsers import ResponseParserError  # noqa: PLC0415

    try:
        yield
    except BotoCoreError:  # some are a ValueError too
        raise
    except (ResponseParserError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise foreign(reference, where=where()) from error


def status_of(error: Any) -> int:
    """The HTTP status of a `ClientError`."""
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def code_of(error: Any) -> str:
    """What the server calls the reason; where its answer has no body, botocore puts the status there."""
    return str(error.response.get("Error", {}).get("Code", ""))


def _refusal(error: Any, reference: Reference, bucket: str, *, where: str, signs: bool) -> SourceError:
    """The error for an answer that is none."""
    status, code = status_of(error), printable(code_of(error))[:60]
    if error.response.get(GARBLED):
        return foreign(reference, where=where)
    if code == "NoSuchBucket":
        return SourceNotFoundError(f"{reference}: {where} has no bucket {bucket}")
    told = f"{reference}: {where} answered {status}" + (f" ({code})" if not code.isdecimal() else "")
    if asks_again(status) or code in _BUSY:
        return SourceUnreachableError(told, hint=LATER_HINT)
    if code == "RequestTimeTooSkewed":
        return SourceDeniedError(told, hint=_CLOCK)
    if code in _EXPIRED:
        return SourceDeniedError(f"{told}: the credentials have expired", hint=_RENEW)
    if status in _DENIED or code in _KEYS or (status == 400 and not signs):  # some call the missing signature bad
        held = "" if signs else "no credentials were found, so nothing was signed; "
        return SourceDeniedError(told, hint=held + _CREDENTIALS)
    return SourceError(told, hint=_hint_of_region(error) if status in {301, 307, 400} else "")


def _hint_of_region(error: Any) -> str:
    headers = error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    region = str(error.response.get("Error", {}).get("Region") or headers.get("x-amz-bucket-region") or "")
    return f"the bucket is in {printable(region)[:60]}: {_REGION}" if region else _REGION
