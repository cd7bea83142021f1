"""The listening side of the HTTP API: how many connections there are, and how long one may take over a request."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

from aiohttp import web

KEEPALIVE_SECONDS = 75
SHUTDOWN_SECONDS = 2.0


class HttpServer:
    """Serves `app` to at most `most` connections at a time; `start`, then `close`."""

    def __init__(self, app: web.Application, most: int) -> None:
        self._runner = web.AppRunner(
            app, access_log=None, handle_signals=False, keepalive_timeout=KEEPALIVE_SECONDS,
            shutdown_timeout=SHUTDOWN_SECONDS,
        )  # fmt: skip
        self._most = most
        self._server: asyncio.Server | None = None

    async def start(self, host: str, port: int, tls_cert: Path | None = None, tls_key: Path | None = None) -> int:
        """Listen, with TLS when there is a certificate; return the port."""
        await self._runner.setup()
        handlers = self._runner.server
        assert handlers is not None, "setup makes it"  # noqa: S101
        most = self._most
        self._server = await asyncio.get_running_loop().create_server(
            lambda: handlers() if len(handlers.connections) < most else _Refusal(),
            host,
            port,
            ssl=_tls(tls_cert, tls_key),
        )
        return int(self._server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        """Stop listening and end every connection."""
        if self._server is not None:
            self._server.close()
        await self._runner.cleanup()


class _Refusal(asyncio.Protocol):
    """What a connection beyond the limit gets: its end, before a byte of it is read."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Close it."""
        transport.close()


def _tls(certificate: Path | None, key: Path | None) -> ssl.SSLContext | None:
    if certificate is None or key is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(certificate, key)
    return context
