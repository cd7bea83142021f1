"""Places for work whose caller is not known yet: so many at a time, shared out fairly between network addresses.

A request takes a place when it begins to cost something and gives it back when its caller has been `verified` or it has
been answered. Who finds none waits in line; of those who wait, the address with the fewest places is next, so that
whoever asks for many waits behind himself. The line is bounded too, in all, for each address, and in time.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar

from keyquorum.refusal import TOO_MANY, UNAVAILABLE, Refusal

SECONDS = 5.0
SHARE = 2
RESERVE = 4
IN_LINE = 4


class _Place:
    def __init__(self, places: Places, name: str) -> None:
        self._places = places
        self._name = name
        self._held = True

    def give_back(self) -> None:
        if self._held:
            self._held = False
            self._places.free(self._name)


_place: ContextVar[_Place | None] = ContextVar("place", default=None)


def verified() -> None:
    """Note that the caller of the request that is being answered is known: its place is free for the next."""
    place = _place.get()
    if place is not None:
        place.give_back()


def waits_elsewhere() -> None:
    """Note that the request that is being answered waits in a bounded line of its own, and no longer in a place.

    What is slow because a stranger wants it so would else keep places from everybody who is quick.
    """
    verified()


class Places:
    """`most` places, half of them at most for one address, a quarter of them for trusted callers only.

    Four times as many wait in line, `seconds` at most.
    """

    def __init__(self, most: int, seconds: float = SECONDS) -> None:
        self.each = max(1, most // SHARE)
        self.reserve = most // RESERVE
        self.taken: Counter[str] = Counter()
        self._most = most
        self._seconds = seconds
        self._line: dict[str, deque[asyncio.Future[None]]] = {}
        self._trusted: set[str] = set()

    @property
    def waiting(self) -> int:
        """How many stand in line."""
        return sum(map(len, self._line.values()))

    @asynccontextmanager
    async def place(self, name: str, trusted: bool = False) -> AsyncIterator[None]:
        """Hold a place for the caller `name`; raise `Refusal` (429, 503) when the line is full or too slow."""
        if trusted:
            self._trusted.add(name)
        if self._has_room(name) and name not in self._line:
            self.taken[name] += 1
        else:
            await self._stand_in_line(name)
        place = _Place(self, name)
        token = _place.set(place)
        try:
            yield
        finally:
            _place.reset(token)
            place.give_back()

    def free(self, name: str) -> None:
        """Take a place back, and give it to whoever is next."""
        self.taken[name] -= 1
        if not self.taken[name]:
            del self.taken[name]
        self._call_next()

    def _has_room(self, name: str) -> bool:
        if name in self._trusted:
            return self.taken.total() < self._most
        return self.taken.total() < self._most - self.reserve and self.taken[name] < self.each

    async def _stand_in_line(self, name: str) -> None:
        own = len(self._line.get(name, ()))
        trusted = name in self._trusted
        if not trusted and own >= IN_LINE * self.each:
            raise Refusal(
                "too_many_requests",
                "too many requests of this network address wait",
                "slow down",
                TOO_MANY,
                retry_after=1,
            )
        if (own if trusted else self._strangers_waiting()) >= IN_LINE * self._most:
            raise _busy()
        ticket = asyncio.get_running_loop().create_future()
        self._line.setdefault(name, deque()).append(ticket)
        self._call_next()
        try:
            async with asyncio.timeout(self._seconds):
                await ticket
        except BaseException as error:
            self._leave(name, ticket)
            if isinstance(error, TimeoutError):
                raise _busy() from None
            raise

    def _strangers_waiting(self) -> int:
        return sum(len(line) for name, line in self._line.items() if name not in self._trusted)

    def _leave(self, name: str, ticket: asyncio.Future[None]) -> None:
        if ticket.done() and not ticket.cancelled():
            self.free(name)
            return
        line = self._line.get(name, deque())
        if ticket in line:
            line.remove(ticket)
        if not line:
            self._line.pop(name, None)

    def _call_next(self) -> None:
        while served := [name for name in self._line if self._has_room(name)]:
            name = min(served, key=lambda each: self.taken[each])
            ticket = self._line[name].popleft()
            if not self._line[name]:
                del self._line[name]
            if not ticket.done():
                self.taken[name] += 1
                ticket.set_result(None)


def _busy() -> Refusal:
    return Refusal(
        "busy", "too many requests wait here", "ask another one, or wait a moment", UNAVAILABLE, retry_after=1
    )
