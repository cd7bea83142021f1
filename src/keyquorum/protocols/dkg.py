"""Key generation by all n parties, a batch of keys at a time: commit, reveal, prove, check, confirm.

The shape is SimplPedPoP (ChillDKG; Chu, Gerhart, Ruffing, Schroeder 2023) with a hash commitment in front, so that
nobody chooses its contribution after seeing another's: honest-majority protocols (Pedersen, Gennaro et al.) let n-t+1
colluders choose the key, and here t > n/2. Every party deals a random polynomial of degree t-1 per key, commits to
its coefficients in the exponent (Feldman), and proves that it knows the constant term (against rogue keys).

A party checks the *sum* of the shares it received against the sum of the commitments, one comparison per key.
That is all its later signing depends on: errors of several dealers that cancel in the sum leave the right share
behind. Only when a sum is wrong are the dealers' shares checked one by one, to name the culprits.

Finishing here does not mean that the others finished: `generate` returns keys that are only pending. The caller
stores them, then runs `confirm`, and never deletes them on an exception. spec/dkg.md
"""

from __future__ import annotations

import hmac
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated

from keyquorum.algebra.curve import Point, PointAtInfinity, generator_times, sum_points
from keyquorum.algebra.field import Q, random_scalars
from keyquorum.algebra.polynomial import evaluate, evaluate_commitment, is_share_of
from keyquorum.algebra.transcript import Tag, tagged_hash
from keyquorum.protocols.key_share import KeyShare, PendingKeys
from keyquorum.protocols.proofs import Proof, prove, verify
from keyquorum.rounds.errors import Abort, Blame
from keyquorum.rounds.message import Message, octets, points, scalars
from keyquorum.rounds.party import Party

MAX_BATCH = 1024
SALT_BYTES = 32


@dataclass(frozen=True, repr=False)
class Commitment(Message):
    """Round 1, to all, 32 bytes: the hash of the opening that follows."""

    digest: Annotated[bytes, octets(32)]


@dataclass(frozen=True, repr=False)
class Opening(Message):
    """Round 2, to all, 32 + batch (65 t + 97) bytes: coefficients x G, proofs (K, z), and the commitment's salt."""

    A: Annotated[list[list[Point]], points("batch", "t")]
    K: Annotated[list[Point], points("batch")]
    z: Annotated[list[int], scalars("batch")]
    salt: Annotated[bytes, octets(SALT_BYTES)]


@dataclass(frozen=True, repr=False)
class Shares(Message):
    """Round 2, to each, 32 batch bytes: the values of the sender's polynomials at the recipient's id."""

    f: Annotated[list[int], scalars("batch")]


@dataclass(frozen=True, repr=False)
class Confirmation(Message):
    """The only round of `confirm`, to all, 32 bytes."""

    digest: Annotated[bytes, octets(32)]


async def generate(party: Party, t: int, batch: int) -> PendingKeys:
    """Make `batch` keys of which any `t` of the parties can sign; nobody ever holds one.

    Returns keys to be stored as pending before `confirm`. Raises `ValueError` for bad parameters, `Blame` for parties
    whose messages are malformed, do not open their commitment, lack a valid proof, or whose shares are wrong.
    """
    if not 2 <= t <= len(party.parties) or not 1 <= batch <= MAX_BATCH:
        raise ValueError(f"a threshold is 2..n, a batch 1..{MAX_BATCH}")
    sid, i = party.sid, party.me
    # 1.1
    f = [random_scalars(party.rng, t) for _ in range(batch)]
    A = [[generator_times(a) for a in coefficients] for coefficients in f]
    # 1.2
    proofs = [prove(party.rng, f[row][0], A[row][0], sid, i, row) for row in range(batch)]
    opening = Opening(A, [p.K for p in proofs], [p.z for p in proofs], party.rng.bytes(SALT_BYTES))
    # 1.3
    commitments = await party.broadcast(Commitment(_commit(sid, i, opening)))
    # 2.1, 2.2
    own = Shares([evaluate(row, i) for row in f])
    shares = {j: Shares([evaluate(row, j) for row in f]) for j in party.others}
    openings, received = await party.exchange(opening, shares)
    # 3.1: lengths and points, by the kernel
    # 3.2
    wrong = {j for j in party.others if not _opens(commitments[j], sid, j, openings[j])}
    if wrong:
        raise Blame(wrong, "opening does not match its commitment")
    # 3.3
    unproven = {j: _bad_proofs(sid, j, openings[j]) for j in party.others}
    _blame(unproven, "no valid proof of knowledge")
    # 3.4, 4.1, 4.2
    received = {i: own, **received}
    try:
        keys = [_assemble(party, t, row, openings, received) for row in range(batch)]
    except PointAtInfinity:
        raise Abort("a public key or share is the point at infinity (probability 2^-256)") from None
    # 4.3
    transcript = _transcript(party, t, batch, commitments)
    return PendingKeys(transcript, tuple(keys))


async def confirm(party: Party, pending: PendingKeys) -> list[KeyShare]:
    """Compare the outcome of `generate` with all other parties; return the keys, which all of them hold alike.

    A run of its own, under another session id, after the caller stored `pending`; it may be repeated under new ids.
    Raises `Abort` when anyone saw another transcript, key or public share.
    """
    if (party.me, party.parties) != (pending.keys[0].party_id, pending.keys[0].parties):
        raise ValueError("keys are confirmed by the parties that made them")
    # 5.1
    outcome = pending.digest()
    answers = await party.broadcast(Confirmation(outcome))
    # 5.2
    if any(not hmac.compare_digest(answer.digest, outcome) for answer in answers.values()):
        raise Abort("the parties did not make the same keys")
    return list(pending.keys)


def _commit(sid: bytes, i: int, opening: Opening) -> bytes:
    return tagged_hash(Tag.DKG_COMMITMENT, sid, i, opening.encode())


def _opens(commitment: Commitment, sid: bytes, j: int, opening: Opening) -> bool:
    return hmac.compare_digest(commitment.digest, _commit(sid, j, opening))


def _bad_proofs(sid: bytes, j: int, opening: Opening) -> list[int]:
    """Return the rows whose proof of knowledge does not verify for dealer j."""
    rows: Iterator[tuple[list[Point], Point, int]] = zip(opening.A, opening.K, opening.z, strict=True)
    return [row for row, (A, K, z) in enumerate(rows) if not verify(A[0], Proof(K, z), sid, j, row)]


def _assemble(
    party: Party, t: int, row: int, openings: Mapping[int, Opening], shares: Mapping[int, Shares]
) -> KeyShare:
    """Add up one key's contributions and check our share of it; `Blame` the dealers of a wrong one."""
    S = [sum_points(openings[j].A[row][k] for j in party.parties) for k in range(t)]
    X = {j: evaluate_commitment(S, j) for j in party.parties}
    x_i = sum(shares[j].f[row] for j in party.parties) % Q
    if generator_times(x_i) != X[party.me]:
        wrong = {j: [] if is_share_of(shares[j].f[row], openings[j].A[row], party.me) else [row] for j in party.others}
        _blame(wrong, "share is not on the committed polynomial")
        raise AssertionError("shares that are right one by one add up to the right sum")
    return KeyShare(x_i, S[0], X, party.me, t, party.parties)


def _blame(rows_of: Mapping[int, list[int]], reason: str) -> None:
    culprits = {j for j, rows in rows_of.items() if rows}
    if culprits:
        raise Blame(culprits, reason, sorted({row for j in culprits for row in rows_of[j]}))


def _transcript(party: Party, t: int, batch: int, commitments: Mapping[int, Commitment]) -> bytes:
    """Hash what was agreed: each commitment binds everything its dealer broadcast."""
    digests = [commitments[j].digest for j in party.parties]
    return tagged_hash(Tag.DKG_CONFIRMATION, "transcript", party.sid, list(party.parties), t, batch, digests)
