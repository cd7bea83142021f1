"""A roster for a service that stands alone in a test."""

from __future__ import annotations

from keyquorum.node.chain.chain_view import Member, Membership
from keyquorum.node.chain.roster import Roster


def members(n: int, epoch: int = 1) -> Membership:
    """The registry of `n` nodes that can be reached nowhere."""
    found = {j: Member(j, f"0x{j:040x}", "", "", 1, bytes([j]) * 32) for j in range(1, n + 1)}
    return Membership(epoch, 2 * n // 3 + 1, found)


def roster(me: int = 1, n: int = 4, epoch: int = 1) -> Roster:
    """What party `me` of `n` knows of them."""
    return Roster(me, members(n, epoch))
