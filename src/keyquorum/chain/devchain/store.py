"""What survives a restart: one SQLite file holding state nodes, blocks and logs, written once per block.

A block and everything it changed (trie nodes, the block, its logs, the clock's offset) goes down in one transaction
with `synchronous=FULL`, before anybody hears of the block. So a process killed on any line comes back with the last
block whose hash it gave out, and opening a long chain costs as much as opening a short one: nothing is executed again.

State nodes are named by their hash and never change, which is why cutting the chain back (`truncate`) only deletes rows
of blocks and logs: nodes that nobody points to any more are harmless. Writes of a block that fails are dropped with
`discard`. The file is locked exclusively: a second process on the same directory is refused.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

FORMAT = 1
CACHED_NODES = 100_000

_SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS nodes (key BLOB PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS blocks (
    number INTEGER PRIMARY KEY, hash BLOB NOT NULL UNIQUE, header BLOB NOT NULL, size INTEGER NOT NULL,
    transaction_hash BLOB UNIQUE, raw BLOB, sender BLOB, created BLOB, status INTEGER);
CREATE TABLE IF NOT EXISTS logs (
    block INTEGER NOT NULL, position INTEGER NOT NULL, address BLOB NOT NULL,
    topic0 BLOB, topic1 BLOB, topic2 BLOB, topic3 BLOB, data BLOB NOT NULL,
    PRIMARY KEY (block, position)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS logs_by_address ON logs (address, block);
CREATE INDEX IF NOT EXISTS logs_by_topic ON logs (topic0, block);
"""


class StoreLocked(Exception):
    """Another process has this chain open."""


@dataclass(frozen=True)
class Block:
    """One block: its header (RLP), its size in bytes, and the transaction that it was made for, if any."""

    number: int
    hash: bytes
    header: bytes
    size: int
    transaction_hash: bytes | None = None
    raw: bytes | None = None
    sender: bytes | None = None
    created: bytes | None = None
    status: int | None = None


@dataclass(frozen=True)
class Log:
    """One event: where it stands, who emitted it, up to four 32-byte topics, and its data."""

    block: int
    position: int
    address: bytes
    topics: tuple[bytes, ...]
    data: bytes


@dataclass(frozen=True)
class LogQuery:
    """Which logs are wanted: `topics[i]` is `None` for any, else the alternatives at position i."""

    first: int
    last: int
    addresses: tuple[bytes, ...] = ()
    topics: tuple[tuple[bytes, ...] | None, ...] = ()


class Nodes:
    """The key-value store under py-evm's tries: writes wait in memory until the block that made them is committed."""

    def __init__(self, sql: sqlite3.Connection) -> None:
        self._sql = sql
        self._pending: dict[bytes, bytes] = {}
        self._cache: dict[bytes, bytes] = {}

    def _find(self, key: bytes) -> bytes | None:
        value = self._pending.get(key)
        if value is None:
            value = self._cache.get(key)
        if value is None:
            row = self._sql.execute("SELECT value FROM nodes WHERE key = ?", (key,)).fetchone()
            if row is not None:
                value = self._remember(key, row[0])
        return value

    def _remember(self, key: bytes, value: bytes) -> bytes:
        if len(self._cache) >= CACHED_NODES:
            self._cache.clear()
        self._cache[key] = value
        return value

    def __getitem__(self, key: bytes) -> bytes:
        value = self._find(key)
        if value is None:
            raise KeyError(key)
        return value

    def __contains__(self, key: bytes) -> bool:
        return self._find(key) is not None

    def __setitem__(self, key: bytes, value: bytes) -> None:
        self._pending[key] = value

    def __delitem__(self, key: bytes) -> None:
        # py-evm prunes nothing that an older block may need; what it deletes it has itself just written.
        self._pending.pop(key, None)

    def write(self) -> None:
        """Put the waiting nodes into the open transaction."""
        self._sql.executemany("INSERT OR REPLACE INTO nodes VALUES (?, ?)", self._pending.items())

    def settle(self) -> None:
        """The transaction is committed: the waiting nodes are the stored ones."""
        for key, value in self._pending.items():
            self._remember(key, value)
        self._pending.clear()

    def discard(self) -> None:
        """Forget the waiting nodes: their block will not exist."""
        self._pending.clear()


class Store:
    """Blocks, logs and state of one chain, in `file` or (None) in memory."""

    def __init__(self, file: Path | None) -> None:
        if file is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
        # One worker thread uses the connection at a time, but not always the thread that opened it.
        self._sql = sqlite3.connect(file or ":memory:", isolation_level=None, timeout=0.2, check_same_thread=False)
        try:
            self._sql.execute("PRAGMA locking_mode = EXCLUSIVE")
            self._sql.execute("PRAGMA journal_mode = WAL")
            self._sql.execute("PRAGMA synchronous = FULL")
            self._sql.execute("BEGIN EXCLUSIVE")
            self._sql.execute("COMMIT")
            self._sql.executescript(_SCHEMA)
        except sqlite3.OperationalError as error:
            self._sql.close()
            if "locked" in str(error):
                raise StoreLocked(f"another process has {file} open") from None
            raise
        except sqlite3.DatabaseError:
            self._sql.close()
            raise ValueError(f"{file} is not a development chain") from None
        self.nodes = Nodes(self._sql)
        self._check_format(file)

    def _check_format(self, file: Path | None) -> None:
        found = self.number("format", 0)
        if found == 0 and self.last() is None:
            self.set_number("format", FORMAT)
        elif found != FORMAT:
            self._sql.close()
            raise ValueError(f"{file} has format {found}, this program reads format {FORMAT}")

    def close(self) -> None:
        """Close the file; everything committed is already in it."""
        self._sql.close()

    # -- numbers kept beside the chain --------------------------------------------------------------------------------

    def number(self, name: str, default: int) -> int:
        """Return a stored number."""
        row = self._sql.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
        return int(row[0]) if row else default

    def set_number(self, name: str, value: int) -> None:
        """Store a number (joins the open transaction, if there is one)."""
        self._sql.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, value))

    # -- writing ------------------------------------------------------------------------------------------------------

    def append(self, block: Block, logs: Iterable[Log] = (), numbers: dict[str, int] | None = None) -> None:
        """Make `block`, its logs, the waiting nodes and `numbers` durable, all or nothing."""
        self._sql.execute("BEGIN")
        try:
            self.nodes.write()
            self._sql.execute(
                "INSERT INTO blocks VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    block.number,
                    block.hash,
                    block.header,
                    block.size,
                    block.transaction_hash,
                    block.raw,
                    block.sender,
                    block.created,
                    block.status,
                ),
            )
            self._sql.executemany(
                "INSERT INTO logs VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                [
                    (log.block, log.position, log.address, *log.topics, *(None,) * (4 - len(log.topics)), log.data)
                    for log in logs
                ],
            )
            for name, value in (numbers or {}).items():
                self.set_number(name, value)
            self._sql.execute("COMMIT")
        except BaseException:
            if self._sql.in_transaction:
                self._sql.execute("ROLLBACK")
            raise
        self.nodes.settle()

    def truncate(self, last: int, numbers: dict[str, int] | None = None) -> None:
        """Remove every block after number `last`."""
        self._sql.execute("BEGIN")
        self._sql.execute("DELETE FROM blocks WHERE number > ?", (last,))
        self._sql.execute("DELETE FROM logs WHERE block > ?", (last,))
        for name, value in (numbers or {}).items():
            self.set_number(name, value)
        self._sql.execute("COMMIT")

    # -- reading ------------------------------------------------------------------------------------------------------

    def _block(self, where: str, value: object) -> Block | None:
        row = self._sql.execute(f"SELECT * FROM blocks WHERE {where}", (value,)).fetchone()  # noqa: S608 - constants
        return Block(*row) if row else None

    def block(self, number: int) -> Block | None:
        """Return the block of this number."""
        return self._block("number = ?", number)

    def block_by_hash(self, block_hash: bytes) -> Block | None:
        """Return the block of this hash."""
        return self._block("hash = ?", block_hash)

    def block_of_transaction(self, transaction_hash: bytes) -> Block | None:
        """Return the block that holds this transaction."""
        return self._block("transaction_hash = ?", transaction_hash)

    def last(self) -> Block | None:
        """Return the newest block."""
        row = self._sql.execute("SELECT * FROM blocks ORDER BY number DESC LIMIT 1").fetchone()
        return Block(*row) if row else None

    def logs(self, query: LogQuery, limit: int) -> list[Log]:
        """Return at most `limit` matching logs in chain order (ask for one more than allowed to notice an excess)."""
        conditions = ["block BETWEEN ? AND ?"]
        values: list[int | bytes] = [query.first, query.last]
        for column, alternatives in _columns(query):
            if alternatives is None:
                conditions.append(f"{column} IS NOT NULL")
            else:
                conditions.append(f"{column} IN ({','.join('?' * len(alternatives))})")
                values.extend(alternatives)
        statement = f"SELECT * FROM logs WHERE {' AND '.join(conditions)} ORDER BY block, position LIMIT {limit:d}"  # noqa: S608
        rows = self._sql.execute(statement, values)
        return [
            Log(row[0], row[1], row[2], tuple(topic for topic in row[3:7] if topic is not None), row[7]) for row in rows
        ]


def _columns(query: LogQuery) -> Iterable[tuple[str, Sequence[bytes] | None]]:
    if query.addresses:
        yield "address", query.addresses
    for position, alternatives in enumerate(query.topics):
        yield f"topic{position}", alternatives
