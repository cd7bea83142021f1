"""Which nodes are chosen: never a dead one, never the same failed set, and the same ones for the same request."""

from __future__ import annotations

from collections import Counter

from keyquorum.client.choice import SUSPICION_SECONDS, NodeBook

PARTIES = list(range(1, 8))


def test_a_choice_is_t_different_parties_in_ascending_order() -> None:
    chosen = NodeBook().choose(PARTIES, 5, "request")
    assert len(chosen) == len(set(chosen)) == 5
    assert list(chosen) == sorted(chosen)


def test_the_same_request_finds_the_same_nodes_from_any_client() -> None:
    assert NodeBook().choose(PARTIES, 5, "request") == NodeBook().choose(PARTIES[::-1], 5, "request")


def test_different_requests_spread_over_all_nodes() -> None:
    book = NodeBook()
    count = Counter(party for number in range(200) for party in book.choose(PARTIES, 5, f"{number}"))
    assert min(count.values()) > 100


def test_down_nodes_are_chosen_only_when_there_are_not_enough_others() -> None:
    book = NodeBook()
    book.down(1)
    book.down(2)
    assert book.choose(PARTIES, 5, "x") == (3, 4, 5, 6, 7)
    book.down(3)
    assert set(book.choose(PARTIES, 5, "x")) > {4, 5, 6, 7}


def test_a_node_that_is_up_again_counts_as_new() -> None:
    book = NodeBook()
    book.down(1)
    book.up(1)
    assert not book.is_down(1)


def test_suspects_are_left_out_and_suspicion_fades() -> None:
    now = [0.0]
    book = NodeBook(clock=lambda: now[0])
    book.suspect([1, 2])
    assert book.choose(PARTIES, 5, "x") == (3, 4, 5, 6, 7)
    now[0] = SUSPICION_SECONDS
    assert book.suspicion(1) == 0


def test_who_served_well_is_not_suspect_any_more() -> None:
    book = NodeBook()
    book.suspect([1])
    book.good([1])
    assert book.suspicion(1) == 0


def test_a_failed_set_is_not_chosen_again_until_all_failed() -> None:
    book, failed = NodeBook(), set()
    for _ in range(4):
        failed.add(frozenset(book.choose([1, 2, 3, 4], 3, "x", frozenset(failed))))
    assert len(failed) == 4
    assert len(book.choose([1, 2, 3, 4], 3, "x", frozenset(failed))) == 3


def test_one_hidden_liar_among_four_is_left_out_within_four_attempts() -> None:
    for liar in (1, 2, 3, 4):
        book, failed = NodeBook(), set()
        for _ in range(4):
            chosen = book.choose([1, 2, 3, 4], 3, "x", frozenset(failed))
            if liar not in chosen:
                break
            failed.add(frozenset(chosen))
            book.suspect(chosen)
        assert liar not in chosen


def test_a_hundred_nodes_are_chosen_from_quickly_whatever_failed() -> None:
    book, failed, parties = NodeBook(), set(), list(range(1, 101))
    for _ in range(8):
        chosen = book.choose(parties, 67, "x", frozenset(failed))
        assert frozenset(chosen) not in failed
        failed.add(frozenset(chosen))
