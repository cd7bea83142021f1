"""T03, T06, T20: parties that are told different things, a share for one victim, and shares below the threshold."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import pytest

from dealer import make_keys, party_of, sessions_of
from keyquorum.algebra.curve import generator_times
from keyquorum.algebra.field import Q
from keyquorum.algebra.polynomial import interpolate_at_zero
from keyquorum.algebra.rng import SeededRng
from keyquorum.protocols.dkg import Opening, PendingKeys, Shares, confirm, generate
from keyquorum.rounds.errors import Abort, Blame
from keyquorum.rounds.session import Envelope, Session
from keyquorum.rounds.simulate import simulate
from tampering import changing

N, T = 4, 3
CHEAT = 2


def equivocating(seed: int, in_round: int, other: dict[int, bytes]):
    """P_2 says one thing to a random half, and what it would say in another run to the rest."""
    chosen = SeededRng(f"half {seed}").bytes(N)
    half = {j for j in range(1, N + 1) if chosen[j - 1] & 1}

    def tamper(envelope: Envelope, to: int) -> list[Envelope]:
        hit = envelope.sender == CHEAT and envelope.to is None and envelope.round == in_round and to in half
        return [replace(envelope, payload=other[in_round])] if hit else [envelope]

    return tamper


def second_self(seed: int) -> dict[int, bytes]:
    """P_2's broadcasts of another run of the same session, by round."""
    seen: dict[int, bytes] = {}

    def watch(envelope: Envelope, to: int) -> list[Envelope]:
        if envelope.sender == CHEAT and envelope.to is None:
            seen[envelope.round] = envelope.payload
        return [envelope]

    simulate(sessions_of(range(1, N + 1), lambda p: generate(p, T, 1), f"second {seed}"), seed, tamper=watch)
    return seen


def never_two_keys(outcome) -> None:
    """No two honest parties end with different keys; only P_2 is ever named."""
    honest = {j: pending for j, pending in outcome.results.items() if j != CHEAT}
    assert len({pending.digest() for pending in honest.values()}) <= 1
    for error in outcome.errors.values():
        if isinstance(error, Blame):
            assert error.culprits == {CHEAT}


def equivocate(count: int) -> int:
    stopped = 0
    other = second_self(0)
    for seed in range(count):
        for in_round in (1, 2):
            tamper = equivocating(seed, in_round, other)
            outcome = simulate(sessions_of(range(1, N + 1), lambda p: generate(p, T, 1)), seed, tamper=tamper)
            never_two_keys(outcome)
            stopped += len(outcome.results) < N
    return stopped


def test_no_two_honest_parties_end_with_different_keys() -> None:
    assert equivocate(40) > 50


@pytest.mark.soak
@pytest.mark.timeout(1200)
def test_no_two_honest_parties_end_with_different_keys_in_a_thousand_schedules() -> None:
    assert equivocate(1000) > 1500


def test_without_the_echo_and_the_opening_check_equivocation_is_caught_when_confirming() -> None:
    """The last line: two groups that ended with different keys cannot both confirm."""
    first, second = make_keys(N, T, 1, "one"), make_keys(N, T, 1, "two")
    pending: dict[int, PendingKeys] = {1: first[1], 2: first[2], 3: second[3], 4: second[4]}
    for seed in range(20):
        outcome = simulate(sessions_of(range(1, N + 1), lambda p: confirm(p, pending[p.me])), seed)
        assert not outcome.results
        assert all(isinstance(error, Abort) and not isinstance(error, Blame) for error in outcome.errors.values())


def test_a_party_that_confirms_everything_to_everyone_cannot_unite_two_groups() -> None:
    """P_2 tells each group what that group wants to hear; the groups still hear each other."""
    first, second = make_keys(N, T, 1, "one"), make_keys(N, T, 1, "two")
    pending = {1: first[1], 2: first[2], 3: second[3], 4: second[4]}

    def flatter(envelope: Envelope, to: int) -> list[Envelope]:
        return [replace(envelope, payload=pending[to].digest())] if envelope.sender == CHEAT else [envelope]

    outcome = simulate(sessions_of(range(1, N + 1), lambda p: confirm(p, pending[p.me])), 0, tamper=flatter)
    assert not outcome.results


def test_one_wrong_share_to_one_victim_leaves_no_confirmed_key_anywhere() -> None:
    """T06: the victim names the dealer; the others end as pending, and never confirm without the victim."""
    bad = changing(Shares, {"batch": 1}, lambda m: Shares([(m.f[0] + 1) % Q]), CHEAT, 2, to=4)
    outcome = simulate(sessions_of(range(1, N + 1), lambda p: generate(p, T, 1)), 0, tamper=bad)
    assert outcome.errors[4].culprits == {CHEAT}
    assert 4 not in outcome.results
    left = outcome.results
    sessions = {j: Session(party_of(j, range(1, N + 1)), confirm(party_of(j, range(1, N + 1)), left[j])) for j in left}
    confirmed = simulate(sessions, 0, tamper=lambda e, to: [e] if to in sessions else [])
    assert not confirmed.results
    assert not confirmed.errors


def test_the_salt_hides_a_commitment() -> None:
    """Two dealers with the same polynomial and proof commit to different hashes."""
    seen = set()
    for salt in (bytes(32), b"\1" * 32):
        from keyquorum.protocols.dkg import _commit

        point = generator_times(5)
        seen.add(_commit(b"s" * 32, 1, Opening([[point, point]], [point], [1], salt)))
    assert len(seen) == 2


@pytest.mark.parametrize(("n", "t"), [(3, 2), (4, 3), (7, 5)])
def test_what_fewer_than_t_parties_hold_fits_every_key(n: int, t: int) -> None:
    """T20: t - 1 shares with any guess at the key interpolate to a polynomial: they say nothing; t shares say all."""
    keys = {j: pending.keys[0] for j, pending in make_keys(n, t).items()}
    X = keys[1].public_key
    for stolen in list(combinations(keys, t - 1))[:10]:
        shares = {j: keys[j].key_share for j in stolen}
        for subset_size in range(1, t):
            for subset in combinations(stolen, subset_size):
                assert generator_times(interpolate_at_zero({j: shares[j] for j in subset})) != X
        # For every guess g there is a share of a further party that completes it.
        other = next(j for j in keys if j not in stolen)
        completions = set()
        for guess in (1, 2, 3):
            base = interpolate_at_zero({**shares, other: 0})
            slope = (interpolate_at_zero({**shares, other: 1}) - base) % Q
            completion = (guess - base) * pow(slope, -1, Q) % Q
            assert interpolate_at_zero({**shares, other: completion}) == guess
            completions.add(completion)
        assert len(completions) == 3
    for enough in list(combinations(keys, t))[:10]:
        assert generator_times(interpolate_at_zero({j: keys[j].key_share for j in enough})) == X


def test_shares_of_two_runs_do_not_combine() -> None:
    first, second = make_keys(N, T, 1, "one"), make_keys(N, T, 1, "two")
    mixed = {1: first[1].keys[0].key_share, 2: first[2].keys[0].key_share, 3: second[3].keys[0].key_share}
    x = generator_times(interpolate_at_zero(mixed))
    assert x not in (first[1].keys[0].public_key, second[1].keys[0].public_key)
