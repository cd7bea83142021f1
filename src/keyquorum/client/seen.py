"""Waiting until the nodes have seen a block: what takes something away is done when no t of them can still miss it.

A node looks for a new block now and then. Until it has seen a removal it goes on serving what was removed, and t such
nodes are enough to sign. So a call that takes away asks the nodes for the newest block that they know, until all that
answer have seen its own; after a moment, until so many have that fewer than t are left.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

import msgspec

from keyquorum.client.committee import Committee
from keyquorum.client.transport import NodeError, Transport

PATH = "/v1/network"
SEEN_SECONDS = 10.0
# How long a node that claims to lag behind all others may hold up the rest.
STRAGGLER_SECONDS = 1.0
ASK_SECONDS = 2.0
PAUSE_SECONDS = 0.05


class _Newest(msgspec.Struct):
    block: int = -1


class Change(str):
    """The hash of the transaction of a change, as text, and how far it has spread.

    `seen_by` are the parties of the nodes that know its block; `settled` says that fewer than t do not, so what was
    taken away cannot be used any more. Nobody waits for what only gives: there `settled` is None.
    """

    seen_by: tuple[int, ...] = ()
    settled: bool | None = None

    def to_json(self) -> dict[str, Any]:
        """Return `{"transaction"}`, with `settled` false where nodes may still serve what was taken away."""
        return {"transaction": str(self)} | ({"settled": False} if self.settled is False else {})

    def spread(self, seen_by: set[int], committee: Committee) -> Change:
        """Return this change, seen by these parties."""
        found = Change(self)
        found.seen_by = tuple(sorted(seen_by))
        found.settled = len(committee.nodes) - len(seen_by) < committee.threshold
        return found


async def until_seen(committee: Committee, transport: Transport, block: int, seconds: float = SEEN_SECONDS) -> set[int]:
    """Return which nodes know `block`, when all that answer do, or enough of them, or after `seconds`."""
    began, seen = time.monotonic(), set[int]()
    waiting = committee.urls
    while True:
        answers = await asyncio.gather(*(newest(transport, url) for url in waiting.values()))
        told = dict(zip(waiting, answers, strict=True))
        seen |= {party for party, known in told.items() if known is not None and known >= block}
        # Whoever does not answer serves nobody now; whoever comes back reads the chain first.
        behind = {party for party, known in told.items() if known is not None and known < block}
        enough = len(committee.nodes) - len(seen) < committee.threshold
        passed = time.monotonic() - began
        if not behind or passed > (min(seconds, STRAGGLER_SECONDS) if enough else seconds):
            return seen
        waiting = {party: url for party, url in committee.urls.items() if party not in seen}
        await asyncio.sleep(PAUSE_SECONDS)


async def newest(transport: Transport, url: str) -> int | None:
    """Return the newest block that the node at `url` knows; None when it does not say."""
    try:
        async with asyncio.timeout(ASK_SECONDS):
            return (await transport.get(url + PATH, _Newest)).block
    except (NodeError, TimeoutError):
        return None
