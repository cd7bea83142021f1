"""The listening side of an HTTP API: bounded connections, in all and for each address, and patience that ends.

A connection has `HEADER_SECONDS` to send the headers of its first request, and as long again for each further one once
its first byte is there; the time for bodies is the application's business. What is not HTTP gets the same kind of
answer as any other mistake, `{"error": {...}}` with status 400. What is over a bound is closed before a byte is read.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import Counter
from collections.abc import Awaitable, Callable, Collection
from pathlib import Path
from typing import Any, Final

import msgspec
from aiohttp import web

HEADER_SECONDS: Final = 10.0
KEEPALIVE_SECONDS: Final = 75.0
LINGERING_SECONDS: Final = 1.0
SHUTDOWN_SECONDS: Final = 2.0
TLS_SECONDS: Final = 10.0
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class HttpServer:
    """Serves `app` to at most `most` connections, `per_address` of one address; `start`, then `close`."""

    def __init__(
        self, app: web.Application, most: int, per_address: int, trusted: Collection[str] = (),
        header_seconds: float = HEADER_SECONDS, counts: Counter[str] | None = None,
    ) -> None:  # fmt: skip
        """`trusted` addresses (gateways, reverse proxies) are bound by `most` only; `counts` counts what was ended."""
        self.app = app
        app.middlewares.insert(0, _mark)
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=SHUTDOWN_SECONDS)
        self._most = most
        self._per_address = per_address
        self._trusted = frozenset(trusted)
        self._header_seconds = header_seconds
        self._server: asyncio.Server | None = None
        self.counts: Counter[str] = Counter() if counts is None else counts
        self.connections: dict[_Connection, str] = {}
        self._of_address: Counter[str] = Counter()

    async def start(self, host: str, port: int, tls_cert: Path | None = None, tls_key: Path | None = None) -> int:
        """Listen, with TLS when there is a certificate; return the port."""
        await self._runner.setup()
        context = _tls(tls_cert, tls_key)
        self._server = await asyncio.get_running_loop().create_server(
            self._connection, host, port, ssl=context, ssl_handshake_timeout=TLS_SECONDS if context else None
        )
        return int(self._server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        """Stop listening and end every connection; requests under way have `SHUTDOWN_SECONDS`."""
        if self._server is not None:
            self._server.close()
        await self._runner.cleanup()

    def _connection(self) -> asyncio.Protocol:
        server = self._runner.server
        assert server is not None, "setup makes it"  # noqa: S101
        return _Connection(self, server, self._header_seconds)

    def admit(self, connection: _Connection, address: str) -> bool:
        """Count a new connection; False when it is one too many."""
        over = len(self.connections) >= self._most
        over = over or (address not in self._trusted and self._of_address[address] >= self._per_address)
        if over:
            self.counts["connections_over_limit"] += 1
            return False
        self.connections[connection] = address
        self._of_address[address] += 1
        return True

    def forget(self, connection: _Connection) -> None:
        """Count a connection that has ended, if it was counted."""
        address = self.connections.pop(connection, None)
        if address is not None:
            self._of_address[address] -= 1
            if not self._of_address[address]:
                del self._of_address[address]


class _Connection(web.RequestHandler):
    """aiohttp's handler of one connection, with bounds around it."""

    __slots__ = ("_admitted", "_answering", "_deadline", "_owner", "_patience")

    def __init__(self, owner: HttpServer, server: web.Server, patience: float) -> None:
        super().__init__(
            server, loop=asyncio.get_running_loop(), access_log=None,  # type: ignore[arg-type]
            keepalive_timeout=KEEPALIVE_SECONDS, lingering_time=LINGERING_SECONDS,
        )  # fmt: skip
        self._owner = owner
        self._patience = patience
        self._admitted = False
        self._answering = False
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        peer = transport.get_extra_info("peername")
        self._admitted = self._owner.admit(self, str(peer[0]) if isinstance(peer, tuple) else "")
        if not self._admitted:
            transport.close()
            return
        super().connection_made(transport)
        self._expect_headers()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._stop_waiting()
        self._owner.forget(self)
        if self._admitted:
            super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if not self._admitted:
            return
        if not self._answering and self._deadline is None:
            self._expect_headers()
        super().data_received(data)

    def answering(self, under_way: bool) -> None:
        """Note that the headers of a request are complete, and later that it is answered."""
        self._answering = under_way
        self._stop_waiting()

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        """Answer what never reached the application, mostly bytes that are no HTTP: as JSON, without details."""
        if request.writer.output_size > 0:
            raise ConnectionError("an answer is on its way already")
        if status < 500:
            self._owner.counts["bad_http"] += 1
            response = _refusal(400, "bad_http", "the request is not proper HTTP", "see /v1/openapi.json")
        else:
            response = _refusal(503, "internal", "this server failed to answer", "ask another one")
        response.force_close()
        return response

    def _expect_headers(self) -> None:
        self._deadline = asyncio.get_running_loop().call_later(self._patience, self._give_up)

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _give_up(self) -> None:
        self._owner.counts["unfinished_headers"] += 1
        if self.transport is not None:
            self.transport.abort()


@web.middleware
async def _mark(request: web.Request, handler: Handler) -> web.StreamResponse:
    connection: Any = request.protocol
    connection.answering(True)
    try:
        return await handler(request)
    finally:
        connection.answering(False)


def _refusal(status: int, code: str, message: str, hint: str) -> web.Response:
    body = msgspec.json.encode({"error": {"code": code, "message": message, "hint": hint}})
    return web.Response(body=body, status=status, content_type="application/json")


def _tls(certificate: Path | None, key: Path | None) -> ssl.SSLContext | None:
    if certificate is None or key is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(certificate, key)
    return context
