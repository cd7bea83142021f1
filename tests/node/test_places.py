"""Places for runs: what waits for its signers gives way, what they have joined stays."""

from __future__ import annotations

import pytest

from keyquorum.node.runs.places import SHARE, Full, Place, Places


def lost(places: list[Place]) -> list[int]:
    return [number for number, place in enumerate(places) if place.lost]


def test_a_flood_of_one_tenant_takes_its_own_places_away() -> None:
    places = Places(8)
    flood = [places.enter("flood") for _ in range(100)]
    assert lost(flood) == list(range(100 - 8 // SHARE))
    assert (len(places), places.joined, places.free) == (8 // SHARE, 0, 1.0)


def test_when_all_places_are_taken_the_tenant_with_most_loses_its_oldest() -> None:
    places = Places(8)
    few, many = [places.enter("few")], []
    for tenant in "abcd":
        many += [places.enter(tenant) for _ in range(2)]
    assert lost(few) == []
    assert lost(many) == [0]
    assert len(places) == 8


def test_a_run_that_all_signers_joined_is_never_ended() -> None:
    places = Places(4)
    joined = [places.enter(f"user {number}") for number in range(4)]
    for place in joined:
        place.join()
    assert places.free == 0
    with pytest.raises(Full):
        places.enter("late")
    joined[0].leave()
    waits = places.enter("late")
    places.enter("later")
    assert waits.lost
    assert not any(place.lost for place in joined)


def test_however_many_strangers_wait_an_honest_run_finds_a_place_and_keeps_it() -> None:
    places = Places(16)
    strangers = [places.enter(f"address {number % 5}") for number in range(1000)]
    honest = places.enter("honest")
    more = [places.enter(f"address {number % 5}") for number in range(len(strangers) // 100)]
    assert not honest.lost
    honest.join()
    more += [places.enter(f"address {number % 5}") for number in range(1000)]
    assert not honest.lost
    assert len(places) <= 16
    assert places.joined == 1


def test_the_nodes_own_runs_keep_their_places() -> None:
    places = Places(2)
    own = [places.enter("") for _ in range(2)]
    with pytest.raises(Full):
        places.enter("somebody")
    assert lost(own) == []


def test_who_loses_a_place_is_told_once_and_giving_it_back_changes_nothing() -> None:
    places, told = Places(1), []
    first = places.enter("a")
    first.on_lost = lambda: told.append("first")
    second = places.enter("b")
    assert told == ["first"]
    first.leave()
    assert len(places) == 1
    second.leave()
    second.leave()
    assert len(places) == 0
