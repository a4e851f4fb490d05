"""JSON out of the server. How it comes in is `intake`'s."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from starlette.responses import Response

JSON: Final = "application/json"

_ENCODER: Final = msgspec.json.Encoder()


def json_response(document: Any, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A document as a response. What is no finite number is `null`."""
    return Response(_ENCODER.encode(document), status_code=status, media_type=JSON, headers=headers)
