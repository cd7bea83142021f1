"""The HTTP side of a code service: bounded bodies, one shape of error, open to every origin, no address in any log.

Errors are `{"error": {"code", "message", "hint"}}`, as nodes and gateways have them. CORS is open: a page of any
origin may ask, because nothing depends on cookies and what is signed names its session.
"""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import ssl
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import structlog
from aiohttp import web

from keyquorum import __version__
from keyquorum.algebra.strict_json import BadJson, fields, loads
from keyquorum.auth.errors import UNAVAILABLE, AuthError
from keyquorum.codes import secrets_file
from keyquorum.codes.config import CodesConfig, load
from keyquorum.codes.drivers import ProviderDown
from keyquorum.codes.ledger import Ledger
from keyquorum.codes.metrics import CONTENT_TYPE, Metrics
from keyquorum.codes.service import TOO_MANY, CodeService, make_lines
from keyquorum.serving.client_address import client_of
from keyquorum.serving.forever import until_asked
from keyquorum.serving.log_lines import configure_logging

MAX_BODY = 16 * 1024
BODY_SECONDS = 10.0
READY_SECONDS, READY_FRESH_SECONDS = 10.0, 5.0
_SERVICE: web.AppKey[CodeService] = web.AppKey("service", CodeService)
_CORS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": "GET, POST, OPTIONS",
    "Access-Control-Allow-Headers": "Content-Type",
    "Access-Control-Max-Age": "86400",
}
_SEE = "see spec/codes.md for the exact form"
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
log = structlog.get_logger("keyquorum.codes")


# ---- who asks, and how often ------------------------------------------------------------------------------------


class _PerSecond:
    """Requests of the current second by client."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._second = 0
        self._counts: Counter[str] = Counter()

    def allow(self, client: str) -> bool:
        second = int(time.monotonic())
        if second != self._second:
            self._second, self._counts = second, Counter()
        self._counts[client] += 1
        return self._counts[client] <= self._limit


# ---- answers ----------------------------------------------------------------------------------------------------


def _json(value: object, status: int = 200) -> web.Response:
    return web.Response(body=msgspec.json.encode(value), status=status, content_type="application/json")


def _explain(error: Exception) -> web.Response:
    status, code, message, hint = UNAVAILABLE, "internal", "the service failed to answer", "ask another service"
    if isinstance(error, BadJson):
        status, code, message, hint = 400, f"json_{error.code}", str(error), _SEE
    elif isinstance(error, AuthError):
        status, code, message, hint = error.status, error.code, error.message, error.hint
    elif isinstance(error, web.HTTPException):
        names = {404: "no_such_path", 405: "wrong_method", 413: "too_large", 408: "too_slow"}
        status, hint = error.status if error.status in names else 400, _SEE
        code, message = names.get(status, "bad_http"), "the request is not one this service takes"
    else:
        # By type only: values could be somebody's address or code.
        log.error("unexpected", error=type(error).__name__)
    response = _json({"error": {"code": code, "message": message, "hint": hint}}, status)
    if status in (408, 413):
        response.force_close()
    return response


def _manners(config: CodesConfig, metrics: Metrics) -> Any:
    limit = _PerSecond(config.limits.requests_per_second)

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        resource = request.match_info.route.resource
        path = resource.canonical if resource is not None else "unknown"
        response: web.StreamResponse
        try:
            if request.method == "OPTIONS":
                response = web.Response(status=204)
            elif request.path.startswith("/v1/") and not limit.allow(client_of(request, config.trusted_proxies)):
                raise AuthError("too_many_requests", "too many requests", "slow down", TOO_MANY)
            else:
                response = await handler(request)
        except Exception as error:
            response = _explain(error)
        response.headers.update(_CORS)
        metrics.requests.labels(path, str(response.status)).inc()
        return response

    return middleware


async def _body(request: web.Request) -> Any:
    if request.headers.get("Content-Encoding", "identity") != "identity":
        raise BadJson("compressed", "compressed bodies are not read")
    try:
        async with asyncio.timeout(BODY_SECONDS):
            return loads(await request.read(), MAX_BODY)
    except TimeoutError:
        raise web.HTTPRequestTimeout from None


async def _request(request: web.Request) -> web.Response:
    service = request.app[_SERVICE]
    found = fields(await _body(request), {"channel": str, "address": str, "statement": dict})
    client = client_of(request, service.config.trusted_proxies)
    return _json(await service.request(found["channel"], found["address"], found["statement"], client))


async def _answer(request: web.Request) -> web.Response:
    found = fields(await _body(request), {"code": str, "session_signature": str})
    service = request.app[_SERVICE]
    return _json(await service.answer(request.match_info["id"], found["code"], found["session_signature"]))


async def _issuer(request: web.Request) -> web.Response:
    return _json(request.app[_SERVICE].describe())


async def _live(_: web.Request) -> web.Response:
    return _json({"status": "live", "version": __version__})


async def _ready(request: web.Request) -> web.Response:
    found = await request.app[_READINESS].look()
    return _json({"ready": not any(found.values()), "faults": found}, UNAVAILABLE if any(found.values()) else 200)


async def readiness(service: CodeService) -> dict[str, str]:
    """Return what is wrong with the ledger and with each provider, empty where nothing is."""
    found = {}
    try:
        await service.ledger.size()
        found["counters"] = ""
    except sqlite3.Error as error:
        found["counters"] = type(error).__name__
    for name, line in service.lines.items():
        try:
            async with asyncio.timeout(READY_SECONDS):
                await (await line.driver.open()).close()
            found[name] = ""
        except ProviderDown as error:
            found[name] = str(error)
        except TimeoutError:
            found[name] = f"{line.driver.host}: it does not answer in time"
    return found


class Readiness:
    """What is wrong, at most five seconds old: many who ask cost the providers one look."""

    def __init__(self, service: CodeService) -> None:
        self._service = service
        self._lock = asyncio.Lock()
        self._seen: tuple[float, dict[str, str]] | None = None

    async def look(self) -> dict[str, str]:
        """Return what `readiness` returns."""
        async with self._lock:
            if self._seen is None or time.monotonic() - self._seen[0] > READY_FRESH_SECONDS:
                self._seen = (time.monotonic(), await readiness(self._service))
            return self._seen[1]


_READINESS: web.AppKey[Readiness] = web.AppKey("readiness", Readiness)


def make_app(service: CodeService, metrics: Metrics) -> web.Application:
    """Return the aiohttp application."""

    async def show_metrics(_: web.Request) -> web.Response:
        return web.Response(body=metrics.text(), headers={"Content-Type": CONTENT_TYPE})

    app = web.Application(middlewares=[_manners(service.config, metrics)], client_max_size=MAX_BODY)
    app[_SERVICE], app[_READINESS] = service, Readiness(service)
    app.add_routes(
        [
            web.post("/v1/codes", _request),
            web.post("/v1/codes/{id}/answer", _answer),
            web.get("/v1/issuer", _issuer),
            web.get("/livez", _live),
            web.get("/readyz", _ready),
            web.get("/metrics", show_metrics),
        ]
    )
    return app


# ---- running ----------------------------------------------------------------------------------------------------


def make_service(config: CodesConfig, metrics: Metrics, clock: Callable[[], int]) -> CodeService:
    """Return the service of `config`: reads its key and passwords, opens its counters; raise `ValueError`."""
    keys, lines = secrets_file.read(config.key_file), make_lines(config)
    return CodeService(config, keys, Ledger(config.counters_file), lines, metrics, clock)


class Server:
    """A code service that listens; `async with Server(config) as server`, then `server.url`."""

    def __init__(self, config: CodesConfig, clock: Callable[[], int] = lambda: int(time.time())) -> None:
        self._config = config
        self._metrics = Metrics()
        self.service = make_service(config, self._metrics, clock)
        self._runner: web.AppRunner | None = None
        self.port = config.port

    async def __aenter__(self) -> Server:
        try:
            app = make_app(self.service, self._metrics)
            self._runner = web.AppRunner(app, access_log=None, handle_signals=False)
            await self._runner.setup()
            site = web.TCPSite(self._runner, self._config.host, self._config.port, ssl_context=self._tls())
            await site.start()
        except BaseException:
            await self.close()
            raise
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Stop listening, let messages under way finish, and close everything."""
        if self._runner is not None:
            await self._runner.cleanup()
        await self.service.close()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"{'https' if self._config.tls_cert else 'http'}://{self._config.host}:{self.port}"

    def _tls(self) -> ssl.SSLContext | None:
        if self._config.tls_cert is None:
            return None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self._config.tls_cert, self._config.tls_key)
        return context


async def serve(path: Path) -> None:
    """Run the service whose settings are in `path` until it is asked to stop."""
    config = load(path)
    asked = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, asked.set)
    async with Server(config) as server:
        print(f"code service on {server.url}", flush=True)
        await until_asked(asked)


def run(path: Path) -> None:
    """Run a code service in this process; it logs one JSON object a line to standard error."""
    configure_logging()
    asyncio.run(serve(path))
