"""A node whose log goes to a full disk loses its chain for a while, and comes back by itself."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from keyquorum.cli.local_network import LocalNetwork

FULL = Path("/dev/full")
PARTY = 4
SECONDS = 60.0


async def state(url: str) -> dict[str, Any]:
    try:
        async with aiohttp.ClientSession() as http, http.get(url + "/readyz") as response:
            found: dict[str, Any] = await response.json()
            return found
    except (aiohttp.ClientError, OSError):
        return {"ready": False, "reasons": ["does not answer"]}


@pytest.mark.skipif(not FULL.exists(), reason="no /dev/full on this system")
async def test_a_full_log_disk_stops_no_loop_of_a_node(tmp_path: Path) -> None:
    async with LocalNetwork(tmp_path, 4) as network:
        await network.kill_node(PARTY)
        running, chain, url = network._services[f"node-{PARTY}"], network._services["chain"], network.nodes[PARTY]
        running.service = replace(running.service, log=FULL)
        await network.restart_node(PARTY)
        await network.wait_ready([PARTY])
        process = network.pid(f"node-{PARTY}")

        await chain.kill()
        async with asyncio.timeout(SECONDS):
            while "no fresh view of the chain" not in (await state(url))["reasons"]:  # noqa: ASYNC110
                await asyncio.sleep(0.2)
        await chain.start()
        async with asyncio.timeout(SECONDS):
            while not (await state(url))["ready"]:  # noqa: ASYNC110
                await asyncio.sleep(0.2)
        assert network.pid(f"node-{PARTY}") == process, "it was the same process all along"
        async with network.client() as client:
            key = (await client.mint()).key
            async with asyncio.timeout(SECONDS):  # activated by the loop that the full disk did not end
                while (await _key(url, f"0x{key.token_id:064x}")) != "active":  # noqa: ASYNC110
                    await asyncio.sleep(0.2)


async def _key(url: str, name: str) -> str:
    async with aiohttp.ClientSession() as http, http.get(f"{url}/v1/keys/{name}") as response:
        return str((await response.json()).get("state"))
