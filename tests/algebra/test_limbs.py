"""Limb arithmetic against Python integers, with the values that random tests never meet."""

from __future__ import annotations

import random

import numpy as np
import pytest

from keyquorum.algebra import limbs
from keyquorum.algebra.field import Q

GAP = 2**256 - Q
EDGES = [0, 1, GAP - 1, GAP, Q - 1, Q, Q + 1, 2**255, 2**256 - 2, 2**256 - 1, 2**192 - 1, 2**256 - 2**192]


def value_of(digits: np.ndarray) -> int:
    return int.from_bytes(np.ascontiguousarray(digits).tobytes(), "little")


def halves_of(numbers: list[list[list[int]]]) -> np.ndarray:
    """(batch, positions, columns) integers to (batch, positions, 16 x columns) halves."""
    words = limbs.words_of([x for item in numbers for row in item for x in row])
    return words.reshape(len(numbers), len(numbers[0]), -1).view(np.uint16).astype(np.float64)


def test_words_and_digits_are_little_endian_and_come_back() -> None:
    values = [*EDGES, 0x0102030405060708090A0B0C0D0E0F101112131415161718191A1B1C1D1E1F20]
    assert limbs.ints_of(limbs.words_of(values)) == values
    assert [sum(int(d) << 32 * k for k, d in enumerate(row)) for row in limbs.digits_of(values)] == values


def added(x: int, a: int) -> int:
    numbers = limbs.words_of([x]).reshape(1, 1, 1, 4)
    return limbs.ints_of(limbs.add_scalars(numbers, limbs.words_of([a]).reshape(1, 1, 4)))[0]


@pytest.mark.parametrize("a", [0, 1, 2**64 - 1, 2**192 - 1, GAP, Q - 1, Q - GAP, Q >> 1])
def test_adding_a_scalar_is_right_at_every_edge(a: int) -> None:
    near = [(edge - a + shift) % 2**256 for edge in EDGES for shift in (-1, 0, 1)]
    ripples = [(2**256 - 1 - a) ^ (2**64 - 1 << 64 * k) for k in range(4)]
    for x in {*EDGES, *near, *ripples}:
        total = added(x, a)
        assert total % Q == (x + a) % Q
        # Only the smallest change: no representative tells more than whether the sum passed 2^256.
        assert total == (x + a if x + a < 2**256 else x + a - Q)


def test_the_edges_do_need_the_second_look(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(limbs, "_add_again", lambda *_: asked.append(1))
    assert added(2**256 - 1, 1) != GAP or asked
    a = 2**64 + 5
    assert added(2**256 - a, a) % Q != 2**256 % Q
    assert asked


def test_many_additions_at_once_match_one_by_one() -> None:
    rng = random.Random(1)
    numbers = [[[rng.randrange(2**256) for _ in range(3)] for _ in range(5)] for _ in range(4)]
    scalars = [[rng.randrange(Q) for _ in range(3)] for _ in range(4)]
    words = limbs.words_of([x for item in numbers for row in item for x in row]).reshape(4, 5, 3, 4)
    result = limbs.ints_of(
        limbs.add_scalars(words, limbs.words_of([a for row in scalars for a in row]).reshape(4, 3, 4))
    )
    expected = [(numbers[m][p][e] + scalars[m][e]) % Q for m in range(4) for p in range(5) for e in range(3)]
    assert [x % Q for x in result] == expected


def reduced(columns: list[list[int]]) -> list[int]:
    digits = limbs.reduce_sums(np.array(columns, np.float64).T[None])[0]
    return [value_of(digits[:, i]) for i in range(len(columns))]


def test_reducing_is_canonical_for_every_sum_below_2_to_the_53() -> None:
    rng = random.Random(2)
    top = 2**53 - 1
    columns = [[top] * 8, [0] * 8, [0] * 7 + [top], [top] + [0] * 7]
    columns += [[rng.randrange(2 ** rng.choice([1, 32, 33, 52, 53])) for _ in range(8)] for _ in range(300)]
    columns += [[edge >> 32 * k & 0xFFFFFFFF for k in range(8)] for edge in EDGES]
    assert reduced(columns) == [sum(d << 32 * k for k, d in enumerate(column)) % Q for column in columns]


def carrying_late() -> list[int]:
    """A sum whose overflow of 2^256 shows only after the carry of the fifth digit has run through all others."""
    return [0, 0, 0, 0, 0, 2**32, 2**32 - 1, 2**32 - 1]


def test_reducing_notices_a_carry_that_arrives_after_the_estimate(monkeypatch: pytest.MonkeyPatch) -> None:
    column = carrying_late()
    expected = sum(d << 32 * k for k, d in enumerate(column)) % Q
    assert reduced([column]) == [expected]
    monkeypatch.setattr(limbs, "_reduce_again", lambda *_: None)
    assert reduced([column]) != [expected]
    assert reduced([[Q >> 32 * k & 0xFFFFFFFF for k in range(8)]]) != [0]


def test_multiplying_is_exact_for_the_largest_limbs() -> None:
    scalars = [0, 1, Q - 1, 2**256 - 1 - GAP, Q >> 1, *[random.Random(i).randrange(Q) for i in range(11)]]
    numbers = [[[2**256 - 1, 2**256 - 1], [Q, 1], [0, Q - 1], [EDGES[9], EDGES[4]]] for _ in range(len(scalars) // 2)]
    matrices = limbs.multiplier(scalars).reshape(-1, 2, 8, 16)
    both = np.concatenate((matrices[:, 0], matrices[:, 1]), axis=2)
    assert (both >= 0).all() and (both < 2**32).all()
    sums = both @ halves_of(numbers).transpose(0, 2, 1)
    assert sums.max() < 2**53
    digits = limbs.reduce_sums(sums)
    for m, item in enumerate(numbers):
        for position, (x, y) in enumerate(item):
            expected = (scalars[2 * m] * x + scalars[2 * m + 1] * y) % Q
            assert value_of(digits[m, :, position]) == expected


def test_the_identity_only_changes_the_radix() -> None:
    numbers = [[[x] for x in EDGES]]
    digits = limbs.identity() @ halves_of(numbers)[0].T
    assert [value_of(digits[:, i].astype(np.uint32)) for i in range(len(EDGES))] == EDGES


def test_inner_products_match_integers_also_for_the_largest_terms() -> None:
    rng = random.Random(3)
    for terms in (1, 416, 1024):
        scalars = [Q - 1] * terms if terms == 1024 else [rng.randrange(Q) for _ in range(terms)]
        numbers = [[[2**256 - 1, rng.randrange(2**256)] for _ in range(terms)] for _ in range(2)]
        weights = limbs.Weights(scalars)
        assert weights.dot(halves_of(numbers)) == [
            [sum(s * row[e] for s, row in zip(scalars, item, strict=True)) % Q for e in (0, 1)] for item in numbers
        ]
        bits = [[1] * terms, [rng.randrange(2) for _ in range(terms)]]
        expected = [sum(s for s, b in zip(scalars, row, strict=True) if b) % Q for row in bits]
        assert weights.dot_bits(np.array(bits, np.float64)) == expected


def test_inner_products_that_could_be_inexact_are_refused() -> None:
    with pytest.raises(ValueError, match="not exact"):
        limbs.Weights([1] * 1025)
