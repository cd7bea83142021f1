"""Whole nodes in one event loop: real chain, contracts, mesh, protocols and API, so that a test can reach inside one.

A test makes one node cheat by replacing a piece of it, and looks at what the others and the client make of that.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from eth_account import Account
from eth_account.signers.local import LocalAccount

from allowances import Allowances
from held_ports import free_ports
from keyquorum.chain.contracts import interface
from keyquorum.chain.deploy import Deployment, NodeEntry, deploy
from keyquorum.chain.devchain.accounts import ACCOUNTS
from keyquorum.chain.devchain.server import DevChainServer
from keyquorum.chain.rpc import Rpc, Sender
from keyquorum.cli.node_folder import NodeFolder
from keyquorum.client.async_client import AsyncClient
from keyquorum.client.network import Network
from keyquorum.node.app import Node
from keyquorum.node.settings.config import load

HOST = "127.0.0.1"
ETHER = 10**18
STOCKED = 32
LOOKS = 3


@dataclass
class Cluster:
    """`nodes` by party; `user` owns what tests mint."""

    rpc: Rpc
    deployment: Deployment
    folders: list[NodeFolder]
    urls: list[str]
    nodes: dict[int, Node] = field(default_factory=dict)
    user: LocalAccount = field(default_factory=lambda: Account.from_key(ACCOUNTS[1][1]))
    allowances: Allowances = field(default_factory=Allowances)

    @property
    def network(self) -> Network:
        return Network(self.deployment.network, self.rpc.url)

    @property
    def threshold(self) -> int:
        return 2 * len(self.folders) // 3 + 1

    def client(self, **options: Any) -> AsyncClient:
        return AsyncClient(self.network, **{"account": self.user, "timeout": 20.0} | options)

    async def start_node(self, party: int) -> Node:
        node = Node(load(self.folders[party - 1].path / "node.toml"))
        await node.start()
        self.nodes[party] = node
        return node

    async def stop_node(self, party: int) -> None:
        await self.nodes.pop(party).stop()

    async def ready(self, seconds: float = 60.0) -> None:
        async with asyncio.timeout(seconds):
            while any(node.not_ready_because() for node in self.nodes.values()):  # noqa: ASYNC110
                await asyncio.sleep(0.05)

    async def pool_filled(self, size: int = 1) -> None:
        """Wait until the chain has keys to mint and every node knows them as active (spoilt batches stay pending)."""
        router = self.deployment.bind(self.rpc, "PubkeyRouter")
        async with asyncio.timeout(60):
            while await router.read("poolSize") < size or self.unregistered():  # noqa: ASYNC110
                await asyncio.sleep(0.05)

    def unregistered(self) -> bool:
        """Whether a node waits for the chain to show a batch that it confirmed."""
        return any(node._minting.shop.unregistered("pool") for node in self.nodes.values())

    async def send(self, account: int, contract: str, function: str, *arguments: Any) -> dict[str, Any]:
        """Send a transaction of one of the development chain's accounts."""
        sender = Sender(self.rpc, ACCOUNTS[account][1])
        address = self.deployment.contracts[contract]
        return await sender.send(address, interface(contract).encode(function, *arguments))

    def stock(self) -> dict[tuple[int, int], tuple[int, int]]:
        """How many correlations each node holds with each peer."""
        return {(i, j): node._inventory.available(j) for i, node in self.nodes.items() for j in self.nodes if i != j}

    def answering(self) -> bool:
        """Whether a node is in the middle of a request that makes a run."""
        tables = (service._attempts for node in self.nodes.values() for service in (node.signing, node.sessions))
        return any(entry.running for table in tables for entry in table._entries.values())

    async def settled(self, seconds: float = 120.0) -> None:
        """Wait until what was asked before is over: a client leaves when it has enough, and its further runs go on."""
        async with asyncio.timeout(seconds):
            looks = 0
            while looks < LOOKS:
                looks = 0 if self.answering() else looks + 1
                await asyncio.sleep(0.02)

    async def restocked(self, least: int = STOCKED, seconds: float = 120.0) -> None:
        """Wait until the nodes can sign so often: their loop may have stood still while other tests ran in their place.

        Then every connection has timed out, and with it all that a pair held. What an address may spend is there again,
        too: all tests come from one.
        """
        self.allowances.give_back(tuple(map(id, self.nodes.values())))
        try:
            async with asyncio.timeout(seconds):
                while any(min(pair) < least for pair in self.stock().values()):  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
                await self.ready(seconds)
        except TimeoutError:
            states = {party: (node._links.states(), node.not_ready_because()) for party, node in self.nodes.items()}
            raise AssertionError(f"not restocked within {seconds:g} s: {self.stock()} {states}") from None

    async def quiet(self) -> None:
        """Wait until nobody makes correlations any more, so that `stock` shows only what runs spend."""
        before = None
        async with asyncio.timeout(60):
            while (now := self.stock()) != before or any(
                work.asking or work.extending for node in self.nodes.values() for work in node._pools._work.values()
            ):
                before = now
                await asyncio.sleep(0.2)

    async def post(self, party: int, path: str, body: Any) -> tuple[int, Any]:
        """Ask one node directly."""
        async with aiohttp.ClientSession() as http, http.post(self.urls[party - 1] + path, json=body) as response:
            return response.status, await response.json()


@asynccontextmanager
async def make_cluster(folder: Path, n: int = 4, finality: str | int = "latest") -> AsyncIterator[Cluster]:
    async with DevChainServer() as chain, Rpc(chain.url) as rpc:
        folders = [NodeFolder(folder / f"node-{party}") for party in range(1, n + 1)]
        ports = free_ports(2 * n)
        urls = [f"http://{HOST}:{port}" for port in ports[:n]]
        for each in folders:
            each.create()
        entries = [
            NodeEntry(each.address, url, HOST, port, each.tls_digest)
            for each, url, port in zip(folders, urls, ports[n:], strict=True)
        ]
        deployment = await deploy(Sender(rpc, ACCOUNTS[0][1]), entries, fund_nodes=ETHER)
        for each, api_port, mesh_port in zip(folders, ports[:n], ports[n:], strict=True):
            each.write_settings(
                rpc=[chain.url], router=deployment.contracts["PubkeyRouter"], api_port=api_port, mesh_port=mesh_port,
                finality=finality, poll_seconds=0.1,
            )  # fmt: skip
        cluster = Cluster(rpc, deployment, folders, urls)
        try:
            await asyncio.gather(*(cluster.start_node(party) for party in range(1, n + 1)))
            await cluster.ready()
            yield cluster
        finally:
            await asyncio.gather(*(node.stop() for node in cluster.nodes.values()))


@contextlib.contextmanager
def replaced(thing: Any, name: str, value: Any) -> Iterator[None]:
    """Replace an attribute for a while."""
    before = getattr(thing, name)
    setattr(thing, name, value)
    try:
        yield
    finally:
        setattr(thing, name, before)
