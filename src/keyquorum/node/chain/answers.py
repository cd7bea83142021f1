"""Answers of the chain that are remembered: each question is asked once, and the longest unasked is forgotten first."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

T = TypeVar("T")


class Answers:
    """At most `most` answers; whoever asks while one is on its way waits for the same one."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._known: OrderedDict[tuple[Any, ...], asyncio.Future[Any]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known)

    def clear(self) -> None:
        """Forget everything; those who wait for an answer get it."""
        self._known.clear()

    async def get(self, question: tuple[Any, ...], make: Callable[[], Awaitable[T]]) -> T:
        """Return the answer that is known, or what `make` returns; what it raises is not remembered."""
        future = self._known.get(question)
        if future is None:
            future = self._known[question] = asyncio.ensure_future(make())
            future.add_done_callback(lambda done: self._forget_failure(question, done))
        self._known.move_to_end(question)
        while len(self._known) > self._most:
            self._known.popitem(last=False)
        return await asyncio.shield(future)

    def _forget_failure(self, question: tuple[Any, ...], done: asyncio.Future[Any]) -> None:
        if (done.cancelled() or done.exception() is not None) and self._known.get(question) is done:
            del self._known[question]
