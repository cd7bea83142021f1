"""Shares of zero: fresh numbers that add up to 0 over the signers, from one seed per pair and no message.

Each pair agrees once, when its link comes up, on a seed to which both contributed by commit and reveal: neither side
alone can choose it, and a seed that one honest side contributed to is uniform. In a run each pair expands its seed
with the session id; the one with the smaller id adds the result, the other subtracts it (DKLs23 section 3, F_zero;
the construction of ePrint 2018/987 and earlier). An outsider to the pair sees uniform numbers, so a party's
key share, once a share of zero is added to it, tells nothing beyond the sum. spec/zero_share.md

The caller hashes into `context` whatever the signers must agree on: two honest parties that disagree expand to
different numbers, the shares do not add up to 0, and the run ends before anything is released.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field

from keyquorum.algebra.field import Q, from_bytes_wrapping
from keyquorum.algebra.rng import Rng
from keyquorum.algebra.transcript import Hashable, Tag, expand, tagged_hash
from keyquorum.rounds.errors import Blame

SEED_BYTES = 32
COMMITMENT_BYTES = 32
OPENING_BYTES = 2 * SEED_BYTES
_WIDE = 48


@dataclass(frozen=True)
class Contribution:
    """One side's secret half of a seed, before it is opened: 32 bytes and the salt of its commitment."""

    sid: bytes
    me: int
    peer: int
    opening: bytes = field(repr=False)


@dataclass(frozen=True)
class Revealed:
    """The state of a side that has opened its half, and so accepts one commitment only."""

    mine: Contribution
    commitment: bytes


def commit(sid: bytes, me: int, peer: int, rng: Rng) -> tuple[Contribution, bytes]:
    """Draw our half of the seed with `peer`; return the state and the 32-byte commitment to send."""
    # 1.1
    mine = Contribution(sid, me, peer, rng.bytes(OPENING_BYTES))
    # 1.2
    return mine, _commitment(sid, me, mine.opening)


def reveal(mine: Contribution, commitment: bytes) -> tuple[Revealed, bytes]:
    """Take the peer's commitment; return the state and our 64-byte opening. Raises `Blame` when it is malformed."""
    # 2.1
    if len(commitment) != COMMITMENT_BYTES:
        raise Blame({mine.peer}, "malformed commitment to a zero seed")
    # 2.2
    return Revealed(mine, bytes(commitment)), mine.opening


def finish(state: Revealed, opening: bytes) -> bytes:
    """Take the peer's opening; return the pair's 32-byte seed. Raises `Blame` when it is not what was committed to."""
    mine = state.mine
    # 3.1
    expected = _commitment(mine.sid, mine.peer, opening)
    if len(opening) != OPENING_BYTES or not hmac.compare_digest(expected, state.commitment):
        raise Blame({mine.peer}, "opening of a zero seed does not match its commitment")
    # 3.2
    halves = {mine.me: mine.opening[:SEED_BYTES], mine.peer: opening[:SEED_BYTES]}
    low, high = sorted(halves)
    return tagged_hash(Tag.ZERO_SEED, mine.sid, low, high, halves[low], halves[high])


def share(
    sid: bytes, me: int, signers: tuple[int, ...], seeds: Mapping[int, bytes], batch: int, *context: Hashable
) -> list[int]:
    """Return our shares of zero, one scalar per row: over all `signers` each row adds up to 0 mod q.

    `seeds` has the pair's seed for each other signer; a run, named by `sid` and `context`, is expanded once.
    """
    zeta = [0] * batch
    run = tagged_hash(Tag.ZERO_SHARE, sid, list(context))
    for j in signers:
        if j == me:
            continue
        # 4.1
        stream = expand(Tag.ZERO_SHARE, _WIDE * batch, seeds[j], run)
        sign = 1 if me < j else -1
        # 4.2
        for row in range(batch):
            zeta[row] += sign * from_bytes_wrapping(stream[_WIDE * row : _WIDE * (row + 1)])
    return [z % Q for z in zeta]


def _commitment(sid: bytes, committer: int, opening: bytes) -> bytes:
    return tagged_hash(Tag.ZERO_COMMITMENT, sid, committer, opening)
