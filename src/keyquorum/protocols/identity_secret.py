"""The identity secret: 32 bytes that any t nodes find out together, always the same; fewer, or outsiders, cannot.

It keys the ids under which guessable names (mail addresses, accounts at a provider) stand on the public chain. It is a
distributed pseudorandom function of the network key: Naor, Pinkas and Reingold, "Distributed pseudo-random functions
and KDCs" (1999), with a proof by Chaum and Pedersen (1992) for each node's part, at one fixed point P. Each node gives
x_i P; with Lagrange's coefficients t of them add up to x P, whoever the t are, and its hash is the secret. Nothing is
stored, agreed on or backed up beyond the shares of the network key. spec/identity_secret.md
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from dataclasses import dataclass, field

from keyquorum.algebra.curve import POINT_BYTES, Point, hash_to_point, linear_combination_public
from keyquorum.algebra.field import SCALAR_BYTES, from_bytes_checked, to_bytes
from keyquorum.algebra.polynomial import lagrange_at_zero
from keyquorum.algebra.rng import Rng
from keyquorum.algebra.transcript import Tag, tagged_hash
from keyquorum.protocols.key_share import KeyShare
from keyquorum.protocols.proofs import EqualityProof, prove_equal, verify_equal
from keyquorum.rounds.errors import Blame

# 1.1: nobody knows its logarithm, and it is the same in every network: the keys differ.
P = hash_to_point(Tag.IDENTITY_POINT)
PARTIAL_BYTES = 3 * POINT_BYTES + SCALAR_BYTES


@dataclass(frozen=True)
class Partial:
    """Party `party`'s part Y = x_i P, with the proof that it is; Y is for the members of the network only."""

    party: int
    Y: Point = field(repr=False)
    proof: EqualityProof = field(repr=False)

    def to_bytes(self) -> bytes:
        """Return Y, K, L (65 bytes each) and z (32); the party is known from the link."""
        points = (self.Y, self.proof.K, self.proof.L)
        return b"".join(point.to_bytes() for point in points) + to_bytes(self.proof.z)

    @classmethod
    def from_bytes_checked(cls, party: int, data: bytes) -> Partial:
        """Return what `party` sent; raise `Blame` when it is no partial."""
        try:
            if len(data) != PARTIAL_BYTES:
                raise ValueError("a partial of the wrong length")
            cuts = [data[k : k + POINT_BYTES] for k in range(0, 3 * POINT_BYTES, POINT_BYTES)]
            Y, K, L = map(Point.from_bytes_checked, cuts)
            return cls(party, Y, EqualityProof(K, L, from_bytes_checked(data[3 * POINT_BYTES :])))
        except ValueError as error:
            raise Blame({party}, f"its part of the identity secret is none ({error})") from None


def partial(key: KeyShare, rng: Rng) -> Partial:
    """Return our part, where `key` is our share of the network key; both multiplications are constant-time."""
    X_i = key.public_shares[key.party_id]
    # 1.2
    Y = P.times_secret(key.key_share)
    # 1.3
    return Partial(key.party_id, Y, prove_equal(rng, key.key_share, X_i, P, Y, key.party_id))


def check(part: Partial, public_share: Point) -> None:
    """Raise `Blame` naming the party unless `part` is what its public share X_i of the network key says."""
    # 2.1
    if not verify_equal(public_share, P, part.Y, part.proof, part.party):
        raise Blame({part.party}, "its part of the identity secret does not fit its share of the network key")


def combine(parts: Iterable[Partial], t: int) -> bytes:
    """Return the 32 bytes that exactly `t` checked partials of different parties stand for.

    Raises `ValueError` for another number of them, or two of one party.
    """
    by_party = {part.party: part for part in parts}
    order = tuple(sorted(by_party))
    # 2.2
    if len(order) != t:
        raise ValueError(f"the identity secret takes the parts of {t} different parties, not {len(order)}")
    # 2.3
    coefficients = [lagrange_at_zero(j, order) for j in order]
    product = linear_combination_public(coefficients, [by_party[j].Y for j in order])
    # 2.4
    return tagged_hash(Tag.IDENTITY_KEY, product.to_bytes())


def conceal(secret: bytes, type_number: int, name: bytes) -> bytes:
    """Return the 32 bytes that stand on the chain for `name` under this auth method type."""
    # 3.1
    return hmac.digest(secret, tagged_hash(Tag.CONCEALED_ID, type_number, name), "sha256")
