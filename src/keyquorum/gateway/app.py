"""The gateway: one HTTPS call from any language, and nothing to trust.

It fans a signed request out to t nodes, retries with other sets, combines, verifies, answers: the SDK's own code
(`client.fanout`), run for others. It holds no authority. What a user signed names the key, the message and the time;
a gateway can delay it, never change it, and whoever cares verifies the signature again. Its one secret is the account
that pays for mints. It checks requests itself only to spare the nodes what they would refuse anyway.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from aiohttp import web

from keyquorum import __version__, intents
from keyquorum.algebra.strict_json import fields, loads
from keyquorum.algebra.strict_json import text as text_rule
from keyquorum.auth import certificate as certificates
from keyquorum.auth import request as requests
from keyquorum.auth.method import method
from keyquorum.auth.statement import Statement
from keyquorum.chain.account import checksum
from keyquorum.chain.rpc import Sender
from keyquorum.client.connection import Connection
from keyquorum.client.jobs import SignJob
from keyquorum.client.results import NetworkStatus, token_from
from keyquorum.client.session import CertificateJob
from keyquorum.gateway.config import GatewayConfig, load
from keyquorum.gateway.http import MAX_BODY, UNAVAILABLE, Metrics, json_response, manners, read_body
from keyquorum.gateway.openapi import document
from keyquorum.gateway.relay import Relay

STATUS_FRESH_SECONDS = 1.0
STARTING_SECONDS = 0.1


class Gateway(Connection):
    """The gateway's services; each takes a request body as bytes and returns JSON."""

    def __init__(self, config: GatewayConfig) -> None:
        super().__init__(config.as_network(), timeout=config.request_seconds, user_agent="keyquorum-gateway")
        self._config = config
        self._relay: Relay | None = None
        self._status: tuple[float, NetworkStatus] | None = None
        self._status_lock = asyncio.Lock()
        self.port = config.port

    async def connect(self) -> None:
        """Read the network from the chain and open the relayer's account."""
        await super().connect()
        if self._relay is None:
            self._relay = Relay(
                self.chain, self._open_sender(), self._config.mints_per_owner, self._config.mints_per_client
            )

    def _open_sender(self) -> Sender | None:
        path = self._config.relayer_key_file
        if not path:
            return None
        try:
            key = bytes.fromhex(Path(path).read_text().strip().removeprefix("0x"))
            return Sender(self.chain.rpc, key)
        except (OSError, ValueError):
            raise ValueError(f"{path} holds no relayer key (64 hex digits)") from None

    async def sign(self, body: bytes) -> dict[str, Any]:
        """Answer `POST /v1/sign`."""
        found = fields(loads(body, MAX_BODY), {"certificate": str, "request": str})
        now = int(time.time())
        certificate = certificates.verify(found["certificate"], self.facts.id, await self._network_key(), now)
        request = requests.verify(found["request"], certificate, self.facts.id, now)
        intent = intents.read(request.intent, None)
        job = SignJob(
            found["certificate"],
            found["request"],
            request_id=request.id,
            digest=intent.digest,
            summary=intent.summary,
            public_key=await self._public_key(token_from(request.key)),
        )
        return (await self._fanout.run(job, self._timeout)).to_json()

    async def open_session(self, body: bytes) -> dict[str, Any]:
        """Answer `POST /v1/sessions`."""
        found = fields(loads(body, MAX_BODY), {"statement": dict, "method": str, "proof": dict})
        statement = Statement.from_json(found["statement"])
        # Whether the block is recent is left to the nodes: each knows the chain.
        statement.check(self.facts.id, int(time.time()), lambda _: True)
        method(found["method"])
        job = CertificateJob(statement, found["method"], found["proof"], await self._network_key())
        return {"certificate": await self._fanout.run(job, self._timeout)}

    async def mint(self, body: bytes, client: str) -> dict[str, Any]:
        """Answer `POST /v1/keys` for `client`, the network address that asks."""
        found = fields(loads(body, MAX_BODY), {"owner": text_rule(42)})
        owner = checksum(found["owner"])
        if int(owner, 16) == 0:
            raise ValueError("nobody owns the zero address")
        relay = self._relay
        assert relay is not None  # noqa: S101 - made by connect
        return (await relay.mint(owner, client)).to_json()

    async def describe_key(self, name: str) -> dict[str, Any]:
        """Answer `GET /v1/keys/{id}`."""
        return (await self.chain.key(token_from(name))).to_json() | {"epoch": self._current_committee().epoch}

    async def status(self) -> NetworkStatus:
        """Return the network's state, at most a second old: many who ask cost the nodes one look.

        While it is not ready it is looked at more often, because somebody is waiting.
        """
        async with self._status_lock:
            fresh = STATUS_FRESH_SECONDS if self._status is not None and self._status[1].ready else STARTING_SECONDS
            if self._status is None or time.monotonic() - self._status[0] > fresh:
                self._status = (time.monotonic(), await self.network())
            return self._status[1]

    def network_file(self) -> dict[str, str]:
        """Answer `GET /network.json`: how a client reaches this network through this gateway."""
        config = self._config
        own = config.public_url or f"http://{config.host}:{self.port}"
        return {"network": config.network, "rpc": config.public_rpc or config.rpc, "gateway": own}


def _page(make: Callable[[], web.Response]) -> Any:
    async def handler(_: web.Request) -> web.Response:
        return make()

    return handler


def make_app(gateway: Gateway, metrics: Metrics, per_second: float) -> web.Application:
    """Return the aiohttp application."""
    specification = document()

    def posting(service: Callable[[bytes], Awaitable[dict[str, Any]]]) -> Any:
        async def handler(request: web.Request) -> web.Response:
            return json_response(await service(await read_body(request)))

        return handler

    async def mint(request: web.Request) -> web.Response:
        return json_response(await gateway.mint(await read_body(request), request.remote or ""))

    async def key(request: web.Request) -> web.Response:
        return json_response(await gateway.describe_key(request.match_info["id"]))

    async def network(_: web.Request) -> web.Response:
        return json_response((await gateway.status()).to_json() | {"version": __version__})

    async def ready(_: web.Request) -> web.Response:
        status = await gateway.status()
        answer = {"ready": status.ready, "live": status.live, "needed": status.threshold}
        return json_response(answer, 200 if status.ready else UNAVAILABLE)

    app = web.Application(middlewares=[manners(metrics, per_second)], client_max_size=MAX_BODY)
    app.add_routes(
        [
            web.post("/v1/sign", posting(gateway.sign)),
            web.post("/v1/sessions", posting(gateway.open_session)),
            web.post("/v1/keys", mint),
            web.get("/v1/keys/{id}", key),
            web.get("/v1/network", network),
            web.get("/v1/openapi.json", _page(lambda: json_response(specification))),
            web.get("/network.json", _page(lambda: json_response(gateway.network_file()))),
            web.get("/livez", _page(lambda: json_response({"status": "live", "version": __version__}))),
            web.get("/readyz", ready),
            web.get("/metrics", _page(lambda: web.Response(body=metrics.text(), content_type="text/plain"))),
        ]
    )
    return app


class Server:
    """A gateway that listens; `async with Server(config) as server`, then `server.url`."""

    def __init__(self, config: GatewayConfig) -> None:
        self._config = config
        self.gateway = Gateway(config)
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> Server:
        try:
            await self.gateway.connect()
            app = make_app(self.gateway, Metrics(), self._config.requests_per_second)
            self._runner = web.AppRunner(app, access_log=None, handle_signals=False, keepalive_timeout=75)
            await self._runner.setup()
            await web.TCPSite(self._runner, self._config.host, self._config.port).start()
        except BaseException:
            await self.close()
            raise
        self.gateway.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Stop listening and close every connection."""
        if self._runner is not None:
            await self._runner.cleanup()
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
        await asked.wait()


def run(path: Path) -> None:
    """Run a gateway in this process; returns when it was asked to stop."""
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(path))
