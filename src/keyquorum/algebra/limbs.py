"""Batches of numbers modulo q as numpy limb arrays: the arithmetic of a multiplication, exact and branch-free.

**Idea.** numpy has no 256-bit integers, but a float64 matrix product is exact while every sum stays below 2^53.
Numbers enter as sixteen 16-bit *halves*, the constants they meet as 24- or 32-bit limbs, and the products of a whole
batch are one matrix product. Three shapes of number are used:

* *words*: uint64, 4 per number, little endian: what AES produces and what goes over the wire;
* *halves*: float64, 16 per number: what enters matrix products;
* *digits*: 8 per number, radix 2^32, on their own axis *before* the positions, so that one digit of all positions is
  contiguous and a carry pass is a few vector operations.

**Rare corrections.** `reduce_sums` and `add_scalars` decide a comparison by the top limb alone and, where that does
not settle it, repeat the position with Python integers. That happens with probability below 2^-31 (2^-63) for the
uniformly random values it is used on, so neither the speed nor the timing depends on it; the tests force it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from keyquorum.algebra.field import Q
from keyquorum.algebra.scratch import scratch

Words = npt.NDArray[np.uint64]
Floats = npt.NDArray[np.float64]
Digits = npt.NDArray[np.uint32]

WORDS, DIGITS, HALVES = 4, 8, 16
NUMBER_BYTES = 32
_GAP = 2**256 - Q
_DIGIT_BITS = np.uint64(32)
_TOP_DIGIT = np.uint32(0xFFFFFFFF)
# 2^256 = _GAP modulo q; its digits above the fifth are zero, its fifth is 1.
_GAP_DIGITS = tuple(np.uint64(_GAP >> 32 * k & 0xFFFFFFFF) for k in range(5))
_WEIGHT_BITS = 24
_WEIGHT_LIMBS = 11
_SUM_BYTES = 64
# 2^(24 + 16) x 1024 terms stay below 2^53.
_MAX_TERMS = 1024


def words_of(values: Sequence[int]) -> Words:
    """Return the (n, 4) words of n numbers below 2^256."""
    return np.frombuffer(b"".join([v.to_bytes(NUMBER_BYTES, "little") for v in values]), np.uint64).reshape(-1, WORDS)


def digits_of(values: Sequence[int]) -> Floats:
    """Return the (n, 8) digits of n numbers below 2^256 as float64."""
    return words_of(values).view(np.uint32).astype(np.float64)


def ints_of(words: Words) -> list[int]:
    """Return the numbers of an array whose last axis has 4 words, in order, not reduced."""
    data = np.ascontiguousarray(words).tobytes()
    return [int.from_bytes(data[i : i + NUMBER_BYTES], "little") for i in range(0, len(data), NUMBER_BYTES)]


def add_scalars(numbers: Words, scalars: Words) -> Words:
    """Return numbers + scalars modulo q, as some representative below 2^256 (not always the smallest).

    numbers: (batch, positions, columns, 4) words of any values below 2^256; scalars: (batch, columns, 4) words of
    values below q. The result has the shape of `numbers` and is scratch memory, valid until the next call. For a
    uniform number it is within 2^-127 of uniform and so says nothing about the scalar.
    """
    planes = (WORDS, numbers.shape[2], *numbers.shape[:2])
    x = scratch("add_scalars.x", planes, np.uint64)
    np.copyto(x, numbers.transpose(3, 2, 0, 1))
    plain = scalars.transpose(2, 1, 0)[..., None]
    wrapped = words_of([(v + _GAP) % 2**256 for v in ints_of(scalars)]).reshape(scalars.shape)
    difference = plain ^ wrapped.transpose(2, 1, 0)[..., None]
    headroom = ~plain[3]
    # A sum beyond 2^256 loses 2^256 by itself and gets the gap back: both at once by adding scalar + gap instead.
    mask = scratch("add_scalars.mask", planes[1:], np.uint64)
    np.copyto(mask, np.greater(x[3], headroom))
    np.negative(mask, out=mask)
    doubt = np.equal(x[3], headroom)
    addend = scratch("add_scalars.addend", planes[1:], np.uint64)
    carry = np.zeros(planes[1:], np.bool_)
    for k in range(WORDS):
        np.bitwise_and(mask, difference[k], out=addend)
        addend ^= plain[k]
        total = x[k]
        total += addend
        overflowed = np.less(total, addend)
        total += carry
        # A carry into a word of ones would ripple on: rather than compare again, such a position is done again.
        doubt |= np.logical_and(carry, np.equal(total, 0))
        carry = overflowed
    result = x.transpose(2, 3, 1, 0)
    if doubt.any():
        _add_again(result, numbers, scalars, doubt.transpose(1, 2, 0))
    return result


def _add_again(result: Words, numbers: Words, scalars: Words, doubt: npt.NDArray[np.bool_]) -> None:
    for m, position, column in np.argwhere(doubt):
        total = ints_of(numbers[m, position, column])[0] + ints_of(scalars[m, column])[0]
        result[m, position, column] = words_of([total if total < 2**256 else total - Q])[0]


def reduce_sums(sums: Floats) -> Digits:
    """Return the canonical digits modulo q of sums in radix 2^32.

    sums: (batch, 8, positions) of exact non-negative integers below 2^53. The result has the same shape and is
    scratch memory, valid until the next call.
    """
    s = scratch("reduce_sums.s", sums.shape, np.uint64)
    np.copyto(s, sums, casting="unsafe")
    out = scratch("reduce_sums.out", sums.shape, np.uint32)
    # What lies above 2^256 is folded down first, estimated from the two top digits: at most one carry is missed.
    top = s[:, 6] >> _DIGIT_BITS
    top += s[:, 7]
    top >>= _DIGIT_BITS
    for k, gap in enumerate(_GAP_DIGITS):
        s[:, k] += top * gap
    # May wrap below zero: the carry of the digit below brings it back before it is used.
    s[:, 7] -= top << _DIGIT_BITS
    carry = s[:, 0].copy()
    # Digits are stored modulo 2^32.
    np.copyto(out[:, 0], carry, casting="unsafe")
    for k in range(1, DIGITS):
        carry >>= _DIGIT_BITS
        carry += s[:, k]
        np.copyto(out[:, k], carry, casting="unsafe")
    carry >>= _DIGIT_BITS
    doubt = np.equal(out[:, 7], _TOP_DIGIT)
    doubt |= carry.astype(np.bool_)
    if doubt.any():
        _reduce_again(out, carry, doubt)
    return out


def _reduce_again(out: Digits, carry: Words, doubt: npt.NDArray[np.bool_]) -> None:
    for m, position in np.argwhere(doubt):
        value = int.from_bytes(out[m, :, position].tobytes(), "little") + (int(carry[m, position]) << 256)
        out[m, :, position] = np.frombuffer((value % Q).to_bytes(NUMBER_BYTES, "little"), np.uint32)


def _shift_table() -> Floats:
    # Row j, columns of shift k: the digits of 2^(16 (j + k)) mod q.
    rows = [digits_of([pow(2, 16 * (j + k), Q) for k in range(HALVES)]).reshape(-1) for j in range(HALVES)]
    return np.array(rows)


_SHIFTS = _shift_table()


def multiplier(scalars: Sequence[int]) -> Floats:
    """Return (n, 8, 16): matrices that map the halves of a number to digit sums of scalar x number modulo q.

    Column k holds the digits of scalar x 2^(16 k) mod q, so sums over up to 32 halves and two more digits stay
    below 2^53, as `reduce_sums` wants them.
    """
    halves = words_of(scalars).view(np.uint16).astype(np.float64)
    # One long row per digit, as reduce_sums likes it.
    sums = np.ascontiguousarray((halves @ _SHIFTS).reshape(-1, DIGITS).T)
    digits: Digits = reduce_sums(sums[None])[0].reshape(DIGITS, -1, HALVES)
    return digits.transpose(1, 0, 2).astype(np.float64)


def identity() -> Floats:
    """Return the (8, 16) matrix that maps the halves of a number to its own digits."""
    matrix = np.zeros((DIGITS, HALVES))
    for k in range(HALVES):
        matrix[k // 2, k] = float(1 << 16 * (k % 2))
    return matrix


class Weights:
    """A fixed vector of scalars whose inner products with batches of numbers or bits are taken modulo q."""

    def __init__(self, scalars: Sequence[int]) -> None:
        if len(scalars) > _MAX_TERMS:
            raise ValueError(f"inner products of more than {_MAX_TERMS} terms are not exact")
        limbs = [[w >> _WEIGHT_BITS * r & (1 << _WEIGHT_BITS) - 1 for w in scalars] for r in range(_WEIGHT_LIMBS)]
        self._limbs = np.array(limbs, np.float64)

    def dot(self, halves: Floats) -> list[list[int]]:
        """Return, for each of the batch, the inner products modulo q with each column of numbers.

        halves: (batch, terms, 16 x columns).
        """
        batch, _, width = halves.shape
        columns = width // HALVES
        products = np.matmul(self._limbs, halves).astype(np.uint64).reshape(batch, _WEIGHT_LIMBS, columns, HALVES)
        sums = np.zeros((batch, columns, _SUM_BYTES), np.uint64)
        for r in range(_WEIGHT_LIMBS):
            # Limb r times half k weighs 2^(24 r + 16 k).
            sums[:, :, 3 * r : 3 * r + 2 * HALVES : 2] += products[:, r]
        values = _collect(sums.reshape(batch * columns, _SUM_BYTES))
        return [values[i : i + columns] for i in range(0, len(values), columns)]

    def dot_bits(self, bits: Floats) -> list[int]:
        """Return, for each of the batch, the sum modulo q of the scalars whose bit is 1; bits: (batch, terms)."""
        sums = np.zeros((len(bits), _SUM_BYTES), np.uint64)
        sums[:, : 3 * _WEIGHT_LIMBS : 3] = bits @ self._limbs.T
        return _collect(sums)


def _collect(sums: Words) -> list[int]:
    # Radix 2^8 digits below 2^55 become radix 2^16 digits below 2^64; every fourth of those, side by side, is one
    # integer without overlaps, and four such integers make the number.
    digits = sums[:, 0::2] + (sums[:, 1::2] << np.uint64(8))
    data = np.ascontiguousarray(digits.reshape(-1, 8, 4).transpose(0, 2, 1)).tobytes()
    parts = [int.from_bytes(data[i : i + 64], "little") for i in range(0, len(data), 64)]
    return [
        (parts[i] + (parts[i + 1] << 16) + (parts[i + 2] << 32) + (parts[i + 3] << 48)) % Q
        for i in range(0, len(parts), 4)
    ]
