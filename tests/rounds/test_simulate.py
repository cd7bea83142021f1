"""The simulator: same seed, same run; every run ends; faults never give a wrong result."""

from __future__ import annotations

from dataclasses import replace

import pytest

from keyquorum.rounds.errors import Blame
from keyquorum.rounds.simulate import simulate
from rounds.toss import mixed, tossing


@pytest.mark.parametrize("protocol", [tossing, lambda n: tossing(n, mixed)])
def test_any_order_and_any_repetition_give_the_same_result(protocol) -> None:
    results = set()
    for seed in range(150):
        outcome = simulate(protocol(4), seed, duplicates=8)
        assert sorted(outcome.results) == [1, 2, 3, 4]
        assert not outcome.errors
        results |= set(outcome.results.values())
    assert len(results) == 1


def test_the_same_seed_gives_the_same_run() -> None:
    def trace(seed: int) -> list:
        seen = []

        def watch(envelope, to):
            seen.append((envelope, to))
            return [envelope]

        simulate(tossing(), seed, duplicates=3, tamper=watch)
        return seen

    assert trace(1) == trace(1)
    assert len({tuple(trace(seed)) for seed in range(10)}) > 1


def test_faults_happen_within_their_budget() -> None:
    """Twelve messages in a toss of three; three may come twice, two not at all."""
    assert simulate(tossing(), 0).delivered == 12
    twice = [simulate(tossing(), seed, duplicates=3).delivered for seed in range(30)]
    assert max(twice) == 15
    assert len(set(twice)) > 1
    lost = [simulate(tossing(), seed, losses=2).lost for seed in range(30)]
    assert set(lost) == {0, 1, 2}


def test_lost_messages_leave_parties_waiting_and_never_with_another_result() -> None:
    right = simulate(tossing(), 0).results[1]
    waiting = 0
    for seed in range(200):
        outcome = simulate(tossing(), seed, losses=2)
        assert not outcome.errors
        assert set(outcome.results.values()) <= {right}
        assert len(outcome.results) == 3 or outcome.lost
        waiting += 3 - len(outcome.results)
    assert waiting > 100


def test_retransmission_makes_up_for_losses() -> None:
    lost = 0
    for seed in range(50):
        outcome = simulate(tossing(), seed, losses=5, retransmit=True)
        assert len(outcome.results) == 3
        lost += outcome.lost
    assert lost > 50


def test_a_tampered_message_is_blamed_by_who_got_it() -> None:
    def tamper(envelope, to):
        wrong = (envelope.sender, to, envelope.round) == (3, 1, 2)
        return [replace(envelope, payload=bytes(16)) if wrong else envelope]

    outcome = simulate(tossing(), 5, tamper=tamper)
    assert isinstance(outcome.errors[1], Blame)
    assert outcome.errors[1].culprits == {3}
    assert set(outcome.results) <= {2, 3}


def test_what_is_no_protocol_error_ends_the_simulation() -> None:
    async def buggy(party):
        raise AssertionError("a bug")

    sessions = tossing(3, buggy)
    with pytest.raises(AssertionError, match="a bug"):
        simulate(sessions, 0)
    assert all(session.closed for session in sessions.values())
