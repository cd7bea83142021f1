"""Schnorr proofs of knowledge of a discrete logarithm, and of two being equal, made non-interactive by hashing.

Sources: Schnorr 1989; Chaum and Pedersen 1992 for two equal logarithms; the strong form of Fiat-Shamir, where statement
and context are hashed too (Bernhard, Pereira, Warinschi, ePrint 2016/771). `context` is whatever ties the proof to one
use: session, prover, index. A proof copied from another party, session or row has another challenge and does not
verify. spec/proofs.md
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass

from keyquorum.algebra.curve import Point, PointAtInfinity, generator_times
from keyquorum.algebra.field import Q, from_bytes_wrapping, random_scalar
from keyquorum.algebra.rng import Rng
from keyquorum.algebra.transcript import Hashable, Tag, tagged_hash


@dataclass(frozen=True)
class Proof:
    """A proof (K, z) that its maker knew x with X = x G."""

    K: Point
    z: int


def prove(rng: Rng, x: int, X: Point, *context: Hashable) -> Proof:
    """Return a proof that we know `x`, where X = x G, valid under this `context` only."""
    # 1.1
    k = random_scalar(rng)
    K = generator_times(k)
    # 1.2
    e = challenge(X, K, *context)
    # 1.3
    return Proof(K, (k + e * x) % Q)


def verify(X: Point, proof: Proof, *context: Hashable) -> bool:
    """Return whether `proof` shows knowledge of the discrete logarithm of `X` under this `context`."""
    # 2.1
    e = challenge(X, proof.K, *context)
    # 2.2
    try:
        left, right = generator_times(proof.z), proof.K + X.times_public(e)
    except PointAtInfinity:
        return False
    return hmac.compare_digest(left.to_bytes(), right.to_bytes())


def challenge(X: Point, K: Point, *context: Hashable) -> int:
    """Return the challenge: a hash of statement, first move and context, modulo q."""
    return from_bytes_wrapping(tagged_hash(Tag.SCHNORR_CHALLENGE, X.to_bytes(), K.to_bytes(), list(context)))


@dataclass(frozen=True)
class EqualityProof:
    """A proof (K, L, z) that its maker knew one x with X = x G and Y = x P."""

    K: Point
    L: Point
    z: int


def prove_equal(rng: Rng, x: int, X: Point, P: Point, Y: Point, *context: Hashable) -> EqualityProof:
    """Return a proof that X = `x` G and Y = `x` P for the same secret `x`, valid under this `context` only."""
    # 3.1
    k = random_scalar(rng)
    K, L = generator_times(k), P.times_secret(k)
    # 3.2
    e = equality_challenge(X, P, Y, K, L, *context)
    # 3.3
    return EqualityProof(K, L, (k + e * x) % Q)


def verify_equal(X: Point, P: Point, Y: Point, proof: EqualityProof, *context: Hashable) -> bool:
    """Return whether `proof` shows that X and Y have the same logarithm, to G and to P, under this `context`."""
    # 4.1
    e = equality_challenge(X, P, Y, proof.K, proof.L, *context)
    # 4.2
    try:
        to_G = generator_times(proof.z) == proof.K + X.times_public(e)
        to_P = P.times_public(proof.z) == proof.L + Y.times_public(e)
    except PointAtInfinity:
        return False
    return to_G and to_P


def equality_challenge(X: Point, P: Point, Y: Point, K: Point, L: Point, *context: Hashable) -> int:
    """Return the challenge: a hash of both statements, both first moves and context, modulo q."""
    points = [point.to_bytes() for point in (X, P, Y, K, L)]
    return from_bytes_wrapping(tagged_hash(Tag.IDENTITY_PROOF, points, list(context)))
