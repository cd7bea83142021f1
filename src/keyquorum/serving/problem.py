"""How a server says no: one shape, `{"error": {"code", "message", "hint"}}`, for node, gateway and code service alike.

Whatever a caller sends ends in a status below 500; 503 means that this server cannot serve now. A refusal carries no
secret, path or traceback. Exceptions nobody foresaw are logged by type and place and answered without detail.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import structlog
from aiohttp import web

from keyquorum.refusal import MALFORMED, TOO_LARGE, UNAVAILABLE, Refusal

HUNG_UP = "hung_up"
log = structlog.get_logger("keyquorum.serving")


Explain = Callable[[Exception], Refusal | None]


def json_response(value: Any, status: int = 200) -> web.Response:
    """Return a JSON response."""
    return web.Response(body=msgspec.json.encode(value), status=status, content_type="application/json")


def response_of(refusal: Refusal) -> web.Response:
    """Return the response; after a body that was not read to its end the connection is closed."""
    response = json_response({"error": refusal.to_json()}, refusal.status)
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
        found = Refusal("internal", f"this {what} failed to answer", f"ask another {what}", UNAVAILABLE)
    return found


def _of_http(error: web.HTTPException, see: str) -> Refusal:
    known = {
        404: ("no_such_path", "there is nothing here"),
        405: ("wrong_method", "this path does not take this method"),
        TOO_LARGE: ("too_large", "the body is too large"),
    }
    code, message = known.get(error.status, ("bad_http", "the request is not proper HTTP for this path"))
    return Refusal(code, message, see, error.status if error.status in known else MALFORMED)


def _log(error: Exception, route: str) -> None:
    # By type and place only: values could be secret.
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    where = f"{place.tb_frame.f_code.co_qualname}:{place.tb_lineno}" if place else "?"
    log.error("unexpected", route=route, type=type(error).__name__, where=where)
