"""Which nodes to ask: t of them, never one that is known to be down, and another set when a set failed.

`NodeBook` remembers what a client saw of each node. A node is *down* from its first refused connection until a
probe of its `/readyz` succeeds, so a dead node costs one user one failed attempt, not every user one. When a run
failed and nobody in particular is known to be at fault, all its members become a little *suspect* for some seconds, and
the set is remembered as failed: the next choice prefers the others, and never repeats a set that failed in the same
request. A node that was silent or lied *while others answered* has a *fault*: it is asked last for minutes, longer each
time it happens again, and whatever it does well in between does not shorten that.

Among equals the order is a hash of the request id. That spreads the load like a coin toss, and yet a request that
is repeated, by another gateway even, finds the same nodes, which then repeat the answer they gave already.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations, islice

SUSPICION_SECONDS = 15.0
FAULT_SECONDS, LONGEST_FAULT_SECONDS = 180.0, 3600.0
# More than any suspicion that a request can add up.
FAULT_WEIGHT = 1000.0
SEARCH_LIMIT = 10_000

# What one request has against nodes, beside what the book knows.
Doubts = Mapping[int, float]


@dataclass
class Record:
    """What is known of one node: whether it is down since when, how suspect it was when, and its faults."""

    down_since: float | None = None
    failures: int = 0
    suspicion: float = 0.0
    suspected_at: float = 0.0
    faults: int = 0
    fault_at: float = 0.0

    @property
    def memory(self) -> float:
        """For how many seconds the last fault is remembered."""
        return min(LONGEST_FAULT_SECONDS, FAULT_SECONDS * 2.0 ** max(0, self.faults - 1))


@dataclass
class NodeBook:
    """Experience with the nodes of one network, shared by all requests of a client; times in seconds."""

    clock: Callable[[], float] = time.monotonic
    records: dict[int, Record] = field(default_factory=dict)

    def _record(self, party: int) -> Record:
        return self.records.setdefault(party, Record())

    def good(self, parties: Iterable[int]) -> None:
        """Note that these nodes just served together."""
        for party in parties:
            record = self._record(party)
            record.down_since, record.failures, record.suspicion = None, 0, 0.0

    def fault(self, parties: Iterable[int]) -> None:
        """Note that these nodes were silent, or lied, while others answered the same."""
        for party in parties:
            record, now = self._record(party), self.clock()
            # One that has behaved for twice as long as it was avoided begins anew.
            forgotten = now - record.fault_at > 2 * record.memory
            record.faults = 1 if forgotten else record.faults + 1
            record.fault_at = now

    def has_fault(self, party: int) -> bool:
        """Say whether a fault of the node is remembered."""
        record = self._record(party)
        return record.faults > 0 and self.clock() - record.fault_at < record.memory

    def down(self, party: int) -> None:
        """Note that a node does not answer."""
        record = self._record(party)
        record.failures += 1
        if record.down_since is None:
            record.down_since = self.clock()

    def up(self, party: int) -> None:
        """Note that a node answers again."""
        record = self._record(party)
        record.down_since, record.failures = None, 0

    def suspect(self, parties: Iterable[int], weight: float = 1.0) -> None:
        """Note that a run of these nodes failed; a culprit that is known gets a large `weight`."""
        for party in parties:
            record = self._record(party)
            record.suspicion = self._doubt(record) + weight
            record.suspected_at = self.clock()

    def is_down(self, party: int) -> bool:
        """Say whether the node was down when last heard of."""
        return self._record(party).down_since is not None

    def suspicion(self, party: int) -> float:
        """Return how suspect a node still is: for seconds, and after a fault for minutes. Both fade."""
        record = self._record(party)
        fade = max(0.0, 1.0 - (self.clock() - record.fault_at) / record.memory) if record.faults else 0.0
        return self._doubt(record) + FAULT_WEIGHT * record.faults * fade

    def _doubt(self, record: Record) -> float:
        return record.suspicion * max(0.0, 1.0 - (self.clock() - record.suspected_at) / SUSPICION_SECONDS)

    def badness(self, signers: Collection[int], doubts: Doubts) -> tuple[int, float]:
        """Return how unlikely a set is to work: how many of it are down, and how suspect they are together."""
        suspicion = sum(self.suspicion(party) + doubts.get(party, 0.0) for party in signers)
        return sum(map(self.is_down, signers)), suspicion

    def choose(
        self,
        candidates: Sequence[int],
        t: int,
        request_id: str,
        failed: Collection[frozenset[int]] = (),
        doubts: Doubts | None = None,
    ) -> tuple[int, ...]:
        """Return t of at least t candidates, ascending: the best set that is not in `failed`.

        Down nodes are taken only when there are not t others. When every set failed, the best is tried again:
        what failed may have passed (a restart, an empty pool).
        """
        doubts = doubts or {}
        up = [party for party in candidates if not self.is_down(party)]
        if len(up) < t:
            up = list(candidates)
        ranked = sorted(
            up,
            key=lambda party: (
                self.is_down(party),
                self.suspicion(party) + doubts.get(party, 0.0),
                hashlib.sha256(f"{request_id}|{party}".encode()).digest(),
            ),
        )
        for chosen in islice(combinations(ranked, t), SEARCH_LIMIT):
            if frozenset(chosen) not in failed:
                return tuple(sorted(chosen))
        return tuple(sorted(ranked[:t]))
