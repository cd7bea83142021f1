"""Makes keys with the other nodes and has them registered: the network key at genesis, then batches for the pool.

The node with the lowest PartyId proposes, because key generation needs everybody anyway; proposing gives no power.
One batch:

    propose, accept   the leader names size and purpose, every node answers with a fresh nonce
    start             all nonces together fix the session id; every node sees its own among them
    generate          spec/dkg.md steps 1-4; the shares are on every node's disk, pending
    confirm           spec/dkg.md step 5: all n nodes compared everything; only now is the batch marked confirmed
    certify           the leader asks t nodes to sign the batch with the network key; each only its own
    register          one transaction, which anybody could send; a share turns active when the chain shows its key

A crash at any point leaves pending shares that nobody uses; confirmed batches are certified again by the leader.

One node can spoil a ceremony, which needs all, but nothing beyond it: the leader waits longer after each failure, asks
other signers when some did not help, and goes on without a batch that it cannot have certified. A leader can withhold
new keys; what else it asks for costs a node one ceremony and one certification at a time, `PENDING_LIMIT` a day.
"""

from __future__ import annotations

import time

import msgspec
import structlog

from keyquorum.algebra.curve import Point
from keyquorum.algebra.rng import Rng
from keyquorum.node.chain.chain_view import ChainView, Membership
from keyquorum.node.chain.roster import Roster
from keyquorum.node.keymaking.ceremonies import LARGEST_BATCH, Ceremonies
from keyquorum.node.keymaking.certification import LONGEST_PAUSE, Certification
from keyquorum.node.keymaking.minting_notices import Ask, Notify, Proposal, Start, decode
from keyquorum.node.keymaking.workshop import NETWORK, POOL, Record, Transactions, Workshop
from keyquorum.node.runs.runner import Runner
from keyquorum.node.services.signing import Signing
from keyquorum.node.storage.database import StoreFailed
from keyquorum.node.storage.keys import Keys, id_of
from keyquorum.rounds.errors import Abort

log = structlog.get_logger("keyquorum.minting")

VOTE_GAS = 500_000
GENESIS_RETRY_SECONDS = 30.0
GENESIS_PAUSE = 2.0
CEREMONY_PAUSE = 1800.0
# A batch on its way to the chain is pending too, and no leftover.
UNCERTIFIED = 2


class Minting:
    """The key-making service of one node."""

    def __init__(
        self,
        roster: Roster,
        view: ChainView,
        keys: Keys,
        runner: Runner,
        signing: Signing,
        notify: Notify,
        sender: Transactions,
        rng: Rng,
        batch: int,
        low: int,
        record: Record = lambda what, summary: None,
        dkg_seconds: float = 120.0,
    ) -> None:
        """`notify(peer, topic, reference, payload)` sends a notice; `low` is when the pool on the chain is refilled.

        `record(what, summary)` is told what was signed for others.
        """
        self.shop = Workshop(roster, view, keys, runner, signing, notify, sender, rng, record)
        self.progress = self.shop.progress
        self.ceremonies = Ceremonies(self.shop, dkg_seconds)
        self.certification = Certification(self.shop)
        self._batch = min(batch, LARGEST_BATCH)
        self._low = low
        self._failures = 0
        self._next_refill = -LONGEST_PAUSE
        self._genesis_at = -GENESIS_RETRY_SECONDS

    # -- what runs by itself --------------------------------------------

    async def tick(self) -> None:
        """Do what the chain's present state asks for; called after each new block and now and then."""
        membership = self.shop.roster.current
        network_key = await self.shop.view.network_key()
        await self.shop.activate_registered(network_key)
        if network_key is None:
            await self._genesis(membership)
        elif self.shop.me == min(membership.parties):
            await self._refill(membership, network_key)

    async def _genesis(self, membership: Membership) -> None:
        if await self.shop.view.read("PubkeyRouter", "networkKey", newest=True):
            return  # done, but not finally yet
        candidates = list(self.shop.unregistered(NETWORK).values())
        if candidates:
            await self._vote(candidates[-1][0])
        patient = time.monotonic() - self._genesis_at < GENESIS_RETRY_SECONDS * max(1, len(candidates))
        if self.shop.me == min(membership.parties) and not patient and self.shop.all_up(membership):
            self._genesis_at = time.monotonic()
            try:
                await self.ceremonies.lead(NETWORK, 1)
            except Abort:
                self._genesis_at += GENESIS_PAUSE - GENESIS_RETRY_SECONDS
                raise

    async def _vote(self, public_key: bytes) -> None:
        address = self.shop.roster.current.members[self.shop.me].address
        voted = await self.shop.view.read("PubkeyRouter", "networkKeyVote", address, newest=True)
        if voted != int.from_bytes(id_of(public_key), "big"):
            # Estimated for an ordinary vote, the gas would not do for the one that completes the registration.
            await self.shop.transact("registerNetworkKey", public_key, gas=VOTE_GAS)

    async def _refill(self, membership: Membership, network_key: Point) -> None:
        waiting = self.shop.unregistered(POOL)
        for batch_id, public_keys in waiting.items():
            due = self.certification.is_due(batch_id)
            if due and not await self.shop.is_registered(public_keys[0], newest=True):
                await self.certification.lead(membership, network_key, batch_id, public_keys)
                return
        size = await self.shop.view.read("PubkeyRouter", "poolSize", newest=True)
        patient = time.monotonic() < self._next_refill
        # A batch that was in vain with as many sets as there are nodes may be one that too few have confirmed.
        hopeful = any(self.certification.is_hopeful(batch_id, membership) for batch_id in waiting)
        if not hopeful and size < self._low and self.shop.all_up(membership) and not patient:
            self._next_refill = time.monotonic() + self._pause()
            self._failures += 1
            await self.ceremonies.lead(POOL, self._batch)
            self._failures, self._next_refill = 0, -LONGEST_PAUSE

    def _pause(self) -> float:
        """Return the seconds until the next ceremony if this one fails; what was left behind today counts too.

        Ever longer pauses leave fewer than `PENDING_LIMIT` batches behind in a day, at which the others would refuse.
        """
        failures = max(self._failures, self.ceremonies.leftovers() - UNCERTIFIED)
        return float(min(2.0 ** min(failures, 30), CEREMONY_PAUSE))

    # -- notices --------------------------------------------

    def on_notice(self, peer: int, topic: str, reference: bytes, payload: bytes) -> None:
        """Take a notice from the authenticated link of `peer`; what is not in order is ignored."""
        membership = self.shop.roster.current
        if peer not in membership.members:
            return
        if topic == "dkg/over":
            self.ceremonies.end(reference)
            return
        taken = self.shop.gatherings.take(peer, topic, reference, payload)
        if not taken and peer == min(membership.parties) and peer != self.shop.me:
            self._follow(peer, topic, reference, payload, membership)

    def _follow(self, leader: int, topic: str, reference: bytes, payload: bytes, membership: Membership) -> None:
        try:
            if topic == "dkg/propose":
                self.ceremonies.accept(leader, reference, decode(payload, Proposal), membership)
            elif topic == "dkg/start":
                self.ceremonies.join(reference, decode(payload, Start), membership)
            elif topic == "certify/ask":
                self.certification.help(leader, reference, decode(payload, Ask), self.ceremonies)
        except (ValueError, StoreFailed, msgspec.DecodeError) as error:
            log.warning("notice refused", topic=topic, leader=leader, reason=str(error)[:200])
