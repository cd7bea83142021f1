"""The states of a connection: what ends each of them, when its client does nothing more and when there is no room.

There is one state without a deadline, a handler's work, and it is the handler's to end it.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import pytest
import uvloop
from aiohttp import web

from keyquorum.serving import http_server
from keyquorum.serving.connections import BODY, HEADERS, IDLE, QUEUED, UNREAD
from keyquorum.serving.http_server import HttpServer
from serving.test_http_server import GET, answer, certificate

BIG = 16 << 20
LARGE = GET.replace(b"/ok", b"/large")
EXPECTING = b"POST /ok HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n"
Client = tuple[asyncio.StreamReader, asyncio.StreamWriter]
# What the client sends, at once and after the first part was read here; the state that leads to; what ends it.
TABLE: dict[str, tuple[list[bytes], int | None, str]] = {
    "nothing sent": ([], HEADERS, "HEADER"),
    "half the headers": ([GET[:10]], HEADERS, "HEADER"),
    "half the headers of the second": ([GET, GET[:10]], HEADERS, "HEADER"),
    "answered": ([GET], IDLE, "IDLE"),
    "bad bytes, answered": ([LARGE, b"\x00\r\n\r\n"], UNREAD, "WRITE"),
    "unread": ([LARGE], UNREAD, "WRITE"),
    "unread, the last": ([LARGE.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")], UNREAD, "WRITE"),
    "unread, more asked": ([LARGE, GET], UNREAD, "WRITE"),
    "unread, many asked at once and more": ([LARGE * 9, GET, GET], UNREAD, "WRITE"),
    "unread, more begun": ([LARGE, GET[:10]], UNREAD, "WRITE"),
    "unread, a body to come": ([LARGE, EXPECTING], UNREAD, "WRITE"),
    "a body awaited": ([GET.replace(b"/ok", b"/body")], BODY, "the shell's"),
    "a handler works": ([GET.replace(b"/ok", b"/work")], None, "the handler's"),
}
DEADLINES = {"HEADER", "IDLE", "WRITE"}
PATIENCE = 3600.0
SECONDS = {
    HEADERS: PATIENCE, IDLE: http_server.IDLE_SECONDS, UNREAD: http_server.WRITE_SECONDS,
    QUEUED: http_server.WRITE_SECONDS,
}  # fmt: skip
LOOPS: list[Any] = [asyncio.new_event_loop, uvloop.new_event_loop]
each_way = pytest.mark.parametrize("new_loop", LOOPS, ids=["asyncio", "uvloop"])
each_wire = pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])


class Site:
    """A server with an answer nobody can swallow unread, and handlers that work until `go`."""

    def __init__(self, folder: Path | None) -> None:
        self.go = asyncio.Event()
        self.received = 0
        self.deadlines: dict[Any, tuple[int, float, Callable[[], None]]] = {}
        app = web.Application()
        app.add_routes([
            web.get("/ok", self._okay), web.post("/ok", self._okay), web.get("/large", self._large),
            web.get("/work", self._work), web.get("/body", self._await_body),
        ])  # fmt: skip
        self.server = HttpServer(app, most=4, per_address=3, header_seconds=PATIENCE)
        self._files = certificate(folder) if folder else None
        self.tls = folder is not None

    async def __aenter__(self) -> Site:
        self.port = await self.server.start("127.0.0.1", 0, *(self._files or ()))
        return self

    async def __aexit__(self, *_: object) -> None:
        self.go.set()
        await self.server.close()

    async def _okay(self, _: web.Request) -> web.Response:
        return web.json_response({})

    async def _large(self, _: web.Request) -> web.Response:
        return web.Response(body=bytes(BIG))

    async def _work(self, _: web.Request) -> web.Response:
        await self.go.wait()
        return web.json_response({})

    async def _await_body(self, request: web.Request) -> web.Response:
        connection: Any = request.protocol
        connection.reading(True)
        await self.go.wait()
        return web.json_response({})

    async def connect(self, source: str = "127.0.0.1") -> Client:
        line = socket.socket()
        line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        line.bind((source, 0))
        line.setblocking(False)
        await asyncio.get_running_loop().sock_connect(line, ("127.0.0.1", self.port))
        trust = ssl.create_default_context(cafile=str(self._files[0])) if self._files else None
        return await asyncio.open_connection(
            sock=line, ssl=trust, server_hostname="localhost" if trust else None, limit=1024
        )

    async def bring(self, sent: list[bytes], state: int | None, source: str = "127.0.0.1") -> tuple[Client, Any]:
        """Return a connection that was brought into `state`, both its ends."""
        before = set(self.server.connections)
        client = await self.connect(source)
        await until(lambda: any(each.transport for each in self.server.connections if each not in before))  # type: ignore[attr-defined]
        [held] = set(self.server.connections) - before
        for part in sent:
            seen = self.received
            client[1].write(part)
            await until(lambda seen=seen: self.received > seen)  # type: ignore[misc]
            if part.startswith(LARGE[:10]) and not self.tls:
                await until(lambda: held.writing_paused)  # type: ignore[attr-defined]
            elif part == GET and state in (IDLE, HEADERS):
                await answer(client[0])
        await until(lambda: (held.waiting[0] if held.waiting else None) in self.those_of(state))
        return client, held

    def those_of(self, state: int | None) -> tuple[int | None, ...]:
        """TLS takes one answer whole, and hands it on as its client reads: until the next it looks read."""
        return (UNREAD, IDLE, HEADERS, QUEUED) if self.tls and state == UNREAD else (state,)


async def until(done: Callable[[], bool]) -> None:
    for _ in range(2_000):
        if done():
            return
        await asyncio.sleep(0.001)
    pytest.fail("it never came to that")


def run(
    new_loop: Any, folder: Path | None, monkeypatch: pytest.MonkeyPatch, test: Callable[[Site], Awaitable[None]]
) -> None:
    async def whole() -> None:
        async with Site(folder) as site:
            original = http_server._Connection.data_received

            def received(self: Any, data: bytes) -> None:
                original(self, data)
                site.received += bool(data)

            def noted(self: Any, what: int, seconds: float, then: Callable[[], None]) -> None:
                site.deadlines[self] = what, seconds, then
                wait_for(self, what, seconds, then)

            wait_for = http_server._Connection._wait_for
            monkeypatch.setattr(http_server._Connection, "_wait_for", noted)
            monkeypatch.setattr(http_server._Connection, "data_received", received)
            await test(site)

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(whole())


@each_way
@each_wire
@pytest.mark.parametrize("name", TABLE)
def test_each_state_but_a_handlers_work_has_a_deadline(
    name: str, tls: bool, new_loop: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent, state, deadline = TABLE[name]

    async def check(site: Site) -> None:
        _, held = await site.bring(sent, state)
        if deadline in DEADLINES:
            what, seconds, then = site.deadlines[held]
            assert held._deadline is not None
            assert what in site.those_of(state)
            assert seconds == SECONDS[what]
            then()  # its time has come
            await until(lambda: held not in site.server.connections)
        else:
            assert held._deadline is None
            site.go.set()
            await until(lambda: held.waiting is not None and held.waiting[0] == IDLE)

    run(new_loop, tmp_path if tls else None, monkeypatch, check)


@each_way
@each_wire
@pytest.mark.parametrize("name", TABLE)
def test_each_state_but_a_handlers_work_makes_room(
    name: str, tls: bool, new_loop: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server full of it, from two addresses: a stranger is answered exactly when it is no work of a handler."""
    sent, state, _ = TABLE[name]

    async def check(site: Site) -> None:
        lines = [await site.bring(sent, state, f"127.0.0.{2 + number % 2}") for number in range(4)]
        stranger: AbstractContextManager[Any] = nullcontext() if state is not None else pytest.raises(OSError)
        with stranger:
            reader, writer = await site.connect("127.0.0.9")
            writer.write(GET)
            try:
                assert (await answer(reader))[0] == 200
            except asyncio.IncompleteReadError as error:
                raise ConnectionError from error
        site.go.set()
        assert len(lines) == 4

    run(new_loop, tmp_path if tls else None, monkeypatch, check)


@each_way
@pytest.mark.parametrize("sent", [[], [GET]], ids=["the first", "the second"])
def test_a_request_that_waits_for_its_turn_is_ended_last_but_can_be(
    sent: list[bytes], new_loop: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is all there, and only this server has not begun: no patience for headers ends it, nor does it go first."""

    async def check(site: Site) -> None:
        _, held = await site.bring(sent, IDLE if sent else HEADERS)
        held.data_received(GET)
        assert held.waiting[0] == QUEUED > max(IDLE, UNREAD, HEADERS, BODY)
        what, seconds, then = site.deadlines[held]
        assert (what, seconds) == (QUEUED, http_server.WRITE_SECONDS)
        then()
        await until(lambda: held not in site.server.connections)
        assert site.server.counts == {"unread_answers": 1}

    run(new_loop, None, monkeypatch, check)


def test_the_table_has_every_state() -> None:
    assert {state for _, state, _ in TABLE.values()} | {QUEUED} == {None, IDLE, UNREAD, HEADERS, BODY, QUEUED}
