"""Token buckets by name, bounded in number: how much each of very many strangers may still have."""

from __future__ import annotations

import math
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


class Meter:
    """What each address may spend in a while, and all together: `IN_ALL` times as much.

    The last fifth of what all have is for addresses that asked for little: a flood from many does not take it.
    """

    IN_ALL, RESERVE, LITTLE = 5, 0.2, 0.25

    def __init__(self, capacity: float, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        """Let each address spend `capacity` at once, which comes back over `seconds`."""
        self._each = Buckets(capacity, seconds, clock)
        self._all = Buckets(capacity * self.IN_ALL, seconds, clock)

    def take(self, name: str, count: float = 1.0) -> float:
        """Take `count` for `name` and return 0, or nothing and return the seconds to wait: infinite for too much."""
        if count > self._each.capacity:
            return math.inf
        if wait := self._each.wait(name, count) or self._wait_for_all(name, count):
            return wait
        self._each.take(name, count)
        self._all.take("", count)
        return 0.0

    def _wait_for_all(self, name: str, count: float) -> float:
        spent = self._each.capacity - self._each.level(name) + count
        modest = spent <= self.LITTLE * self._each.capacity
        kept = 0.0 if modest else self.RESERVE * self._all.capacity
        return self._all.wait("", count + kept)
