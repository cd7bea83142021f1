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

import asyncio
import time
from collections import Counter
from collections.abc import Coroutine
from typing import Any, Protocol

import msgspec
import structlog

from keyquorum.algebra import field as scalar
from keyquorum.algebra.curve import Point
from keyquorum.algebra.rng import Rng
from keyquorum.algebra.transcript import Tag, tagged_hash
from keyquorum.chain.contracts import interface, key_batch_digest
from keyquorum.chain.rpc import RpcError, RpcUnreachable
from keyquorum.node.chain_view import ChainUnavailable, ChainView, Membership
from keyquorum.node.keys import Keys, id_of
from keyquorum.node.minting_notices import (
    GATHER_SECONDS,
    Answer,
    Ask,
    Certified,
    Gatherings,
    Notify,
    Proposal,
    Start,
    decode,
    share_of,
)
from keyquorum.node.runner import Runner, culprits_of
from keyquorum.node.signing import RunChoice, Signing
from keyquorum.protocols import dkg
from keyquorum.protocols.correlations import Depleted
from keyquorum.protocols.sign import SignatureShare, combine
from keyquorum.rounds.errors import Abort
from keyquorum.rounds.party import Party
from keyquorum.rounds.session import session_id

log = structlog.get_logger("keyquorum.minting")

LARGEST_BATCH = 128
PENDING_LIMIT = 64
PENDING_SECONDS = 24 * 3600
LONGEST_PAUSE = 600.0
LINK_PAUSE = 0.02
CATCH_UP_PAUSE = 0.1
VOTE_GAS = 500_000
# Measured: 71,000 a key. Estimating would execute the largest transaction there is several times more.
BATCH_GAS, KEY_GAS = 300_000, 110_000
GENESIS_RETRY_SECONDS = 30.0
GENESIS_PAUSE = 2.0
NETWORK, POOL = "network", "pool"


class Transactions(Protocol):
    """What sends this node's own transactions (`chain.rpc.Sender`)."""

    async def send(self, to: str | None, data: bytes = b"", value: int = 0, gas: int | None = None) -> dict[str, Any]:
        """Send and wait for the receipt."""
        ...


class Minting:
    """The key-making service of one node."""

    def __init__(
        self,
        me: int,
        view: ChainView,
        keys: Keys,
        runner: Runner,
        signing: Signing,
        notify: Notify,
        sender: Transactions,
        rng: Rng,
        batch: int,
        low: int,
        dkg_seconds: float = 120.0,
    ) -> None:
        """`notify(peer, topic, reference, payload)` sends a notice; `low` is when the pool on the chain is refilled.

        `progress` is set whenever there is something new to act on, so that nobody waits for the next poll.
        """
        self.me = me
        self._view = view
        self._keys = keys
        self._runner = runner
        self._signing = signing
        self._notify = notify
        self._sender = sender
        self._rng = rng
        self._batch = min(batch, LARGEST_BATCH)
        self._low = low
        self._dkg_seconds = dkg_seconds
        self._gatherings = Gatherings(notify)
        self._nonces: dict[bytes, tuple[Proposal, bytes]] = {}
        self._ceremony: asyncio.Task[None] | None = None
        self._one_ceremony = asyncio.Lock()
        self._under_way: tuple[bytes, asyncio.Task[None]] | None = None
        self._answering: asyncio.Task[None] | None = None
        self._helping: asyncio.Task[None] | None = None
        self._doubts: Counter[int] = Counter()
        self._tries: Counter[bytes] = Counter()
        self._again_at: dict[bytes, float] = {}
        self._failures = 0
        self._next_refill = -LONGEST_PAUSE
        self._tasks: set[asyncio.Task[None]] = set()
        self._genesis_at = -GENESIS_RETRY_SECONDS
        self.progress = asyncio.Event()

    # -- what runs by itself --------------------------------------------

    async def tick(self) -> None:
        """Do what the chain's present state asks for; called after each new block and now and then."""
        membership = self._signing.membership
        if membership is None or not membership.epoch:
            return
        network_key = await self._view.network_key()
        await self._activate_registered(network_key)
        if network_key is None:
            await self._genesis(membership)
        elif self.me == min(membership.parties):
            await self._refill(membership, network_key)

    async def _activate_registered(self, network_key: Point | None) -> None:
        for public_keys in self._keys.pending_batches().values():
            if network_key is not None and network_key.to_bytes() in public_keys:
                await self._keys.activate([id_of(network_key.to_bytes())])
                self.progress.set()
            elif await self._is_registered(public_keys[0]):
                await self._keys.activate([id_of(public_key) for public_key in public_keys])

    async def _is_registered(self, public_key: bytes, newest: bool = False) -> bool:
        key = int.from_bytes(id_of(public_key), "big")
        return bool(await self._view.read("PubkeyRouter", "isRegistered", key, newest=newest))

    def _unregistered(self, purpose: str) -> dict[bytes, list[bytes]]:
        """Return the confirmed batches for `purpose` that are still pending."""
        confirmed, pending = self._keys.confirmed(), self._keys.pending_batches()
        return {batch_id: keys for batch_id, keys in pending.items() if confirmed.get(batch_id) == purpose}

    async def _genesis(self, membership: Membership) -> None:
        if await self._view.read("PubkeyRouter", "networkKey", newest=True):
            return  # done, but not finally yet
        candidates = list(self._unregistered(NETWORK).values())
        if candidates:
            await self._vote(candidates[-1][0])
        patient = time.monotonic() - self._genesis_at < GENESIS_RETRY_SECONDS * max(1, len(candidates))
        if self.me == min(membership.parties) and not patient and self._all_up(membership):
            self._genesis_at = time.monotonic()
            try:
                await self.make_keys(NETWORK, 1)
            except Abort:
                self._genesis_at += GENESIS_PAUSE - GENESIS_RETRY_SECONDS
                raise

    async def _vote(self, public_key: bytes) -> None:
        address = self._signing.membership.members[self.me].address  # type: ignore[union-attr]
        voted = await self._view.read("PubkeyRouter", "networkKeyVote", address, newest=True)
        if voted != int.from_bytes(id_of(public_key), "big"):
            # Estimated for an ordinary vote, the gas would not do for the one that completes the registration.
            await self._transact("registerNetworkKey", public_key, gas=VOTE_GAS)

    async def _refill(self, membership: Membership, network_key: Point) -> None:
        waiting = self._unregistered(POOL)
        for batch_id, public_keys in waiting.items():
            due = time.monotonic() >= self._again_at.get(batch_id, 0.0)
            if due and not await self._is_registered(public_keys[0], newest=True):
                await self.certify(membership, network_key, batch_id, public_keys)
                return
        size = await self._view.read("PubkeyRouter", "poolSize", newest=True)
        patient = time.monotonic() < self._next_refill
        # A batch that was in vain with as many sets as there are nodes may be one that too few have confirmed.
        hopeful = any(self._tries[batch_id] < len(membership.members) for batch_id in waiting)
        if not hopeful and size < self._low and self._all_up(membership) and not patient:
            self._next_refill = time.monotonic() + min(2.0**self._failures, LONGEST_PAUSE)
            self._failures += 1
            await self.make_keys(POOL, self._batch)
            self._failures, self._next_refill = 0, -LONGEST_PAUSE

    def _all_up(self, membership: Membership) -> bool:
        return all(self._runner.is_up(j) for j in membership.parties if j != self.me)

    async def _transact(self, function: str, *arguments: Any, gas: int | None = None) -> None:
        router = self._view.addresses["PubkeyRouter"]
        await self._sender.send(router, interface("PubkeyRouter").encode(function, *arguments), gas=gas)
        await self._view.refresh()
        self.progress.set()

    # -- a ceremony --------------------------------------------

    async def make_keys(self, purpose: str, size: int) -> None:
        """Lead one ceremony of `size` keys to its confirmation; raises `Abort` when a node does not take part."""
        membership = self._require_membership()
        reference = self._rng.bytes(16)
        proposal = Proposal(purpose, size, membership.epoch)
        others = [j for j in membership.parties if j != self.me]
        accepted = await self._gatherings.gather(
            "dkg/accept", reference, others, "dkg/propose", msgspec.msgpack.encode(proposal)
        )
        nonces = {self.me: self._rng.bytes(32), **accepted}
        self._nonces = {reference: (proposal, nonces[self.me])}
        start = msgspec.msgpack.encode(Start(proposal, nonces))
        for peer in others:
            self._notify(peer, "dkg/start", reference, start)
        await self._hold_ceremony(reference, proposal, nonces)

    async def _hold_ceremony(self, reference: bytes, proposal: Proposal, nonces: dict[int, bytes]) -> None:
        # One that was given up may still be computing; another beside it would only pile up work.
        async with self._one_ceremony:
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
                for peer in nonces.keys() - {self.me}:
                    self._notify(peer, "dkg/over", reference, b"")
                raise
            finally:
                self._under_way = None

    def _end_ceremony(self, reference: bytes) -> None:
        """Give up the ceremony under way, because a party of it has; any party can spoil one anyway."""
        if self._under_way is not None and self._under_way[0] == reference:
            _, work = self._under_way
            self._under_way = None
            work.cancel()

    async def _generate_and_confirm(self, reference: bytes, proposal: Proposal, nonces: dict[int, bytes]) -> None:
        membership = self._require_membership()
        parameters = [reference, proposal.purpose, proposal.size, membership.threshold]
        sid = self._sid("dkg", membership, parameters, nonces)
        began = time.monotonic()
        pending = await self._runner.run(
            Party(self.me, membership.parties, sid, self._rng),
            dkg.generate(self._party(membership, sid), membership.threshold, proposal.size),
            self._dkg_seconds,
            in_thread=True,
            name="dkg",
        )
        await self._keys.put_pending(sid, membership.epoch, pending.keys)
        confirmation = self._sid("dkg/confirm", membership, [sid], None)
        party = self._party(membership, confirmation)
        await self._runner.run(party, dkg.confirm(party, pending), self._dkg_seconds, True, "dkg/confirm")
        await self._keys.confirm(sid, proposal.purpose)
        self.progress.set()
        log.info("keys made", purpose=proposal.purpose, keys=proposal.size, seconds=round(time.monotonic() - began, 3))

    def _party(self, membership: Membership, sid: bytes) -> Party:
        return Party(self.me, membership.parties, sid, self._rng)

    def _sid(
        self, purpose: str, membership: Membership, parameters: list[Any], nonces: dict[int, bytes] | None
    ) -> bytes:
        return session_id(
            chain_id=self._view.chain_id,
            contract=self._view.addresses["PubkeyRouter"],
            purpose=purpose,
            epoch=membership.epoch,
            parties=membership.parties,
            parameters=parameters,
            nonces=nonces,
        )

    # -- certification --------------------------------------------

    async def certify(
        self, membership: Membership, network_key: Point, batch_id: bytes, public_keys: list[bytes]
    ) -> None:
        """Lead the certification of a confirmed batch and register it; raises `Abort` when too few nodes help."""
        up = [j for j in membership.parties if j != self.me and self._runner.is_up(j)]
        order = sorted(up, key=lambda j: (self._doubts[j], self._rng.bytes(4)))
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
        await self._transact("registerKeys", public_keys, signature.number, signature.compact, gas=gas)
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
        number = int(await self._view.read("PubkeyRouter", "nextBatch", newest=True))
        ask = Ask(number, sorted([self.me, *others]), self._rng.bytes(16))
        gathering = asyncio.create_task(
            self._gatherings.gather("certify/share", batch_id, others, "certify/ask", msgspec.msgpack.encode(ask))
        )
        try:
            own = await self._sign_batch(batch_id, ask)
            shares = {j: share_of(j, data) for j, data in (await gathering).items()}
        finally:
            gathering.cancel()
            await asyncio.gather(gathering, return_exceptions=True)
        shares[self.me] = SignatureShare(*map(scalar.from_bytes_checked, (own.w, own.u)))
        digest = self._batch_digest(membership, number, public_keys)
        compact = combine(shares, Point.from_bytes_checked(own.R), digest, network_key).to_bytes()
        return Certified(number, compact[:64] + bytes([27 + compact[64]]))

    async def _sign_batch(self, batch_id: bytes, ask: Ask) -> Answer:
        """Sign a batch with the network key, if it is one that this node made, confirmed, and is next on the chain."""
        membership = self._require_membership()
        public_keys = self._unregistered(POOL).get(batch_id)
        if public_keys is None:
            raise ValueError("asked to certify a batch that this node did not confirm")
        if ask.number != await self._view.read("PubkeyRouter", "nextBatch", newest=True):
            raise ValueError("asked to certify a batch under a number that is not next")
        network_key = await self._view.network_key()
        if network_key is None:
            raise ValueError("asked to certify before the network key exists")
        key = self._keys.load(id_of(network_key.to_bytes()))
        digest = self._batch_digest(membership, ask.number, public_keys)
        payload = tagged_hash(Tag.KEY_BATCH, batch_id, ask.nonce)
        choice = RunChoice(tuple(ask.signers), 0)
        shares = await self._signing.run_signing("certify", key, digest, payload, choice)
        row = shares.rows[0]
        return Answer(scalar.to_bytes(row.w), scalar.to_bytes(row.u), shares.R[0].to_bytes())

    def _batch_digest(self, membership: Membership, number: int, public_keys: list[bytes]) -> bytes:
        router = self._view.addresses["PubkeyRouter"]
        return key_batch_digest(self._view.chain_id, router, membership.epoch, number, public_keys)

    # -- notices --------------------------------------------

    def on_notice(self, peer: int, topic: str, reference: bytes, payload: bytes) -> None:
        """Take a notice from the authenticated link of `peer`; what is not in order is ignored."""
        membership = self._signing.membership
        if membership is None or peer not in membership.members:
            return
        if topic == "dkg/over":
            self._end_ceremony(reference)
            return
        taken = self._gatherings.take(peer, topic, reference, payload)
        if not taken and peer == min(membership.parties) and peer != self.me:
            self._follow(peer, topic, reference, payload, membership)

    def _follow(self, leader: int, topic: str, reference: bytes, payload: bytes, membership: Membership) -> None:
        try:
            if topic == "dkg/propose":
                self._accept(leader, reference, decode(payload, Proposal), membership)
            elif topic == "dkg/start":
                self._join(reference, decode(payload, Start), membership)
            elif topic == "certify/ask":
                self._help(leader, reference, decode(payload, Ask))
        except (ValueError, msgspec.DecodeError) as error:
            log.warning("notice refused", topic=topic, leader=leader, reason=str(error)[:200])

    def _accept(self, leader: int, reference: bytes, proposal: Proposal, membership: Membership) -> None:
        if proposal.epoch != membership.epoch or proposal.purpose not in (NETWORK, POOL):
            raise ValueError("a proposal for another epoch or purpose")
        if not 1 <= proposal.size <= LARGEST_BATCH or (proposal.purpose == NETWORK and proposal.size != 1):
            raise ValueError("a proposal of a size that is never needed")
        # A ceremony that somebody spoils leaves its shares behind. By the day, so that this too comes to an end.
        if self._keys.pending_since(time.time() - PENDING_SECONDS) >= PENDING_LIMIT:
            raise ValueError("too many batches are pending")
        nonce = self._rng.bytes(32)
        self._nonces = {reference: (proposal, nonce)}
        if self._answering is not None:
            self._answering.cancel()
        self._answering = self._spawn(self._answer_when_linked(leader, reference, nonce, membership))

    async def _answer_when_linked(self, leader: int, reference: bytes, nonce: bytes, membership: Membership) -> None:
        """Take part once every link of this node is up: the leader can see its own only."""
        async with asyncio.timeout(GATHER_SECONDS / 2):
            while not self._all_up(membership):  # noqa: ASYNC110  links come up by themselves
                await asyncio.sleep(LINK_PAUSE)
        self._notify(leader, "dkg/accept", reference, nonce)

    def _join(self, reference: bytes, start: Start, membership: Membership) -> None:
        accepted = self._nonces.pop(reference, None)
        if accepted is None or accepted != (start.proposal, start.nonces.get(self.me)):
            raise ValueError("a start that this node did not accept")
        if tuple(sorted(start.nonces)) != membership.parties:
            raise ValueError("a start without everybody's nonce")
        if self._ceremony is not None:
            # Whoever leads has given the last one up; waiting for its silent parties would only hold up this one.
            self._ceremony.cancel()
        self._ceremony = self._spawn(self._hold_ceremony(reference, start.proposal, start.nonces))

    def _help(self, leader: int, batch_id: bytes, ask: Ask) -> None:
        if self._helping is not None and not self._helping.done():
            raise ValueError("asked to certify while the last certification is under way")
        self._helping = self._spawn(self._help_certify(leader, batch_id, ask))

    async def _help_certify(self, leader: int, batch_id: bytes, ask: Ask) -> None:
        if self._ceremony is not None and not self._ceremony.done():
            # The leader may be done a moment earlier: what it asks about is about to be confirmed here too.
            await asyncio.wait({self._ceremony}, timeout=GATHER_SECONDS / 2)
        await self._catch_up()
        answer = await self._sign_batch(batch_id, ask)
        self._notify(leader, "certify/share", batch_id, msgspec.msgpack.encode(answer))

    async def _catch_up(self) -> None:
        """Wait a little until this node too has seen the network key on the chain, which the leader has."""
        async with asyncio.timeout(GATHER_SECONDS / 2):
            while True:
                await self._view.refresh()
                network_key = await self._view.network_key()
                await self._activate_registered(network_key)
                if network_key is not None and self._keys.state(id_of(network_key.to_bytes())) == "active":
                    return
                await asyncio.sleep(CATCH_UP_PAUSE)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        async def guarded() -> None:
            try:
                await work
            except EXPECTED as error:
                log.warning("key making failed", reason=str(error)[:200])

        task = asyncio.create_task(guarded())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _require_membership(self) -> Membership:
        if self._signing.membership is None:
            raise ValueError("the network has not started")
        return self._signing.membership


# What may go wrong without anybody's bug: peers, the chain, and transactions that lost a race.
EXPECTED = (Abort, ValueError, LookupError, ChainUnavailable, RpcError, RpcUnreachable, TimeoutError)
