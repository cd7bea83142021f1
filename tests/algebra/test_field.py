"""Scalars: what each parse mode lets through, and that randomness is full."""

from __future__ import annotations

import pytest

from keyquorum.algebra.field import (
    Q,
    from_bytes_checked,
    from_bytes_nonzero,
    from_bytes_wrapping,
    invert,
    random_scalar,
    random_scalars,
    to_bytes,
)
from keyquorum.algebra.rng import SeededRng, SystemRng


@pytest.mark.parametrize("value", [0, 1, Q - 1])
def test_scalars_make_the_round_trip(value: int) -> None:
    assert from_bytes_checked(to_bytes(value)) == value


@pytest.mark.parametrize("value", [Q, Q + 1, (1 << 256) - 1])
def test_what_is_not_below_q_is_refused_or_reduced_as_the_name_says(value: int) -> None:
    data = value.to_bytes(32, "big")
    with pytest.raises(ValueError, match="below"):
        from_bytes_checked(data)
    assert from_bytes_wrapping(data) == value - Q


@pytest.mark.parametrize("size", [0, 31, 33])
def test_other_lengths_are_refused(size: int) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        from_bytes_checked(bytes(size))


def test_zero_is_refused_where_it_must_not_be() -> None:
    assert from_bytes_nonzero(to_bytes(1)) == 1
    with pytest.raises(ValueError, match="zero"):
        from_bytes_nonzero(bytes(32))


def test_inverses_multiply_to_one_and_zero_has_none() -> None:
    for value in (1, 2, Q - 1, 12345):
        assert value * invert(value) % Q == 1
    with pytest.raises(ValueError, match="not invertible"):
        invert(0)


def test_a_random_scalar_is_never_zero() -> None:
    class Rigged:
        def __init__(self) -> None:
            self.answers = [bytes(48), Q.to_bytes(48, "big"), (Q + 5).to_bytes(48, "big")]

        def bytes(self, count: int) -> bytes:
            assert count == 48
            return self.answers.pop(0)

    assert random_scalar(Rigged()) == 5


def test_random_scalars_are_distinct_and_spread_over_the_field() -> None:
    drawn = random_scalars(SystemRng(), 500)
    assert len(set(drawn)) == 500
    assert 150 < sum(value < Q // 2 for value in drawn) < 350


def test_a_seeded_stream_repeats_and_its_forks_are_independent() -> None:
    assert SeededRng(1).bytes(8) == SeededRng(1).bytes(8)
    a, b = SeededRng(1).fork("a"), SeededRng(1).fork("b")
    assert len({a.bytes(8), a.bytes(8), b.bytes(8), SeededRng(1).bytes(8)}) == 4
