"""Open challenges, in memory: what was sent to whom for which session, for ten minutes.

A restart forgets them, which costs a person a new code and gains nobody anything: tries and sends are counted in the
ledger. Their number is bounded; the code itself is kept only as a keyed hash.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

from keyquorum.auth.code_assertion import Channel
from keyquorum.auth.statement import Statement

TRIES = 5
LIFETIME = 600


@dataclass(slots=True)
class Challenge:
    """One code that was asked for; `tag` stands for the address in ledger and log."""

    id: str
    channel: Channel
    statement: Statement = field(repr=False)
    address: str = field(repr=False)
    tag: bytes
    digest: bytes = field(repr=False)
    expires: int
    tries: int = TRIES
    assertion: str | None = field(default=None, repr=False)

    def take_try(self, now: int) -> bool:
        """Use one of the five tries; False when none is left or the time is over. Never two for one, by design:
        nothing else runs between looking and counting.
        """
        if self.tries <= 0 or now >= self.expires:
            return False
        self.tries -= 1
        return True


class Challenges:
    """The open challenges, at most `limit`."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._open: OrderedDict[str, Challenge] = OrderedDict()

    def __len__(self) -> int:
        return len(self._open)

    def full(self, now: int) -> bool:
        """Forget those whose time is over; say whether there is no room for another."""
        while self._open and next(iter(self._open.values())).expires <= now:
            self._open.popitem(last=False)
        return len(self._open) >= self._limit

    def add(self, challenge: Challenge) -> None:
        """Remember a challenge; all live equally long, so the oldest is the first to go."""
        self._open[challenge.id] = challenge

    def find(self, name: str) -> Challenge | None:
        """Return the open challenge called `name`."""
        return self._open.get(name)
