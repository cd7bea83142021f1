"""The record of every decision of this node: who asked for what, with which methods, and what the answer was.

One JSON object a line in the node's folder: `audit.log` has what was granted, or failed for a caller who was verified,
`logins.log` the same of logins and what belongs to them, and `refusals.log` what was refused, or failed for a stranger:
so neither a flood of strangers nor one of logins, which everybody can make identities for, can push the rest out. Of
failures and refusals so many are written for each address and in all. Each file is rotated by size. A request has one
line; what is known of it is filled in with `note` while it is handled, after the node has checked it, so a name in a
line was proven. Never in a line: a token, proof, code, share or certificate. Summaries are cut to one line, and
whatever looks like a signed token in them is left out.

Lines are handed to a thread in batches: a slow or full disk delays lines and at last loses some (counted in the
metrics), but never a signature.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from contextvars import ContextVar, Token
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from keyquorum.node.settings.config import AuditSection
from keyquorum.serving.buckets import Meter
from keyquorum.serving.forever import forever

GRANTED, REFUSED, FAILED = "granted", "refused", "failed"
SUMMARY_CHARS = 300
BUFFER_BYTES = 4 << 20
PAUSE, RETRY_PAUSE = 0.1, 1.0
REFUSALS, FAILURES, REFUSAL_SECONDS = 100.0, 20.0, 50.0
ADDRESSES = 10_000
# What needs no key, so that anybody can have it granted.
LOGINS = frozenset({"session", "commitment", "list", "revocation"})
_TOKEN = re.compile(r"[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]+|[A-Za-z0-9_-]{80,}")


@dataclass
class Entry:
    """What is known so far of one request; `what` is its kind, `address` the network address it came from."""

    what: str
    address: str = ""
    session: str = ""
    key: str = ""
    summary: str = ""
    methods: list[str] = field(default_factory=list)


_entry: ContextVar[Entry | None] = ContextVar("audit_entry", default=None)


def note(
    *,
    what: str = "",
    session: str = "",
    key: str = "",
    summary: str = "",
    methods: Iterable[tuple[int, bytes]] = (),
) -> None:
    """Fill in what was *checked* of the request that is being handled: session thumbprint, key, proven identities."""
    entry = _entry.get()
    if entry is None:
        return
    entry.what = what or entry.what
    entry.session = session or entry.session
    entry.key = key or entry.key
    entry.summary = summary or entry.summary
    entry.methods = [f"{number}:0x{identity.hex()}" for number, identity in methods] or entry.methods


class Audit:
    """The three files of one node; `start`, then `close`. Everything but the writing is in the event loop."""

    def __init__(self, folder: Path, settings: AuditSection) -> None:
        self.counts: Counter[str] = Counter()
        self._granted = _Log(folder / "audit.log", settings)
        self._logins = _Log(folder / "logins.log", settings)
        self._refused = _Log(folder / "refusals.log", settings)
        self._refusals = Meter(REFUSALS, REFUSAL_SECONDS)
        self._failures = Meter(FAILURES, REFUSAL_SECONDS)
        self._unrecorded: Counter[str] = Counter()
        self._thread = ThreadPoolExecutor(1, "audit")
        self._something = asyncio.Event()
        self._writer: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to write."""
        self._writer = forever("the writer of the audit log", self._write_for_ever())

    async def close(self) -> None:
        """Write what is waiting, as far as the disk takes it."""
        if self._writer is not None:
            self._writer.cancel()
            await asyncio.gather(self._writer, return_exceptions=True)
            await self._write()
        self._thread.shutdown(wait=True)

    # -- lines --------------------------------------------

    def begin(self, what: str, address: str) -> tuple[Entry, Token[Entry | None]]:
        """Begin the line of a request; give both back to `end`."""
        entry = Entry(what, address)
        return entry, _entry.set(entry)

    def end(self, begun: tuple[Entry, Token[Entry | None]], decision: str, code: str = "") -> None:
        """Write the line: `decision` is `GRANTED`, `REFUSED` or `FAILED`, `code` the error's."""
        entry, token = begun
        _entry.reset(token)
        self.record(entry, decision, code)

    def record(self, entry: Entry, decision: str, code: str = "") -> None:
        """Write a line; never raises, never waits.

        What is not granted is limited, for each address and in all, and how many lines were left out is counted.
        """
        line: dict[str, Any] = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "what": entry.what,
            "decision": decision,
            "code": code,
            "session": entry.session,
            "methods": entry.methods,
            "key": entry.key,
            "summary": one_line(entry.summary),
            "address": entry.address,
        }
        log, limit = self._place_of(entry, decision)
        if limit is not None:
            if limit.take(entry.address):
                self._unrecorded[entry.address] += 1
                self.counts["lines_unrecorded"] += 1
                return
            if missing := self._unrecorded.pop(entry.address, 0):
                line["unrecorded_before"] = missing
        if not log.add(msgspec.json.encode({name: value for name, value in line.items() if value}) + b"\n"):
            self.counts["lines_lost"] += 1
        if len(self._unrecorded) > ADDRESSES:
            self._unrecorded.clear()
        self._something.set()

    def _place_of(self, entry: Entry, decision: str) -> tuple[_Log, Meter | None]:
        """Return where the line belongs, and by what lines like it are limited."""
        granted = self._logins if entry.what in LOGINS else self._granted
        if decision == GRANTED or (decision == FAILED and not entry.address):
            return granted, None
        if decision == FAILED and entry.session:
            return granted, self._failures
        return self._refused, self._refusals

    # -- writing --------------------------------------------

    async def _write_for_ever(self) -> None:
        while True:
            await self._something.wait()
            self._something.clear()
            await asyncio.sleep(PAUSE)
            if not await self._write():
                await asyncio.sleep(RETRY_PAUSE)
                self._something.set()

    async def _write(self) -> bool:
        written = True
        for log in (self._granted, self._logins, self._refused):
            data = log.take()
            if not data:
                continue
            # Shielded: what was taken is written, also when `close` ends the task that waits for it.
            writing = asyncio.get_running_loop().run_in_executor(self._thread, log.write, data)
            done = await asyncio.shield(writing)
            if done < len(data):
                log.put_back(data[done:])
                self.counts["writes_failed"] += 1
                written = False
        return written


class _Log:
    """One file with its predecessors `name.1`, `name.2`... and the bytes that wait for it."""

    def __init__(self, path: Path, settings: AuditSection) -> None:
        self._path = path
        self._max_bytes = settings.max_bytes
        self._files = settings.files
        self._waiting = bytearray()
        self._opened = False

    def add(self, line: bytes) -> bool:
        if len(self._waiting) + len(line) > BUFFER_BYTES:
            return False
        self._waiting += line
        return True

    def take(self) -> bytes:
        data, self._waiting = bytes(self._waiting), bytearray()
        return data

    def put_back(self, data: bytes) -> None:
        self._waiting = bytearray(data) + self._waiting

    def write(self, data: bytes) -> int:
        """Append, in a thread; return how many bytes are in the file, fewer than given when the disk takes no more."""
        done = 0
        with suppress(OSError):
            while done < len(data):
                # Files end with whole lines.
                end = data.rfind(b"\n", done, done + self._max_bytes) + 1 or len(data)
                done += self._append(data[done:end])
        return done

    def _append(self, data: bytes) -> int:
        handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            size = os.fstat(handle).st_size
            if not self._opened:
                os.fchmod(handle, 0o600)
                if size and os.pread(handle, 1, size - 1) != b"\n":
                    os.write(handle, b"\n")  # a line was torn when the node died
                self._opened = True
            if size and size + len(data) > self._max_bytes:
                self._rotate()
                return 0
            count = os.write(handle, data)
            if count == 0:
                raise OSError("nothing was written")
            return count
        finally:
            os.close(handle)

    def _rotate(self) -> None:
        for number in range(self._files - 1, 0, -1):
            older = self._path.with_name(f"{self._path.name}.{number}")
            newer = self._path if number == 1 else self._path.with_name(f"{self._path.name}.{number - 1}")
            with suppress(FileNotFoundError):
                newer.replace(older)


def one_line(text: str) -> str:
    """Return a summary fit for a line: printable, bounded, without anything that looks like a signed token."""
    plain = "".join(c if c.isprintable() else " " for c in text)
    plain = _TOKEN.sub("[left out]", plain)
    return plain if len(plain) <= SUMMARY_CHARS else plain[: SUMMARY_CHARS - 1] + "…"
