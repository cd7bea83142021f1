"""What was sent and what was guessed, on disk: the counters that a restart must not forget.

One table of events (kind, tag, time). A quota allows `limit` events of a kind and tag within `seconds`, in any such
span, not only in a calendar hour. `take` looks at several quotas and writes all their events or none, in one durable
transaction, *before* the thing that they count happens: a crash costs a person a try, never gives a thief one.
Tags are keyed hashes, so the file names nobody. Rows are deleted when no quota looks back on them any more, and there
are never more than `MAX_ROWS`.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

HOUR, DAY = 3600, 86_400
MAX_ROWS = 1_000_000
_SCHEMA = """
CREATE TABLE IF NOT EXISTS events (
  id INTEGER PRIMARY KEY, kind TEXT NOT NULL, tag BLOB NOT NULL, time INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS by_tag ON events (kind, tag, time);
CREATE INDEX IF NOT EXISTS by_time ON events (time);
"""
# Two ends of an index: asked for in one query, SQLite would look at every row.
_SPAN = "SELECT COALESCE((SELECT MAX(id) FROM events) - (SELECT MIN(id) FROM events), 0)"

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Quota:
    """At most `limit` events of `kind` and `tag` in `seconds`; with `only_look`, none is added."""

    kind: str
    tag: bytes
    limit: int
    seconds: int = DAY
    only_look: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """What `take` found: the kind of the first quota that is used up, or the rows written.

    `last` tells whether one of the quotas is used up now, by what was written.
    """

    refused: str | None = None
    rows: tuple[int, ...] = ()
    last: bool = False


class Ledger:
    """The database of one service; opens, or makes, the file `path`. Every call runs in one thread of its own."""

    def __init__(self, path: Path) -> None:
        self._thread = ThreadPoolExecutor(1, "ledger")
        self._database = self._thread.submit(_open, path).result()

    async def take(self, quotas: Sequence[Quota], now: int) -> Outcome:
        """Count one event for each quota, durably, unless one of them is used up: then nothing is written."""
        return await self._run(lambda: _take(self._database, quotas, now))

    async def give_back(self, rows: Sequence[int]) -> None:
        """Delete events that `take` wrote: what they counted did not happen."""
        await self._run(lambda: _delete(self._database, rows))

    async def check(self) -> None:
        """Raise `sqlite3.Error` when the database cannot be read; costs the same however many rows there are."""
        await self._run(lambda: _count(self._database, _SPAN))

    async def size(self) -> int:
        """Return the number of rows, by looking at each."""
        return await self._run(lambda: _count(self._database, "SELECT COUNT(*) FROM events"))

    def close(self) -> None:
        """Finish what waits and close the file."""
        self._thread.submit(self._database.close).result()
        self._thread.shutdown()

    async def _run(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)


def _open(path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(path, isolation_level=None)
    path.chmod(0o600)
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("PRAGMA synchronous=FULL")
    database.executescript(_SCHEMA)
    return database


def _take(database: sqlite3.Connection, quotas: Sequence[Quota], now: int) -> Outcome:
    database.execute("BEGIN IMMEDIATE")
    try:
        outcome = _take_all(database, quotas, now)
        database.execute("COMMIT")
    except BaseException:
        database.execute("ROLLBACK")
        raise
    return outcome


def _take_all(database: sqlite3.Connection, quotas: Sequence[Quota], now: int) -> Outcome:
    database.execute("DELETE FROM events WHERE time <= ?", (now - DAY,))
    if _count(database, _SPAN) > MAX_ROWS:
        return Outcome("rows")
    last = False
    for quota in quotas:
        used = _count(
            database,
            "SELECT COUNT(*) FROM events WHERE kind = ? AND tag = ? AND time > ?",
            (quota.kind, quota.tag, now - quota.seconds),
        )
        if used >= quota.limit:
            return Outcome(quota.kind)
        last = last or (not quota.only_look and used + 1 == quota.limit)
    # Two quotas on one kind and tag (an hour's, a day's) count the same event.
    written = dict.fromkeys((quota.kind, quota.tag) for quota in quotas if not quota.only_look)
    rows = [
        database.execute("INSERT INTO events (kind, tag, time) VALUES (?, ?, ?)", (kind, tag, now)).lastrowid
        for kind, tag in written
    ]
    return Outcome(rows=tuple(row for row in rows if row is not None), last=last)


def _delete(database: sqlite3.Connection, rows: Sequence[int]) -> None:
    database.executemany("DELETE FROM events WHERE id = ?", [(row,) for row in rows])


def _count(database: sqlite3.Connection, query: str, values: tuple[object, ...] = ()) -> int:
    ((number,),) = database.execute(query, values).fetchall()
    return int(number)
