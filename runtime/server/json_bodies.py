"""JSON in and out of a request, bounded.

* A body is read up to a limit and no further, whatever its length was announced to be.
* What arrives is parsed into a type, or refused with the place where it does not fit.
"""

from typing import Any, Final, TypeVar

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from manifests.errors import InvalidInputError

JSON: Final = "application/json"

T = TypeVar("T")

_ENCODER: Final = msgspec.json.Encoder()


def json_response(document: Any, *, status: int = 200) -> Response:
    """A document as a response."""
    return Response(_ENCODER.encode(document), status_code=status, media_type=JSON)


async def read_body(request: Request, *, maximum_bytes: int) -> bytes:
    """The whole body. More than `maximum_bytes` is answered with 413, before the rest is read."""
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and int(announced) > maximum_bytes:
        raise _too_large(maximum_bytes)
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > maximum_bytes:
            raise _too_large(maximum_bytes)
    return bytes(body)


async def read_json(request: Request, wanted: type[T], *, maximum_bytes: int) -> T:
    """The body as a value of a type. Raises `InvalidInputError` for anything else."""
    body = await read_body(request, maximum_bytes=maximum_bytes)
    try:
        return msgspec.json.decode(body, type=wanted)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidInputError(f"the request's body: {error}") from error


def _too_large(maximum_bytes: int) -> HTTPException:
    return HTTPException(413, f"the request's body is larger than {maximum_bytes} bytes")
