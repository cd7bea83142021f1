"""Puts a node together and keeps it running; reads like a table of contents.

    store and identity -> chain view -> membership -> mesh -> links and pools -> runner -> signing, minting -> API

Everything that decides is in those parts. Here is only the order in which they start and stop, and what happens on each
new block.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import structlog

from keyquorum import __version__
from keyquorum.algebra.rng import SystemRng
from keyquorum.chain.rpc import Rpc, Sender
from keyquorum.node import api
from keyquorum.node.chain import clocks
from keyquorum.node.chain.chain_view import ChainUnavailable, ChainView, Membership
from keyquorum.node.chain.clocks import Clocks
from keyquorum.node.chain.floor import Floor
from keyquorum.node.chain.roster import Roster
from keyquorum.node.keymaking.identity_secret import IdentitySecret
from keyquorum.node.keymaking.minting import Minting
from keyquorum.node.mesh import wire
from keyquorum.node.mesh.connection import Limits
from keyquorum.node.mesh.identity import Identity
from keyquorum.node.mesh.mesh import Mesh, Peer
from keyquorum.node.metrics import Metrics
from keyquorum.node.pairs.background import Background
from keyquorum.node.pairs.links import Links
from keyquorum.node.pairs.pools import RETIRE_SECONDS, Levels, Pools
from keyquorum.node.repeated import Repeated
from keyquorum.node.runs.places import Places
from keyquorum.node.runs.runner import EARLY_SECONDS, Runner
from keyquorum.node.services.access import Access
from keyquorum.node.services.audit import GRANTED, Audit, Entry
from keyquorum.node.services.commitments import Commitments
from keyquorum.node.services.providers import Providers
from keyquorum.node.services.quotas import Quotas
from keyquorum.node.services.sessions import Sessions, Verification
from keyquorum.node.services.signing import Signing
from keyquorum.node.settings.auth_settings import origins
from keyquorum.node.settings.config import NodeConfig, PoolsSection, load
from keyquorum.node.status import Status
from keyquorum.node.storage.keys import Keys
from keyquorum.node.storage.login_store import LoginStore
from keyquorum.node.storage.store import Store
from keyquorum.node.storage.strikes import Strikes
from keyquorum.node.storage.vault import read_key_source
from keyquorum.protocols.correlations import Inventory
from keyquorum.rounds.session import Envelope
from keyquorum.serving.forever import PartEnded, forever, until_asked
from keyquorum.serving.http_server import HttpServer
from keyquorum.serving.log_lines import configure_logging
from keyquorum.serving.shell import Limits as ShellLimits

log = structlog.get_logger("keyquorum.node")


class EpochOver(RuntimeError):
    """The owner of the registry has started over (spec/contracts.md section 1): who is who has changed."""


class Node:
    """One node process; `start`, then `wait`, then `stop`."""

    def __init__(self, config: NodeConfig) -> None:
        self._config = config
        self.metrics = Metrics()
        self._rng = SystemRng()
        self._inventory = Inventory()
        chain = config.chain
        self._view = ChainView([Rpc(url) for url in chain.rpc], chain.router, chain.finality, chain.agree)
        self._stopping: list[Callable[[], Awaitable[None]]] = []
        self._making: asyncio.Task[None] | None = None
        self.clocks = Clocks()
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
        self._floor = Floor(self._store, config.chain.router)
        self._view.floor = self._floor.seen
        await self._open_chain()
        self._roster = await self._find_roster(identity)
        await self._start_mesh(identity)
        self._build_services(identity)
        await self._start_api()
        self._watcher = forever("the watch of the chain", self._watch())
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
        """Run until the process is asked to stop; raises `PartEnded` when a part of it ends that must not."""
        asked = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, asked.set)
        await until_asked(asked)

    async def _open_chain(self) -> None:
        self._stopping.append(self._view.close)
        while True:
            try:
                await self._view.open()
                return
            except ChainUnavailable as error:
                log.warning("waiting for the chain", reason=str(error)[:200])
                await asyncio.sleep(self._config.chain.poll_seconds)

    @property
    def me(self) -> int:
        """This node's PartyId."""
        return self._roster.me

    async def _find_roster(self, identity: Identity) -> Roster:
        """Wait until the registry is active and names this node's TLS key."""
        while True:
            membership = await self._membership_now()
            mine = [m.party for m in membership.members.values() if m.spki == identity.spki_digest]
            if membership.epoch and mine:
                if self._config.node.party not in (None, mine[0]):
                    raise ValueError(f"the registry says party {mine[0]}, the settings say {self._config.node.party}")
                return Roster(mine[0], membership)
            head = await self._view.head()
            log.info(
                "waiting for the registry", active=bool(membership.epoch), registered=bool(mine),
                newest_block=head.newest, counted_block=head.finalised,
            )  # fmt: skip
            await asyncio.sleep(self._config.chain.poll_seconds)

    async def _membership_now(self) -> Membership:
        """Return the registry's content; an empty one, said in the log, while the chain cannot be seen."""
        try:
            await self._view.refresh()
            return await self._view.membership()
        except ChainUnavailable as error:
            log.warning("waiting for the chain", reason=str(error)[:200])
            return Membership(0, 0, {})

    async def _start_mesh(self, identity: Identity) -> None:
        limits, membership = self._config.limits, self._roster.current
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
        self._runner = Runner(self._send, self._mesh.is_up, self.metrics.observe_run)
        self._mesh.on_down.append(self._runner.peer_down)
        self._links = Links(self._mesh, self._inventory, Strikes(self._store), background, self._rng)
        levels = _levels(self._config.pools, len(membership.members))
        longest = max(RETIRE_SECONDS, EARLY_SECONDS + 2 * limits.run_seconds)
        self._pools = Pools(
            self._mesh, self._links, levels, background, self._rng, longest, lambda: self._runner.joined > 0
        )
        self._mesh.route(wire.Round, self._receive)
        self._mesh.route(wire.Notice, self._notice)
        self._stopping += [_sync(background.close), self._mesh.close, self._pools.close]
        self._pools.start()
        self.mesh_port = await self._mesh.start(self._config.mesh.host, self._config.mesh.port)

    def _build_services(self, identity: Identity) -> None:
        config = self._config
        access = Access(self._view)
        places = Places(config.limits.runs)
        quotas = Quotas(config.quotas, self._pools.levels.high, lambda: places.free)
        self.audit = Audit(config.node.data_dir, config.audit)
        self.signing = Signing(
            self._roster, self._view, self._keys, self._runner, self._inventory, self._boot, self._rng,
            access, quotas, config.limits.run_seconds, places,
        )  # fmt: skip
        self.identity_secret = IdentitySecret(
            self._roster, self._keys, self._notify, self._mesh.is_up, self._rng, blame=self.metrics.observe_blame
        )
        self._mesh.on_up += [self.identity_secret.link_up, self._tell_time]
        self._build_logins(identity, access, quotas)
        self._minting = Minting(
            self._roster, self._view, self._keys, self._runner, self.signing, self._notify,
            Sender(Rpc(config.chain.rpc[0]), identity.chain_key), self._rng, config.minting.batch, config.minting.low,
            lambda what, summary: self.audit.record(Entry(what, summary=summary), GRANTED),
        )  # fmt: skip
        self.status = Status(
            self._roster, self._view, self._store, self._keys, self._mesh, self._links, self._pools, self._runner,
            self.identity_secret, self.clocks, self._minting.shop,
        )  # fmt: skip
        self._http_counts: Counter[str] = Counter()
        more = {"quotas": quotas.counts, "audit": self.audit.counts, "http": self._http_counts}
        self.status.add_gauges(self.metrics, more)

    def _build_logins(self, identity: Identity, access: Access, quotas: Quotas) -> None:
        auth, store = self._config.auth, LoginStore(self._config.node.data_dir)
        providers = Providers(origins(auth.methods))
        self._stopping += [_sync(store.close), providers.close]
        verification = Verification(frozenset(auth.domains), auth.methods, providers, self.identity_secret.conceal)
        self.sessions = Sessions(self._view, self._keys, access, self.signing, store, quotas, verification)
        self.commitments = Commitments(
            self._roster, self._view, store, identity.chain_key, auth.methods, self._config.quotas.gateways
        )

    async def _start_api(self) -> None:
        config, limits = self._config.api, self._config.limits
        self.audit.start()
        self._stopping.append(self.audit.close)
        shell_limits = ShellLimits(limits.requests_per_second, limits.bytes_per_second, limits.unverified)
        app = api.make_app(self, config.max_body, shell_limits, self.audit, self._config.quotas.gateways)
        self._http = HttpServer(
            app, limits.connections, limits.connections_per_address, self._config.quotas.gateways,
            counts=self._http_counts,
        )  # fmt: skip
        self._stopping.append(self._http.close)
        self.api_port = await self._http.start(config.host, config.port, config.tls_cert, config.tls_key)

    # -- what happens by itself --------------------------------------------

    async def _watch(self) -> None:
        """Look at the chain again and again: membership, and beside it whatever keys need."""
        rounds = Repeated()
        while True:
            for peer in self._mesh.up if self.clocks.due() else ():
                self._tell_time(peer)
            await rounds.attempt(self._look())
            if self._roster.is_over:
                raise EpochOver("the registry has started another epoch: this node has to start in it")
            if self._making is None or self._making.done():
                # Beside it: a ceremony that waits for a silent party must not make the view of the chain old.
                self._making = asyncio.create_task(rounds.attempt(self._minting.tick()))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._minting.progress.wait(), self._config.chain.poll_seconds)
            self._minting.progress.clear()

    async def _look(self) -> None:
        head = await self._view.refresh()
        self.clocks.see_block(head.newest_time)
        if self._roster.exchange(await self._view.membership()):
            self._mesh.set_peers(_peers(self._roster.current, self.me))
        self._floor.see(self._view.floor)  # only now: of a block that is none, nothing could be read
        self.identity_secret.tick(await self._view.network_key())

    # -- between the parts --------------------------------------------

    def _send(self, peer: int, envelope: Envelope) -> bool:
        frame = wire.Round(envelope.sid, envelope.round, envelope.to is None, envelope.payload, envelope.echo)
        return self._mesh.send(peer, frame)

    def _receive(self, peer: int, frame: wire.Round) -> None:
        to = None if frame.broadcast else self.me
        self._runner.receive(peer, Envelope(frame.sid, frame.round, peer, to, frame.payload, frame.echo))

    def _notify(self, peer: int, topic: str, reference: bytes, payload: bytes) -> bool:
        return self._mesh.send(peer, wire.Notice(topic, reference, payload))

    def _tell_time(self, peer: int) -> None:
        self._notify(peer, clocks.TOPIC, b"", self.clocks.tell())

    def _notice(self, peer: int, frame: wire.Notice) -> None:
        if frame.topic == clocks.TOPIC:
            self.clocks.hear(peer, frame.payload)
            return
        notice = (peer, frame.topic, frame.reference, frame.payload)
        if not self.identity_secret.on_notice(*notice):
            self._minting.on_notice(*notice)

    def _boot(self, party: int) -> bytes:
        return self._mesh.boot_id if party == self.me else self._mesh.boot_ids.get(party, b"")

    # -- what the API asks --------------------------------------------

    async def sign(self, body: bytes) -> dict[str, Any]:
        """Answer `POST /v1/sign`."""
        return await self.signing.sign(body, self._config.api.max_body)

    async def open_session(self, body: bytes) -> dict[str, Any]:
        """Answer `POST /v1/sessions`."""
        return await self.sessions.open(body, self._config.api.max_body)

    async def list_sessions(self, body: bytes) -> dict[str, Any]:
        """Answer `POST /v1/sessions/list`."""
        return await self.sessions.listing(body, self._config.api.max_body)

    async def revoke(self, body: bytes) -> dict[str, Any]:
        """Answer `POST /v1/revocations`."""
        return await self.sessions.revoke(body, self._config.api.max_body)

    async def commit(self, body: bytes) -> dict[str, Any]:
        """Answer `POST /v1/commitments`."""
        return await self.commitments.commit(body, self._config.api.max_body)

    async def network(self) -> dict[str, Any]:
        """Answer `GET /v1/network`."""
        return await self.status.network()

    async def key(self, key_id: bytes) -> dict[str, Any]:
        """Answer `GET /v1/keys/{id}`; raises `Refusal` 404 for a key that neither chain nor node knows."""
        return await self.status.key(key_id)

    def readiness(self) -> dict[str, Any]:
        """Answer `GET /readyz`."""
        return self.status.readiness()

    def not_ready_because(self) -> list[str]:
        """Return why the node cannot sign with every key it should; empty when it can."""
        return self.status.not_ready_because()


# A reserved name that no resolver knows: such a peer can still dial this node, and be told by its key.
NOWHERE = "unreachable.invalid"


def _peers(membership: Membership, me: int) -> dict[int, Peer]:
    return {j: Peer(m.host or NOWHERE, m.port, m.spki) for j, m in membership.members.items() if j != me}


def _levels(pools: PoolsSection, n: int) -> Levels:
    return Levels(pools.low, pools.high, pools.batch) if pools.high else Levels.for_nodes(n, pools.batch)


def _sync(close: Callable[[], None]) -> Callable[[], Awaitable[None]]:
    async def closing() -> None:
        close()

    return closing


async def serve(path: Path) -> None:
    """Run the node whose settings are in `path` until it is asked to stop."""
    node = Node(load(path))
    try:
        await node.start()
        await node.wait()
    except PartEnded as ended:
        log.critical("a part of the node has ended", part=ended.part, reason=ended.reason)
        raise
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
