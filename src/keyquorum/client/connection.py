"""The ground under `AsyncClient`: finding the network, keeping its facts, asking a gateway, closing down.

Nodes, threshold, contracts and network key are read from the chain once. The registry is read again when a node is lost
(it may have moved), in the background and at most every few seconds, so that no request waits for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Coroutine, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import msgspec

from keyquorum.algebra.curve import Point
from keyquorum.chain.rpc import Rpc
from keyquorum.client.choice import NodeBook
from keyquorum.client.committee import Committee
from keyquorum.client.errors import ChainError, KeyquorumError, Misconfigured, Timeout, Unavailable
from keyquorum.client.fanout import RUNS_USED_UP, Fanout
from keyquorum.client.network import ChainView, Facts, Network
from keyquorum.client.results import Key, NetworkStatus, Node, token_from
from keyquorum.client.runs import Asked, Signers, fresh, spread
from keyquorum.client.transport import NodeError, Transport, as_public, encode

REFRESH_SECONDS = 5.0
STATUS_SECONDS = 2.0
HINT_SECONDS = 10.0
SIGNED_AT_MOST = 3
CHAIN_SECONDS = 10.0

KeyLike = Key | int | str
Shape = TypeVar("Shape")


class _Live(msgspec.Struct):
    party: int
    live: bool | None = None


class _Status(msgspec.Struct):
    nodes: list[_Live]


def token_of(key: KeyLike) -> int:
    """Return the token id of a key given as a `Key`, a number, or text."""
    return key.token_id if isinstance(key, Key) else token_from(key)


class Connection:
    """An open network; subclasses act on it."""

    def __init__(
        self, network: str | Path | Network, *, timeout: float = 30.0, user_agent: str = "keyquorum-client"
    ) -> None:
        self._source = network
        self._timeout = timeout
        self._transport = Transport(user_agent)
        self._network: Network | None = None
        self._chain: ChainView | None = None
        self._facts: Facts | None = None
        self._committee: Committee | None = None
        self._refreshed = 0.0
        self._public_keys: dict[int, Point] = {}
        self._background: set[asyncio.Task[None]] = set()
        self._hint: set[int] = set()
        self._hinted: float | None = None
        self._fanout = Fanout(self._current_committee, self._transport, NodeBook(), self._on_loss)

    # -- opening and closing ------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        try:
            await self.connect()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def connect(self) -> None:
        """Find the network and read it from the chain; does nothing the second time."""
        if self._facts is not None:
            return
        self._network = await Network.load(self._source, self._transport)
        self._chain = ChainView(self._network, Rpc(self._network.rpc, min(CHAIN_SECONDS, self._timeout)))
        self._facts = await self._chain.discover()
        self._committee = self._facts.committee
        if not self._committee.threshold:
            raise Misconfigured(
                "not_active", "the network has not been activated yet", "register its nodes and activate it"
            )
        self._spawn(self._fanout.look())

    async def close(self) -> None:
        """Close every connection."""
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        await self._fanout.close()
        await self._transport.close()
        if self._chain is not None:
            await self._chain.rpc.close()

    @property
    def facts(self) -> Facts:
        """What the chain says about the network."""
        if self._facts is None:
            raise Misconfigured(
                "misconfigured", "the client is not open", "use `async with AsyncClient(...)`, or call connect()"
            )
        return self._facts

    @property
    def chain(self) -> ChainView:
        """Reads of the network's contracts."""
        self.facts  # noqa: B018 - raises when the client is not open
        assert self._chain is not None  # noqa: S101 - set together with the facts
        return self._chain

    @property
    def has_gateway(self) -> bool:
        """Whether the network file names a gateway."""
        return self._network is not None and bool(self._network.gateway)

    def _current_committee(self) -> Committee:
        return self._committee or self.facts.committee

    def _on_loss(self) -> None:
        """A node is down. It may have moved: read the registry again, at most every few seconds."""
        if time.monotonic() - self._refreshed > REFRESH_SECONDS:
            self._refreshed = time.monotonic()
            self._spawn(self._refresh())

    async def _refresh(self) -> None:
        with contextlib.suppress(ChainError):
            self._committee = await self.chain.committee()

    async def _reread(self) -> None:
        """Read everything again: a network that was young when this client opened may have its network key by now."""
        self._facts = await self.chain.discover()
        self._committee = self._facts.committee

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    # -- looking ------------------------------------------------------------------------------------------------------

    async def network(self) -> NetworkStatus:
        """Return the network as the chain has it, and which nodes answer."""
        await (self._reread() if self.facts.network_key is None else self._refresh())
        committee = self._current_committee()
        alive = await asyncio.gather(
            *(self._transport.alive(node.url or "", "/readyz", STATUS_SECONDS) for node in committee.nodes)
        )
        nodes = tuple(Node(n.party, n.url, live) for n, live in zip(committee.nodes, alive, strict=True))
        self._fanout.saw({node.party: bool(node.live) for node in nodes})
        pool = int(await self.chain.ask(self.chain.contract("PubkeyRouter"), "poolSize"))
        return NetworkStatus(self.facts.to_json(), nodes, committee.threshold, pool)

    async def _public_key(self, token_id: int) -> Point:
        if token_id not in self._public_keys:
            self._public_keys[token_id] = await self.chain.public_key(token_id)
        return self._public_keys[token_id]

    async def _network_key(self) -> Point:
        """Return the network key; raise `Unavailable` while the nodes have not made it."""
        if self.facts.network_key is None:
            await self._reread()
        if self.facts.network_key is None:
            raise Unavailable(
                "not_ready",
                "the network has not made its network key yet",
                "wait a moment: all nodes must run once to make it",
                needed=len(self._current_committee().nodes),
                live=0,
            )
        return self.facts.network_key

    # -- through a gateway --------------------------------------------------------------------------------------------

    async def _run_at_gateway(self, path: str, asked: Asked, shape: type[Shape]) -> Shape:
        """Ask a gateway for what t nodes do together, with eight runs signed ahead; sign again when they are used up.

        Which nodes answer is what the gateway says, and only nodes of the registry are ever named: a lie costs time.
        """
        committee, used = self._current_committee(), set[tuple[int, Signers]]()
        hint, avoid = await self._away(), {party for party, url in committee.urls.items() if not url}
        for left in reversed(range(SIGNED_AT_MOST)):
            runs = fresh(spread(committee.urls, committee.threshold, asked.id, hint | avoid), used)
            try:
                return await self._ask_gateway(path, asked.sign(runs), shape)
            except Unavailable as error:
                if error.code != RUNS_USED_UP or not left:
                    raise
                used |= set(enumerate(runs))
                avoid |= set(error.parties)
        raise AssertionError("the last try returns or raises")

    async def _away(self) -> set[int]:
        """Return which nodes the gateway says do not answer; asked again in the background when that is old."""
        if self._hinted is None or time.monotonic() - self._hinted > HINT_SECONDS:
            first, self._hinted = self._hinted is None, time.monotonic()
            if first:
                await self._look()
            else:
                self._spawn(self._look())
        return self._hint

    async def _look(self) -> None:
        with contextlib.suppress(KeyquorumError, TimeoutError):
            async with asyncio.timeout(STATUS_SECONDS):
                status = await self._get_from_gateway("/v1/network", _Status)
            self._hint = {node.party for node in status.nodes if node.live is False}

    async def _get_from_gateway(self, path: str, shape: type[Shape]) -> Shape:
        try:
            return await self._transport.get(self._gateway_url() + path, shape)
        except NodeError as error:
            raise as_public(error) from None

    async def _ask_gateway(self, path: str, body: Mapping[str, Any], shape: type[Shape]) -> Shape:
        url = self._gateway_url() + path
        try:
            async with asyncio.timeout(self._timeout):
                return await self._transport.post(url, encode(body), shape)
        except NodeError as error:
            raise as_public(error) from None
        except TimeoutError:
            raise Timeout("timeout", f"the gateway did not answer within {self._timeout:g} s") from None

    def _gateway_url(self) -> str:
        gateway = self._network.gateway if self._network is not None else None
        if not gateway:
            raise Misconfigured("no_gateway", "the network file names no gateway", "use a network file with a gateway")
        return gateway.rstrip("/")
