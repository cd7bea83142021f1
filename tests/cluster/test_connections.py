"""What a stranger's connections cost a real node."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import Counter
from collections.abc import Callable
from typing import Any

import aiohttp
import pytest

from cluster import Cluster

JSON = {"Content-Type": "application/json"}

SLOW = 100
STRANGER = "127.0.0.2"


async def test_slow_connections_end_and_signing_goes_on_meanwhile(
    cluster: Cluster, key: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Slowloris: headers that never end, at every node at once; their patience is ended here, never by the clock."""
    for node in cluster.nodes.values():
        monkeypatch.setattr(node._http, "_header_seconds", 3600.0)
    slow = [await connect(cluster, 1 + number % 4) for number in range(SLOW)]
    for _, writer in slow:
        writer.write(b"POST /v1/sign HTTP/1.1\r\nHost: x\r\nX-Slow: ")
    held = await held_by(cluster, names_of(slow))
    async with cluster.client() as client:
        await client.sign_message(key, "meanwhile")
    before = unfinished(cluster)
    for connection in held:
        connection.lose_patience()
    for reader, _ in slow:
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await reader.readexactly(1)
    assert unfinished(cluster) == before + SLOW
    shown = cluster.nodes[1].metrics.text().decode()
    assert 'keyquorum_events_total{event="unfinished_headers",part="http"}' in shown


async def test_one_address_cannot_take_every_connection(
    cluster: Cluster, key: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One connection more than its share takes the place of its own that waits longest; another address has room."""
    server, counts = cluster.nodes[1]._http, cluster.nodes[1]._http.counts
    monkeypatch.setattr(server, "_header_seconds", 3600.0)
    most = cluster.nodes[1]._config.limits.connections_per_address
    kept = [await connect(cluster, 1, STRANGER) for _ in range(most)]
    await held_by(cluster, names_of(kept))
    before = counts["connections_evicted"]
    kept.append(await connect(cluster, 1, STRANGER))
    with contextlib.suppress(ConnectionResetError):
        assert await kept[0][0].read() == b""
    assert counts["connections_evicted"] == before + 1
    async with cluster.client() as client:
        await client.sign_message(key, "meanwhile")
    assert len(await held_by(cluster, names_of(kept[1:]))) == most
    for _, writer in kept:
        writer.close()


async def test_idle_connections_of_strangers_and_what_they_send_do_not_stop_signing(cluster: Cluster, key: Any) -> None:
    """Four addresses fill every node with idle connections, a fifth sends junk made to be dear; others sign."""
    nodes = [1, 2, 3, 4]
    most = cluster.nodes[1]._config.limits.connections
    for party in nodes:
        for number in range(most + 40):
            _, writer = await connect(cluster, party, f"127.0.1.{1 + number % 4}")
            writer.write(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
    statuses: Counter[int] = Counter()
    junk = b"1," * 300_000
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0, local_addr=(STRANGER, 0))) as http:

        async def send(party: int) -> None:
            try:
                async with http.post(
                    cluster.urls[party - 1] + "/v1/sign",
                    data=b"[" + junk + b"1]",
                    headers=JSON,
                ) as response:
                    statuses[response.status] += 1
            except aiohttp.ClientError:
                statuses[0] += 1  # cut off while it was sending

        async with cluster.client() as client:
            for number in range(4):
                _, *_ = await asyncio.gather(
                    client.sign_message(key, f"meanwhile {number}"), *(send(party) for party in nodes for _ in range(2))
                )
    assert set(statuses) <= {0, 400, 413, 429}
    assert all(len(node._http.connections) <= most for node in cluster.nodes.values())


async def test_bytes_that_are_no_http_get_a_typed_answer(cluster: Cluster, key: Any) -> None:
    reader, writer = await connect(cluster, 2)
    writer.write(b"\x16\x03\x01 hello\r\n\r\n")
    answer = await asyncio.wait_for(reader.read(), 10)
    assert b" 400 " in answer.splitlines()[0]
    assert json.loads(answer.split(b"\r\n\r\n", 1)[1])["error"]["code"] == "bad_http"


async def until(done: Callable[[], bool]) -> None:
    """Let the event loop go on until `done()`; what it waits for takes no time but the loop's own."""
    for _ in range(100_000):
        if done():
            return
        await asyncio.sleep(0.001)
    pytest.fail("it never came to that")


async def held_by(cluster: Cluster, clients: set[Any]) -> list[Any]:
    """Return the nodes' ends of the connections whose other ends are `clients`, once every one of them is there."""

    def found() -> list[Any]:
        every = [each for node in cluster.nodes.values() for each in node._http.connections]
        return [each for each in every if each.transport and each.transport.get_extra_info("peername") in clients]

    await until(lambda: len(found()) == len(clients))
    return found()


def unfinished(cluster: Cluster) -> int:
    return sum(node._http.counts["unfinished_headers"] for node in cluster.nodes.values())


async def connect(
    cluster: Cluster, party: int, source: str = "127.0.0.1"
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", cluster.nodes[party].api_port, local_addr=(source, 0))


def names_of(connections: list[tuple[Any, asyncio.StreamWriter]]) -> set[Any]:
    return {writer.get_extra_info("sockname") for _, writer in connections}
