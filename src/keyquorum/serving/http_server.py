"""The listening side of an HTTP API: bounded connections, in all and for each address, and patience that ends.

A connection has `TLS_SECONDS` for its handshake, `HEADER_SECONDS` to send the headers of its first request, and as long
again for each further one once its first byte is there; `WRITE_SECONDS` to read an answer, and `IDLE_SECONDS` between
two requests, with whatever it left unread; the time for bodies is the shell's business. So each state of a connection
but one has a deadline here, and can be ended for a newcomer: only while a handler works for it, in time of its own, is
it left alone. What is sent ahead of an answer changes none of that. Before patience for headers
ends what has arrived meanwhile is read: a server that was busy for so long does not blame its clients. Connections are
counted (`connections.py`) when they are accepted, before a handshake or a byte of theirs costs anything; what is over a
bound is closed at once. What is not HTTP gets the same kind of answer as any other mistake, `{"error": {...}}` with
status 400.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any, Final

import msgspec
from aiohttp import web

from keyquorum.serving.addresses import Networks
from keyquorum.serving.connections import BODY, HEADERS, IDLE, QUEUED, UNREAD, Connections, waiting_for
from keyquorum.serving.forever import forever

HEADER_SECONDS: Final = 10.0
KEEPALIVE_SECONDS: Final = 75.0
# aiohttp ends an idle connection only when what was written is read.
IDLE_SECONDS = KEEPALIVE_SECONDS + 5.0
WRITE_SECONDS = 60.0
LINGERING_SECONDS: Final = 1.0
SHUTDOWN_SECONDS: Final = 2.0
TLS_SECONDS: Final = 10.0
ACCEPT_PAUSE = 0.1
GRACE = 0.001
BACKLOG = 512
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class HttpServer:
    """Serves `app` to at most `most` connections, `per_address` of one address; `start`, then `close`."""

    def __init__(
        self, app: web.Application, most: int, per_address: int, trusted: Iterable[str] = (),
        header_seconds: float = HEADER_SECONDS, counts: Counter[str] | None = None,
    ) -> None:  # fmt: skip
        """`trusted` networks (gateways, reverse proxies) are bound by `most` only; `counts` counts what was ended."""
        self.app = app
        app.middlewares.insert(0, _mark)
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=SHUTDOWN_SECONDS)
        self._header_seconds = header_seconds
        self._sockets: list[socket.socket] = []
        self._acceptors: list[asyncio.Task[None]] = []
        self._tls: ssl.SSLContext | None = None
        self.counts: Counter[str] = Counter() if counts is None else counts
        self.connections = Connections(most, per_address, Networks(trusted), self.counts)

    async def start(self, host: str, port: int, tls_cert: Path | None = None, tls_key: Path | None = None) -> int:
        """Listen, with TLS when there is a certificate; return the port."""
        self._tls = _tls(tls_cert, tls_key)
        await self._runner.setup()
        infos = await asyncio.get_running_loop().getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        for family, address in dict.fromkeys((info[0], info[4]) for info in infos):
            listening = socket.socket(family, socket.SOCK_STREAM)
            self._sockets.append(listening)
            _listen(listening, address, port)
            port = listening.getsockname()[1]
        self._acceptors = [forever("the listener of the API", self._accept(listening)) for listening in self._sockets]
        return port

    async def close(self) -> None:
        """Stop listening and end every connection; requests under way have `SHUTDOWN_SECONDS`."""
        for task in self._acceptors:
            task.cancel()
        await asyncio.gather(*self._acceptors, return_exceptions=True)
        for listening in self._sockets:
            listening.close()
        for held in self.connections:
            if isinstance(held, _Connection) and held.transport is None:
                held.end()
        await self._runner.cleanup()

    async def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                accepted, address = await loop.sock_accept(listening)
            except OSError:
                self.counts["accept_failed"] += 1
                await asyncio.sleep(ACCEPT_PAUSE)  # out of file handles, most likely: let some close
                continue
            connection = self._connection()
            if self.connections.admit(connection, str(address[0])):
                connection.begin(accepted, self._tls)
            else:
                accepted.close()

    def _connection(self) -> _Connection:
        server = self._runner.server
        assert server is not None, "setup makes it"  # noqa: S101
        return _Connection(self, server, self._header_seconds)


class _Connection(web.RequestHandler):
    """aiohttp's handler of one connection, with bounds around it."""

    __slots__ = ("_beginning", "_deadline", "_owner", "_patience", "waiting")

    def __init__(self, owner: HttpServer, server: web.Server, patience: float) -> None:
        super().__init__(
            server, loop=asyncio.get_running_loop(), access_log=None,  # type: ignore[arg-type]
            keepalive_timeout=KEEPALIVE_SECONDS, lingering_time=LINGERING_SECONDS,
        )  # fmt: skip
        self._owner = owner
        self._patience = patience
        self._beginning: asyncio.Task[None] | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self.waiting: tuple[int, int] | None = waiting_for(HEADERS)

    # -- begin and end --------------------------------------------

    def begin(self, accepted: socket.socket, tls: ssl.SSLContext | None) -> None:
        """Become the protocol of a socket, after a handshake when there is TLS."""
        self._beginning = asyncio.create_task(self._begin(accepted, tls))

    async def _begin(self, accepted: socket.socket, tls: ssl.SSLContext | None) -> None:
        try:
            accepted.setblocking(False)
            accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: self, accepted, ssl=tls, ssl_handshake_timeout=TLS_SECONDS if tls else None
            )
        except (OSError, ssl.SSLError):
            self._owner.counts["handshakes_failed"] += 1
        finally:
            if self.transport is None:
                self._owner.connections.forget(self)
                accepted.close()

    def end(self) -> None:
        """End the connection at once, also one whose handshake is under way."""
        if self.transport is not None:
            self.transport.abort()
        elif self._beginning is not None:
            self._beginning.cancel()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._wait_for(HEADERS, self._patience, self.lose_patience)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._stop_waiting()
        self._owner.connections.forget(self)
        super().connection_lost(exc)

    # -- whom it waits for --------------------------------------------

    def data_received(self, data: bytes) -> None:
        if data and self._is(IDLE):
            self._wait_for(HEADERS, self._patience, self.lose_patience)
        super().data_received(data)
        if self._messages and (self._is(HEADERS) or self._is(IDLE)):
            self._wait_for(QUEUED, WRITE_SECONDS, self._give_up_reader)

    def answering(self, under_way: bool) -> None:
        """Note that a handler works for the request, and later that it has answered."""
        if under_way:
            self._stop_waiting()
            self.waiting = None
        else:
            self._wait_for(UNREAD, WRITE_SECONDS, self._give_up_reader)

    def reading(self, under_way: bool) -> None:
        """Note that the body of the request is awaited, and later that it is there."""
        self.waiting = waiting_for(BODY) if under_way else None

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Write an answer; its client has `WRITE_SECONDS` to read it, then it is idle, also if it is the last."""
        self._wait_for(UNREAD, WRITE_SECONDS, self._give_up_reader)
        try:
            return await super().finish_response(request, resp, start_time)
        finally:
            self._wait_for(IDLE, IDLE_SECONDS, self.end)

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

    def _is(self, what: int) -> bool:
        return self.waiting is not None and self.waiting[0] == what

    def _wait_for(self, what: int, seconds: float, then: Callable[[], None]) -> None:
        self._stop_waiting()
        if self.transport is None:
            return
        self.waiting = waiting_for(what)
        self._deadline = asyncio.get_running_loop().call_later(seconds, then)

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def lose_patience(self) -> None:
        """Give the client up, unless what it sent has arrived and only we have not read it yet."""
        self._stop_waiting()
        # Timers run before sockets are read: the next timer has one round of reading before it.
        self._deadline = asyncio.get_running_loop().call_later(GRACE, self._give_up)

    def _give_up(self) -> None:
        self._owner.counts["unfinished_headers"] += 1
        self.end()

    def _give_up_reader(self) -> None:
        self._owner.counts["unread_answers"] += 1
        self.end()


@web.middleware
async def _mark(request: web.Request, handler: Handler) -> web.StreamResponse:
    connection: Any = request.protocol
    connection.answering(True)
    try:
        return await handler(request)
    finally:
        connection.answering(False)


def _listen(listening: socket.socket, address: Any, port: int) -> None:
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if listening.family == socket.AF_INET6:
        listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    listening.bind((address[0], port, *address[2:]))
    listening.listen(BACKLOG)
    listening.setblocking(False)


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
