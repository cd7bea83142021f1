"""The one writer of the database: a thread that commits everything waiting in one transaction.

A durable commit costs a flush of the disk (about 5 ms), whatever it holds, so callers that come while one is under way
share the next. A caller is answered only after its commit: what was acknowledged survives a power cut.

After any error of the database itself the writer is finished. A failed flush leaves unknown what is on the disk (the
kernel may have dropped the dirty pages and will report success the next time), so nothing may be acknowledged, and by
the same token nothing secret released, until a person has looked and the process has started again.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import queue
import shutil
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Final, TypeVar

T = TypeVar("T")
MOST_PER_COMMIT: Final = 256
LITTLE: Final = 1 << 20
_DENIED: Final = (errno.EACCES, errno.EPERM, errno.EROFS)
DAMAGED: Final = (
    "the file is damaged: keep it aside, restore data/ from a backup, and run `keyquorum node check`; "
    "the other nodes go on signing meanwhile. Never `node init`: it would be another node"
)

Work = Callable[[sqlite3.Connection], T]


class StoreFailed(RuntimeError):
    """The disk or the database failed: nothing more is acknowledged or released until the node is restarted.

    `hint` says what the operator may do about it.
    """

    def __init__(self, message: str, hint: str = "look at the disk, then start the node again") -> None:
        super().__init__(message)
        self.hint = hint


class Writer:
    """Runs pieces of work on its own connection; each is atomic, and all that wait are committed together."""

    def __init__(self, connect: Callable[[], sqlite3.Connection], folder: Path | None = None) -> None:
        """`connect` opens the connection; it is called in the writer's thread, and its errors are raised here.

        `folder` is looked at when something fails, to say how full its disk is.
        """
        self._folder = folder
        self.failure: StoreFailed | None = None
        self._waiting: queue.SimpleQueue[tuple[Work[Any], Future[Any]] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._closed = False
        opened: Future[None] = Future()
        self._thread = threading.Thread(target=self._run, args=(connect, opened), name="store-writer", daemon=True)
        self._thread.start()
        opened.result()

    def submit(self, work: Work[T]) -> Future[T]:
        """Queue `work`; the future is done after the commit.

        It ends with the exception that `work` raised (its own changes are undone, nobody else's), or with
        `StoreFailed` for any error of the database.
        """
        future: Future[T] = Future()
        with self._lock:
            if self._closed or self.failure is not None:
                future.set_exception(self.failure or StoreFailed("the store is closed"))
            else:
                self._waiting.put((work, future))
        return future

    def close(self) -> None:
        """Commit what waits and end the thread."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._waiting.put(None)
        self._thread.join()

    def fail(self, error: Exception) -> StoreFailed:
        """Record that the database failed (also when a reader saw it) and return the error to raise."""
        with self._lock:
            if self.failure is None:
                reason, hint = explain(error, self._folder)
                self.failure = StoreFailed(f"the store failed and is out of use: {reason}", hint)
            return self.failure

    def _run(self, connect: Callable[[], sqlite3.Connection], opened: Future[None]) -> None:
        try:
            connection = connect()
        except BaseException as error:
            opened.set_exception(error)
            return
        opened.set_result(None)
        going = True
        try:
            while going:
                batch, going = self._gather()
                self._commit(connection, batch)
        except BaseException as error:
            self.fail(RuntimeError(f"the writer has ended: {type(error).__name__}"))
            raise
        finally:
            connection.close()

    def _gather(self) -> tuple[list[tuple[Work[Any], Future[Any]]], bool]:
        batch = []
        item = self._waiting.get()
        while item is not None:
            batch.append(item)
            if len(batch) == MOST_PER_COMMIT:
                return batch, True
            try:
                item = self._waiting.get_nowait()
            except queue.Empty:
                return batch, True
        return batch, False

    def _commit(self, connection: sqlite3.Connection, batch: list[tuple[Work[Any], Future[Any]]]) -> None:
        batch = [item for item in batch if item[1].set_running_or_notify_cancel()]
        if not batch:
            return
        try:
            if self.failure is not None:
                raise self.failure
            connection.execute("BEGIN IMMEDIATE")
            answers = [self._attempt(connection, work) for work, _ in batch]
            connection.execute("COMMIT")
        except Exception as error:
            failure = self.fail(error)
            for _, future in batch:
                future.set_exception(failure)
            return
        for (_, future), (value, refusal) in zip(batch, answers, strict=True):
            if refusal is None:
                future.set_result(value)
            else:
                future.set_exception(refusal)

    @staticmethod
    def _attempt(connection: sqlite3.Connection, work: Work[Any]) -> tuple[Any, Exception | None]:
        connection.execute("SAVEPOINT one")
        try:
            value = work(connection)
        except sqlite3.Error:
            raise
        except Exception as refusal:
            connection.execute("ROLLBACK TO one")
            connection.execute("RELEASE one")
            return None, refusal
        connection.execute("RELEASE one")
        return value, None


def explain(error: BaseException, folder: Path | None = None) -> tuple[str, str]:
    """Return what a person must know of an error of the disk or the database: the system's reason, and what to do."""
    code = (getattr(error, "sqlite_errorcode", 0) or 0) & 0xFF
    number = getattr(error, "errno", None)
    reason = str(getattr(error, "strerror", None) or error)
    if name := getattr(error, "sqlite_errorname", None):
        reason += f" ({name})"
    place, free = "", None
    with contextlib.suppress(OSError):
        if folder is not None:
            free = shutil.disk_usage(folder).free
            place = f" of {folder}"
            reason += f"; {free >> 20} MiB are free on the disk{place}"
    if code == sqlite3.SQLITE_FULL or number in (errno.ENOSPC, errno.EDQUOT) or (free is not None and free < LITTLE):
        return reason, f"make room on the disk{place}, then start the node again; nothing acknowledged is lost"
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return reason, DAMAGED
    if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM) or number in _DENIED:
        return reason, f"the node's user must be able to read and write every file{place}; look at owner and mount"
    return reason, f"the disk{place} does not read or write: see the system's log, repair it, then start the node again"


def connect(path: Path) -> sqlite3.Connection:
    """Open the database durably: WAL, and a flush of the disk at every commit."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=5, cached_statements=64)
    for setting in ("journal_mode=WAL", "synchronous=FULL", "fullfsync=ON", "trusted_schema=OFF", "cell_size_check=ON"):
        connection.execute(f"PRAGMA {setting}")
    return connection


def lock_folder(folder: Path) -> int:
    """Hold `folder` for this process: two nodes on one store would be two lives of one identity.

    Returns the file handle that holds it; raises `BlockingIOError` when another process does.
    """
    handle = os.open(folder / "store.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException:
        os.close(handle)
        raise
    return handle


def flush_folder(folder: Path) -> None:
    """Make the names of new files in `folder` durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
