"""Points of secp256k1, always through libsecp256k1: no point is ever computed with Python integers.

A `Point` is never the point at infinity: whatever would yield it raises `PointAtInfinity`. Functions that
multiply by a *secret* use the library's constant-time paths (`generator_times`, `times_secret`, `shared_digest`); the
variable-time path says `public` in its name. coincurve bundles the library; we call its C functions through
coincurve's own cffi module, which is private, so the version is pinned.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

from coincurve import GLOBAL_CONTEXT
from coincurve._libsecp256k1 import ffi, lib

from keyquorum.algebra.field import Q, to_bytes
from keyquorum.algebra.transcript import Hashable, Tag, tagged_hash

POINT_BYTES = 65
COMPRESSED_BYTES = 33
_PREFIXES = (b"\x02", b"\x03")
_UNCOMPRESSED_FLAG = 2
_CTX = GLOBAL_CONTEXT.ctx
# Looked up once: parsing a C type's name costs as much as making the object.
_PUBKEY = ffi.typeof("secp256k1_pubkey *")
_UNCOMPRESSED = ffi.typeof(f"unsigned char[{POINT_BYTES}]")
_DIGEST = ffi.typeof("unsigned char[32]")
_COORDINATES = ffi.typeof("unsigned char[64]")
_SIZE = ffi.typeof("size_t *")
_NO_HASH = _NO_DATA = ffi.NULL


class PointAtInfinity(ValueError):
    """A sum or product was the neutral element, which no value of this project may be."""


class Point:
    """A point of secp256k1 other than infinity; immutable, compared and hashed by value."""

    __slots__ = ("_bytes", "_raw")

    def __init__(self, raw: object, data: bytes | None = None) -> None:
        """`raw` is the library's own form, `data` the 65 bytes where they are known already."""
        self._raw = raw
        self._bytes = data

    @classmethod
    def from_bytes_checked(cls, data: bytes) -> Point:
        """Parse exactly 65 bytes starting with 0x04; raise `ValueError` for anything else or off the curve."""
        if len(data) != POINT_BYTES or data[0] != 4:
            raise ValueError("a point has 65 bytes and starts with 04")
        known = bytes(data)
        return cls(_parse(known), known)

    @classmethod
    def from_compressed_checked(cls, data: bytes) -> Point:
        """Parse exactly 33 bytes starting with 0x02 or 0x03; raise `ValueError` otherwise."""
        if len(data) != COMPRESSED_BYTES or data[0] not in (2, 3):
            raise ValueError("a compressed point has 33 bytes and starts with 02 or 03")
        return cls(_parse(bytes(data)))

    def to_bytes(self) -> bytes:
        """Return the 65 uncompressed bytes."""
        if self._bytes is None:
            out = ffi.new(_UNCOMPRESSED)
            length = ffi.new(_SIZE, POINT_BYTES)
            lib.secp256k1_ec_pubkey_serialize(_CTX, out, length, self._raw, _UNCOMPRESSED_FLAG)
            self._bytes = bytes(ffi.buffer(out))
        return self._bytes

    def to_compressed(self) -> bytes:
        """Return the 33 compressed bytes."""
        data = self.to_bytes()
        return _PREFIXES[data[-1] & 1] + data[1:COMPRESSED_BYTES]

    @property
    def x(self) -> int:
        """The affine x coordinate, not reduced modulo q."""
        return int.from_bytes(self.to_bytes()[1:33], "big")

    @property
    def y_is_odd(self) -> bool:
        """Whether the affine y coordinate is odd."""
        return bool(self.to_bytes()[64] & 1)

    def __add__(self, other: Point) -> Point:
        return sum_points((self, other))

    def __sub__(self, other: Point) -> Point:
        return sum_points((self, -other))

    def __neg__(self) -> Point:
        raw = ffi.new(_PUBKEY, self._raw[0])  # type: ignore[index]
        lib.secp256k1_ec_pubkey_negate(_CTX, raw)
        return Point(raw)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Point):
            return NotImplemented
        return bool(lib.secp256k1_ec_pubkey_cmp(_CTX, self._raw, other._raw) == 0)

    def __hash__(self) -> int:
        return hash(self.to_compressed())

    def __repr__(self) -> str:
        return f"Point({self.to_compressed().hex()})"

    def times_public(self, scalar: int) -> Point:
        """Return scalar x self in variable time: for public scalars only; 0 raises `PointAtInfinity`."""
        if scalar % Q == 0:
            raise PointAtInfinity("0 x point")
        raw = ffi.new(_PUBKEY, self._raw[0])  # type: ignore[index]
        lib.secp256k1_ec_pubkey_tweak_mul(_CTX, raw, to_bytes(scalar % Q))
        return Point(raw)

    def times_secret(self, secret: int) -> Point:
        """Return secret x self in constant time: what `secp256k1_ecdh` computes, before it is hashed."""
        if secret % Q == 0:
            raise PointAtInfinity("0 x point")
        out = ffi.new(_COORDINATES)
        lib.secp256k1_ecdh(_CTX, out, self._raw, to_bytes(secret), _coordinates, _NO_DATA)
        data = b"\x04" + bytes(ffi.buffer(out))
        return Point(_parse(data), data)

    def shared_digest(self, secret: int) -> bytes:
        """Return SHA-256 of the compressed point secret x self, in constant time (`secp256k1_ecdh`)."""
        if secret % Q == 0:
            raise PointAtInfinity("0 x point")
        out = ffi.new(_DIGEST)
        lib.secp256k1_ecdh(_CTX, out, self._raw, to_bytes(secret), _NO_HASH, _NO_DATA)
        return bytes(ffi.buffer(out))

    def digest(self) -> bytes:
        """Return SHA-256 of the compressed point: what `shared_digest` of the same point gives."""
        return hashlib.sha256(self.to_compressed()).digest()


def _copy_coordinates(out: object, x: object, y: object, _: object) -> int:
    ffi.memmove(out, x, 32)
    ffi.memmove(out + 32, y, 32)  # type: ignore[operator]
    return 1


# secp256k1_ecdh lets its caller hash the product; this "hash" is the product itself.
_coordinates = ffi.callback(
    "int(unsigned char *, unsigned char *, unsigned char *, void *)", _copy_coordinates, error=0
)


def _parse(data: bytes) -> object:
    raw = ffi.new(_PUBKEY)
    if not lib.secp256k1_ec_pubkey_parse(_CTX, raw, data, len(data)):
        raise ValueError("not a point of secp256k1")
    return raw


def generator_times(secret: int) -> Point:
    """Return secret x G in constant time; 0 raises `PointAtInfinity`."""
    raw = ffi.new(_PUBKEY)
    if not lib.secp256k1_ec_pubkey_create(_CTX, raw, to_bytes(secret)):
        raise PointAtInfinity("0 x G")
    return Point(raw)


def sum_points(points: Iterable[Point]) -> Point:
    """Return the sum of at least one point; raise `PointAtInfinity` when it is the neutral element."""
    raws: Sequence[object] = [point._raw for point in points]
    out = ffi.new(_PUBKEY)
    if not raws or not lib.secp256k1_ec_pubkey_combine(_CTX, out, raws, len(raws)):
        raise PointAtInfinity("the points add up to infinity")
    return Point(out)


def linear_combination_public(scalars: Sequence[int], points: Sequence[Point]) -> Point:
    """Return the sum of scalars[k] x points[k] in variable time: public values only; zero scalars drop out."""
    terms = [point.times_public(k) for k, point in zip(scalars, points, strict=True) if k % Q]
    return sum_points(terms)


def hash_to_point(tag: Tag, *values: Hashable) -> Point:
    """Return a point whose discrete logarithm nobody knows, by try and increment on *public* values.

    The even-y point of the first counter whose hash is the x coordinate of a point, as a random oracle
    into the points with even y, signed by one further hash bit so that all points are reached.
    """
    for counter in range(256):
        x = tagged_hash(tag, counter, *values)
        sign = tagged_hash(tag, counter, "sign", *values)[0] & 1
        try:
            return Point.from_compressed_checked(bytes([2 + sign]) + x)
        except ValueError:
            continue
    raise AssertionError("256 hashes in a row are no x coordinate: probability 2^-256")
