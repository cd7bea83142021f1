"""The listening side of the mesh: from a TCP connection to an identified peer's WebSocket.

Sockets are accepted here, by hand, because the bounds belong before the TLS handshake: how many handshakes are under
way, in all and from one address (of IPv6 the /64), how many an address may begin, and how long one may take. A quarter
of them is kept for addresses where a peer is registered or has come from. What is over a bound is closed unseen.
Whoever proved a key is somebody by that key alone; HTTP is parsed only for the registered, from at most four
connections each, and only to become a WebSocket within the time of a handshake.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final

from aiohttp import web

from keyquorum.node.mesh import wire
from keyquorum.node.mesh.connection import Limits
from keyquorum.serving.addresses import UNKNOWN, fold
from keyquorum.serving.forever import forever

Identify = Callable[[Callable[[str], Any]], int | None]
Welcome = Callable[[int, web.WebSocketResponse], Awaitable[None]]
CONNECTIONS_PER_PEER: Final = 4
ADDRESSES_REMEMBERED: Final = 4096
PEER_SOURCES_REMEMBERED: Final = 256
KEPT_SHARE: Final = 4
"""One in so many handshakes is kept for addresses of peers."""


class Listener:
    """Accepts connections and calls `welcome(party, websocket)` for those that `identify` knows."""

    path: Final = "/mesh"

    def __init__(
        self, context: ssl.SSLContext, identify: Identify, welcome: Welcome, limits: Limits, counts: Counter[str]
    ) -> None:
        self._context = context
        self._identify = identify
        self._welcome = welcome
        self._limits = limits
        self._counts = counts
        self._sockets: list[socket.socket] = []
        self._acceptors: list[asyncio.Task[None]] = []
        self._handshakes: dict[asyncio.Task[None], str] = {}
        self._allowance: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._peer_sources: OrderedDict[str, None] = OrderedDict()
        self._registered_sources: frozenset[str] = frozenset()
        self._transports: dict[int, list[asyncio.Transport]] = {}
        self._welcomed: dict[asyncio.Task[Any], asyncio.Transport] = {}
        self._server: web.Server | None = None

    async def start(self, host: str, port: int) -> int:
        """Listen on every address of `host`; return the port."""
        self._server = web.Server(
            self._answer, access_log=None, max_line_size=256,
            max_field_size=512, max_headers=32,
        )  # fmt: skip
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        for family, kind, protocol, _, address in dict.fromkeys(found):
            self._sockets.append(_listen(socket.socket(family, kind, protocol), address, port))
            port = self._sockets[0].getsockname()[1]
        self._acceptors = [
            forever("the listener of the mesh", self._accept(listening, self._server)) for listening in self._sockets
        ]
        return port

    async def close(self) -> None:
        """Stop listening and end every connection that was accepted."""
        tasks = [*self._acceptors, *self._handshakes, *self._welcomed]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for listening in self._sockets:
            listening.close()
        if self._server is not None:
            await self._server.shutdown(0.1)

    def expect(self, hosts: Iterable[str]) -> None:
        """Keep room for the registered peers' hosts: those that are addresses; names are known once one has come."""
        self._registered_sources = frozenset(map(fold, hosts)) - {UNKNOWN}

    async def _accept(self, listening: socket.socket, server: web.Server) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                accepted, address = await loop.sock_accept(listening)
            except OSError:
                self._counts["accept_failed"] += 1
                await asyncio.sleep(0.1)  # out of file handles, most likely: let some close
                continue
            self._take(accepted, str(address[0]), server)

    def _take(self, accepted: socket.socket, address: str, server: web.Server) -> None:
        source = fold(address)
        if not self._may_shake_hands(source):
            self._counts["handshakes_over_limit"] += 1
            accepted.close()
            return
        task = asyncio.create_task(self._shake_hands(accepted, source, server))
        self._handshakes[task] = source
        task.add_done_callback(lambda done: self._handshakes.pop(done, None) and None)

    def _may_shake_hands(self, source: str) -> bool:
        """Bound the handshakes under way, in all and of one address, and how many an address begins per second."""
        limits, now = self._limits, time.monotonic()
        left, at = self._allowance.pop(source, (limits.handshake_burst, now))
        left = min(limits.handshake_burst, left + (now - at) * limits.handshake_rate)
        same = sum(other == source for other in self._handshakes.values())
        allowed = left >= 1 and same < limits.handshakes_per_address and self._has_room(source)
        self._allowance[source] = (left - allowed, now)
        if len(self._allowance) > ADDRESSES_REMEMBERED:
            self._allowance.popitem(last=False)
        return allowed

    def _has_room(self, source: str) -> bool:
        if len(self._handshakes) >= self._limits.handshakes:
            return False
        if self._is_peers(source):
            return True
        strangers = sum(not self._is_peers(other) for other in self._handshakes.values())
        return strangers < self._limits.handshakes - self._limits.handshakes // KEPT_SHARE

    def _is_peers(self, source: str) -> bool:
        return source in self._registered_sources or source in self._peer_sources

    def _remember_peer(self, source: str) -> None:
        self._peer_sources[source] = None
        self._peer_sources.move_to_end(source)
        if len(self._peer_sources) > PEER_SOURCES_REMEMBERED:
            self._peer_sources.popitem(last=False)

    async def _shake_hands(self, accepted: socket.socket, source: str, server: web.Server) -> None:
        accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        loop = asyncio.get_running_loop()
        try:
            transport, _ = await loop.connect_accepted_socket(
                server, accepted, ssl=self._context, ssl_handshake_timeout=self._limits.handshake
            )
        except (OSError, ssl.SSLError):
            self._counts["handshakes_refused"] += 1
            accepted.close()
            return
        party = self._identify(transport.get_extra_info)
        if party is None:
            self._counts["strangers"] += 1
            transport.abort()
            return
        self._remember_peer(source)
        held = self._transports[party] = [t for t in self._transports.get(party, []) if not t.is_closing()]
        if len(held) >= CONNECTIONS_PER_PEER:
            self._counts["connections_over_limit"] += 1
            transport.abort()
            return
        held.append(transport)
        loop.call_later(self._limits.handshake, self._end_idle, transport)

    def _end_idle(self, transport: asyncio.Transport) -> None:
        if transport not in self._welcomed.values() and not transport.is_closing():
            self._counts["idle_connections"] += 1
            transport.abort()

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """Turn the one request that is allowed into a WebSocket and hand it on."""
        transport, task = request.transport, asyncio.current_task()
        party = None if transport is None else self._identify(transport.get_extra_info)
        if party is None or transport is None or task is None or request.path != self.path or request.method != "GET":
            raise web.HTTPForbidden
        websocket = web.WebSocketResponse(max_msg_size=wire.FRAME_LIMIT, compress=False, autoping=False)
        self._welcomed[task] = transport
        try:
            await websocket.prepare(request)
            await self._welcome(party, websocket)
        finally:
            del self._welcomed[task]
            transport.abort()
        return websocket


def _listen(listening: socket.socket, address: Any, port: int) -> socket.socket:
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if listening.family == socket.AF_INET6:
        listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    listening.bind((address[0], port, *address[2:]))
    listening.listen(256)
    listening.setblocking(False)
    return listening
