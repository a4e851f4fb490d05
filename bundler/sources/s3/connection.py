"""The way to an S3 endpoint: one question and its answer, by boto3's own rules (AWS_* variables, profiles, roles).

* Where there are no credentials, nothing is signed. Where no network may be asked, none is, for credentials neither.
* An answer is read up to a bound, and no further. What asks for credentials (a role's address) is boto3's own.
* A signed URL is in no message, log or lock.
"""

from threading import Lock
from typing import Any, Final

from bundler.settings import Settings
from bundler.sources.base import SIGNED_FOR
from bundler.sources.reference import Reference
from bundler.sources.s3.answers import check_body
from bundler.sources.s3.refusals import code_of, status_of, translated, understood
from bundler.sources.urls import host_of
from manifests.errors import MissingExtraError

MAXIMUM_ANSWER: Final = 16 * 1024**2
"""Bytes of an answer: a page with 1000 of the longest keys is 4 MiB."""
_ATTEMPTS: Final = 4
_LISTINGS: Final = ("ListObjectsV2", "ListObjectVersions")
_HEAD: Final = "head_object"


class Connection:
    """AWS, or the endpoint that the settings or a profile name; safe to use from several threads."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._guard = Lock()
        self._session: Any = None
        self._clients: dict[str, Any] = {}
        self._regions: dict[str, str] = {}
        self._answered: set[str] = set()
        self._signs = True

    def ask(self, operation: str, reference: Reference, bucket: str, **named: object) -> dict[str, Any] | None:
        """The answer to one question; None where there is no such object."""
        self._settings.check_online(str(reference))
        try:
            from botocore.exceptions import ClientError  # noqa: PLC0415 - boto3 is slow
        except ModuleNotFoundError as error:
            raise MissingExtraError("boto3", "build") from error
        with translated(reference, bucket, where=self.where, signs=lambda: self._signs):
            client = self._client(bucket)
            try:
                with understood(reference, where=self.where):
                    answer: dict[str, Any] = getattr(client, operation)(Bucket=bucket, **named)
            except ClientError as error:
                if status_of(error) == 404 and code_of(error) != "NoSuchBucket":
                    return None
                raise _reason(client, error, operation, {"Bucket": bucket, **named}) from error
        headers = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {})
        if region := headers.get("x-amz-bucket-region"):
            self._regions[bucket] = region
        self._answered.add(bucket)
        return answer

    def answered(self, bucket: str) -> bool:
        """Whether the bucket answered before: its region is known then, and the credentials are good for it."""
        return bucket in self._answered

    def url(self, reference: Reference, bucket: str, key: str, version: str) -> str:
        """Where the object lies, signed if there are credentials."""
        named = {"Bucket": bucket, "Key": key} | ({"VersionId": version} if version else {})
        with translated(reference, bucket, where=self.where, signs=lambda: self._signs):
            signed: str = self._client(bucket).generate_presigned_url("get_object", Params=named, ExpiresIn=SIGNED_FOR)
        return signed

    def where(self) -> str:
        """The endpoint, for a message."""
        endpoint = self._settings.buckets.endpoint
        for client in list(self._clients.values()):
            endpoint = client.meta.endpoint_url
        return host_of(endpoint) if endpoint else "the S3 endpoint"

    def _client(self, bucket: str) -> Any:
        """A client for the region where the bucket is said to be: a signature is for one region."""
        with self._guard:
            region = self._regions.get(bucket, "")
            if region not in self._clients:
                self._clients[region] = self._connect(region)
            return self._clients[region]

    def _connect(self, region: str) -> Any:
        import boto3  # noqa: PLC0415 - boto3 is slow to import
        from botocore import UNSIGNED  # noqa: PLC0415
        from botocore.config import Config  # noqa: PLC0415

        patience, certificates = self._settings.patience, self._settings.certificates
        if self._session is None:
            self._session = boto3.Session()
        self._signs = self._session.get_credentials() is not None
        client = self._session.client(
            "s3",
            region_name=region or None,
            endpoint_url=self._settings.buckets.endpoint,
            verify=str(certificates) if certificates else None,
            config=Config(
                signature_version="s3v4" if self._signs else UNSIGNED,
                connect_timeout=patience.connect,
                read_timeout=patience.stall,
                max_pool_connections=max(10, self._settings.threads),
                retries={"total_max_attempts": min(_ATTEMPTS, patience.attempts), "mode": "standard"},
            ),
        )
        for operation in _LISTINGS:
            client.meta.events.register_first(f"before-parse.*.{operation}", check_body)  # runs before that of `s3.*`
        endpoint = client._endpoint  # noqa: SLF001 - botocore has no other way to the session of a client
        endpoint.http_session = _Bounded(endpoint.http_session)
        return client


class _Bounded:
    """The HTTP session of a client, which reads an answer up to `MAXIMUM_ANSWER`; botocore reads all that comes."""

    def __init__(self, session: Any) -> None:
        self._session = session

    def send(self, request: Any) -> Any:
        """The answer to `request`. Errors: those of botocore; `ValueError` for too long an answer."""
        from botocore.awsrequest import AWSResponse  # noqa: PLC0415 - boto3 is slow to import

        streams, request.stream_output = request.stream_output, True
        response = self._session.send(request)
        if streams and response.status_code < 300:
            return response
        return AWSResponse(response.url, response.status_code, response.headers, _Read(response.raw, request.url))

    def close(self) -> None:
        """End the connections."""
        self._session.close()


class _Read:
    """A body that was read whole, as botocore reads one."""

    def __init__(self, raw: Any, url: str) -> None:
        self._content = _bounded(raw, url)

    def stream(self) -> list[bytes]:
        """The body."""
        return [self._content]


def _bounded(raw: Any, url: str) -> bytes:
    from botocore.exceptions import ConnectionClosedError  # noqa: PLC0415 - boto3 is slow to import
    from urllib3.exceptions import HTTPError  # noqa: PLC0415

    content = bytearray()
    try:
        for piece in raw.stream():
            content += piece
            if len(content) > MAXIMUM_ANSWER:
                raw.close()
                raise ValueError("too long an answer")
    except HTTPError as error:
        raise ConnectionClosedError(error=error, endpoint_url=url) from error
    return bytes(content)


def _reason(client: Any, error: Any, operation: str, named: dict[str, object]) -> Any:
    """The error with the server's reason: an answer to HEAD has no body to say it, and that to GET has one."""
    from botocore.exceptions import ClientError  # noqa: PLC0415 - boto3 is slow to import

    if operation != _HEAD or status_of(error) not in {400, 403}:
        return error
    named = {name: value for name, value in named.items() if name != "ChecksumMode"}
    try:
        client.get_object(**named, Range="bytes=0-0")["Body"].close()
    except ClientError as told:
        return told
    return error
