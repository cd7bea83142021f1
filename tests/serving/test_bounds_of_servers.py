"""What every server grants a stranger without being told: the bounds that are in the code, not in any settings."""

from __future__ import annotations

import asyncio
import os
import ssl
from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest
from aiohttp import web

import virtual_time
from keyquorum.codes import app as codes
from keyquorum.gateway import app as gateway
from keyquorum.node import api as node
from keyquorum.refusal import Refusal
from keyquorum.serving import buckets, connections, http_server, log_lines, places, shell
from keyquorum.serving.addresses import Networks
from keyquorum.serving.connections import Connections, waiting_for
from keyquorum.serving.http_server import HttpServer
from keyquorum.serving.log_lines import LogLines
from keyquorum.serving.places import Places
from keyquorum.serving.shell import Asked, Limits, Route, Shell, Watch

GET = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"


def shell_of(*routes: Route, **limits: Any) -> Shell:
    return Shell("a server", routes, lambda _: None, Limits(10_000, **limits), see="", watch=Watch())


async def until(done: Any) -> None:
    for _ in range(2_000):
        if done():
            return
        await asyncio.sleep(0.001)
    pytest.fail("it never came to that")


# ---- places ---------------------------------------------------------------------------------------------------------


def test_places_are_shared_out_as_the_constants_say() -> None:
    for most in (4, 8, 64):
        made = Places(most)
        assert (made.each, made.reserve) == (most // places.SHARE, most // places.RESERVE)


def test_who_finds_no_place_waits_so_long_and_is_told_then() -> None:
    async def whole() -> float:
        made = Places(4)
        async with made.place("a"), made.place("a"):
            with pytest.raises(Refusal) as refused:
                async with made.place("a"):
                    pass
            assert refused.value.code == "busy" and not made.waiting
            return asyncio.get_running_loop().time()

    assert virtual_time.run(whole()) == places.SECONDS


async def test_nobody_is_worked_for_who_hung_up_while_he_waited_for_a_place() -> None:
    go, began = asyncio.Event(), 0

    async def work(_: Asked) -> dict[str, Any]:
        nonlocal began
        began += 1
        await go.wait()
        return {}

    made = shell_of(Route("GET", "/a", work), unverified=4)
    server = HttpServer(made.app(), 100, 100)
    port = await server.start("127.0.0.1", 0)
    lines = []
    for number in range(4):
        lines.append(await asyncio.open_connection("127.0.0.1", port))
        lines[-1][1].write(GET)
        await until(lambda number=number: began + made.places.waiting == number + 1)
    assert (began, made.places.waiting) == (2, 2)
    lines[2][1].close()
    await until(lambda: len(server.connections) == 3)
    go.set()
    for number in (0, 1, 3):
        assert (await lines[number][0].readline()).split()[1] == b"200"
        lines[number][1].close()
    assert began == 3
    await server.close()


# ---- connections ----------------------------------------------------------------------------------------------------


class Line:
    """A connection that is idle."""

    def __init__(self) -> None:
        self.waiting: tuple[int, int] | None = waiting_for(connections.IDLE)

    def end(self) -> None:
        """Nothing to end."""


@pytest.mark.parametrize("per_address", [1, connections.FEWEST // 2, connections.FEWEST])
def test_an_address_begins_so_many_connections_at_once_and_again_after_a_while(per_address: int) -> None:
    now = [0.0]
    made = Connections(10_000, per_address, Networks(()), Counter(), lambda: now[0])

    def begun() -> int:
        count = 0
        while count < 10_000:
            line = Line()
            if not made.admit(line, "203.0.113.1"):
                return count
            made.forget(line)
            count += 1
        return count

    at_once = max(connections.FEWEST, 2 * per_address)
    assert begun() == at_once
    now[0] += connections.SECONDS / 2
    assert begun() == at_once // 2
    now[0] += connections.SECONDS
    assert begun() == at_once


@pytest.mark.parametrize("tls", [False, True])
async def test_a_connection_is_begun_with_the_bounds_of_the_code(tls: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []

    async def accept(*_: Any, **options: Any) -> Any:
        asked.append(options)
        raise OSError

    server = HttpServer(web.Application(), 1, 1)
    assert server._header_seconds == http_server.HEADER_SECONDS
    await server._runner.setup()
    connection = server._connection()
    assert connection.keepalive_timeout == http_server.KEEPALIVE_SECONDS < http_server.IDLE_SECONDS
    assert connection._lingering_time == http_server.LINGERING_SECONDS
    accepted: Any = SimpleNamespace(setblocking=lambda _: None, setsockopt=lambda *_: None, close=lambda: None)
    monkeypatch.setattr(asyncio.get_running_loop(), "connect_accepted_socket", accept, raising=False)
    await connection._begin(accepted, ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER) if tls else None)
    assert asked[0]["ssl_handshake_timeout"] == (http_server.TLS_SECONDS if tls else None)
    assert server.counts == {"handshakes_failed": 1} and not len(server.connections)
    await server._runner.cleanup()


def test_so_many_wait_to_be_accepted() -> None:
    said: list[Any] = []
    listening: Any = SimpleNamespace(
        family=None, setsockopt=lambda *_: None, bind=said.append, listen=said.append, setblocking=said.append
    )
    http_server._listen(listening, ("127.0.0.1",), 80)
    assert said == [("127.0.0.1", 80), http_server.BACKLOG, False]


# ---- requests -------------------------------------------------------------------------------------------------------


async def nothing(_: Asked) -> dict[str, Any]:
    return {}


def test_what_is_looked_up_on_the_chain_comes_back_over_so_many_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(buckets.Meter.__init__, "__defaults__", (lambda: now[0],))
    made = shell_of(route := Route("GET", "/a/{id}", nothing, reads_chain=True))

    def asked() -> int:
        for count in range(10_000):
            try:
                made._count("203.0.113.1", route, "GET")
            except Refusal:
                return count
        return -1

    assert asked() == shell.LOOK_UPS
    now[0] += shell.LOOK_UP_SECONDS / 2
    assert asked() == shell.LOOK_UPS // 2
    now[0] += shell.LOOK_UP_SECONDS
    assert asked() == shell.LOOK_UPS


@pytest.mark.parametrize("cost", [node.METRICS_COST, gateway.METRICS_COST, codes.METRICS_COST])
def test_the_metrics_are_asked_for_so_often(cost: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(buckets.Meter.__init__, "__defaults__", (lambda: 0.0,))
    made = shell_of(metrics := Route("GET", "/metrics", nothing, probe=True, cost=cost))
    for _ in range(int(shell.PROBES_PER_SECOND / cost)):
        made._count("203.0.113.1", metrics, "GET")
    with pytest.raises(Refusal, match="too many requests"):
        made._count("203.0.113.1", metrics, "GET")
    made._count("203.0.113.2", metrics, "GET")


@pytest.mark.parametrize("cost", [node.LIST_COST, gateway.LIST_COST])
def test_a_list_of_sessions_counts_as_so_many_requests(cost: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(buckets.Meter.__init__, "__defaults__", (lambda: 0.0,))
    made = shell_of(lists := Route("POST", "/v1/sessions/list", nothing, max_body=1, cost=cost))
    for _ in range(int(10_000 / cost)):
        made._count("203.0.113.1", lists, "POST")
    with pytest.raises(Refusal, match="too many requests"):
        made._count("203.0.113.1", lists, "POST")


def test_so_many_lines_of_a_log_wait_that_nobody_reads() -> None:
    reader, writer = os.pipe()
    stream = LogLines(writer)
    assert stream._lines.maxsize == log_lines.WAITING
    stream.close()
    os.close(reader)
    os.close(writer)
