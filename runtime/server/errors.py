"""From an error to a status and a body: the one place where HTTP meets the error tree.

* Every answer that is not a success is JSON with `message` (what Roboflow's clients read) and `error` (what Open
  Inference Protocol clients read), the same text in both.
* Nothing of this machine (paths, tracebacks) leaves it: an error whose message may name a file is answered with what
  its class means and its hint; the message goes to the log, which is stderr unless somebody says otherwise.
"""

import logging
from collections.abc import Mapping
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
    printable,
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
# These speak of what the client sent, never of this disk.
_TOLD: Final = (UnknownModelError, InvalidInputError, MissingExtraError)

_LOG: Final = logging.getLogger(__name__)


def status_of(error: BundleError) -> int:
    """The HTTP status for an error of the tree."""
    return next(status for kind, status in _STATUSES if isinstance(error, kind))


def message_of(error: BundleError) -> str:
    """What a client may know of an error; what it may not is logged."""
    if isinstance(error, _TOLD):
        return str(error)
    facts = "".join(f"\n  {name}: {printable(value)}" for name, value in error.facts.items())
    _LOG.error("%s: %s%s", type(error).__name__, error, facts)
    return error.meaning


def error_response(
    status: int, message: str, *, hint: str = "", kind: str = "", headers: Mapping[str, str] | None = None
) -> Response:
    """The body that every client understands; `hint` and `type` are added when there is one."""
    body = {"message": message, "error": message, "hint": hint, "type": kind}
    return json_response({key: value for key, value in body.items() if value}, status=status, headers=headers)


def answer_bundle_error(_: Request, error: Exception) -> Response:
    """An error that the runtime raised on purpose."""
    known = error if isinstance(error, BundleError) else BundleError(str(error))
    return error_response(status_of(known), message_of(known), hint=known.hint, kind=type(known).__name__)


def answer_http_exception(_: Request, error: Exception) -> Response:
    """No such route, a wrong method, a body that is too large."""
    if isinstance(error, HTTPException):
        return error_response(error.status_code, error.detail, headers=error.headers)
    return answer_bug(_, error)


def answer_half_a_request(_: Request, error: Exception) -> Response:
    """The client is gone, which is no fault of anybody here, or the server stops before the body was whole."""
    del error
    return error_response(503, "the request did not arrive whole")


def answer_bug(_: Request, error: Exception) -> Response:
    """The last resort: what happened is in the server's log, not in the answer."""
    return error_response(500, "the server failed on this request", kind=type(error).__name__)
