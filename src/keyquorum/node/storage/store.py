"""The share store: what must survive, in one SQLite file, each secret encrypted on its own.

A share is written as **pending** before this node confirms the key to anyone, and turns **active** when the chain shows
the key registered. Nothing in here deletes a share. A write is acknowledged after its commit with WAL and
`synchronous=FULL`; after an error of the disk or the database the store gives out nothing more (`StoreFailed`).

A record that does not decrypt as what its row says it is (`vault.py`: the additional data is schema, key id, epoch
and party) raises `ShareCorrupt` and is quarantined: it stays where it is, is never used, and is listed until
`release` finds it whole again, for example after a restore. The columns beside the ciphertext are not secret, and the
state is not authenticated: whether a key is registered is the chain's word, which the node asks anyway.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import threading
import time
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Final, Self

import msgspec
from cryptography.exceptions import InvalidTag

from keyquorum.node.storage.database import DAMAGED, StoreFailed, Writer, connect, explain, flush_folder, lock_folder
from keyquorum.node.storage.share_records import (
    ACTIVATE,
    BATCH,
    INFO,
    LAST,
    LIST,
    LOAD,
    MARKER,
    MARKERS,
    QUARANTINE,
    SCHEMA,
    STATE,
    TABLES,
    Record,
    ShareCorrupt,
    ShareExists,
    ShareInfo,
    ShareUnknown,
    State,
    StoredShare,
    StoreError,
    StoreFull,
)
from keyquorum.node.storage.tally import PENDING_INDEX, Tally
from keyquorum.node.storage.vault import Cost, KeySource, Vault, rewrap

__all__ = [
    "ShareCorrupt",
    "ShareExists",
    "ShareInfo",
    "ShareUnknown",
    "Store",
    "StoreError",
    "StoreFailed",
    "StoreFull",
    "StoredShare",
]

FILE: Final = "store.sqlite"
# A batch of the largest size takes a tenth of this, twice: once in the log of the database.
ROOM: Final = 2 << 20


class Store:
    """The database of one node, open for as long as the object; reads are immediate, writes are awaited.

    Every method raises `StoreFailed` once the disk or the database has failed.
    """

    def __init__(self, folder: Path, source: KeySource, cached: int = 1024) -> None:
        """Open the store in `folder`; raises `StoreError`, `WrongKey`. At most `cached` shares stay decrypted."""
        self._path = folder / FILE
        self._lock_file: int | None = (lock := _hold(folder))
        try:
            if not self._path.exists():
                raise StoreError(
                    f"{folder}: no store here", "run `keyquorum node init` first, or restore data/ from a backup"
                )
            self._reader = connect(self._path)
            self._vault = Vault.open(_sealed(self._reader, folder), source)
            rows = self._reader.execute(QUARANTINE).fetchall()
            self._reader.execute(PENDING_INDEX)
            self.tally = Tally(self._reader)
            self._writer = Writer(lambda: connect(self._path), folder)
        except BaseException as error:
            os.close(lock)
            if isinstance(error, sqlite3.Error):
                reason, hint = explain(error, folder)
                raise StoreError(f"{self._path}: cannot be opened: {reason}", hint) from None
            raise
        self._reading = threading.Lock()
        self._quarantine = {(bytes(token), int(epoch)) for token, epoch, _ in rows}
        self._quarantined_active = {(bytes(token), int(epoch)) for token, epoch, active in rows if active}
        self._cache: OrderedDict[tuple[bytes, int | None], StoredShare] = OrderedDict()
        self._cached = cached

    @classmethod
    def create(cls, folder: Path, source: KeySource, cost: Cost | None = None) -> Self:
        """Make an empty store in `folder` (made if missing, 0700) and open it; raises `StoreError` if one is there."""
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = folder / FILE
        lock = _hold(folder)
        try:
            # Made by us first, so that it is private before SQLite writes to it; -wal and -shm copy its mode.
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
            connection = connect(path)
            try:
                if connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                    raise StoreError(f"{folder}: there is a store already", "name another folder")
                _, sealed = Vault.create(source, cost)
                connection.execute("BEGIN IMMEDIATE")
                for statement in filter(str.strip, TABLES.split(";")):
                    connection.execute(statement)
                values = [("schema", str(SCHEMA).encode()), ("data-key", sealed)]
                connection.executemany("INSERT INTO meta VALUES (?, ?)", values)
                connection.execute("COMMIT")
            finally:
                connection.close()
            flush_folder(folder)
        finally:
            os.close(lock)
        return cls(folder, source)

    @property
    def failure(self) -> StoreFailed | None:
        """Why the store is out of use, or None while it works; `/readyz` asks this."""
        return self._writer.failure

    def check_room(self) -> None:
        """Raise `StoreFailed` when the store is out of use, `StoreFull` when the disk has little room left."""
        self._usable()
        free = shutil.disk_usage(self._path.parent).free
        if free < ROOM:
            raise StoreFull(f"{free >> 20} MiB are free on the disk of {self._path.parent}, {ROOM >> 20} are needed")

    def close(self) -> None:
        """Commit what waits, close the file and forget decrypted shares."""
        if self._lock_file is not None:
            self._writer.close()
            self._reader.close()
            self._cache.clear()
            os.close(self._lock_file)
            self._lock_file = None

    # Key shares

    async def put_pending(self, batch_id: bytes, shares: Sequence[StoredShare]) -> None:
        """Write all `shares` as pending in one transaction: when this returns they are on the disk, all or none.

        Raises `ShareExists` when one of them is stored already, `ValueError` for a malformed one.
        """
        now = int(time.time())
        rows = [(s.token_id, s.epoch, s.party, batch_id, s.public_key, now, self._seal(s)) for s in shares]

        def insert(connection: sqlite3.Connection) -> None:
            try:
                connection.executemany(
                    "INSERT INTO key_shares (token_id, epoch, party, batch_id, state, public_key, created, record) "
                    "VALUES (?, ?, ?, ?, 'pending', ?, ?, ?)",
                    rows,
                )
            except sqlite3.IntegrityError:
                raise ShareExists("a share of one of these keys is stored already") from None

        # Noted by whoever commits: who waits for the commit may be cancelled before it is done.
        written = self._writer.submit(insert)
        written.add_done_callback(lambda done: None if _failed(done) else self.tally.inserted(batch_id, len(rows), now))
        await asyncio.wrap_future(written)

    async def activate(self, token_ids: Iterable[bytes], epoch: int | None = None) -> int:
        """Turn the pending shares of these keys (of one `epoch`, or of any) active; return how many changed."""
        keys = [(token_id, epoch, epoch) for token_id in token_ids]

        def update(connection: sqlite3.Connection) -> list[tuple[bytes, bytes, int]]:
            return [row for key in keys for row in connection.execute(ACTIVATE, key)]

        written = self._writer.submit(update)
        written.add_done_callback(
            lambda done: None if _failed(done) else self.tally.activated(row[0] for row in done.result())
        )
        changed = await asyncio.wrap_future(written)
        self._quarantined_active |= self._quarantine.intersection(row[1:] for row in changed)
        for key in [key for key in self._cache if key[1] is None]:
            del self._cache[key]  # a newer epoch may have become the active one
        return len(changed)

    def load(self, token_id: bytes, epoch: int | None = None) -> StoredShare:
        """Return the active share of a key: of `epoch`, or of the newest.

        Raises `ShareUnknown` when there is no active one, `ShareCorrupt` when it is not what was written.
        """
        self._usable()
        found = self._cache.get((token_id, epoch))
        if found is not None:
            self._cache.move_to_end((token_id, epoch))
            return found
        row = self._read(LOAD, (token_id, epoch, epoch))
        if not row:
            raise ShareUnknown("no active share of this key here")
        share = self._open_row(token_id, *row[0])
        self._cache[token_id, epoch] = share
        while len(self._cache) > self._cached:
            self._cache.popitem(last=False)
        return share

    def list_shares(self, state: State | None = None, batch_id: bytes | None = None) -> list[ShareInfo]:
        """Return what is stored, oldest first, without decrypting anything: walks the store, for operators' tools."""
        query = LIST + " WHERE (? IS NULL OR state = ?) AND (? IS NULL OR batch_id = ?) ORDER BY rowid"
        return [ShareInfo(*row) for row in self._read(query, (state, state, batch_id, batch_id))]

    def batch(self, batch_id: bytes) -> list[ShareInfo]:
        """Return the shares of one batch, in their order."""
        return [ShareInfo(*row) for row in self._read(BATCH, (batch_id,))]

    def state(self, token_id: bytes) -> State | None:
        """Return "active" when a share of the key is, "pending" when one waits, None when there is none."""
        states = {row[0] for row in self._read(STATE, (token_id,))}
        return "active" if "active" in states else "pending" if states else None

    def check(self) -> list[tuple[bytes, int]]:
        """Decrypt every stored share; return (key id, epoch) of those that are corrupt, which are now quarantined."""
        bad = []
        query = "SELECT token_id, epoch, party, public_key, record, state FROM key_shares"
        for token_id, epoch, party, public_key, record, state in self._read(query):
            try:
                self._open_row(token_id, epoch, party, public_key, record, state == "active")
            except ShareCorrupt:
                bad.append((token_id, epoch))
        return bad

    @property
    def quarantined(self) -> frozenset[tuple[bytes, int]]:
        """Return (key id, epoch) of the shares that were found corrupt."""
        return frozenset(self._quarantine)

    @property
    def quarantine_size(self) -> int:
        """How many shares are in quarantine."""
        return len(self._quarantine)

    @property
    def active_quarantined(self) -> int:
        """How many active shares are in quarantine."""
        return len(self._quarantined_active)

    async def release(self, token_id: bytes, epoch: int) -> None:
        """End the quarantine of a share that is whole again; raises `ShareCorrupt` if it is not, `ShareUnknown`."""
        query = "SELECT party, public_key, record FROM key_shares WHERE token_id = ? AND epoch = ?"
        row = self._read(query, (token_id, epoch))
        if not row:
            raise ShareUnknown("no share of this key and epoch here")
        self._decrypt(token_id, epoch, *row[0])
        delete = "DELETE FROM quarantine WHERE token_id = ? AND epoch = ?"
        await asyncio.wrap_future(self._writer.submit(lambda c: c.execute(delete, (token_id, epoch)) and None))
        self._quarantine.discard((token_id, epoch))
        self._quarantined_active.discard((token_id, epoch))

    # Markers are made once; info may change.

    async def mark(self, name: str, value: bytes = b"") -> bool:
        """Make the marker `name` durably; False, and no change, when it was made before."""
        row = (name, value, int(time.time()))
        insert = "INSERT OR IGNORE INTO markers VALUES (?, ?, ?)"
        return await asyncio.wrap_future(self._writer.submit(lambda c: c.execute(insert, row).rowcount == 1))

    def markers(self, prefix: str = "") -> dict[str, bytes]:
        """Return every marker whose name begins with `prefix`."""
        return dict(self._read(MARKERS, (prefix, prefix + LAST)))

    def marker(self, name: str) -> bytes | None:
        """Return the value of one marker, None when it was not made."""
        row = self._read(MARKER, (name,))
        return row[0][0] if row else None

    async def put_info(self, name: str, value: bytes) -> None:
        """Write a value that is not secret, in place of the last one of that name."""
        await asyncio.wrap_future(self.put_info_soon(name, value))

    def put_info_soon(self, name: str, value: bytes) -> Future[None]:
        """Do so without waiting for the disk; if that fails, the store is out of use."""

        def replace(connection: sqlite3.Connection) -> None:
            connection.execute("INSERT OR REPLACE INTO info VALUES (?, ?)", (name, value))

        return self._writer.submit(replace)

    def info(self, prefix: str = "") -> dict[str, bytes]:
        """Return every value whose name begins with `prefix`."""
        return dict(self._read(INFO, (prefix, prefix + LAST)))

    # The node's own secrets

    def put_secrets(self, secrets: Mapping[str, bytes]) -> None:
        """Write secrets once, encrypted, all or none; raises `ValueError` when one of those names is taken."""
        rows = [(name, self._vault.encrypt(content, *_secret(name))) for name, content in secrets.items()]

        def insert(connection: sqlite3.Connection) -> None:
            try:
                connection.executemany("INSERT INTO secrets VALUES (?, ?)", rows)
            except sqlite3.IntegrityError:
                raise ValueError("a secret of this name is stored already") from None

        self._writer.submit(insert).result()

    def secret(self, name: str) -> bytes | None:
        """Return a secret or None; raises `ShareCorrupt` when it is not what was written."""
        row = self._read("SELECT record FROM secrets WHERE name = ?", (name,))
        if not row:
            return None
        try:
            return self._vault.decrypt(row[0][0], *_secret(name))
        except InvalidTag:
            raise ShareCorrupt(f"the stored secret {name} is not what was written") from None

    def rewrap(self, old: KeySource, new: KeySource, cost: Cost | None = None) -> None:
        """Let `new` open the store instead of `old`; raises `WrongKey`. Backups still open with `old`."""
        sealed = rewrap(_sealed(self._reader, self._path.parent), old, new, cost)
        update = "UPDATE meta SET value = ? WHERE name = 'data-key'"
        self._writer.submit(lambda c: c.execute(update, (sealed,)) and None).result()

    def _usable(self) -> None:
        if self._writer.failure is not None:
            raise self._writer.failure

    def _read(self, query: str, values: tuple[object, ...] = ()) -> list[tuple[Any, ...]]:
        self._usable()
        try:
            with self._reading:
                return self._reader.execute(query, values).fetchall()
        except sqlite3.Error as error:
            raise self._writer.fail(error) from None

    def _seal(self, share: StoredShare) -> bytes:
        points = tuple(share.public_shares[j] for j in share.parties)
        lengths = {len(point) for point in points} | {len(share.public_key)}
        if lengths != {65} or (len(share.key_share), len(share.token_id)) != (32, 32):
            raise ValueError("a share with a value of the wrong length")
        if len(points) != len(share.public_shares) or share.party not in share.parties:
            raise ValueError("a share whose parties do not fit its public shares")
        record = Record(
            SCHEMA, share.party, share.epoch, share.t, share.parties, share.public_key, points, share.key_share
        )
        return self._vault.encrypt(msgspec.msgpack.encode(record), *_meaning(share.token_id, share.epoch, share.party))

    def _open_row(
        self, token_id: bytes, epoch: int, party: int, public_key: bytes, record: bytes, active: bool = True
    ) -> StoredShare:
        if (token_id, epoch) in self._quarantine:
            raise ShareCorrupt("this share is in quarantine: it was found changed on the disk")
        try:
            return self._decrypt(token_id, epoch, party, public_key, record)
        except ShareCorrupt:
            self._quarantine.add((token_id, epoch))
            if active:
                self._quarantined_active.add((token_id, epoch))
            row = (token_id, epoch, int(time.time()))
            self._writer.submit(lambda c: c.execute("INSERT OR IGNORE INTO quarantine VALUES (?, ?, ?)", row) and None)
            raise

    def _decrypt(self, token_id: bytes, epoch: int, party: int, public_key: bytes, record: bytes) -> StoredShare:
        try:
            content = self._vault.decrypt(record, *_meaning(token_id, epoch, party))
            found = msgspec.msgpack.decode(content, type=Record)
            if (found.version, found.party, found.epoch, found.public_key) != (SCHEMA, party, epoch, public_key):
                raise ValueError
            points = dict(zip(found.parties, found.public_shares, strict=True))
        except (InvalidTag, ValueError):  # msgspec.DecodeError is a ValueError, and so is a number no row can have
            raise ShareCorrupt("a stored share is not what was written") from None
        return StoredShare(token_id, epoch, party, found.t, found.parties, public_key, points, found.key_share)


def _failed(done: Future[Any]) -> bool:
    return done.cancelled() or done.exception() is not None


def _meaning(token_id: bytes, epoch: int, party: int) -> tuple[str, int, bytes, int, int]:
    return "keyquorum/1/store/key-share", SCHEMA, token_id, epoch, party


def _secret(name: str) -> tuple[str, int, str]:
    return "keyquorum/1/store/secret", SCHEMA, name


def _sealed(connection: sqlite3.Connection, folder: Path) -> bytes:
    try:
        meta = dict(connection.execute("SELECT name, value FROM meta").fetchall())
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode != sqlite3.SQLITE_ERROR:
            raise
        hint = "`keyquorum node init` goes on where it was interrupted; but if this node has run before: " + DAMAGED
        raise StoreError(f"{folder}: no finished store here", hint) from None
    if meta.get("schema") != str(SCHEMA).encode() or "data-key" not in meta:
        raise StoreError(f"{folder}: a store of another version", "run the version of keyquorum that made it")
    return bytes(meta["data-key"])


def _hold(folder: Path) -> int:
    try:
        return lock_folder(folder)
    except OSError as error:
        if isinstance(error, BlockingIOError):
            raise StoreError(f"{folder}: another process uses this store", "stop it first") from None
        reason, hint = explain(error, folder)
        raise StoreError(f"{folder}: {reason}", hint) from None
