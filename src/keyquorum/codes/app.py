"""The HTTP side of a code service: its routes, how it says no, and how a process starts and stops.

Around it is `serving.shell`. CORS is open: a page of any origin may ask, because nothing depends on cookies and what is
signed names its session. No address is in any log.
"""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import structlog
from aiohttp import web

from keyquorum import __version__
from keyquorum.codes import secrets_file
from keyquorum.codes.config import CodesConfig, load
from keyquorum.codes.drivers import ProviderDown
from keyquorum.codes.ledger import Ledger
from keyquorum.codes.metrics import CONTENT_TYPE, Metrics
from keyquorum.codes.service import CodeService, make_lines
from keyquorum.formats.strict_json import BadJson, fields, loads
from keyquorum.refusal import UNAVAILABLE, Refusal
from keyquorum.serving.exposition import Exposition
from keyquorum.serving.forever import until_asked
from keyquorum.serving.http_server import HttpServer
from keyquorum.serving.log_lines import configure_logging
from keyquorum.serving.problem import HUNG_UP, json_response
from keyquorum.serving.shell import Asked, Limits, Route, Shell, Watch

MAX_BODY = 16 * 1024
METRICS_COST = 25.0
READY_SECONDS, READY_FRESH_SECONDS = 10.0, 5.0
_SEE = "see spec/codes.md for the exact form"
log = structlog.get_logger("keyquorum.codes")


def _explain(error: Exception) -> Refusal | None:
    return Refusal(f"json_{error.code}", str(error), _SEE) if isinstance(error, BadJson) else None


class _Watch(Watch):
    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def end(self, begun: Any, route: str, status: int, code: str, seconds: float) -> None:
        if code != HUNG_UP:
            self._metrics.requests.labels(route, str(status)).inc()


# ---- what can be asked ------------------------------------------------------------------------------------------


def _routes(service: CodeService, metrics: Metrics) -> list[Route]:
    readiness_seen = Readiness(service)
    exposition = Exposition(metrics.text)

    async def request(asked: Asked) -> Any:
        found = fields(loads(asked.body, MAX_BODY), {"channel": str, "address": str, "statement": dict})
        return await service.request(found["channel"], found["address"], found["statement"], asked.client)

    async def answer(asked: Asked) -> Any:
        found = fields(loads(asked.body, MAX_BODY), {"code": str, "session_signature": str})
        return await service.answer(asked.part("id"), found["code"], found["session_signature"])

    async def issuer(_: Asked) -> Any:
        return service.describe()

    async def live(_: Asked) -> Any:
        return {"status": "live", "version": __version__}

    async def ready(_: Asked) -> Any:
        found = await readiness_seen.look()
        return json_response(
            {"ready": not any(found.values()), "faults": found}, UNAVAILABLE if any(found.values()) else 200
        )

    async def show_metrics(_: Asked) -> Any:
        return web.Response(body=exposition.text(), headers={"Content-Type": CONTENT_TYPE})

    return [
        Route("POST", "/v1/codes", request, max_body=MAX_BODY),
        Route("POST", "/v1/codes/{id}/answer", answer, max_body=MAX_BODY),
        Route("GET", "/v1/issuer", issuer, placed=False),
        Route("GET", "/livez", live, probe=True),
        Route("GET", "/readyz", ready, probe=True),
        Route("GET", "/metrics", show_metrics, probe=True, cost=METRICS_COST),
    ]


async def readiness(service: CodeService) -> dict[str, str]:
    """Return what is wrong with the ledger and with each provider, empty where nothing is."""
    found = {}
    try:
        await service.ledger.check()
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


def make_app(service: CodeService, metrics: Metrics) -> web.Application:
    """Return the aiohttp application."""
    config = service.config
    limits = Limits(config.limits.requests_per_second)
    shell = Shell(
        "service", _routes(service, metrics), _explain, limits, see=_SEE, watch=_Watch(metrics),
        proxies=config.trusted_proxies, open_to_pages=True, pages=config.pages,
    )  # fmt: skip
    return shell.app()


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
        self._http: HttpServer | None = None
        self.port = config.port

    async def __aenter__(self) -> Server:
        try:
            config, limits = self._config, self._config.limits
            app = make_app(self.service, self._metrics)
            self._http = HttpServer(app, limits.connections, limits.connections_per_address, config.trusted_proxies)
            self.port = await self._http.start(config.host, config.port, config.tls_cert, config.tls_key)
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Stop listening, let messages under way finish, and close everything."""
        if self._http is not None:
            await self._http.close()
        await self.service.close()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"{'https' if self._config.tls_cert else 'http'}://{self._config.host}:{self.port}"


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
