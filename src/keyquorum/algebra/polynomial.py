"""Polynomials over the scalars, and the same polynomials in the exponent: Shamir sharing and Feldman's commitments.

A polynomial is the list of its coefficients, constant term first, so the secret is f[0] and `t` coefficients
need `t` shares. A party's share is f at its PartyId; PartyIds are small, public and never 0, because f(0) is the
secret. Evaluation of a secret polynomial is Horner's rule on Python integers (its running time depends on the sizes
of numbers, see the threat model); everything about commitments is public and takes the fast, variable-time path.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

from keyquorum.algebra.curve import Point, PointAtInfinity, generator_times, linear_combination_public
from keyquorum.algebra.field import Q, invert


def evaluate(coefficients: Sequence[int], at: int) -> int:
    """Return f(at) mod q for the polynomial with these coefficients, constant term first."""
    value = 0
    for coefficient in reversed(coefficients):
        value = (value * at + coefficient) % Q
    return value


def evaluate_commitment(commitment: Sequence[Point], at: int) -> Point:
    """Return f(at) x G from the points f[k] x G, by Horner's rule; `at` is public.

    Raises `PointAtInfinity` when the value *or an intermediate sum* is infinity. A single dealer can arrange that
    for one `at`, so a commitment that one party chose goes through `is_share_of` instead.
    """
    value = commitment[-1]
    for point in reversed(commitment[:-1]):
        value = value.times_public(at) + point
    return value


def is_share_of(share: int, commitment: Sequence[Point], at: int) -> bool:
    """Return whether `share` is f(at) for the committed f; right for every commitment, f(at) = 0 included."""
    powers = [pow(at, k, Q) for k in range(len(commitment))]
    try:
        expected = linear_combination_public(powers, commitment)
    except PointAtInfinity:
        return share == 0
    return share != 0 and generator_times(share) == expected


@lru_cache(maxsize=4096)
def lagrange_at_zero(me: int, parties: tuple[int, ...]) -> int:
    """Return lambda_me with f(0) = sum over `parties` of lambda_j f(j); all ids distinct mod q and not 0.

    Raises `ValueError` for a repeated id, id 0, or when `me` is missing.
    """
    if len(set(parties)) != len(parties) or me not in parties or 0 in parties:
        raise ValueError("the ids of an interpolation are distinct, not 0, and include one's own")
    numerator = denominator = 1
    for j in parties:
        if j != me:
            numerator = numerator * j % Q
            denominator = denominator * (j - me) % Q
    return numerator * invert(denominator) % Q


def interpolate_at_zero(shares: Mapping[int, int]) -> int:
    """Return f(0) from at least as many shares {id: f(id)} as f has coefficients."""
    parties = tuple(sorted(shares))
    return sum(lagrange_at_zero(j, parties) * shares[j] for j in parties) % Q
