"""Idempotency: each request id of a session stands for one payload, and each attempt of it for one run.

A repeat of an attempt gets the answer of the first, also while that is still being made; the same id with another
payload is refused. So whoever resends, on purpose or not, never makes this node sign twice. Entries live as long as
a node could accept the request; the table is bounded, and one session can fill only its share of it. Of a failure only
the words are kept: an exception would keep the whole request alive, with everything that was computed for it.
"""

from __future__ import annotations

import asyncio
import heapq
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Any

from keyquorum.node.problem import CONFLICT, TOO_MANY, UNAVAILABLE, ApiError, explain

ATTEMPTS = 8
ENTRIES = 65_536
ENTRIES_PER_OWNER = 16_384

Answer = dict[str, Any]


@dataclass
class _Entry:
    payload: bytes
    until: int
    runs: dict[int, asyncio.Task[Answer] | Answer | ApiError] = field(default_factory=dict)

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
        attempt: int,
        *,
        until: int,
        now: int,
        make: Callable[[], Awaitable[Answer]],
        admit: Callable[[bool], None] = lambda first: None,
    ) -> Answer:
        """Return what `make` returned for this attempt, running it at most once.

        `admit(first)` is called before each run, never for a repeat; `first` when the request is new here. What it
        raises is raised, and nothing is remembered. Raises `ApiError` 409 when `request_id` of `owner` came with
        another payload, 429 when the table is full, and what `make` raised, for a repeat too.
        """
        self._expire(now)
        entry = self._entries.get((owner, request_id))
        if entry is not None and entry.payload != payload:
            raise ApiError(
                CONFLICT, "request_id_used", "this request id was used for something else", "make a fresh request id"
            )
        run = entry.runs.get(attempt) if entry is not None else None
        if run is None:
            if entry is None:
                self._check_room(owner)
            admit(entry is None)
            entry = entry or self._add(owner, request_id, payload, until)
            runs = entry.runs
            run = runs[attempt] = asyncio.ensure_future(_as_coroutine(make))
            run.add_done_callback(lambda task: runs.update({attempt: _outcome(task)}))
        if isinstance(run, ApiError):
            raise replace(run)
        # Shielded: that one caller hangs up must not end the run for the others, nor leave it unanswerable.
        return await asyncio.shield(run) if isinstance(run, asyncio.Task) else run

    def _check_room(self, owner: str) -> None:
        if len(self._entries) >= ENTRIES or self._per_owner[owner] >= ENTRIES_PER_OWNER:
            raise ApiError(TOO_MANY, "too_many_requests", "too many requests at a time", "wait a minute")

    def _add(self, owner: str, request_id: str, payload: bytes, until: int) -> _Entry:
        entry = self._entries[owner, request_id] = _Entry(payload, until)
        heapq.heappush(self._ends, (until, (owner, request_id)))
        self._per_owner[owner] += 1
        return entry

    def _expire(self, now: int) -> None:
        while self._ends and self._ends[0][0] <= now:
            _, key = self._ends[0]
            if self._entries[key].running:
                heapq.heapreplace(self._ends, (now + 1, key))
                continue
            heapq.heappop(self._ends)
            del self._entries[key]
            owner = key[0]
            self._per_owner[owner] -= 1
            if not self._per_owner[owner]:
                del self._per_owner[owner]


async def _as_coroutine(make: Callable[[], Awaitable[Answer]]) -> Answer:
    return await make()


def _outcome(task: asyncio.Task[Answer]) -> Answer | ApiError:
    error = None if task.cancelled() else task.exception()
    if error is None and not task.cancelled():
        return task.result()
    known = explain(error) if isinstance(error, Exception) else None
    return (
        replace(known) if known else ApiError(UNAVAILABLE, "internal", "this node failed to answer", "ask another node")
    )
