"""Whether this node's clock can be right, judged by those of its peers and by the newest block.

Requests, sessions and logins carry times, and a node whose clock stands wrong refuses them all. It cannot see that by
itself: so nodes tell each other the time. A clock is wrong when it stands away from the middle of all clocks heard of
late, the own one among them; fewer than half of the nodes cannot move that middle. A block from the future says that
this clock is behind, unless the peers' clocks agree with it: then it is the chain that is ahead, as a development chain
is after many blocks at a time, and the node signs all the same. A block from the past says nothing.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from statistics import median_low
from typing import Final

TOPIC: Final = "clock"
# Half of what a request may be ahead of a node (auth: CLOCK_SKEW).
TOLERANCE_SECONDS: Final = 30.0
TELL_SECONDS: Final = 10.0
HEARD_SECONDS: Final = 60.0
SAMPLES: Final = 3
_STEP_SECONDS: Final = 1.0


class Clocks:
    """What one node knows of the time; `now` is its clock in Unix seconds, `steady` one that nobody sets."""

    def __init__(self, now: Callable[[], float] = time.time, steady: Callable[[], float] = time.monotonic) -> None:
        self._now, self._steady = now, steady
        self._set_at = now() - steady()
        self._heard: dict[int, deque[tuple[float, float]]] = {}
        self._told_at = -TELL_SECONDS
        self._block: tuple[int, float] | None = None

    def due(self) -> bool:
        """Return whether it is time to tell the peers; then it is not, for a while."""
        self._notice_a_step()
        if self._steady() - self._told_at < TELL_SECONDS:
            return False
        self._told_at = self._steady()
        return True

    def tell(self) -> bytes:
        """Return this node's time for a peer: milliseconds since 1970, 8 bytes."""
        return int(self._now() * 1000).to_bytes(8, "big")

    def hear(self, peer: int, payload: bytes) -> None:
        """Take the time of an authenticated peer; what is no time is ignored."""
        if len(payload) == 8:
            self._notice_a_step()
            offset = int.from_bytes(payload, "big") / 1000 - self._now()
            self._heard.setdefault(peer, deque(maxlen=SAMPLES)).append((self._steady(), offset))

    def see_block(self, timestamp: int) -> None:
        """Take the time of the newest block (Unix seconds)."""
        self._block = (timestamp, self._steady())

    def offset(self) -> float:
        """Return by how many seconds the middle of all clocks is ahead of this one; 0 when nobody was heard of late."""
        heard = self._offsets()
        return median_low([0.0, *heard]) if len(heard) > 1 else 0.0

    def wrong_because(self) -> str:
        """Return why this clock cannot be right, "" when it may be."""
        offset = self.offset()
        if abs(offset) > TOLERANCE_SECONDS:
            side = "behind" if offset > 0 else "ahead of"
            return f"this node's clock is {abs(offset):.0f} s {side} those of its peers: set it right"
        ahead = self._block_ahead()
        if ahead > TOLERANCE_SECONDS and len(self._offsets()) < 2:
            return f"this node's clock is {ahead:.0f} s behind the newest block: set it right"
        return ""

    def _offsets(self) -> list[float]:
        """Return by how many seconds the clock of each peer heard of late is ahead of this one."""
        since = self._steady() - HEARD_SECONDS
        # A message that waited makes a clock look late, never early: the latest of some is the nearest to the truth.
        fresh = ([offset for at, offset in samples if at >= since] for samples in self._heard.values())
        return [max(offsets) for offsets in fresh if offsets]

    def _block_ahead(self) -> float:
        if self._block is None:
            return 0.0
        timestamp, seen_at = self._block
        return timestamp + (self._steady() - seen_at) - self._now()

    def _notice_a_step(self) -> None:
        """Forget what was heard when this clock was set: it was compared with another clock."""
        set_at = self._now() - self._steady()
        if abs(set_at - self._set_at) > _STEP_SECONDS:
            self._heard.clear()
        self._set_at = set_at
