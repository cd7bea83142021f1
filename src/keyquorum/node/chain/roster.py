"""Who the nodes are and which of them this one is: read from the chain, given to all, exchanged in one place.

A node starts when the registry is active and names it, so there is always somebody in here. Within an epoch endpoints
may change; another epoch may give this node's number to somebody else, so a node has to start in it.
"""

from __future__ import annotations

from keyquorum.node.chain.chain_view import Membership


class Roster:
    """The members of the present epoch; `me` is this node's PartyId among them."""

    def __init__(self, me: int, membership: Membership) -> None:
        """Raise `ValueError` unless the registry is active and knows party `me`."""
        self.me = me
        self.current = _checked(me, membership)
        self.is_over = False

    def exchange(self, membership: Membership) -> bool:
        """Take what the registry says now; return whether it differs. Raises `ValueError` when this node is not in it.

        Of another epoch nothing is taken: `is_over` says so from then on.
        """
        if membership.epoch and membership.epoch != self.current.epoch:
            self.is_over = True
            return False
        changed, self.current = membership != self.current, _checked(self.me, membership)
        return changed


def _checked(me: int, membership: Membership) -> Membership:
    if not membership.epoch:
        raise ValueError("the registry is not active")
    if me not in membership.members:
        raise ValueError("this node is not in the registry")
    return membership
