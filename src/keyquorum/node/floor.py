"""The newest block that this node has seen, across its restarts: it never acts on an older chain again.

What was revoked after a block has not been revoked yet at that block, so whoever shows a node an older chain gives back
what others have taken away. In one process `chain_view.py` sees to it; here is what a restart would forget. Written at
most once in a while and never waited for: a signature costs no write, and a crash forgets a few seconds of blocks.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from keyquorum.node.store import Store

WRITE_SECONDS: Final = 10.0
PREFIX: Final = "newest-block/"


class Floor:
    """The floor of one node on the chain of the network with this `router`; `block` is its number, 0 for none."""

    def __init__(self, store: Store, router: str, clock: Callable[[], float] = time.monotonic) -> None:
        """Read what earlier processes have seen."""
        self._store, self._clock = store, clock
        self._name = PREFIX + router.lower()
        self.block = int(store.info(self._name).get(self._name) or b"0")
        self._written = self.block
        self._next = -WRITE_SECONDS

    def see(self, newest: int) -> None:
        """Take the newest block that the view of the chain has accepted; a lower one came of a reorganisation."""
        if newest != self._written and self._clock() >= self._next:
            self._next = self._clock() + WRITE_SECONDS
            self._written = newest
            self._store.put_info_soon(self._name, str(newest).encode())


def known_floors(store: Store) -> dict[str, int]:
    """Return the newest block seen by router address."""
    return {name.removeprefix(PREFIX): int(value or b"0") for name, value in store.info(PREFIX).items()}


async def forget(store: Store) -> None:
    """Forget every floor: an operator's decision."""
    for router in known_floors(store):
        await store.put_info(PREFIX + router, b"0")
