"""From an error to a status and a body: the one place where HTTP meets the error tree.

* Every answer that is not a success is JSON with `message` (what Roboflow's clients read) and `error` (what Open
  Inference Protocol clients read), the same text in both.
* Nothing of this machine (paths, tracebacks) goes beyond what the error itself says.
"""

from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from manifests.errors import (
    BundleError,
    InvalidInputError,
    MissingExtraError,
    ModelError,
    ModelLoadError,
    StorageError,
    UnknownModelError,
)
from runtime.server.json_bodies import json_response

# Subclasses before their parents: the first class that fits decides.
_STATUSES: Final[tuple[tuple[type[BundleError], int], ...]] = (
    (UnknownModelError, 404),
    (InvalidInputError, 400),
    (MissingExtraError, 501),
    (ModelLoadError, 500),
    (ModelError, 500),
    (StorageError, 503),
    (BundleError, 500),
)


def status_of(error: BundleError) -> int:
    """The HTTP status for an error of the tree."""
    return next(status for kind, status in _STATUSES if isinstance(error, kind))


def error_response(status: int, message: str, *, hint: str = "", kind: str = "") -> Response:
    """The body that every client understands; `hint` and `type` are added when there is one."""
    body = {"message": message, "error": message, "hint": hint, "type": kind}
    return json_response({key: value for key, value in body.items() if value}, status=status)


def answer_bundle_error(_: Request, error: Exception) -> Response:
    """An error that the runtime raised on purpose."""
    known = error if isinstance(error, BundleError) else BundleError(str(error))
    return error_response(status_of(known), str(known), hint=known.hint, kind=type(known).__name__)


def answer_http_exception(_: Request, error: Exception) -> Response:
    """No such route, a wrong method, a body that is too large."""
    if isinstance(error, HTTPException):
        return error_response(error.status_code, error.detail)
    return answer_bug(_, error)


def answer_bug(_: Request, error: Exception) -> Response:
    """The last resort: what happened is in the server's log, not in the answer."""
    return error_response(500, "the server failed on this request", kind=type(error).__name__)
