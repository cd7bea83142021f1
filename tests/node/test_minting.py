"""Key making with one node's real service and everything around it under the test's hand: who helps, and what fails.

What real nodes do together is in `tests/cluster`; here are the decisions that need a failure at the right moment.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from node_world import until

from keyquorum.algebra.curve import Point, generator_times
from keyquorum.algebra.field import Q, random_scalar, to_bytes
from keyquorum.algebra.rng import SeededRng
from keyquorum.evm.digests import key_batch_digest
from keyquorum.node.chain.chain_view import ChainUnavailable, Member, Membership
from keyquorum.node.chain.roster import Roster
from keyquorum.node.keymaking import ceremonies, minting_notices
from keyquorum.node.keymaking import minting as module
from keyquorum.node.keymaking.minting import Minting
from keyquorum.node.keymaking.minting_notices import Answer, Ask, Gatherings, Proposal, Start, share_of
from keyquorum.node.keymaking.workshop import EXPECTED, NETWORK, POOL
from keyquorum.node.runs.runner import PeerUnreachable, RunTimeout
from keyquorum.node.storage.database import StoreFailed
from keyquorum.node.storage.keys import id_of
from keyquorum.node.storage.store import StoreFull
from keyquorum.protocols.correlations import Depleted
from keyquorum.protocols.sign import SignatureShare, SignatureShares
from keyquorum.rounds.errors import Abort, Blame

ROUTER = "0x" + "11" * 20
SECRET = 0x1234567
NETWORK_KEY = generator_times(SECRET)
REFERENCE = b"r" * 16


def public_key(number: int) -> bytes:
    return generator_times(number + 2).to_bytes()


def membership(n: int = 4) -> Membership:
    members = {j: Member(j, f"0x{j:040x}", "", "", 1, bytes([j]) * 32) for j in range(1, n + 1)}
    return Membership(1, 2 * n // 3 + 1, members)


class Keys:
    """Batches in memory; `leftovers` is how many turned pending of late."""

    def __init__(self) -> None:
        self.pending: dict[bytes, list[bytes]] = {}
        self.purposes: dict[bytes, str] = {}
        self.active: list[bytes] = []
        self.leftovers = 0
        self.stored = 7
        self.refusal: Exception | None = None

    def pending_batches(self, most: int, skip: int = 0) -> dict[bytes, list[bytes]]:
        return dict(list(reversed(self.pending.items()))[skip : skip + most])

    def batches(self) -> int:
        return self.stored

    def pending_count(self) -> int:
        return len(self.pending)

    def waiting(self, purpose: str, most: int, epoch: int | None = None) -> dict[bytes, list[bytes]]:
        return {batch_id: keys for batch_id, keys in self.pending.items() if self.purposes.get(batch_id) == purpose}

    def waiting_batch(self, batch_id: bytes, purpose: str) -> list[bytes]:
        return self.pending.get(batch_id, []) if self.purposes.get(batch_id) == purpose else []

    def pending_since(self, moment: float, most: int) -> int:
        assert abs(time.time() - moment - ceremonies.PENDING_SECONDS) < 60
        return min(self.leftovers, most)

    def check_room(self) -> None:
        if self.refusal:
            raise self.refusal

    async def activate(self, key_ids: Any) -> int:
        self.active += key_ids
        return len(self.active)

    def load(self, key_id: bytes) -> str:
        assert key_id == id_of(NETWORK_KEY.to_bytes())
        return "the network key"

    def state(self, key_id: bytes) -> str:
        pending = {id_of(key) for keys in self.pending.values() for key in keys}
        return "pending" if key_id in pending and key_id not in self.active else "active"

    def confirm_batch(self, number: int, purpose: str = POOL) -> bytes:
        batch_id = bytes([number]) * 32
        self.pending[batch_id], self.purposes[batch_id] = [public_key(number)], purpose
        return batch_id


class View:
    """The chain's answers by name; `registered` are key ids, `failure` is raised instead."""

    chain_id, addresses = 31337, {"PubkeyRouter": ROUTER}

    def __init__(self) -> None:
        self.answers: dict[str, Any] = {"poolSize": 0, "nextBatch": 7, "networkKey": b"", "networkKeyVote": 0}
        self.newest: dict[str, Any] = {}
        self.registered: set[int] = set()
        self.key: Point | None = NETWORK_KEY
        self.failure: Exception | None = None

    async def read(self, contract: str, name: str, *args: Any, newest: bool = False) -> Any:
        if self.failure:
            raise self.failure
        if name == "isRegistered":
            return args[0] in self.registered
        return self.newest[name] if newest and name in self.newest else self.answers[name]

    async def network_key(self) -> Point | None:
        return self.key

    async def refresh(self) -> None:
        pass


class World:
    """The service of node `me`; `helpers` answer certifications, the others are silent."""

    def __init__(self, me: int = 1, n: int = 4) -> None:
        self.me, self.membership = me, membership(n)
        self.roster = Roster(me, self.membership)
        self.keys, self.view = Keys(), View()
        self.helpers = set(range(1, n + 1))
        self.down: set[int] = set()
        self.sent: list[tuple[int, str, bytes]] = []
        self.transactions: list[bytes] = []
        self.asked: list[tuple[int, ...]] = []
        self.made: list[tuple[str, int]] = []
        self.failure: Exception | None = None
        self.answer: Callable[[int, Answer], bytes] = lambda _, answer: msgspec.msgpack.encode(answer)
        self.release = asyncio.Event()
        self.release.set()
        rng: Any = SeededRng("minting")
        services: list[Any] = [self.view, self.keys, self, self, self.notify, self, rng]
        self.minting = Minting(self.roster, *services, batch=10**6, low=5)

    # The runner, the signing service, and the account, as far as they are asked.

    def is_up(self, peer: int) -> bool:
        return peer not in self.down

    async def run_signing(self, purpose: str, key: Any, digest: bytes, payload: bytes, choice: Any) -> SignatureShares:
        assert (purpose, key) == ("certify", "the network key")
        await self.release.wait()
        self.asked.append(choice.signers)
        if self.failure:
            raise self.failure
        return self.shares(digest, choice.signers)[self.me]

    def shares(self, digest: bytes, signers: tuple[int, ...]) -> dict[int, SignatureShares]:
        """Additive shares of a signature under the network key, alike wherever they are computed."""
        rng = SeededRng(digest)
        k, phi = random_scalar(rng), random_scalar(rng)
        R = generator_times(k)
        totals = (phi * (int.from_bytes(digest, "big") + R.x * SECRET) % Q, phi * k % Q)
        parts = {j: [random_scalar(rng) for _ in totals] for j in signers[1:]}
        parts[signers[0]] = [(totals[i] - sum(part[i] for part in parts.values())) % Q for i in (0, 1)]
        return {j: SignatureShares((SignatureShare(*part),), (R,)) for j, part in parts.items()}

    async def send(self, to: str | None, data: bytes = b"", value: int = 0, gas: int | None = None) -> dict[str, Any]:
        assert to == ROUTER
        self.transactions.append(data)
        return {}

    # The other nodes.

    def notify(self, peer: int, topic: str, reference: bytes, payload: bytes) -> bool:
        self.sent.append((peer, topic, payload))
        if peer in self.down:
            return False
        if topic == "certify/ask" and peer in self.helpers:
            asyncio.get_running_loop().call_soon(self.help, peer, reference, msgspec.msgpack.decode(payload, type=Ask))
        return True

    def help(self, peer: int, batch_id: bytes, ask: Ask) -> None:
        digest = key_batch_digest(31337, ROUTER, 1, ask.number, self.keys.pending[batch_id])
        shares = self.shares(digest, tuple(ask.signers))[peer]
        row = shares.rows[0]
        answer = self.answer(peer, Answer(to_bytes(row.w), to_bytes(row.u), shares.R[0].to_bytes()))
        self.minting.on_notice(peer, "certify/share", batch_id, answer)

    def notice(self, topic: str, message: Any, peer: int = 1, reference: bytes = REFERENCE) -> None:
        self.minting.on_notice(peer, topic, reference, msgspec.msgpack.encode(message))

    async def tick(self) -> Exception | None:
        try:
            await self.minting.tick()
        except EXPECTED as error:
            return error
        return None

    def record_ceremonies(self, error: Exception | None = None) -> None:
        async def lead(purpose: str, size: int) -> None:
            self.made.append((purpose, size))
            if error:
                raise error

        self.minting.ceremonies.lead = lead  # type: ignore[method-assign]


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(minting_notices, "GATHER_SECONDS", 0.05)


# -- certification ----------------------------------------------------------------------------------------------------


async def test_a_confirmed_batch_is_certified_and_registered() -> None:
    world = World()
    world.keys.confirm_batch(1)
    assert await world.tick() is None
    assert len(world.transactions) == 1


async def test_one_silent_node_does_not_stop_certification() -> None:
    for silent in (2, 3, 4):
        world = World()
        world.helpers -= {silent}
        world.keys.confirm_batch(1)
        for _ in range(3):
            if await world.tick() is None:
                break
        assert world.transactions, silent
        assert silent not in world.asked[-1]


@pytest.mark.parametrize("liar", [2, 3, 4])
@pytest.mark.parametrize("lie", ["nothing", "nonsense", "scalars too large", "another share"])
async def test_one_liar_does_not_stop_certification(liar: int, lie: str) -> None:
    world = World()
    world.keys.confirm_batch(1)

    def answer(peer: int, honest: Answer) -> bytes:
        wrong = {
            "nothing": b"",
            "nonsense": b"\xc1" * 40,
            "scalars too large": msgspec.msgpack.encode(Answer(b"\xff" * 32, b"\xff" * 32, honest.R)),
            "another share": msgspec.msgpack.encode(Answer(to_bytes(5), honest.u, honest.R)),
        }
        return wrong[lie] if peer == liar else msgspec.msgpack.encode(honest)

    world.answer = answer
    for _ in range(8):
        if await world.tick() is None:
            break
    assert world.transactions
    assert liar not in world.asked[-1]


async def test_what_a_share_is_not_blames_its_sender() -> None:
    with pytest.raises(Blame) as blame:
        share_of(3, b"\xc1")
    assert blame.value.culprits == {3}


async def test_a_batch_that_nobody_else_confirmed_does_not_stop_new_keys() -> None:
    world = World()
    world.record_ceremonies()
    world.helpers = set()
    world.keys.confirm_batch(1)
    for _ in range(4):
        assert isinstance(await world.tick(), RunTimeout)
        assert not world.made
    assert await world.tick() is None
    assert world.made == [(POOL, ceremonies.LARGEST_BATCH)]


async def test_such_a_batch_is_tried_again_later_and_the_next_one_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    world.record_ceremonies()
    world.helpers = set()
    world.keys.confirm_batch(1)
    for _ in range(4):
        await world.tick()
    world.helpers = {2, 3, 4}
    world.keys.confirm_batch(2)
    await world.tick()
    assert len(world.transactions) == 1
    later = time.monotonic() + module.LONGEST_PAUSE + 1
    world.view.registered = {int.from_bytes(id_of(public_key(2)), "big")}
    monkeypatch.setattr(module.time, "monotonic", lambda: later)
    await world.tick()
    assert len(world.transactions) == 2


@pytest.mark.parametrize("error", [Depleted([2]), ChainUnavailable("no chain")])
async def test_what_is_nobodys_fault_is_tried_again_without_end(error: Exception) -> None:
    world = World()
    world.record_ceremonies()
    world.keys.confirm_batch(1)
    world.failure = error
    for _ in range(20):
        assert await world.tick() is error
    world.failure = None
    assert await world.tick() is None
    assert len(world.transactions) == 1


async def test_too_few_linked_nodes_are_not_asked() -> None:
    world = World()
    world.keys.confirm_batch(1)
    world.down = {2, 3}
    error = await world.tick()
    assert isinstance(error, Abort)
    assert "too few" in str(error)
    assert not world.sent


async def test_a_batch_that_is_registered_but_not_finally_is_left_alone() -> None:
    world = World()
    world.record_ceremonies()
    world.keys.confirm_batch(1)
    world.view.registered = {int.from_bytes(id_of(public_key(1)), "big")}
    await world.minting._refill(world.membership, NETWORK_KEY)
    assert not world.transactions
    assert not world.made


async def test_only_the_leader_refills() -> None:
    world = World(me=2)
    world.record_ceremonies()
    world.keys.confirm_batch(1)
    assert await world.tick() is None
    assert not world.transactions
    assert not world.made


async def test_a_follower_helps_with_one_certification_at_a_time() -> None:
    world = World(me=4)
    batch = world.keys.confirm_batch(1)
    world.release.clear()
    for nonce in range(5):
        world.notice("certify/ask", Ask(7, [1, 2, 4], bytes([nonce]) * 16), reference=batch)
        await asyncio.sleep(0)
    world.release.set()
    await until(lambda: bool(world.sent))
    assert len(world.asked) == 1
    world.notice("certify/ask", Ask(7, [1, 2, 4], b"again" * 3), reference=batch)
    await until(lambda: len(world.sent) == 2)


@pytest.mark.parametrize(("case", "reason"), [
    ("unconfirmed", "did not confirm"), ("for the network", "did not confirm"), ("number", "not next"),
    ("no network key", "before the network key"),
])  # fmt: skip
async def test_a_follower_signs_nothing_but_the_next_batch_of_its_own(case: str, reason: str) -> None:
    world = World(me=4)
    batch = world.keys.confirm_batch(1, NETWORK if case == "for the network" else POOL)
    if case == "unconfirmed":
        world.keys.purposes.clear()
    if case == "no network key":
        world.view.key = None
    with pytest.raises(ValueError, match=reason):
        await world.minting.certification.sign_batch(batch, Ask(8 if case == "number" else 7, [1, 2, 4], b"n" * 16))
    assert not world.asked


# -- ceremonies -------------------------------------------------------------------------------------------------------


async def test_after_a_failed_ceremony_the_leader_waits_ever_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    world, clock = World(), [1000.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: clock[0])
    world.record_ceremonies(RunTimeout(frozenset({2})))
    times = []
    for _ in range(40):
        if await world.tick():
            times.append(clock[0] - 1000.0)
        clock[0] += 1.0
    assert times == [0, 1, 3, 7, 15, 31]
    clock[0] += module.LONGEST_PAUSE
    world.record_ceremonies()
    for _ in range(2):
        assert await world.tick() is None
    assert len(world.made) == 8


async def test_a_day_of_failing_ceremonies_leaves_less_behind_than_stops_key_making(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for restarts in (False, True):
        world, clock = World(), [1000.0]
        monkeypatch.setattr(module.time, "monotonic", lambda clock=clock: clock[0])
        world.record_ceremonies(RunTimeout(frozenset({2})))
        while clock[0] < 1000.0 + ceremonies.PENDING_SECONDS:
            if await world.tick() is not None:
                world.keys.leftovers += 1
            if restarts:
                world.minting._failures = 0
            clock[0] += 5.0
        assert 40 < world.keys.leftovers < ceremonies.PENDING_LIMIT


@pytest.mark.parametrize("refusal", [StoreFailed("disk I/O error"), StoreFull("1 MiB free")])
async def test_a_node_that_cannot_write_takes_no_part_and_leaves_nothing_behind(refusal: Exception) -> None:
    follower, leader = World(me=4), World()
    follower.keys.refusal = leader.keys.refusal = refusal
    follower.notice("dkg/propose", Proposal(POOL, 4, 1))
    assert not await accepted(follower)
    assert await leader.tick() is refusal
    assert not leader.sent


async def test_a_full_pool_or_a_missing_node_means_no_ceremony() -> None:
    world = World()
    world.record_ceremonies()
    world.view.answers["poolSize"] = 5
    await world.tick()
    world.view.answers["poolSize"], world.down = 4, {3}
    await world.tick()
    assert not world.made
    world.down = set()
    await world.tick()
    assert world.made == [(POOL, ceremonies.LARGEST_BATCH)]


async def accepted(world: World) -> list[bytes]:
    for _ in range(5):
        await asyncio.sleep(0.01)
    return [payload for _, topic, payload in world.sent if topic == "dkg/accept"]


async def test_no_two_ceremonies_share_a_nonce() -> None:
    follower = World(me=4)
    for reference in (b"1" * 16, b"2" * 16):
        follower.notice("dkg/propose", Proposal(POOL, 4, 1), reference=reference)
        await accepted(follower)
    answers = await accepted(follower)
    assert len(answers) == len(set(answers)) == 2
    assert all(len(nonce) == 32 for nonce in answers)

    leader = World()
    started: list[dict[int, bytes]] = []

    async def hold(reference: bytes, proposal: Proposal, nonces: dict[int, bytes]) -> None:
        started.append(nonces)

    async def gather(*_: object) -> dict[int, bytes]:
        return {j: bytes([j]) * 32 for j in (2, 3, 4)}

    leader.minting.ceremonies._hold = hold  # type: ignore[method-assign]
    leader.minting.shop.gatherings.gather = gather  # type: ignore[assignment]
    for _ in range(2):
        await leader.minting.ceremonies.lead(POOL, 4)
    first, second = (nonces[1] for nonces in started)
    assert first != second
    assert first != answers[0]


async def test_leftovers_of_a_day_are_bounded() -> None:
    for leftovers, answers in ((ceremonies.PENDING_LIMIT - 1, 1), (ceremonies.PENDING_LIMIT, 0)):
        world = World(me=4)
        world.keys.leftovers = leftovers
        world.notice("dkg/propose", Proposal(POOL, 4, 1))
        assert len(await accepted(world)) == answers


async def test_many_proposals_while_a_link_is_down_wait_as_one() -> None:
    world = World(me=4)
    world.down = {3}
    for number in range(50):
        world.notice("dkg/propose", Proposal(POOL, 4, 1), reference=bytes([number]) * 16)
        await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert len(world.minting.shop.tasks) == 1
    world.down = set()
    await until(lambda: bool(world.sent))
    await asyncio.sleep(0.05)
    assert [topic for _, topic, _ in world.sent] == ["dkg/accept"]


@pytest.mark.parametrize("change", ["proposal", "own nonce", "a party too few", "a party too many", "twice"])
async def test_a_follower_joins_only_what_it_accepted(change: str) -> None:
    world = World(me=4)
    held: list[Start] = []

    async def hold(reference: bytes, proposal: Proposal, nonces: dict[int, bytes]) -> None:
        held.append(Start(proposal, nonces))

    world.minting.ceremonies._hold = hold  # type: ignore[method-assign]
    proposal = Proposal(POOL, 4, 1)
    world.notice("dkg/propose", proposal)
    (own,) = await accepted(world)
    nonces = {1: b"1" * 32, 2: b"2" * 32, 3: b"3" * 32, 4: own}
    good = Start(proposal, nonces)
    bad = {
        "proposal": Start(Proposal(POOL, 5, 1), nonces),
        "own nonce": Start(proposal, nonces | {4: b"4" * 32}),
        "a party too few": Start(proposal, {j: nonce for j, nonce in nonces.items() if j != 2}),
        "a party too many": Start(proposal, nonces | {5: b"5" * 32}),
    }
    if change == "twice":
        world.notice("dkg/start", good)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert held == [good]
    world.notice("dkg/start", bad.get(change, good))
    await asyncio.sleep(0.01)
    assert held == ([good] if change == "twice" else [])


async def test_a_new_ceremony_ends_the_last_and_waits_for_what_cannot_be_ended() -> None:
    world = World(me=4)
    running: list[bytes] = []
    most = 0
    release = asyncio.Event()

    async def work(reference: bytes, proposal: Proposal, nonces: dict[int, bytes]) -> None:
        nonlocal most
        running.append(reference)
        most = max(most, len(running))
        try:
            await asyncio.sleep(60)
        finally:
            with contextlib.suppress(asyncio.CancelledError):
                await release.wait()  # a thread, which cannot be stopped
            running.remove(reference)

    world.minting.ceremonies._generate_and_confirm = work  # type: ignore[method-assign]
    proposal = Proposal(POOL, 4, 1)
    for number in range(4):
        reference = bytes([number]) * 16
        world.sent.clear()
        world.notice("dkg/propose", proposal, reference=reference)
        (own,) = await accepted(world)
        nonces = {1: b"1" * 32, 2: b"2" * 32, 3: b"3" * 32, 4: own}
        world.notice("dkg/start", Start(proposal, nonces), reference=reference)
        await asyncio.sleep(0.01)
    release.set()
    await until(lambda: running == [bytes([3]) * 16])
    assert most == 1
    for task in list(world.minting.shop.tasks):
        task.cancel()
    await asyncio.gather(*world.minting.shop.tasks, return_exceptions=True)


async def test_strangers_are_not_heard() -> None:
    world = World(me=4)
    world.notice("dkg/propose", Proposal(POOL, 4, 1), peer=9)
    assert not await accepted(world)


# -- genesis ----------------------------------------------------------------------------------------------------------


async def test_a_node_votes_for_its_newest_confirmed_network_key_once() -> None:
    world = World(me=2)
    world.view.key = None
    for number in (1, 2):
        world.keys.confirm_batch(number, NETWORK)
    await world.tick()
    assert len(world.transactions) == 1
    assert public_key(2)[1:] in world.transactions[0]
    world.view.answers["networkKeyVote"] = int.from_bytes(id_of(public_key(2)), "big")
    await world.tick()
    assert len(world.transactions) == 1


async def test_a_vote_that_is_complete_but_not_final_is_waited_for() -> None:
    world = World()
    world.record_ceremonies()
    world.view.key = None
    world.view.newest["networkKey"] = public_key(1)
    world.keys.confirm_batch(2, NETWORK)
    assert await world.tick() is None
    assert not world.transactions
    assert not world.made


async def test_another_candidate_is_made_ever_more_seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    world, clock = World(), [1000.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: clock[0])
    world.view.key = None
    world.record_ceremonies()
    for candidates, pause in ((0, 1), (1, 1), (2, 2), (3, 3)):
        world.keys.pending = {bytes([k]) * 32: [public_key(k)] for k in range(candidates)}
        world.keys.purposes = dict.fromkeys(world.keys.pending, NETWORK)
        made = len(world.made)
        clock[0] = world.minting._genesis_at + pause * module.GENESIS_RETRY_SECONDS - 1
        await world.tick()
        assert len(world.made) == made
        clock[0] += 2
        await world.tick()
        assert len(world.made) == made + 1


async def test_a_registered_batch_turns_active_and_the_network_key_by_itself() -> None:
    world = World(me=2)
    world.keys.pending = {b"1" * 32: [public_key(1), public_key(2)], b"2" * 32: [public_key(3)]}
    world.keys.pending[b"3" * 32] = [NETWORK_KEY.to_bytes()]
    world.view.registered = {int.from_bytes(id_of(public_key(1)), "big")}
    await world.tick()
    assert set(world.keys.active) == {id_of(key) for key in (public_key(1), public_key(2), NETWORK_KEY.to_bytes())}


async def test_batches_on_the_chain_that_are_not_here_are_counted() -> None:
    world = World(me=2)
    assert world.minting.shop.missing is None
    await world.tick()
    # Six batches came before the next, the seventh, and the network key is one of its own.
    assert (world.minting.shop.registered, world.minting.shop.missing) == (7, 0)
    world.keys.stored = 4
    await world.tick()
    assert world.minting.shop.missing == 3
    world.keys.stored = 9
    await world.tick()
    assert world.minting.shop.missing == 0


# -- gathering --------------------------------------------------------------------------------------------------------


async def test_answers_are_gathered_once_each_and_from_those_who_were_asked() -> None:
    gatherings = Gatherings(lambda *_: True)
    work = asyncio.create_task(gatherings.gather("topic", REFERENCE, [2, 3], "ask", b""))
    await asyncio.sleep(0)
    assert not gatherings.take(2, "topic", b"other" * 3, b"x")
    for peer, answer in ((4, b"stranger"), (2, b"first"), (2, b"second"), (3, b"third")):
        assert gatherings.take(peer, "topic", REFERENCE, answer)
    assert await work == {2: b"first", 3: b"third"}
    assert not gatherings.take(2, "topic", REFERENCE, b"late")


async def test_who_does_not_answer_or_is_not_linked_is_named() -> None:
    gatherings = Gatherings(lambda peer, *_: peer != 3)
    with pytest.raises(PeerUnreachable) as unreachable:
        await gatherings.gather("topic", REFERENCE, [2, 3], "ask", b"")
    assert unreachable.value.parties == {3}
    work = asyncio.create_task(gatherings.gather("topic", REFERENCE, [2, 4], "ask", b""))
    await asyncio.sleep(0)
    gatherings.take(2, "topic", REFERENCE, b"here")
    with pytest.raises(RunTimeout) as silent:
        await work
    assert silent.value.silent == {4}
