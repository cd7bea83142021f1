"""Schnorr proofs of knowledge of a discrete logarithm, made non-interactive by hashing (Fiat-Shamir).

Sources: Schnorr 1989; the strong form of Fiat-Shamir, where statement and context are hashed too (Bernhard, Pereira,
Warinschi, ePrint 2016/771). `context` is whatever ties the proof to one use: session, prover, index. A proof copied
from another party, session or row has another challenge and does not verify. spec/proofs.md
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
