"""Who the nodes are is exchanged in one place, and never for what another epoch says."""

from __future__ import annotations

from dataclasses import replace

import pytest

from keyquorum.node.chain.chain_view import Membership
from keyquorum.node.chain.roster import Roster
from rosters import members, roster


def test_there_is_no_roster_before_the_registry_is_active_or_without_this_node() -> None:
    with pytest.raises(ValueError, match="not active"):
        Roster(1, Membership(0, 0, {}))
    with pytest.raises(ValueError, match="not in the registry"):
        Roster(5, members(4))


def test_an_endpoint_that_changed_is_taken_once() -> None:
    one = roster(2)
    moved = members(4)
    moved.members[3] = replace(moved.members[3], url="http://127.0.0.1:5")
    assert one.exchange(moved)
    assert one.current is moved
    assert not one.exchange(moved)
    assert not one.is_over


@pytest.mark.parametrize(
    ("wrong", "words"), [(Membership(0, 0, {}), "not active"), (members(1), "not in the registry")]
)
def test_what_leaves_this_node_out_is_not_taken(wrong: Membership, words: str) -> None:
    one = roster(2)
    before = one.current
    with pytest.raises(ValueError, match=words):
        one.exchange(wrong)
    assert one.current is before


@pytest.mark.parametrize("n", [1, 4])
def test_of_another_epoch_nothing_is_taken_whoever_is_in_it(n: int) -> None:
    one = roster(2)
    before = one.current
    assert not one.exchange(members(n, epoch=2))
    assert one.is_over
    assert one.current is before
