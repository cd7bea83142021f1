"""What a node remembers of logins, in a file of its own: the first binding of each bearer token, and open sessions.

*Commitments* must survive a crash: a node that forgot one would sign a second, contradicting one. They are on the disk
(WAL, `synchronous=FULL`) before anything leaves the node, and are kept longer than any token lives. *Sessions* are only
there to be listed and ended by their owners: public claims of certificates that this node helped to sign, forgotten
when they expire. Nothing in the file is secret; a token appears only as its hash.

The file stands beside the store of key shares, whose lock covers it, but is apart from it: what strangers can cause to
be written must not grow the file that operators back up. A node whose disk was restored from an older state has
forgotten commitments: its methods with bearer tokens should stay off for `KEEP_SECONDS`.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import msgspec

from keyquorum.auth.commitment import MEMORY_SECONDS
from keyquorum.node.storage.database import Writer, connect, flush_folder

FILE: Final = "logins.sqlite"
KEEP_SECONDS: Final = MEMORY_SECONDS + 24 * 3600
COMMITMENTS: Final = 2_000_000
SESSIONS: Final = 200_000
SESSIONS_EACH: Final = 1000
LISTED: Final = 100
_SWEEP = 64

_TABLES: Final = """
CREATE TABLE IF NOT EXISTS commitments (
    token_digest BLOB PRIMARY KEY, binding BLOB NOT NULL, seen INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS commitments_by_age ON commitments (seen);
CREATE TABLE IF NOT EXISTS sessions (
    id TEXT PRIMARY KEY, expires INTEGER NOT NULL, record BLOB NOT NULL) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS sessions_by_end ON sessions (expires);
CREATE TABLE IF NOT EXISTS identities (
    type INTEGER NOT NULL, identity BLOB NOT NULL, session TEXT NOT NULL,
    PRIMARY KEY (type, identity, session)) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS identities_by_session ON identities (session);
CREATE TABLE IF NOT EXISTS holdings (
    type INTEGER NOT NULL, identity BLOB NOT NULL, expires INTEGER NOT NULL, session TEXT NOT NULL,
    PRIMARY KEY (type, identity, expires, session)) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS holders (
    type INTEGER NOT NULL, identity BLOB NOT NULL, sessions INTEGER NOT NULL,
    PRIMARY KEY (type, identity)) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS holders_by_sessions ON holders (sessions);
"""
# A file of an earlier version knows no holders yet.
_FIND_HOLDERS: Final = """
INSERT INTO holdings SELECT type, identity, expires, id FROM sessions JOIN identities ON session = id
    WHERE NOT EXISTS (SELECT 1 FROM holders) GROUP BY id;
INSERT INTO holders SELECT type, identity, count(*) FROM holdings
    WHERE NOT EXISTS (SELECT 1 FROM holders) GROUP BY type, identity;
"""


class OtherBinding(Exception):
    """The token was committed to another login before."""


class Full(Exception):
    """There is no room for more commitments."""


@dataclass(frozen=True)
class KnownSession:
    """The public claims of a session; `methods` are (type, id), times Unix seconds, `session` a key's thumbprint."""

    id: str
    session: str
    methods: tuple[tuple[int, bytes], ...]
    keys: tuple[str, ...]
    scopes: tuple[int, ...]
    uses: int
    issued_at: int
    expires: int


class LoginStore:
    """The file of one node, open for as long as the object; writes are awaited and then on the disk.

    Every method raises `StoreFailed` once the disk or the database has failed.
    """

    def __init__(self, folder: Path, commitments: int = COMMITMENTS, sessions: int = SESSIONS) -> None:
        """Open the file in `folder`, made if missing; at most so many `commitments` and `sessions` are kept."""
        self._path = folder / FILE
        self._limits = commitments, sessions
        # Made by us first, so that it is private before SQLite writes to it; -wal and -shm copy its mode.
        os.close(os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600))
        self._writer = Writer(self._connect, folder)
        flush_folder(folder)
        self._counts = self._writer.submit(_count).result()

    def close(self) -> None:
        """Commit what waits and close the file."""
        self._writer.close()

    def _connect(self) -> sqlite3.Connection:
        connection = connect(self._path)
        connection.executescript(_TABLES + _FIND_HOLDERS)
        return connection

    # -- commitments ------------------------------------------------

    async def commit(self, token_digest: bytes, binding: bytes, now: int) -> None:
        """Bind a token to a login for good; durable when this returns, and a repeat changes nothing.

        Raises `OtherBinding` when the token is bound to another login, `Full` when nothing more can be kept.
        """

        def work(connection: sqlite3.Connection) -> None:
            query = "SELECT binding FROM commitments WHERE token_digest = ?"
            row = connection.execute(query, (token_digest,)).fetchone()
            if row is not None:
                if bytes(row[0]) != binding:
                    raise OtherBinding
                return
            commitments, sessions = self._counts
            old = "SELECT token_digest FROM commitments WHERE seen < ? ORDER BY seen LIMIT ?"
            delete = f"DELETE FROM commitments WHERE token_digest IN ({old})"  # noqa: S608 two texts of ours
            commitments -= connection.execute(delete, (now - KEEP_SECONDS, _SWEEP)).rowcount
            self._counts = commitments, sessions
            if commitments >= self._limits[0]:
                raise Full
            connection.execute("INSERT INTO commitments VALUES (?, ?, ?)", (token_digest, binding, now))
            self._counts = commitments + 1, sessions

        await asyncio.wrap_future(self._writer.submit(work))

    # -- sessions ------------------------------------------------

    def remember(self, known: KnownSession, now: int) -> None:
        """Keep a session for listing, as it began; a session that is known already stays as it is.

        Not awaited, since losing it harms nobody. One identity has at most `SESSIONS_EACH`, counted by the first of a
        session. When there is no room, a session of the identity with the most goes, of one that has most the one
        that ends first: who has few keeps them, however many a stranger opens.
        """
        self._writer.submit(lambda connection: self._remember(connection, known, now))

    def _remember(self, connection: sqlite3.Connection, known: KnownSession, now: int) -> None:
        commitments, sessions = self._counts
        if connection.execute("SELECT 1 FROM sessions WHERE id = ?", (known.id,)).fetchone() is not None:
            # A step-up narrows, and adds a login: whose the session is was settled when it began.
            return
        sessions -= self._make_room(connection, known.methods[0], sessions, now)
        record = msgspec.msgpack.encode(asdict(known))
        connection.execute("INSERT INTO sessions VALUES (?, ?, ?)", (known.id, known.expires, record))
        rows = [(number, identity, known.id) for number, identity in known.methods]
        connection.executemany("INSERT OR IGNORE INTO identities VALUES (?, ?, ?)", rows)
        holder = known.methods[0]
        connection.execute("INSERT INTO holdings VALUES (?, ?, ?, ?)", (*holder, known.expires, known.id))
        connection.execute(
            "INSERT INTO holders VALUES (?, ?, 1) ON CONFLICT DO UPDATE SET sessions = sessions + 1", holder
        )
        self._counts = commitments, sessions + 1

    def _make_room(self, connection: sqlite3.Connection, holder: tuple[int, bytes], sessions: int, now: int) -> int:
        """Forget what has expired, and what must go for one more session of `holder`; return how many went."""
        query = "SELECT id FROM sessions WHERE expires <= ? ORDER BY expires LIMIT ?"
        gone = [str(row[0]) for row in connection.execute(query, (now, _SWEEP)).fetchall()]
        for name in gone:
            _forget(connection, name)
        found = connection.execute("SELECT sessions FROM holders WHERE type = ? AND identity = ?", holder).fetchone()
        own, count = int(found[0]) if found else 0, len(gone)
        while own >= SESSIONS_EACH or (sessions - count >= self._limits[1] and count < _SWEEP + len(gone)):
            name, of_holder = _least_missed(connection, holder, own)
            _forget(connection, name)
            own, count = own - of_holder, count + 1
        return count

    async def session(self, name: str) -> KnownSession | None:
        """Return a session by its id, None when this node does not know it (any more)."""
        rows = await self._read([("SELECT record FROM sessions WHERE id = ?", (name,))])
        return _decode(rows[0][0]) if rows else None

    async def sessions_of(self, identities: Iterable[tuple[int, bytes]], now: int) -> list[KnownSession]:
        """Return the sessions that rest on one of the identities and have not expired, newest first, at most 100."""
        query = (
            "SELECT record FROM sessions JOIN identities ON session = id "
            "WHERE type = ? AND identity = ? AND expires > ? ORDER BY expires DESC LIMIT ?"
        )
        rows = await self._read([(query, (number, identity, now, LISTED)) for number, identity in identities])
        found = {known.id: known for known in (_decode(row[0]) for row in rows)}
        return sorted(found.values(), key=lambda known: (-known.issued_at, known.id))[:LISTED]

    async def _read(self, queries: list[tuple[str, tuple[object, ...]]]) -> list[tuple[bytes]]:
        # By the writer, behind what waits to be written: whoever has just logged in finds his session.
        def work(connection: sqlite3.Connection) -> list[tuple[bytes]]:
            return [row for query, values in queries for row in connection.execute(query, values)]

        return await asyncio.wrap_future(self._writer.submit(work))


def _least_missed(connection: sqlite3.Connection, holder: tuple[int, bytes], own: int) -> tuple[str, bool]:
    """Return the session to forget for one more of `holder`, who has `own`, and whether it is his."""
    query = "SELECT type, identity, sessions FROM holders ORDER BY sessions DESC LIMIT 1"
    number, identity, most = connection.execute(query).fetchone()
    mine = own >= min(most, SESSIONS_EACH)
    if most == 1 and not mine:
        return str(connection.execute("SELECT id FROM sessions ORDER BY expires LIMIT 1").fetchone()[0]), False
    first = "SELECT session FROM holdings WHERE type = ? AND identity = ? ORDER BY expires LIMIT 1"
    row = connection.execute(first, holder if mine else (number, identity)).fetchone()
    return str(row[0]), mine


def _forget(connection: sqlite3.Connection, name: str) -> None:
    row = connection.execute("SELECT record FROM sessions WHERE id = ?", (name,)).fetchone()
    known = _decode(row[0])
    # The holder may not be the first of the methods in a file that an earlier version wrote.
    for holder in known.methods:
        held = "DELETE FROM holdings WHERE type = ? AND identity = ? AND expires = ? AND session = ?"
        if connection.execute(held, (*holder, known.expires, name)).rowcount:
            of_holder = "WHERE type = ? AND identity = ?"
            connection.execute(f"UPDATE holders SET sessions = sessions - 1 {of_holder}", holder)  # noqa: S608 ours
            connection.execute(f"DELETE FROM holders {of_holder} AND sessions = 0", holder)  # noqa: S608 ours
    connection.execute("DELETE FROM identities WHERE session = ?", (name,))
    connection.execute("DELETE FROM sessions WHERE id = ?", (name,))


def _count(connection: sqlite3.Connection) -> tuple[int, int]:
    commitments, sessions = (
        int(connection.execute(query).fetchone()[0])
        for query in ("SELECT count(*) FROM commitments", "SELECT count(*) FROM sessions")
    )
    return commitments, sessions


def _decode(record: bytes) -> KnownSession:
    return msgspec.msgpack.decode(record, type=KnownSession)
