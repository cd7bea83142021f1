"""The one HTTP shell of node, gateway and code service: routes are data, and what stands around each is the same.

Every request is counted before it costs anything, by its network address and in all: first the request, then the bytes
of its body, then the place that it takes while nobody knows who asks. What is refused after something was looked up
for it counts once more: nobody's quota pays for it, so an address gets few of them. A body is bounded by its route,
never unpacked, and has `BODY_SECONDS` to arrive. Whatever goes wrong is answered in one shape (`problem.py`).
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from aiohttp import ClientPayloadError, StreamReader, web
from aiohttp.http import HttpProcessingError

from keyquorum.refusal import MALFORMED, TOO_LARGE, TOO_MANY, TOO_SLOW, WRONG_TYPE, Refusal
from keyquorum.serving.addresses import OF_PAGES, Networks, address_of, asks_for_a_page, fold
from keyquorum.serving.buckets import Buckets, Meter
from keyquorum.serving.places import Places
from keyquorum.serving.problem import HUNG_UP, Explain, explained, json_response, response_of

BODY_SECONDS = 10.0
# Commas, colons and brackets: what a session signed is a string in the body, and nothing around it needs many.
MAX_MARKS = 2_000
JSON = "application/json"
# How many seconds' worth of bytes may come at once.
BURST_SECONDS = 4.0
PROBES_PER_SECOND = 50
# What anybody may look up on the chain through a server: so often at once, which comes back over so many seconds.
LOOK_UPS, LOOK_UP_SECONDS = 60, 10.0
# And how often what was looked up for his request may end in a no.
REFUSALS, REFUSAL_SECONDS = 60, 10.0
LOOKED_UP = frozenset({401, 403, 404, 409})
_GRACE = 0.001
CORS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": "GET, POST, OPTIONS",
    "Access-Control-Allow-Headers": "Content-Type",
    "Access-Control-Max-Age": "86400",
}


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that was let in: `client` names the network address it is counted by, `body` is its whole body.

    What strangers' web pages ask (`from_page`) is counted under another name than what else comes from the address.
    """

    request: web.Request
    client: str
    body: bytes

    @property
    def from_page(self) -> bool:
        """Whether a browser asks for a web page that is none of this server's own."""
        return self.client.endswith(OF_PAGES)

    def part(self, name: str) -> str:
        """Return the part of the path that the route calls `name`."""
        return self.request.match_info[name]


Handler = Callable[[Asked], Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class Route:
    """One path: `handle` returns a response, or what becomes a JSON body.

    `max_body` bytes are read; a route without a body reads none. A `probe` is for those who watch the server: counted
    apart, as `cost` of `PROBES_PER_SECOND`, and answered without waiting for a place, as is whatever is not `placed`.
    One that `reads_chain` for whoever asks is counted as one of `LOOK_UPS` besides.
    """

    method: str
    path: str
    handle: Handler
    max_body: int = 0
    cost: float = 1.0
    probe: bool = False
    placed: bool = True
    reads_chain: bool = False


@dataclass(frozen=True, slots=True)
class Limits:
    """What one network address may cost, of what all together may cost some times as much (`buckets.Meter`).

    `unverified` requests are worked on at a time of callers who are not known yet.
    """

    requests_per_second: float = 200.0
    bytes_per_second: float = 1 << 20
    unverified: int = 64


class Watch:
    """What a server wants to know of its requests; this one wants nothing. Routes are paths in the code."""

    def begin(self, method: str, route: str, client: str) -> Any:
        """Hear of a request before anything else is done with it; what is returned is given to `end`."""

    def end(self, begun: Any, route: str, status: int, code: str, seconds: float) -> None:
        """Hear how it was answered: `code` is that of the refusal, empty for none."""


class Shell:
    """What stands around the routes of one server; `app()` is what `HttpServer` serves."""

    def __init__(
        self, what: str, routes: Sequence[Route], explain: Explain, limits: Limits, *, see: str, watch: Watch,
        trusted: Iterable[str] = (), proxies: Iterable[str] = (), open_to_pages: bool = False,
        pages: Iterable[str] = (),
    ) -> None:  # fmt: skip
        """`what` names the kind of server and `see` its document, for refusals.

        `trusted` networks limit their clients themselves; `proxies` are believed about who asks. `open_to_pages` lets
        web pages of every origin ask: right where nothing depends on cookies and authority is in signatures alone.
        `pages` are the origins that ask as their visitor; what others ask is counted apart.
        """
        self._what = what
        self._routes = routes
        self._explain = explain
        self._see = see
        self._watch = watch
        self._trusted = Networks(trusted)
        self._proxies = Networks(proxies)
        self._pages = frozenset(pages)
        self._headers = CORS if open_to_pages else {}
        self._requests = Meter(limits.requests_per_second, 1.0)
        self._probes = Meter(PROBES_PER_SECOND, 1.0)
        self._look_ups = Meter(LOOK_UPS, LOOK_UP_SECONDS)
        self._refusals = Buckets(REFUSALS, REFUSAL_SECONDS)
        largest = max((route.max_body for route in routes), default=0)
        burst = max(limits.bytes_per_second * BURST_SECONDS, largest)
        self._bytes = Meter(burst, burst / limits.bytes_per_second)
        self.places = Places(limits.unverified)
        self._priced: dict[web.AbstractRoute, Route] = {}

    def app(self) -> web.Application:
        """Return the aiohttp application."""
        largest = max((route.max_body for route in self._routes), default=0)
        app = web.Application(middlewares=[self._middleware()], client_max_size=largest or 1)
        for route in self._routes:
            # The router's own route, so that no method it takes for this one has another price; none is HEAD.
            self._priced[app.router.add_route(route.method, route.path, self._handler(route))] = route
        return app

    # -- one request --------------------------------------------

    def _middleware(self) -> Any:
        @web.middleware
        async def middleware(
            request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
        ) -> web.StreamResponse:
            resource = request.match_info.route.resource
            path = resource.canonical if resource is not None else "unknown"
            address = address_of(request, self._proxies)
            trusted = address in self._trusted
            request[_CLIENT] = client = address if trusted else self._name(request, address)
            request[_TRUSTED] = trusted
            started = time.monotonic()
            begun = self._watch.begin(request.method, path, client)
            status, code = MALFORMED, HUNG_UP
            try:
                if not trusted:
                    self._count(client, self._priced.get(request.match_info.route), request.method)
                preflight = request.method == "OPTIONS" and bool(self._headers)
                response = web.Response(status=204) if preflight else await handler(request)
                status, code = response.status, ""
            except Exception as error:
                refusal = explained(error, self._explain, path, self._what, self._see)
                response, status, code = response_of(refusal), refusal.status, refusal.code
                if not trusted and request.method == "POST" and status in LOOKED_UP:
                    self._refusals.take(client)
                if not request.content.is_eof():
                    response.force_close()
            finally:
                self._watch.end(begun, path, status, code, time.monotonic() - started)
            response.headers.update(self._headers)
            return response

        return middleware

    def _handler(self, route: Route) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def handle(request: web.Request) -> web.StreamResponse:
            client, trusted = request[_CLIENT], request[_TRUSTED]
            body = await self._body(request, route.max_body) if route.max_body else b""
            if not route.placed or route.probe:
                return _answer(await route.handle(Asked(request, client, body)))
            async with self.places.place(client, trusted):
                if request.transport is None:
                    raise Refusal(HUNG_UP, "nobody waits for the answer any more", "ask again")
                return _answer(await route.handle(Asked(request, client, body)))

        return handle

    def _name(self, request: web.Request, address: str) -> str:
        return fold(address) + (OF_PAGES if asks_for_a_page(request, self._pages) else "")

    def _count(self, client: str, route: Route | None, method: str) -> None:
        probe = method == "OPTIONS" or (route is not None and route.probe)
        meter = self._probes if probe else self._requests
        wait = meter.take(client, min(route.cost, PROBES_PER_SECOND) if route is not None else 1.0)
        if not wait and route is not None and route.reads_chain:
            wait = self._look_ups.take(client)
        if wait:
            raise too_many("too_many_requests", "too many requests from this network address", wait)
        if method == "POST" and (wait := self._refusals.wait(client)):
            raise too_many("too_many_refusals", "too many requests from this network address were refused", wait)

    # -- its body --------------------------------------------

    async def _body(self, request: web.Request, most: int) -> bytes:
        """Return the body; raise `Refusal` as soon as it is known to be too large, too slow, too much, or packed.

        What is JSON says so: every other type of body a browser sends for any page without asking this server first.
        """
        if request.content_length is not None and request.content_length > most:
            raise _too_large(most)
        if request.headers.get("Content-Encoding", "identity") != "identity":
            raise Refusal("bad_encoding", "compressed bodies are not read", "send the body as it is")
        if request.content_type.lower() != JSON:
            raise Refusal("wrong_type", "a body is JSON", f"send it with Content-Type: {JSON}", WRONG_TYPE)
        connection: Any = request.protocol
        reading = getattr(connection, "reading", _ignore)
        reading(True)
        try:
            return await self._read(request, most)
        except (ConnectionError, ClientPayloadError, HttpProcessingError):
            raise Refusal(HUNG_UP, "the body did not arrive to its end", "send it again") from None
        finally:
            reading(False)

    async def _read(self, request: web.Request, most: int) -> bytes:
        content, deadline = bytearray(), asyncio.get_running_loop().time() + BODY_SECONDS
        declared = request.content_length or 0
        if declared:
            self._pay(request, declared)
        while chunk := await _next_chunk(request.content, deadline):
            content += chunk
            if not declared:
                self._pay(request, len(chunk))
            if len(content) > most:
                raise _too_large(most)
        if sum(map(content.count, (b",", b":", b"[", b"{"))) > MAX_MARKS:
            message = f"a body has at most {MAX_MARKS} commas, colons and brackets"
            raise Refusal("json_too_many_values", message, "send less at a time")
        return bytes(content)

    def _pay(self, request: web.Request, count: int) -> None:
        if request[_TRUSTED]:
            return
        if wait := self._bytes.take(request[_CLIENT], count):
            raise too_many("too_many_bytes", "too many bytes from this network address", wait)


async def _next_chunk(content: StreamReader, deadline: float) -> bytes:
    """Return what has arrived of a body, nothing at its end; what has arrived when time is over still counts."""
    try:
        async with asyncio.timeout_at(deadline):
            return await content.readany()
    except TimeoutError:
        pass
    # If it was we who were late, one round of reading brings what the client had sent.
    await asyncio.sleep(_GRACE)
    if content.is_eof():
        return content.read_nowait()
    raise Refusal("too_slow", "the body did not arrive in time", "send it at once", TOO_SLOW)


def _answer(value: Any) -> web.StreamResponse:
    return value if isinstance(value, web.StreamResponse) else json_response(value)


def _too_large(most: int) -> Refusal:
    return Refusal("too_large", f"a body has at most {most} bytes", "send less", TOO_LARGE)


def too_many(code: str, message: str, wait: float) -> Refusal:
    """Return the refusal (429) of somebody who is to wait so many seconds."""
    seconds = math.ceil(min(wait, 3600.0))
    return Refusal(code, message, f"slow down: wait {seconds} s before asking again", TOO_MANY, retry_after=seconds)


def _ignore(_: bool) -> None:
    """Stand in for a connection that does not care."""


_CLIENT = web.RequestKey("client", str)
_TRUSTED = web.RequestKey("trusted", bool)
