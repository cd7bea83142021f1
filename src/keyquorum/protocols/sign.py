"""Threshold ECDSA signing: DKLs23 (ePrint 2023/765) protocol 3.6, two rounds, any t of the n parties.

The paper multiplies inside the protocol; here each ordered pair of signers spends one precomputed random
correlation and turns it into the product it needs by sending the difference (Beaver). Digest and key are fixed before
the nonce exists, and the signers' exact set is part of the run: there are no presignatures to steal, reuse or show to
two groups. The nonce is k = sum r_i, masked by phi = sum phi_i; party i ends with additive shares w_i of
phi (h + R.x x) and u_i of phi k, whose quotient is the signature's s.

Every product comes with its check in the exponent against R_j and pk_j (step 3): a party that used another value in
one multiplication than in another, or than the one it published, is caught before anything is released. The checks are
local: their `Blame` convinces this party only. spec/sign.md
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, NamedTuple

from keyquorum.algebra.curve import Point, PointAtInfinity, generator_times, sum_points
from keyquorum.algebra.ecdsa import lower, recover, to_compact
from keyquorum.algebra.field import Q, invert, random_scalars
from keyquorum.algebra.polynomial import lagrange_at_zero
from keyquorum.algebra.transcript import Tag, tagged_hash
from keyquorum.protocols.correlations import NAME_BYTES, Inventory, Name, ReceiverCorrelation, SenderCorrelation
from keyquorum.protocols.key_share import KeyShare
from keyquorum.protocols.zero_share import share
from keyquorum.rounds.errors import Abort, Blame
from keyquorum.rounds.message import Message, octets, points, scalars
from keyquorum.rounds.party import Party

DIGEST_BYTES = 32
SALT_BYTES = 32
MAX_BATCH = 64


@dataclass(frozen=True, repr=False)
class Commitment(Message):
    """Round 1, to all, 32 bytes: the hash of R_i of every row."""

    digest: Annotated[bytes, octets(32)]


@dataclass(frozen=True, repr=False)
class Names(Message):
    """Round 1, to each, 28 batch bytes: the correlations that the sender reserved with the recipient."""

    names: Annotated[list[bytes], octets(NAME_BYTES, "batch")]


@dataclass(frozen=True, repr=False)
class Products(Message):
    """Round 2, to each, 32 + 356 batch bytes: the opening of R_i, and what turns the correlations into products."""

    R: Annotated[list[Point], points("batch")]
    salt: Annotated[bytes, octets(SALT_BYTES)]
    pk: Annotated[list[Point], points("batch")]
    Gamma_u: Annotated[list[Point], points("batch")]
    Gamma_v: Annotated[list[Point], points("batch")]
    psi: Annotated[list[int], scalars("batch")]
    D_u: Annotated[list[int], scalars("batch")]
    D_v: Annotated[list[int], scalars("batch")]


class SignatureShare(NamedTuple):
    """One party's part (w_i, u_i) of one signature; it goes to whoever combines, once."""

    w: int
    u: int


@dataclass(frozen=True)
class SignatureShares:
    """The outcome of `sign`: per row our share, and the nonce point R that all signers share."""

    rows: tuple[SignatureShare, ...] = field(repr=False)
    R: tuple[Point, ...]


class Signature(NamedTuple):
    """An ECDSA signature with low s; v in 0..3 leads back to the key (bit 0: y of R is odd, bit 1: its x >= q)."""

    r: int
    s: int
    v: int

    def to_bytes(self) -> bytes:
        """Return the 65 bytes r || s || v."""
        return to_compact(self.r, self.s) + bytes([self.v])


@dataclass(repr=False)
class _Own:
    """Our secrets of one run, row by row."""

    sk: list[int]
    r: list[int]
    phi: list[int]
    R: list[Point]
    pk: list[Point]
    salt: bytes


async def sign(party: Party, key: KeyShare, digests: Sequence[bytes], inventory: Inventory) -> SignatureShares:
    """Sign `digests` (batch, 32 bytes each) with our share of `key`; `party.parties` are the exactly t signers.

    Spends one correlation per row, ordered pair and direction. Refuses with `ValueError` or `Depleted`
    before anything is spent. Raises `Blame` for a peer whose message is malformed, whose names are not good, whose
    opening or product is wrong; `Abort` when the parts do not add up (nobody is known). A retry is a new run.
    """
    # 0.1
    h = [_scalar_of(digest) for digest in digests]
    _check_signers(party, key, len(h))
    # 0.2
    seeds = {j: inventory.zero_seed(j) for j in party.others}
    zeta = share(party.sid, party.me, party.parties, seeds, len(h), key.public_key.to_bytes(), list(digests))
    # 0.3
    lambda_i = lagrange_at_zero(party.me, party.parties)
    sk = [(lambda_i * key.key_share + z) % Q for z in zeta]
    # 1.1
    own = _draw(party, sk)
    # 1.2
    sent = inventory.reserve_each(party.others, len(h))
    # 1.3
    commitment = Commitment(_commit(party.sid, party.me, own.R, own.salt))
    names = {j: Names([name.to_bytes() for name, _ in sent[j]]) for j in party.others}
    commitments, named = await party.exchange(commitment, names)
    # 1.4
    taken = inventory.take_each({j: [Name.from_bytes(name) for name in named[j].names] for j in party.others})
    # 2.1
    messages = {j: _products(own, [half for _, half in sent[j]], taken[j]) for j in party.others}
    c = [_sums((half.c_u, half.c_v) for _, half in row) for row in zip(*sent.values(), strict=True)]
    del sent
    # 2.2
    received = await party.scatter(messages)
    # 3.1
    wrong = {j for j in party.others if not _opens(commitments[j], party.sid, j, received[j])}
    if wrong:
        raise Blame(wrong, "opening does not match its commitment")
    # 3.2
    d = {j: _add_differences(taken[j], received[j]) for j in party.others}
    # 3.3
    _check_products({j: _inconsistent_rows(taken[j], d[j], received[j]) for j in party.others})
    # 3.4
    R = [_joint_nonce(key, own, received, row) for row in range(len(h))]
    # 4.1
    psi = [own.phi[row] + sum(message.psi[row] for message in received.values()) for row in range(len(h))]
    cd = [_sums((c[row], *(d[j][row] for j in party.others))) for row in range(len(h))]
    u = [(own.r[row] * psi[row] + cd[row][0]) % Q for row in range(len(h))]
    v = [(own.sk[row] * psi[row] + cd[row][1]) % Q for row in range(len(h))]
    # 4.2
    w = [(h[row] * own.phi[row] + R[row].x * v[row]) % Q for row in range(len(h))]
    return SignatureShares(tuple(map(SignatureShare, w, u)), tuple(R))


def combine(shares: Mapping[int, SignatureShare], R: Point, digest: bytes, X: Point) -> Signature:
    """Return the signature that the shares of all t signers add up to, checked against the key `X` of the chain.

    `R` is what the signers said; a wrong one, parity included, does not pass. Raises `ValueError` for a digest that
    nobody signs, `Abort` when the shares make no valid signature (nobody is known to be at fault).
    """
    _scalar_of(digest)
    # 5.1
    w = sum(part.w for part in shares.values()) % Q
    u = sum(part.u for part in shares.values()) % Q
    r = R.x % Q
    if 0 in (w, u, r):
        raise Abort("the shares make no signature")
    # 5.2
    s, v = lower(w * invert(u) % Q, int(R.y_is_odd) | int(R.x >= Q) << 1)
    # 5.3
    try:
        signer = recover(digest, r, s, v)
    except ValueError:
        signer = None
    if signer != X:
        raise Abort("the shares make no signature under this key")
    return Signature(r, s, v)


def _scalar_of(digest: bytes) -> int:
    """Return the digest as a number in 1..q-1. 0 would sign nothing, and one from q upwards would sign two digests."""
    h = int.from_bytes(digest, "big")
    if len(digest) != DIGEST_BYTES or not 0 < h < Q:
        raise ValueError("a digest has 32 bytes, is not 0 and below the group order")
    return h


def _check_signers(party: Party, key: KeyShare, batch: int) -> None:
    if not 1 <= batch <= MAX_BATCH:
        raise ValueError(f"a run signs 1..{MAX_BATCH} digests")
    if party.me != key.party_id or len(party.parties) != key.t or not set(party.parties) <= set(key.parties):
        raise ValueError("the signers are exactly t holders of the key, this party among them")


def _draw(party: Party, sk: list[int]) -> _Own:
    """Draw the run's randomness and everything of ours that is a point."""
    r, phi = random_scalars(party.rng, len(sk)), random_scalars(party.rng, len(sk))
    try:
        pk = [generator_times(s) for s in sk]
    except PointAtInfinity:
        raise Abort("a signing share is zero (probability 2^-256)") from None
    return _Own(sk, r, phi, [generator_times(k) for k in r], pk, party.rng.bytes(SALT_BYTES))


def _commit(sid: bytes, i: int, R: Sequence[Point], salt: bytes) -> bytes:
    return tagged_hash(Tag.SIGN_COMMITMENT, sid, i, b"".join(point.to_bytes() for point in R), salt)


def _opens(commitment: Commitment, sid: bytes, j: int, opening: Products) -> bool:
    return hmac.compare_digest(commitment.digest, _commit(sid, j, opening.R, opening.salt))


def _products(own: _Own, sent: Sequence[SenderCorrelation], taken: Sequence[ReceiverCorrelation]) -> Products:
    """Return what turns the correlations with one peer into r_i chi_j, sk_i chi_j and phi_i in the peer's hands."""
    return Products(
        own.R,
        own.salt,
        own.pk,
        [generator_times(half.c_u) for half in sent],
        [generator_times(half.c_v) for half in sent],
        [(phi - half.chi) % Q for phi, half in zip(own.phi, taken, strict=True)],
        [(r - half.a_u) % Q for r, half in zip(own.r, sent, strict=True)],
        [(sk - half.a_v) % Q for sk, half in zip(own.sk, sent, strict=True)],
    )


def _add_differences(taken: Sequence[ReceiverCorrelation], message: Products) -> list[tuple[int, int]]:
    """Return our shares (d_u, d_v) of chi times the peer's real r_j and sk_j."""
    rows = zip(taken, message.D_u, message.D_v, strict=True)
    return [((half.d_u + half.chi * D_u) % Q, (half.d_v + half.chi * D_v) % Q) for half, D_u, D_v in rows]


def _inconsistent_rows(
    taken: Sequence[ReceiverCorrelation], d: Sequence[tuple[int, int]], message: Products
) -> list[int]:
    """Return the rows in which the peer multiplied something else than what it published."""
    bad = []
    for row, (half, (d_u, d_v)) in enumerate(zip(taken, d, strict=True)):
        good_u = _is_product(half.chi, message.R[row], message.Gamma_u[row], d_u)
        good_v = _is_product(half.chi, message.pk[row], message.Gamma_v[row], d_v)
        if not (good_u and good_v):
            bad.append(row)
    return bad


def _is_product(chi: int, P: Point, Gamma: Point, d: int) -> bool:
    """Return whether chi P = Gamma + d G, with chi and d secret."""
    try:
        # d = 0 and Gamma = -d G come from a peer that chose its values so: false, not an error.
        return hmac.compare_digest(P.shared_digest(chi), (Gamma + generator_times(d)).digest())
    except PointAtInfinity:
        return False


def _check_products(bad_rows: Mapping[int, list[int]]) -> None:
    culprits = {j for j, rows in bad_rows.items() if rows}
    if culprits:
        raise Blame(culprits, "inconsistent product", sorted({row for rows in bad_rows.values() for row in rows}))


def _joint_nonce(key: KeyShare, own: _Own, received: Mapping[int, Products], row: int) -> Point:
    """Return R of one row, after the check that the signing shares add up to the key."""
    try:
        X = sum_points([own.pk[row], *(message.pk[row] for message in received.values())])
        R = sum_points([own.R[row], *(message.R[row] for message in received.values())])
    except PointAtInfinity:
        raise Abort("the parties' points add up to infinity") from None
    if key.public_key != X:
        raise Abort("the signing shares do not add up to the key")
    return R


def _sums(pairs: Iterable[tuple[int, int]]) -> tuple[int, int]:
    us, vs = zip(*pairs, strict=True)
    return sum(us), sum(vs)
