"""What a server shows of its counters: made at most once a second, since making it costs more than showing it."""

from __future__ import annotations

import time
from collections.abc import Callable

FRESH_SECONDS = 1.0


class Exposition:
    """The text of `make`, at most `FRESH_SECONDS` old."""

    def __init__(self, make: Callable[[], bytes], clock: Callable[[], float] = time.monotonic) -> None:
        self._make = make
        self._clock = clock
        self._made: tuple[float, bytes] | None = None

    def text(self) -> bytes:
        """Return the text, made anew if the last one is too old."""
        now = self._clock()
        if self._made is None or now - self._made[0] >= FRESH_SECONDS:
            self._made = now, self._make()
        return self._made[1]
