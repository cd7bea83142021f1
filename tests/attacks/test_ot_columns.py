"""A receiver that lies in single columns of the OT extension, with check values made to fit its guess (T09).

It flips choice bits in column j only and prepares T~_j for Delta_j = 0 or 1. The check then passes exactly if the guess
is right: one bit of Delta per try, and 128 right tries would open every pad. What stops it is that the first wrong
guess ends Delta.
"""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from keyquorum.algebra.rng import SeededRng
from keyquorum.protocols import ot_extension
from keyquorum.protocols.base_ot import SeedPairs, choose
from keyquorum.protocols.multiply import CorrelationSender, request_bytes
from keyquorum.protocols.ot_extension import Direction, ExtensionReceiver, column_bytes
from keyquorum.rounds.errors import Blame
from ot_dealer import RECEIVER, SENDER, SID, deal_seeds

DIRECTION = Direction(SID, SENDER, RECEIVER)
COUNT = 416
LENGTH = column_bytes(COUNT)


def bit_of(delta: bytes, column: int) -> int:
    return delta[column // 8] >> column % 8 & 1


class CheatingReceiver:
    """Knows the seeds like any receiver; makes requests that are right except in the guessed columns."""

    def __init__(self, pairs: SeedPairs, direction: Direction = DIRECTION) -> None:
        self.direction = direction
        honest = ExtensionReceiver(direction, pairs)
        self.zeros, self.ones = honest._zeros, honest._ones

    def request(self, batch: int, guesses: dict[int, int], rng: SeededRng) -> bytes:
        x = np.frombuffer(rng.bytes(LENGTH), np.uint64)
        T0 = self.zeros.stretch(batch, LENGTH)
        U = T0 ^ self.ones.stretch(batch, LENGTH) ^ x
        lies = {column: np.frombuffer(rng.bytes(LENGTH), np.uint64) for column in guesses}
        for column, lie in lies.items():
            U[column] ^= lie
        transcript = ot_extension._transcript(self.direction, batch, COUNT, U)
        T_tilde = np.frombuffer(ot_extension._hash_columns(transcript, T0), np.uint64).reshape(128, 2).copy()
        for column, guess in guesses.items():
            if guess:
                difference = ot_extension._hash_linear(transcript, lies[column])
                T_tilde[column] ^= np.frombuffer(difference, np.uint64)
        return b"".join((U.tobytes(), ot_extension._hash_linear(transcript, x), T_tilde.tobytes()))


def passes(sender: CorrelationSender, batch: int, request: bytes) -> bool:
    assert len(request) == request_bytes(1)
    try:
        sender.extend(batch, 1, request, SeededRng(batch))
    except Blame as blame:
        assert blame.culprits == {RECEIVER} and blame.burn == "pair"
        return False
    return True


def test_a_lie_in_one_column_passes_exactly_if_the_bit_is_guessed() -> None:
    for seed in range(40):
        chosen, pairs = deal_seeds(seed)
        bit = bit_of(chosen.delta, seed)
        guess = seed // 2 % 2
        sender = CorrelationSender(SID, SENDER, RECEIVER, chosen)
        assert passes(sender, 0, CheatingReceiver(pairs).request(0, {seed: guess}, SeededRng(seed))) == (guess == bit)
        assert sender.burned == (guess != bit)


def test_lies_in_several_columns_need_all_bits() -> None:
    passed = 0
    for seed in range(48):
        chosen, pairs = deal_seeds(seed)
        right = {column: bit_of(chosen.delta, column) for column in (3, 64, 127)}
        guesses = {3: seed & 1, 64: seed >> 1 & 1, 127: seed >> 2 & 1}
        sender = CorrelationSender(SID, SENDER, RECEIVER, chosen)
        accepted = passes(sender, 0, CheatingReceiver(pairs).request(0, guesses, SeededRng(seed)))
        assert accepted == (guesses == right)
        passed += accepted
    assert 1 <= passed <= 16


@pytest.mark.parametrize(
    ("disguise", "links"),
    [
        ("stays", 120),
        ("disconnects", 40),
        pytest.param("stays", 1000, marks=[pytest.mark.soak, pytest.mark.timeout(1800)]),
    ],
)
def test_probing_column_after_column_ends_with_the_first_wrong_guess(disguise: str, links: int) -> None:
    """What a prober learns of a Delta before it is gone: two bits on average, and nothing afterwards."""
    learned = []
    for link in range(links):
        chosen, pairs = deal_seeds(f"{disguise} {link}")
        sender, cheat = CorrelationSender(SID, SENDER, RECEIVER, chosen), CheatingReceiver(pairs)
        rng = SeededRng(link)
        column = 0
        while passes(sender, column, cheat.request(column, {column: rng.bytes(1)[0] & 1}, rng)):
            column += 1
        learned.append(column + 1)
        if disguise == "disconnects":
            # The link dies instead of an answer to the report: the node burns without having been told why.
            sender.burn()
        assert sender.burned and not any(chosen.delta) and not chosen.seeds.any()
        with pytest.raises(ValueError, match="burned"):
            sender.extend(column + 1, 1, cheat.request(column + 1, {}, rng), rng)
    assert 1.6 < sum(learned) / len(learned) < 2.4


def test_what_was_learned_says_nothing_about_the_delta_of_the_next_setup() -> None:
    rng = SeededRng("setups")
    deltas = [bytes(choose(SID, SENDER, RECEIVER, rng)[0].delta) for _ in range(12)]
    agree = sum(bit_of(one, k) == bit_of(other, k) for one, other in itertools.pairwise(deltas) for k in range(128))
    tries = 128 * (len(deltas) - 1)
    # Half of the bits, within three sigma.
    assert abs(agree - tries / 2) < 1.5 * tries**0.5


def test_a_cheat_in_one_batch_ends_the_batches_beside_it() -> None:
    chosen, pairs = deal_seeds(0)
    sender, cheat = CorrelationSender(SID, SENDER, RECEIVER, chosen), CheatingReceiver(pairs)
    rng = SeededRng(1)
    wrong = 1 - bit_of(chosen.delta, 5)
    honest = [cheat.request(batch, {}, rng) for batch in (0, 2)]
    assert passes(sender, 0, honest[0])
    assert not passes(sender, 1, cheat.request(1, {5: wrong}, rng))
    with pytest.raises(ValueError, match="burned"):
        sender.extend(2, 1, honest[1], rng)


def test_a_failure_in_one_direction_leaves_the_other_alone() -> None:
    chosen, pairs = deal_seeds(0)
    sender = CorrelationSender(SID, SENDER, RECEIVER, chosen)
    wrong = 1 - bit_of(chosen.delta, 5)
    other, other_pairs = deal_seeds(1)
    backwards = CorrelationSender(SID, RECEIVER, SENDER, other)
    assert not passes(sender, 0, CheatingReceiver(pairs).request(0, {5: wrong}, SeededRng(1)))
    honest = CheatingReceiver(other_pairs, Direction(SID, RECEIVER, SENDER))
    assert passes(backwards, 0, honest.request(0, {}, SeededRng(1)))


def test_nobody_passes_with_a_uniform_lie_in_every_column() -> None:
    chosen, pairs = deal_seeds(0)
    sender = CorrelationSender(SID, SENDER, RECEIVER, chosen)
    guesses = dict.fromkeys(range(128), 0)
    assert not passes(sender, 0, CheatingReceiver(pairs).request(0, guesses, SeededRng(1)))
