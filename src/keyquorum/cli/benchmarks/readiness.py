"""What `/readyz` costs at a node that holds many keys: strangers and monitoring ask it, and nobody counts them."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import aiohttp

from keyquorum.cli.local_network import LocalNetwork

KEYS = 100_000
BATCH = 64
RECORD_BYTES = 500
ASKED, WARM_UP = 300, 20
# An address may ask fifty times a second.
PAUSE_SECONDS = 0.025
NODES, PARTY = 4, 1


async def measure(folder: Path, progress: Callable[[str], None]) -> float:
    """Start a network in `folder`, give one node the rows of `KEYS` more keys, and return /readyz's p99 in seconds.

    The rows are as many and as long as real ones; what stands in them is never decrypted.
    """
    async with LocalNetwork(folder, NODES) as network:
        await network.kill_node(PARTY)
        progress(f"a node with {KEYS} keys more")
        with closing(sqlite3.connect(folder / f"node-{PARTY}" / "data" / "store.sqlite")) as store, store:
            store.executemany("INSERT INTO key_shares VALUES (?, 1, 1, ?, 'active', ?, 0, ?)", _rows())
        await network.restart_node(PARTY)
        await network.wait_ready([PARTY])
        times = await _ask(network.nodes[PARTY] + "/readyz")
    return times[int(len(times) * 0.99)]


def _rows() -> Iterator[tuple[bytes, bytes, bytes, bytes]]:
    for number in range(KEYS):
        batch = (number // BATCH).to_bytes(32, "big")
        yield os.urandom(32), batch, os.urandom(65), bytes(RECORD_BYTES)


async def _ask(url: str) -> list[float]:
    times = []
    async with aiohttp.ClientSession() as http:
        for _ in range(WARM_UP + ASKED):
            began = time.perf_counter()
            async with http.get(url) as response:
                await response.read()
            times.append(time.perf_counter() - began)
            await asyncio.sleep(PAUSE_SECONDS)
            if response.status != 200:
                raise RuntimeError(f"/readyz answered {response.status}")
    return sorted(times[WARM_UP:])
