"""One WebSocket to one peer: frames in, frames out, and a bound on everything.

Sending never waits: a frame goes into one of two lanes and a task empties them, urgent frames before bulk, one part at
a time, waiting for the socket when it is full. If more than `queue_bytes` wait, the peer reads too slowly and the
connection is dropped: the alternative is to keep its backlog in memory. Receiving takes at most `bytes_per_second` on
average; a peer that sends more is read more slowly, which TCP passes on to it, and costs nobody else anything.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections import deque
from dataclasses import dataclass
from typing import Any, Final

import aiohttp
from aiohttp import web

from keyquorum.node.mesh import wire

WebSocket = aiohttp.ClientWebSocketResponse[Any] | web.WebSocketResponse
FRAME_OVERHEAD: Final = 4096
"""What handling a frame costs besides its length, in bytes of budget: small frames are not free."""


class ConnectionDropped(ConnectionError):
    """The connection is over: closed by the peer, dropped by us, or broken."""


@dataclass(frozen=True)
class Limits:
    """Bounds of a connection and, from `handshakes` on, of the listener; times in seconds, the rate per address."""

    queue_bytes: int = 8 << 20
    bytes_per_second: int = 64 << 20
    burst_bytes: int = 16 << 20
    handshake: float = 5.0
    heartbeat: float = 5.0
    probe: float = 2.0
    handshakes: int = 256
    handshakes_per_address: int = 32
    handshake_rate: float = 50.0
    handshake_burst: float = 200.0


class Connection:
    """An open WebSocket whose other side is known; closed by `drop` or by its end."""

    def __init__(self, socket_: WebSocket, peer: int, limits: Limits) -> None:
        self.peer = peer
        self.why_dropped: str | None = None
        self.last_heard = time.monotonic()
        self.sent_bytes = self.received_bytes = self.malformed = 0
        self._socket = socket_
        self._limits = limits
        self._lanes: tuple[deque[bytes], deque[bytes]] = (deque(), deque())
        self._queued = 0
        self._wake = asyncio.Event()
        self._assembler = wire.Assembler()
        self._frames = 0
        self._pump = asyncio.create_task(self._empty_lanes())
        self._budget = float(limits.burst_bytes)
        self._budget_at = time.monotonic()
        self._probes: dict[int, asyncio.Event] = {}
        self._probe_number = 0

    @property
    def open(self) -> bool:
        """Whether frames still go out."""
        return self.why_dropped is None

    @property
    def queued_bytes(self) -> int:
        """How much waits to be sent."""
        return self._queued

    def send(self, frame: wire.Frame) -> bool:
        """Queue `frame`; False when the connection is over, or is dropped now because its queue is full."""
        if not self.open:
            return False
        content = wire.encode(frame)
        if self._queued + len(content) > self._limits.queue_bytes:
            self.drop("reads too slowly")
            return False
        lane = self._lanes[frame.lane]
        for piece in wire.pieces(content, frame.lane):
            lane.append(piece)
            self._queued += len(piece)
        self._wake.set()
        return True

    async def receive(self) -> wire.Frame:
        """Return the next whole frame; pings are answered in here.

        Raises `ConnectionDropped` when there will be none, after dropping a peer that sends something else.
        """
        while True:
            content = await self._next_message()
            if content is None:
                raise ConnectionDropped(self.why_dropped or "closed")
            try:
                frame = self._assembler.take(wire.decode(content))
            except wire.WireError as error:
                self.malformed += 1
                self.drop(str(error))
                raise ConnectionDropped(str(error)) from None
            await self._spend(len(content) + FRAME_OVERHEAD)
            if frame is not None and not self._is_heartbeat(frame):
                return frame

    async def probe(self) -> bool:
        """Ask the other side for a sign of life; False when none comes in time."""
        self._probe_number += 1
        answered = self._probes[self._probe_number] = asyncio.Event()
        try:
            if not self.send(wire.Ping(self._probe_number)):
                return False
            async with asyncio.timeout(self._limits.probe):
                await answered.wait()
            return self.open
        except TimeoutError:
            return False
        finally:
            del self._probes[self._probe_number]

    async def keep_alive(self) -> None:
        """Ping an idle connection and drop a dead one: three intervals without a byte from the other side."""
        interval = self._limits.heartbeat
        while self.open:
            await asyncio.sleep(interval)
            silence = time.monotonic() - self.last_heard
            if silence > 3 * interval:
                self.drop("silent")
            elif silence >= interval / 2:
                self.send(wire.Ping(0))

    def drop(self, why: str) -> None:
        """End the connection at once, without waiting for what is queued; the first reason is kept."""
        if self.why_dropped is None:
            self.why_dropped = why
            self._wake.set()
            for lane in self._lanes:
                lane.clear()
            self._queued = 0
            self._shut_down_socket()

    async def finish(self, farewell: wire.Frame | None = None) -> None:
        """Release the connection and its task; `farewell` is sent first if the socket takes it at once."""
        if farewell is not None and self.open:
            with contextlib.suppress(Exception):
                async with asyncio.timeout(0.2):
                    await self._socket.send_bytes(wire.encode(farewell))
        self.drop("closed")
        self._pump.cancel()
        with contextlib.suppress(asyncio.CancelledError, Exception):
            await self._pump
        with contextlib.suppress(Exception):
            async with asyncio.timeout(1.0):
                await self._socket.close()

    async def _empty_lanes(self) -> None:
        urgent, bulk = self._lanes
        try:
            while self.open:
                lane = urgent or bulk
                if not lane:
                    self._wake.clear()
                    await self._wake.wait()
                    continue
                piece = lane.popleft()
                await self._socket.send_bytes(piece)
                self._queued -= len(piece)
                self.sent_bytes += len(piece)
        except Exception as error:  # whatever it was: a link that sends nothing is none
            self.drop(f"broken: {type(error).__name__}")

    async def _next_message(self) -> bytes | None:
        if not self.open:
            return None
        try:
            message = await self._socket.receive()
        except (OSError, RuntimeError, aiohttp.ClientError) as error:
            self.drop(f"broken: {type(error).__name__}")
            return None
        if message.type is not aiohttp.WSMsgType.BINARY:
            bad = message.type in (aiohttp.WSMsgType.ERROR, aiohttp.WSMsgType.TEXT)
            self.malformed += bad
            self.drop("malformed frame: not a message of this protocol" if bad else "closed by the peer")
            return None
        self.last_heard = time.monotonic()
        self.received_bytes += len(message.data)
        content: bytes = message.data
        return content

    async def _spend(self, cost: int) -> None:
        now = time.monotonic()
        rate = self._limits.bytes_per_second
        self._budget = min(float(self._limits.burst_bytes), self._budget + (now - self._budget_at) * rate) - cost
        self._budget_at = now
        self._frames += 1
        if self._budget < 0:
            await asyncio.sleep(-self._budget / rate)
        elif self._frames % 64 == 0:
            await asyncio.sleep(0)  # frames that are already here must not keep other tasks from running

    def _is_heartbeat(self, frame: wire.Frame) -> bool:
        if isinstance(frame, wire.Ping):
            self.send(wire.Pong(frame.number))
            return True
        if isinstance(frame, wire.Pong):
            waiting = self._probes.get(frame.number)
            if waiting is not None:
                waiting.set()
            return True
        return False

    def _shut_down_socket(self) -> None:
        # Neither asyncio's nor aiohttp's WebSocket objects offer an abort that does not wait for a full send
        # buffer; the socket itself does, through a second handle because both loops guard their own.
        with contextlib.suppress(OSError, ValueError, AttributeError):  # it may be gone by now
            info = self._socket.get_extra_info("socket")
            with socket.socket(fileno=os.dup(info.fileno())) as handle:
                handle.shutdown(socket.SHUT_RDWR)
