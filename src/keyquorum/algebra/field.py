"""Scalars modulo q, the order of secp256k1, as Python integers in 0..q-1; 32 bytes big-endian outside.

The parse mode is in the name: `checked` refuses what is not below q, `nonzero` also refuses 0,
`wrapping` reduces. Big-number arrays with a batch axis live in `limbs.py`.
"""

from __future__ import annotations

from keyquorum.algebra.rng import Rng

Q = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
SCALAR_BYTES = 32


def to_bytes(scalar: int) -> bytes:
    """Return the 32 big-endian bytes of a scalar in 0..q-1."""
    return scalar.to_bytes(SCALAR_BYTES, "big")


def from_bytes_checked(data: bytes) -> int:
    """Return the scalar of exactly 32 bytes; raise `ValueError` when it is not below q."""
    if len(data) != SCALAR_BYTES:
        raise ValueError("a scalar has 32 bytes")
    value = int.from_bytes(data, "big")
    if value >= Q:
        raise ValueError("a scalar is below the group order")
    return value


def from_bytes_nonzero(data: bytes) -> int:
    """Return the scalar of exactly 32 bytes; raise `ValueError` when it is 0 or not below q."""
    value = from_bytes_checked(data)
    if value == 0:
        raise ValueError("this scalar must not be zero")
    return value


def from_bytes_wrapping(data: bytes) -> int:
    """Return the big-endian number in `data` reduced modulo q (unbiased from 40 random bytes upwards)."""
    return int.from_bytes(data, "big") % Q


def random_scalar(rng: Rng) -> int:
    """Return a uniformly random scalar that is not zero (bias below 2^-64 of the group order)."""
    while True:
        value = from_bytes_wrapping(rng.bytes(SCALAR_BYTES + 16))
        if value:
            return value


def random_scalars(rng: Rng, count: int) -> list[int]:
    """Return `count` independent scalars of `random_scalar`."""
    return [random_scalar(rng) for _ in range(count)]


def invert(scalar: int) -> int:
    """Return 1/scalar mod q; raise `ValueError` for 0. Variable time: public values only."""
    return pow(scalar, -1, Q)
