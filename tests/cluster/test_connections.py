"""What a stranger's connections cost a real node."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from cluster import Cluster

SLOW = 100


async def test_slow_connections_end_and_signing_goes_on_meanwhile(
    cluster: Cluster, key: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Slowloris: headers that never end, at every node at once."""
    for node in cluster.nodes.values():
        monkeypatch.setattr(node._http, "_header_seconds", 0.5)
    slow = [await connect(cluster, 1 + number % 4) for number in range(SLOW)]
    for _, writer in slow:
        writer.write(b"POST /v1/sign HTTP/1.1\r\nHost: x\r\nX-Slow: ")
    async with cluster.client() as client:
        await client.sign_message(key, "meanwhile")
    for reader, _ in slow:
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await asyncio.wait_for(reader.readexactly(1), 10)
    assert sum(node._http.counts["unfinished_headers"] for node in cluster.nodes.values()) >= SLOW
    shown = cluster.nodes[1].metrics.text().decode()
    assert 'keyquorum_events_total{event="unfinished_headers",part="http"}' in shown


async def test_one_address_cannot_take_every_connection(cluster: Cluster, key: Any) -> None:
    most = cluster.nodes[1]._config.limits.connections_per_address
    kept = [await connect(cluster, 1) for _ in range(most)]
    reader, _ = await connect(cluster, 1)
    assert await asyncio.wait_for(reader.read(), 10) == b""
    for _, writer in kept:
        writer.close()
    async with asyncio.timeout(10):
        while len(cluster.nodes[1]._http.connections) > most // 2:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    async with cluster.client() as client:
        await client.sign_message(key, "afterwards")


async def test_bytes_that_are_no_http_get_a_typed_answer(cluster: Cluster, key: Any) -> None:
    reader, writer = await connect(cluster, 2)
    writer.write(b"\x16\x03\x01 hello\r\n\r\n")
    answer = await asyncio.wait_for(reader.read(), 10)
    assert b" 400 " in answer.splitlines()[0]
    assert json.loads(answer.split(b"\r\n\r\n", 1)[1])["error"]["code"] == "bad_http"


async def connect(cluster: Cluster, party: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", cluster.nodes[party].api_port)
