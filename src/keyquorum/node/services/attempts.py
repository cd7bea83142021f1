"""Idempotency: each request id of a session stands for one payload, and each run that it names is made once.

A repeat of a run gets the answer of the first, also while that is still being made; the same id with another payload is
refused. Both the payload and the runs are what the session key signed: whoever sees a request can repeat it and cannot
change, occupy or use up anything of it. Entries live as long as a node could accept the request; the table is bounded,
one session can fill only its share of it, and what strangers fill is forgotten before anybody is refused. Of a failure
only the words are kept: an exception would keep the whole request alive, with everything that was computed for it.
"""

from __future__ import annotations

import asyncio
import heapq
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from keyquorum.node.services.problem import explain
from keyquorum.refusal import CONFLICT, TOO_MANY, UNAVAILABLE, Refusal

SLOTS = 32
ENTRIES = 65_536
ENTRIES_PER_OWNER = 16_384
LOOKED_AT = 64

Answer = dict[str, Any]
# Which of the request's runs, and its signers: a request that is signed again may name other signers for a number.
Slot = tuple[int, tuple[int, ...]]


@dataclass
class _Entry:
    payload: bytes
    until: int
    runs: dict[Slot, asyncio.Task[Answer] | Answer | Refusal] = field(default_factory=dict)

    @property
    def running(self) -> bool:
        return any(isinstance(run, asyncio.Task) for run in self.runs.values())


class Attempts:
    """Requests seen and the answers given; `now` is in Unix seconds."""

    def __init__(self) -> None:
        self._entries: dict[tuple[str, str], _Entry] = {}
        self._ends: list[tuple[int, tuple[str, str]]] = []
        self._per_owner: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._entries)

    async def once(
        self,
        owner: str,
        request_id: str,
        payload: bytes,
        slot: Slot,
        *,
        until: int,
        now: int,
        make: Callable[[], Awaitable[Answer]],
        admit: Callable[[int], None] = lambda made: None,
    ) -> Answer:
        """Return what `make` returned for this run, making it at most once.

        `admit(made)` is called before each run, never for a repeat; `made` is how many runs of the request there were
        before. What it raises is raised, and nothing is remembered. Raises `Refusal` 409 when `request_id` of `owner`
        came with another payload, 429 when it has had `SLOTS` runs or the table is full, and what `make` raised, for a
        repeat too.
        """
        self._expire(now)
        entry = self._entries.get((owner, request_id))
        if entry is not None and entry.payload != payload:
            raise Refusal(
                "request_id_used", "this request id was used for something else", "make a fresh request id", CONFLICT
            )
        run = entry.runs.get(slot) if entry is not None else None
        if run is None:
            if entry is None:
                self._make_room(owner)
            elif len(entry.runs) >= SLOTS:
                raise Refusal("too_many_runs", f"a request has at most {SLOTS} runs", "make a new request", TOO_MANY)
            admit(len(entry.runs) if entry is not None else 0)
            entry = entry or self._add(owner, request_id, payload, until)
            # A request that was signed again is valid for longer, and must not be forgotten before.
            entry.until = max(entry.until, until)
            runs = entry.runs
            run = runs[slot] = asyncio.ensure_future(_as_coroutine(make))
            run.add_done_callback(lambda task: runs.update({slot: _outcome(task)}))
        if isinstance(run, Refusal):
            raise run.again()
        # Shielded: that one caller hangs up must not end the run for the others, nor leave it unanswerable.
        return await asyncio.shield(run) if isinstance(run, asyncio.Task) else run

    def _make_room(self, owner: str) -> None:
        full = Refusal("too_many_requests", "too many requests at a time", "wait a minute", TOO_MANY)
        if self._per_owner[owner] >= ENTRIES_PER_OWNER:
            raise full
        if len(self._entries) < ENTRIES:
            return
        # A repeat of what is forgotten would make one more run of the same: better than to refuse somebody else.
        running: list[tuple[int, tuple[str, str]]] = []
        while self._ends and len(running) < LOOKED_AT:
            end = heapq.heappop(self._ends)
            if not self._entries[end[1]].running:
                self._forget(end[1])
                break
            running.append(end)
        for end in running:
            heapq.heappush(self._ends, end)
        if len(self._entries) >= ENTRIES:
            raise full

    def _add(self, owner: str, request_id: str, payload: bytes, until: int) -> _Entry:
        key = owner, request_id
        entry = self._entries[key] = _Entry(payload, until)
        heapq.heappush(self._ends, (until, key))
        self._per_owner[owner] += 1
        return entry

    def _expire(self, now: int) -> None:
        while self._ends and self._ends[0][0] <= now:
            _, key = self._ends[0]
            entry = self._entries[key]
            if entry.running or entry.until > now:
                heapq.heapreplace(self._ends, (max(now + 1, entry.until), key))
                continue
            heapq.heappop(self._ends)
            self._forget(key)

    def _forget(self, key: tuple[str, str]) -> None:
        del self._entries[key]
        owner = key[0]
        self._per_owner[owner] -= 1
        if not self._per_owner[owner]:
            del self._per_owner[owner]


async def _as_coroutine(make: Callable[[], Awaitable[Answer]]) -> Answer:
    return await make()


def _outcome(task: asyncio.Task[Answer]) -> Answer | Refusal:
    error = None if task.cancelled() else task.exception()
    if error is None and not task.cancelled():
        return task.result()
    known = explain(error) if isinstance(error, Exception) else None
    if known is not None:
        return known.again()
    return Refusal("internal", "this node failed to answer", "ask another node", UNAVAILABLE)
