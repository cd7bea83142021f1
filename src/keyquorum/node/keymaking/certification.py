"""Certification: t nodes sign a confirmed batch of keys with the network key, and it is registered on the chain.

The leader asks, every signer signs only what it confirmed itself, under the number that is next on the chain. When some
did not help, the leader asks others; a batch that it cannot have certified blocks nothing. A leader's question costs a
node one certification at a time.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter

import msgspec
import structlog

from keyquorum.algebra import field as scalar
from keyquorum.algebra.curve import Point
from keyquorum.algebra.transcript import Tag, tagged_hash
from keyquorum.evm.digests import key_batch_digest
from keyquorum.node.chain.chain_view import Membership
from keyquorum.node.keymaking.ceremonies import Ceremonies
from keyquorum.node.keymaking.minting_notices import GATHER_SECONDS, Answer, Ask, Certified, share_of
from keyquorum.node.keymaking.workshop import POOL, Workshop
from keyquorum.node.runs.runner import culprits_of
from keyquorum.node.services.signing import RunChoice
from keyquorum.node.storage.keys import id_of
from keyquorum.protocols.correlations import Depleted
from keyquorum.protocols.sign import SignatureShare, combine
from keyquorum.rounds.errors import Abort

log = structlog.get_logger("keyquorum.minting")

CATCH_UP_PAUSE = 0.1
LONGEST_PAUSE = 600.0
# Measured: 71,000 a key. Estimating would execute the largest transaction there is several times more.
BATCH_GAS, KEY_GAS = 300_000, 110_000


class Certification:
    """The certifications of one node, as leader and as follower."""

    def __init__(self, shop: Workshop) -> None:
        self._shop = shop
        self._helping: asyncio.Task[None] | None = None
        self._doubts: Counter[int] = Counter()
        self._tries: Counter[bytes] = Counter()
        self._again_at: dict[bytes, float] = {}

    def is_due(self, batch_id: bytes) -> bool:
        """Return whether a batch may be tried now: one that was in vain with every set of signers waits long."""
        return time.monotonic() >= self._again_at.get(batch_id, 0.0)

    def is_hopeful(self, batch_id: bytes, membership: Membership) -> bool:
        """Return whether another set of signers may still help; if not, too few have confirmed the batch."""
        return self._tries[batch_id] < len(membership.members)

    async def lead(self, membership: Membership, network_key: Point, batch_id: bytes, public_keys: list[bytes]) -> None:
        """Lead the certification of a confirmed batch and register it; raises `Abort` when too few nodes help."""
        up = [j for j in membership.parties if j != self._shop.me and self._shop.runner.is_up(j)]
        order = sorted(up, key=lambda j: (self._doubts[j], self._shop.rng.bytes(4)))
        others = sorted(order[: membership.threshold - 1])
        if len(others) < membership.threshold - 1:
            raise Abort("too few nodes are linked to certify keys")
        try:
            signature = await self._gather_signature(membership, network_key, batch_id, public_keys, others)
        except Depleted:
            raise
        except Abort as error:
            self._doubt(membership, batch_id, others, culprits_of(error))
            raise
        self._doubts -= Counter({j: self._doubts[j] for j in others})
        gas = BATCH_GAS + KEY_GAS * len(public_keys)
        await self._shop.transact("registerKeys", public_keys, signature.number, signature.compact, gas=gas)
        log.info("keys registered", batch=signature.number, keys=len(public_keys))

    def _doubt(self, membership: Membership, batch_id: bytes, others: list[int], culprits: frozenset[int]) -> None:
        # Who is named is in doubt twice. But a cheat can let another look silent, so the next try is without both.
        self._doubts.update([*others, *(culprits & set(others))])
        self._tries[batch_id] += 1
        if self._tries[batch_id] >= len(membership.members):
            self._again_at[batch_id] = time.monotonic() + LONGEST_PAUSE

    async def _gather_signature(
        self, membership: Membership, network_key: Point, batch_id: bytes, public_keys: list[bytes], others: list[int]
    ) -> Certified:
        number = int(await self._shop.view.read("PubkeyRouter", "nextBatch", newest=True))
        ask = Ask(number, sorted([self._shop.me, *others]), self._shop.rng.bytes(16))
        gathering = asyncio.create_task(
            self._shop.gatherings.gather("certify/share", batch_id, others, "certify/ask", msgspec.msgpack.encode(ask))
        )
        try:
            own = await self.sign_batch(batch_id, ask)
            shares = {j: share_of(j, data) for j, data in (await gathering).items()}
        finally:
            gathering.cancel()
            await asyncio.gather(gathering, return_exceptions=True)
        shares[self._shop.me] = SignatureShare(*map(scalar.from_bytes_checked, (own.w, own.u)))
        digest = self._batch_digest(membership, number, public_keys)
        compact = combine(shares, Point.from_bytes_checked(own.R), digest, network_key).to_bytes()
        return Certified(number, compact[:64] + bytes([27 + compact[64]]))

    async def sign_batch(self, batch_id: bytes, ask: Ask) -> Answer:
        """Sign a batch with the network key, if it is one that this node made, confirmed, and is next on the chain."""
        membership = self._shop.roster.current
        public_keys = self._shop.keys.waiting_batch(batch_id, POOL)
        if not public_keys:
            raise ValueError("asked to certify a batch that this node did not confirm")
        if ask.number != await self._shop.view.read("PubkeyRouter", "nextBatch", newest=True):
            raise ValueError("asked to certify a batch under a number that is not next")
        network_key = await self._shop.view.network_key()
        if network_key is None:
            raise ValueError("asked to certify before the network key exists")
        key = self._shop.keys.load(id_of(network_key.to_bytes()))
        digest = self._batch_digest(membership, ask.number, public_keys)
        payload = tagged_hash(Tag.KEY_BATCH, batch_id, ask.nonce)
        choice = RunChoice(tuple(ask.signers), 0)
        shares = await self._shop.signing.run_signing("certify", key, digest, payload, choice)
        first, last = (id_of(public_keys[at]).hex() for at in (0, -1))
        summary = f"batch {ask.number}: {len(public_keys)} new keys, 0x{first} to 0x{last}, with {ask.signers}"
        self._shop.record("certify", summary)
        row = shares.rows[0]
        return Answer(scalar.to_bytes(row.w), scalar.to_bytes(row.u), shares.R[0].to_bytes())

    def _batch_digest(self, membership: Membership, number: int, public_keys: list[bytes]) -> bytes:
        router = self._shop.view.addresses["PubkeyRouter"]
        return key_batch_digest(self._shop.view.chain_id, router, membership.epoch, number, public_keys)

    # -- as a follower --------------------------------------------

    def help(self, leader: int, batch_id: bytes, ask: Ask, ceremonies: Ceremonies) -> None:
        """Sign a batch for the leader, unless it asks for more than one at a time (`ValueError`)."""
        if self._helping is not None and not self._helping.done():
            raise ValueError("asked to certify while the last certification is under way")
        self._helping = self._shop.spawn(self._help(leader, batch_id, ask, ceremonies))

    async def _help(self, leader: int, batch_id: bytes, ask: Ask, ceremonies: Ceremonies) -> None:
        # The leader may be done a moment earlier: what it asks about is about to be confirmed here too.
        await ceremonies.finished(GATHER_SECONDS / 2)
        await self._catch_up()
        answer = await self.sign_batch(batch_id, ask)
        self._shop.notify(leader, "certify/share", batch_id, msgspec.msgpack.encode(answer))

    async def _catch_up(self) -> None:
        """Wait a little until this node too has seen the network key on the chain, which the leader has."""
        async with asyncio.timeout(GATHER_SECONDS / 2):
            while True:
                await self._shop.view.refresh()
                network_key = await self._shop.view.network_key()
                await self._shop.activate_registered(network_key)
                if network_key is not None and self._shop.keys.state(id_of(network_key.to_bytes())) == "active":
                    return
                await asyncio.sleep(CATCH_UP_PAUSE)
