"""What peers, providers and strangers can make a node do, wait for or hold at a time is bounded."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

import virtual_time
from keyquorum.node.chain import clocks
from keyquorum.node.chain.clocks import Clocks
from keyquorum.node.keymaking import minting
from keyquorum.node.keymaking.ceremonies import PENDING_LIMIT, Ceremonies
from keyquorum.node.keymaking.certification import Certification
from keyquorum.node.keymaking.minting import Minting
from keyquorum.node.keymaking.minting_notices import GATHER_SECONDS, Ask, Proposal, Start
from keyquorum.node.pairs import pools
from keyquorum.node.pairs.pools import Levels, Pools
from keyquorum.node.services import providers, quotas
from keyquorum.node.services.quotas import claim_of
from keyquorum.node.storage import store
from keyquorum.node.storage.store import Store, StoreFull
from keyquorum.node.storage.vault import KeySource
from rosters import roster

# ---- correlations ---------------------------------------------------------------------------------------------------


class Inventory:
    """What a node has of each peer: ready as sender and as receiver, and held in all."""

    def __init__(self) -> None:
        self.ready: dict[int, int] = {}
        self.all: dict[int, int] = {}

    def available(self, peer: int) -> tuple[int, int]:
        return self.ready[peer], self.ready[peer]

    def held(self, peer: int) -> int:
        return self.all[peer]


@pytest.fixture
def filling() -> Pools:
    """Pools of 20 empty links, before anything is asked."""
    inventory = Inventory()
    found = [SimpleNamespace(peer=peer, link_id=bytes([peer]) * 16) for peer in range(1, 21)]
    inventory.ready = {link.peer: 0 for link in found}
    inventory.all = {link.peer: 0 for link in found}
    links: Any = SimpleNamespace(inventory=inventory, on_ready=[], on_gone=[], all_ready=lambda: found)
    mesh: Any = SimpleNamespace(route=lambda *_: None)
    unused: Any = None
    made = Pools(mesh, links, Levels(low=2, high=4, batch=4), unused, unused)
    for link in found:
        made._ready(link)  # type: ignore[arg-type]
    return made


def test_so_many_batches_are_asked_for_at_a_time_and_the_emptiest_pools_come_first(filling: Pools) -> None:
    inventory: Any = filling._inventory
    inventory.ready |= {3: 1, 4: 1}
    chosen = [link.peer for link in filling._choose(0.0)]
    assert chosen == [1, 2, 5, 6][: pools.PENDING_AT_ONCE] and len(chosen) == pools.PENDING_AT_ONCE
    for peer in chosen:
        work = filling._work[bytes([peer]) * 16]
        work.asking, work.slot_until = True, pools.SLOT_SECONDS
    assert filling._choose(0.0) == []
    # Who does not answer holds up the others for no longer than this.
    again = [link.peer for link in filling._choose(pools.SLOT_SECONDS)]
    assert len(again) == pools.PENDING_AT_ONCE and not set(again) & set(chosen)


def test_of_a_peer_that_uses_none_up_only_so_many_are_held(filling: Pools) -> None:
    inventory: Any = filling._inventory
    inventory.all[1] = pools.HELD_AT_MOST * filling.levels.high
    assert 1 not in [link.peer for link in filling._choose(0.0)]
    inventory.all[1] -= 1
    assert 1 in [link.peer for link in filling._choose(0.0)]


def test_a_peer_that_refuses_is_asked_ever_more_seldom_up_to_a_bound(filling: Pools) -> None:
    filling.clock = lambda: 0.0
    link: Any = next(iter(filling._links.all_ready()))
    work = filling._work[link.link_id]
    filling._find = lambda peer, link_id: (link, work)  # type: ignore[method-assign]
    pauses = []
    for batch in range(12):
        work.asked = SimpleNamespace(batch=batch)  # type: ignore[assignment]
        refusal: Any = SimpleNamespace(link=link.link_id, batch=batch, payload=b"")
        filling._replied(1, refusal)
        pauses.append(work.not_before)
    assert pauses[:3] == [1.0, 2.0, 4.0] and pauses[0] == pools.FIRST_REFUSAL_PAUSE
    assert max(pauses) == pauses[-1] == pools.LONGEST_REFUSAL_PAUSE


def test_however_often_a_peer_reports_few_marks_are_kept(filling: Pools) -> None:
    link: Any = next(iter(filling._links.all_ready()))
    work = filling._work[link.link_id]
    filling._inventory.retire = lambda *_: 0  # type: ignore[method-assign]
    for step in range(1000):
        work.heard = (0, step + 1)
        filling._retire(link, work, step * pools.RETIRE_SECONDS / 1000)
    assert len(work.marks) <= pools.RETIRE_SECONDS / pools.MARK_SECONDS + 1


async def test_a_busy_node_lets_a_peer_wait_no_longer_than_this(
    filling: Pools, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr(pools.asyncio, "sleep", sleep)
    inventory: Any = filling._inventory
    inventory.ready[1] = filling.levels.low
    filling.pause_hint = lambda: True
    await filling._give_way(1)
    assert sum(slept) == pytest.approx(pools.LONGEST_PAUSE) and set(slept) == {pools.TICK}


# ---- keys -----------------------------------------------------------------------------------------------------------


def test_spoiled_ceremonies_leave_fewer_batches_behind_in_a_day_than_others_refuse() -> None:
    made = object.__new__(Minting)
    left = 0
    made.ceremonies = SimpleNamespace(leftovers=lambda: left)  # type: ignore[assignment]
    made._failures = 0
    assert made._pause() == 1.0
    day, ceremonies = 24 * 3600.0, 0
    while day > 0:
        day -= made._pause()
        ceremonies += 1
        made._failures += 1
    assert ceremonies < PENDING_LIMIT
    # A node that was started again counts what is on its disk, but for what may be on its way to the chain.
    made._failures, left = 0, minting.UNCERTIFIED
    assert made._pause() == 1.0
    left = minting.UNCERTIFIED + 3
    assert made._pause() == 8.0
    left = PENDING_LIMIT
    assert made._pause() == minting.CEREMONY_PAUSE


NOTICES = {
    "dkg/propose": Proposal("pool", 1, 1),
    "dkg/start": Start(Proposal("pool", 1, 1), {}),
    "certify/ask": Ask(1, [1, 2], b"n"),
}


@pytest.mark.parametrize("topic", NOTICES)
@pytest.mark.parametrize(("peer", "followed"), [(1, True), (3, False), (4, False)])
def test_only_the_node_with_the_lowest_number_is_followed(topic: str, peer: int, followed: bool) -> None:
    """Any other node could have this one make keys and certify without end, beside the one that leads."""
    done: list[int] = []
    work = SimpleNamespace(
        accept=lambda *_: done.append(peer), join=lambda *_: done.append(peer), help=lambda *_: done.append(peer)
    )
    gatherings = SimpleNamespace(take=lambda *_: False)
    made: Any = object.__new__(Minting)
    made.shop = SimpleNamespace(me=2, roster=roster(2, 3), gatherings=gatherings)
    made.ceremonies = made.certification = work
    made.on_notice(peer, topic, b"r" * 16, msgspec.msgpack.encode(NOTICES[topic]))
    assert done == [peer] * followed


@pytest.mark.parametrize("what", ["links", "chain"])
def test_who_follows_waits_for_links_and_chain_no_longer_than_the_leader(what: str) -> None:
    """A question that came while a node was cut off must not be worked at when nobody waits for it any more."""
    told: list[Any] = []

    async def nothing(*_: Any) -> None:
        assert asyncio.get_running_loop().time() < 60, "it waits for ever"

    async def whole() -> float:
        view = SimpleNamespace(refresh=nothing, network_key=nothing)
        shop: Any = SimpleNamespace(
            view=view, activate_registered=nothing, all_up=lambda _: False, notify=lambda *said: told.append(said)
        )
        unused: Any = None
        with pytest.raises(TimeoutError):
            if what == "links":
                await Ceremonies(shop, 1.0)._answer_when_linked(1, b"r", b"n", unused)
            else:
                await Certification(shop)._catch_up()
        return asyncio.get_running_loop().time()

    assert virtual_time.run(whole()) == pytest.approx(GATHER_SECONDS / 2) and not told


def test_nothing_is_begun_on_a_disk_with_little_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Store.create(tmp_path, KeySource("key-file", b"k" * 32))
    free = [store.ROOM]
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free[0]))
    made.check_room()
    free[0] -= 1
    with pytest.raises(StoreFull, match="MiB are free"):
        made.check_room()
    made.close()


# ---- who asks -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("proof", [{"message": "x" * 5000 + "\n" + "y" * 5000}, {"message": "a\n" + "y" * 5000}])
def test_whom_a_message_claims_to_be_is_no_longer_than_an_address(proof: dict[str, str]) -> None:
    assert len(claim_of("siwe", proof)) <= len("siwe/") + quotas._ADDRESS_CHARACTERS


def test_a_tenants_own_part_of_the_reserve_comes_back_at_its_rate() -> None:
    from keyquorum.node.settings.config import QuotasSection

    made = quotas.Quotas(QuotasSection())
    assert made._allowances.capacity == quotas.ALLOWANCE
    for _ in range(int(quotas.ALLOWANCE)):
        assert made._take_allowance(("somebody",))
    assert not made._take_allowance(("somebody",)) and made._take_allowance(("another",))
    assert 0 < made._allowances.wait("somebody") <= 1 / quotas.ALLOWANCE_PER_SECOND


# ---- what others say ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("", providers.LEAST_KEPT),
        ("max-age=0", providers.LEAST_KEPT),
        (f"max-age={int(providers.LEAST_KEPT) + 1}", providers.LEAST_KEPT + 1),
        (f"public, max-age={int(providers.LONGEST_KEPT)}", providers.LONGEST_KEPT),
        ("max-age=999999999", providers.LONGEST_KEPT),
        ("max-age=-5", providers.LEAST_KEPT),
    ],
)
def test_a_provider_says_how_long_its_keys_are_kept_within_bounds(said: str, kept: float) -> None:
    assert providers._lifetime(said) == kept


def test_a_stranger_has_a_provider_asked_past_the_cache_once_in_a_while() -> None:
    now = [0.0]
    made = providers.Providers([], lambda: now[0])
    assert made._may_renew("a") and made._may_renew("b") and not made._may_renew("a")
    now[0] = providers.NEWER_EVERY - 0.1
    assert not made._may_renew("a")
    now[0] = providers.NEWER_EVERY
    assert made._may_renew("a")


@pytest.mark.parametrize(("step", "heard"), [(clocks._STEP_SECONDS, True), (clocks._STEP_SECONDS + 0.1, False)])
def test_what_was_heard_counts_until_this_clock_is_set(step: float, heard: bool) -> None:
    now, steady = [1000.0], [0.0]
    made = Clocks(lambda: now[0], lambda: steady[0])
    for peer in (1, 2):
        made.hear(peer, int((now[0] + 60) * 1000).to_bytes(8, "big"))
    assert made.offset() == 60
    now[0] += step
    made.due()
    assert bool(made.offset()) is heard
