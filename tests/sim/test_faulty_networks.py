"""Whole runs under reordering, duplicates and loss: agreement or nothing, over hundreds of seeds."""

from __future__ import annotations

import pytest

from dealer import DIGEST, deal_inventories, deal_key, make_keys, sessions_of, signing_sessions
from keyquorum.protocols.dkg import confirm, generate
from keyquorum.protocols.sign import combine
from keyquorum.rounds.simulate import simulate

KEYS = deal_key(4, 3)
SIGNERS = (2, 3, 4)


def generate_many(seeds: range) -> None:
    expected = make_keys(3, 2)[1].digest()
    finished = 0
    for seed in seeds:
        faults = {"duplicates": seed % 7, "losses": seed % 3, "retransmit": seed % 2 == 0}
        outcome = simulate(sessions_of((1, 2, 3), lambda p: generate(p, 2, 1)), seed, **faults)
        assert not outcome.errors
        assert {pending.digest() for pending in outcome.results.values()} <= {expected}
        assert len(outcome.results) == 3 or outcome.lost
        finished += len(outcome.results) == 3
    assert finished >= len(seeds) // 2


def sign_many(seeds: range) -> None:
    signatures, finished = set(), 0
    for seed in seeds:
        faults = {"duplicates": seed % 7, "losses": seed % 3, "retransmit": seed % 2 == 0}
        outcome = simulate(
            signing_sessions(KEYS, deal_inventories(SIGNERS, 1), SIGNERS, [DIGEST]), seed, **faults
        )  # fmt: skip
        assert not outcome.errors
        if len(outcome.results) == 3:
            shares = {j: result.rows[0] for j, result in outcome.results.items()}
            signatures.add(combine(shares, outcome.results[2].R[0], DIGEST, KEYS[2].public_key))
            finished += 1
        else:
            assert outcome.lost
    assert len(signatures) == 1
    assert finished >= len(seeds) // 2


def test_key_generation_agrees_in_any_order() -> None:
    generate_many(range(150))


def test_signing_agrees_in_any_order() -> None:
    sign_many(range(150))


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_key_generation_agrees_in_ten_thousand_orders() -> None:
    generate_many(range(10_000))


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_signing_agrees_in_ten_thousand_orders() -> None:
    sign_many(range(10_000))


def test_confirmation_agrees_in_any_order() -> None:
    pending = make_keys(4, 3)
    for seed in range(100):
        sessions = sessions_of((1, 2, 3, 4), lambda p: confirm(p, pending[p.me]))
        outcome = simulate(sessions, seed, duplicates=seed % 5, losses=seed % 2)
        assert not outcome.errors
        assert len(outcome.results) == 4 or outcome.lost


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_a_hundred_parties_make_a_key_and_sixty_seven_sign_with_it() -> None:
    keys = {j: pending.keys[0] for j, pending in make_keys(100, 67).items()}
    signers = tuple(range(34, 101))
    outcome = simulate(signing_sessions(keys, deal_inventories(signers, 1), signers, [DIGEST]), 0)
    shares = {j: result.rows[0] for j, result in outcome.results.items()}
    assert combine(shares, outcome.results[34].R[0], DIGEST, keys[34].public_key)
