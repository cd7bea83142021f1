"""Random multiplication: batches of pairwise correlations c_e + d_e = a_e chi (mod q) for e in (u, v).

DKLs23 (ePrint 2023/765) section 5, protocol 5.2, with l = 2, rho = 1, xi = 416, on top of OT extension; the paper's
strict check. spec/multiply.md

Per correlation, 416 OTs. The receiver's choice bits beta_l select gadget entries: chi = sum_l g_l beta_l. For each OT
the sender corrects the pads so that the receiver gets alpha_0 + beta_l a_e, never knowing a_e; weighting those with g_l
gives shares of a_e chi. A sender that corrects differently at different positions would learn choice bits from whether
the result is right; the third, random "check" element and a random combination theta of all three make every such
position a guess: wrong guess, and `accept` fails, the batch is thrown away and **nobody says which position**. The
gadget is long enough (416 = 256 + 2 x 80) that chi stays uniform given every guess that could have been right.

Everything here is vectorised over (correlation, position): 32 correlations at a time, each number as limbs
(`algebra.limbs`). No step branches on a secret.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field
from functools import cache

import numpy as np

from keyquorum.algebra.bits import select_masks
from keyquorum.algebra.field import SCALAR_BYTES, Q, from_bytes_checked, from_bytes_wrapping, to_bytes
from keyquorum.algebra.limbs import (
    DIGITS,
    HALVES,
    WORDS,
    Floats,
    Weights,
    Words,
    add_scalars,
    digits_of,
    identity,
    multiplier,
    reduce_sums,
    words_of,
)
from keyquorum.algebra.rng import Rng
from keyquorum.algebra.scratch import scratch
from keyquorum.algebra.transcript import Tag, expand, tagged_hash
from keyquorum.protocols import ot_extension
from keyquorum.protocols.base_ot import ChosenSeeds, SeedPairs
from keyquorum.protocols.ot_extension import (
    Direction,
    ExtensionReceiver,
    ExtensionSender,
    PadHash,
    ReceiverRows,
    SenderRows,
)
from keyquorum.rounds.errors import Blame

XI = 416
MAX_SIZE = 256
_ELEMENTS = 3
_PAD_WORDS = _ELEMENTS * WORDS
_CORRECTION_BYTES = XI * _ELEMENTS * 32
_MU_BYTES = 32
_WIDE = SCALAR_BYTES + 16
# Correlations handled at once: big enough for few numpy calls, small enough for the second-level cache.
_CHUNK = 32
_MASK_COLUMN = _ELEMENTS * HALVES


@dataclass(frozen=True)
class SenderBatch:
    """The sender's side of `size` correlations: each list has `size` scalars, for the sender only."""

    batch: int
    size: int
    a_u: list[int] = field(repr=False)
    a_v: list[int] = field(repr=False)
    c_u: list[int] = field(repr=False)
    c_v: list[int] = field(repr=False)


@dataclass(frozen=True)
class ReceiverBatch:
    """The receiver's side of `size` correlations: each list has `size` scalars, for the receiver only."""

    batch: int
    size: int
    chi: list[int] = field(repr=False)
    d_u: list[int] = field(repr=False)
    d_v: list[int] = field(repr=False)


@dataclass
class PendingBatch:
    """What the receiver keeps between `request` and `accept`, which uses it up."""

    batch: int
    size: int
    direction: Direction
    rows: ReceiverRows | None = field(repr=False)


def request_bytes(size: int) -> int:
    """Return the exact length of the receiver's message for `size` correlations."""
    return ot_extension.request_bytes(XI * size)


def reply_bytes(size: int) -> int:
    """Return the exact length of the sender's message for `size` correlations: a~, eta, mu."""
    return size * (_CORRECTION_BYTES + SCALAR_BYTES + _MU_BYTES)


@cache
def gadget() -> Weights:
    """Return the public gadget vector g: 416 uniform scalars, the same for everyone, from a hash of nothing secret."""
    wide = expand(Tag.GADGET, XI * _WIDE, XI)
    return Weights([from_bytes_wrapping(wide[i : i + _WIDE]) for i in range(0, len(wide), _WIDE)])


class CorrelationSender:
    """The role that holds a and c: party `sender` of the pair. Calls wait for each other; `burn` does not wait."""

    def __init__(self, sid: bytes, sender: int, receiver: int, seeds: ChosenSeeds) -> None:
        self._extension = ExtensionSender(Direction(sid, sender, receiver), seeds)

    @property
    def burned(self) -> bool:
        """Whether everything is destroyed and every call is refused."""
        return self._extension.burned

    def burn(self) -> None:
        """Destroy Delta and the seeds, for instance when the link dies with an answer outstanding."""
        self._extension.burn()

    def extend(self, batch: int, size: int, request: bytes, rng: Rng) -> tuple[SenderBatch, bytes]:
        """Return `size` correlations and the message to the receiver.

        `ValueError` for a batch number not above the last, a size outside 1..256, or a burned object;
        `Blame({receiver})` for a request of wrong length, with burn="pair" for a failed OT check: the object is
        burned, and the pair must drop every unspent correlation of this direction.
        """
        _check_size(size)
        with self._extension.using():
            rows = self._extension.extend(batch, XI * size, request)
            try:
                return _extend(batch, size, rows, rng)
            finally:
                rows.erase()


class CorrelationReceiver:
    """The role that holds chi and d: party `receiver` of the pair. Calls wait for each other; `burn` does not."""

    def __init__(self, sid: bytes, sender: int, receiver: int, seeds: SeedPairs) -> None:
        self._extension = ExtensionReceiver(Direction(sid, sender, receiver), seeds)

    @property
    def burned(self) -> bool:
        """Whether everything is destroyed and every call is refused."""
        return self._extension.burned

    def burn(self) -> None:
        """Destroy the seeds; batches that are still pending can no longer be accepted."""
        self._extension.burn()

    def request(self, batch: int, size: int, rng: Rng) -> tuple[PendingBatch, bytes]:
        """Return the state of a new batch and the message to the sender; `ValueError` as in `extend`."""
        _check_size(size)
        with self._extension.using():
            rows, message = self._extension.request(batch, XI * size, rng)
            return PendingBatch(batch, size, self._extension.direction, rows), message

    def accept(self, pending: PendingBatch, reply: bytes) -> ReceiverBatch:
        """Return the correlations of a pending batch, which is used up whatever happens.

        `Blame({sender}, burn="batch")` when the reply is malformed or the check fails; it never says where.
        """
        if pending.direction != self._extension.direction:
            raise ValueError("this batch belongs to another pair or direction")
        rows, pending.rows = pending.rows, None
        if rows is None:
            raise ValueError("this batch was used before")
        try:
            with self._extension.using():
                return _accept(pending, rows, reply)
        finally:
            rows.erase()


def _check_size(size: int) -> None:
    if not 1 <= size <= MAX_SIZE:
        raise ValueError(f"a batch has 1 to {MAX_SIZE} correlations")


def _chunks(size: int) -> list[slice]:
    return [slice(first, min(first + _CHUNK, size)) for first in range(0, size, _CHUNK)]


def _extend(batch: int, size: int, rows: SenderRows, rng: Rng) -> tuple[SenderBatch, bytes]:
    pad_key = rows.pad_key
    hash_pads = PadHash(pad_key)
    q = rows.q.reshape(size, XI, 2)
    a_tilde = scratch("multiply.a_tilde", (size, XI, _ELEMENTS, WORDS), np.uint64)
    eta, mu = [], []
    c: list[list[int]] = []
    # 1.1
    a = _random_scalars(rng, size)
    a_words = words_of([x for row in a for x in row]).reshape(size, _ELEMENTS, WORDS)
    for part in _chunks(size):
        # 1.2
        alpha_0, alpha_1 = hash_pads.expand(np.stack((q[part], q[part] ^ rows.delta)), part.start)
        # 1.3
        shifted = add_scalars(alpha_0.reshape(a_tilde[part].shape), a_words[part])
        np.bitwise_xor(shifted, alpha_1.reshape(shifted.shape), out=a_tilde[part])
        # 1.4
        theta = _thetas(pad_key, part.start, a_tilde[part])
        # 1.5
        for (theta_u, theta_v), (a_u, a_v, a_check) in zip(theta, a[part], strict=True):
            eta.append((a_check + theta_u * a_u + theta_v * a_v) % Q)
        # 1.6
        halves = scratch("multiply.halves", (len(theta), XI, _MASK_COLUMN), np.float64)
        np.copyto(halves, alpha_0.view(np.uint16))
        mu.append(_mus(pad_key, part.start, _combine(theta), halves))
        # 1.7
        c += gadget().dot(halves[:, :, : 2 * HALVES])
    # 1.8
    reply = b"".join((a_tilde.data, *map(to_bytes, eta), *mu))
    result = SenderBatch(
        batch,
        size,
        [row[0] for row in a],
        [row[1] for row in a],
        [-row[0] % Q for row in c],
        [-row[1] % Q for row in c],
    )
    return result, reply


def _accept(pending: PendingBatch, rows: ReceiverRows, reply: bytes) -> ReceiverBatch:
    batch, size, sender = pending.batch, pending.size, pending.direction.sender
    # 2.1
    a_tilde, eta, mu = _parse_reply(sender, size, reply)
    hash_pads = PadHash(rows.pad_key)
    t = rows.t.reshape(size, XI, 2)
    beta = rows.x.reshape(size, XI)
    minus_eta = digits_of([-x % Q for x in eta])
    expected = []
    chi: list[int] = []
    d: list[list[int]] = []
    for part in _chunks(size):
        # 2.2
        theta = _thetas(rows.pad_key, part.start, a_tilde[part])
        # 2.3
        delta = hash_pads.expand(t[part][None], part.start)[0]
        masked = scratch("multiply.masked", delta.shape, np.uint64)
        delta ^= np.bitwise_and(a_tilde[part], select_masks(beta[part])[:, :, None], out=masked)
        # 2.4
        halves = scratch("multiply.halves", (*delta.shape[:2], _MASK_COLUMN + 1), np.float64)
        halves[:, :, :_MASK_COLUMN] = delta.view(np.uint16)
        halves[:, :, _MASK_COLUMN] = beta[part]
        combine = np.concatenate((_combine(theta), minus_eta[part, :, None]), axis=2)
        expected.append(_mus(rows.pad_key, part.start, combine, halves))
        # 2.5
        d += gadget().dot(halves[:, :, : 2 * HALVES])
        chi += gadget().dot_bits(halves[:, :, _MASK_COLUMN])
    # 2.6
    if not hmac.compare_digest(b"".join(expected), mu):
        raise Blame({sender}, "multiplication check", burn="batch")
    return ReceiverBatch(batch, size, chi, [row[0] for row in d], [row[1] for row in d])


def _parse_reply(sender: int, size: int, reply: bytes) -> tuple[Words, list[int], bytes]:
    if len(reply) != reply_bytes(size):
        raise Blame({sender}, "multiplication reply of wrong length", burn="batch")
    split = size * _CORRECTION_BYTES
    end = split + size * SCALAR_BYTES
    a_tilde = np.frombuffer(reply, np.uint64, split // 8).reshape(size, XI, _PAD_WORDS)
    try:
        eta = [from_bytes_checked(reply[i : i + SCALAR_BYTES]) for i in range(split, end, SCALAR_BYTES)]
    except ValueError:
        raise Blame({sender}, "multiplication reply with a malformed scalar", burn="batch") from None
    return a_tilde, eta, reply[end:]


def _random_scalars(rng: Rng, size: int) -> list[list[int]]:
    wide = rng.bytes(size * _ELEMENTS * _WIDE)
    flat = [from_bytes_wrapping(wide[i : i + _WIDE]) for i in range(0, len(wide), _WIDE)]
    return [flat[i : i + _ELEMENTS] for i in range(0, len(flat), _ELEMENTS)]


def _thetas(pad_key: bytes, first: int, a_tilde: Words) -> list[tuple[int, int]]:
    """Return theta_u, theta_v of each correlation: a hash of the transcript and of all its corrections."""
    thetas = []
    for m, corrections in enumerate(a_tilde, first):
        wide = expand(Tag.MULTIPLY_THETA, 2 * _WIDE, pad_key, m, corrections.data)
        thetas.append((from_bytes_wrapping(wide[:_WIDE]), from_bytes_wrapping(wide[_WIDE:])))
    return thetas


def _combine(thetas: list[tuple[int, int]]) -> Floats:
    """Return (batch, 8, 48): maps the halves of (u, v, check) to digit sums of theta_u u + theta_v v + check."""
    by_theta = multiplier([x for pair in thetas for x in pair]).reshape(-1, 2, DIGITS, HALVES)
    check = np.broadcast_to(identity(), (len(thetas), DIGITS, HALVES))
    return np.concatenate((by_theta[:, 0], by_theta[:, 1], check), axis=2)


def _mus(pad_key: bytes, first: int, combine: Floats, halves: Floats) -> bytes:
    """Return the 32-byte hash, for each correlation, over the combined values of all 416 positions."""
    batch, positions, _ = halves.shape
    sums = scratch("multiply.sums", (batch, DIGITS, positions), np.float64)
    np.matmul(combine, halves.transpose(0, 2, 1), out=sums)
    values = reduce_sums(sums)
    return b"".join([tagged_hash(Tag.MULTIPLY_MU, pad_key, m, value.data) for m, value in enumerate(values, first)])
