"""Patience with peers that fail a check: one strike each, three in a day and an operator must act.

A failed check of the OT extension or of the multiplication cannot come from the network (the link is authenticated),
and each one that is survived could be worth bits of a secret, so the count is durable: a restart forgives
nothing. It is this node's own observation and is not told to anybody. Between strikes a peer must wait.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import msgspec

from keyquorum.node.storage.store import Store

_PREFIX: Final = "strikes/"


@dataclass(frozen=True)
class Patience:
    """Three strikes within `window` seconds are too many; after each, `pause` seconds times the count without work."""

    most: int = 3
    window: float = 86_400.0
    pause: float = 60.0


class Strikes:
    """The failed checks of each peer, in the store and in memory."""

    def __init__(self, store: Store, patience: Patience | None = None, clock: Callable[[], float] = time.time) -> None:
        """Read what earlier processes noted."""
        self._store = store
        self._patience = patience or Patience()
        self._clock = clock
        self._times: dict[int, list[float]] = {}
        for name, value in store.info(_PREFIX).items():
            self._times[int(name.removeprefix(_PREFIX))] = msgspec.msgpack.decode(value, type=list[float])

    async def add(self, peer: int) -> None:
        """Note a failed check of `peer`; it counts at once, and durably when this returns."""
        self._times[peer] = [*self._recent(peer), self._clock()]
        await self._write(peer)

    async def pardon(self, peer: int) -> None:
        """Forget every strike of `peer`: an operator's decision."""
        self._times[peer] = []
        await self._write(peer)

    def is_quarantined(self, peer: int) -> bool:
        """Whether no correlations are made with `peer` until an operator acts."""
        times = self._times.get(peer, [])
        most = self._patience.most
        # Three strikes close together stay a quarantine when the day is over: time alone does not end it.
        return any(last - first <= self._patience.window for first, last in zip(times, times[most - 1 :], strict=False))

    def wait(self, peer: int) -> float:
        """Return for how many seconds nothing is made with `peer` after its last strike."""
        recent = self._recent(peer)
        return max(0.0, recent[-1] + self._patience.pause * len(recent) - self._clock()) if recent else 0.0

    def quarantined(self) -> list[int]:
        """Return the peers in quarantine, sorted."""
        return sorted(peer for peer in self._times if self.is_quarantined(peer))

    def _recent(self, peer: int) -> list[float]:
        times = self._times.get(peer, [])
        if self.is_quarantined(peer):
            return times
        return [moment for moment in times if moment > self._clock() - self._patience.window]

    async def _write(self, peer: int) -> None:
        await self._store.put_info(f"{_PREFIX}{peer}", msgspec.msgpack.encode(self._times[peer]))
