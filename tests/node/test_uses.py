"""Uses of sessions and delegations: all are counted or none, and no count outlives its session."""

from __future__ import annotations

import pytest

from keyquorum.node.services.uses import LIFETIME, Uses
from keyquorum.refusal import Invalid

NOW = 1_800_000_000


def test_a_session_makes_as_many_signatures_as_it_was_given() -> None:
    uses = Uses()
    for _ in range(3):
        uses.take([("a", 3)], NOW)
    with pytest.raises(Invalid) as caught:
        uses.take([("a", 3)], NOW)
    assert (caught.value.code, caught.value.status) == ("used_up", 403)
    uses.take([("b", 3)], NOW)
    assert (uses.of("a"), uses.of("b"), uses.of("c")) == (3, 1, 0)


def test_when_one_of_a_chain_is_used_up_none_of_it_is_counted() -> None:
    uses = Uses()
    uses.take([("session", 9), ("lent", 1)], NOW)
    with pytest.raises(Invalid):
        uses.take([("session", 9), ("lent", 1)], NOW)
    assert uses.of("session") == 1
    uses.take([("session", 9), ("other", 1)], NOW)
    assert uses.of("session") == 2


def test_looking_is_not_counting() -> None:
    uses = Uses()
    for _ in range(5):
        uses.check([("a", 1)])
    uses.take([("a", 1)], NOW)
    with pytest.raises(Invalid):
        uses.check([("a", 1)])
    uses.take([], NOW)


def test_a_count_is_kept_for_as_long_as_any_session_can_live() -> None:
    uses = Uses()
    uses.take([("a", 2)], NOW)
    uses.take([("a", 2)], NOW + LIFETIME - 1)
    with pytest.raises(Invalid):
        uses.take([("a", 2)], NOW + LIFETIME - 1)
    uses.take([("b", 1)], NOW + LIFETIME)
    assert len(uses) == 1


def test_counts_are_bounded_and_the_oldest_are_forgotten_first() -> None:
    uses = Uses(remembered=3)
    for name in "abcde":
        uses.take([(name, 1)], NOW)
    assert [uses.of(name) for name in "abcde"] == [0, 0, 1, 1, 1]
    assert len(uses) == len(uses._since) == 3
