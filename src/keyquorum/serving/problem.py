"""How a server says no: one shape, `{"error": {"code", "message", "hint"}}`, for node, gateway and code service alike.

Whatever a caller sends ends in a status below 500; 503 means that this server cannot serve now. A refusal carries no
secret, path or traceback. Exceptions nobody foresaw are logged by type and place and answered without detail.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
import structlog
from aiohttp import web

BAD_REQUEST, TOO_SLOW, TOO_LARGE, WRONG_TYPE, TOO_MANY, UNAVAILABLE = 400, 408, 413, 415, 429, 503
HUNG_UP = "hung_up"
log = structlog.get_logger("keyquorum.serving")


@dataclass
class Refusal(Exception):
    """An answer that is a refusal: HTTP status, what is wrong for programs and for people, and what to do about it.

    `retry_after` are the seconds for the header of that name, 0 for none; `more` stands in the body beside the rest.
    """

    status: int
    code: str
    message: str
    hint: str
    retry_after: int = 0
    more: Mapping[str, Any] = field(default_factory=dict)


Explain = Callable[[Exception], Refusal | None]


def json_response(value: Any, status: int = 200) -> web.Response:
    """Return a JSON response."""
    return web.Response(body=msgspec.json.encode(value), status=status, content_type="application/json")


def response_of(refusal: Refusal) -> web.Response:
    """Return the response; after a body that was not read to its end the connection is closed."""
    error = {"code": refusal.code, "message": refusal.message, "hint": refusal.hint, **refusal.more}
    response = json_response({"error": error}, refusal.status)
    if refusal.retry_after:
        response.headers["Retry-After"] = str(refusal.retry_after)
    return response


def explained(error: Exception, explain: Explain, route: str, what: str, see: str) -> Refusal:
    """Return the refusal for whatever a handler of `route` raised; `what` is the kind of server, `see` its document."""
    if isinstance(error, Refusal):
        return error
    if isinstance(error, web.HTTPException):
        return _of_http(error, see)
    found = explain(error)
    if found is None:
        _log(error, route)
        found = Refusal(UNAVAILABLE, "internal", f"this {what} failed to answer", f"ask another {what}")
    return found


def _of_http(error: web.HTTPException, see: str) -> Refusal:
    known = {
        404: ("no_such_path", "there is nothing here"),
        405: ("wrong_method", "this path does not take this method"),
        TOO_LARGE: ("too_large", "the body is too large"),
    }
    code, message = known.get(error.status, ("bad_http", "the request is not proper HTTP for this path"))
    return Refusal(error.status if error.status in known else BAD_REQUEST, code, message, see)


def _log(error: Exception, route: str) -> None:
    # By type and place only: values could be secret.
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    where = f"{place.tb_frame.f_code.co_qualname}:{place.tb_lineno}" if place else "?"
    log.error("unexpected", route=route, type=type(error).__name__, where=where)
