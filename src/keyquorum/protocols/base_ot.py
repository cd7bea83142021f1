"""Base OT: 128 random oblivious transfers from Diffie-Hellman, where each OT extension of a pair starts.

Endemic OT of Masny and Rindal (ePrint 2019/706) over secp256k1. spec/base_ot.md

The chooser sends two points per OT. Their construction ties each to a hash of the other, so that the chooser can know
the discrete logarithm behind one branch only, and since both are uniform nobody sees which. The responder adds a
fresh Diffie-Hellman point for each branch of each OT. Every seed is a hash of the session, both parties, the index, the
branch and *all* points of that OT: what OT implementations were broken by is mostly a pad that forgot one of these.

"Chooser" and "responder" are the roles here because the pair's roles swap afterwards: the chooser becomes the
*sender* of the OT extension, and its choice bits are the extension's Delta.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from keyquorum.algebra.curve import POINT_BYTES, Point, PointAtInfinity, generator_times, hash_to_point
from keyquorum.algebra.field import random_scalar
from keyquorum.algebra.rng import Rng
from keyquorum.algebra.transcript import Tag, tagged_hash
from keyquorum.rounds.errors import Blame

KAPPA = 128
SEED_BYTES = 16
MESSAGE_BYTES = 2 * KAPPA * POINT_BYTES

Bytes = npt.NDArray[np.uint8]
Pair = tuple[Point, Point]


@dataclass(frozen=True)
class _Run:
    """What every hash of a run contains: session and both parties."""

    sid: bytes
    chooser: int
    responder: int

    def __post_init__(self) -> None:
        if self.chooser == self.responder or min(self.chooser, self.responder) < 1:
            raise ValueError("a base OT takes two different parties with ids from 1")

    def mask(self, k: int, branch: int, other: Point) -> Point:
        """Return H_branch(other): the point that the other branch's point commits this branch to."""
        return hash_to_point(Tag.BASE_OT_POINT, self.sid, self.chooser, self.responder, k, branch, other.to_bytes())

    def pad(self, k: int, branch: int, R: Pair, A: Pair, shared: bytes) -> bytes:
        """Return the 16-byte seed of one branch."""
        points = [point.to_bytes() for point in (*R, *A)]
        return tagged_hash(Tag.BASE_OT_PAD, self.sid, self.chooser, self.responder, k, branch, points, shared)[
            :SEED_BYTES
        ]


@dataclass
class ChosenSeeds:
    """The chooser's result: 128 choice bits and for each the seed of the chosen branch.

    delta: 16 bytes, bit k in byte k // 8 at weight 2^(k % 8). seeds: (128, 16) bytes. For the extension's sender only.
    """

    delta: bytearray = field(repr=False)
    seeds: Bytes = field(repr=False)

    def erase(self) -> None:
        """Overwrite everything with zeros."""
        self.delta[:] = bytes(len(self.delta))
        self.seeds.fill(0)


@dataclass
class SeedPairs:
    """The responder's result: both seeds of each OT, zeros and ones (128, 16). For the extension's receiver only."""

    zeros: Bytes = field(repr=False)
    ones: Bytes = field(repr=False)

    def erase(self) -> None:
        """Overwrite everything with zeros."""
        self.zeros.fill(0)
        self.ones.fill(0)


@dataclass
class ChooserState:
    """What the chooser keeps between its message and the answer; `finish` consumes it."""

    run: _Run
    delta: bytearray = field(repr=False)
    secrets: list[int] = field(repr=False)
    sent: list[Pair] = field(repr=False)


def choose(sid: bytes, chooser: int, responder: int, rng: Rng) -> tuple[ChooserState, bytes]:
    """Return the chooser's state and its message of 128 x 2 points (16,640 bytes)."""
    run = _Run(sid, chooser, responder)
    # 1.1
    delta = bytearray(rng.bytes(KAPPA // 8))
    secrets, sent = [], []
    for k in range(KAPPA):
        c = _bit(delta, k)
        # 1.2
        r_other = generator_times(random_scalar(rng))
        # 1.3
        t = random_scalar(rng)
        r_chosen = generator_times(t) - run.mask(k, c, r_other)
        secrets.append(t)
        sent.append((r_chosen, r_other) if c == 0 else (r_other, r_chosen))
    # 1.4
    return ChooserState(run, delta, secrets, sent), _message(sent)


def respond(sid: bytes, chooser: int, responder: int, rng: Rng, message: bytes) -> tuple[SeedPairs, bytes]:
    """Return both seeds of each OT, and the responder's message of 128 x 2 points.

    `Blame({chooser})` when the message is malformed, holds a point twice, or makes a branch the point at infinity.
    """
    run = _Run(sid, chooser, responder)
    # 2.1
    received = _parse(message, chooser, ())
    seeds = np.empty((2, KAPPA, SEED_BYTES), np.uint8)
    sent = []
    for k, R in enumerate(received):
        # 2.2
        M = _branch_points(run, k, R)
        # 2.3
        a = random_scalar(rng), random_scalar(rng)
        A = generator_times(a[0]), generator_times(a[1])
        sent.append(A)
        # 2.4
        for b in (0, 1):
            pad = run.pad(k, b, R, A, M[b].shared_digest(a[b]))
            seeds[b, k] = np.frombuffer(pad, np.uint8)
    # 2.5
    return SeedPairs(seeds[0], seeds[1]), _message(sent)


def _branch_points(run: _Run, k: int, R: Pair) -> Pair:
    try:
        return R[0] + run.mask(k, 0, R[1]), R[1] + run.mask(k, 1, R[0])
    except PointAtInfinity:
        raise Blame({run.chooser}, "base OT branch at infinity") from None


def finish(state: ChooserState, message: bytes) -> ChosenSeeds:
    """Return the chosen seeds; `state` is used up.

    `Blame({responder})` when the message is malformed, or holds a point twice or one that the chooser sent.
    """
    if not state.secrets:
        raise ValueError("this state was used before")
    secrets, state.secrets = state.secrets, []
    run = state.run
    # 3.1
    received = _parse(message, run.responder, state.sent)
    seeds = np.empty((KAPPA, SEED_BYTES), np.uint8)
    for k, (R, A) in enumerate(zip(state.sent, received, strict=True)):
        c = _bit(state.delta, k)
        # 3.2
        pad = run.pad(k, c, R, A, A[c].shared_digest(secrets[k]))
        seeds[k] = np.frombuffer(pad, np.uint8)
    return ChosenSeeds(state.delta, seeds)


def _bit(delta: bytearray, k: int) -> int:
    return delta[k // 8] >> k % 8 & 1


def _message(pairs: Sequence[Pair]) -> bytes:
    return b"".join([point.to_bytes() for pair in pairs for point in pair])


def _parse(message: bytes, author: int, used: Sequence[Pair]) -> list[Pair]:
    if len(message) != MESSAGE_BYTES:
        raise Blame({author}, "base OT message of wrong length")
    chunks = [message[i : i + POINT_BYTES] for i in range(0, MESSAGE_BYTES, POINT_BYTES)]
    # A point has one encoding here, so equal points are equal bytes.
    if len({*chunks, *(point.to_bytes() for pair in used for point in pair)}) != len(chunks) + 2 * len(used):
        raise Blame({author}, "base OT message repeats a point")
    try:
        points = [Point.from_bytes_checked(chunk) for chunk in chunks]
    except ValueError:
        raise Blame({author}, "base OT message with a malformed point") from None
    return list(zip(points[0::2], points[1::2], strict=True))
