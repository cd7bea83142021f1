"""How much one stranger may ask of a gateway: token buckets, bounded in number."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

REMEMBERED = 10_000


class Buckets:
    """One bucket of `capacity` tokens for each name, refilled over `seconds`; the least recently seen are forgotten."""

    def __init__(self, capacity: float, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._capacity = capacity
        self._rate = capacity / seconds
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def allow(self, name: str) -> bool:
        """Take a token of `name`; False when there is none left."""
        now = self._clock()
        tokens, since = self._buckets.pop(name, (self._capacity, now))
        tokens = min(self._capacity, tokens + (now - since) * self._rate)
        allowed = tokens >= 1
        self._buckets[name] = (tokens - 1 if allowed else tokens, now)
        while len(self._buckets) > REMEMBERED:
            self._buckets.popitem(last=False)
        return allowed
