"""One thread for arithmetic that can wait: pair setups and batches of correlations.

One, because the work is bounded by the processor and more threads would only take turns; a thread, because its state
(Delta, seeds) must not leave the process. On Linux a thread has a priority of its own: with a lower one the event loop
gets the processor first when both want it, here and in the other processes of a small machine.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")
NICENESS: Final = 10


class Background:
    """Runs functions one after the other in its own low-priority thread."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, "background", initializer=_lower_priority)
        self.waiting = 0

    async def run(self, function: Callable[P, T], *values: P.args, **named: P.kwargs) -> T:
        """Return what `function` returns, or raise what it raises."""
        self.waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, lambda: function(*values, **named))
        finally:
            self.waiting -= 1

    def close(self) -> None:
        """Let the piece that is running end and drop those that wait."""
        self._pool.shutdown(wait=True, cancel_futures=True)


def _lower_priority() -> None:
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
