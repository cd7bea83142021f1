"""How many signatures each session and each delegation has had at this node.

A certificate and a delegation name a number of signatures. Every node counts for itself the requests that it took part
in, each once however often it is repeated or retried, and refuses when the number is reached. Counts live in memory: a
node that restarts begins anew, and since any t of n nodes serve, a session gets at most n / t times its number.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from keyquorum.auth.statement import CLOCK_SKEW, MAX_SESSION
from keyquorum.refusal import NOT_PERMITTED, Invalid

REMEMBERED = 500_000
# No session outlives this from the moment it is first used.
LIFETIME = MAX_SESSION + CLOCK_SKEW

Counted = Sequence[tuple[str, int]]


class Uses:
    """The counts of one node; `now` is in Unix seconds."""

    def __init__(self, remembered: int = REMEMBERED) -> None:
        """At most `remembered` counts are kept; the oldest are forgotten first."""
        self._remembered = remembered
        self._counts: OrderedDict[str, int] = OrderedDict()
        self._since: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._counts)

    def of(self, name: str) -> int:
        """Return how many signatures the certificate or delegation with this id has had here."""
        return self._counts.get(name, 0)

    def check(self, counted: Counted) -> None:
        """Raise `Invalid` "used_up" when one of (id, most) has had its signatures."""
        for name, most in counted:
            if self.of(name) >= most:
                raise Invalid(
                    "used_up",
                    f"the session has made the {most} signatures that it was given",
                    "log in again, asking for as many as you need",
                    NOT_PERMITTED,
                )

    def take(self, counted: Counted, now: int) -> None:
        """Count one more for each (id, most) in `counted`; raises like `check`, and then nothing was counted."""
        self.check(counted)
        for name, _ in counted:
            self._counts[name] = self.of(name) + 1
            self._since.setdefault(name, now)
        self._forget(now)

    def _forget(self, now: int) -> None:
        # In the order of first use, which is the order in which they are over.
        while self._counts:
            name = next(iter(self._counts))
            if len(self._counts) <= self._remembered and self._since[name] + LIFETIME > now:
                break
            del self._counts[name], self._since[name]
