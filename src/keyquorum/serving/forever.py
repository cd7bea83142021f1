"""Tasks that must run as long as their process: when one ends, whatever the reason, the process ends with it.

A service whose loop has died looks alive and is not, and nobody restarts a process that lives. So every loop of a
node, gateway or code service is begun with `forever`, and whoever runs the process waits with `until_asked`. Only the
owner of a task may end it, by cancelling it.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Coroutine
from typing import Any
from weakref import WeakKeyDictionary

# How long a process that has to end may take to do it in order.
LAST_SECONDS = 10.0


class PartEnded(RuntimeError):
    """A part of this process has ended that must not; the process has to be started again."""

    def __init__(self, part: str, reason: str) -> None:
        super().__init__(f"{part} has ended: {reason}")
        self.part, self.reason = part, reason


_ends: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Future[None]] = WeakKeyDictionary()


def forever(part: str, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    """Start `work`, which never ends by itself, and watch it; `part` names it for the operator."""
    task = asyncio.create_task(work, name=part)
    ends = _end()
    task.add_done_callback(lambda done: _ended(part, done, ends))
    return task


async def until_asked(asked: asyncio.Event) -> None:
    """Wait until the process is `asked` to stop; raise `PartEnded` when a part of it ends before.

    From then on the process has `LAST_SECONDS` left, however long the other parts take to stop.
    """
    end = _end()
    end.add_done_callback(lambda _: asked.set())
    await asked.wait()
    if end.done():
        end_soon()
        end.result()


def end_soon(code: int = 1, seconds: float = LAST_SECONDS) -> threading.Timer:
    """End the process in `seconds` however it goes: what is broken may also be what stops it."""
    timer = threading.Timer(seconds, os._exit, (code,))
    timer.daemon = True
    timer.start()
    return timer


def _end() -> asyncio.Future[None]:
    loop = asyncio.get_running_loop()
    if loop not in _ends:
        _ends[loop] = loop.create_future()
    return _ends[loop]


def _ended(part: str, task: asyncio.Task[None], ends: asyncio.Future[None]) -> None:
    if task.cancelling() or ends.done():
        return
    # Cancelled, and not by its owner: it waited for something that was.
    error = None if task.cancelled() else task.exception()
    reason = "cancelled" if task.cancelled() else f"{type(error).__name__}" if error else "it returned"
    ends.set_exception(PartEnded(part, reason))
    ends.exception()  # nobody waits for it in a test of one part
