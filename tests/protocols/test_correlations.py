"""The pool: names, one use, refusals, and threads."""

from __future__ import annotations

import threading

import pytest

from dealer import DealtReceiverBatch, DealtSenderBatch, deal_batch, deal_inventories, link_of
from keyquorum.algebra.field import Q
from keyquorum.algebra.rng import SeededRng
from keyquorum.protocols.correlations import Depleted, Inventory, Name
from keyquorum.rounds.errors import Blame

LINK, OTHER = b"L" * 16, b"M" * 16


def filled(size: int = 4, batch: int = 0) -> tuple[Inventory, Inventory]:
    """Party 1 (sender) and party 2 (receiver) with one batch."""
    a, b = deal_batch(SeededRng("pool"), batch, size)
    sender, receiver = Inventory(), Inventory()
    receiver.add_receiver(1, LINK, b)
    sender.add_sender(2, LINK, a)
    return sender, receiver


def test_what_the_sender_names_the_receiver_holds_and_they_multiply() -> None:
    sender, receiver = filled()
    reserved = sender.reserve(2, 3)
    halves = receiver.take(1, [name for name, _ in reserved])
    for (_, mine), theirs in zip(reserved, halves, strict=True):
        assert (mine.c_u + theirs.d_u - mine.a_u * theirs.chi) % Q == 0
        assert (mine.c_v + theirs.d_v - mine.a_v * theirs.chi) % Q == 0
    assert sender.available(2) == (1, 0)
    assert receiver.available(1) == (0, 1)


def test_names_make_the_round_trip() -> None:
    name = Name(LINK, 1 << 40, 63)
    assert Name.from_bytes(name.to_bytes()) == name
    assert len(name.to_bytes()) == 28
    with pytest.raises(ValueError, match="28 bytes"):
        Name.from_bytes(bytes(27))


def test_the_oldest_are_used_first_and_none_twice() -> None:
    sender, _ = filled()
    names = [name for _ in range(4) for name, _ in sender.reserve(2, 1)]
    assert names == [Name(LINK, 0, k) for k in range(4)]
    with pytest.raises(Depleted) as caught:
        sender.reserve(2, 1)
    assert caught.value.peers == {2}


def test_reserving_with_several_peers_takes_all_or_nothing() -> None:
    inventories = deal_inventories((1, 2, 3), 2)
    mine = inventories[1]
    mine.reserve(3, 1)
    with pytest.raises(Depleted) as caught:
        mine.reserve_each((2, 3), 2)
    assert caught.value.peers == {3}
    assert (mine.available(2)[0], mine.available(3)[0]) == (2, 1)
    with pytest.raises(Depleted) as caught:
        mine.reserve_each((2, 9), 1)
    assert caught.value.peers == {9}


@pytest.mark.parametrize(
    "names",
    [
        [Name(OTHER, 0, 0)],
        [Name(LINK, 1, 0)],
        [Name(LINK, 0, 4)],
        [Name(LINK, 0, 1), Name(LINK, 0, 1)],
    ],
)
def test_unknown_and_repeated_names_blame_who_named_them(names: list[Name]) -> None:
    _, receiver = filled()
    with pytest.raises(Blame) as caught:
        receiver.take(1, names)
    assert caught.value.culprits == {1}
    assert caught.value.burn is None


def test_a_spent_name_is_refused() -> None:
    _, receiver = filled()
    receiver.take(1, [Name(LINK, 0, 2)])
    with pytest.raises(Blame, match="unknown or spent"):
        receiver.take(1, [Name(LINK, 0, 2)])


def test_a_name_looked_at_in_vain_is_spent_too() -> None:
    _, receiver = filled()
    with pytest.raises(Blame) as caught:
        receiver.take(1, [Name(LINK, 0, 0), Name(LINK, 0, 99)])
    assert caught.value.rows == (1,)
    assert receiver.available(1) == (0, 3)


def test_another_peers_correlation_is_refused() -> None:
    inventories = deal_inventories((1, 2, 3), 2)
    with pytest.raises(Blame) as caught:
        inventories[2].take(3, [Name(link_of(1, 2), 0, 0)])
    assert caught.value.culprits == {3}
    assert inventories[2].available(1) == (2, 2)


def test_the_other_direction_of_the_pair_is_refused() -> None:
    inventories = deal_inventories((1, 2), 2)
    with pytest.raises(Blame):
        inventories[2].take(1, [Name(link_of(2, 1), 0, 0)])


def test_all_culprits_are_named_together() -> None:
    inventories = deal_inventories((1, 2, 3, 4), 2)
    named = {j: [Name(link_of(j, 1), 0 if j == 3 else 7, 0)] for j in (2, 3, 4)}
    with pytest.raises(Blame) as caught:
        inventories[1].take_each(named)
    assert caught.value.culprits == {2, 4}


@pytest.mark.parametrize("number", [0, 5])
def test_a_batch_number_never_comes_back(number: int) -> None:
    sender, receiver = filled(batch=5)
    a, b = deal_batch(SeededRng("again"), number, 2)
    with pytest.raises(ValueError, match="does not grow"):
        sender.add_sender(2, LINK, a)
    with pytest.raises(ValueError, match="does not grow"):
        receiver.add_receiver(1, LINK, b)
    assert sender.available(2) == (4, 0)
    assert receiver.available(1) == (0, 4)


def test_a_batch_number_belongs_to_link_peer_and_direction() -> None:
    sender, _ = filled(batch=5)
    a, b = deal_batch(SeededRng("again"), 5, 2)
    sender.add_sender(2, OTHER, a)
    sender.add_sender(3, LINK, a)
    sender.add_receiver(2, LINK, b)
    assert sender.available(2) == (6, 2)


@pytest.mark.parametrize("batch", [-1, 1 << 64])
def test_a_batch_number_has_eight_bytes(batch: int) -> None:
    with pytest.raises(ValueError, match="grow"):
        Inventory().add_sender(2, LINK, DealtSenderBatch(batch))


@pytest.mark.parametrize("link", [b"", b"L" * 15, b"L" * 17])
def test_a_link_id_has_16_bytes(link: bytes) -> None:
    with pytest.raises(ValueError, match="link"):
        Inventory().add_receiver(2, link, DealtReceiverBatch(0))


def test_columns_of_different_length_are_refused() -> None:
    with pytest.raises(ValueError, match="zip"):
        Inventory().add_sender(2, LINK, DealtSenderBatch(0, [1], [1], [1], []))
    with pytest.raises(ValueError, match="zip"):
        Inventory().add_receiver(2, LINK, DealtReceiverBatch(0, [1], [1], []))


def test_a_dropped_link_is_empty_and_stays_so() -> None:
    sender, receiver = filled()
    sender.drop_link(2, LINK, "sender")
    receiver.drop_link(1, LINK, "receiver")
    assert sender.available(2) == receiver.available(1) == (0, 0)
    a, b = deal_batch(SeededRng("late"), 9, 2)
    with pytest.raises(ValueError, match="dropped"):
        sender.add_sender(2, LINK, a)
    with pytest.raises(ValueError, match="dropped"):
        receiver.add_receiver(1, LINK, b)
    with pytest.raises(Blame):
        receiver.take(1, [Name(LINK, 0, 0)])


def test_dropping_hits_one_link_and_one_direction() -> None:
    inventories = deal_inventories((1, 2), 2)
    mine = inventories[1]
    mine.add_sender(2, OTHER, deal_batch(SeededRng("x"), 0, 3)[0])
    mine.drop_link(2, link_of(1, 2), "sender")
    assert mine.available(2) == (3, 2)
    mine.drop_link(9, LINK, "receiver")
    assert mine.available(2) == (3, 2)


def test_a_dropped_batch_takes_only_itself() -> None:
    sender, receiver = filled()
    a, b = deal_batch(SeededRng("next"), 1, 3)
    sender.add_sender(2, LINK, a)
    receiver.add_receiver(1, LINK, b)
    sender.drop_batch(2, LINK, 0, "sender")
    receiver.drop_batch(1, LINK, 0, "receiver")
    assert (sender.available(2), receiver.available(1)) == ((3, 0), (0, 3))
    assert sender.reserve(2, 1)[0][0] == Name(LINK, 1, 0)


def second(sender: Inventory, receiver: Inventory, batch: int = 1, size: int = 2) -> None:
    """Add one more batch to both sides."""
    a, b = deal_batch(SeededRng("second"), batch, size)
    receiver.add_receiver(1, LINK, b)
    sender.add_sender(2, LINK, a)


def test_the_cursor_is_the_oldest_name_or_the_place_of_the_next() -> None:
    assert Inventory().cursor(2, LINK) == (0, 0)
    sender, receiver = filled()
    assert sender.cursor(2, LINK) == (0, 0)
    sender.reserve(2, 3)
    assert sender.cursor(2, LINK) == (0, 3)
    sender.reserve(2, 1)
    assert sender.cursor(2, LINK) == (1, 0)
    second(sender, receiver, batch=7)
    assert sender.cursor(2, LINK) == (7, 0)
    assert sender.cursor(2, OTHER) == sender.cursor(3, LINK) == (0, 0)


def test_from_the_cursor_on_both_sides_count_the_same() -> None:
    sender, receiver = filled()
    second(sender, receiver)
    for count in (1, 2, 2, 1):
        sender.reserve(2, count)
        receiver.set_aside(1, LINK, sender.cursor(2, LINK))
        assert receiver.available(1)[1] == sender.available(2)[0]
    assert receiver.held(1) == 6


def test_what_is_set_aside_does_not_count_but_can_be_taken_once() -> None:
    sender, receiver = filled()
    (name, mine), *_ = sender.reserve(2, 1)
    assert receiver.set_aside(1, LINK, (0, 2)) == 2
    assert (receiver.available(1), receiver.held(1)) == ((0, 2), 4)
    (half,) = receiver.take(1, [name])
    assert (mine.c_u + half.d_u - mine.a_u * half.chi) % Q == 0
    assert receiver.held(1) == 3
    with pytest.raises(Blame, match="unknown or spent"):
        receiver.take(1, [name])


@pytest.mark.parametrize("cursor", [(1, 1), (2, 0)])
def test_a_cursor_beyond_the_newest_batch_is_refused(cursor: tuple[int, int]) -> None:
    _, receiver = filled()
    with pytest.raises(ValueError, match="beyond"):
        receiver.set_aside(1, LINK, cursor)
    assert receiver.available(1) == (0, 4)
    assert receiver.set_aside(1, LINK, (1, 0)) == 4


def test_only_what_was_set_aside_before_the_cursor_is_erased() -> None:
    sender, receiver = filled()
    second(sender, receiver)
    receiver.set_aside(1, LINK, (0, 3))
    assert receiver.retire(1, LINK, (0, 2)) == 2
    assert receiver.retire(1, LINK, (1, 2)) == 1
    assert (receiver.available(1), receiver.held(1)) == ((0, 3), 3)
    for gone in range(3):
        with pytest.raises(Blame, match="unknown or spent"):
            receiver.take(1, [Name(LINK, 0, gone)])
    assert len(receiver.take(1, [Name(LINK, 0, 3), Name(LINK, 1, 0), Name(LINK, 1, 1)])) == 3


def test_setting_aside_and_erasing_hit_one_peer_and_one_link() -> None:
    _, receiver = filled()
    for peer, link in ((1, OTHER), (3, LINK)):
        receiver.add_receiver(peer, link, deal_batch(SeededRng("more"), 0, 4)[1])
    receiver.add_sender(1, LINK, deal_batch(SeededRng("other way"), 0, 4)[0])
    receiver.set_aside(1, LINK, (1, 0))
    receiver.set_aside(1, OTHER, (0, 1))
    receiver.set_aside(3, LINK, (0, 1))
    assert (receiver.available(1), receiver.available(3)) == ((4, 3), (0, 3))
    assert receiver.retire(1, LINK, (1, 0)) == 4
    assert (receiver.held(1), receiver.held(3)) == (4, 4)


def test_what_was_set_aside_is_dropped_with_its_link_and_batch() -> None:
    sender, receiver = filled()
    second(sender, receiver)
    receiver.set_aside(1, LINK, (1, 1))
    receiver.drop_batch(1, LINK, 1, "receiver")
    assert receiver.held(1) == 4
    receiver.drop_link(1, LINK, "receiver")
    assert receiver.held(1) == 0


def test_zero_seeds_are_kept_by_peer() -> None:
    inventory = Inventory()
    with pytest.raises(Depleted) as caught:
        inventory.zero_seed(2)
    assert caught.value.peers == {2}
    inventory.set_zero_seed(2, b"z" * 32)
    assert inventory.zero_seed(2) == b"z" * 32
    inventory.drop_zero_seed(2)
    with pytest.raises(Depleted):
        inventory.zero_seed(2)
    with pytest.raises(ValueError, match="32 bytes"):
        inventory.set_zero_seed(2, b"short")


def test_halves_do_not_print_their_values() -> None:
    sender, receiver = filled()
    (name, half), *_ = sender.reserve(2, 1)
    assert str(half.a_u) not in repr(half)
    assert str(receiver.take(1, [name])[0].chi) not in repr(receiver)


def test_threads_that_race_never_get_the_same_half_twice() -> None:
    sender, receiver = filled(2000)
    got: list[Name] = []
    taken: list[int] = []

    def reserve() -> None:
        for _ in range(250):
            got.extend(name for name, _ in sender.reserve(2, 1))

    def take(start: int) -> None:
        for position in range(start, 2000, 2):
            try:
                taken.extend(half.chi for half in receiver.take(1, [Name(LINK, 0, position)]))
            except Blame:
                continue

    threads = [threading.Thread(target=reserve) for _ in range(8)]
    threads += [threading.Thread(target=take, args=(k % 2,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(got)) == len(got) == 2000
    assert len(set(taken)) == len(taken) == 2000


def test_a_worker_adds_while_runs_take() -> None:
    sender, _ = filled(1)
    batches = [deal_batch(SeededRng(k), k, 4)[0] for k in range(1, 60)]
    worker = threading.Thread(target=lambda: [sender.add_sender(2, LINK, batch) for batch in batches])
    worker.start()
    names = []
    while worker.is_alive() or sender.available(2)[0]:
        try:
            names += [name for name, _ in sender.reserve(2, 1)]
        except Depleted:
            continue
    worker.join()
    assert len(set(names)) == len(names) == 1 + 4 * 59
