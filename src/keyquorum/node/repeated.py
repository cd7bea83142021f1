"""What a node does again and again for months: one bad round is said, not raised, and the same only now and then.

What is left to raise is a fault of this code, and ends the process (`serving/forever.py`).
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from typing import Any, Final

import structlog

from keyquorum.node.keymaking.workshop import EXPECTED
from keyquorum.node.storage.database import StoreFailed

log = structlog.get_logger("keyquorum.node")

SAID_AGAIN_SECONDS: Final = 60.0
REMEMBERED: Final = 64


class Repeated:
    """The rounds of one node."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._said: OrderedDict[tuple[str, str], float] = OrderedDict()

    async def attempt(self, work: Coroutine[Any, Any, None]) -> None:
        """Do one round; say what went wrong in it."""
        try:
            await work
        except StoreFailed as failure:
            self._say(log.error, "the store has failed", reason=str(failure), hint=failure.hint)
        except EXPECTED as error:
            self._say(log.warning, "not this time", reason=str(error)[:200] or type(error).__name__)
        except Exception as error:
            self._say(log.error, "unexpected", reason=type(error).__name__)

    def _say(self, write: Callable[..., None], event: str, reason: str, **more: str) -> None:
        now, known = self._clock(), self._said.pop((event, reason), None)
        if known is None or now - known >= SAID_AGAIN_SECONDS:
            write(event, reason=reason, **more)
            known = now
        self._said[event, reason] = known
        while len(self._said) > REMEMBERED:
            self._said.popitem(last=False)
