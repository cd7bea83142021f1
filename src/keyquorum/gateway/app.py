"""The gateway: one HTTPS call from any language, and nothing to trust.

It fans a signed request out to t nodes, retries with other sets, combines, verifies, answers; it pays for keys, changes
of permissions and revocations (`services.py`). It holds no authority. What a user signed names the key, the message and
the time; a gateway can delay it, never change it, and whoever cares verifies the outcome again. Its one secret is the
account that pays. Here is the HTTP around it: which path leads where, and how a process starts and stops.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from aiohttp import web

from keyquorum import __version__
from keyquorum.gateway import page
from keyquorum.gateway.config import GatewayConfig, load
from keyquorum.gateway.http import MAX_BODY, PROXIES, UNAVAILABLE, Metrics, json_response, manners, read_body
from keyquorum.gateway.openapi import document
from keyquorum.gateway.services import Gateway
from keyquorum.serving.client_address import client_of
from keyquorum.serving.forever import until_asked
from keyquorum.serving.http_server import HttpServer

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Service = Callable[[bytes], Awaitable[dict[str, Any]]]
ServiceFor = Callable[[bytes, str], Awaitable[dict[str, Any]]]


def _page(make: Callable[[], web.Response]) -> Handler:
    async def handler(_: web.Request) -> web.Response:
        return make()

    return handler


def _posting(service: Service) -> Handler:
    async def handler(request: web.Request) -> web.Response:
        return json_response(await service(await read_body(request)))

    return handler


def _posting_for(service: ServiceFor) -> Handler:
    """Pass the asking network address on, to what is limited by it."""

    async def handler(request: web.Request) -> web.Response:
        proxies = request.app[PROXIES]
        return json_response(await service(await read_body(request), client_of(request, proxies)))

    return handler


def make_app(
    gateway: Gateway, metrics: Metrics, per_second: float, failed_logins: int, proxies: Sequence[str] = ()
) -> web.Application:
    """Return the aiohttp application; `proxies` are the addresses whose word about who asks is believed."""
    specification = document()

    async def key(request: web.Request) -> web.Response:
        return json_response(await gateway.describe_key(request.match_info["id"]))

    async def passkey(request: web.Request) -> web.Response:
        return json_response(await gateway.find_passkey(request.match_info["id"]))

    async def network(_: web.Request) -> web.Response:
        return json_response((await gateway.status()).to_json() | {"version": __version__})

    async def ready(_: web.Request) -> web.Response:
        status = await gateway.status()
        answer = {"ready": status.ready, "live": status.live, "needed": status.threshold}
        return json_response(answer, 200 if status.ready else UNAVAILABLE)

    app = web.Application(middlewares=[manners(metrics, per_second, failed_logins)], client_max_size=MAX_BODY)
    app[PROXIES] = list(proxies)
    app.add_routes(_posts(gateway))
    app.add_routes(
        [
            web.get("/v1/keys/{id}", key),
            web.get("/v1/passkeys/{id}", passkey),
            web.get("/v1/login", _page(lambda: json_response(gateway.login_options()))),
            web.get("/v1/network", network),
            web.get("/v1/openapi.json", _page(lambda: json_response(specification))),
            web.get("/network.json", _page(lambda: json_response(gateway.network_file()))),
            web.get("/livez", _page(lambda: json_response({"status": "live", "version": __version__}))),
            web.get("/readyz", ready),
            web.get("/metrics", _page(lambda: web.Response(body=metrics.text(), content_type="text/plain"))),
        ]
    )
    app.add_routes(page.routes(page.connections(gateway.network_file(), gateway.login_options())))
    return app


def _posts(gateway: Gateway) -> list[web.RouteDef]:
    return [
        web.post("/v1/sign", _posting(gateway.sign)),
        web.post("/v1/sessions", _posting(gateway.open_session)),
        web.post("/v1/sessions/list", _posting(gateway.list_sessions)),
        web.post("/v1/revocations", _posting_for(gateway.revoke)),
        web.post("/v1/commitments", _posting_for(gateway.commit)),
        web.post("/v1/keys", _posting_for(gateway.mint)),
        web.post("/v1/permissions", _posting_for(gateway.change_permissions)),
    ]


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
            app = make_app(
                self.gateway, Metrics(), config.requests_per_second, config.failed_logins, config.trusted_proxies
            )
            self._http = HttpServer(app, config.connections, config.connections_per_address)
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
