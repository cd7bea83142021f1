"""What making keys and certifying them have in common: the node's parts, its place among the nodes, its own tasks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Protocol

import structlog

from keyquorum.algebra.curve import Point
from keyquorum.algebra.rng import Rng
from keyquorum.chain.contracts import interface
from keyquorum.chain.rpc import RpcError, RpcUnreachable
from keyquorum.node.chain.chain_view import ChainUnavailable, ChainView, Membership
from keyquorum.node.chain.roster import Roster
from keyquorum.node.keymaking.minting_notices import Gatherings, Notify
from keyquorum.node.runs.runner import Runner
from keyquorum.node.services.signing import Signing
from keyquorum.node.storage.database import StoreFailed
from keyquorum.node.storage.keys import Keys, id_of
from keyquorum.node.storage.store import ShareCorrupt
from keyquorum.rounds.errors import Abort
from keyquorum.rounds.party import Party
from keyquorum.rounds.session import session_id

log = structlog.get_logger("keyquorum.minting")

NETWORK, POOL = "network", "pool"
# So many pending batches are looked at on a block; more than an honest network leaves behind in a day.
LOOK_AT = 64
# What may go wrong without anybody's bug: peers, the chain, transactions that lost a race, the disk.
EXPECTED = (
    Abort, ValueError, LookupError, ChainUnavailable, RpcError, RpcUnreachable, TimeoutError, StoreFailed, ShareCorrupt,
)  # fmt: skip


Record = Callable[[str, str], None]


class Transactions(Protocol):
    """What sends this node's own transactions (`chain.rpc.Sender`)."""

    async def send(self, to: str | None, data: bytes = b"", value: int = 0, gas: int | None = None) -> dict[str, Any]:
        """Send and wait for the receipt."""
        ...


@dataclass
class Workshop:
    """The parts of a node that keys are made with.

    `notify(peer, topic, reference, payload)` sends a notice, `record(what, summary)` is told what was signed.
    `progress` is set whenever there is something new to act on, so that nobody waits for the next poll.
    `registered` batches of keys are on the chain (the network key is one), `missing` of them are not here; None before
    the first look.
    """

    roster: Roster
    view: ChainView
    keys: Keys
    runner: Runner
    signing: Signing
    notify: Notify
    sender: Transactions
    rng: Rng
    record: Record = lambda what, summary: None
    progress: asyncio.Event = field(default_factory=asyncio.Event)
    tasks: set[asyncio.Task[None]] = field(default_factory=set)
    registered: int = 0
    missing: int | None = None

    def __post_init__(self) -> None:
        self.gatherings = Gatherings(self.notify)
        self._turn = 0

    @property
    def me(self) -> int:
        """This node's PartyId."""
        return self.roster.me

    def all_up(self, membership: Membership) -> bool:
        """Return whether every other node is linked to this one."""
        return all(self.runner.is_up(j) for j in membership.parties if j != self.me)

    async def is_registered(self, public_key: bytes, newest: bool = False) -> bool:
        """Return whether the chain shows this key as the network's."""
        key = int.from_bytes(id_of(public_key), "big")
        return bool(await self.view.read("PubkeyRouter", "isRegistered", key, newest=newest))

    def unregistered(self, purpose: str) -> dict[bytes, list[bytes]]:
        """Return the newest batches for `purpose` that this epoch confirmed and that are pending, the oldest first."""
        return self.keys.waiting(purpose, LOOK_AT, self.roster.current.epoch)

    async def activate_registered(self, network_key: Point | None) -> None:
        """Turn active what the chain shows as registered, and count what is registered and not here.

        Looks at the newest pending batches, and at a few of the others in turn: what was left behind in years must not
        be asked about at every block.
        """
        # Counted first: what is registered meanwhile is active here before it is missed.
        registered = int(await self.view.read("PubkeyRouter", "nextBatch")) - 1 + (network_key is not None)
        if network_key is not None and self.keys.state(own := id_of(network_key.to_bytes())) == "pending":
            await self.keys.activate([own])
            self.progress.set()
        later = self._turn + LOOK_AT
        self._turn = later if later < self.keys.pending_count() else LOOK_AT
        batches = self.keys.pending_batches(LOOK_AT) | self.keys.pending_batches(LOOK_AT, self._turn)
        for public_keys in batches.values():
            if public_keys and await self.is_registered(public_keys[0]):
                await self.keys.activate([id_of(public_key) for public_key in public_keys])
        self.registered, self.missing = registered, max(0, registered - self.keys.batches())

    async def transact(self, function: str, *arguments: Any, gas: int | None = None) -> None:
        """Call the PubkeyRouter with this node's own account and wait for the receipt."""
        router = self.view.addresses["PubkeyRouter"]
        await self.sender.send(router, interface("PubkeyRouter").encode(function, *arguments), gas=gas)
        await self.view.refresh()
        self.progress.set()

    def party(self, membership: Membership, sid: bytes) -> Party:
        """Return this node's place in a run of all nodes."""
        return Party(self.me, membership.parties, sid, self.rng)

    def session_id(
        self, purpose: str, membership: Membership, parameters: list[Any], nonces: dict[int, bytes] | None
    ) -> bytes:
        """Return the session id of a run of all nodes."""
        return session_id(
            chain_id=self.view.chain_id,
            contract=self.view.addresses["PubkeyRouter"],
            purpose=purpose,
            epoch=membership.epoch,
            parties=membership.parties,
            parameters=parameters,
            nonces=nonces,
        )

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Do `work` beside everything else; what is expected to go wrong is logged and ends it."""

        async def guarded() -> None:
            try:
                await work
            except EXPECTED as error:
                log.warning("key making failed", reason=str(error)[:200])

        task = asyncio.create_task(guarded())
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task
