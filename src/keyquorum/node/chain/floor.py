"""The newest block that this node has seen, across its restarts: it does not act on an older chain again.

What was revoked after a block has not been revoked yet at that block, so whoever shows a node an older chain gives back
what others have taken away. In one process `chain_view.py` sees to it; here is what a restart would forget, with the
time when it was seen: a block made well after it may be lower, so that no endpoint stops a node for ever. Written at
most once in a while and never waited for: a signature costs no write, and a crash forgets a few seconds of blocks.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from keyquorum.node.chain.chain_view import Seen
from keyquorum.node.storage.store import Store

WRITE_SECONDS: Final = 10.0
PREFIX: Final = "newest-block/"


class Floor:
    """The floor of one node on the chain of the network with this `router`; `seen` is what earlier processes saw."""

    def __init__(self, store: Store, router: str, clock: Callable[[], float] = time.monotonic) -> None:
        """Read what earlier processes have seen."""
        self._store, self._clock = store, clock
        self._name = PREFIX + router.lower()
        self.seen = _parse(store.info(self._name).get(self._name))
        self._written = self.seen.number
        self._next = -WRITE_SECONDS

    def see(self, newest: Seen) -> None:
        """Take the newest block that the view of the chain has accepted; a lower one came of a reorganisation."""
        if newest.number != self._written and self._clock() >= self._next:
            self._next = self._clock() + WRITE_SECONDS
            self._written = newest.number
            self._store.put_info_soon(self._name, f"{newest.number} {int(newest.at)}".encode())


def _parse(value: bytes | None) -> Seen:
    number, _, at = (value or b"0").partition(b" ")
    # Without a time it is of an earlier version: it was seen at the latest now.
    return Seen(int(number), int(at or time.time()))


def known_floors(store: Store) -> dict[str, int]:
    """Return the newest block seen by router address."""
    return {name.removeprefix(PREFIX): _parse(value).number for name, value in store.info(PREFIX).items()}


async def forget(store: Store) -> None:
    """Forget every floor: an operator's decision."""
    for router in known_floors(store):
        await store.put_info(PREFIX + router, b"0")
