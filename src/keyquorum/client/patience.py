"""How long to wait for nodes before others are asked as well, learned from how long they took lately.

A node that says nothing costs its client this patience, so it is short: some times as long as the faster runs took.
It follows the machine and the network, up to a second: whatever was slow before, once, is no reason to wait long for a
node that says nothing now. What the fastest eighth took is what counts: runs without a node that answers as late as it
may, so that it cannot stretch the patience. Asking others costs the nodes a run more, so there is a budget of such
runs, about one for fifty that came to an end; where everything takes longer than a second, it is what bounds them.

Nothing in here has a clock: what happened is told, in seconds.
"""

from __future__ import annotations

from collections import deque

FIRST = 0.3
LEAST, MOST = 0.1, 1.0
TIMES = 3.0
# The third attempt is made as soon as the second: with one silent node, one of four sets is without it.
SOON, LONGER = 2, 2
FASTEST = 8
REMEMBERED = 32
SPARE_RUNS, SPARE_FOR_EACH = 4.0, 0.02


class Patience:
    """The patience of one client with the nodes, for each path that is asked, and its budget of further runs."""

    def __init__(self) -> None:
        self._took: dict[str, deque[float]] = {}
        self._spare = SPARE_RUNS

    def took(self, path: str, seconds: float) -> None:
        """Note that a run came to an end after `seconds`."""
        self._took.setdefault(path, deque(maxlen=REMEMBERED)).append(seconds)
        self._spare = min(SPARE_RUNS, self._spare + SPARE_FOR_EACH)

    def of(self, path: str, begun: int = 1) -> float:
        """Return for how many seconds nothing but the `begun` runs of a request is waited for, never above `MOST`."""
        return min(MOST, self._alone(path) * (1 if begun <= SOON else LONGER))

    def _alone(self, path: str) -> float:
        # Another path of the same nodes is a better guess than none.
        took = self._took.get(path) or next(iter(self._took.values()), None)
        if not took:
            return FIRST
        return max(LEAST, TIMES * sorted(took)[len(took) // FASTEST])

    def spend(self) -> bool:
        """Take one further run from the budget; False when there is none left."""
        if self._spare < 1:
            return False
        self._spare -= 1
        return True
