"""Which connections a server holds: bounded in all and for each address, and who must go when there is no room.

A newcomer of an address that has its share takes the place of one of that address; a newcomer to a full server takes
one of the address that holds most. Only connections that wait for their client are ended: first those between two
requests, then those whose client does not read its answer, then those whose headers, then those whose body is not
complete, then those whose request nobody has begun to answer, and of each the longest waiting. So whoever holds
connections without using them holds them from himself. An eighth of the places is for trusted addresses, gateways
and proxies, whose connections nobody else ends. Beginning is bounded too, since it costs more than it looks: an address
may begin twice its share at once, and all of it again in `SECONDS`.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import count
from typing import Protocol

from keyquorum.serving.addresses import Networks, fold
from keyquorum.serving.buckets import Meter

RESERVE = 8
FEWEST, SECONDS = 64, 4.0
IDLE, UNREAD, HEADERS, BODY, QUEUED = range(5)
_turns = count()


class Held(Protocol):
    """A connection: `waiting` is for what and since when (a number that grows), None while a handler works for it."""

    waiting: tuple[int, int] | None

    def end(self) -> None:
        """End it at once, without a word."""
        ...


def waiting_for(what: int) -> tuple[int, int]:
    """Return the `waiting` of a connection that from now on waits for one of the things above."""
    return what, next(_turns)


class Connections:
    """At most `most` connections, `per_address` of one address (of IPv6: one /64) that is not `trusted`."""

    def __init__(
        self, most: int, per_address: int, trusted: Networks, counts: Counter[str],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        """`counts` counts what was refused ("connections_over_limit", "connections_too_fast") and "..._evicted"."""
        self.reserve = most // RESERVE if trusted else 0
        self._most = most
        self._per_address = per_address
        self._trusted = trusted
        self._counts = counts
        self._begun = Meter(max(2 * per_address, FEWEST), SECONDS, clock)
        self._names: dict[Held, str] = {}
        # By the name of the address; "" for all trusted ones together.
        self._groups: dict[str, dict[Held, None]] = {}

    def __len__(self) -> int:
        return len(self._names)

    def __iter__(self) -> Iterator[Held]:
        return iter(list(self._names))

    def admit(self, held: Held, address: str) -> bool:
        """Count a new connection, if need be by ending another; False when there is no room for it."""
        trusted = address in self._trusted
        name = "" if trusted else fold(address)
        if not trusted and self._begun.take(name):
            return self._refuse("connections_too_fast")
        own = self._groups.get(name, {})
        if not trusted and len(own) >= self._per_address and not self._end_one_of([own]):
            return self._refuse()
        if self._is_full(trusted) and not self._make_room(trusted):
            return self._refuse()
        self._names[held] = name
        self._groups.setdefault(name, {})[held] = None
        return True

    def forget(self, held: Held) -> None:
        """Count a connection that has ended, if it was counted."""
        name = self._names.pop(held, None)
        if name is None:
            return
        group = self._groups[name]
        del group[held]
        if not group:
            del self._groups[name]

    def _is_full(self, trusted: bool) -> bool:
        strangers = len(self._names) - len(self._groups.get("", ()))
        return len(self._names) >= self._most or (not trusted and strangers >= self._most - self.reserve)

    def _make_room(self, trusted: bool) -> bool:
        groups = sorted((group for name, group in self._groups.items() if name), key=len, reverse=True)
        if trusted and "" in self._groups:
            groups.append(self._groups[""])
        return self._end_one_of(groups)

    def _end_one_of(self, groups: Iterable[dict[Held, None]]) -> bool:
        for group in groups:
            waiting = [(held.waiting, held) for held in group if held.waiting is not None]
            if waiting:
                _, chosen = min(waiting, key=lambda each: each[0])
                self.forget(chosen)
                self._counts["connections_evicted"] += 1
                chosen.end()
                return True
        return False

    def _refuse(self, why: str = "connections_over_limit") -> bool:
        self._counts[why] += 1
        return False
