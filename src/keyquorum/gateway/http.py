"""The gateway's manners: bounded bodies, one shape of error, open to every origin, counted.

Errors are `{"error": {"code", "message", "hint"}}`, as the nodes have them. Whatever is wrong with a request ends in a
4xx; 503 means that nodes or the chain are missing, never that the input was bad. CORS is open, because nothing here
depends on cookies or on who asks: authority is in signatures alone.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec
from aiohttp import web
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from keyquorum.algebra.strict_json import BadJson
from keyquorum.auth.errors import AuthError
from keyquorum.client.errors import KeyquorumError, Misconfigured, Refused
from keyquorum.intents import BadIntent
from keyquorum.serving.buckets import Buckets
from keyquorum.serving.client_address import client_of

MAX_BODY = 1 << 20
BODY_SECONDS = 10.0
NOT_PROVEN, TOO_MANY, UNAVAILABLE = 401, 429, 503
FAILURE_SECONDS = 600.0
LOGIN_PATH = "/v1/sessions"
CORS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": "GET, POST, OPTIONS",
    "Access-Control-Allow-Headers": "Content-Type",
    "Access-Control-Max-Age": "86400",
}
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
log = logging.getLogger("keyquorum.gateway")


class Metrics:
    """Requests by path and status, and how long they took."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "keyquorum_gateway_requests", "requests answered", ["path", "status"], registry=self.registry
        )
        self.seconds = Histogram("keyquorum_gateway_seconds", "seconds to answer", ["path"], registry=self.registry)

    def text(self) -> bytes:
        """Return the Prometheus exposition."""
        return generate_latest(self.registry)


def json_response(value: Any, status: int = 200) -> web.Response:
    """Return a JSON response."""
    return web.Response(body=msgspec.json.encode(value), status=status, content_type="application/json")


def refusal(status: int, code: str, message: str, hint: str, parties: Sequence[int] = ()) -> web.Response:
    """Return an error response; after an oversized body the connection is closed, since the rest is still coming."""
    avoid = {"parties": parties} if parties else {}
    response = json_response({"error": {"code": code, "message": message, "hint": hint} | avoid}, status)
    if status in (408, 413):
        response.force_close()
    return response


async def read_body(request: web.Request) -> bytes:
    """Return the body; raise `Refused` as soon as it is known to be too large, too slow, or compressed."""
    too_large = Refused(f"a body has at most {MAX_BODY} bytes", code="too_large", hint="send less", status=413)
    if request.content_length is not None and request.content_length > MAX_BODY:
        raise too_large
    if request.headers.get("Content-Encoding", "identity") != "identity":
        raise Refused("compressed bodies are not read", code="bad_encoding", hint="send the body as it is", status=400)
    content = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for chunk in request.content.iter_any():
                content += chunk
                if len(content) > MAX_BODY:
                    raise too_large
    except TimeoutError:
        raise Refused("the body did not arrive in time", code="too_slow", hint="send it at once", status=408) from None
    return bytes(content)


def explain(error: Exception) -> web.Response:
    """Return the answer for whatever a handler raised."""
    see = "see /v1/openapi.json for the exact form"
    if isinstance(error, _Limited):
        response = refusal(TOO_MANY, error.code, str(error), f"wait {error.seconds} s before asking again")
        response.headers["Retry-After"] = str(error.seconds)
        return response
    if isinstance(error, BadJson):
        return refusal(400, f"json_{error.code}", str(error), see)
    if isinstance(error, AuthError):
        return refusal(error.status, error.code, error.message, error.hint)
    if isinstance(error, BadIntent):
        return refusal(400, error.code, error.message, error.hint)
    if isinstance(error, Refused):
        return refusal(error.status, error.code, error.message, error.hint)
    if isinstance(error, Misconfigured):
        return refusal(UNAVAILABLE, error.code, error.message, error.hint)
    if isinstance(error, KeyquorumError):
        return refusal(UNAVAILABLE, error.code, error.message, error.hint, getattr(error, "parties", ()))
    if isinstance(error, web.HTTPException):
        return _of_http(error, see)
    if isinstance(error, ValueError):
        return refusal(400, "bad_value", str(error)[:300], see)
    # By type only: values could be somebody's secret.
    log.error("unexpected %s", type(error).__name__, exc_info=False)
    return refusal(UNAVAILABLE, "internal", "the gateway failed to answer", "ask another gateway, or the nodes")


def _of_http(error: web.HTTPException, see: str) -> web.Response:
    known = {
        404: ("no_such_path", "there is nothing here"),
        405: ("wrong_method", "this path does not take this method"),
        413: ("too_large", "the body is too large"),
    }
    code, message = known.get(error.status, ("bad_http", "the request is not proper HTTP for this path"))
    return refusal(error.status if error.status in known else 400, code, message, see)


PROXIES = web.AppKey("proxies", list[str])


def _limit(request: web.Request, limit: Buckets, failures: Buckets) -> None:
    """Raise `_Limited` when the network address asks too often, or failed to log in too often."""
    proxies = request.app[PROXIES]
    address = client_of(request, proxies)
    if not limit.allow(address):
        raise _Limited("too many requests", "too_many_requests", limit.wait(address))
    if request.path == LOGIN_PATH and (wait := failures.wait(address)):
        raise _Limited("too many failed logins", "too_many_failures", wait)


class _Limited(Exception):
    """Too much for now; `wait` is in seconds."""

    def __init__(self, message: str, code: str, wait: float) -> None:
        super().__init__(message)
        self.code = code
        self.seconds = math.ceil(wait)


def manners(metrics: Metrics, per_second: float, failed_logins: int) -> Any:
    """Return the middleware that limits, answers preflights, explains errors, and counts.

    Of one network address: `per_second` requests, and `failed_logins` in ten minutes; the nodes leave that to a gateway
    they trust, since to them all its users have one address.
    """
    limit, failures = Buckets(per_second, 1.0), Buckets(failed_logins, FAILURE_SECONDS)

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        resource = request.match_info.route.resource
        path = resource.canonical if resource is not None else "unknown"
        start = time.monotonic()
        response: web.StreamResponse
        try:
            if request.method == "OPTIONS":
                response = web.Response(status=204)
            else:
                if request.path.startswith("/v1/"):
                    _limit(request, limit, failures)
                response = await handler(request)
        except Exception as error:
            response = explain(error)
        if response.status == NOT_PROVEN and request.path == LOGIN_PATH:
            proxies = request.app[PROXIES]
            failures.take(client_of(request, proxies))
        response.headers.update(CORS)
        metrics.requests.labels(path, str(response.status)).inc()
        metrics.seconds.labels(path).observe(time.monotonic() - start)
        return response

    return middleware
