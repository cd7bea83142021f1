"""CPU cost of the protocols in one process, for all parties, without network: `time.process_time`, medians.

Beside them the cost of what strangers send before anything of it is known to be good.

Correlations are real ones. To save the quadratic number of pair setups, one pair makes them all; their cost does not
depend on who the pair is.
"""

from __future__ import annotations

import time
from contextlib import suppress
from statistics import median
from typing import TypeVar

from keyquorum.algebra.rng import Rng, SystemRng
from keyquorum.formats.strict_json import BadJson, loads
from keyquorum.protocols import base_ot, dkg
from keyquorum.protocols.correlations import Inventory
from keyquorum.protocols.key_share import KeyShare
from keyquorum.protocols.multiply import CorrelationReceiver, CorrelationSender, ReceiverBatch, SenderBatch
from keyquorum.protocols.sign import SignatureShares, combine, sign
from keyquorum.rounds.party import Party
from keyquorum.rounds.session import Envelope, Session

BATCH = 64
T = TypeVar("T")


class Pair:
    """One direction of one pair, set up for real; makes batches of correlations."""

    def __init__(self, rng: Rng) -> None:
        sid = rng.bytes(32)
        state, points = base_ot.choose(sid, 1, 2, rng)
        pairs, answer = base_ot.respond(sid, 1, 2, rng, points)
        self._sender = CorrelationSender(sid, 1, 2, base_ot.finish(state, answer))
        self._receiver = CorrelationReceiver(sid, 1, 2, pairs)
        self._rng = rng
        self._batch = 0

    def make(self, size: int) -> tuple[SenderBatch, ReceiverBatch]:
        """Return both halves of the next batch."""
        self._batch += 1
        pending, request = self._receiver.request(self._batch, size, self._rng)
        sent, reply = self._sender.extend(self._batch, size, request, self._rng)
        return sent, self._receiver.accept(pending, reply)


def correlation_seconds(repeats: int = 45) -> float:
    """Return the CPU seconds of one correlation, both sides, in batches of 64."""
    pair = Pair(SystemRng())
    pair.make(BATCH)
    times = []
    for _ in range(repeats):
        began = time.process_time()
        pair.make(BATCH)
        times.append((time.process_time() - began) / BATCH)
    return median(times)


def setup_seconds(repeats: int = 5) -> float:
    """Return the CPU seconds of one pair setup (base OTs), both sides, one direction."""
    times = []
    for _ in range(repeats):
        began = time.process_time()
        Pair(SystemRng())
        times.append(time.process_time() - began)
    return median(times)


def signature_seconds(t: int, repeats: int = 21) -> float:
    """Return the CPU seconds per party of one run of the signing protocol with t signers, combining left out."""
    rng = SystemRng()
    shares = _deal_by_dkg(t, rng)
    parties = tuple(shares)
    stock = _stock(parties, repeats, rng)
    times = []
    for _ in range(repeats):
        sid, digest = rng.bytes(32), b"\x01" + rng.bytes(31)
        began = time.process_time()
        outcome = _run({j: Session(Party(j, parties, sid, rng), sign(Party(j, parties, sid, rng), shares[j], [digest],
                                                                    stock[j])) for j in parties})  # fmt: skip
        times.append((time.process_time() - began) / t)
        _check(outcome, digest, shares[parties[0]])
    return median(times)


def _check(outcome: dict[int, SignatureShares], digest: bytes, key: KeyShare) -> None:
    rows = {j: shares.rows[0] for j, shares in outcome.items()}
    combine(rows, next(iter(outcome.values())).R[0], digest, key.public_key)


def hostile_json_seconds(repeats: int = 5) -> float:
    """Return the CPU seconds that the dearest of several hostile documents of one MiB costs before it is refused."""
    return max(_reading_seconds(document, repeats) for document in hostile_documents())


def hostile_documents(size: int = 1 << 20) -> list[bytes]:
    """Return documents of `size` bytes, each made to be dear for one step of a reader of JSON."""
    repeated = [
        b"1,", b"[", b"{},", b'{"a":', b'"a":1,', b"[1,1],", b"1.5,", b"1234567890123456789,", b"9", b'"', b'"",',
        rb"\\", rb"\"", rb"\u003a", rb'"\ud800",', b" ", b"-", b'"abcdefghijklmnopqrstuvwxyz",',
    ]  # fmt: skip
    openings = (b"", b"[", b"{", b'["')
    return [(opening + each * size)[:size] for each in repeated for opening in openings]


def _reading_seconds(document: bytes, repeats: int) -> float:
    times = []
    for _ in range(repeats):
        began = time.process_time()
        with suppress(BadJson):
            loads(document, len(document))
        times.append(time.process_time() - began)
    return median(times)


def _deal_by_dkg(t: int, rng: Rng) -> dict[int, KeyShare]:
    parties = tuple(range(1, t + 1))
    sid = rng.bytes(32)
    sessions = {
        j: Session(Party(j, parties, sid, rng), dkg.generate(Party(j, parties, sid, rng), t, 1)) for j in parties
    }
    return {j: pending.keys[0] for j, pending in _run(sessions).items()}


def _stock(parties: tuple[int, ...], count: int, rng: Rng) -> dict[int, Inventory]:
    """Return inventories with `count` real correlations in each ordered pair, and the zero seeds."""
    pair = Pair(rng)
    stock = {j: Inventory() for j in parties}
    for i in parties:
        for j in parties:
            if i == j:
                continue
            sent, received = pair.make(count)
            link = rng.bytes(16)
            stock[j].add_receiver(i, link, received)
            stock[i].add_sender(j, link, sent)
            if i < j:
                seed = rng.bytes(32)
                stock[i].set_zero_seed(j, seed)
                stock[j].set_zero_seed(i, seed)
    return stock


def _run(sessions: dict[int, Session[T]]) -> dict[int, T]:
    """Deliver everything in order until every session is done; return the results."""
    waiting: list[tuple[int, Envelope]] = []

    def post(sender: int, envelopes: list[Envelope]) -> None:
        for envelope in envelopes:
            to = [j for j in sessions if j != sender] if envelope.to is None else [envelope.to]
            waiting.extend((j, envelope) for j in to)

    for j, session in sessions.items():
        post(j, session.start())
    while waiting:
        batch, waiting[:] = list(waiting), []
        for j, envelope in batch:
            post(j, sessions[j].receive(envelope))
    return {j: session.result for j, session in sessions.items()}
