"""Token buckets by name, bounded in number: how much each of very many strangers may still have."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

REMEMBERED = 20_000


class Buckets:
    """A bucket of `capacity` tokens for each name, refilled over `seconds`; the least recently used are forgotten.

    A forgotten bucket is full again, so `REMEMBERED` names must use theirs before one is forgotten that is not full.
    """

    def __init__(self, capacity: float, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        if capacity < 1 or seconds <= 0:
            raise ValueError("a bucket holds at least one token and is refilled")
        self.capacity = capacity
        self._rate = capacity / seconds
        self._clock = clock
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def level(self, name: str) -> float:
        """Return how many tokens `name` has now."""
        tokens, since = self._levels.get(name, (self.capacity, self._clock()))
        return min(self.capacity, tokens + (self._clock() - since) * self._rate)

    def take(self, name: str, count: float = 1.0) -> None:
        """Take `count` tokens of `name`, and what is there if there are fewer."""
        self._levels[name] = (max(0.0, self.level(name) - count), self._clock())
        self._levels.move_to_end(name)
        while len(self._levels) > REMEMBERED:
            self._levels.popitem(last=False)

    def wait(self, name: str, count: float = 1.0) -> float:
        """Return the seconds until `name` has `count` tokens; 0 when it has them."""
        missing = count - self.level(name)
        # Rounding must not leave somebody waiting for the last billionth of a token.
        return missing / self._rate if missing > 1e-9 else 0.0

    def allow(self, name: str) -> bool:
        """Take one token of `name`; False when it has none."""
        allowed = not self.wait(name)
        if allowed:
            self.take(name)
        return allowed
