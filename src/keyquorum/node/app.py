"""Puts a node together and keeps it running; reads like a table of contents.

    store and identity -> chain view -> membership -> mesh -> links and pools -> runner -> signing, minting -> API

Everything that decides is in those parts. Here is only the order in which they start and stop, what happens on each
new block, and when the node calls itself ready.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import structlog
from aiohttp import web
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from keyquorum import __version__
from keyquorum.algebra.rng import SystemRng
from keyquorum.auth.method import methods
from keyquorum.chain.rpc import Rpc, Sender
from keyquorum.node import api, wire
from keyquorum.node.background import Background
from keyquorum.node.chain_view import MAX_AGE, ChainUnavailable, ChainView, Membership
from keyquorum.node.config import NodeConfig, PoolsSection, load
from keyquorum.node.connection import Limits
from keyquorum.node.identity import Identity
from keyquorum.node.keys import Keys
from keyquorum.node.links import Links
from keyquorum.node.mesh import Mesh, Peer
from keyquorum.node.metrics import Metrics
from keyquorum.node.minting import EXPECTED, Minting
from keyquorum.node.pools import RETIRE_SECONDS, Levels, Pools
from keyquorum.node.problem import UNAVAILABLE, ApiError
from keyquorum.node.runner import EARLY_SECONDS, Runner
from keyquorum.node.signing import Signing
from keyquorum.node.store import Store
from keyquorum.node.strikes import Strikes
from keyquorum.node.vault import read_key_source
from keyquorum.protocols.correlations import Inventory
from keyquorum.rounds.session import Envelope

log = structlog.get_logger("keyquorum.node")


class Node:
    """One node process; `start`, then `wait`, then `stop`."""

    def __init__(self, config: NodeConfig) -> None:
        self._config = config
        self.metrics = Metrics()
        self._rng = SystemRng()
        self._inventory = Inventory()
        self._view = ChainView([Rpc(url) for url in config.chain.rpc], config.chain.router, config.chain.finality)
        self._stopping: list[Callable[[], Awaitable[None]]] = []
        self._membership: Membership | None = None
        self._making: asyncio.Task[None] | None = None
        self.api_port = 0
        self.mesh_port = 0

    # -- start and stop --------------------------------------------

    async def start(self) -> None:
        """Start every part, in order; raises what a part raises when it cannot start."""
        config = self._config
        data = config.node.data_dir
        self._store = Store(data, read_key_source(config.keys))
        self._stopping.append(_sync(self._store.close))
        identity = Identity.load(self._store, data)
        self._keys = Keys(self._store)
        await self._open_chain()
        membership = await self._find_membership(identity)
        await self._start_mesh(identity, membership)
        self._build_services(identity)
        self._take_membership(membership)
        await self._start_api()
        self._watcher = asyncio.create_task(self._watch())
        self._stopping.append(self._stop_watching)
        log.info("started", party=self.me, network=self._view.network, version=__version__)

    async def stop(self) -> None:
        """Stop every part, in the reverse order."""
        for stop in reversed(self._stopping):
            with contextlib.suppress(Exception):
                await stop()
        self._stopping.clear()

    async def _stop_watching(self) -> None:
        tasks = [task for task in (self._watcher, self._making) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def wait(self) -> None:
        """Run until the process is asked to stop."""
        asked = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, asked.set)
        await asked.wait()

    async def _open_chain(self) -> None:
        self._stopping.append(self._view.close)
        while True:
            try:
                await self._view.open()
                return
            except ChainUnavailable as error:
                log.warning("waiting for the chain", reason=str(error)[:200])
                await asyncio.sleep(self._config.chain.poll_seconds)

    async def _find_membership(self, identity: Identity) -> Membership:
        """Wait until the registry is active and names this node's TLS key."""
        while True:
            membership = await self._view.membership()
            mine = [m.party for m in membership.members.values() if m.spki == identity.spki_digest]
            if membership.epoch and mine:
                self.me = mine[0]
                if self._config.node.party not in (None, self.me):
                    raise ValueError(f"the registry says party {self.me}, the settings say {self._config.node.party}")
                return membership
            log.info("waiting for the registry", active=bool(membership.epoch), registered=bool(mine))
            await asyncio.sleep(self._config.chain.poll_seconds)
            await self._view.refresh()

    async def _start_mesh(self, identity: Identity, membership: Membership) -> None:
        limits = self._config.limits
        mesh_limits = Limits(queue_bytes=limits.mesh_queue, bytes_per_second=limits.mesh_bytes_per_second,
                             handshakes=limits.mesh_handshakes)  # fmt: skip
        self._mesh = Mesh(
            self.me,
            self._view.network,
            identity,
            _peers(membership, self.me),
            limits=mesh_limits,
            epoch=membership.epoch,
        )
        background = Background()
        self._runner = Runner(self._send, self._mesh.is_up)
        self._runner.observe = self.metrics.observe_run
        self._mesh.on_down.append(self._runner.peer_down)
        self._links = Links(self._mesh, self._inventory, Strikes(self._store), background, self._rng)
        levels = _levels(self._config.pools, len(membership.members))
        longest = max(RETIRE_SECONDS, EARLY_SECONDS + 2 * limits.run_seconds)
        self._pools = Pools(self._mesh, self._links, levels, background, self._rng, longest)
        self._pools.pause_hint = lambda: self._runner.active > 0
        self._mesh.route(wire.Round, self._receive)
        self._mesh.route(wire.Notice, self._notice)
        self._stopping += [_sync(background.close), self._mesh.close, self._pools.close]
        self._pools.start()
        self.mesh_port = await self._mesh.start(self._config.mesh.host, self._config.mesh.port)

    def _build_services(self, identity: Identity) -> None:
        config = self._config
        self.signing = Signing(
            self.me, self._view, self._keys, self._runner, self._inventory, self._boot, self._rng,
            frozenset(config.auth.domains), config.limits.run_seconds, config.limits.runs,
        )  # fmt: skip
        self._minting = Minting(
            self.me, self._view, self._keys, self._runner, self.signing, self._notify,
            Sender(Rpc(config.chain.rpc[0]), identity.chain_key), self._rng, config.minting.batch, config.minting.low,
        )  # fmt: skip
        self._add_gauges()

    async def _start_api(self) -> None:
        config = self._config.api
        app = api.make_app(self, config.max_body, self._config.limits.requests_per_second)
        runner = web.AppRunner(app, access_log=None, handle_signals=False, keepalive_timeout=75, shutdown_timeout=2.0)
        await runner.setup()
        self._stopping.append(runner.cleanup)
        most = self._config.limits.connections
        handlers = runner.server
        assert handlers is not None, "setup makes it"  # noqa: S101
        server = await asyncio.get_running_loop().create_server(
            lambda: handlers() if len(handlers.connections) < most else _Refusal(),
            config.host,
            config.port,
            ssl=_api_tls(config.tls_cert, config.tls_key),
        )
        self._stopping.append(_sync(server.close))
        self.api_port = server.sockets[0].getsockname()[1]

    # -- what happens by itself --------------------------------------------

    async def _watch(self) -> None:
        """Look at the chain again and again: membership, and beside it whatever keys need."""
        while True:
            await _attempt(self._look())
            if self._making is None or self._making.done():
                # Beside it: a ceremony that waits for a silent party must not make the view of the chain old.
                self._making = asyncio.create_task(_attempt(self._minting.tick()))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._minting.progress.wait(), self._config.chain.poll_seconds)
            self._minting.progress.clear()

    async def _look(self) -> None:
        await self._view.refresh()
        self._take_membership(await self._view.membership())

    def _take_membership(self, membership: Membership) -> None:
        if self.me not in membership.members or not membership.epoch:
            raise ValueError("this node is not in the registry any more")
        if membership != self._membership:
            self._membership = self.signing.membership = membership
            self._mesh.set_peers(_peers(membership, self.me))

    # -- between the parts --------------------------------------------

    def _send(self, peer: int, envelope: Envelope) -> bool:
        frame = wire.Round(envelope.sid, envelope.round, envelope.to is None, envelope.payload, envelope.echo)
        return self._mesh.send(peer, frame)

    def _receive(self, peer: int, frame: wire.Round) -> None:
        to = None if frame.broadcast else self.me
        self._runner.receive(peer, Envelope(frame.sid, frame.round, peer, to, frame.payload, frame.echo))

    def _notify(self, peer: int, topic: str, reference: bytes, payload: bytes) -> bool:
        return self._mesh.send(peer, wire.Notice(topic, reference, payload))

    def _notice(self, peer: int, frame: wire.Notice) -> None:
        self._minting.on_notice(peer, frame.topic, frame.reference, frame.payload)

    def _boot(self, party: int) -> bytes:
        return self._mesh.boot_id if party == self.me else self._mesh.boot_ids.get(party, b"")

    # -- what the API asks --------------------------------------------

    async def sign(self, body: bytes) -> dict[str, Any]:
        """Answer `POST /v1/sign`."""
        return await self.signing.sign(body, self._config.api.max_body)

    async def open_session(self, body: bytes) -> dict[str, Any]:
        """Answer `POST /v1/sessions`."""
        return await self.signing.open_session(body, self._config.api.max_body)

    async def network(self) -> dict[str, Any]:
        """Answer `GET /v1/network`."""
        membership = self._membership
        if membership is None:
            raise ApiError(UNAVAILABLE, "not_ready", "the network has not started yet", "wait a moment")
        key = await self._view.network_key()
        nodes = [
            {"party": j, "url": member.url, "live": j == self.me or self._mesh.is_up(j)}
            for j, member in sorted(membership.members.items())
        ]
        return {
            "network": self._view.network,
            "chain_id": self._view.chain_id,
            "contracts": dict(self._view.addresses),
            "epoch": membership.epoch,
            "threshold": membership.threshold,
            "party": self.me,
            "nodes": nodes,
            "network_key": "0x" + key.to_bytes().hex() if key else None,
            "methods": sorted(methods()),
            "ready": not self.not_ready_because(),
            "version": __version__,
        }

    async def key(self, key_id: bytes) -> dict[str, Any]:
        """Answer `GET /v1/keys/{id}`; raises `ApiError` 404 for a key that neither chain nor node knows."""
        seen = await self._view.authorisation(int.from_bytes(key_id, "big"), 1, bytes(20), True)
        if not seen.public_key:
            raise ApiError(404, "key_unknown", "the chain knows no such key", "check the token id")
        epoch = self._membership.epoch if self._membership else 0
        return api.describe_key(key_id, seen.public_key, seen.owner, self._keys.state(key_id), epoch)

    def not_ready_because(self) -> list[str]:
        """Return why the node cannot serve now; empty when it can."""
        reasons = []
        membership = self._membership
        if membership is None:
            return ["the registry is not active"]
        if self._view.age > MAX_AGE:
            reasons.append("no fresh view of the chain")
        if self._store.failure is not None:
            reasons.append("the store has failed")
        reasons += self._too_few_peers(membership)
        if not self._keys.count():
            reasons.append("no key is active yet")
        elif self._all_shares_quarantined():
            reasons.append("every active key share is in quarantine: see `keyquorum node check`")
        return reasons

    def _too_few_peers(self, membership: Membership) -> list[str]:
        needed = membership.threshold - 1
        # A connection is not enough: a pair that is still in its setup, or in quarantine, cannot sign.
        count = sum(min(pools) > 0 for pools in self._pools.available().values())
        if count >= needed:
            return []
        reasons = [f"{count} peers are linked and have correlations, {needed} needed"]
        if quarantined := [j for j in self._links.strikes.quarantined() if j in membership.members]:
            reasons.append(f"parties in quarantine here: {quarantined}: see `keyquorum node pardon`")
        if refusing := sorted(j for j, state in self._links.states().items() if state == "refused"):
            reasons.append(f"parties that have this node in quarantine: {refusing}")
        return reasons

    def _all_shares_quarantined(self) -> bool:
        quarantined = self._store.quarantined
        return bool(quarantined) and all(
            (share.token_id, share.epoch) in quarantined for share in self._store.list_shares("active")
        )

    def _add_gauges(self) -> None:
        gauge = self.metrics.gauge
        gauge("peers_up", "linked peers", lambda: len(self._mesh.up))
        gauge("links_ready", "peers with whom this node can make correlations", lambda: len(self._links.all_ready()))
        gauge("peers_quarantined", "peers in quarantine here", lambda: len(self._links.strikes.quarantined()))
        gauge("shares_quarantined", "stored shares found corrupt", lambda: len(self._store.quarantined))
        gauge("runs_active", "protocol runs under way", lambda: self._runner.active)
        gauge("envelopes_dropped", "envelopes that belonged to no run", lambda: self._runner.dropped)
        gauge("chain_age_seconds", "age of the view of the chain", lambda: min(self._view.age, 1e9))
        gauge("keys_active", "active key shares", self._keys.count)
        gauge("correlations", "unspent correlations, the scarcer direction of each peer, in all", self._correlations)
        parts = {"mesh": self._mesh.counts, "links": self._links.counts, "pools": self._pools.counts}
        self.metrics.registry.register(_Events(parts))

    def _correlations(self) -> float:
        return sum(map(min, self._pools.available().values()))


class _Events(Collector):
    """What the parts count by themselves, as one metric; the labels are names in the code, never a peer's choice."""

    def __init__(self, parts: dict[str, Counter[str]]) -> None:
        self._parts = parts

    def collect(self) -> Iterator[CounterMetricFamily]:
        family = CounterMetricFamily("keyquorum_events", "dropped frames, failed setups...", labels=["part", "event"])
        for part, counts in self._parts.items():
            for event, count in counts.items():
                family.add_metric([part, event], count)
        yield family


async def _attempt(work: Coroutine[Any, Any, None]) -> None:
    """Do one round of what a node does for months: a fault in it must not be the end of the loop."""
    try:
        await work
    except EXPECTED as error:
        log.warning("not this time", reason=str(error)[:200])
    except Exception as error:
        log.error("unexpected", type=type(error).__name__)


class _Refusal(asyncio.Protocol):
    """What a connection beyond the limit gets: its end, before a byte of it is read."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Close it."""
        transport.close()


def _peers(membership: Membership, me: int) -> dict[int, Peer]:
    return {j: Peer(m.host, m.port, m.spki) for j, m in membership.members.items() if j != me}


def _levels(pools: PoolsSection, n: int) -> Levels:
    return Levels(pools.low, pools.high, pools.batch) if pools.high else Levels.for_nodes(n, pools.batch)


def _api_tls(certificate: Path | None, key: Path | None) -> Any:
    if certificate is None or key is None:
        return None
    import ssl

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(certificate, key)
    return context


def _sync(close: Callable[[], None]) -> Callable[[], Awaitable[None]]:
    async def closing() -> None:
        close()

    return closing


def configure_logging() -> None:
    """Log one JSON object a line to stderr."""
    import logging

    logging.basicConfig(
        level=logging.WARNING, stream=sys.stderr, format='{"level": "%(levelname)s", "event": "%(message)s"}'
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


async def serve(path: Path) -> None:
    """Run the node whose settings are in `path` until it is asked to stop."""
    node = Node(load(path))
    try:
        await node.start()
        await node.wait()
    finally:
        await node.stop()


def run(path: Path) -> None:
    """Run a node in this process; returns when it was asked to stop."""
    import uvloop

    configure_logging()
    # Correlations are made in a thread, and the event loop waits for the interpreter lock up to this long whenever it
    # wakes up: with the default of 5 ms its 99th percentile was 0.4 to 1.5 ms meanwhile, with 1 ms it is 0.2 to 0.4 ms.
    sys.setswitchinterval(0.001)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(path))
