"""ECDSA over secp256k1 seen from outside: verify, recover, and the encodings of a signature, all strict.

A signature is a pair of integers r, s in 1..q-1. With (r, s) also (r, q - s) verifies, so whoever treats a
signature as a name can be fooled: this project makes and accepts only the one with s <= (q - 1)/2 ("low s",
BIP 62, EIP-2) unless a caller says otherwise. `v` in 0..3 says which point R was: bit 0 is the parity of
its y, bit 1 whether its x is at least q. All curve work is done by libsecp256k1 through coincurve.
"""

from __future__ import annotations

from coincurve import GLOBAL_CONTEXT
from coincurve._libsecp256k1 import ffi, lib

from keyquorum.algebra.curve import Point
from keyquorum.algebra.field import Q, to_bytes

HALF_Q = (Q - 1) // 2
COMPACT_BYTES = 64
DIGEST_BYTES = 32
MAX_DER_BYTES = 72
_CTX = GLOBAL_CONTEXT.ctx


def verify(X: Point, digest: bytes, r: int, s: int, *, allow_high_s: bool = False) -> bool:
    """Return whether (r, s) signs the 32-byte `digest` under `X`; a number out of range is just false."""
    _check_digest(digest)
    if not _in_range(r, s, allow_high_s):
        return False
    raw = _signature(r, min(s, Q - s))  # the library knows low s only; both verify or neither
    return bool(lib.secp256k1_ecdsa_verify(_CTX, raw, digest, X._raw))


def recover(digest: bytes, r: int, s: int, v: int, *, allow_high_s: bool = False) -> Point:
    """Return the public key under which (r, s) signs `digest` and R is the point `v` says, else `ValueError`."""
    _check_digest(digest)
    if not _in_range(r, s, allow_high_s) or v not in (0, 1, 2, 3):
        raise ValueError("r, s or v is out of range")
    raw = ffi.new("secp256k1_ecdsa_recoverable_signature *")
    lib.secp256k1_ecdsa_recoverable_signature_parse_compact(_CTX, raw, to_compact(r, s), v)
    point = ffi.new("secp256k1_pubkey *")
    if not lib.secp256k1_ecdsa_recover(_CTX, point, raw, digest):
        raise ValueError("no public key has this signature")
    return Point(point)


def recovery_id(X: Point, digest: bytes, r: int, s: int) -> int:
    """Return the `v` with which (r, s) leads back to `X`; raise `ValueError` when it does not sign `digest`."""
    for v in range(4):
        try:
            if recover(digest, r, s, v, allow_high_s=True) == X:
                return v
        except ValueError:
            continue
    raise ValueError("not a signature under this key")


def is_low(s: int) -> bool:
    """Return whether `s` is the smaller of the two that verify."""
    return 1 <= s <= HALF_Q


def lower(s: int, v: int) -> tuple[int, int]:
    """Return the low one of s and q - s, and the `v` that goes with it (negating s negates R)."""
    return (s, v) if s <= HALF_Q else (Q - s, v ^ 1)


def to_compact(r: int, s: int) -> bytes:
    """Return the 64 bytes r || s."""
    return to_bytes(r) + to_bytes(s)


def from_compact(data: bytes) -> tuple[int, int]:
    """Return (r, s) of exactly 64 bytes; raise `ValueError` when one is not in 1..q-1. High s is let through."""
    if len(data) != COMPACT_BYTES:
        raise ValueError("a compact signature has 64 bytes")
    r, s = int.from_bytes(data[:32], "big"), int.from_bytes(data[32:], "big")
    if not _in_range(r, s, allow_high_s=True):
        raise ValueError("r or s is out of range")
    return r, s


def to_ethereum(r: int, s: int, v: int) -> bytes:
    """Return the 65 bytes r || s || 27 + v of `personal_sign`; raise `ValueError` unless `v` is 0 or 1."""
    if v not in (0, 1):
        raise ValueError("Ethereum has no form for a signature whose R has x >= q: sign again")
    return to_compact(r, s) + bytes([27 + v])


def from_ethereum(data: bytes) -> tuple[int, int, int]:
    """Return (r, s, v) of exactly 65 bytes whose last is 27, 28, 0 or 1; raise `ValueError` otherwise."""
    if len(data) != COMPACT_BYTES + 1:
        raise ValueError("an Ethereum signature has 65 bytes")
    v = data[64] - 27 if data[64] >= 27 else data[64]
    if v not in (0, 1):
        raise ValueError("the last byte of an Ethereum signature is 27, 28, 0 or 1")
    return (*from_compact(data[:64]), v)


def to_der(r: int, s: int) -> bytes:
    """Return the DER form of (r, s)."""
    out = ffi.new("unsigned char[]", MAX_DER_BYTES)
    length = ffi.new("size_t *", MAX_DER_BYTES)
    lib.secp256k1_ecdsa_signature_serialize_der(_CTX, out, length, _signature(r, s))
    return bytes(ffi.buffer(out, length[0]))


def from_der(data: bytes) -> tuple[int, int]:
    """Return (r, s) of strict DER (the one encoding `to_der` makes), else `ValueError`. High s is let through."""
    raw = ffi.new("secp256k1_ecdsa_signature *")
    compact = ffi.new("unsigned char[]", COMPACT_BYTES)
    if not lib.secp256k1_ecdsa_signature_parse_der(_CTX, raw, data, len(data)):  # takes the one form DER has
        raise ValueError("not a DER signature")
    lib.secp256k1_ecdsa_signature_serialize_compact(_CTX, compact, raw)
    return from_compact(bytes(ffi.buffer(compact, COMPACT_BYTES)))  # the library reads numbers out of range as 0


def _signature(r: int, s: int) -> object:
    raw = ffi.new("secp256k1_ecdsa_signature *")
    if not lib.secp256k1_ecdsa_signature_parse_compact(_CTX, raw, to_compact(r, s)):
        raise ValueError("r or s is out of range")
    return raw


def _in_range(r: int, s: int, allow_high_s: bool) -> bool:
    return 1 <= r < Q and 1 <= s <= (Q - 1 if allow_high_s else HALF_Q)


def _check_digest(digest: bytes) -> None:
    if len(digest) != DIGEST_BYTES:
        raise ValueError("a digest has 32 bytes")
