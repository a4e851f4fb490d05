"""Bodies of requests, taken in within bounds.

* The bytes of all bodies that are held at once have a bound. A body's share is set aside before it is read, and is
  free again when its request is answered: many clients that send at once cannot fill the memory.
* A body is read up to a limit and no further, whatever its length was announced to be, and within a time limit.
* Belongs to one event loop.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypeVar

import anyio
import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request

from manifests.errors import InvalidInputError

T = TypeVar("T")


class Intake:
    """The memory set aside for bodies."""

    def __init__(self, *, held_bytes: int, seconds: float) -> None:
        """`held_bytes` of all bodies at once; `seconds` for a body to arrive whole."""
        self._free = held_bytes
        self._seconds = seconds

    @asynccontextmanager
    async def json(self, request: Request, wanted: type[T], *, maximum_bytes: int) -> AsyncIterator[T]:
        """The body as a value of a type, its share of the memory taken until the block ends.

        Raises `InvalidInputError` for anything else. More than `maximum_bytes` is answered with 413, before the rest
        is read; a body without room with 503; one that takes too long with 408.
        """
        share = _Share(self)
        try:
            yield _parse(await self._read(request, share, maximum_bytes), wanted)
        finally:
            share.grow_to(0)

    def take(self, size: int) -> None:
        """Set `size` bytes more aside (or fewer, when negative)."""
        if size > self._free:
            raise HTTPException(503, "requests that came before fill the memory for requests: try again")
        self._free -= size

    async def _read(self, request: Request, share: "_Share", maximum_bytes: int) -> bytearray:
        announced = request.headers.get("content-length", "")
        length = int(announced) if announced.isdecimal() else 0
        if length > maximum_bytes:
            raise _too_large(maximum_bytes)
        share.grow_to(length)
        body = bytearray()
        try:
            with anyio.fail_after(self._seconds):
                async for piece in request.stream():
                    if len(body) + len(piece) > maximum_bytes:
                        raise _too_large(maximum_bytes)
                    share.grow_to(max(length, len(body) + len(piece)))
                    body += piece
        except TimeoutError as error:
            raise HTTPException(408, f"the request's body did not arrive within {self._seconds:g} seconds") from error
        return body


class _Share:
    """What one request holds of the memory for bodies."""

    def __init__(self, intake: Intake) -> None:
        self._intake = intake
        self._size = 0

    def grow_to(self, size: int) -> None:
        self._intake.take(size - self._size)
        self._size = size


def _parse(body: bytearray, wanted: type[T]) -> T:
    try:
        return msgspec.json.decode(body, type=wanted)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidInputError(f"the request's body: {error}") from error


def _too_large(maximum_bytes: int) -> HTTPException:
    return HTTPException(413, f"the request's body is larger than {maximum_bytes} bytes")
