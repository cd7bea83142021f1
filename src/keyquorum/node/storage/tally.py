"""How many shares a store holds, and which batches wait: kept beside the store, so that nobody walks it to find out.

Read once when the store opens, then moved by each commit. A node answers health checks and looks at its pending batches
many times a second, and the store may hold a million keys: no such question may cost more for it.
"""

from __future__ import annotations

import sqlite3
import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Final

# The partial index keeps what waits findable without a look at what is active. Older stores get it when they open.
PENDING_INDEX: Final = (
    "CREATE INDEX IF NOT EXISTS key_shares_pending ON key_shares (created, batch_id) WHERE state = 'pending'"
)
COUNT_SHARES: Final = "SELECT count(*), count(DISTINCT batch_id) FROM key_shares"
COUNT_BATCH: Final = "SELECT count(*) FROM key_shares WHERE batch_id = ?"
COUNT_PENDING: Final = (
    "SELECT batch_id, min(created), count(*) FROM key_shares WHERE state = 'pending' "
    "GROUP BY batch_id ORDER BY min(rowid)"
)


class Tally:
    """Active shares, and pending batches, oldest first; moved by the writer's thread and read by any."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        """Count what is stored."""
        self._lock = threading.Lock()
        self._created: dict[bytes, int] = {}
        self._left: Counter[bytes] = Counter()
        for batch_id, created, count in connection.execute(COUNT_PENDING):
            self._created[bytes(batch_id)] = created
            self._left[bytes(batch_id)] = count
        shares, batches = connection.execute(COUNT_SHARES).fetchone()
        self._active: int = shares - self._left.total()
        self._begun = {
            batch_id
            for batch_id, left in self._left.items()
            if connection.execute(COUNT_BATCH, (batch_id,)).fetchone()[0] > left
        }
        self._batches: int = batches - len(self._created) + len(self._begun)

    @property
    def active(self) -> int:
        """How many shares are active."""
        return self._active

    @property
    def active_batches(self) -> int:
        """How many batches have an active share."""
        return self._batches

    @property
    def pending(self) -> int:
        """How many batches have a pending share."""
        return len(self._created)

    def inserted(self, batch_id: bytes, count: int, now: int) -> None:
        """Take note of `count` new pending shares, made at `now` (Unix seconds)."""
        with self._lock:
            if count:
                self._created.setdefault(batch_id, now)
                self._left[batch_id] += count

    def activated(self, batch_ids: Iterable[bytes]) -> None:
        """Take note of shares that turned active, each by its batch."""
        with self._lock:
            for batch_id in batch_ids:
                self._active += 1
                self._left[batch_id] -= 1
                if batch_id not in self._begun:
                    self._begun.add(batch_id)
                    self._batches += 1
                if not self._left[batch_id]:
                    del self._left[batch_id], self._created[batch_id]
                    self._begun.discard(batch_id)

    def newest(self, most: int, skip: int = 0) -> list[bytes]:
        """Return up to `most` pending batches, the newest first, after the `skip` newest."""
        with self._lock:
            return list(islice(reversed(self._created), skip, skip + most))

    def since(self, moment: float, most: int) -> int:
        """Return how many pending batches were made at `moment` (Unix seconds) or later; counts no further than `most`.

        Batches made while the clock stood wrong are taken in the order in which they were made.
        """
        with self._lock:
            return sum(1 for _ in islice(self._not_before(moment), most))

    def _not_before(self, moment: float) -> Iterator[bytes]:
        for batch_id in reversed(self._created):
            if self._created[batch_id] < moment:
                return
            yield batch_id
