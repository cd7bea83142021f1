"""A network that one node keeps from starting is started over without it, by nodes whose numbers change."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from cluster import ETHER, HOST, Cluster, free_ports
from keyquorum.chain.deploy import NodeEntry, deploy, start_epoch
from keyquorum.chain.devchain.accounts import ACCOUNTS
from keyquorum.chain.devchain.server import DevChainServer
from keyquorum.chain.rpc import Rpc, Sender
from keyquorum.cli.node_folder import NodeFolder
from keyquorum.node.app import EpochOver


async def test_the_others_start_over_without_a_node_that_never_comes(tmp_path: Path) -> None:
    async with DevChainServer() as chain, Rpc(chain.url) as rpc:
        folders = [NodeFolder(tmp_path / name) for name in ("absent", "first", "second")]
        ports = free_ports(6)
        urls = [f"http://{HOST}:{port}" for port in ports[:3]]
        for folder in folders:
            folder.create()
        entries = [
            NodeEntry(folder.address, url, HOST, port, folder.tls_digest)
            for folder, url, port in zip(folders, urls, ports[3:], strict=True)
        ]
        sender = Sender(rpc, ACCOUNTS[0][1])
        deployment = await deploy(sender, entries, fund_nodes=ETHER)
        for folder, api_port, mesh_port in zip(folders, ports[:3], ports[3:], strict=True):
            folder.write_settings(
                rpc=[chain.url], router=deployment.contracts["PubkeyRouter"], api_port=api_port, mesh_port=mesh_port,
                finality="latest", poll_seconds=0.1,
            )  # fmt: skip
        cluster = Cluster(rpc, deployment, folders, urls)
        try:
            old = await asyncio.gather(cluster.start_node(2), cluster.start_node(3))
            assert [node.me for node in old] == [2, 3]
            await cluster.send(0, "Staking", "startOver")
            await start_epoch(sender, deployment, entries[:0:-1])
            for node in old:
                assert node._watcher is not None
                with pytest.raises(EpochOver):
                    await asyncio.wait_for(node._watcher, 30)
                await node.stop()
            new = await asyncio.gather(cluster.start_node(2), cluster.start_node(3))
            assert [node.me for node in new] == [2, 1]
            await cluster.ready()
            router = deployment.bind(rpc, "PubkeyRouter")
            assert await router.read("networkKey")
            assert await deployment.bind(rpc, "Staking").read("epoch") == 2
        finally:
            await asyncio.gather(*(node.stop() for node in cluster.nodes.values()))
