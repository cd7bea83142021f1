"""Bit matrices: the transposition in the middle of the OT extension, for 128 columns of any length.

OT extension makes one long bit column per base OT and then needs the rows: bit l of all 128 columns. Read as a
matrix of 128 x 128 bit tiles, that is a transposition inside every tile, done here as the classic butterfly (swap
ever smaller off-diagonal squares) with one numpy operation for all tiles at once.

**Row order.** No tile is moved: row `l` of the result is bit `l // tiles` of tile `l % tiles`, which saves a pass
over the data. Nothing depends on the order as long as both parties and both functions below use the same one.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Words = npt.NDArray[np.uint64]
Bits = npt.NDArray[np.uint8]

TILE = 128
TILE_BYTES = TILE // 8
_ALL_ONES = np.uint64(0xFFFFFFFFFFFFFFFF)
_BUTTERFLY = (
    (32, np.uint64(0x00000000FFFFFFFF)),
    (16, np.uint64(0x0000FFFF0000FFFF)),
    (8, np.uint64(0x00FF00FF00FF00FF)),
    (4, np.uint64(0x0F0F0F0F0F0F0F0F)),
    (2, np.uint64(0x3333333333333333)),
    (1, np.uint64(0x5555555555555555)),
)


def transpose(columns: Words) -> Words:
    """Return the rows, (128 x tiles, 2) words, of 128 columns given as (128, 2 x tiles) words.

    Bit `b` of a column is bit `b % 64` of its word `b // 64`; bit `i` of a row belongs to column `i`.
    """
    if columns.shape[0] != TILE or columns.shape[1] % 2:
        raise ValueError("the matrix has 128 rows of whole 128-bit tiles")
    tiles = columns.shape[1] // 2
    quarters = columns.reshape(2, 64, tiles, 2)
    work = np.empty_like(quarters)
    # The largest step, exchanging the two off-diagonal 64 x 64 squares, is a copy.
    work[0, :, :, 0] = quarters[0, :, :, 0]
    work[0, :, :, 1] = quarters[1, :, :, 0]
    work[1, :, :, 0] = quarters[0, :, :, 1]
    work[1, :, :, 1] = quarters[1, :, :, 1]
    rows = work.reshape(TILE, 2 * tiles)
    scratch = np.empty((TILE // 2, 2 * tiles), np.uint64)
    for half, mask in _BUTTERFLY:
        pairs = rows.reshape(TILE // (2 * half), 2, half, 2 * tiles)
        low, high = pairs[:, 0], pairs[:, 1]
        swap = scratch.reshape(low.shape)
        shift = np.uint64(half)
        np.right_shift(low, shift, out=swap)
        swap ^= high
        swap &= mask
        high ^= swap
        swap <<= shift
        low ^= swap
    return rows.reshape(TILE * tiles, 2)


def column_bits(column: Words) -> Bits:
    """Return the bits (0 or 1) of one column of 2 x tiles words in the row order of `transpose`."""
    bits = np.unpackbits(column.view(np.uint8), bitorder="little")
    return np.ascontiguousarray(bits.reshape(-1, TILE).T).reshape(-1)


def select_masks(bits: Bits) -> Words:
    """Return a word of zeros for every bit 0 and a word of ones for every bit 1: selection without a branch."""
    return bits.astype(np.uint64) * _ALL_ONES
