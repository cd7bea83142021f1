"""Who must sign: the nodes of an epoch, as the chain has them."""

from __future__ import annotations

from dataclasses import dataclass

from keyquorum.client.results import Node


@dataclass(frozen=True)
class Committee:
    """The nodes of an epoch and how many of them must sign."""

    nodes: tuple[Node, ...]
    threshold: int
    epoch: int = 0

    @property
    def urls(self) -> dict[int, str]:
        """Return the node URLs by party; "" for a node that cannot be reached, to which every request fails."""
        return {node.party: node.url or "" for node in self.nodes}
