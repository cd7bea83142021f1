"""Calls of contracts that strangers choose: bounded in gas, time and number, fair between them, and made once.

A contract wallet says itself whether it signed, so whoever deploys a contract, or only names one, chooses what the
chain's endpoint computes before anybody has proven anything. Therefore: at most `INNER_GAS` (`chain/guarded_call.py`)
and `CALL_SECONDS` for each; at most `PLACES` at a time, one for each network address, in turn; no more than a few
waiting. An answer is remembered as long as its block is the newest: whoever asks the same again costs nothing. And
`admit` is called before each call that is really made, so that who asks is counted before he costs anything. Who waits
here waits nowhere else: a request gives its place (`serving/places.py`) back, or slow contracts would take them all.

The node's own reads of the chain never wait here.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable
from typing import TypeVar

from eth_hash.auto import keccak

from keyquorum.chain import guarded_call
from keyquorum.node.chain.chain_view import ChainUnavailable, ChainView
from keyquorum.serving.places import waits_elsewhere

T = TypeVar("T")

CALL_SECONDS = 5.0
PLACES = 2
WAITING, WAITING_EACH = 64, 8
REMEMBERED = 4096


class Crowded(Exception):
    """Too many calls wait already."""


class Turns:
    """At most `places` at a time, one of each tenant, and of those who wait one tenant after the other."""

    def __init__(self, places: int = PLACES, waiting: int = WAITING, each: int = WAITING_EACH) -> None:
        """`waiting` may wait in all, `each` of one tenant; a tenant beyond others' number gives way to a new one."""
        self._places = places
        self._most = waiting
        self._each = each
        self._running: set[str] = set()
        self._queues: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()

    @property
    def waiting(self) -> int:
        """How many wait."""
        return sum(map(len, self._queues.values()))

    async def run(self, tenant: str, work: Callable[[], Awaitable[T]]) -> T:
        """Return what `work` returns, in turn; raises `Crowded` when there is no room to wait."""
        if tenant in self._running or len(self._running) >= self._places:
            await self._wait(tenant)
        else:
            self._running.add(tenant)
        try:
            return await work()
        finally:
            self._running.discard(tenant)
            self._next()

    async def _wait(self, tenant: str) -> None:
        """Wait until this tenant's place was taken for it."""
        if self.waiting >= self._most:
            self._make_room(tenant)
        queue = self._queues.setdefault(tenant, deque())
        if len(queue) >= self._each:
            raise Crowded
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        queue.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self._running.discard(tenant)  # given up at the moment it was its turn
                self._next()
            raise

    def _make_room(self, tenant: str) -> None:
        """Refuse the last of the longest queue, which is this tenant's own if none is longer."""
        longest = max(self._queues, key=lambda name: len(self._queues[name]))
        if len(self._queues[longest]) <= len(self._queues.get(tenant, ())) + 1:
            raise Crowded
        last = self._queues[longest].pop()
        if not last.done():
            last.set_exception(Crowded())

    def _next(self) -> None:
        for tenant in list(self._queues):
            if len(self._running) >= self._places:
                return
            queue = self._queues[tenant]
            while queue and queue[0].done():
                queue.popleft()
            if queue and tenant not in self._running:
                self._running.add(tenant)
                queue.popleft().set_result(None)
                self._queues.move_to_end(tenant)
            if not queue:
                del self._queues[tenant]


class Strangers:
    """What this node asks of strangers' contracts."""

    def __init__(self, view: ChainView, seconds: float = CALL_SECONDS) -> None:
        self._view = view
        self._seconds = seconds
        self._turns = Turns()
        self._answers: OrderedDict[tuple[bytes, int, bytes], asyncio.Task[bytes]] = OrderedDict()

    async def call(self, tenant: str, admit: Callable[[], None], address: bytes, data: bytes, newest: bool) -> bytes:
        """Return the one word that a contract answers at the finalised or newest block; nothing for whatever else.

        `tenant` is who asks; `admit` counts him and may refuse. Raises what `admit` raises, `Crowded`, and
        `ChainUnavailable` when the endpoints do not answer in time.
        """
        return await self._run(tenant, admit, guarded_call.call(address, data), newest)

    async def probe(self, tenant: str, admit: Callable[[], None], init_code: bytes, newest: bool) -> bytes:
        """Return the one word that a contract's constructor answers, undeployed; like `call` otherwise."""
        return await self._run(tenant, admit, guarded_call.creation(init_code), newest)

    async def _run(self, tenant: str, admit: Callable[[], None], code: bytes, newest: bool) -> bytes:
        head = await self._view.head()
        block = head.newest if newest else head.finalised
        key = keccak(code), block, head.newest_hash
        answer = self._answers.get(key)
        if answer is None:
            admit()
            answer = self._answers[key] = asyncio.ensure_future(self._in_turn(tenant, code, block))
            answer.add_done_callback(lambda done: self._forget_failure(key, done))
            while len(self._answers) > REMEMBERED:
                self._answers.popitem(last=False)
        waits_elsewhere()
        return await asyncio.shield(answer)

    async def _in_turn(self, tenant: str, code: bytes, block: int) -> bytes:
        return await self._turns.run(tenant, lambda: self._ask(code, block))

    async def _ask(self, code: bytes, block: int) -> bytes:
        try:
            async with asyncio.timeout(self._seconds):
                return await self._view.run_guarded(code, block)
        except TimeoutError:
            raise ChainUnavailable("the endpoints did not answer for a contract wallet in time") from None

    def _forget_failure(self, key: tuple[bytes, int, bytes], done: asyncio.Task[bytes]) -> None:
        if done.cancelled() or done.exception() is not None:
            self._answers.pop(key, None)
