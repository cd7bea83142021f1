"""The HTTP API of a node: JSON in, JSON out, every refusal typed (`problem.py`), the document at /v1/openapi.json.

Here are its routes and what a body of each may have; what stands around them is `serving.shell`. A body is decoded
strictly by the service that it is for, and costs nothing when it is wrong.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace
from typing import Any, Protocol

from aiohttp import web

from keyquorum import __version__
from keyquorum.auth.request import MAX_BYTES
from keyquorum.evm.address import checksum
from keyquorum.evm.keys import is_key_id
from keyquorum.node.metrics import CONTENT_TYPE, Metrics
from keyquorum.node.openapi import document
from keyquorum.node.services.audit import FAILED, GRANTED, REFUSED, Audit
from keyquorum.node.services.problem import explain
from keyquorum.node.services.quotas import client_address
from keyquorum.refusal import MALFORMED, UNAVAILABLE, Refusal
from keyquorum.serving.exposition import Exposition
from keyquorum.serving.problem import HUNG_UP, json_response
from keyquorum.serving.shell import Asked, Handler, Limits, Route, Shell, Watch

# What a session signed is a certificate, what was lent, and a request; a login has a proof as well.
SESSION_BODY = 64 * 1024
LOGIN_BODY = 128 * 1024
SIGN_BODY = MAX_BYTES + SESSION_BODY
COMMITMENT_BODY = 16 * 1024
METRICS_COST = 25.0
# A list of a hundred sessions takes a node as long as some signatures.
LIST_COST = 10.0


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
    service: Service, max_body: int, limits: Limits, audit: Audit | None = None, trusted: Iterable[str] = ()
) -> web.Application:
    """Return the aiohttp application of one node; with `audit` every POST leaves a line there.

    `trusted` networks are not limited; `max_body` bounds bodies whose route has no lower bound.
    """
    watch = _Watch(service.metrics, audit)
    routes = [replace(route, max_body=min(route.max_body, max_body)) for route in _routes(service)]
    see = "see /v1/openapi.json"
    return Shell("node", routes, explain, limits, see=see, watch=watch, trusted=trusted).app()


def _routes(service: Service) -> list[Route]:
    specification = json_response(document()).body
    exposition = Exposition(service.metrics.text)

    async def network(_: Asked) -> Any:
        return await service.network()

    async def key(asked: Asked) -> Any:
        return await service.key(parse_key_id(asked.part("id")))

    async def live(_: Asked) -> Any:
        return {"status": "live", "version": __version__}

    async def ready(_: Asked) -> Any:
        found = service.readiness()
        return json_response(found, 200 if found["ready"] else UNAVAILABLE)

    async def metrics(_: Asked) -> Any:
        return web.Response(body=exposition.text(), headers={"Content-Type": CONTENT_TYPE})

    async def openapi(_: Asked) -> Any:
        return web.Response(body=specification, content_type="application/json")

    return [
        Route("POST", "/v1/sign", _posting(service.sign), max_body=SIGN_BODY),
        Route("POST", "/v1/sessions", _posting(service.open_session), max_body=LOGIN_BODY),
        Route("POST", "/v1/sessions/list", _posting(service.list_sessions), max_body=SESSION_BODY, cost=LIST_COST),
        Route("POST", "/v1/revocations", _posting(service.revoke), max_body=SESSION_BODY),
        Route("POST", "/v1/commitments", _posting(service.commit), max_body=COMMITMENT_BODY),
        Route("GET", "/v1/network", network),
        Route("GET", "/v1/keys/{id}", key, reads_chain=True),
        Route("GET", "/v1/openapi.json", openapi, probe=True),
        Route("GET", "/livez", live, probe=True),
        Route("GET", "/readyz", ready, probe=True),
        Route("GET", "/metrics", metrics, probe=True, cost=METRICS_COST),
    ]


def _posting(answer: Callable[[bytes], Awaitable[dict[str, Any]]]) -> Handler:
    async def handle(asked: Asked) -> Any:
        return await answer(asked.body)

    return handle


class _Watch(Watch):
    """The line in the audit, the counts, and the address that quotas are counted by."""

    def __init__(self, metrics: Metrics, audit: Audit | None) -> None:
        self._metrics = metrics
        self._audit = audit

    def begin(self, method: str, route: str, client: str) -> Any:
        client_address.set(client)
        return self._audit.begin(_kind(route), client) if self._audit and method == "POST" else None

    def end(self, begun: Any, route: str, status: int, code: str, seconds: float) -> None:
        if self._audit and begun:
            failed = status >= UNAVAILABLE or code == HUNG_UP
            self._audit.end(begun, FAILED if failed else REFUSED if code else GRANTED, code)
        if code != HUNG_UP:
            self._metrics.requests.labels(route, str(status)).inc()


def parse_key_id(text: str) -> bytes:
    """Return the 32 bytes of a token id: 0x and 64 lower-case hex digits; raise `Refusal` otherwise."""
    if not is_key_id(text):
        raise Refusal("bad_key", "a key id is 0x and 64 lower-case hex digits", "copy it from the chain", MALFORMED)
    return bytes.fromhex(text[2:])


def describe_key(key_id: bytes, public_key: bytes, owner: bytes | None, state: str, epoch: int) -> dict[str, Any]:
    """Return the JSON object that stands for one key."""
    from keyquorum.evm.keys import eth_address

    return {
        "token_id": "0x" + key_id.hex(),
        "public_key": "0x" + public_key.hex(),
        "address": eth_address(public_key),
        "owner": checksum(owner) if owner else None,
        "state": state,
        "epoch": epoch,
    }


def _kind(route: str) -> str:
    """Return the word for what was asked, "sign" for /v1/sign; never more of a stranger's path than its route."""
    return _KINDS.get(route, route.rpartition("/")[2])


_KINDS = {"/v1/sessions": "session", "/v1/commitments": "commitment", "/v1/revocations": "revocation"}
