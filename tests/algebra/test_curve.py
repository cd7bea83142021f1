"""Points: strict parsing, no infinity, and every operation against a slow textbook implementation."""

from __future__ import annotations

import hashlib

import pytest

from keyquorum.algebra.curve import (
    Point,
    PointAtInfinity,
    generator_times,
    hash_to_point,
    linear_combination_public,
    sum_points,
)
from keyquorum.algebra.field import Q, random_scalars
from keyquorum.algebra.rng import SeededRng
from keyquorum.algebra.transcript import Tag

P = 2**256 - 2**32 - 977
GX = 0x79BE667EF9DCBBAC55A06295CE870B07029BFCDB2DCE28D959F2815B16F81798
GY = 0x483ADA7726A3C4655DA4FBFC0E1108A8FD17B448A68554199C47D08FFB10D4B8
SCALARS = [1, 2, 3, Q - 1, Q - 2, *random_scalars(SeededRng("curve"), 5)]


def textbook_add(a: tuple[int, int] | None, b: tuple[int, int] | None) -> tuple[int, int] | None:
    if a is None or b is None:
        return a or b
    if a[0] == b[0] and (a[1] + b[1]) % P == 0:
        return None
    slope = (3 * a[0] ** 2 * pow(2 * a[1], -1, P) if a == b else (b[1] - a[1]) * pow(b[0] - a[0], -1, P)) % P
    x = (slope**2 - a[0] - b[0]) % P
    return x, (slope * (a[0] - x) - a[1]) % P


def textbook(scalar: int, base: tuple[int, int] = (GX, GY)) -> bytes:
    result, power = None, base
    while scalar:
        if scalar & 1:
            result = textbook_add(result, power)
        power, scalar = textbook_add(power, power), scalar >> 1
    assert result is not None
    return b"\x04" + result[0].to_bytes(32, "big") + result[1].to_bytes(32, "big")


@pytest.mark.parametrize("k", SCALARS)
def test_multiples_of_the_generator_agree_with_the_textbook(k: int) -> None:
    assert generator_times(k).to_bytes() == textbook(k)
    assert Point.from_bytes_checked(textbook(k)) == generator_times(k)
    assert Point.from_compressed_checked(generator_times(k).to_compressed()) == generator_times(k)


@pytest.mark.parametrize("k", SCALARS)
def test_secret_and_public_multiples_agree(k: int) -> None:
    base = generator_times(77)
    product = base.times_public(k)
    assert product == generator_times(77 * k % Q)
    assert base.times_secret(k) == product
    assert base.times_secret(k).to_bytes() == product.to_bytes()
    assert base.shared_digest(k) == product.digest() == hashlib.sha256(product.to_compressed()).digest()


def test_sums_differences_and_negatives() -> None:
    a, b = generator_times(5), generator_times(7)
    assert a + b == generator_times(12) == sum_points([a, b]) == linear_combination_public([1, 1], [a, b])
    assert b - a == generator_times(2)
    assert -a == generator_times(Q - 5)
    assert linear_combination_public([0, 3], [a, b]) == generator_times(21)


def test_infinity_never_appears() -> None:
    a = generator_times(5)
    for attempt in (
        lambda: a - a,
        lambda: sum_points([]),
        lambda: generator_times(0),
        lambda: a.times_public(0),
        lambda: a.times_public(Q),
        lambda: a.shared_digest(0),
        lambda: linear_combination_public([0], [a]),
    ):
        with pytest.raises(PointAtInfinity):
            attempt()


GOOD = generator_times(9).to_bytes()


@pytest.mark.parametrize(
    "data",
    [
        b"", b"\x00", bytes(65), GOOD[:64], GOOD + b"\x00", b"\x02" + GOOD[1:33], b"\x00" + GOOD[1:],
        b"\x06" + GOOD[1:], b"\x07" + GOOD[1:], b"\x05" + GOOD[1:], GOOD[:64] + bytes([GOOD[64] ^ 1]),
        b"\x04" + bytes(64), b"\x04" + (P + GX).to_bytes(33, "big")[1:] + GOOD[33:], b"\x04" + b"\xff" * 64,
    ],
)  # fmt: skip
def test_other_encodings_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="point"):
        Point.from_bytes_checked(data)


@pytest.mark.parametrize(
    "data", [b"", GOOD, b"\x04" + GOOD[1:33], b"\x02" + b"\xff" * 32, b"\x02" + bytes(31) + b"\x05"]
)
def test_other_compressed_encodings_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="point"):
        Point.from_compressed_checked(data)


def test_coordinates() -> None:
    g = generator_times(1)
    assert (g.x, g.y_is_odd, (-g).y_is_odd) == (GX, bool(GY & 1), not GY & 1)


def test_points_are_values() -> None:
    assert len({generator_times(4), generator_times(4), generator_times(5)}) == 2
    assert generator_times(4) != "a point"


def test_hashing_to_a_point_is_deterministic_and_depends_on_everything() -> None:
    points = {hash_to_point(Tag.BASE_OT_POINT, k, b"x") for k in range(20)}
    assert len(points) == 20
    assert hash_to_point(Tag.BASE_OT_POINT, 3, b"x") in points
    assert hash_to_point(Tag.ECHO, 3, b"x") not in points
    assert {point.y_is_odd for point in points} == {True, False}
