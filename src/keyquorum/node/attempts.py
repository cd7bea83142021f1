"""Idempotency: each request id of a session stands for one payload, and each attempt of it for one run.

A repeat of an attempt gets the answer of the first, also while that is still being made; the same id with another
payload is refused. So whoever resends, on purpose or not, never makes this node sign twice. Entries live as long as
a node could accept the request; the table is bounded, and one session can fill only its share of it.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from keyquorum.node.problem import CONFLICT, TOO_MANY, ApiError

ATTEMPTS = 8
ENTRIES = 65_536
ENTRIES_PER_OWNER = 16_384

Answer = dict[str, Any]


@dataclass
class _Entry:
    payload: bytes
    until: int
    runs: dict[int, asyncio.Task[Answer]] = field(default_factory=dict)


class Attempts:
    """Requests seen and the answers given; `now` is in Unix seconds."""

    def __init__(self) -> None:
        self._entries: OrderedDict[tuple[str, str], _Entry] = OrderedDict()
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
    ) -> Answer:
        """Return what `make` returned for this attempt, running it at most once.

        Raises `ApiError` 409 when `request_id` of `owner` came with another payload, 429 when the table is full,
        and what `make` raised, for a repeat too.
        """
        entry = self._entry(owner, request_id, payload, until, now)
        task = entry.runs.get(attempt)
        if task is None:
            task = asyncio.ensure_future(_as_coroutine(make))
            task.add_done_callback(_seen)
            entry.runs[attempt] = task
        # Shielded: that one caller hangs up must not end the run for the others, nor leave it unanswerable.
        return await asyncio.shield(task)

    def _entry(self, owner: str, request_id: str, payload: bytes, until: int, now: int) -> _Entry:
        self._expire(now)
        entry = self._entries.get((owner, request_id))
        if entry is None:
            if len(self._entries) >= ENTRIES or self._per_owner[owner] >= ENTRIES_PER_OWNER:
                raise ApiError(TOO_MANY, "too_many_requests", "too many requests at a time", "wait a minute")
            entry = self._entries[owner, request_id] = _Entry(payload, until)
            self._per_owner[owner] += 1
        elif entry.payload != payload:
            raise ApiError(
                CONFLICT, "request_id_used", "this request id was used for something else", "make a fresh request id"
            )
        return entry

    def _expire(self, now: int) -> None:
        while self._entries:
            (owner, request_id), entry = next(iter(self._entries.items()))
            if entry.until > now or any(not task.done() for task in entry.runs.values()):
                return
            del self._entries[owner, request_id]
            self._per_owner[owner] -= 1
            if not self._per_owner[owner]:
                del self._per_owner[owner]


async def _as_coroutine(make: Callable[[], Awaitable[Answer]]) -> Answer:
    return await make()


def _seen(task: asyncio.Task[Answer]) -> None:
    if not task.cancelled():
        task.exception()  # asyncio must not complain about a failure whose caller has gone
