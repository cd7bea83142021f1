"""The gateway: one HTTPS call from any language, and nothing to trust.

It fans a signed request out to t nodes, retries with other sets, combines, verifies, answers; it pays for keys, changes
of permissions and revocations (`services.py`). It holds no authority. What a user signed names the key, the message and
the time; a gateway can delay it, never change it, and whoever cares verifies the outcome again. Its one secret is the
account that pays. Here is the HTTP around it: which path leads where, and how a process starts and stops.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from aiohttp import web

from keyquorum import __version__
from keyquorum.gateway import page
from keyquorum.gateway.config import GatewayConfig, load
from keyquorum.gateway.http import (
    COMMITMENT_BODY,
    LOGIN_BODY,
    MAX_BODY,
    SESSION_BODY,
    Metrics,
    counting_failures,
    explain,
)
from keyquorum.gateway.openapi import document
from keyquorum.gateway.services import Gateway
from keyquorum.refusal import UNAVAILABLE
from keyquorum.serving.exposition import Exposition
from keyquorum.serving.forever import until_asked
from keyquorum.serving.http_server import HttpServer
from keyquorum.serving.problem import json_response
from keyquorum.serving.shell import Asked, Handler, Limits, Route, Shell

Service = Callable[[bytes], Awaitable[dict[str, Any]]]
ServiceFor = Callable[[bytes, str], Awaitable[dict[str, Any]]]
METRICS_COST = 25.0
# Every node is asked for a list, and makes it.
LIST_COST = 10.0


def _showing(make: Callable[[], Any]) -> Handler:
    async def handle(_: Asked) -> Any:
        return make()

    return handle


def _posting(service: Service) -> Handler:
    async def handle(asked: Asked) -> Any:
        return await service(asked.body)

    return handle


def _posting_for(service: ServiceFor) -> Handler:
    """Pass the asking network address on, to what is limited by it."""

    async def handle(asked: Asked) -> Any:
        return await service(asked.body, asked.client)

    return handle


def make_app(gateway: Gateway, metrics: Metrics, config: GatewayConfig) -> web.Application:
    """Return the aiohttp application."""
    routes = [*_posts(gateway, config.failed_logins), *_gets(gateway, metrics), *_pages(gateway)]
    limits = Limits(config.requests_per_second, config.bytes_per_second, config.unverified)
    shell = Shell(
        "gateway", routes, explain, limits, see="see /v1/openapi.json", watch=metrics, proxies=config.trusted_proxies,
        open_to_pages=True, pages=config.own_pages(),
    )  # fmt: skip
    return shell.app()


def _posts(gateway: Gateway, failed_logins: int) -> list[Route]:

    async def mint(asked: Asked) -> Any:
        return await gateway.mint(asked.body, asked.client, asked.from_page)

    login = counting_failures(_posting_for(gateway.open_session), failed_logins)
    return [
        Route("POST", "/v1/sign", _posting(gateway.sign), max_body=MAX_BODY),
        Route("POST", "/v1/sessions", login, max_body=LOGIN_BODY),
        Route("POST", "/v1/sessions/list", _posting(gateway.list_sessions), max_body=SESSION_BODY, cost=LIST_COST),
        Route("POST", "/v1/revocations", _posting_for(gateway.revoke), max_body=SESSION_BODY),
        Route("POST", "/v1/commitments", _posting_for(gateway.commit), max_body=COMMITMENT_BODY),
        Route("POST", "/v1/keys", mint, max_body=SESSION_BODY),
        Route("POST", "/v1/permissions", _posting_for(gateway.change_permissions), max_body=SESSION_BODY),
    ]


def _gets(gateway: Gateway, metrics: Metrics) -> list[Route]:
    specification = json_response(document()).body
    exposition = Exposition(metrics.text)

    async def key(asked: Asked) -> Any:
        return await gateway.describe_key(asked.part("id"))

    async def passkey(asked: Asked) -> Any:
        return await gateway.find_passkey(asked.part("id"), asked.request.query.get("page", "0"))

    async def network(_: Asked) -> Any:
        return (await gateway.status()).to_json() | {"version": __version__}

    async def ready(_: Asked) -> Any:
        status = await gateway.status()
        answer = {"ready": status.ready, "live": status.live, "needed": status.threshold}
        return json_response(answer, 200 if status.ready else UNAVAILABLE)

    def shown() -> web.Response:
        return web.Response(body=specification, content_type="application/json")

    def text() -> web.Response:
        return web.Response(body=exposition.text(), content_type="text/plain")

    return [
        Route("GET", "/v1/keys/{id}", key, reads_chain=True),
        Route("GET", "/v1/passkeys/{id}", passkey, reads_chain=True),
        Route("GET", "/v1/login", _showing(gateway.login_options), placed=False),
        Route("GET", "/v1/network", network),
        Route("GET", "/v1/openapi.json", _showing(shown), probe=True),
        Route("GET", "/network.json", _showing(gateway.network_file), placed=False),
        Route("GET", "/livez", _showing(lambda: {"status": "live", "version": __version__}), probe=True),
        Route("GET", "/readyz", ready, probe=True),
        Route("GET", "/metrics", _showing(text), probe=True, cost=METRICS_COST),
    ]


def _pages(gateway: Gateway) -> list[Route]:
    serve = page.serving(page.connections(gateway.network_file(), gateway.login_options()))

    async def handle(asked: Asked) -> Any:
        return serve(asked.request)

    return [Route("GET", path, handle, placed=False) for path in page.PATHS]


class Server:
    """A gateway that listens; `async with Server(config) as server`, then `server.url`."""

    def __init__(self, config: GatewayConfig) -> None:
        self._config = config
        self.gateway = Gateway(config)
        self._http: HttpServer | None = None

    async def __aenter__(self) -> Server:
        try:
            await self.gateway.connect()
            config = self._config
            app = make_app(self.gateway, Metrics(), config)
            self._http = HttpServer(app, config.connections, config.connections_per_address, config.trusted_proxies)
            self.gateway.port = await self._http.start(config.host, config.port)
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Stop listening and close every connection."""
        if self._http is not None:
            await self._http.close()
        await self.gateway.close()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://{self._config.host}:{self.gateway.port}"


async def serve(path: Path) -> None:
    """Run the gateway whose settings are in `path` until it is asked to stop."""
    config = load(path)
    asked = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, asked.set)
    async with Server(config) as server:
        print(f"gateway on {server.url}", flush=True)
        await until_asked(asked)


def run(path: Path) -> None:
    """Run a gateway in this process; returns when it was asked to stop."""
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(path))
