"""A trusted dealer of base OT seeds, so that extension and multiplication are tested by themselves. Tests only."""

from __future__ import annotations

import numpy as np

from keyquorum.algebra.rng import SeededRng
from keyquorum.protocols.base_ot import ChosenSeeds, SeedPairs
from keyquorum.protocols.multiply import CorrelationReceiver, CorrelationSender

SID = bytes(range(32))
SENDER, RECEIVER = 3, 8


def deal_seeds(seed: int | str) -> tuple[ChosenSeeds, SeedPairs]:
    rng = SeededRng(f"base OT {seed}")
    pairs = np.frombuffer(rng.bytes(2 * 128 * 16), np.uint8).reshape(2, 128, 16).copy()
    delta = bytearray(rng.bytes(16))
    chosen = np.stack([pairs[delta[i // 8] >> i % 8 & 1, i] for i in range(128)])
    return ChosenSeeds(delta, chosen), SeedPairs(pairs[0].copy(), pairs[1].copy())


def deal_pair(seed: int | str, sid: bytes = SID) -> tuple[CorrelationSender, CorrelationReceiver]:
    chosen, pairs = deal_seeds(seed)
    return CorrelationSender(sid, SENDER, RECEIVER, chosen), CorrelationReceiver(sid, SENDER, RECEIVER, pairs)
