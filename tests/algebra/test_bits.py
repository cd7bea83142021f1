"""The butterfly against the definition, bit by bit."""

from __future__ import annotations

import numpy as np
import pytest

from keyquorum.algebra.bits import column_bits, select_masks, transpose
from keyquorum.algebra.rng import SeededRng


def matrix(tiles: int) -> np.ndarray:
    data = SeededRng(tiles).bytes(128 * 16 * tiles)
    return np.frombuffer(data, np.uint64).reshape(128, 2 * tiles).copy()


def bit(words: np.ndarray, place: int) -> int:
    return int(words[place // 64]) >> (place % 64) & 1


@pytest.mark.parametrize("tiles", [1, 2, 5])
def test_a_row_holds_one_bit_of_every_column(tiles: int) -> None:
    columns = matrix(tiles)
    rows = transpose(columns)
    assert rows.shape == (128 * tiles, 2)
    for row in range(0, 128 * tiles, 7):
        place = row % tiles * 128 + row // tiles
        assert [bit(rows[row], i) for i in range(128)] == [bit(columns[i], place) for i in range(128)]


@pytest.mark.parametrize("tiles", [1, 3])
def test_the_bits_of_a_column_come_in_the_order_of_the_rows(tiles: int) -> None:
    columns = matrix(tiles)
    rows = transpose(columns)
    for i in (0, 63, 64, 127):
        assert column_bits(columns[i]).tolist() == [bit(row, i) for row in rows]


def test_the_input_is_left_alone_and_the_result_is_writable() -> None:
    columns = matrix(2)
    before = columns.copy()
    transpose(columns).fill(0)
    assert np.array_equal(columns, before)


@pytest.mark.parametrize("shape", [(127, 2), (128, 3), (256, 2)])
def test_another_shape_is_refused(shape: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="128"):
        transpose(np.zeros(shape, np.uint64))


def test_masks_are_all_zeros_or_all_ones() -> None:
    assert select_masks(np.array([0, 1, 1, 0], np.uint8)).tolist() == [0, 2**64 - 1, 2**64 - 1, 0]
