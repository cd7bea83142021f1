"""Shamir sharing and commitments in the exponent, against each other."""

from __future__ import annotations

from itertools import combinations

import pytest

from keyquorum.algebra.curve import PointAtInfinity, generator_times
from keyquorum.algebra.field import Q, random_scalars
from keyquorum.algebra.polynomial import (
    evaluate,
    evaluate_commitment,
    interpolate_at_zero,
    is_share_of,
    lagrange_at_zero,
)
from keyquorum.algebra.rng import SeededRng

F = random_scalars(SeededRng("polynomial"), 4)
COMMITTED = [generator_times(a) for a in F]


def test_the_constant_term_comes_first() -> None:
    assert evaluate([5, 7, 11], 0) == 5
    assert evaluate([5, 7, 11], 3) == 5 + 21 + 99
    assert evaluate([Q - 1, 1], 1) == 0


@pytest.mark.parametrize("at", [1, 2, 3, 100, 65535])
def test_a_commitment_evaluates_to_the_share_in_the_exponent(at: int) -> None:
    assert evaluate_commitment(COMMITTED, at) == generator_times(evaluate(F, at))
    assert is_share_of(evaluate(F, at), COMMITTED, at)


def test_a_share_of_something_else_is_not_a_share() -> None:
    assert not is_share_of((evaluate(F, 3) + 1) % Q, COMMITTED, 3)
    assert not is_share_of(evaluate(F, 3), COMMITTED, 2)
    assert not is_share_of(0, COMMITTED, 3)


def test_a_share_that_is_zero_is_recognised() -> None:
    zero_at_three = [Q - 3, 1]
    committed = [generator_times(a) for a in zero_at_three]
    assert is_share_of(0, committed, 3)
    assert not is_share_of(1, committed, 3)
    with pytest.raises(PointAtInfinity):
        evaluate_commitment(committed, 3)


def test_an_intermediate_sum_at_infinity_does_not_disturb_the_check_of_one_dealer() -> None:
    """f = 9 - 2x + x^2: Horner's first step at 2 is 1*2 - 2 = 0, but f(2) = 9."""
    f = [9, Q - 2, 1]
    committed = [generator_times(a) for a in f]
    with pytest.raises(PointAtInfinity):
        evaluate_commitment(committed, 2)
    assert is_share_of(9, committed, 2)
    assert not is_share_of(8, committed, 2)


def test_any_four_of_six_shares_give_the_secret_and_three_do_not() -> None:
    shares = {j: evaluate(F, j) for j in (1, 2, 5, 7, 100, 65535)}
    for chosen in combinations(shares, 4):
        assert interpolate_at_zero({j: shares[j] for j in chosen}) == F[0]
    for chosen in combinations(shares, 3):
        assert interpolate_at_zero({j: shares[j] for j in chosen}) != F[0]


@pytest.mark.parametrize(("me", "ids"), [(1, (1, 1, 2)), (3, (1, 2)), (1, (0, 1)), (0, (0, 1))])
def test_interpolation_over_bad_ids_is_refused(me: int, ids: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="distinct"):
        lagrange_at_zero(me, ids)
