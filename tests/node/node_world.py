"""Nodes on loopback for the tests of `keyquorum.node`: a mesh, with links and pools where a test wants them.

`Impostor` is the other side played by hand: a TLS client or WebSocket with any identity, that sends what it likes.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from held_ports import free_port
from keyquorum.algebra.rng import SystemRng
from keyquorum.node.mesh import wire
from keyquorum.node.mesh.connection import Limits
from keyquorum.node.mesh.identity import Identity, _make_tls_key
from keyquorum.node.mesh.mesh import Mesh, Peer
from keyquorum.node.mesh.tls import TrustStore
from keyquorum.node.pairs.background import Background
from keyquorum.node.pairs.links import Links
from keyquorum.node.pairs.pools import Levels, Pools
from keyquorum.node.storage.store import Store
from keyquorum.node.storage.strikes import Patience, Strikes
from keyquorum.node.storage.vault import KeySource
from keyquorum.protocols.correlations import Inventory

NETWORK = "eip155:31337:0x0000000000000000000000000000000000000001"
SOURCE = KeySource("key-file", b"k" * 32)
QUICK = Limits(handshake=2.0, heartbeat=5.0, probe=0.5)


def make_identity() -> Identity:
    return Identity(*_make_tls_key(), b"\x01" * 32)


async def until(condition: Callable[[], bool], seconds: float = 90.0) -> None:
    """Wait for `condition`; the time limit only turns a hang into a failure."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110  any condition, none of which is an event
            await asyncio.sleep(0.005)


@dataclass
class Node:
    """One node of a world."""

    party: int
    identity: Identity
    mesh: Mesh
    port: int
    events: list[tuple[str, int]] = field(default_factory=list)
    store: Store | None = None
    background: Background | None = None
    links: Links | None = None
    pools: Pools | None = None
    inventory: Inventory = field(default_factory=Inventory)

    async def close(self) -> None:
        if self.pools is not None:
            await self.pools.close()
        await self.mesh.close()
        if self.background is not None:
            self.background.close()
        if self.store is not None:
            self.store.close()


class World:
    """`n` identities with addresses, and the nodes of them that were started."""

    def __init__(self, n: int, folder: Path | None = None, limits: Limits = QUICK, patience: Patience | None = None):
        self.identities = {party: make_identity() for party in range(1, n + 1)}
        self.ports = {party: free_port() for party in self.identities}
        self.nodes: dict[int, Node] = {}
        self.limits = limits
        self.folder = folder
        self.patience = patience or Patience(pause=0.0)
        self.levels = Levels(2, 4, 4)

    def peers(self, but: int) -> dict[int, Peer]:
        return {
            party: Peer("127.0.0.1", self.ports[party], identity.spki_digest)
            for party, identity in self.identities.items()
            if party != but
        }

    def build(self, party: int, peers: dict[int, Peer] | None = None, network: str = NETWORK) -> Node:
        peers = self.peers(party) if peers is None else peers
        mesh = Mesh(party, network, self.identities[party], peers, limits=self.limits)
        node = self.nodes[party] = Node(party, self.identities[party], mesh, self.ports[party])
        mesh.on_up.append(lambda peer: node.events.append(("up", peer)))
        mesh.on_down.append(lambda peer: node.events.append(("down", peer)))
        if self.folder is not None:
            place = self.folder / f"node-{party}"
            node.store = Store(place, SOURCE) if place.exists() else Store.create(place, SOURCE)
            node.background = Background()
            strikes = Strikes(node.store, self.patience)
            node.links = Links(mesh, node.inventory, strikes, node.background, SystemRng())
            node.pools = Pools(mesh, node.links, self.levels, node.background, SystemRng())
        return node

    async def start(self, *parties: int) -> None:
        for party in parties or tuple(self.identities):
            node = self.nodes.get(party) or self.build(party)
            await node.mesh.start("127.0.0.1", self.ports[party])

    async def all_up(self) -> None:
        await until(lambda: all(len(node.mesh.up) == len(self.nodes) - 1 for node in self.nodes.values()))

    async def all_ready(self) -> None:
        count = len(self.nodes) - 1
        await until(lambda: all(len(node.links.all_ready()) == count for node in self.nodes.values() if node.links))

    async def stop(self, party: int) -> None:
        await self.nodes.pop(party).close()

    async def close(self) -> None:
        for party in list(self.nodes):
            await self.stop(party)


@asynccontextmanager
async def world(n: int, *parties: int, **settings: Any) -> AsyncIterator[World]:
    """A world whose nodes `parties` (all of them by default, none for 0) are started, and stopped at the end."""
    made = World(n, **settings)
    try:
        if parties != (0,):
            await made.start(*parties)
        yield made
    finally:
        await made.close()


@dataclass
class Impostor:
    """A WebSocket to a node's listener, driven by hand."""

    socket: aiohttp.ClientWebSocketResponse
    session: aiohttp.ClientSession

    async def send(self, frame: wire.Frame) -> None:
        await self.socket.send_bytes(wire.encode(frame))

    async def receive(self) -> wire.Frame | None:
        """Return the next frame, or None when the connection is over."""
        message = await self.socket.receive(10)
        return wire.decode(message.data) if message.type is aiohttp.WSMsgType.BINARY else None

    async def close(self) -> None:
        await self.session.close()


def client_context(identity: Identity | None, newest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version, context.maximum_version = ssl.TLSVersion.TLSv1_2, newest
    if identity is not None:
        identity.load_into(context)
    return context


async def knock(port: int, context: ssl.SSLContext | None) -> bytes:
    """Open a connection to a listener and ask for a WebSocket; return what comes back until it is closed."""
    request = (
        b"GET /mesh HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    )
    try:
        async with asyncio.timeout(10):
            reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
            writer.write(request)
            try:
                return await reader.read(4096)
            finally:
                writer.transport.abort()
    except OSError:
        return b""


async def impersonate(port: int, identity: Identity) -> Impostor:
    """Connect to a listener with a registered identity; raises `aiohttp.ClientError` when refused."""
    session = aiohttp.ClientSession()
    url = f"https://127.0.0.1:{port}/mesh"
    for _ in range(200):  # the listener learns our certificate soon after it has started
        try:
            found = await session.ws_connect(url, ssl=client_context(identity), autoping=False, max_msg_size=0)
            return Impostor(found, session)
        except aiohttp.ServerDisconnectedError:
            await asyncio.sleep(0.02)
        except aiohttp.ClientOSError:
            await asyncio.sleep(0.02)
    await session.close()
    raise AssertionError("never admitted")


async def present(world_: World, *parties: int) -> list[asyncio.Server]:
    """Show the certificates of `parties` at their addresses, and answer nothing: enough to be learnt."""
    servers = []
    for party in parties:
        context = TrustStore(world_.identities[party]).server
        context.verify_mode = ssl.CERT_NONE
        servers.append(await asyncio.start_server(_hang_up, "127.0.0.1", world_.ports[party], ssl=context))
    return servers


async def _hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


def hello(sender: int, recipient: int, **changes: Any) -> wire.Hello:
    values = {
        "version": wire.VERSION, "network": NETWORK, "sender": sender, "recipient": recipient,
        "boot": os.urandom(16), "connection": 1, "epoch": 0,
    }  # fmt: skip
    return wire.Hello(**{**values, **changes})
