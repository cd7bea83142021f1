"""What whole nodes say of themselves: a wrong clock, an old copy of the store, a lost peer."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Callable
from typing import Any

import aiohttp
from structlog.testing import capture_logs

from cluster import Cluster
from keyquorum.client.results import Key
from keyquorum.node.app import Node
from keyquorum.node.chain.floor import PREFIX
from keyquorum.node.settings.config import load
from keyquorum.node.storage.store import Store
from keyquorum.node.storage.vault import read_key_source


async def until(condition: Callable[[], Any], seconds: float = 60.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def readyz(cluster: Cluster, party: int) -> tuple[int, dict[str, Any]]:
    async with aiohttp.ClientSession() as http, http.get(cluster.urls[party - 1] + "/readyz") as response:
        return response.status, await response.json()


async def test_a_node_whose_clock_is_wrong_says_so_and_the_others_do_not_doubt_theirs(cluster: Cluster) -> None:
    await cluster.ready()
    node = cluster.nodes[4]
    for error, word in ((600, "ahead of"), (-600, "behind")):
        node.clocks._now = lambda error=error: time.time() + error
        for party in (1, 2, 3):
            cluster.nodes[party]._tell_time(4)
            node._tell_time(party)
        await until(node.clocks.wrong_because)
        status, found = await readyz(cluster, 4)
        assert (status, found["ready"], found["serves"]) == (503, False, False)
        assert f"600 s {word}" in found["reasons"][0]
        assert [cluster.nodes[party].clocks.wrong_because() for party in (1, 2, 3)] == ["", "", ""]
    node.clocks._now = time.time
    await cluster.ready()


async def test_an_old_copy_of_a_store_says_how_many_batches_it_misses(cluster: Cluster, key: Key) -> None:
    await cluster.ready()
    data = cluster.folders[3].path / "data"
    await cluster.stop_node(4)
    shutil.copytree(data, data.with_name("old"))
    await cluster.start_node(4)
    await cluster.ready()
    before = cluster.nodes[4]._keys.batches()
    await cluster.nodes[1]._minting.ceremonies.lead("pool", 2)
    await until(lambda: all(node._keys.batches() > before for node in cluster.nodes.values()))
    await cluster.stop_node(4)
    data.rename(data.with_name("new"))
    data.with_name("old").rename(data)

    node = await cluster.start_node(4)
    await until(lambda: node.status.readiness()["serves"] and node._minting.shop.missing is not None)
    status, found = await readyz(cluster, 4)
    assert (status, found["ready"]) == (503, False)
    (reason,) = found["reasons"]
    assert reason.startswith(f"1 of {before + 1} batches of keys on the chain are missing here")
    await until(lambda: not cluster.nodes[1].not_ready_because())
    async with cluster.client() as client:
        await client.sign_message(key, "by the others, or with a key that is in the old copy too")

    await cluster.stop_node(4)
    shutil.rmtree(data)
    data.with_name("new").rename(data)
    await cluster.start_node(4)
    await cluster.ready()


async def test_a_lost_peer_is_lost_redundancy_and_no_reason_of_its_own(cluster: Cluster) -> None:
    await cluster.ready()
    assert (await readyz(cluster, 1))[1]["degraded"] == []
    await cluster.stop_node(4)
    await until(lambda: cluster.nodes[1].status.degraded_because())
    status, found = await readyz(cluster, 1)
    assert (status, found["ready"]) == (200, True)
    assert found["degraded"] == ["parties without a link or correlations: [4]"]
    assert (await cluster.nodes[1].network())["degraded"] == found["degraded"]
    await cluster.start_node(4)
    await cluster.ready()


async def test_a_restarted_node_does_not_act_on_an_older_chain(cluster: Cluster) -> None:
    await cluster.ready()
    seen = cluster.nodes[1]._store.info("newest-block/")
    assert seen, "what every node sees is written down"
    await cluster.stop_node(4)
    node = Node(load(cluster.folders[3].path / "node.toml"))
    await note(cluster, 10**6)
    with capture_logs() as lines:
        starting = asyncio.create_task(node.start())
        await until(lambda: [line for line in lines if "has seen block 1000000" in line.get("reason", "")])
    starting.cancel()
    await asyncio.gather(starting, return_exceptions=True)
    await node.stop()
    await note(cluster, 0)
    await cluster.start_node(4)
    await cluster.ready()


async def note(cluster: Cluster, block: int) -> None:
    settings = load(cluster.folders[3].path / "node.toml")
    store = Store(settings.node.data_dir, read_key_source(settings.keys))
    await store.put_info(PREFIX + settings.chain.router.lower(), str(block).encode())
    store.close()
