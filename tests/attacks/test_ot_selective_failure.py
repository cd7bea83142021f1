"""A sender that corrects some positions wrongly, to see from the abort what the receiver chose there (T10).

The cheat is complete: theta is taken over the wrong corrections, eta and mu are what an honest sender would send. A
wrong correction at one position matters exactly if the choice bit there is 1.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from keyquorum.algebra.field import Q
from keyquorum.algebra.rng import SeededRng
from keyquorum.protocols import multiply
from keyquorum.protocols.multiply import CorrelationReceiver, CorrelationSender, ReceiverBatch, SenderBatch
from keyquorum.rounds.errors import Blame
from ot_dealer import SENDER, deal_pair

U, V, CHECK = 0, 1, 2


@pytest.fixture
def lies(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int, int]]:
    """Fill with (correlation, position, element): the sender flips one bit of each of those corrections."""
    places: list[tuple[int, int, int]] = []
    real = multiply.add_scalars

    def wrong(numbers: np.ndarray, scalars: np.ndarray) -> np.ndarray:
        result = real(numbers, scalars)
        for place in places:
            result[place][0] ^= np.uint64(1)
        return result

    monkeypatch.setattr(multiply, "add_scalars", wrong)
    return places


def attempt(
    sender: CorrelationSender, receiver: CorrelationReceiver, batch: int, size: int, rng: SeededRng
) -> tuple[list[int], SenderBatch, ReceiverBatch | None]:
    """Return the choice bits (which the sender does not know), and both results; no result after a blame."""
    pending, request = receiver.request(batch, size, rng)
    assert pending.rows is not None
    bits = pending.rows.x.tolist()
    mine, reply = sender.extend(batch, size, request, rng)
    try:
        return bits, mine, receiver.accept(pending, reply)
    except Blame as blame:
        assert blame.culprits == {SENDER} and blame.burn == "batch" and blame.rows == ()
        assert str(blame) == "multiplication check: parties [3]"
        return bits, mine, None


def right(mine: SenderBatch, theirs: ReceiverBatch) -> bool:
    return all(
        (c + d - a * chi) % Q == 0
        for a_e, c_e, d_e in ((mine.a_u, mine.c_u, theirs.d_u), (mine.a_v, mine.c_v, theirs.d_v))
        for a, c, d, chi in zip(a_e, c_e, d_e, theirs.chi, strict=True)
    )


def test_a_lie_at_one_position_is_a_guess_of_its_choice_bit(lies: list[tuple[int, int, int]]) -> None:
    sender, receiver = deal_pair(0)
    passed = 0
    for batch in range(60):
        position = 7 * batch % 416
        lies[:] = [(0, position, batch % 3)]
        bits, mine, theirs = attempt(sender, receiver, batch, 1, SeededRng(batch))
        assert (theirs is not None) == (bits[position] == 0)
        if theirs is not None:
            passed += 1
            assert right(mine, theirs)
    assert 18 <= passed <= 42


def test_the_abort_says_nothing_about_the_secret_factor(lies: list[tuple[int, int, int]]) -> None:
    """300 sessions: abort against a bit of chi, in a table of two by two; chi-square below 6.63 (p > 0.01)."""
    sender, receiver = deal_pair(1)
    chis: dict[int, int] = {}
    real = multiply.gadget().dot_bits
    table: Counter[tuple[bool, int]] = Counter()
    for batch in range(300):
        lies[:] = [(0, 200, U)]
        bits, _, theirs = attempt(sender, receiver, batch, 1, SeededRng(f"session {batch}"))
        chis[batch] = real(np.array([bits], np.float64))[0]
        table[theirs is None, chis[batch] >> 100 & 1] += 1
    aborts = table[True, 0] + table[True, 1]
    assert 110 < aborts < 190
    chi_square = 0.0
    for aborted in (True, False):
        for bit in (0, 1):
            row = table[aborted, 0] + table[aborted, 1]
            column = table[True, bit] + table[False, bit]
            chi_square += (table[aborted, bit] - row * column / 300) ** 2 / (row * column / 300)
    assert chi_square < 6.63


def test_every_further_position_halves_the_chance(lies: list[tuple[int, int, int]]) -> None:
    sender, receiver = deal_pair(2)
    passed = 0
    for batch in range(80):
        lies[:] = [(0, 1, U), (0, 2, V), (0, 3, CHECK)]
        bits, mine, theirs = attempt(sender, receiver, batch, 1, SeededRng(batch))
        assert (theirs is not None) == (bits[1:4] == [0, 0, 0])
        if theirs is not None:
            passed += 1
            assert right(mine, theirs)
    assert 2 <= passed <= 22


def test_a_lie_about_the_factor_in_all_positions_never_passes(lies: list[tuple[int, int, int]]) -> None:
    sender, receiver = deal_pair(3)
    for element in (U, V, CHECK):
        lies[:] = [(0, position, element) for position in range(416)]
        _, _, theirs = attempt(sender, receiver, element, 1, SeededRng(element))
        assert theirs is None


def test_errors_in_two_elements_do_not_cancel(lies: list[tuple[int, int, int]]) -> None:
    """The same wrong bit in u, v and check of one position: theta is not known before, so it shows."""
    sender, receiver = deal_pair(4)
    for batch in range(30):
        lies[:] = [(0, 9, U), (0, 9, V), (0, 9, CHECK)]
        bits, _, theirs = attempt(sender, receiver, batch, 1, SeededRng(batch))
        assert (theirs is not None) == (bits[9] == 0)


@pytest.mark.parametrize("correlation", [0, 1, 2])
def test_one_bad_correlation_discards_the_batch_without_a_word_where(
    lies: list[tuple[int, int, int]], correlation: int
) -> None:
    sender, receiver = deal_pair(5)
    failed = 0
    for batch in range(8):
        lies[:] = [(correlation, 11, V)]
        bits, mine, theirs = attempt(sender, receiver, batch, 3, SeededRng(batch))
        assert (theirs is not None) == (bits[416 * correlation + 11] == 0)
        failed += theirs is None
        assert theirs is None or right(mine, theirs)
    assert 0 < failed < 8


def test_the_seeds_survive_a_failed_multiplication(lies: list[tuple[int, int, int]]) -> None:
    sender, receiver = deal_pair(6)
    lies[:] = [(0, position, U) for position in range(20)]
    assert attempt(sender, receiver, 0, 1, SeededRng(0))[2] is None
    lies.clear()
    _, mine, theirs = attempt(sender, receiver, 1, 1, SeededRng(1))
    assert theirs is not None and right(mine, theirs) and not receiver.burned and not sender.burned
