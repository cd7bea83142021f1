"""The HTTP API of a node: JSON in, JSON out, every refusal typed (`problem.py`), the document at /v1/openapi.json.

Bodies are bounded before they are read, decoded strictly, and cost nothing when they are wrong. An exception that
nobody foresaw is logged by type and place, without values, and answered as 503: another node may do better.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Collection
from typing import Any, Protocol

import msgspec
import structlog
from aiohttp import web

from keyquorum import __version__
from keyquorum.chain.account import checksum
from keyquorum.node.audit import FAILED, GRANTED, REFUSED, Audit
from keyquorum.node.metrics import CONTENT_TYPE, Metrics
from keyquorum.node.openapi import document
from keyquorum.node.problem import BAD_REQUEST, NOT_FOUND, TOO_LARGE, TOO_MANY, UNAVAILABLE, ApiError, explain
from keyquorum.node.quotas import client_address
from keyquorum.serving.buckets import Buckets
from keyquorum.serving.client_address import client_of

log = structlog.get_logger("keyquorum.api")

BODY_SECONDS = 10.0
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Service(Protocol):
    """What the API needs of the node (`app.Node`)."""

    metrics: Metrics

    async def sign(self, body: bytes) -> dict[str, Any]:
        """Answer `POST /v1/sign`."""
        ...

    async def open_session(self, body: bytes) -> dict[str, Any]:
        """Answer `POST /v1/sessions`."""
        ...

    async def list_sessions(self, body: bytes) -> dict[str, Any]:
        """Answer `POST /v1/sessions/list`."""
        ...

    async def revoke(self, body: bytes) -> dict[str, Any]:
        """Answer `POST /v1/revocations`."""
        ...

    async def commit(self, body: bytes) -> dict[str, Any]:
        """Answer `POST /v1/commitments`."""
        ...

    async def network(self) -> dict[str, Any]:
        """Answer `GET /v1/network`."""
        ...

    async def key(self, key_id: bytes) -> dict[str, Any]:
        """Answer `GET /v1/keys/{id}`."""
        ...

    def readiness(self) -> dict[str, Any]:
        """Answer `GET /readyz`."""
        ...


def make_app(
    service: Service, max_body: int, per_second: float, audit: Audit | None = None, trusted: Collection[str] = ()
) -> web.Application:
    """Return the aiohttp application of one node; with `audit` every POST leaves a line there.

    An address asks at most `per_second` times a second, unless it is one of `trusted`.
    """
    guard = _guard(service, Buckets(per_second, 1.0), audit, frozenset(trusted))
    specification = json_response(document())

    def post(answer: Callable[[bytes], Awaitable[dict[str, Any]]]) -> Handler:
        async def handle(request: web.Request) -> web.StreamResponse:
            return json_response(await answer(await read_body(request, max_body)))

        return handle

    async def network(_: web.Request) -> web.Response:
        return json_response(await service.network())

    async def key(request: web.Request) -> web.Response:
        return json_response(await service.key(parse_key_id(request.match_info["id"])))

    async def live(_: web.Request) -> web.Response:
        return json_response({"status": "live", "version": __version__})

    async def ready(_: web.Request) -> web.Response:
        found = service.readiness()
        return json_response(found, 200 if found["ready"] else UNAVAILABLE)

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=service.metrics.text(), headers={"Content-Type": CONTENT_TYPE})

    async def openapi(_: web.Request) -> web.Response:
        return web.Response(body=specification.body, content_type="application/json")

    app = web.Application(middlewares=[guard], client_max_size=max_body)
    app.add_routes(
        [
            web.post("/v1/sign", post(service.sign)),
            web.post("/v1/sessions", post(service.open_session)),
            web.post("/v1/sessions/list", post(service.list_sessions)),
            web.post("/v1/revocations", post(service.revoke)),
            web.post("/v1/commitments", post(service.commit)),
            web.get("/v1/network", network),
            web.get("/v1/keys/{id}", key),
            web.get("/v1/openapi.json", openapi),
            web.get("/livez", live),
            web.get("/readyz", ready),
            web.get("/metrics", metrics),
        ]
    )
    return app


def _guard(service: Service, limit: Buckets, audit: Audit | None, trusted: frozenset[str]) -> Any:
    """Return what stands around every handler: the address's limit, refusals as JSON, the line in the audit, counts."""

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        route = _route(request)
        client = client_of(request, ())
        client_address.set(client)
        begun = audit.begin(_kind(route), client) if audit and request.method == "POST" else None
        decision = (FAILED, "hung_up")
        try:
            if request.path.startswith("/v1/") and client not in trusted:
                _count(limit, client)
            response = await handler(request)
            decision = (GRANTED, "")
        except Exception as error:
            refusal = _explained(error, route)
            response = _refusal(refusal)
            decision = (FAILED if refusal.status >= UNAVAILABLE else REFUSED, refusal.code)
        finally:
            if audit and begun:
                audit.end(begun, *decision)
        service.metrics.requests.labels(route, str(response.status)).inc()
        return response

    return guard


def json_response(value: Any, status: int = 200) -> web.Response:
    """Return a JSON response."""
    return web.Response(body=msgspec.json.encode(value), status=status, content_type="application/json")


async def read_body(request: web.Request, max_body: int) -> bytes:
    """Return the body, at most `max_body` bytes; raise `ApiError` as soon as it is known to be larger or too slow."""
    too_large = ApiError(TOO_LARGE, "too_large", f"a body has at most {max_body} bytes", "send less")
    if request.content_length is not None and request.content_length > max_body:
        raise too_large
    if request.headers.get("Content-Encoding", "identity") != "identity":
        raise ApiError(BAD_REQUEST, "bad_encoding", "compressed bodies are not read", "send the body as it is")
    content = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for chunk in request.content.iter_any():
                content += chunk
                if len(content) > max_body:
                    raise too_large
    except TimeoutError:
        raise ApiError(BAD_REQUEST, "too_slow", "the body did not arrive in time", "send it at once") from None
    return bytes(content)


def parse_key_id(text: str) -> bytes:
    """Return the 32 bytes of a token id: 0x and 64 lower-case hex digits; raise `ApiError` otherwise."""
    digits = text.removeprefix("0x")
    if len(text) != 66 or len(digits) != 64 or not set(digits) <= set("0123456789abcdef"):
        raise ApiError(BAD_REQUEST, "bad_key", "a key id is 0x and 64 lower-case hex digits", "copy it from the chain")
    return bytes.fromhex(digits)


def describe_key(key_id: bytes, public_key: bytes, owner: bytes | None, state: str, epoch: int) -> dict[str, Any]:
    """Return the JSON object that stands for one key."""
    from keyquorum.chain.contracts import eth_address

    return {
        "token_id": "0x" + key_id.hex(),
        "public_key": "0x" + public_key.hex(),
        "address": eth_address(public_key),
        "owner": checksum(owner) if owner else None,
        "state": state,
        "epoch": epoch,
    }


def _route(request: web.Request) -> str:
    resource = request.match_info.route.resource
    return resource.canonical if resource is not None else "unknown"


def _count(limit: Buckets, address: str) -> None:
    if not limit.allow(address):
        seconds = math.ceil(limit.wait(address))
        message = "too many requests from this network address"
        raise ApiError(TOO_MANY, "too_many_requests", message, "slow down", retry_after=seconds)


def _kind(route: str) -> str:
    """Return the word for what was asked, "sign" for /v1/sign; never more of a stranger's path than its route."""
    return _KINDS.get(route, route.rpartition("/")[2])


_KINDS = {"/v1/sessions": "session", "/v1/commitments": "commitment", "/v1/revocations": "revocation"}


def _explained(error: Exception, route: str) -> ApiError:
    if isinstance(error, web.HTTPException):
        return _of_http(error)
    found = explain(error)
    if found is None:
        # By type and place only: values could be secret.
        place = error.__traceback__
        while place is not None and place.tb_next is not None:
            place = place.tb_next
        where = f"{place.tb_frame.f_code.co_qualname}:{place.tb_lineno}" if place else "?"
        log.error("unexpected", route=route, type=type(error).__name__, where=where)
        found = ApiError(UNAVAILABLE, "internal", "this node failed to answer", "ask another node")
    return found


def _refusal(problem: ApiError) -> web.Response:
    response = json_response(problem.body(), problem.status)
    if problem.retry_after:
        response.headers["Retry-After"] = str(problem.retry_after)
    if problem.status == TOO_LARGE:
        response.force_close()
    return response


def _of_http(error: web.HTTPException) -> ApiError:
    if error.status == NOT_FOUND:
        return ApiError(NOT_FOUND, "no_such_path", "there is nothing here", "see /v1/openapi.json")
    if error.status == 405:
        return ApiError(405, "wrong_method", "this path does not take this method", "see /v1/openapi.json")
    if error.status == TOO_LARGE:
        return ApiError(TOO_LARGE, "too_large", "the body is too large", "send less")
    return ApiError(BAD_REQUEST, "bad_http", "the request is not proper HTTP for this path", "see /v1/openapi.json")
