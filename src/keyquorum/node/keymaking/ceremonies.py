"""Ceremonies: all nodes together make new keys, proposed by one of them.

    propose, accept   the leader names size and purpose, every node answers with a fresh nonce
    start             all nonces together fix the session id; every node sees its own among them
    generate          spec/dkg.md steps 1-4; the shares are on every node's disk, pending
    confirm           spec/dkg.md step 5: all n nodes compared everything; only now is the batch marked confirmed

One node can spoil a ceremony, which needs all. Who accepts proposals spends at most one ceremony at a time on them,
`PENDING_LIMIT` a day.
"""

from __future__ import annotations

import asyncio
import time

import msgspec
import structlog

from keyquorum.node.chain.chain_view import Membership
from keyquorum.node.keymaking.minting_notices import GATHER_SECONDS, Proposal, Start
from keyquorum.node.keymaking.workshop import NETWORK, POOL, Workshop
from keyquorum.protocols import dkg
from keyquorum.rounds.errors import Abort

log = structlog.get_logger("keyquorum.minting")

LARGEST_BATCH = 128
PENDING_LIMIT = 64
PENDING_SECONDS = 24 * 3600
LINK_PAUSE = 0.02


class Ceremonies:
    """The ceremonies of one node, as leader and as follower."""

    def __init__(self, shop: Workshop, seconds: float) -> None:
        """`seconds` is the patience with each of the two runs of a ceremony."""
        self._shop = shop
        self._seconds = seconds
        self._nonces: dict[bytes, tuple[Proposal, bytes]] = {}
        self._joined: asyncio.Task[None] | None = None
        self._one_at_a_time = asyncio.Lock()
        self._under_way: tuple[bytes, asyncio.Task[None]] | None = None
        self._answering: asyncio.Task[None] | None = None

    def leftovers(self) -> int:
        """Return how many batches of the last day are pending still, counting no further than `PENDING_LIMIT`."""
        return self._shop.keys.pending_since(time.time() - PENDING_SECONDS, PENDING_LIMIT)

    async def lead(self, purpose: str, size: int) -> None:
        """Lead one ceremony of `size` keys to its confirmation; raises `Abort` when a node does not take part.

        Nothing is begun that this node could not write down: it would only leave its shares behind at the others.
        """
        membership = self._shop.roster.current
        self._shop.keys.check_room()
        reference = self._shop.rng.bytes(16)
        proposal = Proposal(purpose, size, membership.epoch)
        others = [j for j in membership.parties if j != self._shop.me]
        accepted = await self._shop.gatherings.gather(
            "dkg/accept", reference, others, "dkg/propose", msgspec.msgpack.encode(proposal)
        )
        nonces = {self._shop.me: self._shop.rng.bytes(32), **accepted}
        self._nonces = {reference: (proposal, nonces[self._shop.me])}
        start = msgspec.msgpack.encode(Start(proposal, nonces))
        for peer in others:
            self._shop.notify(peer, "dkg/start", reference, start)
        await self._hold(reference, proposal, nonces)

    async def _hold(self, reference: bytes, proposal: Proposal, nonces: dict[int, bytes]) -> None:
        # One that was given up may still be computing; another beside it would only pile up work.
        async with self._one_at_a_time:
            work = asyncio.create_task(self._generate_and_confirm(reference, proposal, nonces))
            self._under_way = (reference, work)
            try:
                await work
            except asyncio.CancelledError:
                if self._under_way is not None:
                    raise
                raise Abort("another party ended the ceremony") from None
            except Abort:
                # Without everybody it cannot end well: the others need not wait for their patience to run out.
                for peer in nonces.keys() - {self._shop.me}:
                    self._shop.notify(peer, "dkg/over", reference, b"")
                raise
            finally:
                self._under_way = None

    async def _generate_and_confirm(self, reference: bytes, proposal: Proposal, nonces: dict[int, bytes]) -> None:
        membership = self._shop.roster.current
        parameters = [reference, proposal.purpose, proposal.size, membership.threshold]
        sid = self._shop.session_id("dkg", membership, parameters, nonces)
        began = time.monotonic()
        pending = await self._shop.runner.run(
            self._shop.party(membership, sid),
            dkg.generate(self._shop.party(membership, sid), membership.threshold, proposal.size),
            self._seconds,
            in_thread=True,
            name="dkg",
        )
        await self._shop.keys.put_pending(sid, membership.epoch, pending.keys)
        confirmation = self._shop.session_id("dkg/confirm", membership, [sid], None)
        party = self._shop.party(membership, confirmation)
        await self._shop.runner.run(party, dkg.confirm(party, pending), self._seconds, True, "dkg/confirm")
        await self._shop.keys.confirm(sid, proposal.purpose)
        self._shop.progress.set()
        log.info("keys made", purpose=proposal.purpose, keys=proposal.size, seconds=round(time.monotonic() - began, 3))

    # -- as a follower --------------------------------------------

    def accept(self, leader: int, reference: bytes, proposal: Proposal, membership: Membership) -> None:
        """Answer a proposal with a nonce; raises `ValueError` for one that no honest leader makes."""
        if proposal.epoch != membership.epoch or proposal.purpose not in (NETWORK, POOL):
            raise ValueError("a proposal for another epoch or purpose")
        if not 1 <= proposal.size <= LARGEST_BATCH or (proposal.purpose == NETWORK and proposal.size != 1):
            raise ValueError("a proposal of a size that is never needed")
        # A ceremony that somebody spoils leaves its shares behind. By the day, so that this too comes to an end.
        if self.leftovers() >= PENDING_LIMIT:
            raise ValueError("too many batches are pending")
        self._shop.keys.check_room()
        nonce = self._shop.rng.bytes(32)
        self._nonces = {reference: (proposal, nonce)}
        if self._answering is not None:
            self._answering.cancel()
        self._answering = self._shop.spawn(self._answer_when_linked(leader, reference, nonce, membership))

    async def _answer_when_linked(self, leader: int, reference: bytes, nonce: bytes, membership: Membership) -> None:
        """Take part once every link of this node is up: the leader can see its own only."""
        async with asyncio.timeout(GATHER_SECONDS / 2):
            while not self._shop.all_up(membership):  # noqa: ASYNC110  links come up by themselves
                await asyncio.sleep(LINK_PAUSE)
        self._shop.notify(leader, "dkg/accept", reference, nonce)

    def join(self, reference: bytes, start: Start, membership: Membership) -> None:
        """Take part in what this node accepted; raises `ValueError` for anything else."""
        accepted = self._nonces.pop(reference, None)
        if accepted is None or accepted != (start.proposal, start.nonces.get(self._shop.me)):
            raise ValueError("a start that this node did not accept")
        if tuple(sorted(start.nonces)) != membership.parties:
            raise ValueError("a start without everybody's nonce")
        if self._joined is not None:
            # Whoever leads has given the last one up; waiting for its silent parties would only hold up this one.
            self._joined.cancel()
        self._joined = self._shop.spawn(self._hold(reference, start.proposal, start.nonces))

    def end(self, reference: bytes) -> None:
        """Give up the ceremony under way, because a party of it has; any party can spoil one anyway."""
        if self._under_way is not None and self._under_way[0] == reference:
            _, work = self._under_way
            self._under_way = None
            work.cancel()

    async def finished(self, seconds: float) -> None:
        """Wait this long for the ceremony that this node has joined, if there is one."""
        if self._joined is not None and not self._joined.done():
            await asyncio.wait({self._joined}, timeout=seconds)
