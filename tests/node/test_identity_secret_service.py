"""How a node gets the identity secret from its peers: who is asked, who is answered, and what a cheat achieves."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from dealer import deal_key
from keyquorum.algebra.curve import Point
from keyquorum.algebra.rng import SeededRng
from keyquorum.node.keymaking.identity_secret import (
    ANSWER_SECONDS,
    ANSWERS,
    ASK,
    ASK_AGAIN_SECONDS,
    PART,
    IdentitySecret,
)
from keyquorum.node.storage.keys import id_of
from keyquorum.node.storage.store import ShareUnknown
from keyquorum.protocols.identity_secret import combine, conceal, partial
from keyquorum.refusal import Invalid
from rosters import roster

SHARES = deal_key(4, 3, "network")
NETWORK_KEY = SHARES[1].public_key
SECRET = combine([partial(SHARES[j], SeededRng("r")) for j in (2, 3, 4)], 3)
MEMBERSHIP: Any = SimpleNamespace(members=dict.fromkeys((1, 2, 3, 4)))


class Net:
    """Four nodes and their links; `change` is what a cheat does to a notice, None to lose it."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.down: set[frozenset[int]] = set()
        self.without_share: set[int] = set()
        self.sent: list[tuple[int, int, str]] = []
        self.change: Callable[[int, int, str, bytes], bytes | None] = lambda sender, to, topic, payload: payload
        self.nodes = {j: self.node(j) for j in SHARES}
        self.flying: list[tuple[int, int, str, bytes, bytes]] = []

    def node(self, me: int) -> IdentitySecret:
        def load(key_id: bytes) -> Any:
            assert key_id == id_of(NETWORK_KEY.to_bytes())
            if me in self.without_share:
                raise ShareUnknown("not yet")
            return SHARES[me]

        def notify(peer: int, topic: str, reference: bytes, payload: bytes) -> bool:
            self.sent.append((me, peer, topic))
            changed = self.change(me, peer, topic, payload)
            if changed is not None:
                self.flying.append((me, peer, topic, reference, changed))
            return True

        def up(peer: int) -> bool:
            return frozenset({me, peer}) not in self.down

        keys: Any = SimpleNamespace(load=load)
        rng: Any = SeededRng(f"node {me}")
        return IdentitySecret(roster(me), keys, notify, up, rng, lambda: self.now)

    def deliver(self) -> None:
        while self.flying:
            sender, to, topic, reference, payload = self.flying.pop(0)
            assert self.nodes[to].on_notice(sender, topic, reference, payload)

    def tick(self, key: Point | None = NETWORK_KEY) -> None:
        self.now += ASK_AGAIN_SECONDS
        for node in self.nodes.values():
            node.tick(key)
        self.deliver()

    @property
    def ready(self) -> set[int]:
        return {j for j, node in self.nodes.items() if node.ready}


def asks(net: Net, by: int) -> int:
    return sum(sender == by and topic == ASK for sender, _, topic in net.sent)


def test_all_nodes_find_the_same_secret_and_name_people_alike() -> None:
    net = Net()
    net.tick()
    net.tick()
    assert net.ready == {1, 2, 3, 4}
    assert {node.conceal(20, b"ada@example.org") for node in net.nodes.values()} == {
        conceal(SECRET, 20, b"ada@example.org")
    }


def test_until_then_the_logins_that_need_it_are_asked_to_wait() -> None:
    net = Net()
    with pytest.raises(Invalid) as refused:
        net.nodes[1].conceal(20, b"ada@example.org")
    assert (refused.value.code, refused.value.status) == ("not_ready", 503)


def test_nothing_is_asked_before_there_is_a_network_key_and_an_own_share() -> None:
    net = Net()
    net.tick(None)
    net.without_share = {1}
    net.nodes[1].tick(NETWORK_KEY)
    net.nodes[1].link_up(2)
    assert not net.sent
    net.without_share = set()
    net.tick()
    net.tick()
    assert 1 in net.ready


def test_with_too_few_links_it_waits_and_a_new_link_completes_it() -> None:
    net = Net()
    net.tick()
    fresh = net.nodes[1] = net.node(1)
    net.down = {frozenset({1, 3}), frozenset({1, 4})}
    net.tick()
    assert not fresh.ready
    net.down = {frozenset({1, 4})}
    fresh.link_up(3)
    net.deliver()
    assert fresh.ready


@pytest.mark.parametrize("cheat", [2, 3, 4])
@pytest.mark.parametrize("lie", ["nonsense", "nothing", "another key's part", "another party's part", "a bit", "long"])
def test_a_cheats_part_is_refused_and_named_and_the_others_suffice(cheat: int, lie: str) -> None:
    net = Net()
    blamed: list[int] = []
    net.nodes[1].blame = blamed.append
    other = next(j for j in (2, 3, 4) if j != cheat)

    def change(sender: int, to: int, topic: str, payload: bytes) -> bytes | None:
        if sender != cheat or topic != PART:
            return payload
        return {
            "nonsense": b"\x04" * len(payload),
            "nothing": b"",
            "another key's part": partial(deal_key(4, 3, "other")[cheat], SeededRng("r")).to_bytes(),
            "another party's part": partial(SHARES[other], SeededRng("r")).to_bytes(),
            "a bit": payload[:-1] + bytes([payload[-1] ^ 1]),
            "long": payload + b"\0",
        }[lie]

    net.change = change
    for _ in range(4):
        net.tick()
    assert net.ready >= {1, 2, 3, 4} - {cheat}
    assert {node.conceal(6, b"n") for node in net.nodes.values() if node.ready} == {conceal(SECRET, 6, b"n")}
    honest = [node for j, node in net.nodes.items() if j != cheat]
    assert all(node.refused <= {cheat} for node in honest)
    assert set(blamed) == net.nodes[1].refused


def test_a_part_is_taken_only_as_the_first_answer_to_the_own_question() -> None:
    net = Net()
    node = net.nodes[1]
    good = {j: partial(SHARES[j], SeededRng("r")).to_bytes() for j in (2, 3)}
    net.change = lambda sender, to, topic, payload: None
    node.tick(NETWORK_KEY)
    for reference in (b"", b"x" * 16, b"x" * 15):
        for j, data in good.items():
            node.on_notice(j, PART, reference, data)
    assert not node.ready
    assert not node._parts
    reference = node._asked[2][0]
    node.on_notice(3, PART, reference, good[3])  # the question to another
    assert not node._parts
    node.on_notice(2, PART, reference, b"wrong")
    node.on_notice(2, PART, reference, good[2])  # a second answer
    assert not node._parts
    assert node.refused == {2}


def test_strangers_get_no_answer_and_are_not_believed() -> None:
    net = Net()
    net.tick()
    net.sent.clear()
    assert net.nodes[1].on_notice(9, ASK, b"r" * 16, b"")
    assert net.nodes[1].on_notice(2, ASK, b"short", b"")
    assert not net.sent
    assert not net.nodes[1].on_notice(2, "dkg/propose", b"r" * 16, b"")


def test_one_peer_is_answered_a_few_times_and_then_now_and_then() -> None:
    net = Net()
    net.tick()
    net.sent.clear()
    for number in range(1000):
        net.nodes[1].on_notice(2, ASK, bytes([number % 256]) * 16, b"")
    assert len(net.sent) <= ANSWERS
    net.now += ANSWER_SECONDS
    net.sent.clear()
    for _ in range(1000):
        net.nodes[1].on_notice(2, ASK, b"r" * 16, b"")
    assert len(net.sent) == ANSWERS


def test_a_silent_peer_is_asked_again_only_after_a_pause() -> None:
    net = Net()
    net.change = lambda sender, to, topic, payload: None
    for _ in range(50):
        net.nodes[1].tick(NETWORK_KEY)
    assert asks(net, 1) == 3
    net.now += ASK_AGAIN_SECONDS
    net.nodes[1].tick(NETWORK_KEY)
    assert asks(net, 1) == 6


def test_who_has_the_secret_asks_nobody_and_still_answers() -> None:
    net = Net()
    net.tick()
    net.tick()
    net.sent.clear()
    net.nodes[1].tick(NETWORK_KEY)
    net.nodes[1].link_up(2)
    assert not net.sent
    net.nodes[1].on_notice(2, ASK, b"r" * 16, b"")
    assert net.sent == [(1, 2, PART)]
